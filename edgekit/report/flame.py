"""A flame graph of cycles: the network, its layers in execution order, the functions of each.

Width is cycles. The lower part of a box is filled by cause, so that all areas of one colour
together are the cycles of that cause; its upper part has the colour of the largest cause, and the
name. Where causes are not known there is no lower part. What would be too thin to be seen is drawn
together with its neighbours, and says so. All places are in percent of the drawing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgekit.bench.costs import FunctionCost, LayerCost, sum_of_causes
from edgekit.bench.report import Run
from edgekit.report import words
from edgekit.report.causes import KIND_WORDS, Slice, Spent, key, share, slices

THINNEST = 0.5
"""Percent of the network below which boxes are drawn together."""

LONGEST_NAME = 48
"""Characters of a name in a box, whose end tells more than its beginning."""

LONGEST_DETAIL = 200
"""Characters of the names of what is drawn together."""


BY_CAUSE = "The lower part of a box is divided by cause."
NO_CAUSES = "The model times whole blocks of instructions and tells no causes."


@dataclass(frozen=True)
class Box:
    """A box of the drawing.

    Attributes:
        x: percent of the network's cycles before it.
        width: percent of the network's cycles.
        name: what it stands for.
        detail: more about it, in small.
        value: its share, in words.
        title: everything about it.
        cause: the largest one.
        slices: by cause, from the top; none where causes are not known.
    """

    x: float
    width: float
    name: str
    detail: str
    value: str
    title: str
    cause: str
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Level:
    """Boxes of one depth, from the left."""

    name: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class FlameGraph:
    """The drawing.

    Attributes:
        note: which run, how its figures came about, and what the drawing shows.
        levels: the network, its layers, their functions.
        joined: that boxes were drawn together, in words; empty where none were.
        causes: that occur, each with what it is and its share.
    """

    note: str
    levels: tuple[Level, ...]
    joined: str
    causes: tuple[tuple[str, str], ...]


def flame_graph(run: Run) -> FlameGraph | None:
    """None where some layer has no cycles, or no functions."""
    whole = sum(layer.cycles or 0.0 for layer in run.layers)
    if not whole or any(layer.cycles is None or not layer.functions for layer in run.layers):
        return None
    causes = sum_of_causes([layer.causes for layer in run.layers])
    layers: list[Box] = []
    functions: list[Box] = []
    start = 0.0
    for group in _groups(run.layers, whole):
        cycles = sum(layer.cycles or 0.0 for _, layer in group)
        layers.append(_box(_layer(group), start, whole))
        functions += _boxes(_functions(group, whole), start, whole)
        start += cycles
    count = len(run.layers)
    is_whole = len(layers) == count and len(functions) == sum(len(x.functions) for x in run.layers)
    network = Spent(
        f"{count} layer{'s' if count > 1 else ''}", f"{words.count(whole)} cycles", whole, causes
    )
    return FlameGraph(
        f"{run.backend} {run.precision} on {run.place}; {run.origin(run.provenance.cycles)}. "
        "Width is cycles: the network, its layers in execution order, what each spends in which "
        f"function. {NO_CAUSES if causes is None else BY_CAUSE}",
        (
            Level("network", (_box(network, 0.0, whole),)),
            Level("layers", tuple(layers)),
            Level("functions", tuple(functions)),
        ),
        "" if is_whole else f"What is thinner than {THINNEST:g} % is drawn together.",
        key(causes),
    )


Group = Sequence[tuple[int, LayerCost]]


def _groups(layers: Sequence[LayerCost], whole: float) -> Iterator[Group]:
    """Layers with their indices; neighbours that are too thin to be seen are one group."""
    numbered = enumerate(layers)
    for thin, group in itertools.groupby(numbered, lambda pair: _is_thin(pair[1].cycles, whole)):
        if thin:
            yield list(group)
        else:
            yield from ([pair] for pair in group)


def _is_thin(cycles: float | None, whole: float) -> bool:
    return share(cycles or 0.0, whole) < THINNEST


def _layer(group: Group) -> Spent:
    """A layer, or several that are drawn together."""
    cycles = sum(layer.cycles or 0.0 for _, layer in group)
    causes = sum_of_causes([layer.causes for _, layer in group])
    first, layer = group[0]
    if len(group) == 1:
        return Spent(f"{first} {layer.operator}", layer.operation, cycles, causes)
    names = ", ".join(layer.operation for _, layer in group)
    return Spent(f"{first}–{group[-1][0]} {len(group)} layers", names, cycles, causes)


def _functions(group: Group, whole: float) -> list[Spent]:
    """The functions of a layer, those that are too thin as one; of several layers all as one."""
    costs = [cost for _, layer in group for cost in layer.functions]
    thin = [cost for cost in costs if len(group) > 1 or _is_thin(cost.cycles, whole)]
    if len(thin) < 2:
        return [_function(cost) for cost in costs]
    names = ", ".join(dict.fromkeys(cost.function for cost in thin))
    joined = Spent(
        f"{len(thin)} functions",
        names,
        sum(cost.cycles or 0.0 for cost in thin),
        sum_of_causes([cost.causes for cost in thin]),
    )
    return [*(_function(cost) for cost in costs if cost not in thin), joined]


def _function(cost: FunctionCost) -> Spent:
    names = {"layer": KIND_WORDS["layer"], "kernel": cost.kernel or cost.function}
    detail = cost.function if cost.kind in names else KIND_WORDS[cost.kind]
    name = names.get(cost.kind, cost.function)
    return Spent(name, detail, cost.cycles or 0.0, cost.causes)


def _boxes(spent: Iterable[Spent], start: float, whole: float) -> Iterator[Box]:
    """Side by side from `start` cycles on."""
    for entry in spent:
        yield _box(entry, start, whole)
        start += entry.cycles


def _box(spent: Spent, start: float, whole: float) -> Box:
    value = f"{share(spent.cycles, whole):.1f} %"
    detail = words.ending(spent.detail, LONGEST_DETAIL)
    return Box(
        x=share(start, whole),
        width=share(spent.cycles, whole),
        name=words.ending(spent.name, LONGEST_NAME),
        detail=detail,
        value=value,
        title=f"{spent.title}, {value} of the network" + (f"; {detail}" if detail else ""),
        cause=spent.largest,
        slices=() if spent.causes is None else slices(spent, spent.cycles),
    )
