"""What a board's memory makes an in-order core wait: flash lines, prefetch, caches, contention.

A memory is read a line at a time; a line takes one cycle and the wait states. An access that the
pipeline has scheduled hides the one cycle, so that a line that nobody asked for before costs the
wait states. The rules, per memory with wait states:

1. The line read last stays at hand, for instructions and for data apart. What lies in it is free.
2. Another line is read when it is wanted, after whatever read is under way: instructions, data and
   prefetch share the memory (contention).
3. With prefetch, the line behind the one that instructions come from is read as soon as the memory
   is free; straight-line code takes the longer of its issue and ``1 + wait states`` per line.
4. A cache that serves the memory keeps what was read, prefetched lines when they are used; what it
   holds is free. A miss reads a whole cache line: the wanted part comes first, the others in a
   circle, one per ``1 + wait states``. The line not used for longest makes room (LRU).
5. Stores wait for nothing (write buffer). One that a cache of data does not hold begins to read its
   line, for which only what comes behind may wait: the Cortex-M7, the one core here with such
   caches of memory that can be written, allocates on writes (TRM r1p2, 5.9). That it stops to after
   three lines written whole (5.9.1) is not modelled, and no more than the last fill is remembered.

Memories without wait states, tightly coupled ones among them, are free; reading one through a cache
still takes room there from others. Instructions wait when they issue; their data arrives one cycle
later at the earliest, one access per cycle.

Counted calls share the memories: the layers of a run find in the caches what those before left, and
what was under way has arrived. Everything is empty when a run begins from the initial state; runs
that are repeated, as published ones are, begin with what the run before left.

This module is the specification. ``native/memory.c`` says the same in C, to the tick.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from edgekit.errors import InvalidBoardError
from edgekit.targets.board import Cache
from edgekit.targets.cores import Memory
from edgekit.targets.target import Target

TICKS_PER_CYCLE = 12
"""Time is counted in parts of a cycle: halves, thirds and quarters are whole numbers of ticks."""

INSTRUCTIONS, DATA = 0, 1
"""The two sides of a core."""

_SIDES = {"instructions": (INSTRUCTIONS,), "data": (DATA,), "both": (INSTRUCTIONS, DATA)}

MOST_CACHE_LINES = 1 << 24
ADDRESSES = 1 << 32

FREE = "zero wait states"
"""What is said of memory that nothing waits for."""


@dataclass(frozen=True)
class MemoryTiming:
    """The memories of a target as an in-order core meets them.

    Attributes:
        memories: those that can make it wait, and those that share a cache with them.
        caches: that serve them.
        words: one line for people, what is assumed of every memory.

    Raises:
        InvalidBoardError: a memory or cache that cannot be; board files have none.
    """

    memories: tuple[Memory, ...] = ()
    caches: tuple[Cache, ...] = ()
    words: str = FREE

    def __post_init__(self) -> None:
        for memory in self.memories:
            if not 0 <= memory.origin < memory.end <= ADDRESSES:
                raise InvalidBoardError(f"{memory.name}: no range of 32-bit addresses")
            waits, line = memory.wait_states or 0, memory.line_bytes
            if waits < 0 or (line is None and waits) or (line is not None and line < 2):
                raise InvalidBoardError(f"{memory.name}: {waits} wait states, {line}-byte lines")
        for cache in self.caches:
            if min(cache.line_bytes, cache.ways + 1, cache.bytes) < 2 or not (
                0 < cache.sets * cache.ways <= MOST_CACHE_LINES
            ):
                raise InvalidBoardError(
                    f"{cache.name}: {cache.bytes} bytes, {cache.line_bytes}-byte lines, "
                    f"{cache.ways} ways"
                )

    @classmethod
    def of(cls, target: Target) -> MemoryTiming:
        """What the board says; wait states that it does not say are zero, and so are a core's own.

        >>> from edgekit.targets.target import target
        >>> MemoryTiming.of(target("cortex-m4")).words
        'zero wait states'
        """
        slow = {m.name for m in target.memories if m.wait_states}
        caches = tuple(c for c in target.caches if slow & set(c.memories))
        kept = slow | {name for cache in caches for name in cache.memories}
        memories = tuple(m for m in target.memories if m.name in kept)
        return cls(memories, caches, _words(target) if memories else FREE)

    def cache_of(self, memory: Memory, side: int) -> int | None:
        """Index of the cache that serves a side of the core with a memory."""
        for index, cache in enumerate(self.caches):
            if memory.name in cache.memories and side in _SIDES[cache.serves]:
                return index
        return None


def line_bytes(memory: Memory) -> int:
    """What one access reads: a word where it is not known, which then does not matter."""
    return memory.line_bytes or 4


class MemorySimulation:
    """The memories of a core, kept from call to call. Times are in ticks from a call's beginning.

    Args:
        timing: their shape.
    """

    def __init__(self, timing: MemoryTiming) -> None:
        self._timing = timing
        self._states: list[_State] = []
        self.empty()

    def empty(self) -> None:
        """Forget everything."""
        timing = self._timing
        caches = [_Cache(cache) for cache in timing.caches]
        self._states = []
        for memory in timing.memories:
            served = [timing.cache_of(memory, side) for side in (INSTRUCTIONS, DATA)]
            own = tuple(None if index is None else caches[index] for index in served)
            self._states.append(_State(memory, own))

    def settle(self) -> None:
        """A new call begins, at 0: what was under way has arrived."""
        for state in self._states:
            state.settle()

    def fetch(self, address: int, size: int, now: int) -> int:
        """When an instruction of `size` bytes that could issue at `now` has arrived."""
        return self._read(INSTRUCTIONS, address, size, now)

    def load(self, address: int, size: int, now: int) -> int:
        """When the data that a load wants at `now` has arrived."""
        return self._read(DATA, address, size, now)

    def store(self, address: int, size: int, now: int) -> None:
        """A store at `now`, which waits for nothing."""
        state = self._at(address)
        cache = None if state is None else state.caches[DATA]
        if state is not None and cache is not None:
            for part in _parts(address, size, cache.line):
                state.write(cache, part, now)

    def _read(self, side: int, address: int, size: int, now: int) -> int:
        state = self._at(address)
        if state is not None and (state.wait or state.caches[side] is not None):
            for part in _parts(address, size, state.line):
                now = state.read(side, part, now)
        return now

    def _at(self, address: int) -> _State | None:
        for state in self._states:
            if state.memory.origin <= address < state.memory.end:
                return state
        return None


def _parts(address: int, size: int, line: int) -> Iterator[int]:
    """First address wanted of every line that `size` bytes touch."""
    yield address
    yield from range((address // line + 1) * line, address + size, line)


class _Cache:
    """A cache's lines: set by set, in each the line used last first."""

    def __init__(self, cache: Cache) -> None:
        self.line = cache.line_bytes
        self._ways = cache.ways
        self._sets: list[list[int]] = [[] for _ in range(cache.sets)]

    def holds(self, line: int) -> bool:
        return line in self._sets[line % len(self._sets)]

    def touch(self, line: int) -> bool:
        """Make a line the one used last; whether it was there."""
        lines = self._sets[line % len(self._sets)]
        there = line in lines
        if there:
            lines.remove(line)
        lines.insert(0, line)
        del lines[self._ways :]
        return there


