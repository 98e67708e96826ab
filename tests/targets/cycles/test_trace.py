"""Recording what runs: C equals Python, cut code is joined, nothing is lost."""

from __future__ import annotations

import copy
from dataclasses import replace

import hypothesis
import pytest
from hypothesis import strategies as st

from edgekit.errors import EdgekitError, EmulationError, InvalidBoardError
from edgekit.targets.board import Cache
from edgekit.targets.cores import Memory
from edgekit.targets.cycles.trace.memory import TICKS_PER_CYCLE, MemoryTiming
from edgekit.targets.cycles.trace.native_recorder import NativeRecorder, native_library
from edgekit.targets.cycles.trace.recorder import Limits, Recorder, Step, TracedBlock
from tests.support.traces import BOTH, END, FLASH, RAM, Script, flash, memory_of, record, simulated

FINE = flash(2, 8)
POWERS = st.sampled_from([2, 4, 8, 16, 32])
TICKS = st.integers(0, 5 * TICKS_PER_CYCLE)


@st.composite
def memories(draw: st.DrawFn) -> MemoryTiming:
    """One to three neighbouring memories and up to three caches, each side served once."""
    found = [
        Memory(
            f"m{i}",
            "flash",
            0x1000 * i,
            draw(st.sampled_from([0x100, 0x800, 0x1000])),
            draw(st.one_of(st.none(), st.integers(0, 7))),
            draw(POWERS),
            draw(st.booleans()),
        )
        for i in range(draw(st.integers(1, 3)))
    ]
    free = {(m.name, side) for m in found for side in ("instructions", "data")}
    caches = []
    for index in range(draw(st.integers(0, 3))):
        serves = draw(st.sampled_from(["instructions", "data", "both"]))
        sides = {"instructions", "data"} if serves == "both" else {serves}
        able = [m for m in found if all((m.name, side) in free for side in sides)]
        if not able:
            continue
        chosen = draw(st.lists(st.sampled_from(able), min_size=1, unique=True))
        free -= {(m.name, side) for m in chosen for side in sides}
        line = draw(st.sampled_from([8, 16, 32, 64]))
        ways, sets = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 4]))
        names = tuple(m.name for m in chosen)
        caches.append(Cache(f"c{index}", serves, names, ways * sets * line, line, ways))
    return MemoryTiming(tuple(found), tuple(caches))


@st.composite
def scripts(draw: st.DrawFn, *, apart: bool = False) -> Script:
    """Random blocks in random order, with loads and stores by random instructions.

    Args:
        draw: as Hypothesis gives it.
        apart: whether no two blocks share code.
    """
    script = Script()
    # Most addresses are near each other, so that lines and sets are met again.
    places = st.one_of(st.integers(0, 0x180), st.integers(0, 0x3200))
    for index in range(draw(st.integers(1, 5))):
        address, steps, offset = 2 * (draw(places) // 2), [], 0
        if apart:
            address = 0x40 * index + address % 0x10
        for width in draw(st.lists(st.sampled_from([2, 4]), min_size=1, max_size=12)):
            skipped = draw(st.one_of(st.none(), st.integers(0, TICKS_PER_CYCLE)))
            steps.append(Step(offset, width, draw(TICKS), skipped))
            offset += width
        script.blocks[address, offset] = tuple(steps)
    known = sorted(script.blocks)
    for block in known:
        for following in (*known, (END, 0)):
            script.jumps[block, following] = draw(st.integers(0, 40))
    access = st.tuples(places, st.sampled_from([1, 2, 4, 8]), st.booleans())
    for _ in range(draw(st.integers(0, 25))):
        place = draw(st.sampled_from(known))
        steps = list(script.blocks[place])
        accesses = [
            (place[0] + step.offset, *draw(access))
            for step in steps
            for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3])))
        ]
        script.events.append((place, tuple(accesses)))
    return script


@pytest.mark.needs("cc")
@hypothesis.given(scripts(), memories())
@hypothesis.settings(max_examples=60, deadline=None)
def test_c_equals_python(script: Script, memory: MemoryTiming) -> None:
    """To the tick, for any code, accesses, memories and caches, in one call after another."""
    found = []
    for native in (False, True):
        kept = simulated(memory, native=native)
        calls = [record(script, kept) for _ in range(2)]
        kept.empty()
        found.append([*calls, record(script, kept)])
        assert found[-1][2] == calls[0] == record(script, memory, native=native)
    assert found[0] == found[1]


