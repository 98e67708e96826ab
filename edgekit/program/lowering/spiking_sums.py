"""What neurons read: a sum of terms, taken apart before anything is lowered.

A current is a tree of Add nodes over matrix products, convolutions and other values. A Program adds
it up in one running total, term by term in the tree's order from left to right, and the neuron adds
the constants at the end. Float networks keep every product and sum that the tree has; integer ones
may also scale, which the unit of their membranes takes up, and pool a sum of their own before it is
added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgekit.errors import UnsupportedError
from edgekit.model.coded import is_dequantizer
from edgekit.model.constants import stored_behind
from edgekit.model.nodes import (
    Array,
    const,
    find_input,
    get_float,
    get_input,
    get_int,
    is_op,
    label,
    name_of,
    only_use,
    shape_of,
)
from edgekit.program.lowering.spiking_sets import RESHAPING, SpikeSets, is_neuron
from edgekit.program.lowering.spiking_windows import windows_of

WEIGHTED = ("MatMul", "Gemm", "Conv")

MOST_POOLS = 4
"""Most pools behind each other in one current."""


@dataclass(frozen=True, eq=False)
class Term:
    """One part of a current.

    Attributes:
        value: what it gives; its elements, flattened, are those of the current.
        node: the matrix product, convolution or pool that gives it; None where the value itself is
            what is added.
        gain: what multiplies it, float64, one number or one per element; None for 1.
        inner: of a pool of a current, what it reads; its constants are added behind it already.
    """

    value: onnx_ir.Value
    node: onnx_ir.Node | None = None
    gain: NDArray[np.float64] | None = None
    inner: Sum | None = None

    @property
    def source(self) -> onnx_ir.Value:
        """What has to be there to compute it."""
        return self.value if self.node is None else get_input(self.node, 0)


@dataclass(frozen=True, eq=False)
class Sum:
    """A current.

    Attributes:
        terms: in the order in which they are added.
        biases: flattened constants in the order in which they are added.
        nodes: what computes it, but for terms without a node.
        is_integer: whether its weights are integers.
    """

    terms: tuple[Term, ...]
    biases: tuple[Array, ...]
    nodes: frozenset[onnx_ir.Node]
    is_integer: bool

    def leaves(self) -> Iterator[Term]:
        """The terms that are no pools of others, those in front of pools among them."""
        for term in self.terms:
            if term.inner is None:
                yield term
            else:
                yield from term.inner.leaves()

    def bias(self) -> Array | None:
        """The constants, added up; None without any."""
        total: Array | None = None
        for bias in self.biases:
            total = bias if total is None else total + bias
        return total


@dataclass
class _Reading:
    """A tree being read."""

    sets: SpikeSets
    scales: bool
    pools: int = 0
    terms: list[Term] = field(default_factory=list)
    biases: list[Array] = field(default_factory=list)
    nodes: set[onnx_ir.Node] = field(default_factory=set)

    def sum(self) -> Sum:
        """What was read."""
        return Sum(tuple(self.terms), tuple(self.biases), frozenset(self.nodes), self.scales)


_Part = tuple[onnx_ir.Value, tuple[int, ...], NDArray[np.float64] | None]
"""A value, the shape of the sum it is in, and what multiplies it."""


def read_sum(neuron: onnx_ir.Node, sets: SpikeSets, *, quantised: bool) -> Sum:
    """Take the current of a population apart.

    Args:
        neuron: the population's node.
        sets: which values are spikes.
        quantised: whether the Model has quantised weights anywhere; then a current without any
            float weights is one of integers.
    """
    current = get_input(neuron, 0)
    if shape_of(current) is None:
        # What gives it is unknown, and reported as such.
        return Sum((Term(current),), (), frozenset(), is_integer=False)
    if quantised:
        found = _read(current, sets, scales=True).sum()
        weighted = [t.node for t in found.leaves() if t.node is not None and weighs(t.node)]
        real = [n for n in weighted if not (_is_coded(n) or _sums_spikes(sets, n))]
        if real and any(map(_is_coded, weighted)):
            raise UnsupportedError(
                f"{label(neuron)}: the weights of {label(real[0])} are float32, those of another "
                "term of its current quantised; they must be all of one kind"
            )
        if not real and found.terms:
            return found
    return _read(current, sets, scales=False).sum()


def _read(current: onnx_ir.Value, sets: SpikeSets, *, scales: bool, pools: int = 0) -> _Reading:
    reading = _Reading(sets, scales, pools)
    shape = shape_of(current)
    assert shape is not None, current.name
    stack: list[_Part] = [(current, shape, None)]
    while stack:
        value, shape, gain = stack.pop()
        stored = const(value)
        if stored is not None:
            flat = np.broadcast_to(stored, shape).reshape(-1)
            reading.biases.append(flat if gain is None else flat * gain)
            continue
        parts = _parts(reading, value, gain)
        if parts is None:
            reading.terms.append(_term(reading, value, gain))
        else:
            # The left operand is read first.
            stack.extend(reversed(parts))
    return reading


def _parts(
    reading: _Reading, value: onnx_ir.Value, gain: NDArray[np.float64] | None
) -> list[_Part] | None:
    """What a value is the sum of, None where it is a term itself."""
    node, shape = value.producer(), shape_of(value)
    if node is None or shape is None or reading.sets.arrangement(value) is not None:
        return None
    # A sum that others read too is computed once, for float32: it then has one order of adding.
    if not reading.scales and only_use(value) is None:
        return None
    if is_op(node, "Add"):
        reading.nodes.add(node)
        return [(get_input(node, i), shape, gain) for i in (0, 1)]
    if is_op(node, *RESHAPING):
        source = get_input(node, 0)
        inner = shape_of(source)
        behind = source.producer()
        if inner is None or not (_is_sum(behind) or (reading.scales and is_op(behind, "MaxPool"))):
            return None
        reading.nodes.add(node)
        return [(source, inner, gain)]
    if reading.scales and is_op(node, "Mul", "Sub"):
        return _scaled(reading, node, shape, gain)
    return None


def _is_sum(node: onnx_ir.Node | None) -> bool:
    return is_op(node, *WEIGHTED, *RESHAPING, "Add", "Sub", "Mul", "AveragePool")


def _scaled(
    reading: _Reading,
    node: onnx_ir.Node,
    shape: tuple[int, ...],
    gain: NDArray[np.float64] | None,
) -> list[_Part] | None:
    """A value times a constant, or less one."""
    left, right = get_input(node, 0), get_input(node, 1)
    if is_op(node, "Mul") and const(left) is not None:
        left, right = right, left
    factor, inner = const(right), shape_of(left)
    if factor is None or inner is None or math.prod(inner) != math.prod(shape):
        return None
    reading.nodes.add(node)
    flat = np.broadcast_to(factor, shape).reshape(-1).astype(np.float64)
    if is_op(node, "Sub"):
        reading.biases.append(-flat if gain is None else -flat * gain)
        return [(left, inner, gain)]
    return [(left, inner, flat if gain is None else flat * gain)]


def _term(reading: _Reading, value: onnx_ir.Value, gain: NDArray[np.float64] | None) -> Term:
    node = value.producer()
    if reading.sets.arrangement(value) is not None or node is None:
        return Term(value, None, gain)
    if not reading.scales and only_use(value) is None:
        return Term(value, None, gain)
    if reading.scales:
        found = _pooled_term(reading, value, gain)
        if found is not None:
            return found
    if weighs(node) or (reading.scales and _pools_spikes(reading.sets, node)):
        bias = own_bias(node)
        if bias is not None:
            own = spread_channels(bias, value)
            reading.biases.append(own if gain is None else own * gain)
        reading.nodes.add(node)
        return Term(value, node, gain)
    return Term(value, None, gain)


def _pooled_term(
    reading: _Reading, value: onnx_ir.Value, gain: NDArray[np.float64] | None
) -> Term | None:
    """A pool of a current, with what it reads; None for other terms, pools of spikes among them."""
    node = value.producer()
    windows = windows_of(node) if reading.pools < MOST_POOLS else None
    if node is None or windows is None:
        return None
    source, sets = get_input(node, 0), reading.sets
    if sets.arrangement(source) is not None:
        return None
    below = _read(source, sets, scales=True, pools=reading.pools + 1)
    inner = below.sum()
    leaves = list(inner.leaves())
    if not leaves or any(_is_membrane(sets, leaf.source) for leaf in leaves if leaf.node is None):
        return None
    adds = any(_adds(sets, leaf) for leaf in leaves)
    if not adds and windows.operator.kind == "max":
        # The largest of samples has their type.
        return None
    bias = inner.bias()
    if bias is not None:
        behind = windows.constants(bias)
        reading.biases.append(behind if gain is None else behind * gain)
    reading.nodes |= {node, *inner.nodes}
    return Term(value, node, gain, inner)


def _adds(sets: SpikeSets, leaf: Term) -> bool:
    """Whether a term counts in integers of its own: weights or spikes."""
    return leaf.node is not None or sets.arrangement(leaf.value) is not None


def _is_membrane(sets: SpikeSets, value: onnx_ir.Value) -> bool:
    """Whether a value comes from neurons and is no spikes."""
    origin: onnx_ir.Value = value
    while is_op(origin.producer(), *RESHAPING):
        node = origin.producer()
        assert node is not None
        origin = get_input(node, 0)
    return is_neuron(origin.producer()) and sets.arrangement(value) is None


def weighs(node: onnx_ir.Node) -> bool:
    """Whether a node is a product with constant weights, and nothing else but a bias."""
    if not is_op(node, *WEIGHTED):
        return False
    right = get_input(node, 1)
    if const(right) is None and stored_behind(right) is None:
        return False
    if is_op(node, "Gemm"):
        factors = get_float(node, "alpha", 1.0), get_float(node, "beta", 1.0)
        if factors != (1.0, 1.0) or get_int(node, "transA", 0):
            return False
    third = None if is_op(node, "MatMul") else find_input(node, 2)
    return third is None or const(third) is not None


def _pools_spikes(sets: SpikeSets, node: onnx_ir.Node) -> bool:
    return is_op(node, "AveragePool") and sets.arrangement(get_input(node, 0)) is not None


def _sums_spikes(sets: SpikeSets, node: onnx_ir.Node) -> bool:
    """Whether a node adds up spikes with weights of 1, as a sum over a window does."""
    weights = const(get_input(node, 1)) if is_op(node, "Conv") else None
    if weights is None or sets.arrangement(get_input(node, 0)) is None:
        return False
    return bool((weights == 1).all())


def _is_coded(node: onnx_ir.Node) -> bool:
    """Whether a product's weights are quantised."""
    stored = stored_behind(get_input(node, 1)) if is_op(node, *WEIGHTED) else None
    return stored is not None and (is_dequantizer(stored) or is_op(stored, "DequantizeLinear"))


def own_bias(node: onnx_ir.Node) -> Array | None:
    """The constants that a product or convolution adds itself."""
    return None if is_op(node, "MatMul", "AveragePool") else const(find_input(node, 2))


def spread_channels(values: Array, result: onnx_ir.Value) -> Array:
    """One number per channel (axis 1), or one for all, as one per element of a result, flattened.

    Raises:
        UnsupportedError: numbers of another count.
    """
    shape = shape_of(result)
    assert shape is not None, result.name
    row = values.reshape(-1)
    if row.size not in (1, shape[1]):
        raise UnsupportedError(
            f"{name_of(result)!r} has {shape[1]} channels and constants {list(values.shape)}"
        )
    along = row.reshape(1, -1, *[1] * (len(shape) - 2))
    return np.broadcast_to(along, shape).reshape(-1)
