"""The geometry of charts: where everything lies, in percent of the drawing.

Percentages let a drawing take any width while its text keeps its size, so that the same page reads
on a telephone and on a desk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.bench.costs import LayerCost
from edgekit.bench.memory import Memory
from edgekit.bench.protocol import Provenance
from edgekit.bench.report import Report, Run
from edgekit.report import words

MOST_BARS = 40
"""Bars of one chart; the rest is summed up, the table has everything."""

LONGEST_LABEL = 40
"""Characters of a layer's name beside its bar; its end tells more than its beginning."""

WIDE = 50
"""Ratio of values from which an axis is logarithmic."""

HEADROOM = 1.04
"""How far an axis goes beyond the largest value."""


@dataclass(frozen=True)
class Bar:
    """One bar from zero.

    Attributes:
        label: what it stands for.
        detail: more about it, in small.
        value: in words, unit included.
        width: percent of the drawing.
        whisker: percent where the line of the spread ends; None without.
        provenance: how the figure came about.
    """

    label: str
    detail: str
    value: str
    width: float
    whisker: float | None
    provenance: str


@dataclass(frozen=True)
class BarChart:
    """Bars under a title.

    Attributes:
        title: what is shown.
        note: how to read it.
        bars: largest axis value is the same for all.
        rest: what was left out, in words; empty for nothing.
        on_target: whether the figures are the target's; where not, bars are hollow.
    """

    title: str
    note: str
    bars: tuple[Bar, ...]
    rest: str = ""
    on_target: bool = True


def run_label(report: Report, run: Run) -> tuple[str, str]:
    """A run in a few words, and what else tells it from others."""
    target = report.artifact.target
    place = target if run.on_target else f"not on {target}"
    return (
        f"{run.backend} {run.precision} · {place}",
        f"{run.device} · {run.kernels} {run.backend_version}"
        + (" · baseline" if run.role == "baseline" else ""),
    )


def latency_charts(reports: Sequence[Report]) -> tuple[BarChart, ...]:
    """Latency of every run that has one: the median of measured ones.

    A chart for each network; below them, each by itself, times of machines that are not the target:
    on one axis both would be read as a ranking.
    """
    networks: dict[str, list[Report]] = {}
    for report in reports:
        networks.setdefault(report.artifact.name, []).append(report)
    charts = (
        _latency_chart(name, own, on_target=on_target)
        for on_target in (True, False)
        for name, own in networks.items()
    )
    return tuple(chart for chart in charts if chart is not None)


def _latency_chart(name: str, reports: Sequence[Report], *, on_target: bool) -> BarChart | None:
    """None where no such run has a latency."""
    timed = [
        (report, run, run.latency_ms)
        for report in reports
        for run in report.runs
        if run.latency_ms is not None and run.on_target == on_target
    ]
    if not timed:
        return None
    axis = _axis([latency.p50 for *_, latency in timed], max(x.p99 for *_, x in timed))
    bars = []
    for report, run, latency in timed:
        label, detail = run_label(report, run)
        tag = run.origin(latency.provenance).removeprefix(latency.provenance).strip()
        bars.append(
            Bar(
                label,
                ", ".join(filter(None, (detail, tag))),
                words.milliseconds(latency.p50),
                axis.place(latency.p50),
                axis.place(latency.p99) if latency.provenance == "measured" else None,
                latency.provenance,
            )
        )
    note = f"Bars are {_bar_words([x.provenance for *_, x in timed], axis.words)}."
    if on_target:
        return BarChart(f"Latency of {name} on its target", note, tuple(bars))
    return BarChart(
        f"Not on the target: {name} on a machine that stands in for it",
        f"These times are the other machine's and say nothing about the target's. {note}",
        tuple(bars),
        on_target=False,
    )


def _bar_words(provenances: Sequence[Provenance], scale: str) -> str:
    """What the bars of latencies are; a model gives one figure, without a spread."""
    spread = "a thin line reaches to the 99th percentile"
    measured = [provenance == "measured" for provenance in provenances]
    if all(measured):
        return f"medians{scale}; {spread}"
    if not any(measured):
        return f"modelled latencies{scale}"
    return f"medians where measured, else modelled latencies{scale}; {spread} of measured ones"


@dataclass(frozen=True)
class _Axis:
    """From zero in equal steps, or from a power of ten in equal factors."""

    low: float
    high: float

    @property
    def words(self) -> str:
        return f" on a logarithmic scale from {words.milliseconds(self.low)}" if self.low else ""

    def place(self, value: float) -> float:
        """Percent of the drawing."""
        if not self.low:
            return _share(value, self.high)
        return _share(math.log(max(value, self.low) / self.low), math.log(self.high / self.low))


