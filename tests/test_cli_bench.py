"""What ``edgekit bench`` prints of a report: every modelled figure beside what it is worth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.bench.costs import CAUSES
from edgekit.bench.energy import Energy
from edgekit.bench.protocol import Latency
from edgekit.bench.report import Run
from edgekit.cli.bench import layer_rows, run_row, summary
from tests.support.reports import BASELINE, CYCLE_MODEL, MEASURED, MODELLED, report_with

TRUST = "version 1, modelled 18 % below to 3 % above published latencies (4 cases on nucleo-l4r5zi)"
TAG = "v1, -18…+3 %"


def test_the_words_are_the_models() -> None:
    """The tests below spell them out."""
    assert (CYCLE_MODEL.words, CYCLE_MODEL.tag) == (TRUST, TAG)


def test_a_modelled_run() -> None:
    """Cycles, latency and energy have the model's tag, and the whole sentence stands once."""
    facts = summary(report_with(MODELLED))
    assert facts["cycles"] == f"608,888 (modelled {TAG})"
    assert facts["latency_ms"] == f"5.074 at 120 MHz (modelled {TAG})"
    assert facts["energy_uj"] == f"213.1 with idle (163.7…482.7; estimated {TAG})"
    assert "a published log" in facts["energy_source"]
    assert facts["causes"].startswith("issue 69.9 %, arithmetic 3.3 %, load 11.7 %")
    assert facts["instructions"] == "425,455 (counted)"
    assert facts["cycle_model"] == CYCLE_MODEL.sentence
    assert sum(TRUST in str(value) for value in facts.values()) == 1


def test_a_measured_run() -> None:
    """Nothing is said of a model that has nothing to do with it."""
    facts = summary(report_with(MEASURED))
    assert facts["energy_uj"] == "120 above idle (115…126; measured)"
    assert facts["energy_source"] == "a sensor"
    assert not any("v1," in str(value) for value in facts.values())
    assert "cycle_model" not in facts
    assert "cycles" not in facts


def test_an_energy_without_a_spread() -> None:
    """None is made up, and none without an energy."""
    energy = Energy("estimated", gross_uj=25_000.0, source="a table")
    facts = summary(report_with(MODELLED, energy_uj=energy))
    assert facts["energy_uj"] == f"25,000 with idle (estimated {TAG})"
    facts = summary(report_with(MODELLED, energy_uj=None))
    assert facts["energy_uj"] is None
    assert "energy_source" not in facts


def test_a_spread_of_the_power_alone_says_so() -> None:
    """Where the error of the cycles is not known on the board; a sensor's is of everything."""
    model = replace(CYCLE_MODEL, error_holds=False)
    run = replace(MODELLED, cycle_model=model)
    facts = summary(report_with(run))
    assert "(163.7…482.7 power only; estimated v1, not compared here)" in facts["energy_uj"]
    assert (run_row(run)["energy_spread"], run_row(MODELLED)["energy_spread"]) == (
        "power only",
        None,
    )
    assert MEASURED.spread_note == ""


@pytest.mark.parametrize(
    ("hertz", "words"), [(120_000_000, "5.074 at 120 MHz"), (2_400_000_000, "0.2537 at 2400 MHz")]
)
def test_a_modelled_latency_has_four_digits(hertz: int, words: str) -> None:
    """Whatever its size."""
    latency = Latency.modelled(1e3 * 608_888 / hertz)
    facts = summary(report_with(MODELLED, clock_hz=hertz, latency_ms=latency))
    assert facts["latency_ms"] == f"{words} (modelled {TAG})"


def test_layers_have_their_causes_in_columns() -> None:
    """And kernels; what is nested is no cell."""
    rows = layer_rows(MODELLED)
    assert [row["#"] for row in rows] == [0, 1]
    assert [row["kernel"] for row in rows] == ["conv_2d_s8", "fully_connected_s8"]
    for row in rows:
        assert sum(row[cause] for cause in CAUSES) == row["cycles"]
        assert not {"causes", "functions", "latency_ms"} & set(row)
    assert not set(CAUSES) & set(layer_rows(MEASURED)[0])


@pytest.mark.parametrize(
    ("run", "model", "energy"),
    [
        (MODELLED, TRUST, (213.11, 163.7, 482.7, "estimated, with idle")),
        (MEASURED, None, (120.0, 115.0, 126.0, "measured, above idle")),
        (BASELINE, None, (None, None, None, None)),
    ],
)
def test_a_line_of_a_sweep(run: Run, model: str | None, energy: tuple[object, ...]) -> None:
    """The same keys for every run, so that they make one table."""
    row = run_row(run)
    assert row["cycle_model"] == model
    names = ("energy_uj", "energy_low_uj", "energy_high_uj", "energy_provenance")
    assert tuple(row[name] for name in names) == energy
    assert set(row) == set(run_row(replace(run, energy_uj=None)))
