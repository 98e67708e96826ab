"""What machines count, in a report's words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.bench.costs import CAUSES, Causes, KnownError
from edgekit.deploy.costs import Functions, estimated_energy
from edgekit.targets.board import Power
from edgekit.targets.c.emit import LayerInfo
from edgekit.targets.cycles.costs import BlockCost, Count, InstructionCost
from edgekit.targets.library import Library

SOURCE = """
#define EK_CODED_APART static __attribute__((noinline))
static inline int32_t ek_min_s32(int32_t a, int32_t b) { return a < b ? a : b; }
static const int32_t table[] = {f(1)};
static void conv_2d_rows_s8(
    const int8_t *x)
{
    memcpy(y, x, 3);
}
EK_CODED_APART int32_t *conv_2d_store_s8(int32_t *y);
void EK_FN(conv_2d_s8)(const int8_t *x)
"""

LIBRARY = Library("net", "net_", {"net.h": "", "conv_2d_s8.c": SOURCE}, 8, 4, 0, 0, (), (), ())
LAYER = LayerInfo("net_layer_0", "conv", "conv_2d", "conv_2d_s8", 100, ("y",), (0,))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("net_layer_0", "layer"),
        ("net_layer_0.cold", "layer"),
        ("net_ek_conv_2d_s8", "kernel"),
        ("net_ek_conv_2d_s8.constprop.0", "kernel"),
        ("conv_2d_rows_s8", "helper"),
        ("conv_2d_rows_s8.isra.0", "helper"),
        ("conv_2d_store_s8", "helper"),
        ("ek_min_s32", "helper"),
        ("memcpy", "runtime"),
        ("f", "runtime"),
        ("__aeabi_lmul", "runtime"),
        ("0x08000123", "runtime"),
        ("other_layer_0", "runtime"),
    ],
)
def test_kinds_of_functions(name: str, kind: str) -> None:
    """By the library's prefix and its sources; what those only call is not theirs.

    A library that comes from a folder holds bytes.
    """
    assert Functions(LIBRARY).kind(name) == kind
    stored = {file: str(text).encode() for file, text in LIBRARY.files.items()}
    blob = {"net_weights.bin": b"static int32_t memcpy(\xff"}
    assert Functions(replace(LIBRARY, files=stored | blob)).kind(name) == kind


def block(address: int, times: int, causes: Causes | None) -> BlockCost:
    """One block of two instructions."""
    total = None if causes is None else causes * times
    lines = (
        InstructionCost(address, "nop", times, total),
        InstructionCost(address + 2, "nop", times, None if total is None else Causes()),
    )
    cycles = None if total is None else total.total
    return BlockCost(address, 4, times, cycles, total, lines, {})


def test_a_layer_with_its_functions() -> None:
    """The most expensive first, each with its kernel where it has to do with one."""
    count = Count.of(
        [
            ("net_layer_0", block(0, 1, Causes(issue=2, branch=1))),
            ("net_ek_conv_2d_s8", block(100, 10, Causes(issue=2, load=3))),
            ("conv_2d_rows_s8", block(200, 5, Causes(issue=2, fetch=0.5))),
            ("memcpy", block(300, 2, Causes(issue=2))),
        ]
    )
    cost = Functions(LIBRARY).layer_cost(LAYER, count)
    assert (cost.operation, cost.kernel, cost.macs) == ("conv", "conv_2d_s8", 100)
    assert (cost.instructions, cost.cycles) == (36, 69.5)
    assert cost.causes == Causes(issue=36, load=30, fetch=2.5, branch=1)
    kinds = {type(getattr(f.causes, cause)) for f in (cost, *cost.functions) for cause in CAUSES}
    assert kinds | {type(f.cycles) for f in (cost, *cost.functions)} == {float}
    assert [(f.function, f.kind, f.kernel, f.cycles) for f in cost.functions] == [
        ("net_ek_conv_2d_s8", "kernel", "conv_2d_s8", 50),
        ("conv_2d_rows_s8", "helper", "conv_2d_s8", 12.5),
        ("memcpy", "runtime", None, 4),
        ("net_layer_0", "layer", None, 3),
    ]


def test_a_layer_without_a_model() -> None:
    """Instructions are counted all the same."""
    cost = Functions(LIBRARY).layer_cost(LAYER, Count.of([("memcpy", block(0, 3, None))]))
    assert (cost.instructions, cost.cycles, cost.causes) == (6, None, None)
    assert [(f.instructions, f.cycles, f.causes) for f in cost.functions] == [(6, None, None)]


def test_a_layer_that_does_nothing() -> None:
    """No blocks, no functions."""
    cost = Functions(LIBRARY).layer_cost(LAYER, Count())
    assert (cost.instructions, cost.cycles, cost.functions) == (0, 0, ())


SPREAD = Power(350, "1.8 V", "a log", spread_picojoules_per_cycle=(300, 600))
SINGLE = Power(350, "1.8 V", "a log")


@pytest.mark.parametrize(
    ("power", "error", "low", "high"),
    [
        (SPREAD, KnownError(-0.2, 0.25, 4, ("b",)), 240.0, 750.0),
        (SPREAD, KnownError(0.1, 0.25, 4, ("b",)), 240.0, 600.0),
        (SPREAD, KnownError(-0.2, -0.1, 4, ("b",)), 300.0, 750.0),
        (SPREAD, None, 300.0, 600.0),
        (SINGLE, KnownError(-0.2, 0.25, 4, ("b",)), None, None),
        (SINGLE, None, None, None),
    ],
)
def test_energy_with_its_spread(
    power: Power, error: KnownError | None, low: float | None, high: float | None
) -> None:
    """Of the power and of the cycles; the figure lies inside, whatever sign the errors have."""
    energy = estimated_energy(1e6, power, error)
    assert (energy.provenance, energy.net_uj, energy.gross_uj) == ("estimated", None, 350.0)
    assert (energy.low_uj is None) == (low is None)
    if low is not None:
        assert (energy.low_uj, energy.high_uj) == pytest.approx((low, high))
    assert energy.source is not None
    for words in ("modelled cycles x 350 pJ", "idle included", "a log", "1.8 V"):
        assert words in energy.source
    assert ("single published figure" in energy.source) == (power is SINGLE)
    is_partial = power is SPREAD and error is None
    assert ("error of the cycles is not known on this board" in energy.source) == is_partial
