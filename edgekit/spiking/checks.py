"""What must hold for a whole spiking graph: names, edges, shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from edgekit.errors import InvalidModelError
from edgekit.model.model import MAX_ELEMENTS
from edgekit.spiking.arrays import Shape
from edgekit.spiking.nodes import NODES, Input, Output

if TYPE_CHECKING:
    from edgekit.spiking.graph import SpikingGraph

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,119}")
"""What a node may be called: C identifiers without dots, so that ``<node>.membrane`` is unique."""


def check_names(graph: SpikingGraph) -> None:
    """Names, kinds of nodes, and the duration of a step.

    Raises:
        InvalidModelError: says which is wrong.
    """
    for name in (graph.name, *graph.nodes):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InvalidModelError(
                f"the name {name!r} must be at most 120 ASCII letters, digits and underscores, "
                "the first no digit"
            )
    for name, node in graph.nodes.items():
        if not isinstance(node, NODES):
            raise InvalidModelError(
                f"{graph.name}: node {name!r} is {type(node).__name__}, must be one of "
                f"{', '.join(kind.__name__ for kind in NODES)}"
            )
    seconds = graph.dt_seconds
    if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < math.inf):
        raise InvalidModelError(f"{graph.name}: dt_seconds is {seconds!r}, must be positive")
    for kind, names in (("Input", graph.inputs()), ("Output", graph.outputs())):
        if not names:
            raise InvalidModelError(f"{graph.name}: has no {kind} node")


def check_edges(graph: SpikingGraph) -> None:
    """Ends and delays of edges.

    Raises:
        InvalidModelError: an unknown node, a delay other than 0 and 1, an edge into an Input or
            out of an Output, a node that nothing reaches.
    """
    for edge in graph.edges:
        where = f"{graph.name}: the edge {edge.source!r} -> {edge.target!r}"
        for end in (edge.source, edge.target):
            if end not in graph.nodes:
                raise InvalidModelError(f"{where}: there is no node {end!r}")
        if edge.delay not in (0, 1):
            raise InvalidModelError(f"{where} has a delay of {edge.delay!r}, must be 0 or 1 steps")
        if isinstance(graph.nodes[edge.target], Input):
            raise InvalidModelError(f"{where} leads into an Input")
        if isinstance(graph.nodes[edge.source], Output):
            raise InvalidModelError(f"{where} leads out of an Output")
    for name, node in graph.nodes.items():
        if not isinstance(node, Input) and not graph.incoming(name):
            raise InvalidModelError(f"{graph.name}: node {name!r} has no incoming edge")


def infer_shapes(graph: SpikingGraph) -> dict[str, Shape]:
    """The shape of every node's value, from the Inputs along all edges, delayed ones included.

    Raises:
        InvalidModelError: a node that no Input reaches, or a shape that a node cannot read.
    """
    shapes: dict[str, Shape] = {}
    waiting: list[tuple[str, Shape]] = [(name, ()) for name in graph.inputs()]
    while waiting:
        name, read = waiting.pop()
        if name in shapes:
            continue
        try:
            shapes[name] = graph.nodes[name].output_shape(read)
        except InvalidModelError as error:
            raise InvalidModelError(f"{graph.name}: node {name!r}: {error}") from None
        if math.prod(shapes[name]) > MAX_ELEMENTS:
            raise InvalidModelError(
                f"{graph.name}: node {name!r} has the shape {list(shapes[name])}, more than "
                f"{MAX_ELEMENTS} elements"
            )
        waiting.extend((edge.target, shapes[name]) for edge in graph.outgoing(name))
    for name in graph.nodes:
        if name not in shapes:
            raise InvalidModelError(f"{graph.name}: no Input reaches node {name!r}")
    return {name: shapes[name] for name in graph.nodes}


def check_shapes(graph: SpikingGraph) -> None:
    """That the values which a node adds have one shape.

    Raises:
        InvalidModelError: as :func:`infer_shapes`, or several shapes.
    """
    shapes = graph.shapes()
    for name in graph.nodes:
        edges = graph.incoming(name)
        if len({shapes[edge.source] for edge in edges}) > 1:
            listed = ", ".join(f"{edge.source} {list(shapes[edge.source])}" for edge in edges)
            raise InvalidModelError(
                f"{graph.name}: node {name!r} adds values of several shapes: {listed}"
            )


def find_cycle(graph: SpikingGraph, done: Collection[str]) -> list[str]:
    """The nodes of one cycle without delay, the first repeated at the end.

    Args:
        graph: which has one.
        done: nodes that wait for none.
    """
    name = next(name for name in graph.nodes if name not in done)
    seen: list[str] = []
    # Every node that waits has a source that waits: walking backwards must come around.
    while name not in seen:
        seen.append(name)
        name = next(
            edge.source
            for edge in graph.incoming(name)
            if not edge.delay and edge.source not in done
        )
    return [name, *reversed(seen[seen.index(name) :])]
