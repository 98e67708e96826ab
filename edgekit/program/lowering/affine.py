"""QuantizeLinear and DequantizeLinear nodes read as quantisations.

Source: ONNX operators QuantizeLinear and DequantizeLinear; the Program's int8 is ONNX's int8, and
ONNX's uint8 less 128, zero points likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.model.geometry import axis_of, check
from edgekit.model.nodes import Array, const, find_input, get_input, get_int, is_op, label
from edgekit.model.shapes import quantized_type
from edgekit.program.ir import Quantization
from edgekit.program.lowering.carried import Declared
from edgekit.program.lowering.value import Weights, to_int8

MOVEMENT = (
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Slice", "Split"),
    *("MaxPool", "GlobalMaxPool"),
)
"""Operators that give elements of their first input; quantising before or after is the same."""


@dataclass(frozen=True, eq=False)
class Parameters:
    """Constant scale and zero point of a node.

    Attributes:
        scale: float32, one or as many as channels.
        zero_point: as many, of an integer type.
        axis: that the scales run along, None for one scale.
    """

    scale: Array
    zero_point: Array
    axis: int | None

    @property
    def quantization(self) -> Quantization:
        """In the Program's terms: int8 and uint8 as int8, anything else as it is."""
        moved = self.zero_point
        if moved.dtype in (np.uint8, np.int8):
            moved = to_int8(moved)
        return Quantization(
            tuple(float(s) for s in self.scale), tuple(int(z) for z in moved), self.axis
        )


def parameters(node: onnx_ir.Node, rank: int | None) -> Parameters:
    """Parameters of a QuantizeLinear or DequantizeLinear node.

    Args:
        node: the node.
        rank: of its input, needed for scales per channel.

    Raises:
        UnsupportedError: they are computed, blocked, or not float32.
        InvalidModelError: a scale is not positive, or counts do not agree.
    """
    scale, zero_input = const(get_input(node, 1)), find_input(node, 2)
    zero_point = np.zeros(1, _integer_type(node)) if zero_input is None else const(zero_input)
    if scale is None or zero_point is None:
        raise UnsupportedError(f"{label(node)}: scale and zero point must be constants")
    if scale.dtype != np.float32 or scale.ndim > 1 or get_int(node, "block_size", 0):
        raise UnsupportedError(
            f"{label(node)}: scale is {scale.dtype}{list(scale.shape)}, "
            "must be float32, one per tensor or per channel"
        )
    check(bool((scale > 0).all()) and scale.size >= 1, node, "scales must be positive")
    check(zero_point.dtype.kind in "iu", node, "the zero point must be an integer")
    check(zero_point.size in (1, scale.size), node, "counts of scales and zero points differ")
    zero_point = np.broadcast_to(zero_point.reshape(-1), scale.reshape(-1).shape)
    if scale.size == 1:
        return Parameters(scale.reshape(-1), zero_point, None)
    if rank is None:
        raise UnsupportedError(f"{label(node)}: scales per channel need a known shape")
    return Parameters(scale, zero_point, axis_of(node, rank, 1))


def _integer_type(node: onnx_ir.Node) -> np.dtype[Any]:
    """Type of the integers of a node without a zero point."""
    if is_op(node, "QuantizeLinear"):
        return quantized_type(node).numpy()
    source = get_input(node, 0)
    stored = const(source)
    if stored is not None:
        return stored.dtype
    return np.dtype(np.uint8) if source.dtype is None else source.dtype.numpy()


def activation_quantization(node: onnx_ir.Node) -> Quantization:
    """Per-tensor int8 or uint8 quantisation of an activation.

    Raises:
        UnsupportedError: it is per channel, or of another type.
    """
    found = parameters(node, None if node.inputs[0] is None else _rank(node.inputs[0]))
    dtype = found.zero_point.dtype
    if dtype not in (np.int8, np.uint8):
        raise UnsupportedError(
            f"{label(node)}: activations are {dtype.name}, supported: int8 and uint8"
        )
    if found.axis is not None:
        raise UnsupportedError(
            f"{label(node)}: activations are quantised per channel, supported: per tensor"
        )
    return found.quantization


def _rank(value: onnx_ir.Value) -> int | None:
    array = const(value)
    if array is not None:
        return array.ndim
    return None if value.shape is None else value.shape.rank()


def dequantized_constant(node: onnx_ir.Node) -> Weights | None:
    """The constant behind a DequantizeLinear node; None where its input is computed.

    int8 and uint8 come as int8, int32 (biases) as they are.

    Raises:
        UnsupportedError: another type.
        InvalidModelError: scales do not fit the shape.
    """
    data = const(get_input(node, 0))
    if data is None:
        return None
    found = parameters(node, data.ndim)
    if data.dtype not in (np.int8, np.uint8, np.int32) or data.size == 0:
        raise UnsupportedError(
            f"{label(node)}: constant is {data.dtype.name}{list(data.shape)}, "
            "supported: int8, uint8 and int32"
        )
    if found.zero_point.dtype != data.dtype:
        raise InvalidModelError(
            f"{label(node)}: the zero point is {found.zero_point.dtype.name}, "
            f"the data {data.dtype.name}"
        )
    if found.axis is not None:
        check(
            data.shape[found.axis] == found.scale.size,
            node,
            f"{found.scale.size} scales for axis {found.axis} of {list(data.shape)}",
        )
    integers = data if data.dtype == np.int32 else to_int8(data)
    return Weights(integers, found.quantization)


def target_quantization(
    value: onnx_ir.Value, declared: Declared | None = None
) -> Quantization | None:
    """The one quantisation that all readers of a value give it, directly or behind movement.

    None where a reader (or the model's user) takes the value as it is, or readers disagree. What
    becomes state on a straight path is no reader.

    Args:
        value: a computed or fed value.
        declared: declared state of its graph.
    """
    declared = declared or Declared()
    found: set[Quantization] = set()
    pending = [value]
    while pending:
        current = pending.pop()
        if current.is_graph_output() and current not in declared.outputs:
            return None
        for use in current.uses():
            node = use.node
            if node in declared.nodes:
                continue
            if is_op(node, "QuantizeLinear") and use.idx == 0:
                found.add(activation_quantization(node))
            elif is_op(node, *MOVEMENT) and use.idx == 0:
                pending.extend(node.outputs)
            else:
                return None
    return found.pop() if len(found) == 1 else None


def real_data(weights: Weights) -> Array:
    """What a constant operand means, float32.

    >>> half = Quantization((0.5, 2.0), (0, 1), axis=0)
    >>> real_data(Weights(np.array([[4], [3]], np.int8), half)).tolist()
    [[2.0], [4.0]]
    """
    quantization = weights.quantization
    if weights.blocks is not None:
        return weights.blocks.real(weights.data)
    if quantization is None:
        return weights.data
    shape = [1] * weights.data.ndim
    if quantization.axis is not None:
        shape[quantization.axis] = -1
    scale = np.array(quantization.scale, np.float32).reshape(shape)
    zero_point = np.array(quantization.zero_point, np.int64).reshape(shape)
    return (weights.data.astype(np.int64) - zero_point).astype(np.float32) * scale
