"""Recording in the emulator: whose access it was, what was skipped, and what goes wrong."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections import Counter

import pytest
import unicorn
from unicorn import arm_const as arm

from edgekit.errors import EdgekitError, EmulationError, ToolchainMissingError
from edgekit.targets.board import Board, Cache
from edgekit.targets.cores import Memory
from edgekit.targets.cycles.trace.native_recorder import NativeRecorder
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
from tests.support.traces import BOTH, END, FLASH, RAM

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
    counted = []
    for _ in range(2):
        machine = machine_of(image)
        emulator = machine.emulator
        # The second call finds what the first left in the caches; a run finds them empty.
        calls = [emulator.count("probe_accesses", 9) for _ in range(2)]
        emulator.empty_caches()
        calls.append(emulator.count("probe_accesses", 9))
        assert calls[2] == calls[0] != calls[1]
        counted.append((*calls, machine.count_run(), machine.count_run()))
        monkeypatch.setattr("edgekit.targets.tracing.native_library", lambda: None)
    in_c, in_python = counted
    assert in_c == in_python
    assert in_c[3] == in_c[4]
    for count in (in_c[0][1], in_c[3]):
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


@pytest.mark.needs(GCC, "cc")
def test_traces_are_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once when they are read out or the call fails: not when garbage is collected."""
    emulator = accesses_of("cortex-m4")
    alive = []

    def traced(function: str) -> BlockTrace:
        costs = emulator._accountant
        trace = BlockTrace(emulator._uc, 1 << 40, pc_register=arm.UC_ARM_REG_PC, costs=costs)
        recorder = trace._hooks.recorder
        assert isinstance(recorder, NativeRecorder)
        alive.append((weakref.ref(recorder), recorder._release))
        with trace:
            emulator.call(function, 4)
        return trace

    gc.disable()
    try:
        traced("probe_accesses").blocks(END)
        with pytest.raises(KeyError):
            traced("no_such_function")
        monkeypatch.setattr(emulator._accountant, "steps", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            traced("probe_accesses")
        for _, release in alive:
            assert not release.alive
        assert alive[0][0]() is None
    finally:
        gc.enable()


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
