"""Arithmetic kernels, integer and float; see ``micro_sources.py`` for what counts rest on."""

from __future__ import annotations

from micro_kernels import Hand, MicroKernel, exactly
from micro_sources import alike, hands

ARITHMETIC = (
    MicroKernel(
        "moves",
        "two independent moves",
        "mov r3, r4\nmov r5, r6",
        hands(
            m0plus=exactly(2, "M0+ table: MOV 1 each"),
            **alike(2, "M3/M4 table: MOV 1 each"),
            m7=exactly(1, "M7 notes: two plain register operations issue together"),
        ),
    ),
    MicroKernel(
        "add_chain",
        "an addition to its own result",
        "adds r3, r3, r4",
        hands(
            m0plus=exactly(1, "M0+ table: ADDS 1"),
            **alike(1, "M3/M4 table: ADD 1, results are forwarded"),
            m7=exactly(
                1,
                "M7 notes: an older addition's result reaches the younger one in the same cycle "
                "only from the early ALU, whose operands must be ready a cycle earlier; in an "
                "endless chain they never are, so one addition a cycle",
            ),
        ),
    ),
    MicroKernel(
        "shifted_adds",
        "two independent additions of shifted operands",
        "add r3, r4, r5, lsl #3\nadd r6, r4, r5, lsl #2",
        hands(
            **alike(2, "M3/M4 table: ADD with <op2> 1 each, shifted or not"),
            m7=exactly(2, "M7 notes: inline shifted operands cannot issue beside each other"),
        ),
    ),
    MicroKernel(
        "mul_chain",
        "a product of its own result",
        "muls r3, r4, r3",
        hands(
            m0plus=exactly(1, "M0+ table: MULS 1 with the fast multiplier"),
            **alike(1, "M3/M4 table: MUL 1"),
            m7=exactly(2, "M7 notes: every multiplication has one more cycle of latency: 1 + 1"),
        ),
    ),
    MicroKernel(
        "mla_chain",
        "a product added to its own result",
        "mla r3, r4, r5, r3",
        hands(
            m3=exactly(2, "M3 table: MLA 2"),
            m4=exactly(1, "M4 table: MLA 1"),
            m7=exactly(1, "M7 notes: accumulations chain every cycle"),
        ),
    ),
    MicroKernel(
        "smlad_chain",
        "two products of halves added to their own result",
        "smlad r3, r4, r5, r3",
        hands(
            m4=exactly(1, "M4 table: SMLAD 1"),
            m7=exactly(1, "M7 notes: accumulations chain every cycle"),
        ),
    ),
    MicroKernel(
        "umull",
        "a 64-bit product",
        "umull r5, r6, r3, r4",
        hands(
            m3=Hand(3, 5, "M3 table: UMULL 3 to 5, early termination by the operands' size"),
            m4=exactly(1, "M4 table: UMULL 1"),
            m7=exactly(1, "M7 notes: one multiplication a cycle"),
        ),
    ),
    MicroKernel(
        "smlal",
        "a 64-bit product added to its own result",
        "smlal r5, r6, r3, r4",
        hands(
            m3=Hand(4, 7, "M3 table: SMLAL 4 to 7, early termination by the operands' size"),
            m4=exactly(1, "M4 table: SMLAL 1"),
            m7=exactly(1, "M7 notes: accumulations chain every cycle"),
        ),
    ),
    MicroKernel(
        "divide",
        "an unsigned division",
        "udiv r5, r3, r4",
        hands(
            m3=Hand(2, 12, "M3 table: UDIV 2 to 12, by the number of leading zeros"),
            m4=Hand(2, 12, "M4 table: UDIV 2 to 12, by the number of leading zeros"),
        ),
    ),
    MicroKernel(
        "extends",
        "two sign extensions of byte pairs",
        "sxtb16 r3, r4\nsxtb16 r5, r4, ror #8",
        hands(
            m4=exactly(2, "M4 table: SXTB16 1 each"),
            m7=exactly(2, "M7 notes: bit field and DSP operations cannot issue beside each other"),
        ),
    ),
    MicroKernel(
        "it_skipped",
        "comparison, IT and an addition that it skips",
        "cmp r3, r3\nit ne\naddne r4, r4, #1",
        hands(
            **alike(
                2,
                "M3/M4 table: CMP 1, skipped ADD 1; IT behind a 16-bit instruction is folded onto "
                "it and takes 0 ('can be folded', taken as: is)",
            ),
        ),
    ),
)
"""Arithmetic."""

_FPU = "M4 FPU table"
_NEXT = "one more where the next instruction uses the result"

FLOAT = (
    MicroKernel(
        "vadd_chain",
        "a float addition to its own result",
        "vadd.f32 s0, s0, s1",
        hands(
            m4=exactly(2, f"{_FPU}: VADD 1, {_NEXT}"),
            m7=exactly(3, "M7 notes: VADD 3 until the next VADD"),
        ),
    ),
    MicroKernel(
        "vadds",
        "three independent float additions",
        "vadd.f32 s0, s4, s5\nvadd.f32 s1, s4, s5\nvadd.f32 s2, s4, s5",
        hands(
            m4=exactly(3, f"{_FPU}: VADD 1 each"),
            m7=exactly(3, "M7 notes: float arithmetic cannot issue beside each other: 1 each"),
        ),
    ),
    MicroKernel(
        "vfma_chain",
        "a float product added to its own result",
        "vfma.f32 s0, s1, s2",
        hands(
            m4=exactly(3, f"{_FPU}: VFMA 3"),
            m7=exactly(3, "M7 notes: VFMA 3 until the next takes it as its accumulator"),
        ),
    ),
    MicroKernel(
        "vmul_vmov",
        "a float product, a move, and an addition of the product",
        "vmul.f32 s0, s1, s2\nmov r3, r4\nvadd.f32 s3, s4, s0\nmov r5, r6",
        hands(m4=exactly(4, f"{_FPU}: VMUL 1, VADD 1; MOV 1 each stands between result and use")),
    ),
    MicroKernel(
        "vdiv",
        "a float division",
        "vdiv.f32 s0, s1, s2",
        hands(
            m4=exactly(14, f"{_FPU}: VDIV 14"),
            m7=exactly(16, "M7 notes: VDIV 16"),
        ),
        setup="movs r3, #0x3f\nlsls r3, r3, #24\nvmov s1, r3\nvmov s2, r3",
    ),
    MicroKernel(
        "vldr",
        "a float loaded, and a move",
        "vldr s0, [r0]\nmov r3, r4",
        hands(m4=exactly(3, f"{_FPU}: VLDR 2; MOV 1")),
    ),
)
"""Single-precision floating point."""
