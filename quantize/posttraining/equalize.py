"""Cross-layer equalisation: balance the ranges of channels between two layers.

Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", arXiv 1906.04721.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir

from edgekit.model.model import Model
from edgekit.model.nodes import (
    Array,
    const,
    find_input,
    find_ints,
    get_float,
    get_input,
    get_int,
    is_op,
    only_use,
    shape_of,
)
from edgekit.model.passes import optimize
from edgekit.program.lowering import LOWERINGS
from edgekit.quantize.posttraining.objective import Float64

_PASSING = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
"""Operators for which f(s·x) = s·f(x) with s > 0, channel by channel."""

_ROUNDS = 20
"""Times that all pairs are gone through at most; layers in the middle of a chain settle slowly."""

_SETTLED = 1e-3
"""Largest change of a factor, as a share, at which nothing goes on."""

Arrays = dict[tuple[onnx_ir.Node, int], Float64]
"""New constants by node and input."""

_REACH = 2.0**16
"""Largest factor and its inverse in one round: a channel that is almost dead stays small."""


@dataclass(frozen=True)
class Pair:
    """Two layers with nothing between them but what passes positive factors on.

    Attributes:
        first, second: names of the nodes.
        channels: of the value between them.
    """

    first: str
    second: str
    channels: int


def equalize_layers(model: Model) -> tuple[Model, tuple[Pair, ...]]:
    """Rescale the channels between every two layers that allow it.

    For channel i with the largest magnitudes a of the first layer's weights and b of the
    second's, the first layer's weights and bias are divided by ``s = √(a·b) / b`` and the second's
    are multiplied by it; then both have the range √(a·b). What the network computes is the same,
    up to the rounding of the new weights to float32.

    Rules:

    1. The first layer is a Conv or Gemm; the second a Conv or Gemm that reads it alone, through
       Relu, LeakyRelu, pools, and Flatten or Reshape of channels in front of everything else.
    2. A channel that is zero on either side keeps its scale.
    3. Clip (ReLU6) is no such function, residual sums share their channels with others: both end
       a pair.

    Args:
        model: a float Model; not changed.

    Returns:
        An optimised Model and the pairs in execution order.
    """
    model = optimize(model, keep=LOWERINGS)
    pairs = [found for node in model.ir.graph if (found := _pair_from(node)) is not None]
    shared = _shared(model.ir.graph)
    pairs = [p for p in pairs if not shared.intersection((p[0], p[1]))]
    # In float64 until all is settled, so that float32 rounds once.
    arrays: Arrays = {}
    for _ in range(_ROUNDS):
        changes = [_balance(arrays, *pair) for pair in pairs]
        if max(changes, default=0.0) < _SETTLED:
            break
    for (node, index), array in arrays.items():
        value = get_input(node, index)
        value.const_value = onnx_ir.Tensor(array.astype(np.float32), name=value.name)
    named = tuple(Pair(a.name or "", b.name or "", channels) for a, b, channels in pairs)
    return model, named


def _shared(graph: onnx_ir.Graph) -> set[onnx_ir.Node]:
    """Nodes whose weights or bias another node reads too."""
    found = set()
    for node in graph:
        for value in node.inputs[1:3]:
            if value is not None and const(value) is not None and only_use(value) is None:
                found.add(node)
    return found


def _is_layer(node: onnx_ir.Node | None) -> bool:
    if node is None or not is_op(node, "Conv", "Gemm"):
        return False
    arrays = [const(v) for v in node.inputs[1:3] if v is not None]
    if any(a is None or a.dtype != np.float32 for a in arrays) or not arrays:
        return False
    if is_op(node, "Gemm"):
        plain = get_float(node, "alpha", 1.0) == get_float(node, "beta", 1.0) == 1.0
        return plain and not get_int(node, "transA", 0)
    return True


def _pair_from(node: onnx_ir.Node) -> tuple[onnx_ir.Node, onnx_ir.Node, int] | None:
    """The layer and the one that follows it, where rule 1 holds."""
    shape = shape_of(node.outputs[0])
    if not _is_layer(node) or shape is None or len(shape) < 2:
        return None
    channels = shape[1]
    bias = const(find_input(node, 2))
    if bias is not None and bias.size != channels:
        return None
    follower = only_use(node.outputs[0])
    while follower is not None:
        if _is_layer(follower):
            fits = _inputs_per_channel(follower, channels) is not None
            return (node, follower, channels) if fits else None
        if not _passes(follower, channels):
            return None
        follower = only_use(follower.outputs[0])
    return None


def _passes(node: onnx_ir.Node, channels: int) -> bool:
    """Whether channels keep their positive factors."""
    if is_op(node, *_PASSING):
        return True
    source, result = shape_of(find_input(node, 0)), shape_of(node.outputs[0])
    if source is None or result is None or len(source) < 2 or len(result) < 2:
        return False
    # Channels stay apart, each as a run of what it was: [1, C, …] to [1, C·…].
    moves = is_op(node, "Reshape", "Flatten", "Squeeze", "Unsqueeze")
    if moves and source[1] == channels and source[0] == result[0] == 1:
        return result[1] % channels == 0 and (result[1] == channels or len(result) == 2)
    if is_op(node, "ReduceMean") and source[1] == channels:
        axes = find_ints(node, "axes") or tuple(
            int(a) for a in np.reshape(_or_empty(const(find_input(node, 1))), -1)
        )
        return bool(axes) and all(a % len(source) >= 2 for a in axes) and result[1] == channels
    return False


def _or_empty(array: Array | None) -> Array:
    return np.zeros(0, np.int64) if array is None else array


def _inputs_per_channel(node: onnx_ir.Node, channels: int) -> int | None:
    """How many inputs of the second layer belong to one channel, None where they do not fit."""
    weights = const(get_input(node, 1))
    assert weights is not None
    if is_op(node, "Conv"):
        return 1 if weights.shape[1] * get_int(node, "group", 1) == channels else None
    inputs = weights.shape[1 if get_int(node, "transB", 0) else 0]
    return inputs // channels if inputs % channels == 0 else None


def _own_rows(node: onnx_ir.Node, weights: Float64) -> Float64:
    """Weights by output channel, a view [O, …]."""
    if is_op(node, "Gemm") and not get_int(node, "transB", 0):
        return weights.T
    return weights


def _input_columns(node: onnx_ir.Node, weights: Float64, channels: int) -> Float64:
    """Weights by input channel, a view [C, …]."""
    if is_op(node, "Gemm"):
        columns = weights.T if get_int(node, "transB", 0) else weights
        return columns.reshape(channels, -1, columns.shape[1])
    groups = get_int(node, "group", 1)
    split = weights.reshape(groups, -1, *weights.shape[1:])
    return np.moveaxis(split, 2, 1).reshape(channels, -1, *weights.shape[2:])


def _balance(arrays: Arrays, first: onnx_ir.Node, second: onnx_ir.Node, channels: int) -> float:
    """Equalise one pair; the largest change as a share."""
    above, below = (_float64(arrays, node, 1) for node in (first, second))
    rows, columns = _own_rows(first, above), _input_columns(second, below, channels)
    a, b = (np.abs(part).reshape(channels, -1).max(axis=1) for part in (rows, columns))
    live = (a > 0) & (b > 0)
    factor = np.where(live, np.sqrt(a * b) / np.where(live, b, 1.0), 1.0)
    factor = np.clip(factor, 1 / _REACH, _REACH)
    scaled = rows / factor.reshape(-1, *(1,) * (rows.ndim - 1))
    arrays[first, 1] = scaled if rows is above else scaled.T
    if find_input(first, 2) is not None:
        bias = _float64(arrays, first, 2)
        arrays[first, 2] = (bias.reshape(-1) / factor).reshape(bias.shape)
    arrays[second, 1] = _with_columns(second, below, factor)
    return float(np.abs(np.log(factor)).max(initial=0.0))


def _with_columns(node: onnx_ir.Node, weights: Float64, factor: Float64) -> Float64:
    """Weights whose input channels are multiplied."""
    if is_op(node, "Gemm"):
        transposed = get_int(node, "transB", 0) != 0
        inputs = weights.shape[1 if transposed else 0]
        spread = np.repeat(factor, inputs // factor.size)
        return weights * (spread[None, :] if transposed else spread[:, None])
    groups = get_int(node, "group", 1)
    split = weights.reshape(groups, -1, *weights.shape[1:])
    spread = factor.reshape(groups, 1, -1, *(1,) * (weights.ndim - 2))
    return np.asarray((split * spread).reshape(weights.shape))


def _float64(arrays: Arrays, node: onnx_ir.Node, index: int) -> Float64:
    """A constant as it is by now."""
    array = const(get_input(node, index))
    assert array is not None
    return arrays.get((node, index), array.astype(np.float64))
