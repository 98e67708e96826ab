"""The memory a core waits for: figures that follow from line width, wait states and sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.targets.board import Board, Cache
from edgekit.targets.cores import CORES, Memory
from edgekit.targets.cycles.trace.memory import TICKS_PER_CYCLE, MemorySimulation, MemoryTiming
from edgekit.targets.target import of_board, target
from tests.support.traces import FLASH, RAM, Script, cache, flash, memory_of, ram, record, stalls

LINES = 32


def straight(line: int, *, widths: tuple[int, ...] = (2, 2), cycles: float = 1) -> Script:
    """Straight-line code that fills :data:`LINES` lines with instructions of those widths."""
    assert LINES * line % sum(widths) == 0
    return Script().run(FLASH, widths * (LINES * line // sum(widths)), cycles=cycles)


@pytest.mark.parametrize("waits", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("line", [4, 8, 16])
@pytest.mark.parametrize("cycles", [1, 2, 3])
def test_straight_line_without_prefetch(waits: int, line: int, cycles: int) -> None:
    """Every line costs its wait states on top of what its instructions take."""
    code = straight(line, cycles=cycles)
    assert stalls(code, memory_of(flash(waits, line))) == (LINES * waits, 0)


@pytest.mark.parametrize("waits", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("line", [4, 8, 16])
@pytest.mark.parametrize("cycles", [0.5, 1, 2, 3])
def test_straight_line_with_prefetch(waits: int, line: int, cycles: float) -> None:
    """Per line the longer of its instructions and of reading the next one."""
    code = straight(line, cycles=cycles)
    issue = cycles * line / 2
    fetch, _ = stalls(code, memory_of(flash(waits, line, prefetch=True)))
    steady = max(issue, 1 + waits) - issue if waits else 0
    assert fetch == waits + (LINES - 1) * steady


@pytest.mark.parametrize("waits", [2, 5])
def test_dual_issue_is_bounded_by_the_flash(waits: int) -> None:
    """A line whose instructions take less than one cycle: reading it takes one, plus the wait."""
    code = straight(4, widths=(4,), cycles=0.5)
    fetch, _ = stalls(code, memory_of(flash(waits, 4)))
    assert fetch + LINES * 0.5 == LINES * (1 + waits) - 0.5


def test_wide_instructions_across_lines() -> None:
    """An instruction waits for the line of its second half too."""
    memory = memory_of(flash(3, 4))
    aligned = Script().run(FLASH, (4,) * 8)
    shifted = Script().run(FLASH + 2, (4,) * 8)
    assert stalls(aligned, memory) == (8 * 3, 0)
    # The first one jumps into the middle: both of its lines are read, back to back.
    assert stalls(shifted, memory) == (3 + (1 + 3) + 7 * 3, 0)
    waits = record(shifted, memory)[0].fetch
    assert [ticks / TICKS_PER_CYCLE for ticks in waits] == [7] + [3] * 7


def test_loop_in_one_line_waits_once() -> None:
    """What is at hand is not read again."""
    loop = Script().run(FLASH + 2, (2, 2), times=100)
    assert stalls(loop, memory_of(flash(5, 8))) == (5, 0)


@pytest.mark.parametrize("prefetch", [False, True])
def test_loop_without_cache_waits_every_time(prefetch: bool) -> None:
    """A loop over two lines reads both each time, unless the second is prefetched in time."""
    loop = Script().run(FLASH, (2,) * 8, cycles=2, times=10)
    fetch, _ = stalls(loop, memory_of(flash(5, 8, prefetch=prefetch)))
    if not prefetch:
        assert fetch == 10 * 2 * 5
    else:
        # The first line takes eight cycles: the second is there, and the third is on its way for
        # six of the eight cycles that the second takes. Only the way back waits.
        assert fetch == 10 * 5


@pytest.mark.parametrize("line", [8, 16, 32])
@pytest.mark.parametrize("prefetch", [False, True])
def test_loop_in_the_instruction_cache_waits_once(line: int, prefetch: bool) -> None:
    """No stall after the first pass where the cache holds the loop."""
    memory = memory_of(
        flash(5, 8, prefetch=prefetch), caches=[cache("instructions", 256, line, ways=4)]
    )
    once = stalls(Script().run(FLASH, (2,) * 96), memory)
    often = stalls(Script().run(FLASH, (2,) * 96, times=50), memory)
    assert once[0] > 0
    assert often == once


def test_loop_larger_than_the_cache_thrashes() -> None:
    """One line more than a fully associative LRU cache holds: every line is missed every time."""
    memory = memory_of(flash(5, 8), caches=[cache("instructions", 64, 8, ways=8)])
    loop = Script().run(FLASH, (2,) * 4 * 9, times=10)
    assert stalls(loop, memory) == (10 * 9 * 5, 0)
    # With two ways per set, only the set that holds three lines does.
    sets = memory_of(flash(5, 8), caches=[cache("instructions", 64, 8, ways=2)])
    assert stalls(loop, sets) == (9 * 5 + 9 * 3 * 5, 0)


def test_least_recently_used_goes_first() -> None:
    """Of two lines, the one that was used again stays."""
    memory = memory_of(flash(4, 8), caches=[cache("data", 16, 8, ways=2)])
    a, b, c = FLASH, FLASH + 64, FLASH + 128

    def waits(*addresses: int) -> list[float]:
        simulation, now, result = MemorySimulation(memory), 100, []
        for address in addresses:
            come = simulation.load(address, 4, now)
            result.append((come - now) / TICKS_PER_CYCLE)
            now = come + 20 * TICKS_PER_CYCLE
        return result

    assert waits(a, b, a, c, a, b) == [4, 4, 0, 4, 0, 4]


@pytest.mark.parametrize("waits", [0, 2, 5])
@pytest.mark.parametrize("line", [4, 8, 16, 32])
def test_streamed_data(waits: int, line: int) -> None:
    """Words read from flash, one after another: the wait states per new line."""
    words = 64
    loads = [(i, FLASH + 0x1000 + 4 * i, 4) for i in range(words)]
    code = Script().run(RAM, (2,) * words, cycles=2, loads=loads)
    memory = memory_of(flash(waits, line), ram())
    assert stalls(code, memory) == (0, waits * 4 * words / line)


def test_streamed_data_beside_code() -> None:
    """One port: code and data wait for their own lines, and take turns."""
    words = 64
    loads = [(2 * i, FLASH + 0x1000 + 4 * i, 4) for i in range(words)]
    code = Script().run(FLASH, (2,) * 2 * words, cycles=2, loads=loads)
    fetch, load = stalls(code, memory_of(flash(5, 8)))
    assert (fetch, load) == (5 * 2 * 2 * words / 8, 5 * 4 * words / 8)


def test_prefetch_delays_data() -> None:
    """A load comes while the next line is being read: it waits for that first."""
    memory = memory_of(flash(5, 8, prefetch=True))
    code = Script().run(FLASH, (2,) * 4, loads=[(1, FLASH + 0x1000, 4)])
    # The line arrives at 5 and prefetching takes until 11; the data would come at 7.
    traced = record(code, memory)[0]
    assert [t / TICKS_PER_CYCLE for t in traced.fetch] == [5, 0, 0, 0]
    assert [t / TICKS_PER_CYCLE for t in traced.load] == [0, 11 - 7 + 1 + 5, 0, 0]


def test_multiple_loads_take_a_cycle_each() -> None:
    """Four words by one instruction of five cycles, from two lines."""
    loads = [(0, FLASH + 4 * i, 4) for i in range(4)]
    code = Script().run(RAM, (4,), cycles=5, loads=loads)
    assert stalls(code, memory_of(flash(3, 8), ram())) == (0, 2 * 3)
    # One access that crosses into another line reads both at once.
    crossing = Script().run(RAM, (4,), loads=[(0, FLASH + 6, 4)])
    assert stalls(crossing, memory_of(flash(3, 8), ram())) == (0, 3 + 4)


def test_execution_in_place_through_a_unified_cache() -> None:
    """A miss reads a whole line, the wanted part first; data and code share the room."""
    memory = memory_of(flash(9, 4), caches=[cache("both", 64, 16, ways=1)])
    # Straight-line code: the line's other three words arrive ten cycles apart.
    line = Script().run(FLASH, (2,) * 8)
    waits = [t / TICKS_PER_CYCLE for t in record(line, memory)[0].fetch]
    assert waits == [9, 0, 8, 0, 8, 0, 8, 0]
    # A jump to the third word: it comes first, the fourth next, then the first two.
    middle = Script().run(FLASH + 8, (2,) * 4).run(FLASH, (2,) * 4)
    waits = [t / TICKS_PER_CYCLE for block in record(middle, memory) for t in block.fetch]
    assert waits == [9, 0, 8, 0, 8, 0, 8, 0]
    # Two lines of code and two of data: in places of their own, or in each other's.
    apart, together = (
        Script().run(FLASH, (2,) * 16, cycles=40, loads=[(2, at, 4), (9, at + 16, 4)], times=5)
        for at in (FLASH + 32, FLASH + 64)
    )
    assert stalls(apart, memory) == (2 * 9, 2 * 9)
    # A load takes the line of the code that made it away, in the midst of it: each is missed again.
    assert stalls(together, memory) == ((2 + 5 * 2) * 9, 5 * 2 * 9)


def test_another_access_waits_for_the_fill() -> None:
    """A second miss begins when the first line is complete."""
    memory = memory_of(flash(4, 8), caches=[cache("data", 128, 32)])
    simulation = MemorySimulation(memory)
    cycle = TICKS_PER_CYCLE
    assert simulation.load(FLASH + 8, 4, 0) == 4 * cycle
    # The other three parts come at 9, 14 and 19; the last is the first of the line.
    assert simulation.load(FLASH, 4, 5 * cycle) == 19 * cycle
    assert simulation.load(FLASH + 16, 4, 6 * cycle) == 9 * cycle
    assert simulation.load(FLASH + 64, 4, 7 * cycle) == (19 + 1 + 4) * cycle
    assert simulation.load(FLASH + 24, 4, 30 * cycle) == 30 * cycle


def test_stores_wait_for_nothing_but_begin_a_fill() -> None:
    """A write buffer; the line of what is stored is read, and only what comes behind waits."""
    slow = Memory("psram", "ram", RAM, 1 << 16, 7, 4)
    memory = memory_of(slow, caches=[cache("data", 32, 32, ways=1, of=["psram"])])
    simulation, cycle = MemorySimulation(memory), TICKS_PER_CYCLE
    simulation.store(RAM + 4, 4, 0)
    # The stored word comes at 7, the seven others eight cycles apart, the first of the line last.
    assert simulation.load(RAM + 8, 4, 9 * cycle) == 15 * cycle
    assert simulation.load(RAM, 4, 16 * cycle) == (7 + 7 * 8) * cycle
    # What is stored into a line that is there reads nothing, another line takes its place.
    simulation.store(RAM + 12, 8, 70 * cycle)
    assert simulation.load(RAM + 28, 4, 71 * cycle) == 71 * cycle
    simulation.store(RAM + 32, 4, 100 * cycle)
    assert simulation.load(RAM + 8, 4, 500 * cycle) == 507 * cycle
    code = Script().run(FLASH, (2,) * 9, stores=[(i, RAM + 32 * i, 4) for i in range(9)])
    assert stalls(code, memory) == (0, 0)
    # Without a cache, nothing is read.
    simulation = MemorySimulation(memory_of(slow))
    simulation.store(RAM, 4, 0)
    assert simulation.load(RAM + 8, 4, 1 * cycle) == 8 * cycle


def test_fast_memory_is_free() -> None:
    """Tightly coupled and zero-wait memory, with or without a line width."""
    for memory in (ram(), ram(None), Memory("itcm", "itcm", RAM, 1 << 16)):
        code = Script().run(RAM, (2, 4) * 40, loads=[(i, RAM + 64 * i, 8) for i in range(80)])
        assert stalls(code, memory_of(flash(5, 8), memory)) == (0, 0)


def test_fast_memory_takes_room_in_a_shared_cache() -> None:
    """Reading zero-wait RAM is free, yet pushes flash's data out of their common cache."""
    shared = cache("data", 32, 32, ways=1, of=["flash", "ram"])
    memory = memory_of(flash(5, 32), ram(), caches=[shared])
    flash_only = [(i, FLASH + 32 * (i % 2), 4) for i in range(4)]
    with_ram = [(0, FLASH, 4), (1, RAM, 4), (2, FLASH + 8, 4)]
    alone = Script().run(RAM + 0x100, (2,) * 4, cycles=9, loads=flash_only)
    assert stalls(alone, memory) == (0, 4 * 5)
    # The line at hand stays at hand: only another access to the flash's cache notices.
    between = Script().run(RAM + 0x100, (2,) * 3, cycles=9, loads=with_ram)
    assert stalls(between, memory) == (0, 5)
    again = [(0, FLASH, 4), (1, FLASH + 64, 4), (2, RAM + 64, 4), (3, FLASH + 68, 4), (4, FLASH, 4)]
    pushed = Script().run(RAM + 0x100, (2,) * 5, cycles=9, loads=again)
    assert stalls(pushed, memory) == (0, 3 * 5)


