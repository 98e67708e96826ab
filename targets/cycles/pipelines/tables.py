"""Timing of the Cortex-M cores but the M55, one table per core, every figure with its source.

Figures are cycles at zero wait states. The Technical Reference Manuals are Arm's "Cortex-M0+
Processor", DDI 0484C (r0p1); "Cortex-M3 Processor", 100165_0201 (r2p1); "Cortex-M4 Processor",
100166_0001 (r0p1). Where a manual gives a range, the figure is ours and says why. Cores without a
public table say so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgekit.targets.cycles.pipelines.helium_table import HeliumTable


@dataclass(frozen=True)
class Refill:
    """Cycles that a jump takes beyond the branch's own, by where its target comes from.

    Attributes:
        immediate: from the instruction.
        call: the same, with a return address.
        register: from a register.
        load: from memory, behind the cycles of the load.
        unaligned: on top for a 32-bit instruction at an address that is no multiple of four.
        longest: never more than this.
    """

    immediate: int
    call: int
    register: int
    load: int
    unaligned: int
    longest: int


@dataclass(frozen=True)
class FloatCycles:
    """Cycles of the single-precision floating-point unit.

    Attributes:
        arithmetic: sum, product, comparison, conversion, and moves inside the unit.
        transfer: between float and core registers.
        multiply_add: chained and fused.
        divide: quotient and square root.
        result: more of arithmetic where the next instruction uses its result, but not as the
            addend of a product.
    """

    arithmetic: int
    transfer: int
    multiply_add: int
    divide: int
    result: int


@dataclass(frozen=True)
class SingleIssueTable:
    """Timing of a core that issues one instruction at a time.

    Multiple loads and stores take one cycle, plus one per word, everywhere.

    Attributes:
        basis: what is timed, and what that rests on, in words that a report prints.
        multiply_add: 32-bit product and sum.
        multiply_long: 64-bit product.
        multiply_long_add: 64-bit product and sum.
        divide: integer quotient.
        special: access to special registers.
        interrupts: masking of interrupts.
        barrier: DMB and DSB.
        synchronise: ISB.
        load: one register.
        store: one register, at a constant offset.
        store_register_offset: one register, at an offset in a register.
        pipelines: whether a single load overlaps with the single load or store behind it.
        indexed_pipelines: whether it does so too where that one changes its base register.
        address_wait: more of an access whose address the instruction just before has computed.
        folds_it: whether IT disappears behind a 16-bit instruction.
        refill: of jumps.
        floating: of the floating-point unit, None where the core never has one.
    """

    basis: str
    multiply_add: int
    multiply_long: int
    multiply_long_add: int
    divide: int
    special: int
    interrupts: int
    barrier: int
    synchronise: int
    load: int
    store: int
    store_register_offset: int
    pipelines: bool
    indexed_pipelines: bool
    address_wait: int
    folds_it: bool
    refill: Refill
    floating: FloatCycles | None


CORTEX_M0PLUS = SingleIssueTable(
    basis="pipeline of the cortex-m0plus by its manual, with the fast multiplier",
    # No such instructions; MULS takes 1 with the fast multiplier, which every known board has
    # (32 with the small one).
    multiply_add=1,
    multiply_long=1,
    multiply_long_add=1,
    divide=1,
    # MRS, MSR, DMB, DSB, ISB; CPS.
    special=3,
    interrupts=1,
    barrier=3,
    synchronise=3,
    # 2 on AHB; 1 on the single-cycle I/O port, where no kernel's data are.
    load=2,
    store=2,
    store_register_offset=2,
    # The table knows no dependence between neighbours.
    pipelines=False,
    indexed_pipelines=False,
    address_wait=0,
    folds_it=False,
    # B 2 taken, BL 3, BX, BLX, MOV and ADD to PC 2, POP with PC 3 + N against 1 + N.
    refill=Refill(immediate=1, call=2, register=1, load=2, unaligned=0, longest=2),
    floating=None,
)
"""DDI 0484C, 3.3, table 3-1."""

CORTEX_M3 = SingleIssueTable(
    basis="pipeline and hazards of the cortex-m3 by its manual; long products, quotients and "
    "refills assumed within its ranges",
    multiply_add=2,
    # 3 to 5 and 4 to 7 by the size of the operands: the upper end, as the multipliers of
    # requantisation have 31 bits.
    multiply_long=5,
    multiply_long_add=7,
    # 2 to 12 by the operands: the middle.
    divide=7,
    # "1 or 2", CPS too: the more.
    special=2,
    interrupts=2,
    # 1 + B, whose minimum is 0 for DMB and DSB and a refill for ISB.
    barrier=1,
    synchronise=4,
    load=2,
    # 3.3.2: "always one cycle" at a constant offset; 2 by table 3-1 otherwise.
    store=1,
    store_register_offset=2,
    # 3.3.2. The manual is silent on accesses that change their base register; measured on an
    # STM32F103 (github.com/jnk0le/random, "pipeline cycle test"), those do not overlap with a load
    # before them.
    pipelines=True,
    indexed_pipelines=False,
    # 3.3.2: no forwarding path from data processing to an address.
    address_wait=1,
    # Table 3-1, notes: "can be folded onto a preceding 16-bit Thumb instruction".
    folds_it=True,
    # Table 3-1: 1 to 3, "depending on the alignment and width of the target instruction, and
    # whether the processor manages to speculate the address early"; which of them when is from the
    # notes in 18.2 of the older manual, DDI 0337E (the 2 of a register target is not checked
    # against it). The 3 behind a load is from 3.3.2.
    refill=Refill(immediate=1, call=1, register=2, load=3, unaligned=1, longest=3),
    floating=None,
)
"""100165_0201, 3.3.1, table 3-1, and 3.3.2."""

CORTEX_M4 = replace(
    CORTEX_M3,
    basis="pipeline and hazards of the cortex-m4 by its manual; quotients and refills assumed "
    "within its ranges",
    multiply_add=1,
    multiply_long=1,
    multiply_long_add=1,
    # Measured on an STM32F407 (same source): only the reuse of the same base hinders.
    indexed_pipelines=True,
    # FPU instruction set table; the extra cycle of a result and the exception of addends are from
    # the notes under it. One measurement has 1 for the transfer of one register
    # (compendium.i-0.nl).
    floating=FloatCycles(arithmetic=1, transfer=2, multiply_add=3, divide=14, result=1),
)
"""100166_0001, 3.3.1, table 3-1, 3.3.2, and the FPU's functional description; else as the M3."""

