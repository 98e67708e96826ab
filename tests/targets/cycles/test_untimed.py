"""Code that the emulator runs and no pipeline has cycles for."""

from __future__ import annotations

import pytest

from edgekit.errors import EmulationError
from tests.support.images import GCC, emulator_of, probe

# stm r0, {r1, pc}: unpredictable, and no assembler makes it.
SOURCE = """
#include <stdint.h>
__attribute__((naked)) int probe_stores_pc(const uint32_t *p, uint32_t n)
{
    __asm volatile("mov r3, r0\\n"
                   ".short 0xe880, 0x8002\\n"
                   "ldr r0, [r3]\\n"
                   "bx lr\\n");
}
"""


@pytest.mark.needs(GCC)
def test_it_runs_and_is_not_counted() -> None:
    """The error says where; a call that is not counted does not need cycles."""
    emulator = emulator_of(probe(SOURCE, "probe_stores_pc", core="cortex-m4"))
    arguments = emulator.symbol("ek_arena"), 7
    assert emulator.call("probe_stores_pc", *arguments) == 7
    stored = (emulator.symbol("probe_stores_pc") & ~1) + 2
    with pytest.raises(EmulationError, match=f"{stored:#010x}, bytes 80e80280") as caught:
        emulator.count("probe_stores_pc", *arguments)
    assert caught.value.pc == stored
    assert emulator.call("probe_stores_pc", *arguments) == 7