def _axis(values: Sequence[float], highest: float) -> _Axis:
    """Logarithmic where the smallest value could not be seen otherwise."""
    least = min(values)
    if least <= 0 or highest / least < WIDE:
        return _Axis(0.0, HEADROOM * highest)
    return _Axis(10.0 ** (math.ceil(math.log10(least)) - 1), HEADROOM * highest)


@dataclass(frozen=True)
class _LayerFigure:
    """A figure that layers can have: title, unit in words, where it is, how it came about."""

    title: str
    say: Callable[[float], str]
    find: Callable[[LayerCost], float | None]
    provenance: Callable[[Run], str]


_LAYER_FIGURES = (
    _LayerFigure(
        "Time of each layer",
        words.milliseconds,
        lambda layer: layer.latency_ms,
        lambda run: run.provenance.layers_latency_ms or "",
    ),
    _LayerFigure(
        "Cycles of each layer",
        words.count,
        lambda layer: layer.cycles,
        lambda run: run.provenance.cycles,
    ),
    _LayerFigure(
        "Instructions of each layer",
        words.count,
        lambda layer: layer.instructions,
        lambda run: run.provenance.instructions,
    ),
)
"""The best figure that a run's layers have is the one that is drawn."""


def layer_chart(run: Run) -> BarChart | None:
    """What each layer takes, in execution order; None where the run does not tell."""
    for figure in _LAYER_FIGURES:
        values = [figure.find(layer) for layer in run.layers]
        known = [value for value in values if value is not None]
        if known and len(known) == len(values) and max(known) > 0:
            return _layer_bars(run, figure, known)
    return None


def _layer_bars(run: Run, figure: _LayerFigure, values: Sequence[float]) -> BarChart:
    total, highest = sum(values), HEADROOM * max(values)
    least = sorted(values, reverse=True)[:MOST_BARS][-1]
    shown = [i for i, value in enumerate(values) if value >= least][:MOST_BARS]
    provenance = figure.provenance(run)
    bars = tuple(
        Bar(
            words.ending(run.layers[i].operation, LONGEST_LABEL),
            run.layers[i].operator,
            f"{figure.say(values[i])} · {100 * values[i] / total:.1f} %",
            _share(values[i], highest),
            None,
            provenance,
        )
        for i in shown
    )
    left = len(values) - len(shown)
    rest = total - sum(values[i] for i in shown)
    return BarChart(
        figure.title if run.on_target else f"{figure.title}, not on the target",
        f"{run.backend} {run.precision} on {run.place}, in execution order; {provenance}.",
        bars,
        f"{left} smaller layers take {words.percent(rest / total)}" if left else "",
        run.on_target,
    )


@dataclass(frozen=True)
class Rectangle:
    """A buffer in the map: place in percent, what it is, and its kind."""

    x: float
    y: float
    width: float
    height: float
    title: str
    kind: str


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: percent, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class MemoryMap:
    """The arena over the layers.

    Attributes:
        rectangles: one per buffer, offset 0 at the bottom.
        ticks: of the bytes, from the bottom.
        kinds: of the buffers.
        layers: how many there are.
        arena: its size in words.
    """

    rectangles: tuple[Rectangle, ...]
    ticks: tuple[Tick, ...]
    kinds: tuple[str, ...]
    layers: int
    arena: str


def memory_map(memory: Memory) -> MemoryMap | None:
    """None where the places of buffers are not known."""
    placed = [
        (block, block.offset, block.first_layer, block.last_layer)
        for block in memory.blocks
        if block.offset is not None and block.first_layer is not None
    ]
    if not placed or memory.activations_bytes == 0:
        return None
    arena = max(memory.activations_bytes, *(offset + b.bytes for b, offset, _, _ in placed))
    layers = 1 + max(last or 0 for _, _, _, last in placed)
    rectangles = []
    for block, offset, first, last in placed:
        assert first is not None and last is not None
        lifetime = f"layer {first}" if first == last else f"layers {first}–{last}"
        rectangles.append(
            Rectangle(
                x=_share(first, layers),
                y=_share(arena - offset - block.bytes, arena),
                width=_share(last + 1 - first, layers),
                height=_share(block.bytes, arena),
                title=f"{block.name}: {words.count(block.bytes)} B at {offset}, {lifetime}",
                kind=block.kind,
            )
        )
    marks = words.ticks(arena, base=2)
    return MemoryMap(
        tuple(rectangles),
        tuple(Tick(_share(mark, arena), words.size(mark)) for mark in marks),
        tuple(sorted({r.kind for r in rectangles})),
        layers,
        words.size(memory.activations_bytes),
    )


