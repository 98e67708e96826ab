"""Recording what runs: C equals Python, accesses belong to their instructions, nothing is lost."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import hypothesis
import pytest
import unicorn
from hypothesis import strategies as st
from unicorn import arm_const as arm

from edgekit.errors import EdgekitError, EmulationError, ToolchainMissingError
from edgekit.targets.board import Board, Cache
from edgekit.targets.cores import Memory
from edgekit.targets.cycles.trace.memory import TICKS_PER_CYCLE, MemoryTiming
from edgekit.targets.cycles.trace.native_recorder import NativeRecorder, native_library
from edgekit.targets.cycles.trace.recorder import Recorder, Step, TracedBlock
from edgekit.targets.emulator import Emulator
from edgekit.targets.image import build_image
from edgekit.targets.target import of_board
from edgekit.targets.tracing import BlockTrace
from tests.support.images import (
    EMULATED,
    GCC,
    emulator_of,
    fresh_folder,
    machine_of,
    probe,
    with_code,
)
from tests.support.traces import END, FLASH, RAM, Script, flash, memory_of, record

BOTH = pytest.mark.parametrize(
    "is_native", [False, pytest.param(True, marks=pytest.mark.needs("cc"))], ids=["python", "c"]
)

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
def scripts(draw: st.DrawFn) -> Script:
    """Random blocks in random order, with loads and stores by random instructions."""
    script = Script()
    # Most addresses are near each other, so that lines and sets are met again.
    places = st.one_of(st.integers(0, 0x180), st.integers(0, 0x3200))
    for _ in range(draw(st.integers(1, 5))):
        address, steps, offset = 2 * (draw(places) // 2), [], 0
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
    """To the tick, for any code, accesses, memories and caches."""
    assert record(script, memory, native=True) == record(script, memory)


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


@BOTH
@pytest.mark.parametrize("when", ["steps", "jump"])
def test_what_costs_raise_arrives(
    is_native: bool, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while the core runs is the error of the call, also through C."""

    def refuse(*_: object) -> int:
        raise EdgekitError("no such instruction")

    script = Script().run(64, (2,), times=3)
    monkeypatch.setattr(script, when, refuse)
    with pytest.raises(EdgekitError, match="no such instruction"):
        record(script, MemoryTiming(), native=is_native)


@pytest.mark.needs("cc")
def test_impossible_memories_are_refused_by_c() -> None:
    """Shapes that a board file cannot have: no crash, no trace."""
    library = native_library()
    assert library is not None
    fine = flash(2, 8)
    for memory, cache in (
        (replace(fine, origin=-8), None),
        (replace(fine, bytes=0), None),
        (replace(fine, bytes=1 << 33), None),
        (replace(fine, line_bytes=1), None),
        (fine, Cache("c", "data", ("flash",), 0, 8, 2)),
        (fine, Cache("c", "data", ("flash",), 1 << 40, 8, 2)),
    ):
        with pytest.raises(MemoryError):
            NativeRecorder(library, 9, memory=memory_of(memory, caches=[cache] if cache else []))


@pytest.mark.needs("cc")
def test_a_block_with_too_many_accesses_is_an_error() -> None:
    """Memory is bounded: no block of a page makes so many."""
    script = Script().run(64, (2,))
    place, _ = script.events[0]
    script.events = [(place, ((64, RAM, 4, False),) * ((1 << 17) + 1))]
    with pytest.raises(EmulationError, match="more than a trace can hold"):
        record(script, MemoryTiming(), native=True)


