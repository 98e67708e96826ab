"""Which values of a graph are spikes, and how their neurons are numbered.

Spikes are 0 or 1. A Program holds them as a bit set, whose bits are the neurons of a population in
the order in which the sums into it come: NHWC where a convolution gives them or where the
population is spatial. Movement and max pools of spikes are spikes; so is a declared state whose
next value is. All of this is known before anything is lowered, since a state is read before the
population that writes it.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir

from edgekit.model import geometry
from edgekit.model.domain import DOMAIN, NEURONS
from edgekit.model.geometry import check
from edgekit.model.nodes import const, get_input, is_op, shape_of
from edgekit.program.lowering.arrangement import CHANNELS_LAST, Arrangement
from edgekit.program.lowering.carried import Declared

RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
"""Operators that keep the order of elements."""

MOVING = (*RESHAPING, "Transpose")
"""Operators behind which a bit set means the same neurons under other indices."""

_SPATIAL = ("Conv", "MaxPool", "AveragePool")
_LINEAR = ("Add", "Sub", "Mul", *RESHAPING)


def is_neuron(node: onnx_ir.Node | None) -> bool:
    """Whether a node is a population of neurons."""
    return node is not None and node.domain == DOMAIN and node.op_type in NEURONS


class SpikeSets:
    """Answers about one graph.

    Args:
        graph: an optimised graph.
        declared: its declared state.
    """

    def __init__(self, graph: onnx_ir.Graph, declared: Declared) -> None:
        self._next = dict(declared.pairs)
        self._populations: dict[onnx_ir.Node, Arrangement | None] = {
            node: _numbering(node) for node in graph if is_neuron(node)
        }
        self._known: dict[onnx_ir.Value, tuple[onnx_ir.Node, Arrangement] | None] = {}

    @property
    def populations(self) -> Mapping[onnx_ir.Node, Arrangement | None]:
        """How the neurons of every population are numbered; None where they cannot be."""
        return self._populations

    def arrangement(self, value: onnx_ir.Value) -> Arrangement | None:
        """How a value's spikes lie in its bit set; None where it is no bit set."""
        found = self._found(value)
        return None if found is None else found[1]

    def population(self, value: onnx_ir.Value) -> str | None:
        """Name of the population whose spikes these are, as they are or moved, None for others."""
        found = self._found(value)
        return None if found is None else found[0].name

    def _found(self, value: onnx_ir.Value) -> tuple[onnx_ir.Node, Arrangement] | None:
        path: list[onnx_ir.Value] = []
        current: onnx_ir.Value | None = value
        while current is not None and current not in self._known:
            # A state that only ever becomes itself is no spikes.
            self._known[current] = None
            path.append(current)
            current = self._source(current)
        for item in reversed(path):
            self._known[item] = self._one(item)
        return self._known[value]

    def _source(self, value: onnx_ir.Value) -> onnx_ir.Value | None:
        """The value whose spikes these would be."""
        node = value.producer()
        if node is None:
            return self._next.get(value)
        if is_op(node, *MOVING, "MaxPool") and node.outputs[0] is value:
            return get_input(node, 0)
        return None

    def _one(self, value: onnx_ir.Value) -> tuple[onnx_ir.Node, Arrangement] | None:
        """The answer, where that of what it comes from is known."""
        node, shape = value.producer(), shape_of(value)
        if node is not None and is_neuron(node):
            numbering = self._populations[node]
            return None if numbering is None or node.outputs[0] is not value else (node, numbering)
        source = self._source(value)
        known = None if source is None else self._known.get(source)
        if known is None or shape is None or source is None:
            return None
        origin, arrangement = known
        moved: Arrangement | None = arrangement
        if node is not None and is_op(node, "MaxPool"):
            moved = _pooled(node, arrangement, shape)
        elif node is not None and is_op(node, "Transpose"):
            moved = arrangement.transposed(geometry.permutation_of(node, len(arrangement.shape)))
        elif node is not None:
            moved = arrangement.reshaped(shape)
        return None if moved is None else (origin, moved)


def _pooled(
    node: onnx_ir.Node, arrangement: Arrangement, shape: tuple[int, ...]
) -> Arrangement | None:
    """NHWC, where the pool is one that bit sets have."""
    axes = CHANNELS_LAST.get(len(shape))
    if axes is None or not arrangement.lies_as(axes) or not geometry.unused_outputs(node, 1):
        return None
    kernel = geometry.kernel_of(node, len(shape) - 2)
    window = geometry.window(node, arrangement.shape[2:], kernel)
    if set(window.dilation) != {1} or any(window.overhang):
        return None
    return Arrangement.permuted(shape, axes)


def _numbering(node: onnx_ir.Node) -> Arrangement | None:
    """The order of a population's neurons; None where its batch is not 1.

    Raises:
        InvalidModelError: not as many inputs and outputs as the operator has.
    """
    states = 2 if node.op_type == "Synaptic" else 1
    counts = len(node.inputs), len(node.outputs)
    check(
        counts == (2 * states + 2, states + 1),
        node,
        f"has {counts[0]} inputs and {counts[1]} outputs, must have {2 * states + 2} and "
        f"{states + 1}",
    )
    shape = shape_of(node.outputs[0])
    if shape is None or not shape or shape[0] != 1 or 0 in shape:
        return None
    given = _given_order(get_input(node, 0))
    if given is not None:
        moved = given.reshaped(shape)
        if moved is not None:
            return moved
    axes = CHANNELS_LAST.get(len(shape))
    return Arrangement.plain(shape) if axes is None else Arrangement.permuted(shape, axes)


def _given_order(current: onnx_ir.Value) -> Arrangement | None:
    """NHWC of the first convolution or pool among the terms of a current, None without one."""
    pending, seen = [current], set()
    while pending:
        value = pending.pop()
        node, shape = value.producer(), shape_of(value)
        if node is None or value in seen:
            continue
        seen.add(value)
        if is_op(node, *_SPATIAL) and shape is not None and len(shape) in CHANNELS_LAST:
            return Arrangement.permuted(shape, CHANNELS_LAST[len(shape)])
        if is_op(node, *_LINEAR):
            pending.extend(v for v in reversed(node.inputs) if v is not None and const(v) is None)
    return None