def cut_up(script: Script, border: int) -> Script:
    """The same script as an emulator tells it that cuts code wherever so many bytes end."""
    found = copy.deepcopy(script)
    found.events = []
    for (address, size), accesses in script.events:
        ends = [address + step.offset + step.bytes for step in script.blocks[address, size]]
        begin = address
        for end in ends:
            if end // border > begin // border or end == ends[-1]:
                own = tuple(access for access in accesses if begin <= access[0] < end)
                found.events.append(((begin, end - begin), own))
                if end != ends[-1]:
                    found.cut.add((begin, end - begin))
                begin = end
    return found


@pytest.mark.needs("cc")
@hypothesis.given(scripts(apart=True), memories(), st.sampled_from([2, 4, 6, 8, 16]))
@hypothesis.settings(max_examples=40, deadline=None)
def test_cut_code_is_joined(script: Script, memory: MemoryTiming, border: int) -> None:
    """Wherever an emulator cuts it: the same blocks, edges and waiting, in C and in Python."""
    cut = cut_up(script, border)
    whole = record(script, memory)
    assert record(cut, memory) == whole
    assert record(cut, memory, native=True) == whole


@BOTH
def test_what_is_cut_is_asked_once(is_native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is fallen into, cut in its midst: two blocks; nothing is joined to a branch."""
    script = Script().run(60, (2,) * 4).run(62, (2,) * 3)
    script.events = [((60, 4), ()), ((64, 4), ()), *[((62, 2), ()), ((64, 4), ())] * 3]
    cut, asked = {(60, 4), (62, 2)}, []

    def goes_on(address: int, size: int) -> bool:
        asked.append((address, size))
        return (address, size) in cut

    monkeypatch.setattr(script, "goes_on", goes_on)
    traced = record(script, MemoryTiming(), native=is_native)
    assert [(b.address, b.size, b.times, b.following) for b in traced] == [
        (60, 8, 1, {(62, 6): 1}),
        (62, 6, 3, {(62, 6): 2, (END, 0): 1}),
    ]
    assert asked == [(60, 4), (62, 2)]
    # What runs behind a branch that is not taken is a block of its own.
    cut.clear()
    script.run(60, (4,)).run(64, (4,))
    script.events = script.events[:2]
    traced = record(script, MemoryTiming(), native=is_native)
    assert [(b.address, b.size) for b in traced] == [(60, 4), (64, 4)]


@BOTH
def test_calls_share_their_memories(is_native: bool) -> None:
    """What a call leaves in a cache the next one finds, and nothing is under way any more."""
    line = Cache("icache", "instructions", ("flash",), 64, 32, 2)
    kept = simulated(memory_of(flash(5, 8), caches=[line]), native=is_native)
    script = Script().run(FLASH, (2,) * 4)

    def waits() -> list[int]:
        return [ticks // TICKS_PER_CYCLE for block in record(script, kept) for ticks in block.fetch]

    assert waits() == [5, 0, 0, 0]
    assert waits() == [0, 0, 0, 0]
    # The rest of the line was still being read when the first call ended.
    script.run(FLASH + 8, (2,) * 4)
    assert waits() == [0] * 8
    kept.empty()
    assert waits() == [5, 0, 0, 0, 2, 0, 0, 0]


@pytest.mark.needs("cc")
def test_large_traces_agree() -> None:
    """More blocks, edges and accesses than the tables begin with."""
    script = Script()
    for i in range(3000):
        loads = [(0, RAM + 64 * (i * 7 % 900), 8), (1, FLASH + 0x8000 + 24 * i % 4096, 4)]
        script.run(FLASH + 6 * (i * 37 % 2000), (2, 4), loads=loads)
    loads = [(0, RAM + 4 * i, 4) for i in range(2000)]
    script.run(FLASH, (4,), loads=loads, times=3)
    memory = memory_of(flash(3, 8, prefetch=True), Memory("ram", "ram", RAM, 1 << 16, 1, 4))
    python = record(script, memory)
    assert len(python) == 2001
    assert record(script, memory, native=True) == python


@BOTH
def test_blocks_and_what_followed(is_native: bool) -> None:
    """Times, edges and the order of first times; the last block goes to the end."""
    script = Script().run(64, (2,)).run(16, (4,), times=3).run(64, (2,)).run(64, (2, 2))
    traced = record(script, MemoryTiming(), native=is_native)
    assert traced == (
        TracedBlock(64, 2, 2, {(16, 4): 1, (64, 4): 1}, (0,), (0,), (0,)),
        TracedBlock(16, 4, 3, {(16, 4): 2, (64, 2): 1}, (0,), (0,), (0,)),
        TracedBlock(64, 4, 1, {(END, 0): 1}, (0, 0), (0, 0), (0, 0)),
    )
    assert record(Script(), MemoryTiming(), native=is_native) == ()


@BOTH
def test_skipped_accesses_do_not_shift_others(is_native: bool) -> None:
    """A load that an IT instruction skips is counted, and its neighbours keep their waiting."""
    script = Script().run(RAM, (2, 2, 2, 2))
    first, *_ = script.blocks
    script.blocks[first] = tuple(
        step._replace(ticks=24, skipped_ticks=12 if 0 < i < 3 else None)
        for i, step in enumerate(script.blocks[first])
    )
    loads = [(RAM + 2 * i, FLASH + 64 * i, 4, False) for i in range(4)]
    script.events = [(first, (loads[0], loads[1], loads[3])), (first, (loads[2],)), (first, ())]
    traced = record(script, memory_of(flash(5, 8)), native=is_native)
    assert [t // TICKS_PER_CYCLE for t in traced[0].load] == [5, 5, 5, 5]
    assert traced[0].skipped == (0, 2, 2, 0)


@BOTH
def test_instruction_limit(is_native: bool) -> None:
    """The core is told to stop once the limit is reached, no later."""
    endless = Script().run(64, (2,) * 5, times=1000)
    assert sum(b.times for b in record(endless, MemoryTiming(), native=is_native, limit=50)) == 11


@BOTH
def test_stray_accesses_are_errors(is_native: bool) -> None:
    """Outside the block, in the midst of an instruction, out of order, and before any block."""
    for pc in (62, 72, 66, 65):
        script = Script().run(64, (2, 4, 2))
        place, _ = script.events[0]
        script.events = [(place, ((70, 8, 4, False), (pc, 8, 4, False)))]
        with pytest.raises(EmulationError, match=f"pc {pc:#010x} belongs to no instruction") as e:
            record(script, MemoryTiming(), native=is_native)
        assert e.value.pc == pc
    recorder: Recorder | NativeRecorder = Recorder(10, costs=script)
    if is_native:
        library = native_library()
        assert library is not None
        recorder = NativeRecorder(library, 10, costs=script)
    with pytest.raises(EmulationError, match="pc 0x00000040 belongs to no instruction"):
        recorder.access(64, 8, 4, False)
    script.events = [(place, ((64, 8, 0, False),))]
    with pytest.raises(EmulationError, match="pc 0x00000040 belongs to no instruction"):
        record(script, MemoryTiming(), native=is_native)


@BOTH
@pytest.mark.parametrize("when", ["goes_on", "steps", "jump"])
def test_what_costs_raise_arrives(
    is_native: bool, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while the core runs is the error of the call, also through C."""

    def refuse(*_: object) -> int:
        raise EdgekitError("no such instruction")

    script = Script().run(64, (2,), times=3).run(66, (2,))
    monkeypatch.setattr(script, when, refuse)
    with pytest.raises(EdgekitError, match="no such instruction"):
        record(script, MemoryTiming(), native=is_native)


@pytest.mark.parametrize(
    "memory",
    [
        replace(FINE, origin=-8),
        replace(FINE, bytes=0),
        replace(FINE, bytes=1 << 33),
        replace(FINE, line_bytes=1),
        replace(FINE, line_bytes=None),
        replace(FINE, wait_states=-1),
    ],
)
def test_impossible_memories_are_refused(memory: Memory) -> None:
    """Shapes that a board file cannot have."""
    with pytest.raises(InvalidBoardError, match="flash: "):
        memory_of(memory)


@pytest.mark.parametrize(
    ("size", "line", "ways"), [(0, 8, 2), (64, 1, 2), (64, 8, 0), (1 << 40, 8, 2)]
)
def test_impossible_caches_are_refused(size: int, line: int, ways: int) -> None:
    """No lines, lines of nothing, and more than fit a machine."""
    with pytest.raises(InvalidBoardError, match="c: "):
        memory_of(FINE, caches=[Cache("c", "data", ("flash",), size, line, ways)])


@BOTH
@pytest.mark.parametrize("limit", ["blocks", "edges", "steps", "accesses"])
def test_a_trace_is_bounded(is_native: bool, limit: str) -> None:
    """One more than it may hold is an error, as many are none."""
    loads = [(0, RAM, 4)] * 6
    script = Script().run(64, (2,) * 3, loads=loads).run(96, (2,) * 3, loads=loads)
    script.run(80, (2,), times=2)
    held = {"blocks": 3, "edges": 4, "steps": 7, "accesses": 6}
    limits = Limits(**held)
    assert len(record(script, MemoryTiming(), native=is_native, limits=limits)) == 3
    limits = Limits(**held | {limit: held[limit] - 1})
    with pytest.raises(EmulationError, match="more than a trace can hold"):
        record(script, MemoryTiming(), native=is_native, limits=limits)
