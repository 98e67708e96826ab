"""Weights of a spiking graph as codes of few bits, without training.

Everything that one neuron reads has to add up as integers, so all rows into a neuron share one
scale: it is chosen for the rows of all its Linear and Conv nodes side by side.

=================== ====================================================================
element             rule (:mod:`edgekit.formats.scales`)
=================== ====================================================================
int8                absmax
ternary, binary     mean: BitNet b1.58's scale, with a neuron in place of a tensor
anything else       mse: the best of 53 shrunk absmax scales
=================== ====================================================================

Biases, decays and thresholds stay real numbers. Source of the mean: Ma et al. 2024, "The Era of
1-bit LLMs", arXiv 2402.17764.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from edgekit.errors import UnsupportedError, UsageError
from edgekit.formats import ELEMENTS, RULES, Element, Rule, find_element, nearest_integers
from edgekit.spiking.graph import SpikingGraph
from edgekit.spiking.nodes import (
    AvgPool,
    Conv,
    Leaky,
    Linear,
    MaxPool,
    Node,
    SumPool,
    Synaptic,
    Weighted,
)
from edgekit.spiking.weight import Weight


def quantize_weights(
    graph: SpikingGraph,
    element: str,
    *,
    keep: Collection[str] = (),
    elements: Mapping[str, str] | None = None,
    rule: Rule | None = None,
) -> SpikingGraph:
    """The same graph with coded weights.

    Args:
        graph: validated here; weights that are coded already are coded anew.
        element: name of :data:`edgekit.formats.ELEMENTS` whose integers fit int16.
        keep: names of Linear and Conv nodes whose weights stay as they are. All that one
            population reads is kept, or nothing.
        elements: other elements for some nodes, by name; again for all that a population reads.
        rule: how scales are chosen; None: as the module's table says.

    Returns:
        A new graph; `graph` is not changed.

    Raises:
        InvalidModelError: the graph is not valid.
        UsageError: an unknown element, rule or node; a population of which only a part is kept,
            or whose weights would have several elements.
        UnsupportedError: an element whose integers need more than 16 bits.

    >>> from edgekit.spiking import Edge, Input, Leaky, Output
    >>> weight = Weight(np.float32([[0.5, -1.5], [0.1, 0.0]]))
    >>> nodes = {"x": Input((2,)), "w": Linear(weight), "lif": Leaky(0.5), "y": Output()}
    >>> edges = (Edge("x", "w"), Edge("w", "lif"), Edge("lif", "y"))
    >>> coded = quantize_weights(SpikingGraph("g", nodes, edges), "ternary").nodes["w"].weight
    >>> coded.codes.tolist(), coded.scale.tolist()
    ([[0, -1], [1, 0]], [1.0, 0.05000000074505806])
    """
    graph.validate()
    if rule is not None and rule not in RULES:
        raise UsageError(f"no rule {rule!r} for scales, must be one of {', '.join(RULES)}")
    wanted = _wanted(graph, element, keep, elements or {})
    changed: dict[str, Node] = {}
    for names in sharing_groups(graph):
        chosen = {wanted[name] for name in names}
        if len(chosen) > 1:
            listed = ", ".join(f"{name}: {wanted[name] or 'kept'}" for name in names)
            raise UsageError(
                f"{graph.name}: {listed}; they lead into the same neurons, where weights add up: "
                "all must have one element, or all be kept"
            )
        (name_of_element,) = chosen
        if name_of_element is not None:
            changed |= _coded(graph, names, _usable(name_of_element), rule)
    return graph.with_nodes(changed)


def sharing_groups(graph: SpikingGraph) -> tuple[tuple[str, ...], ...]:
    """Names of Linear and Conv nodes whose rows share scales, in order of the graph's nodes.

    Two share where a population reads both, as they are or through pools. A node that no population
    reads is alone.
    """
    groups: dict[str, list[str]] = {
        name: [name] for name, node in graph.nodes.items() if isinstance(node, Linear | Conv)
    }
    for name, node in graph.nodes.items():
        if not isinstance(node, Leaky | Synaptic):
            continue
        read = [source for source in _behind_pools(graph, name) if source in groups]
        for other in read[1:]:
            first, second = groups[read[0]], groups[other]
            if first is not second:
                first.extend(second)
                groups |= dict.fromkeys(second, first)
    place = {name: index for index, name in enumerate(graph.nodes)}
    distinct = {id(group): group for group in groups.values()}.values()
    ordered = [tuple(sorted(group, key=place.__getitem__)) for group in distinct]
    return tuple(sorted(ordered, key=lambda group: place[group[0]]))


def _behind_pools(graph: SpikingGraph, name: str) -> list[str]:
    """What a node reads, with the sources of pools in place of the pools; each once."""
    found: dict[str, None] = {}
    pending, seen = [name], {name}
    while pending:
        for edge in graph.incoming(pending.pop()):
            if isinstance(graph.nodes[edge.source], MaxPool | SumPool | AvgPool):
                if edge.source not in seen:
                    seen.add(edge.source)
                    pending.append(edge.source)
            else:
                found[edge.source] = None
    return list(found)


def _wanted(
    graph: SpikingGraph, element: str, keep: Collection[str], elements: Mapping[str, str]
) -> dict[str, str | None]:
    """The element of every node with weights, None of one that is kept."""
    wanted: dict[str, str | None] = {
        name: element for name, node in graph.nodes.items() if isinstance(node, Linear | Conv)
    }
    for name in (*keep, *elements):
        if name not in wanted:
            raise UsageError(
                f"{graph.name}: no weights are called {name!r}, there are: {', '.join(wanted)}"
            )
        if name in keep and name in elements:
            raise UsageError(f"{graph.name}: {name!r} is to be kept and to become {elements[name]}")
    return wanted | dict(elements) | dict.fromkeys(keep)


def _usable(name: str) -> Element:
    """The element of this name, whose integers a Weight can hold."""
    element = find_element(name)
    if element.dtype.itemsize > 2:
        fitting = ", ".join(e.name for e in ELEMENTS.values() if e.dtype.itemsize <= 2)
        raise UnsupportedError(
            f"weights of the element {name} in a spiking graph: its integers exceed 16 bits; "
            f"supported: {fitting}"
        )
    return element


def _rule_of(element: Element) -> Rule:
    """The rule of the module's table."""
    if element.name == "int8":
        return "absmax"
    return "mean" if element.maximum == 1 and element.minimum == -1 else "mse"


def _coded(
    graph: SpikingGraph, names: tuple[str, ...], element: Element, rule: Rule | None
) -> dict[str, Node]:
    """Nodes with coded weights, their rows on one scale."""
    nodes: list[Weighted] = []
    for name in names:
        node = graph.nodes[name]
        assert isinstance(node, Linear | Conv)
        nodes.append(node)
    rows = [node.weight.values.reshape(node.weight.shape[0], -1) for node in nodes]
    scale = RULES[rule or _rule_of(element)](np.concatenate(rows, axis=1), element)
    changed: dict[str, Node] = {}
    for name, node, own in zip(names, nodes, rows, strict=True):
        codes = nearest_integers(own, scale[:, None], element).reshape(node.weight.shape)
        changed[name] = replace(node, weight=Weight.of_codes(codes, scale, element.name))
    return changed
