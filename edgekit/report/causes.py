"""Bars stacked by cause: cycles by layer, by kernel and by function, in percent of the drawing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgekit.bench.costs import CAUSES, Causes, LayerCost, sum_of_causes
from edgekit.bench.report import Run
from edgekit.report import words

MOST_BARS = 40
"""Bars of layers and kernels in one chart; the rest is summed up, the table has everything."""

MOST_FUNCTIONS = 16
"""Bars of functions in one chart."""

HEADROOM = 1.04
"""How far the axis goes beyond the longest bar."""

LONGEST_LABEL = 40
"""Characters of a name beside its bar; its end tells more than its beginning."""

CAUSE_WORDS = {
    "issue": "instructions issuing",
    "arithmetic": "multi-cycle arithmetic, and waiting for its result",
    "load": "loads and stores beyond one cycle, and waiting for them",
    "fetch": "waiting for instructions from memory",
    "branch": "refilling the pipeline after jumps",
}
"""What each cause is."""

KIND_WORDS = {
    "layer": "layer’s own",
    "kernel": "kernel",
    "helper": "helper of a kernel",
    "runtime": "runtime",
}
"""What a function is to a layer."""

OWN = "layers’ own functions"
"""What calls the kernels: one function for each layer, and nothing to compare them by."""

UNKNOWN = "unknown"
"""Stands for the causes of a model that does not tell them."""


@dataclass(frozen=True)
class Spent:
    """Cycles with their causes, before they are drawn."""

    name: str
    detail: str
    cycles: float
    causes: Causes | None

    @property
    def title(self) -> str:
        """The name and the cycles, by cause where that is known."""
        text = f"{self.name}: {words.count(self.cycles)} cycles"
        if self.causes is None or not self.cycles:
            return text
        known = {cause: getattr(self.causes, cause) for cause in CAUSES}
        shares = (f"{c} {share(v, self.cycles):.1f} %" for c, v in known.items() if v)
        return f"{text} ({', '.join(shares)})"

    @property
    def largest(self) -> str:
        """The cause of most cycles."""
        if self.causes is None:
            return UNKNOWN
        causes = self.causes
        return max(CAUSES, key=lambda cause: float(getattr(causes, cause)))


@dataclass(frozen=True)
class Slice:
    """A part of a bar or a box: where it begins and how large it is in percent, and its cause."""

    at: float
    size: float
    cause: str


@dataclass(frozen=True)
class StackedBar:
    """One bar from zero.

    Attributes:
        label: what it stands for.
        detail: more about it, in small.
        value: in words.
        title: everything about it.
        slices: by cause, from zero.
    """

    label: str
    detail: str
    value: str
    title: str
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class StackedChart:
    """Bars under a title.

    Attributes:
        title: what is shown.
        note: how to read it.
        bars: the most expensive ones; all have the same axis.
        rest: what was left out, in words; empty for nothing.
        causes: that occur, each with its share in words.
    """

    title: str
    note: str
    bars: tuple[StackedBar, ...]
    rest: str
    causes: tuple[tuple[str, str], ...]


def share(part: float, whole: float) -> float:
    """Percent, with as many digits as a drawing can show."""
    return round(100 * part / whole, 3) if whole else 0.0


def slices(spent: Spent, whole: float) -> tuple[Slice, ...]:
    """By cause, in a drawing that stands for `whole` cycles."""
    if spent.causes is None:
        return (Slice(0.0, share(spent.cycles, whole), UNKNOWN),)
    found, start = [], 0.0
    for cause in CAUSES:
        value = getattr(spent.causes, cause)
        if value:
            found.append(Slice(share(start, whole), share(value, whole), cause))
        start += value
    return tuple(found)


def key(causes: Causes | None) -> tuple[tuple[str, str], ...]:
    """The causes that occur, each with what it is and its share."""
    if causes is None:
        return ()
    found = ((cause, getattr(causes, cause)) for cause in CAUSES)
    return tuple(
        (cause, f"{share(value, causes.total):.1f} % {cause}: {CAUSE_WORDS[cause]}")
        for cause, value in found
        if value
    )


def cause_charts(run: Run) -> tuple[StackedChart, ...]:
    """Cycles by layer, by kernel and by function; none where their causes are not known."""
    causes = sum_of_causes([layer.causes for layer in run.layers])
    if causes is None or not causes.total:
        return ()
    place = f"{run.backend} {run.precision} on {run.place}; {run.origin(run.provenance.cycles)}."
    charts = (
        ("Cycles of each layer", "In execution order", list(_layers(run.layers)), MOST_BARS),
        ("Cycles by kernel", "All that its layers take", _kernels(run.layers), MOST_BARS),
        (
            "Cycles by function",
            "Of all layers, without what a function calls",
            _functions(run.layers),
            MOST_FUNCTIONS,
        ),
    )
    return tuple(
        _chart(title, f"{note}; {place}", spent, most, key(causes))
        for title, note, spent, most in charts
        if spent
    )


def _layers(layers: Iterable[LayerCost]) -> Iterator[Spent]:
    for index, layer in enumerate(layers):
        cycles = layer.cycles or 0.0
        detail = f"{layer.kernel or layer.operator}{_rate(cycles, layer.macs or 0)}"
        name = words.ending(layer.operation, LONGEST_LABEL)
        yield Spent(f"{index} {name}", detail, cycles, layer.causes)


def _rate(cycles: float, macs: int) -> str:
    return f" · {cycles / macs:.3g} cycles/MAC" if macs else ""


def _kernels(layers: Iterable[LayerCost]) -> list[Spent]:
    """Layers of one kernel together, the most expensive first; none where one has no kernel."""
    groups: dict[str | None, list[LayerCost]] = {}
    for layer in layers:
        groups.setdefault(layer.kernel, []).append(layer)
    found = []
    for kernel, own in groups.items():
        if kernel is None:
            return []
        cycles = sum(layer.cycles or 0.0 for layer in own)
        count = f"{len(own)} layer{'s' if len(own) > 1 else ''}"
        detail = f"{count}{_rate(cycles, sum(layer.macs or 0 for layer in own))}"
        causes = sum_of_causes([layer.causes for layer in own])
        found.append(Spent(kernel, detail, cycles, causes))
    return sorted(found, key=lambda spent: -spent.cycles)


def _functions(layers: Iterable[LayerCost]) -> list[Spent]:
    """A function in all layers together, the most expensive first; layers' own ones are one."""
    found: dict[str, Spent] = {}
    for layer in layers:
        for cost in layer.functions:
            name = OWN if cost.kind == "layer" else cost.function
            old = found.get(name)
            causes = cost.causes
            if old is not None:
                causes = sum_of_causes([old.causes, cost.causes])
            cycles = (cost.cycles or 0.0) + (old.cycles if old else 0.0)
            detail = "" if name == OWN else KIND_WORDS[cost.kind]
            found[name] = Spent(name, detail, cycles, causes)
    return sorted(found.values(), key=lambda spent: -spent.cycles)


def _chart(
    title: str,
    note: str,
    spent: Sequence[Spent],
    most: int,
    causes: tuple[tuple[str, str], ...],
) -> StackedChart:
    whole = sum(entry.cycles for entry in spent)
    axis = HEADROOM * max(entry.cycles for entry in spent)
    first = sorted(range(len(spent)), key=lambda i: -spent[i].cycles)[:most]
    shown = [spent[i] for i in sorted(first)]
    left = len(spent) - len(shown)
    rest = whole - sum(entry.cycles for entry in shown)
    return StackedChart(
        title,
        note,
        tuple(
            StackedBar(
                words.ending(entry.name, LONGEST_LABEL + len("999 ")),
                entry.detail,
                f"{words.count(entry.cycles)} · {share(entry.cycles, whole):.1f} %",
                entry.title,
                slices(entry, axis),
            )
            for entry in shown
        ),
        f"{left} smaller ones take {words.percent(rest / whole)}" if left else "",
        causes,
    )
