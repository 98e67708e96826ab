"""Assembly kernels whose cycles follow from manuals: what they are and how they are measured.

A kernel is a few instructions. They stand in a row, `FEW` times and `MANY` times, or form a loop
that runs as many rounds; the difference of the two, over the difference in copies or rounds, is
what one copy or round takes once everything has settled. Entry and return cancel out.

Every kernel carries, per core, the cycles counted by hand and the words that derive them. The
words rest on manuals and on measurements that others published, never on the model's own code:
``micro_table.py`` holds the kernels for zero wait states, ``flash_table.py`` those that run from
flash.

Registers of a kernel: r0 is the address of RAM, r1 the rounds of a loop, r2 the address of
constants in flash; r12 holds the return address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.targets.emulator import Emulator
from edgekit.targets.image import build_image
from edgekit.targets.library import Layer, Library, Port
from edgekit.targets.target import Target
from edgekit.targets.toolchain import Toolchain

FEW, MANY = 4, 14
"""Copies or rounds of the two runs."""

CONSTANT_BYTES = 1024
ARENA_BYTES = 1024


@dataclass(frozen=True)
class Hand:
    """What one copy or round takes, counted by hand.

    Attributes:
        low: fewest cycles.
        high: most cycles; the same where the manual leaves nothing open.
        why: how the count comes about, with its sources.
        is_assumed: whether it is another core's, for want of figures of this one.
    """

    low: float
    high: float
    why: str
    is_assumed: bool = False

    def error(self, cycles: float) -> float:
        """Relative distance of `cycles` from the count; 0 anywhere within a range.

        >>> Hand(4, 5, "").error(6), Hand(3, 5, "").error(4)
        (0.2, 0.0)
        """
        nearest = min(max(cycles, self.low), self.high)
        return round(cycles / nearest - 1, 9)

    @property
    def is_exact(self) -> bool:
        """Whether the count is one figure."""
        return self.low == self.high


def exactly(cycles: float, why: str) -> Hand:
    """A count that leaves nothing open."""
    return Hand(cycles, cycles, why)


@dataclass(frozen=True)
class MicroKernel:
    """A few instructions.

    Attributes:
        name: identifier.
        what: they are, in words.
        body: one copy or round, assembly.
        hand: cycles by core.
        is_loop: whether the body is a loop's, which SUBS and BNE close; they are counted too.
        setup: runs once before.
        lead: stands between the aligned border that copies begin at and the first copy.
        beside: functions and literals that stand behind the kernel.
    """

    name: str
    what: str
    body: str
    hand: Mapping[str, Hand]
    is_loop: bool = False
    setup: str = ""
    lead: str = ""
    beside: str = ""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of its functions: one for a loop, few and many copies otherwise."""
        counts = ("",) if self.is_loop else (f"_{FEW}", f"_{MANY}")
        return tuple(f"micro_{self.name}{count}" for count in counts)

    @property
    def assembly(self) -> str:
        """All its functions."""
        if self.is_loop:
            loop = f"1:\n{self.body}\nsubs r1, r1, #1\nbne 1b"
            return self._function(self.symbols[0], loop)
        copies = zip(self.symbols, (FEW, MANY), strict=True)
        return "\n".join(self._function(s, "\n".join([self.body] * n)) for s, n in copies)

    def _function(self, symbol: str, code: str) -> str:
        return "\n".join(
            (
                f'.section .text.{symbol},"ax",%progbits',
                f".balign 32\n.global {symbol}\n.type {symbol}, %function\n.thumb_func",
                f"{symbol}:\nmov r12, lr\n{self.setup}",
                f".balign 32\n{self.lead}\n{code}\nbx r12\n{self.beside}",
                f".size {symbol}, . - {symbol}",
            )
        )


