"""What the page shows of a spiking network; its section is as robust as the rest."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgekit.bench.fields import ReportError
from edgekit.bench.report import Report, as_text
from edgekit.bench.spiking import Crossover, Membrane, StepCost, SweepPoint, Synapses, crossing_of
from edgekit.report.html import html_report
from edgekit.report.metrics import METRICS
from edgekit.report.schema import report_schema
from edgekit.report.spikes import compared, crossover_chart, spikes_of, verdict
from tests.report.test_html import EVIL, Page, in_browser
from tests.support.reports import REPORT
from tests.support.spiking_reports import CROSSOVER, OPPONENT, POINTS, SPIKING, SPIKING_REPORT


def test_it_is_a_report() -> None:
    """It survives the way through JSON, and the schema takes it."""
    text = as_text(SPIKING_REPORT)
    assert Report.from_json(json.loads(text)) == SPIKING_REPORT
    jsonschema.Draft202012Validator(report_schema()).validate(json.loads(text))


def test_totals_are_of_windows() -> None:
    """Per step in the table of synapses, per window in the figures."""
    assert SPIKING.synaptic_ops == 40 * (1_620 + 63)
    assert SPIKING.dense_ops == 40 * (32_400 + 1_260)
    assert SPIKING.bytes_touched == 405 + 63
    assert SPIKING.bytes_dense == 8_100 + 1_260
    # Neurons without spikes are no part of the rate.
    assert SPIKING.spike_rate == pytest.approx((4 * 0.1 + 180 * 0.05) / 184)
    silent = replace(SPIKING, populations=SPIKING.populations[2:])
    assert silent.spike_rate is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps", 0), "at least one window of steps"),
        (("windows", 0), "at least one window of steps"),
        (("synapses", 0, "synaptic_ops", 32_401.0), "touch more than a dense step"),
        (("synapses", 0, "bytes_touched", 8_101.0), "touch more than a dense step"),
        (("populations", 0, "membrane", "fraction", None), "has a fraction and a unit"),
        (("populations", 0, "membrane", "bound", None), "bounded or clipped below"),
        (("populations", 0, "membrane", "bound", 1 << 31), "bounded or clipped below"),
        (("populations", 0, "spike_rate", 1.5), "a number in 0…1"),
        (("populations", 0, "reset", "later"), "one of subtract, zero, none"),
        (("crossover", "points", 1, "activity", 0.0), "activities must ascend"),
        (("crossover", "crossing", float("nan")), "must be a number"),
        (("opponent", "surprise", 1), "unknown 'surprise'"),
    ],
)
def test_impossible_figures_are_refused(change: tuple[Any, ...], message: str) -> None:
    """Reports may be from anywhere."""
    document = copy.deepcopy(SPIKING_REPORT.to_json())
    place: Any = document["spiking"]
    for key in change[:-2]:
        place = place[key]
    place[change[-2]] = change[-1]
    with pytest.raises(ReportError, match=message):
        Report.from_json(document)


def test_a_step_costs_no_more_than_the_worst() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        StepCost(0)
    with pytest.raises(ValueError, match="less than the mean"):
        StepCost(40, cycles=10.0, worst_cycles=9.0)
    with pytest.raises(ValueError, match="less than the mean"):
        StepCost(40, worst_latency_ms=1.0)


def test_membranes_are_stated() -> None:
    words = [population.membrane.words for population in SPIKING.populations]
    assert words == [
        "int32, 9 fraction bits, proven within ±70,000",
        "int32, 6 fraction bits, clipped at ±1,048,576",
        "float32",
    ]
    assert Membrane("float32").bound is None


def test_where_they_cross() -> None:
    assert crossing_of(POINTS) == pytest.approx(0.4)
    assert crossing_of(POINTS[:2]) is None
    dearer = tuple(SweepPoint(p.activity, p.event_cycles + 20_000, p.dense_cycles) for p in POINTS)
    assert crossing_of(dearer) is None


def test_the_chart_is_to_scale() -> None:
    """Activity to the right, cycles upward, in percent."""
    chart = crossover_chart(CROSSOVER)
    assert chart is not None
    event, dense = chart.curves
    assert (event.kind, dense.kind) == ("event", "dense")
    assert event.segments[0].x1 == 0
    assert event.segments[-1].x2 == 100
    assert event.segments[0].y1 == pytest.approx(100 - 100 * 4_000 / (1.04 * 24_000), abs=1e-2)
    assert {s.y1 for s in dense.segments} == {dense.segments[0].y2}
    assert event.mark == (5, pytest.approx(100 - 100 * 5_200 / (1.04 * 24_000), abs=1e-2))
    assert chart.crossing == 40
    assert len(chart.rows) == len(POINTS)
    assert crossover_chart(replace(CROSSOVER, points=POINTS[:1])) is None


def said(**changes: Any) -> str:
    crossover: Crossover = replace(CROSSOVER, **changes)
    return verdict(crossover)


def test_the_verdict() -> None:
    assert said() == (
        "At 5 % activity the event-driven step takes 57.72 % fewer cycles than the dense one; "
        "they cross at 40 %."
    )
    # Against the claim, when the figures are.
    assert said(event_cycles=24_600.0, crossing=None) == (
        "At 5 % activity the dense step takes 50 % fewer cycles than the event-driven one; the two "
        "do not cross."
    )


def test_the_opponent_stands_beside() -> None:
    """Figure by figure, with the run on the same device."""
    rows = {row.name: (row.spiking, row.opponent) for row in compared(SPIKING_REPORT)}
    assert rows["weights"] == ("ternary", "int8")
    assert rows["parameters"] == ("68,000", "49,000")
    assert rows["work of a window"] == (
        "67,320 synaptic operations and 15,360 MACs",
        "300,000 MACs",
    )
    assert rows["cycles of a window"] == ("608,888", "720,000")
    assert rows["latest answer behind the last sample"] == ("166.7 µs", "6 ms")
    assert rows["accuracy"] == ("95 %", "93 %")
    elsewhere = replace(SPIKING, opponent=replace(OPPONENT, device="local"))
    names = [row.name for row in compared(replace(SPIKING_REPORT, spiking=elsewhere))]
    assert "weights" in names
    assert "cycles of a window" not in names
    assert compared(replace(SPIKING_REPORT, spiking=replace(SPIKING, opponent=None))) == ()
    assert spikes_of(REPORT) is None


def test_the_page_has_everything() -> None:
    page = html_report([SPIKING_REPORT])
    for text in (
        "67,320",
        "Spike rate",
        "166.7 µs",
        "An inference is a window of 40 steps",
        "proven within ±70,000",
        "they cross at 40 %",
        "Beside har_cnn, which does not spike",
        "weights differ: ternary here, int8 there",
        "subtract",
        "synaptic",
    ):
        assert text in page, text
    assert "Spike rate" not in html_report([REPORT])
    bare = replace(SPIKING, crossover=None, opponent=None, dt_seconds=None)
    assert "Event-driven against dense" not in html_report([replace(SPIKING_REPORT, spiking=bare)])


def hostile() -> Report:
    """Every text that a spiking network brings in is hostile."""
    populations = tuple(replace(p, name=EVIL) for p in SPIKING.populations)
    synapses = tuple(replace(s, operation=EVIL, element=EVIL) for s in SPIKING.synapses)
    spiking = replace(
        SPIKING,
        input=EVIL,
        element=EVIL,
        populations=populations,
        synapses=synapses,
        crossover=replace(CROSSOVER, device=EVIL, method=EVIL),
        opponent=replace(OPPONENT, name=EVIL, model_file=EVIL, element=EVIL, notes=(EVIL,)),
    )
    return replace(SPIKING_REPORT, spiking=spiking)


def test_names_are_text() -> None:
    page = Page(html_report([hostile()]))
    assert "script" not in page.tags
    assert "img" not in page.tags


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("width", [390, 1400])
def test_the_section_fits(tmp_path: Path, width: int) -> None:
    """In a browser, with names as long as they like, everything unfolded."""
    long = "x" * 2000
    populations = tuple(replace(p, name=long) for p in SPIKING.populations)
    synapses: tuple[Synapses, ...] = tuple(replace(s, operation=long) for s in SPIKING.synapses)
    spiking = replace(
        SPIKING,
        populations=populations,
        synapses=synapses,
        opponent=replace(OPPONENT, name=long, notes=(long,)),
        crossover=replace(CROSSOVER, method=long),
    )
    reports = [SPIKING_REPORT, replace(SPIKING_REPORT, spiking=spiking)]
    inner, scrolled, loaded, radius = in_browser(tmp_path, html_report(reports), width)
    assert inner == width
    assert scrolled <= inner
    assert loaded == 0
    assert radius == "10px"


def test_metrics_of_spikes() -> None:
    """Gates can be set on them."""
    run = SPIKING_REPORT.subject
    found = {
        name: METRICS[name].find(SPIKING_REPORT, run)
        for name in ("spike_rate", "synaptic_ops", "step_cycles", "step_latency_ms")
    }
    assert found["synaptic_ops"] is not None and found["synaptic_ops"].value == 67_320
    assert found["step_cycles"] is not None and found["step_cycles"].provenance == "modelled"
    assert found["spike_rate"] is not None and found["spike_rate"].provenance == "counted"
    assert found["step_latency_ms"] is not None
    assert METRICS["synaptic_ops"].find(REPORT, REPORT.subject) is None
