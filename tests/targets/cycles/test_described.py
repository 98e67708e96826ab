"""What is said of a model: what it rests on stands beside its figures."""

from __future__ import annotations

import pytest

from edgekit.targets.cores import CORES
from edgekit.targets.cycles.described import in_order_model
from edgekit.targets.target import target

ASSUMED = {
    # Ranges of the manuals that a rule of ours decides.
    "cortex-m0plus": "with the fast multiplier",
    "cortex-m3": "long products, quotients and refills assumed",
    "cortex-m4": "quotients and refills assumed",
    # Not by Arm.
    "cortex-m7": "as others measured them",
    "cortex-m33": "of the cortex-m4, assumed to hold for the cortex-m33",
    "cortex-m55": "as LLVM's scheduling model has them",
}


@pytest.mark.parametrize("core", [name for name, core in CORES.items() if core.cycles])
def test_what_a_table_rests_on(core: str) -> None:
    """Every core is named, with what is assumed of it."""
    model = in_order_model(target(core), "zero wait states")
    assert model.core == core
    assert model.memory == "zero wait states"
    assert model.what.startswith("in order, ")
    assert core in model.what
    assert ASSUMED[core] in model.what