def test_caches_per_side() -> None:
    """Instructions and data have their own caches; each memory knows which serves it."""
    caches = [cache("instructions", 64, 8), cache("data", 32, 8)]
    memory = memory_of(flash(5, 8), caches=caches)
    loads = [(i, FLASH + 0x1000 + 8 * i, 4) for i in range(4)]
    loop = Script().run(FLASH, (2,) * 16, cycles=2, loads=loads, times=20)
    assert stalls(loop, memory) == (4 * 5, 4 * 5)
    assert [memory.cache_of(memory.memories[0], side) for side in (0, 1)] == [0, 1]


BOARD = Board(
    "slow",
    "x",
    "x",
    "cortex-m7",
    100_000_000,
    (
        Memory("dtcm", "dtcm", 0x2000_0000, 1 << 16),
        Memory("sram", "ram", 0x2400_0000, 1 << 16, 0),
        Memory("flash", "flash", FLASH, 1 << 20, 6, 32, True),
        Memory("psram", "ram", 0x6000_0000, 1 << 20, 1, 4),
    ),
    caches=(
        Cache("l1i", "instructions", ("flash",), 16384, 32, 2),
        Cache("l1d", "data", ("flash", "sram"), 16384, 32, 4),
    ),
    timing_source="made up",
)


def test_timing_of_a_board() -> None:
    """Memories that can make a core wait or share a cache with one; the others are left out."""
    timing = MemoryTiming.of(of_board(BOARD))
    assert [memory.name for memory in timing.memories] == ["sram", "flash", "psram"]
    assert timing.caches == BOARD.caches
    assert timing.words == (
        "assumed, at least in part: dtcm no wait states known, zero assumed; "
        "sram 0 wait states; "
        "flash 6 wait states, 32-byte lines, prefetch, instructions cached (16,384 bytes), "
        "data cached (16,384 bytes); psram 1 wait state, 4-byte lines, no prefetch, no cache; "
        "a run begins with empty caches"
    )


def test_timing_of_memories_that_nobody_waits_for() -> None:
    """Generic cores and boards without wait states: no memories, no caches."""
    for core in CORES:
        timing = MemoryTiming.of(target(core))
        assert (timing.memories, timing.caches, timing.words) == ((), (), "zero wait states")
    fast = tuple(replace(m, wait_states=0) for m in BOARD.memories)
    timing = MemoryTiming.of(of_board(replace(BOARD, memories=fast)))
    assert (timing.memories, timing.caches) == ((), ())
