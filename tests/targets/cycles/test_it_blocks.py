"""Accesses in IT blocks: recording them must not change what is executed."""

from __future__ import annotations

import pytest
from unicorn import arm_const as arm

from edgekit.targets.tracing import BlockTrace
from tests.support.images import EMULATED, GCC, emulator_of, probe

# A conditional access that runs, and a block behind it, under flags that would skip its addition if
# the IT block still went on.
SOURCE = """
#include <stdint.h>
__attribute__((naked)) int probe_it(const uint32_t *p, uint32_t n)
{
    __asm volatile("movs r2, #0\\n"
                   "1: cmp r1, #0\\n"
                   "it ne\\n"
                   "ldrne r3, [r0]\\n"
                   "cmp r1, r1\\n"
                   "b 2f\\n"
                   "2: adds r2, r2, #1\\n"
                   "subs r1, r1, #1\\n"
                   "bne 1b\\n"
                   "mov r0, r2\\n"
                   "bx lr\\n");
}
"""
ROUNDS = 25


@pytest.mark.parametrize("core", [core for core in EMULATED if core != "cortex-m0plus"])
@pytest.mark.needs(GCC)
def test_counting_does_not_change_what_runs(core: str) -> None:
    """The same result called, counted, and recorded by hooks in C and in Python."""
    emulator = emulator_of(probe(SOURCE, "probe_it", core=core))
    arguments = emulator.symbol("ek_arena"), ROUNDS
    assert emulator.call("probe_it", *arguments) == ROUNDS
    result, count = emulator.count("probe_it", *arguments)
    assert result == ROUNDS
    assert count.instructions == 1 + ROUNDS * 8 + 2
    for is_native in (True, False):
        trace = BlockTrace(
            emulator._uc,
            1 << 40,
            pc_register=arm.UC_ARM_REG_PC,
            it_register=arm.UC_ARM_REG_XPSR,
            costs=emulator._accountant,
            native=is_native,
        )
        with trace:
            assert emulator.call("probe_it", *arguments) == ROUNDS
        end = emulator.symbol("Fault_Handler") & ~1
        assert sum(block.times for block in trace.blocks(end)) > ROUNDS


@pytest.mark.needs(GCC)
def test_unicorn_still_leaves_it_state_behind() -> None:
    """Without the correction the addition is skipped: once it is not, the correction can go."""
    emulator = emulator_of(probe(SOURCE, "probe_it", core="cortex-m4"))
    trace = BlockTrace(
        emulator._uc, 1 << 40, pc_register=arm.UC_ARM_REG_PC, costs=emulator._accountant
    )
    with trace:
        assert emulator.call("probe_it", emulator.symbol("ek_arena"), ROUNDS) != ROUNDS