ACCESSES = """
#include <stdint.h>
extern uint32_t ek_arena[];
__attribute__((naked)) uint32_t probe_accesses(uint32_t a)
{
    __asm volatile(".syntax unified\\n"
                   "ldr r1, 9f\\n"
                   "push {r4-r7, lr}\\n"
                   "1: ldr r2, [r1]\\n"
                   "ldrb r3, [r1, #5]\\n"
                   "stmia r1!, {r2, r3, r4}\\n"
                   "ldmia r1!, {r5, r6, r7}\\n"
                   "strh r2, [r1, #6]\\n"
                   "subs r1, #24\\n"
                   MORE
                   "subs r0, #1\\n"
                   "bne 1b\\n"
                   "pop {r4-r7, pc}\\n"
                   ".align 2\\n"
                   "9: .word ek_arena\\n");
}
"""
CONDITIONAL = r"""
    "lsls r2, r0, #31\n"
    "ite mi\n"
    "ldrmi r2, [r1, #8]\n"
    "ldrpl r2, [r1, #12]\n"
    "ldrd r2, r3, [r1, #16]\n"
    "ldr.w r2, [r1, #3]\n"
    "it pl\n"
    "strpl r2, [r1, #20]\n"
    "ldrh r2, [r1, #2]\n"
"""


def accesses_of(core: str) -> Emulator:
    """An image with :data:`ACCESSES`."""
    more = '""' if core == "cortex-m0plus" else CONDITIONAL.replace("\n", " ")
    source = f"#define MORE {more}\n{ACCESSES}"
    return emulator_of(probe(source, "probe_accesses", core=core))


@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.needs(GCC)
def test_the_program_counter_of_an_access(core: str) -> None:
    """What a hook of accesses reads as program counter is the instruction that made it.

    A hook per instruction would make it so: there is none while it is read.
    """
    emulator = accesses_of(core)
    uc = emulator._uc
    seen: list[int] = []

    def on_code(uc: unicorn.Uc, address: int, size: int, _: object) -> None:
        seen.append(address)

    def on_access(uc: unicorn.Uc, *_: object) -> None:
        seen.append(uc.reg_read(arm.UC_ARM_REG_PC))

    def observed(*hooks: tuple[int, object]) -> list[int]:
        seen.clear()
        added = [uc.hook_add(*hook) for hook in hooks]
        uc.ctl_flush_tb()
        emulator.call("probe_accesses", 5)
        for hook in added:
            uc.hook_del(hook)
        uc.ctl_flush_tb()
        return list(seen)

    accesses = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, on_access
    instructions = observed((unicorn.UC_HOOK_CODE, on_code))
    both = observed((unicorn.UC_HOOK_CODE, on_code), accesses)
    # Every instruction is seen once, and again for each of its accesses, right behind.
    made = Counter(both) - Counter(instructions)
    assert made.total() >= 5 * 10
    assert [pc for pc, _ in itertools.groupby(both)] == instructions
    alone = observed(accesses)
    assert Counter(alone) == made
    assert [pc for pc, _ in itertools.groupby(alone)] == [
        pc for pc, _ in itertools.groupby(pc for pc in instructions if pc in made)
    ]


@pytest.mark.parametrize("core", [core for core in EMULATED if core != "cortex-m0plus"])
@pytest.mark.needs(GCC)
def test_skipped_loads_are_told_by_the_emulator(core: str) -> None:
    """Of two alternatives each load runs every other time; the rest of the block always does."""
    emulator = accesses_of(core)
    accountant = emulator._accountant
    trace = BlockTrace(emulator._uc, 1 << 40, pc_register=arm.UC_ARM_REG_PC, costs=accountant)
    with trace:
        emulator.call("probe_accesses", 8)
    skipped: Counter[str] = Counter()
    for block in trace.blocks(END):
        lines = accountant.block(block.address, block.size).instructions
        for line, times in zip(lines, block.skipped, strict=True):
            skipped[line.text.split()[0]] += times
    assert {name: times for name, times in skipped.items() if times} == {
        "ldrmi": 4,
        "ldrpl": 4,
        "strpl": 4,
    }