@dataclass
class _Fill:
    """A cache line that is being read, or was the last to be.

    Attributes:
        cache: that it goes into.
        line: its number.
        part: which part came first.
        first: when that arrived.
        rest: the n-th part after the first arrives n reads after this.
    """

    cache: _Cache
    line: int
    part: int
    first: int
    rest: int


@dataclass
class _State:
    """One memory while code runs.

    Attributes:
        memory: which.
        caches: that serve the sides.
        at_hand: line read last, per side.
        ahead: line that was prefetched last, and when it arrives.
        busy: until when a read is under way.
        fill: see :class:`_Fill`.
    """

    memory: Memory
    caches: tuple[_Cache | None, ...]
    at_hand: list[int | None] = field(default_factory=lambda: [None, None])
    ahead: tuple[int, int] | None = None
    busy: int = -TICKS_PER_CYCLE
    fill: _Fill | None = None

    def __post_init__(self) -> None:
        self.line = line_bytes(self.memory)
        self.wait = TICKS_PER_CYCLE * (self.memory.wait_states or 0)
        self.period = self.wait + TICKS_PER_CYCLE

    def settle(self) -> None:
        """Let what is under way arrive before 0."""
        self.busy = -TICKS_PER_CYCLE
        self.fill = None
        if self.ahead is not None:
            self.ahead = (self.ahead[0], 0)

    def write(self, cache: _Cache, address: int, at: int) -> None:
        """Store into the cache line around `address` at `at`; a line that is not there is read."""
        if not cache.touch(address // cache.line) and self.wait:
            self._begin_fill(cache, address, self._begin_read(at))

    def read(self, side: int, address: int, at: int) -> int:
        """When the line around `address`, wanted at `at`, has arrived."""
        line = address // self.line
        if line == self.at_hand[side]:
            return at
        self.at_hand[side] = line
        cache = self.caches[side]
        if cache is not None and cache.touch(address // cache.line):
            ready = max(at, self._arrival(cache, address))
        elif not self.wait:
            ready = at
        elif side == INSTRUCTIONS and self.ahead is not None and line == self.ahead[0]:
            ready = max(at, self.ahead[1])
            self._begin_fill(cache, address, ready)
        else:
            ready = self._begin_read(at)
            self._begin_fill(cache, address, ready)
        if side == INSTRUCTIONS:
            self._prefetch(line + 1, ready)
        return ready

    def _begin_read(self, at: int) -> int:
        """Read a line that is wanted at `at`; when it arrives."""
        self.busy = max(self.busy, at - TICKS_PER_CYCLE) + self.period
        return self.busy

    def _arrival(self, cache: _Cache, address: int) -> int:
        """When the part of a cached line that holds `address` came or comes; 0 for long ago."""
        fill = self.fill
        if fill is None or fill.cache is not cache or fill.line != address // cache.line:
            return 0
        after = (self._part(cache, address) - fill.part) % self._part_count(cache)
        return fill.rest + after * self.period if after else fill.first

    def _begin_fill(self, cache: _Cache | None, address: int, first: int) -> None:
        """Note that the line around `address` comes, its wanted part first, at `first`."""
        if cache is None:
            return
        rest = max(first, self.busy)
        self.fill = _Fill(cache, address // cache.line, self._part(cache, address), first, rest)
        others = self._part_count(cache) - 1
        if others:
            self.busy = rest + others * self.period

    def _prefetch(self, line: int, at: int) -> None:
        """Begin to read the line behind the one that runs, unless it is near already."""
        cache, address = self.caches[INSTRUCTIONS], line * self.line
        if not (self.memory.prefetch and self.wait) or address >= self.memory.end:
            return
        if self.ahead is not None and self.ahead[0] == line:
            return
        if cache is None or not cache.holds(address // cache.line):
            self.busy = max(at, self.busy) + self.period
            self.ahead = (line, self.busy)

    def _part(self, cache: _Cache, address: int) -> int:
        return address % cache.line // self.line

    def _part_count(self, cache: _Cache) -> int:
        return max(1, cache.line // self.line)


def _words(target: Target) -> str:
    """What is assumed of every memory of a board, and what that is worth, in one line."""
    memories = "; ".join(_memory_words(target, memory) for memory in target.memories)
    memories += "; a run begins with empty caches" if target.caches else ""
    return memories if target.board is None else f"{target.board.timing_words}: {memories}"


def _memory_words(target: Target, memory: Memory) -> str:
    """One memory, such as ``flash 5 wait states, 8-byte lines, no prefetch, no cache``."""
    if memory.wait_states is None:
        waits = "no wait states known, zero assumed"
    else:
        waits = f"{memory.wait_states} wait state{'' if memory.wait_states == 1 else 's'}"
    if not memory.wait_states:
        return f"{memory.name} {waits}"
    prefetch = "prefetch" if memory.prefetch else "no prefetch"
    caches = [
        f"{_CACHED[cache.serves]} ({cache.bytes:,} bytes)"
        for cache in target.caches
        if memory.name in cache.memories
    ]
    parts = (f"{memory.name} {waits}", f"{line_bytes(memory)}-byte lines", prefetch)
    return ", ".join((*parts, *(caches or ["no cache"])))


_CACHED = {
    "instructions": "instructions cached",
    "data": "data cached",
    "both": "instructions and data cached together",
}