CORTEX_M33 = replace(
    CORTEX_M4,
    basis="pipeline and hazards of the cortex-m4, assumed to hold for the cortex-m33",
)
"""Assumed equal to the M4: Arm publishes no table.

Measurements on an RP2350 (github.com/jnk0le/random, "pipeline cycle test") contradict in both
directions: multiple accesses take N instead of 1 + N, 16-bit branches that are not taken issue
beside the instruction before them; loaded values and products are late by one cycle for a use just
behind them.
"""


@dataclass(frozen=True)
class Latency:
    """Cycles from the issue of an instruction to the earliest issue of one that uses its result.

    Zero where both can issue together.

    Attributes:
        operand: as a plain operand.
        early: as an operand that is shifted or extended first, and as part of an address.
        addend: as what a product is added to.
        stored: as the value of a store.
    """

    operand: int
    early: int
    addend: int
    stored: int


@dataclass(frozen=True)
class DualIssueTable:
    """Timing of a core that issues up to two instructions a cycle, in order.

    Attributes:
        basis: what is timed, and what that rests on, in words that a report prints.
        arithmetic: moves, sums, logic, shifts.
        ahead: of those, what the first of two stages can compute.
        packed: bit fields, extensions, packed arithmetic.
        multiply: all products.
        load: of a word.
        load_narrow: of a byte or half word.
        load_float: into a float register.
        written_back: the base register of an access that changes it.
        multiple_words: that one cycle of a multiple load or store moves.
        divide: cycles of an integer quotient, during which nothing issues.
        floating: sum, product, comparison, conversion.
        float_move: moves of float registers.
        float_to_core: transfer to a core register.
        multiply_add: fused product and sum; one more for the chained one, but as an addend.
        float_divide: cycles of a quotient, during which nothing issues.
        float_root: the same for a square root.
        mispredicted: cycles lost to a wrong prediction.
        mispredicted_settled: the same where the flags were ready `settled` cycles earlier.
        settled: see there.
    """

    basis: str
    arithmetic: Latency
    ahead: Latency
    packed: Latency
    multiply: Latency
    load: Latency
    load_narrow: Latency
    load_float: Latency
    written_back: Latency
    multiple_words: int
    divide: int
    floating: Latency
    float_move: Latency
    float_to_core: Latency
    multiply_add: Latency
    float_divide: int
    float_root: int
    mispredicted: int
    mispredicted_settled: int
    settled: int


CORTEX_M7 = DualIssueTable(
    basis="dual issue and hazards of the cortex-m7 as others measured them, integer division "
    "assumed",
    arithmetic=Latency(operand=1, early=2, addend=0, stored=0),
    ahead=Latency(operand=0, early=1, addend=0, stored=0),
    packed=Latency(operand=1, early=2, addend=0, stored=0),
    multiply=Latency(operand=2, early=3, addend=1, stored=0),
    load=Latency(operand=1, early=2, addend=1, stored=0),
    load_narrow=Latency(operand=2, early=3, addend=1, stored=0),
    load_float=Latency(operand=1, early=1, addend=3, stored=0),
    written_back=Latency(operand=1, early=1, addend=1, stored=1),
    multiple_words=2,
    # Typical operands; assumed.
    divide=7,
    floating=Latency(operand=3, early=3, addend=3, stored=1),
    float_move=Latency(operand=3, early=3, addend=3, stored=1),
    float_to_core=Latency(operand=2, early=3, addend=0, stored=0),
    multiply_add=Latency(operand=5, early=5, addend=3, stored=3),
    float_divide=16,
    float_root=14,
    mispredicted=8,
    mispredicted_settled=6,
    settled=3,
)
"""Arm publishes no table. Measured on an STM32H743 (github.com/jnk0le/random, "pipeline cycle
test", Cortex-M7), whose author finds LLVM's scheduling model and quinapalus.com/cm7cycles.html in
agreement where they say something."""


CycleTable = SingleIssueTable | DualIssueTable | HeliumTable
