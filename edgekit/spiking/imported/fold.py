"""Factors and shifts put into the weights next to them.

BatchNorm, graded spikes, the gain of Lapicque neurons and constants in the source are all
``x * factor + shift``. Numbered rules, applied from the inputs on; new weights are computed in
float64 and rounded once:

1. two in a row are one;
2. of a sum they go to its terms, the shift to the first;
3. behind a Linear or Conv they go into its rows and bias, where they are one number per row;
4. in front of a Linear they go into its columns and bias; in front of a Conv a factor per channel
   goes into its columns (a shift does not: padding is not shifted);
5. behind a total a factor waits for the last step;
6. over Flatten, pooling (without shift; over MaxPool a positive factor) they move behind.
"""

from __future__ import annotations

import numpy as np

from edgekit.spiking.arrays import Array, Shape
from edgekit.spiking.imported.affine import Affine, compact
from edgekit.spiking.imported.expressions import (
    Apply,
    Expression,
    Layer,
    Sum,
    Total,
    add,
)
from edgekit.spiking.nodes import AvgPool, Conv, Flatten, Linear, MaxPool
from edgekit.spiking.weight import Weight


class Folder:
    """Folds values; the same value always becomes the same, so that it stays one node."""

    def __init__(self) -> None:
        self._done: dict[Expression, Expression] = {}

    def fold(self, value: Expression) -> Expression:
        """A value without factors and shifts where a rule applies."""
        if value not in self._done:
            self._done[value] = self._folded(value)
        return self._done[value]

    def _folded(self, value: Expression) -> Expression:
        match value:
            case Sum(terms):
                return add(tuple(self.fold(term) for term in terms))
            case Total(operand):
                inner = self.fold(operand)
                if isinstance(inner, Apply) and _is_factor(inner.layer):  # rule 5
                    return Apply(inner.layer, Total(inner.operand))
                return Total(inner)
            case Apply(layer, operand):
                inner = self.fold(operand)
                if isinstance(layer.node, Affine):
                    return _behind(layer, layer.node, inner)
                return _in_front(layer, inner)
        return value


def gained(gain: Affine, value: Expression, shape: Shape, name: str) -> Expression:
    """A value times a population's gain, to be folded."""
    return Apply(Layer(name, gain, shape), value)


def _behind(layer: Layer, affine: Affine, inner: Expression) -> Expression:
    """Rules 1 to 3."""
    if isinstance(inner, Sum):
        first, *others = inner.terms
        factor = Layer(layer.name, Affine(affine.factor), layer.shape)
        return add(
            (
                _behind(layer, affine, first),
                *(_behind(factor, Affine(affine.factor), term) for term in others),
            )
        )
    if not isinstance(inner, Apply):
        return Apply(layer, inner)
    below = inner.layer.node
    if isinstance(below, Affine):
        both = Affine(
            compact(below.factor * affine.factor, layer.shape),
            _total_shift(below.shift, affine, layer.shape),
        )
        return Apply(Layer(layer.name, both, layer.shape), inner.operand)
    if isinstance(below, Linear | Conv) and _rows(affine, layer.shape):
        return Apply(Layer(inner.layer.name, _scaled(below, affine), layer.shape), inner.operand)
    return Apply(layer, inner)


def _in_front(layer: Layer, inner: Expression) -> Expression:
    """Rules 4 and 6."""
    if not isinstance(inner, Apply) or not isinstance(inner.layer.node, Affine):
        return Apply(layer, inner)
    affine, below, node = inner.layer.node, inner.layer.shape, layer.node
    match node:
        case Linear() if node.groups == 1:
            made = Layer(layer.name, _columns_of_linear(node, affine, below), layer.shape)
            return Apply(made, inner.operand)
        case Conv() if affine.shift is None and _rows(affine, below):
            made = Layer(layer.name, _columns_of_conv(node, affine, below), layer.shape)
            return Apply(made, inner.operand)
        case Flatten():
            flat = Affine(
                _spread(affine.factor, below).reshape(-1),
                None if affine.shift is None else _spread(affine.shift, below).reshape(-1),
            )
        case AvgPool() | MaxPool() if affine.shift is None and _rows(affine, below):
            if isinstance(node, MaxPool) and (affine.factor <= 0).any():
                return Apply(layer, inner)
            flat = affine
        case _:
            return Apply(layer, inner)
    moved = Affine(
        compact(flat.factor, layer.shape),
        None if flat.shift is None else compact(flat.shift, layer.shape),
    )
    return Apply(Layer(inner.layer.name, moved, layer.shape), Apply(layer, inner.operand))