@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.needs(GCC, "cc")
def test_hooks_in_c_and_in_python_agree(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same function on a board with slow memories: the same figures, and the same result."""
    more = '""' if core == "cortex-m0plus" else CONDITIONAL.replace("\n", " ")
    slow = (
        Memory("flash", "flash", FLASH, 1 << 18, 3, 8, True),
        Memory("ram", "ram", RAM, 1 << 16, 1, 4),
    )
    caches = (
        Cache("icache", "instructions", ("flash",), 128, 16, 2),
        Cache("dcache", "data", ("flash", "ram"), 64, 16, 2),
    )
    board = Board("slow", "x", "x", core, 1_000_000, slow, caches=caches, timing_source="made up")
    image = build_image(
        with_code(f"#define MORE {more}\n{ACCESSES}", "probe_accesses"),
        of_board(board),
        folder=fresh_folder(),
    )
    machine = machine_of(image)
    emulator = machine.emulator
    in_c = emulator.count("probe_accesses", 9), machine.count_run()
    monkeypatch.setattr("edgekit.targets.tracing.native_library", lambda: None)
    in_python = emulator.count("probe_accesses", 9), machine.count_run()
    assert in_c == in_python
    for count in (in_c[0][1], in_c[1]):
        assert count.causes is not None
        assert count.causes.fetch > 0 and count.causes.load > 0
    assert emulator.call("probe_accesses", 9) == in_c[0][0]


@BOTH
@pytest.mark.needs(GCC)
def test_errors_while_counting(is_native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults and limits of a counted call are reported as of a plain one; costs' errors too."""
    if not is_native:
        monkeypatch.setattr("edgekit.targets.tracing.native_library", lambda: None)
    source = """
    #include <stdint.h>
    uint32_t probe_read(uintptr_t at) { return *(volatile uint32_t *)at; }
    void probe_write(uintptr_t at) { *(volatile uint32_t *)at = 1; }
    void probe_jump(uintptr_t to) { ((void (*)(void))to)(); }
    void probe_trap(void) { __builtin_trap(); }
    void probe_hang(void) { for (;;) { } }
    """
    names = ("probe_read", "probe_write", "probe_jump", "probe_trap", "probe_hang")
    image = probe(source, *names, core="cortex-m4")
    emulator = emulator_of(image, instruction_limit=10_000)
    for function, argument, words in (
        ("probe_read", 0x6000_0000, "read of 0x60000000, where there is no memory"),
        ("probe_write", 0, "write of 0x00000000, which is program memory"),
        ("probe_jump", 0x6000_0001, "jump to 0x60000000, outside the program memory"),
        ("probe_trap", 0, "in probe_trap"),
        ("probe_hang", 0, r"no return in time, stopped at pc .* in probe_hang"),
    ):
        with pytest.raises(EmulationError, match=words):
            emulator.count(function, argument)
    address = emulator.symbol("ek_arena")
    assert emulator.count("probe_read", address)[0] == emulator.call("probe_read", address)

    def refuse(*_: object) -> int:
        raise EdgekitError("no such instruction")

    hanging = emulator_of(image, timeout_s=0.2)
    with pytest.raises(EmulationError, match=r"no return in time, stopped at pc .* in probe_hang"):
        hanging.count("probe_hang")
    monkeypatch.setattr(emulator._accountant, "steps", refuse)
    with pytest.raises(EdgekitError, match="no such instruction"):
        emulator.count("probe_read", address)


@pytest.mark.needs(GCC)
def test_an_old_unicorn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that tells the wrong instruction of an access; counting blocks needs nothing of it."""
    monkeypatch.setattr("edgekit.targets.tracing._VERSION", (2, 1, 3))
    emulator = accesses_of("cortex-m4")
    words = r"cycles need unicorn 2\.1\.4 or newer, not 2\.1\.3"
    with pytest.raises(ToolchainMissingError, match=words):
        emulator.count("probe_accesses", 4)
    BlockTrace(emulator._uc, 1, pc_register=arm.UC_ARM_REG_PC)


@pytest.mark.needs(GCC)
def test_counting_blocks_alone() -> None:
    """Without costs there are blocks and edges, and nothing is asked about them."""
    emulator = accesses_of("cortex-m4")
    traced = []
    for is_native in (True, False):
        trace = BlockTrace(emulator._uc, 1 << 40, pc_register=arm.UC_ARM_REG_PC, native=is_native)
        with trace:
            emulator.call("probe_accesses", 4)
        traced.append(trace.blocks(END))
    assert traced[0] == traced[1]
    assert all(block.fetch == block.load == block.skipped == () for block in traced[0])
    assert sum(block.times for block in traced[0]) >= 5
