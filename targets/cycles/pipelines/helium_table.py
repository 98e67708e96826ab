"""Timing of the Cortex-M55, every figure with its source; cycles at zero wait states."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeliumTable:
    """Timing of a core that works through vectors 64 bits a cycle, in order.

    What vectors take is in :mod:`edgekit.targets.cycles.thumb.mve_table`. Latencies are cycles from
    the issue of an instruction to the earliest issue of one that uses its result.

    Attributes:
        basis: what is timed, and what that rests on, in words that a report prints.
        vector: cycles for which a vector instruction occupies its pipe.
        gather: cycles by which a vector of addresses has to be there earlier than other operands.
        load: of core and single floating-point registers.
        multiply: all products of core registers.
        packed: fields taken out of words, packed and saturating arithmetic, extension with sum.
        shifted: of what shifts an operand first.
        multiple_bytes: that one cycle of a multiple load or store moves.
        divide: cycles of an integer quotient, during which nothing issues.
        floating: sum, product, fused product and sum, conversion.
        float_chained: product, rounded, and sum.
        float_divide: quotient and root, during which the unit takes nothing else.
        double: by the beginning of the mnemonic, for double precision.
        refill: what a jump takes beyond the branch's own cycle.
        loop: cycles in which LE issues in a whole loop, beside one jump.
    """

    basis: str
    vector: int
    gather: int
    load: int
    multiply: int
    packed: int
    shifted: int
    multiple_bytes: int
    divide: int
    floating: int
    float_chained: int
    float_divide: int
    double: tuple[tuple[str, int], ...]
    refill: int
    loop: int


CORTEX_M55 = HeliumTable(
    basis="pipeline and hazards of the cortex-m55 as LLVM's scheduling model has them; multiple "
    "accesses, divisions and ends of loops assumed",
    vector=2,
    gather=4,
    load=2,
    multiply=2,
    packed=2,
    shifted=2,
    # As wide as its memory interfaces; assumed.
    multiple_bytes=8,
    # LLVM does not model it; typical operands, assumed as for the others.
    divide=7,
    floating=2,
    float_chained=4,
    float_divide=16,
    double=(
        *(("vadd", 15), ("vsub", 15), ("vmul", 21), ("vnmul", 21), ("vfm", 24), ("vfnm", 24)),
        *(("vml", 36), ("vnml", 36), ("vdiv", 30), ("vsqrt", 30)),
    ),
    # LLVM's "best case" of a taken branch is three cycles; it says that there is no prediction.
    refill=2,
    # The architecture remembers where a loop ends after LE has run once ("Arm v8-M Architecture
    # Reference Manual", low-overhead-loop extension): it issues the first time, as a branch, and
    # the last time, to leave. That nothing issues in between is our reading of it, not measured.
    loop=2,
)
"""Arm publishes no table. Figures without a comment are those of LLVM's scheduling model
(ARMScheduleM55.td, LLVM 19)."""
