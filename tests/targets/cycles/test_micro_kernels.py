"""The model against cycles counted by hand from manuals; see ``benchmarks/micro_kernels.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit.targets.target import target
from edgekit.targets.toolchain import find_toolchain
from tests.support.images import TOOLCHAINS
from tests.support.scripts import script

micro: Any = script("micro_kernels")
KERNELS: Any = script("micro_table").MICRO_KERNELS
flash: Any = script("flash_table")

EXACT = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33")
ROUNDING = 1e-9
TOLERANCE = 0.1
"""Relative, of the Cortex-M7 and of flash."""


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("core", [*EXACT, "cortex-m7"])
def test_zero_wait_states(core: str, toolchain: str, tmp_path: Path) -> None:
    """Exact, but within 10 % on the M7; whichever assembler made the code."""
    kernels = micro.of_core(KERNELS, core)
    assert len(kernels) > 20
    compiler = find_toolchain(toolchain)
    got = micro.measure(kernels, target(core), folder=tmp_path, toolchain=compiler)
    allowed = ROUNDING if core in EXACT else TOLERANCE
    wrong = {
        k.name: (got[k.name], k.hand[core])
        for k in kernels
        if abs(k.hand[core].error(got[k.name])) > allowed
    }
    assert not wrong


@pytest.mark.needs("cortex-m compiler")
@pytest.mark.parametrize("wait_states", flash.WAIT_STATES)
def test_flash(wait_states: int, tmp_path: Path) -> None:
    """Lines, prefetch and caches, within 10 % of the arithmetic."""
    wrong = []
    for kind in dict.fromkeys(case.flash for case in flash.FLASH_CASES):
        own = [case for case in flash.FLASH_CASES if case.flash == kind]
        board = kind.board(wait_states)
        got = micro.measure(
            [case.kernel for case in own],
            board,
            folder=tmp_path / board.name,
            toolchain=find_toolchain(),
        )
        for case in own:
            modelled, hand = got[case.kernel.name], case.hand[wait_states]
            if abs(hand.error(modelled)) > TOLERANCE:
                wrong.append((board.name, case.kernel.name, modelled, hand))
    assert not wrong


def test_what_is_counted() -> None:
    """The hazards that a model of these cores must know are all there, on every core."""
    by_name = {kernel.name: kernel for kernel in KERNELS}
    assert len(by_name) == len(KERNELS)
    wanted = ("load_use", "loads", "load_store", "stores", "branch_not_taken", "push_pop")
    for core in (*EXACT, "cortex-m7"):
        assert not [name for name in wanted if core not in by_name[name].hand]
    for core in EXACT:
        assert {"branch", "countdown", "call"} <= {
            name for name, kernel in by_name.items() if core in kernel.hand
        }
    for kernel in KERNELS:
        for hand in kernel.hand.values():
            assert 0 < hand.low <= hand.high
            assert any(word in hand.why for word in ("table", "notes", "pairing")), kernel.name
        # The M33's counts agree by construction, which their words must not hide.
        if "cortex-m33" in kernel.hand:
            assert kernel.hand["cortex-m33"].is_assumed
    assert {case.flash.cached for case in flash.FLASH_CASES} == {"none", "instructions", "both"}
    for name in ("dot_smlad", "moves_16"):
        assert any(case.kernel.name == name for case in flash.FLASH_CASES)
