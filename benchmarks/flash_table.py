"""Kernels that run from flash with wait states, with the cycles of one copy or round by hand.

The arithmetic is what ST's reference manuals draw for their flash accelerator (RM0432 3.3.4 with
the figure of sequential 16-bit instructions on a 64-bit flash, RM0090 3.5.2 for 128 bits; from
memory, not checked against the manuals). One access reads a line of 8 bytes and takes a cycle and
the wait states w.

- Without prefetch the core stops w cycles at every new line: it has executed what the last line
  held before the next one is asked for.
- With prefetch the next line is read while this one is executed: a line takes the longer of its
  execution and 1 + w.
- The line read last is at hand; what a cache holds takes no wait states.
- Data read from flash stops the core w cycles at every new line; a line's second word is there.

The last two, and that instructions and data have a line at hand each, are our reading of how such a
flash interface is built. The boards below exist in these tables only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from micro_kernels import Hand, MicroKernel, exactly

from edgekit.targets.board import Board, Cache
from edgekit.targets.cores import Memory
from edgekit.targets.target import Target, of_board

WAIT_STATES = (0, 2, 5)
LINE_BYTES = 8

NONE, INSTRUCTIONS, BOTH = "none", "instructions", "both"


@dataclass(frozen=True)
class Flash:
    """What stands between a core and the cells of its flash.

    Attributes:
        core: of the board.
        prefetch: whether the next line is read ahead.
        cached: what is cached: ``none``, ``instructions``, ``both``.
    """

    core: str
    prefetch: bool = False
    cached: str = NONE

    def board(self, wait_states: int) -> Target:
        """A board with this flash, and RAM without wait states."""
        words = f"w{wait_states}-{'prefetch' if self.prefetch else 'plain'}-{self.cached}"
        cache = Cache("cache", self.cached, ("flash",), 4096, LINE_BYTES, 2)
        board = Board(
            name=f"{self.core}-{words}",
            vendor="none",
            mcu="none",
            core=self.core,
            clock_hz=100_000_000,
            memories=(
                Memory(
                    *("flash", "flash", 0x0800_0000, 1 << 18),
                    wait_states=wait_states,
                    line_bytes=LINE_BYTES,
                    prefetch=self.prefetch,
                ),
                Memory("ram", "ram", 0x2000_0000, 1 << 16, wait_states=0),
            ),
            caches=() if self.cached == NONE else (cache,),
        )
        return of_board(board)


@dataclass(frozen=True)
class FlashCase:
    """A kernel with its cycles on one kind of flash.

    Attributes:
        flash: which.
        kernel: without hand counts of its own.
        hand: cycles by wait states.
    """

    flash: Flash
    kernel: MicroKernel
    hand: Mapping[int, Hand]


def case(flash: Flash, kernel: MicroKernel, *cycles: float | Hand, why: str) -> FlashCase:
    """A case from its cycles at each of `WAIT_STATES`."""
    hands = (c if isinstance(c, Hand) else exactly(c, why) for c in cycles)
    return FlashCase(flash, kernel, dict(zip(WAIT_STATES, hands, strict=True)))


MOVES_16 = MicroKernel(
    "moves_16", "four 16-bit moves, a line of flash", "mov r3, r4\nmov r5, r6\n" * 2, {}
)
MOVES_32 = MicroKernel(
    "moves_32", "two 32-bit additions, a line of flash", "add.w r3, r4, r5\nadd.w r6, r4, r5", {}
)
ONE_LINE = MicroKernel("one_line", "a loop within one line", "", {}, is_loop=True)
TWO_LINES = MicroKernel(
    "two_lines", "a loop of two lines", "mov r3, r4\nmov r5, r6\n" * 3, {}, is_loop=True
)
LONG_LOOP = MicroKernel(
    "long_loop", "a loop of 64 moves", "mov r3, r4\nmov r5, r6\n" * 32, {}, is_loop=True
)
LITERALS = MicroKernel(
    "literals",
    "two literals from different lines in a loop",
    "ldr r3, 7f\nldr r4, 8f",
    {},
    is_loop=True,
    beside=".balign 32\n7: .word 1\n.balign 32\n8: .word 2",
)
DOT_SMLAD = MicroKernel(
    "dot_smlad",
    "a dot product of 16-bit pairs, one factor streamed from flash",
    "ldr r3, [r2]\nldr r4, [r2, #4]\nadds r2, r2, #8\nldr r5, [r0]\nldr r6, [r0, #4]\n"
    "smlad r7, r3, r5, r7\nsmlad r7, r4, r6, r7",
    {},
    is_loop=True,
)
DOT_AGAIN = MicroKernel(
    "dot_again",
    "a dot product of 16-bit pairs, one factor in flash and read again and again",
    DOT_SMLAD.body.replace("adds r2, r2, #8\n", ""),
    {},
    is_loop=True,
)
DOT_MULS = MicroKernel(
    "dot_muls",
    "a dot product in ARMv6-M, one factor streamed from flash",
    "ldr r3, [r2]\nldr r4, [r2, #4]\nadds r2, r2, #8\nldr r5, [r0]\nldr r6, [r0, #4]\n"
    "muls r3, r5, r3\nmuls r4, r6, r4\nadds r7, r7, r3\nadds r7, r7, r4",
    {},
    is_loop=True,
)

_M4, _M0 = "cortex-m4", "cortex-m0plus"

FLASH_CASES = (
    case(Flash(_M4), MOVES_16, 4, 6, 9, why="4 moves of 1, and w at the new line"),
    case(Flash(_M0), MOVES_16, 4, 6, 9, why="4 moves of 1, and w at the new line"),
    case(Flash(_M4, prefetch=True), MOVES_16, 4, 4, 6, why="4 moves of 1, or 1 + w if longer"),
    case(Flash(_M0, prefetch=True), MOVES_16, 4, 4, 6, why="4 moves of 1, or 1 + w if longer"),
    case(Flash(_M4), MOVES_32, 2, 4, 7, why="2 additions of 1, and w at the new line"),
    case(Flash(_M4, prefetch=True), MOVES_32, 2, 3, 6, why="2 additions of 1, or 1 + w if longer"),
    case(Flash(_M4), ONE_LINE, 3, 3, 3, why="SUBS 1, BNE 2; the line stays at hand"),
    case(Flash(_M0), ONE_LINE, 3, 3, 3, why="SUBS 1, BNE 2; the line stays at hand"),
    case(
        *(Flash(_M4), TWO_LINES, 9, 13, 19),
        why="6 moves of 1, SUBS 1, BNE 2; w at the second line and again at the first",
    ),
    case(
        *(Flash(_M4, prefetch=True), TWO_LINES, 9, 11),
        Hand(
            *(16, 18),
            "as without prefetch, but 1 + w - 4 = 2 at the second line, which is read beside the 4 "
            "moves of the first; then w at the first, whose read is asked for when the useless one "
            "of the third line still needs 2 cycles: 16 if flash gives that up, 18 if it goes on",
        ),
        why="6 moves of 1, SUBS 1, BNE 2; the second line is read beside the first; w at the first",
    ),
    case(
        *(Flash(_M4, cached=INSTRUCTIONS), LONG_LOOP, 67, 67, 67),
        why="64 moves of 1, SUBS 1, BNE 2; everything from the cache after the first round",
    ),
    case(
        *(Flash(_M4, prefetch=True, cached=BOTH), LONG_LOOP, 67, 67, 67),
        why="64 moves of 1, SUBS 1, BNE 2; everything from the cache after the first round",
    ),
    case(
        *(Flash(_M0, cached=BOTH), LONG_LOOP, 67, 67, 67),
        why="64 moves of 1, SUBS 1, BNE 2; everything from the cache after the first round",
    ),
    case(
        *(Flash(_M0, cached=BOTH), MOVES_16, 4, 6, 9),
        why="code that runs for the first time, as from an XIP cache: every line misses, w",
    ),
    case(
        *(Flash(_M4, cached=INSTRUCTIONS), LITERALS, 6, 10, 16),
        why="LDR 2 + 1, SUBS 1, BNE 2; each literal displaces the other's line: w each",
    ),
    case(
        *(Flash(_M4, prefetch=True, cached=BOTH), LITERALS, 6, 6, 6),
        why="LDR 2 + 1, SUBS 1, BNE 2; both literals stay in the cache",
    ),
    case(
        *(Flash(_M4, cached=INSTRUCTIONS), DOT_SMLAD, 12, 14, 17),
        why="LDR 2 + 1, ADD 1, LDR 2 + 1, SMLAD 1 + 1, SUBS 1, BNE 2; one line of data: w",
    ),
    case(
        *(Flash(_M4, prefetch=True, cached=BOTH), DOT_SMLAD, 12, 14, 17),
        why="LDR 2 + 1, ADD 1, LDR 2 + 1, SMLAD 1 + 1, SUBS 1, BNE 2; every line of data is new: w",
    ),
    case(
        *(Flash(_M4, prefetch=True, cached=BOTH), DOT_AGAIN, 10, 10, 10),
        why="LDR 2 + 1 + 1 + 1, SMLAD 1 + 1, SUBS 1, BNE 2; the data stays in the cache",
    ),
    case(
        *(Flash(_M0, cached=INSTRUCTIONS), DOT_MULS, 16, 18, 21),
        why="LDR 2 + 2, ADDS 1, LDR 2 + 2, MULS 1 + 1, ADDS 1 + 1, SUBS 1, BNE 2; one line: w",
    ),
)
"""All kernels from flash."""
