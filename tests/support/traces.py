"""Code that costs what a test says, on memories that it describes, recorded without an emulator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from edgekit.targets.board import Cache
from edgekit.targets.cores import Memory
from edgekit.targets.cycles.trace.memory import TICKS_PER_CYCLE, MemorySimulation, MemoryTiming
from edgekit.targets.cycles.trace.native_memory import NativeMemory
from edgekit.targets.cycles.trace.native_recorder import NativeRecorder, native_library
from edgekit.targets.cycles.trace.recorder import (
    LIMITS,
    Limits,
    Place,
    Recorder,
    Step,
    TracedBlock,
)

FLASH, RAM = 0x0800_0000, 0x2000_0000
END = 0x0800_FFFE

BOTH = pytest.mark.parametrize(
    "is_native", [False, pytest.param(True, marks=pytest.mark.needs("cc"))], ids=["python", "c"]
)
"""A test of the recorder, in either language."""


def flash(waits: int, line: int, *, prefetch: bool = False) -> Memory:
    """64 KiB that a program runs from."""
    return Memory("flash", "flash", FLASH, 1 << 16, waits, line, prefetch)


def ram(waits: int | None = 0, line: int | None = None) -> Memory:
    """64 KiB of data."""
    return Memory("ram", "ram", RAM, 1 << 16, waits, line)


def cache(serves: str, size: int, line: int, *, ways: int = 2, of: Sequence[str] = ()) -> Cache:
    """A cache, of the flash where nothing else is said."""
    return Cache(f"{serves}_cache", serves, tuple(of) or ("flash",), size, line, ways)


@dataclass
class Script:
    """A call, block by block; implements :class:`edgekit.targets.cycles.trace.recorder.Costs`.

    Attributes:
        blocks: instructions by block.
        jumps: ticks by pair of blocks, 0 for those that are not there.
        cut: code that the emulator cuts off without a branch.
        events: what happens: the blocks that run, each with its accesses (program counter,
            address, bytes, whether it writes).
    """

    blocks: dict[Place, tuple[Step, ...]] = field(default_factory=dict)
    jumps: dict[tuple[Place, Place], int] = field(default_factory=dict)
    cut: set[Place] = field(default_factory=set)
    events: list[tuple[Place, tuple[tuple[int, int, int, bool], ...]]] = field(default_factory=list)

    def goes_on(self, address: int, size: int) -> bool:
        return (address, size) in self.cut

    def steps(self, address: int, size: int) -> Sequence[Step]:
        return self.blocks[address, size]

    def jump(self, block: Place, following: Place) -> int:
        return self.jumps.get((block, following), 0)

    def run(
        self,
        address: int,
        widths: Sequence[int],
        *,
        cycles: float = 1,
        loads: Iterable[tuple[int, int, int]] = (),
        stores: Iterable[tuple[int, int, int]] = (),
        times: int = 1,
    ) -> Script:
        """A block of instructions of those widths runs; accesses are (index, address, bytes)."""
        steps, offset = [], 0
        for width in widths:
            steps.append(Step(offset, width, int(cycles * TICKS_PER_CYCLE), None))
            offset += width
        place = (address, offset)
        self.blocks[place] = tuple(steps)
        found = [(i, at, size, False) for i, at, size in loads]
        found += [(i, at, size, True) for i, at, size in stores]
        accesses = tuple((address + steps[i].offset, *rest) for i, *rest in sorted(found))
        self.events += [(place, accesses)] * times
        return self


def memory_of(*memories: Memory, caches: Sequence[Cache] = ()) -> MemoryTiming:
    """As :meth:`MemoryTiming.of` gives it."""
    return MemoryTiming(memories, tuple(caches))


def simulated(memory: MemoryTiming, *, native: bool = False) -> MemorySimulation | NativeMemory:
    """Empty memories."""
    if not native:
        return MemorySimulation(memory)
    library = native_library()
    assert library is not None
    return NativeMemory(library, memory)


def record(
    script: Script,
    memory: MemoryTiming | MemorySimulation | NativeMemory,
    *,
    native: bool = False,
    limit: int = 1 << 40,
    limits: Limits = LIMITS,
) -> tuple[TracedBlock, ...]:
    """Play a script to a recorder, with memories that are empty or as they are left."""
    kept = simulated(memory, native=native) if isinstance(memory, MemoryTiming) else memory
    recorder: Recorder | NativeRecorder
    if isinstance(kept, NativeMemory):
        recorder = NativeRecorder(kept.library, limit, costs=script, memory=kept, limits=limits)
    else:
        recorder = Recorder(limit, costs=script, memory=kept, limits=limits)
    for (address, size), accesses in script.events:
        if not recorder.block(address, size):
            break
        for access in accesses:
            recorder.access(*access)
    return recorder.finish(END)


def stalls(script: Script, memory: MemoryTiming) -> tuple[float, float]:
    """Cycles that everything waited for instructions and for data."""
    traced = record(script, memory)
    fetch = sum(sum(block.fetch) for block in traced)
    load = sum(sum(block.load) for block in traced)
    return fetch / TICKS_PER_CYCLE, load / TICKS_PER_CYCLE
