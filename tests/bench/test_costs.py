"""Parts add up to their wholes, and a modelled figure says how far it can be trusted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgekit.bench.costs import (
    CAUSES,
    Causes,
    CycleModel,
    FunctionCost,
    KnownError,
    LayerCost,
    sum_of_causes,
)
from edgekit.bench.energy import Energy
from edgekit.bench.protocol import Latency
from tests.support.reports import CONVOLUTION, CYCLE_MODEL, MEASURED, MODELLED, REPORT


def test_the_complete_report_adds_up() -> None:
    """Functions to layers, layers to the run, cause by cause."""
    assert MODELLED.causes is not None
    layers = sum_of_causes([layer.causes for layer in MODELLED.layers])
    assert layers == MODELLED.causes
    assert MODELLED.causes.total == MODELLED.cycles
    for layer in MODELLED.layers:
        assert sum_of_causes([cost.causes for cost in layer.functions]) == layer.causes
        assert sum(cost.instructions for cost in layer.functions) == layer.instructions


def test_causes_are_all_of_the_cycles() -> None:
    """A report may be from anywhere."""
    causes = Causes(issue=3, load=1)
    for cycles in (3.0, 5.0, None):
        with pytest.raises(ValueError, match="the causes add up to 4 cycles, there are"):
            LayerCost("conv", "conv_2d", cycles=cycles, causes=causes)
        with pytest.raises(ValueError, match="the causes add up to 4 cycles"):
            FunctionCost("f", "kernel", None, 1, cycles, causes)
        with pytest.raises(ValueError, match="the causes add up to"):
            replace(MODELLED, cycles=cycles)
    assert LayerCost("conv", "conv_2d", cycles=4.0 + 1e-9, causes=causes).causes == causes


def test_functions_are_all_of_a_layer() -> None:
    """Their cycles; without a model none has any."""
    conv = MODELLED.layers[0]
    with pytest.raises(ValueError, match="its functions take 550000 cycles, the layer 600000"):
        replace(conv, functions=CONVOLUTION[:1])
    with pytest.raises(ValueError, match="or none of them"):
        replace(conv, cycles=None, causes=None)
    counted = tuple(replace(cost, cycles=None, causes=None) for cost in conv.functions)
    with pytest.raises(ValueError, match="or none of them"):
        replace(conv, functions=counted)
    assert replace(conv, cycles=None, causes=None, functions=counted).functions == counted


@pytest.mark.parametrize(
    ("low", "high", "cases", "words"),
    [
        (0.1, 0.0, 1, "no range"),
        (-1.0, 0.0, 1, "no range above -1"),
        (float("nan"), 0.0, 1, "no range"),
        (-0.1, 0.1, 0, "is not known"),
    ],
)
def test_impossible_errors(low: float, high: float, cases: int, words: str) -> None:
    """No modelled time is a whole below the published one."""
    with pytest.raises(ValueError, match=words):
        KnownError(low, high, cases, ("b",))


def test_only_modelled_figures_name_the_model() -> None:
    """Beside a measured or counted one its error would be nonsense."""
    assert MODELLED.origin("modelled") == "modelled v1, -18…+3 %"
    assert MODELLED.origin("estimated") == "estimated v1, -18…+3 %"
    assert MODELLED.origin("measured") == "measured"
    assert MODELLED.origin("counted") == "counted"
    assert MEASURED.origin("modelled") == "modelled"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clock_hz": 0}, "clock_hz is 0, must be null"),
        ({"clock_hz": 80_000_000}, "latency_ms.p50 is 5.07407, 608,888 cycles at 80,000,000 Hz"),
        ({"latency_ms": Latency.modelled(5.0741)}, "608,888 cycles at 120,000,000 Hz are 5.07407"),
        ({"cycle_model": None}, "cycles are modelled, and cycle_model is null"),
        ({"layers": MEASURED.layers}, "provenance.layers_latency_ms is null"),
    ],
)
def test_figures_that_contradict_each_other(changes: dict[str, Any], words: str) -> None:
    """In the constructor, and so in a file."""
    with pytest.raises(ValueError, match=words):
        replace(MODELLED, **changes)


def test_a_modelled_latency_needs_no_cycles() -> None:
    """Nor a clock: then there is nothing that it could contradict."""
    for changes in ({"cycles": None, "causes": None}, {"clock_hz": None}):
        assert replace(MODELLED, latency_ms=Latency.modelled(1.0), **changes).latency_ms


def test_a_model_without_published_cases_says_so() -> None:
    """Nothing is claimed of its error."""
    model = CycleModel(3, "cortex-m7", "in order", "zero wait states")
    assert model.words == "version 3, never compared with a published latency"
    assert (model.tag, model.bound) == ("v3, never compared", None)
    with pytest.raises(ValueError, match="error_holds says that an error holds"):
        replace(model, error_holds=True)


def test_an_error_of_another_board_is_no_bound() -> None:
    """It is told with the board that it was seen on, and stands beside no figure."""
    assert CYCLE_MODEL.bound == CYCLE_MODEL.error
    model = replace(CYCLE_MODEL, error_holds=False)
    assert model.words == (
        "version 1, compared on nucleo-l4r5zi only: "
        "modelled 18 % below to 3 % above published latencies (4 cases)"
    )
    assert (model.tag, model.bound) == ("v1, not compared here", None)
    run = replace(MODELLED, cycle_model=model)
    assert run.origin("estimated") == "estimated v1, not compared here"


def test_the_sentence_has_everything() -> None:
    """Trust, core, what is modelled, and memory."""
    assert CYCLE_MODEL.sentence == (
        f"{CYCLE_MODEL.words}; cortex-m4: in order, hazards; "
        "memory: flash 5 wait states, lines of 8 bytes"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"net_uj": None, "gross_uj": None}, "net or gross"),
        ({"low_uj": None}, "both ends or none"),
        ({"low_uj": 121.0}, "120 uJ lie outside of 121 to 126"),
        ({"high_uj": 119.0}, "120 uJ lie outside of 115 to 119"),
        ({"sensor": None}, "names its sensor and its window"),
        ({"window_s": None}, "names its sensor and its window"),
        ({"provenance": "estimated"}, "names its source"),
    ],
)
def test_impossible_energies(fields: dict[str, object], words: str) -> None:
    """Every rule of what an energy must say."""
    energy = REPORT.runs[0].energy_uj
    assert energy is not None
    with pytest.raises(ValueError, match=words):
        replace(energy, **fields)  # type: ignore[arg-type]


def test_what_an_energy_includes() -> None:
    """Above idle where that is known."""
    net = Energy("measured", 120.0, 180.0, sensor="a sensor", window_s=12.0)
    assert (net.value_uj, net.kind) == (120.0, "above idle")
    gross = Energy("estimated", gross_uj=180.0, source="a table")
    assert (gross.value_uj, gross.kind) == (180.0, "with idle")


def test_unknown_causes_are_not_zero() -> None:
    """A sum with an unknown part is unknown."""
    assert sum_of_causes([Causes(issue=1), None]) is None
    assert CAUSES == ("issue", "arithmetic", "load", "fetch", "branch")
