"""What a page shows of a spiking network: spikes, synapses, both schedules, and the opponent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgekit.bench.protocol import Provenance
from edgekit.bench.report import Report, Run
from edgekit.bench.spiking import Crossover, Opponent, Spiking
from edgekit.report import words
from edgekit.report.charts import HEADROOM, Tick

NONE = "–"


@dataclass(frozen=True)
class Segment:
    """A piece of a line, from point to point in percent of the drawing."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Curve:
    """One schedule over activities.

    Attributes:
        kind: ``event`` or ``dense``.
        name: in words.
        segments: of the line.
        mark: where the real windows lie, in percent.
        value: cycles there, in words.
    """

    kind: str
    name: str
    segments: tuple[Segment, ...]
    mark: tuple[float, float]
    value: str


@dataclass(frozen=True)
class CrossoverChart:
    """Cycles of a step over activity.

    Attributes:
        note: what is drawn, on what, and how activities were set.
        curves: event-driven, then dense.
        x_ticks: of the activity.
        y_ticks: of the cycles.
        crossing: percent where both cost the same; None where they do not meet.
        verdict: in words.
        rows: of the table that has the same: activity, cycles of both.
        provenance: of the cycles.
    """

    note: str
    curves: tuple[Curve, Curve]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    crossing: float | None
    verdict: str
    rows: tuple[tuple[str, str, str], ...]
    provenance: Provenance


def crossover_chart(crossover: Crossover) -> CrossoverChart | None:
    """None where fewer than two activities were set."""
    points = crossover.points
    if len(points) < 2:
        return None
    widest = max(*(p.activity for p in points), crossover.activity) or 1.0
    highest = HEADROOM * max(
        *(max(p.event_cycles, p.dense_cycles) for p in points),
        crossover.event_cycles,
        crossover.dense_cycles,
    )

    def curve(kind: str, name: str, cycles: Sequence[float], own: float) -> Curve:
        places = [
            (_share(point.activity, widest), 100 - _share(value, highest))
            for point, value in zip(points, cycles, strict=True)
        ]
        return Curve(
            kind,
            name,
            tuple(Segment(*a, *b) for a, b in pairwise(places)),
            (_share(crossover.activity, widest), 100 - _share(own, highest)),
            f"{words.count(own)} cycles",
        )

    event = curve("event", "event-driven", [p.event_cycles for p in points], crossover.event_cycles)
    dense = curve("dense", "dense", [p.dense_cycles for p in points], crossover.dense_cycles)
    return CrossoverChart(
        note=f"Cycles of one step on {crossover.device} over the share of inputs that fire; "
        f"{crossover.method}. Circles: real windows.",
        curves=(event, dense),
        x_ticks=tuple(Tick(_share(t, widest), words.percent(t)) for t in words.ticks(widest, 5)),
        y_ticks=tuple(Tick(_share(t, highest), words.count(t)) for t in words.ticks(highest)),
        crossing=None if crossover.crossing is None else _share(crossover.crossing, widest),
        verdict=verdict(crossover),
        rows=tuple(
            (words.percent(p.activity), words.count(p.event_cycles), words.count(p.dense_cycles))
            for p in points
        ),
        provenance=crossover.provenance,
    )


def verdict(crossover: Crossover) -> str:
    """What the drawing says, in a sentence."""
    event, dense = crossover.event_cycles, crossover.dense_cycles
    less, more = ("event-driven", "dense") if event <= dense else ("dense", "event-driven")
    saved = 1 - min(event, dense) / max(event, dense, 1e-9)
    text = (
        f"At {words.percent(crossover.activity)} activity the {less} step takes "
        f"{words.percent(saved)} fewer cycles than the {more} one"
    )
    if crossover.crossing is None:
        return f"{text}; the two do not cross."
    return f"{text}; they cross at {words.percent(crossover.crossing)}."


@dataclass(frozen=True)
class Compared:
    """One figure of both networks, in words."""

    name: str
    spiking: str
    opponent: str


def compared(report: Report) -> tuple[Compared, ...]:
    """The spiking network beside its opponent, figure by figure; empty without one."""
    spiking = report.spiking
    if spiking is None or spiking.opponent is None:
        return ()
    opponent = spiking.opponent
    runs = (r for r in report.runs if r.role == "subject" and r.device == opponent.device)
    run = next(runs, None)
    rows = (
        Compared("weights", spiking.element, opponent.element),
        Compared("parameters", words.count(spiking.parameters), words.count(opponent.parameters)),
        *_memories(report, opponent),
        Compared(
            "work of a window",
            f"{words.count(spiking.synaptic_ops)} synaptic operations and "
            f"{words.count(spiking.steps * spiking.analog_ops)} MACs",
            NONE if opponent.macs is None else f"{words.count(opponent.macs)} MACs",
        ),
        *(() if run is None else _costs(run, opponent)),
    )
    return tuple(row for row in rows if (row.spiking, row.opponent) != (NONE, NONE))


def _memories(report: Report, opponent: Opponent) -> tuple[Compared, ...]:
    own, other = report.memory, opponent.memory
    if own is None:
        return ()
    return (
        Compared("constants", words.size(own.weights_bytes), words.size(other.weights_bytes)),
        Compared("flash", _said(own.flash_bytes), _said(other.flash_bytes)),
        Compared("RAM", _said(own.ram_bytes), _said(other.ram_bytes)),
        Compared("of it state", words.size(own.state_bytes), words.size(other.state_bytes)),
    )


def _costs(run: Run, opponent: Opponent) -> tuple[Compared, ...]:
    own, other = run.latency_ms, opponent.latency_ms
    window = None if own is None else own.p50
    known = None if other is None else other.p50
    energies = [None if e is None else e.value_uj for e in (run.energy_uj, opponent.energy_uj)]
    return (
        Compared(
            "cycles of a window",
            _said(run.cycles, words.count),
            _said(opponent.cycles, words.count),
        ),
        Compared(
            "latency of a window",
            _said(window, words.milliseconds),
            _said(known, words.milliseconds),
        ),
        Compared(
            "latest answer behind the last sample",
            _said(None if run.step is None else run.step.worst_latency_ms, words.milliseconds),
            _said(known, words.milliseconds),
        ),
        Compared(
            "energy of a window",
            *(_said(energy, words.microjoules) for energy in energies),
        ),
        Compared(
            "accuracy",
            _said(None if run.accuracy is None else run.accuracy.value, words.percent),
            _said(opponent.accuracy, words.percent),
        ),
    )


def _said(value: float | None, say: Callable[[float], str] = words.size) -> str:
    return NONE if value is None else say(value)


@dataclass(frozen=True)
class Spikes:
    """What a page shows of a spiking network.

    Attributes:
        facts: itself.
        steps: of runs that are windows.
        chart: of both schedules; None where nothing counted them.
        compared: beside the opponent.
    """

    facts: Spiking
    steps: tuple[Run, ...]
    chart: CrossoverChart | None
    compared: tuple[Compared, ...]


def spikes_of(report: Report) -> Spikes | None:
    """None for a network that does not spike."""
    if report.spiking is None:
        return None
    crossover = report.spiking.crossover
    return Spikes(
        report.spiking,
        tuple(run for run in report.runs if run.step is not None),
        None if crossover is None else crossover_chart(crossover),
        compared(report),
    )


def _share(part: float, whole: float) -> float:
    """Percent, with as many digits as a drawing can show."""
    return round(100 * part / whole, 3) if whole else 0.0
