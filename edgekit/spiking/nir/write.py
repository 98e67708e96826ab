"""A spiking graph as a .nir file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

import numpy as np

from edgekit.errors import (
    EdgekitError,
    InvalidModelError,
    OutputError,
    ToolchainMissingError,
    UnsupportedError,
)
from edgekit.spiking.graph import SpikingGraph, identifier
from edgekit.spiking.nir import layers, neurons
from edgekit.spiking.nir.read import Imported
from edgekit.spiking.nir.semantics import DT_SECONDS, METADATA_DT, METADATA_METHOD
from edgekit.spiking.nir.tree import Metadata, NirNode, NirTree, Path
from edgekit.spiking.nir.wiring import delayed_edges
from edgekit.spiking.nodes import Count, Input, Leaky, Node, Synaptic


def write_nir(
    graph: SpikingGraph, path: FilePath | str, *, like: Imported | None = None
) -> FilePath:
    """Write a spiking graph as a .nir file, whole or not at all.

    Decays become time constants whose Euler step is them: ``tau = dt / (1 - beta)``, with
    ``r = tau / dt`` so that the gain is 1, ``v_leak`` and ``v_reset`` 0, in float64 (reading gives
    the same float32 decays again). A Count becomes an integrator I. Edges are written without
    delay where a reader of the rule of :mod:`edgekit.spiking.nir.wiring` finds the delays again,
    as snnTorch writes its recurrent neurons; else every delayed edge gets a Delay node of one
    step. The reset of neurons, which NIR cannot say, the step and the method stand in the
    metadata. Quantised weights are written as the numbers that they stand for.

    Args:
        graph: validated here; where it names no step, it is 1e-4 s as snnTorch's.
        path: of the file, ``.nir``; its folder is made.
        like: an import whose graph this is, maybe with other parameters: the file then has that
            file's names, graphs within and metadata, and where a node was not changed its fields
            to the bit.

    Returns:
        The path.

    Raises:
        InvalidModelError: the graph is not valid, or has other nodes or edges than `like`.
        UnsupportedError: a node that NIR does not know; it is named.
        OutputError: the name does not end in ``.nir``, or the place cannot be written.
        ToolchainMissingError: the package nir is missing.
    """
    path = FilePath(path)
    if path.suffix.lower() != ".nir":
        raise OutputError(f"{path}: a NIR graph is written as a .nir file")
    nir = _nir()
    graph.validate()
    tree = _tree(graph) if like is None else _tree_like(graph, like)
    _save(nir, _object(nir, tree), path)
    return path


def _nir() -> Any:
    """The package nir."""
    try:
        import nir
    except ModuleNotFoundError as error:
        raise ToolchainMissingError(
            "reading and writing .nir files needs the package nir: pip install 'edgekit[nir]'"
        ) from error
    return nir


def _tree(graph: SpikingGraph) -> NirTree:
    """A graph in NIR's terms, flat."""
    dt = DT_SECONDS if graph.dt_seconds is None else graph.dt_seconds
    nodes: dict[str, NirNode | NirTree] = {
        name: _node(graph, name, node, dt) for name, node in graph.nodes.items()
    }
    edges: list[tuple[str, str]] = []
    stated = _needs_delays(graph)
    for edge in graph.edges:
        if not (stated and edge.delay):
            edges.append((edge.source, edge.target))
            continue
        name = identifier(f"{edge.source}_late", nodes)
        shape = graph.shapes()[edge.source]
        nodes[name] = NirNode("Delay", {"delay": np.full(shape, dt)})
        edges += [(edge.source, name), (name, edge.target)]
    twice = next((edge for edge in edges if edges.count(edge) > 1), None)
    if twice:
        raise UnsupportedError(f"two edges {twice[0]!r} -> {twice[1]!r}; NIR has one at most")
    metadata: Metadata = {METADATA_DT: np.array(dt), METADATA_METHOD: "euler"}
    return NirTree(nodes, tuple(edges), MappingProxyType(metadata))


