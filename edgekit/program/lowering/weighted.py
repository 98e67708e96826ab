"""What convolutions and matrix products share: choosing the integer form, weights and bias."""

from __future__ import annotations

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.geometry import check
from edgekit.model.nodes import Array, get_int, is_op, label
from edgekit.program.ir import Quantization
from edgekit.program.lowering import affine
from edgekit.program.lowering.fusion import Tail
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.value import Value, Weights

_INT32 = np.iinfo(np.int32)


def integer_plan(
    low: Lowerer, node: onnx_ir.Node, x: Value, weights: Weights, tail: Tail
) -> Quantization | None:
    """The output's quantisation if the node can become an integer operation, else None.

    The reason is noted for the report.
    """
    y = low.target(tail.value)
    if x.quantization is None and weights.quantization is None and y is None:
        return None
    axis = _output_axis(node)
    scales = weights.quantization
    if x.quantization is None:
        reason = "its input is not quantised"
    elif scales is None or weights.data.dtype != np.int8:
        reason = "its weights are not int8"
    elif any(scales.zero_point):
        reason = "its weights have zero points that are not 0 (128 for uint8)"
    elif scales.axis not in (None, axis):
        reason = f"its weights are quantised along axis {scales.axis}, must be {axis}"
    elif y is None:
        reason = "its result is not quantised, or differently for several readers"
    else:
        return y
    low.stay_real(node, reason)
    return None


def _output_axis(node: onnx_ir.Node) -> int:
    """The axis of the weights that output channels run along."""
    if is_op(node, "Conv"):
        return 0
    if is_op(node, "Gemm"):
        return 0 if get_int(node, "transB", 0) else 1
    return 1


def real_weights(low: Lowerer, node: onnx_ir.Node, weights: Weights) -> Weights:
    """The weights as float32."""
    data = affine.real_data(weights)
    if data.dtype != np.float32:
        raise UnsupportedError(f"{label(node)}: weights are {data.dtype.name}, must be float32")
    return Weights(data)


def bias_tensor(
    low: Lowerer,
    node: onnx_ir.Node,
    bias: Weights | None,
    x: Value,
    weights: Weights,
    outputs: int,
) -> str | None:
    """The bias as a constant tensor: float32, or int32 in steps of ``x.scale * w.scale``.

    Args:
        low: the lowering.
        node: the node whose bias it is.
        bias: float32, or quantised integers; None for no bias.
        x: input of the operator.
        weights: its weights.
        outputs: number of output channels.
    """
    if bias is None:
        return None
    check(
        bias.data.size == outputs,
        node,
        f"the bias has shape {list(bias.data.shape)}, must be [{outputs}]",
    )
    name = f"{node.name}.bias"
    if weights.quantization is None:
        return low.constant(affine.real_data(bias).reshape(outputs), name)
    assert x.quantization is not None
    step = x.quantization.scalar_scale * np.array(weights.quantization.scale, np.float64)
    integers = integer_bias(bias, np.broadcast_to(step, (outputs,)))
    quantization = Quantization(
        tuple(float(np.float32(s)) for s in step),
        (0,) * step.size,
        None if step.size == 1 else 0,
    )
    return low.constant(integers, name, quantization)


def integer_bias(bias: Weights, step: Array) -> Array:
    """int32 values nearest to the bias in units of `step`, float64 arithmetic, halves to even."""
    data, quantization = bias.data.reshape(-1), bias.quantization
    if quantization is not None:
        scale = np.broadcast_to(np.array(quantization.scale, np.float64), data.shape)
        same_scale = np.allclose(scale, step, rtol=1e-5, atol=0.0)
        if data.dtype == np.int32 and same_scale and not any(quantization.zero_point):
            return data
        zero_point = np.broadcast_to(np.array(quantization.zero_point, np.float64), data.shape)
        data = (data.astype(np.float64) - zero_point) * scale
    return np.clip(np.rint(data / step), _INT32.min, _INT32.max).astype(np.int32)