def _is_factor(layer: Layer) -> bool:
    return isinstance(layer.node, Affine) and layer.node.shift is None


def _rows(affine: Affine, shape: Shape) -> bool:
    """Whether factor and shift are one number, or one per channel (per neuron of a flat value)."""
    parts = [p for p in (affine.factor, affine.shift) if p is not None]
    return all(part.size in (1, shape[0]) and part.ndim in (1, len(shape)) for part in parts)


def _spread(values: Array, shape: Shape) -> Array:
    return np.broadcast_to(values, shape)


def _total_shift(below: Array | None, affine: Affine, shape: Shape) -> Array | None:
    """Shift of ``(x + below) * factor + shift``."""
    if below is None:
        return affine.shift
    shift = below * affine.factor + (0.0 if affine.shift is None else affine.shift)
    return compact(shift, shape)


def _scaled(node: Linear | Conv, affine: Affine) -> Linear | Conv:
    """Rows times the factor, bias times the factor plus the shift."""
    values = node.weight.values.astype(np.float64)
    rows = values.shape[0]
    factor = np.broadcast_to(affine.factor.reshape(-1), rows)
    weight = values * factor.reshape(-1, *[1] * (values.ndim - 1))
    bias = None if node.bias is None else node.bias * factor
    if affine.shift is not None:
        shift = np.broadcast_to(affine.shift.reshape(-1), rows)
        bias = shift if bias is None else bias + shift
    return _with(node, weight, bias)


def _columns_of_linear(node: Linear, affine: Affine, below: Shape) -> Linear | Conv:
    values = node.weight.values.astype(np.float64)
    bias: Array | None = node.bias
    if affine.shift is not None:
        moved = values @ _spread(affine.shift, below)
        bias = moved if bias is None else bias + moved
    return _with(node, values * _spread(affine.factor, below), bias)


def _columns_of_conv(node: Conv, affine: Affine, below: Shape) -> Linear | Conv:
    """Of a grouped convolution, output channels of one group read that group's input channels."""
    values = node.weight.values.astype(np.float64)
    channels = np.broadcast_to(affine.factor.reshape(-1), below[0]).reshape(node.groups, -1)
    factor = np.repeat(channels, values.shape[0] // node.groups, axis=0)
    return _with(node, values * factor.reshape(*factor.shape, *[1] * (values.ndim - 2)), node.bias)


def _with(node: Linear | Conv, weight: Array, bias: Array | None) -> Linear | Conv:
    """The same node with other numbers."""
    new = Weight(weight.astype(np.float32))
    new_bias = None if bias is None else np.asarray(bias).astype(np.float32)
    if isinstance(node, Linear):
        return Linear(new, new_bias, node.groups)
    return Conv(new, new_bias, node.stride, node.padding, node.dilation, node.groups)


def one_to_one(affine: Affine, shape: Shape) -> Linear | Conv | None:
    """A factor and a shift as a layer with one weight per neuron or channel.

    Args:
        affine: what to express.
        shape: of the value, without batch.

    Returns:
        A grouped Linear of a flat value, a grouped 1x1 Conv of a spatial one; None where the
        numbers differ within a channel.
    """
    if not _rows(affine, shape):
        return None
    count = shape[0]
    weight = np.broadcast_to(affine.factor.reshape(-1), count).astype(np.float32)
    bias = None
    if affine.shift is not None:
        bias = np.broadcast_to(affine.shift.reshape(-1), count).astype(np.float32)
    if len(shape) == 1:
        return Linear(Weight(weight.reshape(-1, 1)), bias, count)
    ones = (1,) * (len(shape) - 1)
    return Conv(Weight(weight.reshape(count, 1, *ones)), bias, groups=count)
