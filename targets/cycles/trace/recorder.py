"""What a counted call executed: blocks, where they went, and what memory made them wait.

An emulator cuts code at branches, but also where a page of its own ends (unicorn's: 1 KiB). What
was cut without a branch is joined again while it runs, so that a block is what runs from where a
jump arrives to the next branch, and no figure depends on where code lies in a page.

:class:`Recorder` is the specification and serves where this machine has no compiler;
``native/trace.c`` says the same in C, a few hundred times faster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from edgekit.errors import EmulationError
from edgekit.targets.cycles.trace.memory import TICKS_PER_CYCLE, MemorySimulation, MemoryTiming

Place = tuple[int, int]
"""Address and bytes of a block; 0 bytes for where a call returns to."""


class Step(NamedTuple):
    """One instruction of a block, without waiting.

    Attributes:
        offset: from the block's address.
        bytes: size.
        ticks: what it takes.
        skipped_ticks: what it takes when an IT instruction skips it; None where that cannot be
            told: it always runs, or makes no access that would show that it ran.
    """

    offset: int
    bytes: int
    ticks: int
    skipped_ticks: int | None


class Costs(Protocol):
    """What code is, and takes without waiting. Asked once per block and per pair of blocks."""

    def goes_on(self, address: int, size: int) -> bool:
        """Whether code that the emulator cut off ends without a branch."""

    def steps(self, address: int, size: int) -> Sequence[Step]:
        """The instructions of a block."""

    def jump(self, block: Place, following: Place) -> int:
        """Ticks of passing from a block to the one that runs next."""


@dataclass(frozen=True)
class Limits:
    """What a trace may grow to; more is an error.

    Attributes:
        blocks: different ones.
        edges: pairs of a block and the one that ran next.
        steps: instructions of all different blocks.
        accesses: of one execution of a block.
    """

    blocks: int = 1 << 20
    edges: int = 1 << 22
    steps: int = 1 << 24
    accesses: int = 1 << 22


LIMITS = Limits()


@dataclass(frozen=True)
class TracedBlock:
    """All executions of one basic block.

    Attributes:
        address: of its first instruction; bit 0 as the trace was told to mark it.
        size: bytes.
        times: how often it ran.
        following: the block that ran next, and how often.
        skipped: how often each instruction was skipped, as far as that can be told; empty, like
            the following two, where blocks are only counted.
        fetch: ticks that each instruction waited for itself.
        load: ticks that each instruction waited for data.
    """

    address: int
    size: int
    times: int
    following: Mapping[Place, int]
    skipped: tuple[int, ...] = ()
    fetch: tuple[int, ...] = ()
    load: tuple[int, ...] = ()

    def moved(self, by: int) -> TracedBlock:
        """The same, with every address changed by so much."""
        following = {(at + by, size): times for (at, size), times in self.following.items()}
        return replace(self, address=self.address + by, following=following)


class Access(NamedTuple):
    """What an instruction did to memory.

    Attributes:
        offset: of the instruction in its block.
        address: of the first byte.
        bytes: how many.
        writes: whether it was a store.
    """

    offset: int
    address: int
    bytes: int
    writes: bool


@dataclass
class _Entry:
    """A block while it is being recorded."""

    steps: Sequence[Step]
    times: int = 0
    following: Counter[Place] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.skipped = [0] * len(self.steps)
        self.fetch = [0] * len(self.steps)
        self.load = [0] * len(self.steps)


class Recorder:
    """Records one call. A block is accounted for when the next one begins.

    Only then it is known that it ran, and what it read and wrote.

    Args:
        instruction_limit: the core is told to stop some time after so many.
        costs: what code takes; None to only count blocks, as the emulator cuts them.
        memory: what it waits for, as the call before left it; None for nothing.
        limits: what the trace may grow to.
    """

    def __init__(
        self,
        instruction_limit: int,
        *,
        costs: Costs | None = None,
        memory: MemorySimulation | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        self._instruction_limit = instruction_limit
        self._costs = costs
        self._memory = memory or MemorySimulation(MemoryTiming())
        self._memory.settle()
        self._limits = limits
        self._entries: dict[Place, _Entry] = {}
        self._jumps: dict[tuple[Place, Place], int] = {}
        self._going_on: dict[Place, bool] = {}
        self._instructions = self._steps = self._now = 0
        self._previous: Place | None = None
        self._running: Place | None = None
        self._piece: Place | None = None
        self._accesses: list[Access] = []

    def block(self, address: int, size: int) -> bool:
        """Code of the emulator's begins: a block, or the rest of one. Returns whether to go on.

        Raises:
            EmulationError: there is more than a trace can hold.
        """
        if self._running is not None and self._is_cut(self._running, address):
            begin, before = self._running
            self._running = (begin, before + size)
        else:
            self._retire()
            self._running = (address, size)
        self._piece = (address, size)
        return self._instructions < self._instruction_limit

    def access(self, pc: int, address: int, size: int, writes: bool) -> None:
        """The block that runs makes an access, by the instruction at `pc`.

        Raises:
            EmulationError: the instruction is not in the block; there are more accesses than a
                trace can hold.
        """
        offset = pc - (self._running[0] & ~1) if self._running else -1
        if self._running is None or not 0 <= offset < self._running[1] or size == 0:
            raise stray_access(pc)
        if len(self._accesses) >= self._limits.accesses:
            raise too_much()
        self._accesses.append(Access(offset, address, size, writes))

    def finish(self, end: int) -> tuple[TracedBlock, ...]:
        """The call has returned to `end`. Returns what ran, in the order of its first times."""
        self._retire()
        self._pass((end, 0))
        return tuple(
            TracedBlock(
                *(*place, entry.times, dict(entry.following)),
                *map(tuple, (entry.skipped, entry.fetch, entry.load)),
            )
            for place, entry in self._entries.items()
        )

    def _is_cut(self, running: Place, address: int) -> bool:
        """Whether the block that runs goes on at `address`: it got there without a branch."""
        if self._costs is None or sum(running) != address or self._piece is None:
            return False
        if self._piece not in self._going_on:
            self._going_on[self._piece] = self._costs.goes_on(*self._piece)
        return self._going_on[self._piece]

    def _retire(self) -> None:
        """Account for the block that has run."""
        place = self._running
        if place is None:
            return
        entry = self._entries.get(place)
        if entry is None:
            entry = self._entries[place] = self._new_entry(place)
        self._pass(place)
        entry.times += 1
        # Without costs: as many as there are at least.
        self._instructions += len(entry.steps) or (place[1] + 3) // 4
        if entry.steps:
            self._wait(place[0] & ~1, entry)
        self._previous, self._running = place, None
        self._accesses.clear()

    def _new_entry(self, place: Place) -> _Entry:
        if len(self._entries) >= self._limits.blocks:
            raise too_much()
        steps = () if self._costs is None else self._costs.steps(*place)
        self._steps += len(steps)
        if self._steps > self._limits.steps:
            raise too_much()
        return _Entry(steps)

    def _pass(self, to: Place) -> None:
        """Pass from the block accounted for last to the next."""
        left = self._previous
        if left is None:
            return
        if (left, to) not in self._jumps:
            if len(self._jumps) >= self._limits.edges:
                raise too_much()
            self._jumps[left, to] = 0 if self._costs is None else self._costs.jump(left, to)
        self._entries[left].following[to] += 1
        self._now += self._jumps[left, to]

    def _wait(self, address: int, entry: _Entry) -> None:
        """Let the instructions of a block wait for themselves and for their data."""
        accesses, position = self._accesses, 0
        for index, step in enumerate(entry.steps):
            arrived = self._memory.fetch(address + step.offset, step.bytes, self._now)
            entry.fetch[index] += arrived - self._now
            self._now = arrived
            begin = position
            while position < len(accesses) and accesses[position].offset == step.offset:
                position += 1
            if step.skipped_ticks is not None and begin == position:
                entry.skipped[index] += 1
                self._now += step.skipped_ticks
                continue
            waited = self._load(accesses[begin:position])
            entry.load[index] += waited
            self._now += step.ticks + waited
        if position < len(accesses):
            raise stray_access(address + accesses[position].offset)

    def _load(self, accesses: Sequence[Access]) -> int:
        """What one instruction waits for its data.

        The first arrives one cycle after the instruction issues; the bus takes one a cycle.
        """
        at, waited = self._now, 0
        for access in accesses:
            at += TICKS_PER_CYCLE
            if access.writes:
                self._memory.store(access.address, access.bytes, at)
            else:
                come = self._memory.load(access.address, access.bytes, at)
                waited += come - at
                at = come
        return waited


def stray_access(pc: int) -> EmulationError:
    """An access that no instruction of the running block can have made."""
    return EmulationError(
        f"a memory access at pc {pc:#010x} belongs to no instruction of the block that runs; "
        "its cycles cannot be counted",
        pc,
    )


def too_much() -> EmulationError:
    """More than a trace can hold."""
    return EmulationError("the call executes more than a trace can hold")