def _node(graph: SpikingGraph, name: str, node: Node, dt: float) -> NirNode:
    """One node in NIR's terms, errors with its name."""
    shapes = graph.shapes()
    gives, before = shapes[name], graph.incoming(name)
    try:
        if isinstance(node, Count):
            return NirNode("I", {"r": np.full(gives, 1 / dt)})
        if isinstance(node, Leaky | Synaptic):
            return neurons.to_nir(node, gives, dt)
        return layers.to_nir(node, shapes[before[0].source] if before else gives, gives)
    except EdgekitError as error:
        raise type(error)(f"{graph.name}: node {name!r}: {error}") from error


def _needs_delays(graph: SpikingGraph) -> bool:
    """Whether the edges without their delays would be read as another graph."""
    keeping = {
        (name,) for name, node in graph.nodes.items() if isinstance(node, Leaky | Synaptic | Count)
    }
    edges = [((edge.source,), (edge.target,), 0) for edge in graph.edges]
    inputs = [(name,) for name, node in graph.nodes.items() if isinstance(node, Input)]
    try:
        late = delayed_edges([(name,) for name in graph.nodes], edges, keeping, inputs)
    except InvalidModelError:
        return True
    return late != {index for index, edge in enumerate(graph.edges) if edge.delay}


def _tree_like(graph: SpikingGraph, like: Imported) -> NirTree:
    """The tree of an import with the nodes that were changed.

    Raises:
        InvalidModelError: other names or edges.
        UnsupportedError: a changed node that is one of several that a node of the file became.
    """
    old = like.graph
    if set(graph.nodes) != set(old.nodes) or _edges(graph) != _edges(old):
        raise InvalidModelError(
            f"{graph.name} has other nodes or edges than the import that it is written like"
        )
    dt = like.semantics.dt_seconds
    changed: dict[Path, NirNode] = {}
    for path, names in like.parts.items():
        if all(_same(graph.nodes[name], old.nodes[name]) for name in names):
            continue
        if len(names) > 1 or like.semantics.method != "euler":
            raise UnsupportedError(
                f"{graph.name}: {' and '.join(map(repr, names))} stand for {'.'.join(path)!r} "
                f"({like.semantics.method}) and were changed; write the graph without `like`"
            )
        changed[path] = _node(graph, names[0], graph.nodes[names[0]], dt)
    return _replaced(like.tree, changed)


def _edges(graph: SpikingGraph) -> list[tuple[str, str, int]]:
    return sorted((edge.source, edge.target, edge.delay) for edge in graph.edges)


def _same(one: Node, other: Node) -> bool:
    """Whether two nodes are equal; their arrays are compared by value."""
    if one is other:
        return True
    return type(one) is type(other) and all(
        np.array_equal(value.values, getattr(other, key).values)
        if key == "weight"
        else np.array_equal(value, getattr(other, key))
        for key, value in vars(one).items()
    )


def _replaced(tree: NirTree, changed: Mapping[Path, NirNode], path: Path = ()) -> NirTree:
    nodes: dict[str, NirNode | NirTree] = {}
    for name, node in tree.nodes.items():
        here = (*path, name)
        nodes[name] = (
            _replaced(node, changed, here) if isinstance(node, NirTree) else changed.get(here, node)
        )
    return NirTree(nodes, tree.edges, tree.metadata)


def _object(nir: Any, node: NirNode | NirTree) -> Any:
    """A node as the package nir has it."""
    if isinstance(node, NirTree):
        # Its type check knows no grouped convolution; shapes were checked before.
        return nir.NIRGraph(
            nodes={name: _object(nir, part) for name, part in node.nodes.items()},
            edges=list(node.edges),
            metadata=_plain(node.metadata),
            type_check=False,
        )
    stated = {**_plain(node.fields), "metadata": _plain(node.metadata), "type": node.type}
    return nir.dict2NIRNode(stated)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields for nir: numbers of no axis as scalars, which HDF5 cannot compress."""
    return {
        key: _plain(value)
        if isinstance(value, Mapping)
        else value[()]
        if isinstance(value, np.ndarray) and value.ndim == 0
        else value
        for key, value in values.items()
    }


def _save(nir: Any, node: Any, path: FilePath) -> None:
    """The file, under its name when it is complete.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".nir", dir=path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    os.close(handle)
    temporary = FilePath(name)
    try:
        nir.write(temporary, node)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
