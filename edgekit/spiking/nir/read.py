"""A .nir file as a spiking graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path as FilePath
from types import MappingProxyType

import numpy as np

from edgekit.errors import EdgekitError, InvalidModelError, UnsupportedError
from edgekit.spiking.arrays import Shape
from edgekit.spiking.graph import Edge, SpikingGraph, identifier
from edgekit.spiking.nir.container import read_tree
from edgekit.spiking.nir.layers import layer
from edgekit.spiking.nir.neurons import STATEFUL, Parts, neuron_parts, threshold_parts
from edgekit.spiking.nir.semantics import Semantics, choose
from edgekit.spiking.nir.tree import NirNode, NirTree, Path
from edgekit.spiking.nir.wiring import Wiring, wire
from edgekit.spiking.nodes import Node


@dataclass(frozen=True, eq=False)
class Imported:
    """What a .nir file became.

    Attributes:
        graph: valid, one step of it.
        semantics: what the file left open and how it was settled.
        tree: the file's own nodes, to write them again.
        parts: names in the graph of what each node of the file became, in a row, by path; Delays
            and the ports of graphs within became edges.
        chosen: delayed edges that the file does not state; see :mod:`edgekit.spiking.nir.wiring`.
    """

    graph: SpikingGraph
    semantics: Semantics
    tree: NirTree
    parts: Mapping[Path, tuple[str, ...]]
    chosen: tuple[Edge, ...]

    def __str__(self) -> str:
        late = ", ".join(f"{edge.source} -> {edge.target}" for edge in self.chosen)
        return f"{self.graph.name}: {self.semantics}; read one step late: {late or 'nothing'}"


def read_nir(
    path: FilePath | str,
    *,
    dt: float | None = None,
    convention: str = "nir",
    reset: str | None = None,
    method: str | None = None,
) -> SpikingGraph:
    """The spiking graph of a .nir file; :func:`import_nir` also says how it was read."""
    imported = import_nir(path, dt=dt, convention=convention, reset=reset, method=method)
    return imported.graph


def import_nir(
    path: FilePath | str,
    *,
    dt: float | None = None,
    convention: str = "nir",
    reset: str | None = None,
    method: str | None = None,
) -> Imported:
    """Read a .nir file that nobody vouches for.

    Args:
        path: of the file.
        dt: seconds of a step; None: what the file's metadata says, else 1e-4, snnTorch's.
        convention: whose neurons ``v_reset = 0`` stands for: ``"nir"`` (zero at once) or
            ``"snntorch"`` (its default, subtraction in the next step); see
            :mod:`edgekit.spiking.nir.semantics`.
        reset: ``"zero"``, ``"zero-next"`` or ``"subtract"`` in place of the convention's. A neuron
            whose metadata names its reset keeps that.
        method: ``"euler"`` or ``"exponential"``; None: what the metadata says, else Euler.

    Returns:
        The graph, with names made identifiers, and how it came about.

    Raises:
        UsageError: arguments that are none of these.
        InvalidModelError: a file that is no NIR, damaged or hostile; shapes that do not fit; NaN;
            decays outside [0, 1] at this step; a cycle in which nothing keeps a state.
        UnsupportedError: nodes, fields or values that cannot be run; the node is named.
        ToolchainMissingError: the package nir is missing.
    """
    path = FilePath(path)
    tree = read_tree(path)
    try:
        semantics = choose(tree, dt=dt, convention=convention, reset=reset, method=method)
        wiring = wire(tree, semantics.dt_seconds)
        # What overflows becomes infinite, and infinite parameters are refused by name.
        with np.errstate(all="ignore"):
            names, nodes = _nodes(wiring, semantics)
        graph = _graph(identifier(path.stem, ()), wiring, names, nodes, semantics.dt_seconds)
        graph.validate()
        _check_stated(wiring, names, graph)
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from error
    except InvalidModelError as error:
        raise InvalidModelError(f"{path}: {error}") from error
    chosen = tuple(Edge(names[a][-1], names[b][0], delay) for a, b, delay in wiring.chosen)
    return Imported(graph, semantics, tree, MappingProxyType(names), chosen)


def _nodes(
    wiring: Wiring, semantics: Semantics
) -> tuple[dict[Path, tuple[str, ...]], dict[str, Node]]:
    """The graph's nodes, and their names by path."""
    names: dict[Path, tuple[str, ...]] = {}
    nodes: dict[str, Node] = {}
    for path, node in wiring.nodes.items():
        base = identifier("_".join(path), nodes)
        row = []
        for suffix, part in _parts(node, path, semantics):
            name = identifier(f"{base}{suffix}", nodes)
            nodes[name] = part
            row.append(name)
        names[path] = tuple(row)
    return names, nodes


def _parts(node: NirNode, path: Path, semantics: Semantics) -> Parts:
    """What one node becomes, errors with its name."""
    try:
        if node.type in STATEFUL:
            return neuron_parts(node, semantics)
        if node.type == "Threshold":
            return threshold_parts(node)
        return (("", layer(node)),)
    except EdgekitError as error:
        raise type(error)(f"node {'.'.join(path)!r}, a {node.type}: {error}") from error


def _graph(
    name: str,
    wiring: Wiring,
    names: Mapping[Path, tuple[str, ...]],
    nodes: Mapping[str, Node],
    dt: float,
) -> SpikingGraph:
    within = [Edge(a, b) for row in names.values() for a, b in pairwise(row)]
    between = [Edge(names[a][-1], names[b][0], delay) for a, b, delay in wiring.edges]
    return SpikingGraph(name, nodes, (*within, *between), dt)


def _check_stated(
    wiring: Wiring, names: Mapping[Path, tuple[str, ...]], graph: SpikingGraph
) -> None:
    """Shapes that the file states besides what follows from the others.

    Raises:
        InvalidModelError: one that does not fit.
    """
    shapes = graph.shapes()
    for path, node in wiring.nodes.items():
        gives = shapes[names[path][-1]]
        before = graph.incoming(names[path][0])
        reads = shapes[before[0].source] if before else gives
        for stated, real in _stated(node, reads, gives):
            if stated != real:
                raise InvalidModelError(
                    f"node {'.'.join(path)!r}, a {node.type}, states the shape {list(stated)}, "
                    f"but {list(real)} arrives"
                )


def _stated(node: NirNode, reads: Shape, gives: Shape) -> list[tuple[Shape, Shape]]:
    """Shapes that a node states, and what they have to be."""
    if node.type == "Output":
        return [(_integers(node, "shape"), gives)]
    if node.type == "Flatten" and "input_type" in node.fields:
        return [(_integers(node, "input_type"), reads)]
    if node.type.startswith("Conv") and "input_shape" in node.fields:
        return [(_integers(node, "input_shape"), reads[1:])]
    population = node.fields.get("r", node.fields.get("threshold"))
    if isinstance(population, np.ndarray) and population.size > 1:
        # One number per channel is no shape of NIR's, but what snnTorch writes of such neurons.
        channels = population.shape == gives[:1]
        return [] if channels else [(population.shape, gives)]
    return []


def _integers(node: NirNode, key: str) -> Shape:
    value = node.fields[key]
    assert isinstance(value, np.ndarray)
    return tuple(int(number) for number in value.reshape(-1))
