"""What the hand counts of the kernels at zero wait states rest on.

Sources, as the words below name them:

- M0+ table: Cortex-M0+ TRM r0p1 (DDI 0484C), Table 3-1. MULS takes 1 or 32 there, by the maker's
  choice; 1 is taken.
- M3 table, M4 table: Cortex-M3 TRM r2p1 (DDI 0337I) and Cortex-M4 TRM r0p1 (100166), Table 3-1.
- pairing: 3.3.2 "Load/store timings" of both.
- M4 FPU table: Cortex-M4 TRM, "FPU instruction set", as TI's SWCU192 reprints it (Table 3-27).
- M7 notes: no table is public. https://github.com/jnk0le/random, "pipeline cycle test",
  doc/cortex_m7.md, measured on an STM32H743.
- The M33 has no public table either; it is counted as the M4, which is an assumption. The model
  assumes the same, so its rows agree by construction: they check the code, not the assumption.

The M3 and M4 tables give a branch as 1 + P with P from 1 to 3. What is taken here: P = 1 for an
immediate branch, whose target is known when it is decoded (nrfx counts the delay loop of its
nrfx_coredep.h, SUBS and BHI, as 3 cycles on the nRF52's Cortex-M4), P = 2 for a branch to a
register's value, which is read a stage later, P = 3 for a loaded program counter ("at least two
cycles for the load, and three cycles for the pipeline reload", pairing); and one more where the
target is a 32-bit instruction that a word border divides ("alignment and width of the target
instruction").
"""

from __future__ import annotations

from dataclasses import replace

from micro_kernels import Hand, exactly


def hands(
    *,
    m0plus: Hand | None = None,
    m3: Hand | None = None,
    m4: Hand | None = None,
    m7: Hand | None = None,
) -> dict[str, Hand]:
    """Counts by core; the M33's is the M4's."""
    m33 = m4 and replace(m4, why=f"assumed as on the M4: {m4.why}", is_assumed=True)
    every = {"m0plus": m0plus, "m3": m3, "m4": m4, "m33": m33, "m7": m7}
    return {f"cortex-{core}": hand for core, hand in every.items() if hand is not None}


def alike(cycles: float, why: str) -> dict[str, Hand]:
    """The same count from the same words on M3 and M4."""
    hand = exactly(cycles, why)
    return {"m3": hand, "m4": hand}


PIPELINED = "pairing: a load or store behind a load takes one cycle less"
IMMEDIATE = "M3/M4 table: 1 + P, P = 1 for an immediate branch (micro_sources.py)"