@dataclass(frozen=True)
class Part:
    """A piece of a stacked bar: place in percent, name, size in words, kind."""

    x: float
    width: float
    name: str
    value: str
    kind: str


@dataclass(frozen=True)
class Budget:
    """A memory and what fills it.

    Attributes:
        name: ``Flash`` or ``RAM``.
        parts: from the left.
        used: the total, in words.
        available: in words; empty where there is no limit.
        full: percent of the memory that is used, in words; empty where there is no limit.
    """

    name: str
    parts: tuple[Part, ...]
    used: str
    available: str
    full: str


def budgets(memory: Memory) -> tuple[Budget, ...]:
    """Flash and RAM of the image, each with what fills it.

    A memory without a total is left out: a sum of the parts that happen to be known is none.
    """
    flash = (
        ("weights", memory.weights_bytes, "weights"),
        ("code", memory.code_bytes, "code"),
        ("runtime", memory.runtime_bytes, "runtime"),
    )
    ram = (
        ("activations", memory.activations_bytes, "activation"),
        ("state", memory.state_bytes, "state"),
        ("reserved stack", memory.stack_reserved_bytes, "stack"),
    )
    found = (
        _budget("Flash", flash, memory.flash_bytes, available=memory.flash_available_bytes),
        _budget("RAM", ram, memory.ram_bytes, available=memory.ram_available_bytes),
    )
    return tuple(budget for budget in found if budget is not None)


def _budget(
    name: str,
    fields: Sequence[tuple[str, int | None, str]],
    used: int | None,
    *,
    available: int | None,
) -> Budget | None:
    """None without a total."""
    if used is None:
        return None
    known = [(part, value, kind) for part, value, kind in fields if value]
    # A report may be from anywhere: its parts need not add up, and still stay in the drawing.
    whole = max(used, sum(value for _, value, _ in known))
    parts, start = [], 0
    for part, value, kind in known:
        place, width = _share(start, whole), _share(value, whole)
        parts.append(Part(place, width, part, words.size(value), kind))
        start += value
    return Budget(
        name,
        tuple(parts),
        words.size(used),
        words.size(available) if available else "",
        words.percent(used / available) if available else "",
    )


@dataclass(frozen=True)
class Point:
    """A run in the scatter: number, place in percent, name, its values in words, their origins."""

    number: int
    x: float
    y: float
    label: str
    detail: str
    size: str
    size_provenance: str
    accuracy: str
    accuracy_provenance: str
    samples: str


@dataclass(frozen=True)
class Scatter:
    """Accuracy against size, with the ticks of both axes."""

    points: tuple[Point, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def accuracy_chart(reports: Sequence[Report]) -> Scatter | None:
    """Every run with an accuracy and a size; None where there is none."""
    known = [
        (report, run, bytes_of(report, run), run.accuracy.value)
        for report in reports
        for run in report.runs
        if run.accuracy is not None and bytes_of(report, run)
    ]
    if not known:
        return None
    widest = 1.15 * max(size or 0 for _, _, size, _ in known)
    values = [value for *_, value in known]
    spread = max(max(values) - min(values), 0.02)
    steps = words.steps(max(0.0, min(values) - spread / 2), min(1.0, max(values) + spread / 2))
    low, high = steps[0], steps[-1]
    points = []
    for number, (report, run, size, value) in enumerate(known, 1):
        label, detail = run_label(report, run)
        label = f"{report.artifact.name} · {label}"
        points.append(
            Point(
                number,
                _share(size or 0, widest),
                100 - _share(value - low, high - low),
                label,
                detail,
                words.size(size or 0),
                # A file's length is counted whatever was run.
                run.provenance.memory if run.file is None else "counted",
                words.percent(value),
                run.provenance.accuracy,
                words.count(run.accuracy.samples if run.accuracy else 0),
            )
        )
    return Scatter(
        tuple(points),
        tuple(Tick(_share(mark, widest), words.size(mark)) for mark in words.ticks(widest, 4, 2)),
        tuple(Tick(100 - _share(s - low, high - low), words.percent(s)) for s in steps),
    )


def bytes_of(report: Report, run: Run) -> int | None:
    """What a run has to store: flash, or weights without an image, or its model file."""
    if run.file is not None:
        return next((f.bytes for f in report.files if f.file == run.file), None)
    if report.memory is None or run.backend != "c":
        return None
    return report.memory.flash_bytes or report.memory.weights_bytes


def _share(part: float, whole: float) -> float:
    """Percent, with as many digits as a drawing can show."""
    return round(100 * part / whole, 3) if whole else 0.0
