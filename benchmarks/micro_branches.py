"""Kernels that jump: branches, calls, loops, dot products; see ``micro_sources.py``."""

from __future__ import annotations

from micro_kernels import MicroKernel, exactly
from micro_sources import IMMEDIATE, PIPELINED, alike, hands

BRANCHES = (
    MicroKernel(
        "branch",
        "a jump to the next instruction",
        "b 1f\n1:",
        hands(
            m0plus=exactly(2, "M0+ table: B 2"),
            **alike(2, IMMEDIATE),
        ),
    ),
    MicroKernel(
        "branch_not_taken",
        "a conditional branch that is not taken, and a move",
        "bne 1f\nmov r3, r4\n1:",
        hands(
            m0plus=exactly(2, "M0+ table: B<cc> 1 if not taken, MOV 1"),
            **alike(2, "M3/M4 table: B<cc> 1 if not taken, MOV 1"),
            m7=exactly(1, "M7 notes: a not-taken branch issues with the instruction behind it"),
        ),
        setup="cmp r0, r0",
    ),
    MicroKernel(
        "forward_taken",
        "a loop around a conditional branch forward that is always taken",
        "cmp r0, r0\nbeq 2f\nmov r3, r4\n2:",
        hands(
            m0plus=exactly(6, "M0+ table: CMP 1, B<cc> 2, SUBS 1, B<cc> 2"),
            **alike(6, f"CMP 1, SUBS 1; {IMMEDIATE}: 2 each"),
            m7=exactly(
                2,
                "M7 notes: 'Predicted (any direction and length) taken branch' issues beside "
                "another instruction: four instructions, two of them branches",
            ),
        ),
        is_loop=True,
    ),
    MicroKernel(
        "countdown",
        "an empty loop",
        "",
        hands(
            m0plus=exactly(3, "M0+ table: SUBS 1, B<cc> 2 if taken"),
            **alike(3, f"SUBS 1; {IMMEDIATE}: 2"),
        ),
        is_loop=True,
    ),
    MicroKernel(
        "long_loop",
        "a loop over 18 independent moves",
        "\n".join(["mov r3, r4\nmov r5, r6"] * 9),
        hands(
            m0plus=exactly(21, "M0+ table: 18 x MOV 1, SUBS 1, B<cc> 2"),
            **alike(21, f"18 x MOV 1, SUBS 1; {IMMEDIATE}: 2"),
            m7=exactly(
                10,
                "M7 notes: 20 instructions, one of them a branch, 'execute in exactly 10 cycles'",
            ),
        ),
        is_loop=True,
    ),
    MicroKernel(
        "divided_target",
        "a loop that begins with a 32-bit instruction across a word border",
        "add.w r3, r4, r5",
        hands(
            **alike(
                5,
                f"ADD 1, SUBS 1; {IMMEDIATE}: 2, and 1 for the target (measured on a Cortex-M4: "
                "compendium.i-0.nl, instruction alignment, rules: 'Branches to unaligned wide "
                "instructions will take one extra cycle')",
            ),
        ),
        is_loop=True,
        lead="mov r6, r7",
    ),
    MicroKernel(
        "call",
        "a call of a function that returns at once",
        "bl 7f",
        hands(
            m0plus=exactly(5, "M0+ table: BL 3, BX 2"),
            **alike(5, "M3/M4 table: BL 1 + P with P = 1, BX 1 + P with P = 2 (micro_sources.py)"),
        ),
        beside=".balign 4\n7: bx lr",
    ),
    MicroKernel(
        "call_push",
        "a call of a function that pushes and returns by POP",
        "bl 7f",
        hands(
            m0plus=exactly(11, "M0+ table: BL 3, PUSH 1 + 2, POP with PC 3 + 2"),
            **alike(11, "M3/M4 table: BL 1 + 1, PUSH 1 + 2, POP 1 + N + P = 1 + 2 + 3"),
        ),
        beside=".balign 4\n7: push {r4, lr}\npop {r4, pc}",
    ),
)
"""Jumps, calls and loops."""

DOT_PRODUCTS = (
    MicroKernel(
        "dot_mla",
        "a dot product of words: two loads and MLA in a loop",
        "ldr r3, [r0]\nldr r4, [r0, #4]\nmla r5, r3, r4, r5",
        hands(
            m3=exactly(8, f"LDR 2, LDR 1 ({PIPELINED}), MLA 2, SUBS 1; {IMMEDIATE}: 2"),
            m4=exactly(7, f"LDR 2, LDR 1 ({PIPELINED}), MLA 1, SUBS 1; {IMMEDIATE}: 2"),
        ),
        is_loop=True,
    ),
    MicroKernel(
        "dot_smlad",
        "a dot product of 16-bit pairs: two loads and SMLAD in a loop",
        "ldr r3, [r0]\nldr r4, [r0, #4]\nsmlad r5, r3, r4, r5",
        hands(m4=exactly(7, f"LDR 2, LDR 1 ({PIPELINED}), SMLAD 1, SUBS 1; {IMMEDIATE}: 2")),
        is_loop=True,
    ),
    MicroKernel(
        "dot_muls",
        "a dot product in ARMv6-M: two loads, MULS and ADDS in a loop",
        "ldr r3, [r0]\nldr r4, [r0, #4]\nmuls r3, r4, r3\nadds r5, r5, r3",
        hands(
            m0plus=exactly(9, "M0+ table: LDR 2 + 2, MULS 1, ADDS 1, SUBS 1, B<cc> 2"),
            **alike(8, f"LDR 2, LDR 1 ({PIPELINED}), MUL 1, ADD 1, SUBS 1; {IMMEDIATE}: 2"),
        ),
        is_loop=True,
    ),
    MicroKernel(
        "dot_pipelined",
        "SMLAD on words loaded one step earlier, unrolled twice",
        "ldr r3, [r0]\nldr r4, [r0, #4]\nsmlad r7, r5, r6, r7\n"
        "ldr r5, [r0, #8]\nldr r6, [r0, #12]\nsmlad r7, r3, r4, r7",
        hands(
            m4=exactly(8, f"twice: LDR 2, LDR 1 ({PIPELINED}), SMLAD 1"),
            m7=exactly(
                3,
                "M7 notes: both loads together; SMLAD beside a load; a load beside SMLAD, whose "
                "operands were loaded two cycles before; one accumulation a cycle",
            ),
        ),
    ),
)
"""What int8 kernels are made of."""
