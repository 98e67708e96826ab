"""Kernels that load and store; see ``micro_sources.py`` for what counts rest on."""

from __future__ import annotations

from micro_kernels import MicroKernel, exactly
from micro_sources import PIPELINED, alike, hands

MEMORY = (
    MicroKernel(
        "load_use",
        "a load and an addition of what it loads",
        "ldr r3, [r0]\nadds r4, r4, r3",
        hands(
            m0plus=exactly(3, "M0+ table: LDR 2, ADDS 1"),
            **alike(3, "M3/M4 table: LDR 2, of which the second waits for its data, ADD 1"),
            m7=exactly(
                1,
                "M7 notes: the late ALU takes a loaded word in the next cycle, beside a new load",
            ),
        ),
    ),
    MicroKernel(
        "loads",
        "two independent loads, in a row of such pairs",
        "ldr r3, [r0]\nldr r4, [r0, #4]",
        hands(
            m0plus=exactly(4, "M0+ table: LDR 2 each, nothing pipelines"),
            **alike(2, f"{PIPELINED}: 2 + 1 + 1 ...; in an endless row 1 each"),
            m7=exactly(1, "M7 notes: loads of an even and an odd word issue together"),
        ),
    ),
    MicroKernel(
        "three_loads",
        "three independent loads and a move",
        "ldr r3, [r0]\nldr r4, [r0, #4]\nldr r5, [r0, #8]\nmov r6, r7",
        hands(
            m0plus=exactly(7, "M0+ table: LDR 2 each, MOV 1"),
            **alike(5, "pairing: LDR, LDR, LDR 'normally four cycles total'; MOV 1"),
            m7=exactly(2, "M7 notes: even and odd word together; the third beside MOV"),
        ),
    ),
    MicroKernel(
        "pointers",
        "a load whose address is what it loaded before",
        "ldr r3, [r3]",
        hands(
            m0plus=exactly(2, "M0+ table: LDR 2"),
            **alike(2, "pairing: not pipelined where the address depends on the load before: 2"),
            m7=exactly(
                2,
                "M7 notes: the next cycle for the late ALU, one more for what needs its operand "
                "early, as address generation does",
            ),
        ),
        setup="str r0, [r0]\nmov r3, r0",
    ),
    MicroKernel(
        "load_store",
        "a load and a store of what it loads",
        "ldr r3, [r0]\nstr r3, [r0, #4]",
        hands(
            m0plus=exactly(4, "M0+ table: LDR 2, STR 2"),
            **alike(
                3,
                "pairing: 'LDR R0,[R1,R2]; STR R0,[R3,#20] - normally three cycles total'; nothing "
                "pipelines behind a store, so the next LDR takes its 2 again",
            ),
            m7=exactly(1, "M7 notes: load and store issue together, the store takes the same word"),
        ),
    ),
    MicroKernel(
        "load_store_indexed",
        "a load and a store, both with register offset",
        "ldr r3, [r0, r4]\nstr r5, [r0, r4]",
        hands(
            m0plus=exactly(4, "M0+ table: LDR 2, STR 2"),
            **alike(
                3,
                "pairing: 'LDR R0,[R1,R2]; STR R1,[R3,R2] - normally three cycles total'; the next "
                "LDR takes its 2 again",
            ),
            m7=exactly(1, "M7 notes: a load and a store issue together"),
        ),
        setup="movs r4, #8",
    ),
    MicroKernel(
        "stores",
        "two stores with immediate offsets",
        "str r3, [r0]\nstr r4, [r0, #4]",
        hands(
            m0plus=exactly(4, "M0+ table: STR 2 each"),
            **alike(2, "pairing: 'STR Rx,[Ry,#imm] is always one cycle'"),
            m7=exactly(2, "M7 notes: two stores cannot issue together"),
        ),
    ),
    MicroKernel(
        "stores_indexed",
        "a store with register offset",
        "str r3, [r0, r4]",
        hands(
            m0plus=exactly(2, "M0+ table: STR 2"),
            **alike(2, "M3/M4 table: STR 2; pairing: nothing can be pipelined after the store"),
            m7=exactly(1, "M7 notes: one store a cycle"),
        ),
        setup="movs r4, #8",
    ),
    MicroKernel(
        "store_load",
        "a store and a load behind it",
        "str r3, [r0]\nldr r4, [r0, #4]\nmov r5, r6",
        hands(
            m0plus=exactly(5, "M0+ table: STR 2, LDR 2, MOV 1"),
            **alike(4, "pairing: STR immediate 1; nothing pipelines behind it: LDR 2; MOV 1"),
        ),
    ),
    MicroKernel(
        "computed_address",
        "an addition and a load from its result",
        "adds r3, r0, #4\nldr r4, [r3]",
        hands(
            m0plus=exactly(3, "M0+ table: ADDS 1, LDR 2"),
            **alike(
                4,
                "ADD 1, LDR 2; pairing: an address that depends on the data processing instruction "
                "before 'stalls the pipeline for an additional cycle': 1",
            ),
        ),
    ),
    MicroKernel(
        "load_multiple",
        "four words loaded by one instruction, and a move",
        "ldmia r0!, {r3-r6}\nmov r7, r1",
        hands(
            m0plus=exactly(6, "M0+ table: LDM 1 + 4, MOV 1"),
            **alike(6, "M3/M4 table: LDM 1 + 4, MOV 1"),
            m7=exactly(3, "M7 notes: two words a cycle, nothing issues beside it; MOV 1"),
        ),
    ),
    MicroKernel(
        "push_pop",
        "four words pushed and popped",
        "push {r4-r7}\npop {r4-r7}",
        hands(
            m0plus=exactly(10, "M0+ table: PUSH 1 + 4, POP 1 + 4"),
            **alike(10, "M3/M4 table: PUSH 1 + 4, POP 1 + 4"),
            m7=exactly(4, "M7 notes: two words a cycle each, the stack being 8-byte aligned"),
        ),
    ),
    MicroKernel(
        "load_double",
        "two words loaded by LDRD",
        "ldrd r3, r4, [r0]",
        hands(
            **alike(3, "M3/M4 table: LDRD 1 + 2; pairing: not pipelined with neighbours"),
            m7=exactly(1, "M7 notes: two words in one cycle, alone"),
        ),
    ),
    MicroKernel(
        "store_double",
        "two words stored by STRD",
        "strd r3, r4, [r0]",
        hands(
            **alike(3, "M3/M4 table: STRD 1 + 2; pairing: not pipelined with neighbours"),
            m7=exactly(1, "M7 notes: two words in one cycle, alone"),
        ),
    ),
    MicroKernel(
        "literal",
        "a constant loaded from behind the code, and a move",
        "ldr r3, 9f\nmov r4, r5",
        hands(
            m0plus=exactly(3, "M0+ table: LDR literal 2, MOV 1"),
            **alike(
                3,
                "M3/M4 table: LDR 2, MOV 1; pairing: LDR Rx,[PC,#imm] 'might add a cycle because "
                "of contention with the fetch unit', taken as: does not",
            ),
        ),
        beside=".balign 4\n9: .word 0x12345678",
    ),
)
"""Loads and stores."""