def library_of(kernels: Sequence[MicroKernel], core: str) -> Library:
    """The kernels as a library that an image for `core` can be built from."""
    # clang knows an M33's DSP instructions in a file's assembly only if it names the core.
    head = f".syntax unified\n.cpu {core}\n.thumb\n"
    text = head + "\n".join(kernel.assembly for kernel in kernels)
    lines = "\n".join(f'    "{line}\\n"' for line in text.replace('"', '\\"').splitlines())
    symbols = [symbol for kernel in kernels for symbol in kernel.symbols]
    return Library(
        name="micro",
        prefix="micro_",
        files={"micro.h": _HEADER, "micro.c": _SOURCE, "kernels.c": f"__asm__(\n{lines});\n"},
        arena_bytes=ARENA_BYTES,
        arena_alignment=32,
        state_bytes=0,
        weights_bytes=CONSTANT_BYTES,
        inputs=(Port("x", "x", 4, 0),),
        outputs=(Port("y", "y", 4, 4),),
        layers=tuple(Layer(symbol, symbol, "kernel") for symbol in symbols),
    )


def measure(
    kernels: Sequence[MicroKernel], target: Target, *, folder: Path, toolchain: Toolchain
) -> dict[str, float]:
    """Modelled cycles of one copy or round, by the kernel's name.

    Args:
        kernels: all with a hand count for the target's core, as others may not assemble.
        target: whose core and memories are modelled.
        folder: build folder.
        toolchain: assembles them.
    """
    library = library_of(kernels, target.cortex.name)
    image = build_image(library, target, folder=folder, toolchain=toolchain)
    image.require_fit()
    with Emulator(target, image.elf) as emulator:
        return {kernel.name: _steady(kernel, emulator) for kernel in kernels}


def of_core(kernels: Iterable[MicroKernel], core: str) -> list[MicroKernel]:
    """The kernels that have a hand count for a core."""
    return [kernel for kernel in kernels if core in kernel.hand]


def _steady(kernel: MicroKernel, emulator: Emulator) -> float:
    few, many = (
        _cycles(emulator, symbol, rounds)
        for symbol, rounds in zip(
            kernel.symbols if not kernel.is_loop else 2 * kernel.symbols, (FEW, MANY), strict=True
        )
    )
    return (many - few) / (MANY - FEW)


def _cycles(emulator: Emulator, symbol: str, rounds: int) -> float:
    addresses = emulator.symbol("ek_arena"), rounds, emulator.symbol("micro_constants")
    # The fewer rounds must not fill caches for the more.
    emulator.empty_caches()
    _, count = emulator.count(symbol, *addresses)
    assert count.cycles is not None
    return count.cycles


_HEADER = f"""#ifndef MICRO_H
#define MICRO_H
#include <stdint.h>
#define MICRO_ARENA_BYTES {ARENA_BYTES}
#define MICRO_STATE_BYTES 0
#define MICRO_INPUT_0_OFFSET 0
#define MICRO_INPUT_0_BYTES 4
#define MICRO_OUTPUT_0_OFFSET 4
#define MICRO_OUTPUT_0_BYTES 4
typedef struct micro_context {{ int unused; }} micro_context;
int micro_init(micro_context *ctx, void *arena, void *state, const void *weights);
int micro_run(micro_context *ctx);
int micro_step(micro_context *ctx);
void micro_reset(micro_context *ctx);
#endif
"""

_SOURCE = f"""#include "micro.h"
extern const uint8_t micro_constants[{CONSTANT_BYTES}];
__attribute__((section(".ek_weights"), used, aligned(32)))
const uint8_t micro_constants[{CONSTANT_BYTES}] = {{1}};
const volatile uint8_t *micro_used;
int micro_init(micro_context *ctx, void *arena, void *state, const void *weights)
{{
    (void)ctx, (void)arena, (void)state, (void)weights;
    micro_used = micro_constants;
    return 0;
}}
int micro_step(micro_context *ctx) {{ (void)ctx; return 0; }}
int micro_run(micro_context *ctx) {{ return micro_step(ctx); }}
void micro_reset(micro_context *ctx) {{ (void)ctx; }}
"""
