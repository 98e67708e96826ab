"""Where code lies in the pages of an emulator, which cuts it at their borders, costs nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.targets.target import target
from edgekit.targets.toolchain import find_toolchain
from tests.support.images import EMULATED, GCC, emulator_of, probe
from tests.support.scripts import script

micro: Any = script("micro_kernels")
KERNELS: Any = script("micro_table").MICRO_KERNELS

PAGE = 1024
"""Unicorn's, of these cores."""

BEFORE = (200, 4, 8, 12, 20)
"""Bytes of a kernel that stand before the border; of a loop, many more in the first case."""


def moved(kernel: Any, before: int) -> Any:
    """The kernel with so many bytes of it before a page's end. BL is there on all cores."""
    jump = f"bl 8f\n.balign {PAGE}\n.space {PAGE - before}\n8:\n"
    return replace(kernel, name=f"{kernel.name}_{before}", lead=jump + kernel.lead)


@pytest.mark.parametrize("core", EMULATED)
@pytest.mark.needs("cortex-m compiler")
def test_micro_kernels_across_borders(core: str, tmp_path: Path) -> None:
    """Every kernel that has a hand count: the same cycles at every place."""
    kernels = micro.of_core(KERNELS, core)
    placed = [moved(kernel, before) for kernel in kernels for before in BEFORE]
    got = micro.measure(placed, target(core), folder=tmp_path, toolchain=find_toolchain())
    wrong = {}
    for kernel in kernels:
        cycles = [got[f"{kernel.name}_{before}"] for before in BEFORE]
        if len(set(cycles)) > 1:
            wrong[kernel.name] = cycles
    assert not wrong


def code(before: int, body: str) -> str:
    """A function whose body has so many bytes before a page's end; r0 is an address, r1 a count."""
    lines = (
        *(".syntax unified", "push {r4-r7, lr}", "b.w 8f", f".balign {PAGE}"),
        *(f".space {PAGE - before}", "8:", *body.split("\n")),
        "pop {r4-r7, pc}",
    )
    text = " ".join(f'"{line}\\n"' for line in lines)
    return f"""
    #include <stdint.h>
    __attribute__((naked, aligned({PAGE}))) int probe_border(const uint32_t *p, uint32_t n)
    {{
        __asm volatile({text});
    }}
    """


BODIES = {
    # Accesses that are skipped, and a return, at every place of an IT block.
    "it": """cmp r1, r1
        itttt ne
        ldrne r3, [r0]
        strne r3, [r0, #4]
        ldrne r3, [r0, #8]
        popne {r4-r7, pc}""",
    "ite": """1: lsls r3, r1, #31
        itete eq
        ldreq r4, [r0]
        ldrne r5, [r0, #4]
        ldreq r6, [r4]
        ldrne r7, [r0]
        subs r1, #1
        bne 1b""",
    # Quotients, products and chains of loads, each of which waits for one before.
    "chains": """1: sdiv r2, r2, r1
        mul r3, r2, r1
        ldr r4, [r0]
        mla r3, r4, r3, r3
        ldr r5, [r0, #4]
        ldr r6, [r5]
        subs r1, #1
        bne 1b""",
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("core", [core for core in EMULATED if core != "cortex-m0plus"])
@pytest.mark.needs(GCC)
def test_blocks_across_borders(core: str, body: str) -> None:
    """An IT block in front of a border holds behind it; results are waited for across it."""
    found = []
    for before in (64, *range(4, 32, 4)):
        source = code(before, BODIES[body])
        emulator = emulator_of(probe(source, "probe_border", core=core))
        arena = emulator.symbol("ek_arena")
        emulator.write(arena, arena.to_bytes(4, "little") * 8)
        _, count = emulator.count("probe_border", arena, 6)
        places = [(block.bytes, block.times, len(block.instructions)) for block in count.blocks]
        found.append((count.cycles, count.causes, places))
    assert [one for one in found if one != found[0]] == []
