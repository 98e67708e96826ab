"""Functions of one element, and softmax, layer normalisation and argmax."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir

from edgekit.model.geometry import axis_of, check, check_supported, unused_outputs
from edgekit.model.nodes import (
    find_input,
    get_float,
    get_input,
    get_int,
    is_op,
    name_of,
)
from edgekit.model.passes.fuse_activations import clamp_bounds
from edgekit.program.ir import DType, Quantization
from edgekit.program.lowering import affine
from edgekit.program.lowering.arrangement import Arrangement
from edgekit.program.lowering.lowerer import Lowerer, integer_clamp
from edgekit.program.lowering.table import lowering
from edgekit.program.lowering.value import Value
from edgekit.program.operators.activation import Clip, HardSwish, LeakyRelu, Sigmoid, Tanh
from edgekit.program.operators.base import Operator
from edgekit.program.operators.normalization import SOFTMAX_OUTPUT, ArgMax, LayerNorm, Softmax


def _emit_unary(
    low: Lowerer,
    node: onnx_ir.Node,
    x: Value,
    operator: Operator,
    y: Quantization | None,
) -> None:
    """An operator that does not care how elements lie."""
    result = node.outputs[0]
    tensor = low.emit(node, operator, x.tensor, name=name_of(result), quantization=y)
    low.define(result, Value(tensor, x.arrangement, y))


@lowering("Relu", "Clip")
def clip(low: Lowerer, node: onnx_ir.Node) -> None:
    """A clamp that nothing before it could take along."""
    x, bounds = low.value(get_input(node, 0)), clamp_bounds(node)
    check_supported(bounds is not None, node, "bounds must be constant numbers")
    assert bounds is not None
    y = None
    if x.quantization is not None:
        y = low.target(node.outputs[0])
        if y is None and _on_grid(bounds, x.quantization):
            # Clamping integers at integers that mean the bounds is exact without a target.
            y = x.quantization
        if y is None:
            low.stay_real(node, "its result is not quantised, and a bound is no multiple of a step")
            x = low.real(node, x)
    if y is None or x.quantization is None:
        _emit_unary(low, node, x, Clip(bounds), None)
        return
    _emit_unary(
        low, node, x, Clip.quantized(low=bounds[0], high=bounds[1], x=x.quantization, y=y), y
    )


def _on_grid(bounds: tuple[float, float], x: Quantization) -> bool:
    """Whether finite bounds inside the range of x are integers exactly."""
    scale, zero_point = x.scalar_scale, x.scalar_zero_point
    low, high = ((limit - zero_point) * scale for limit in DType.INT8.limits)
    inside = [b for b in bounds if math.isfinite(b) and low < b < high]
    return all(float(b / scale).is_integer() for b in inside)


_CURVES: dict[str, type[HardSwish] | type[Sigmoid] | type[Tanh]] = {
    "HardSwish": HardSwish,
    "Sigmoid": Sigmoid,
    "Tanh": Tanh,
}


@lowering("LeakyRelu", "HardSwish", "Sigmoid", "Tanh")
def curve(low: Lowerer, node: onnx_ir.Node) -> None:
    """One function of one element."""
    x, y = low.value(get_input(node, 0)), low.target(node.outputs[0])
    integer = x.quantization is not None and y is not None
    if not integer:
        if x.quantization is not None or y is not None:
            low.stay_real(node, "its input and its result must both be quantised")
        x, y = low.real(node, x), None
    operator: Operator
    if is_op(node, "LeakyRelu"):
        alpha = float(np.float32(get_float(node, "alpha", 0.01)))
        operator = LeakyRelu(alpha)
        if x.quantization is not None and y is not None:
            operator = LeakyRelu.quantized(alpha=alpha, x=x.quantization, y=y)
    else:
        kind = _CURVES[node.op_type]
        operator = kind()
        if x.quantization is not None and y is not None:
            operator = kind.quantized(x=x.quantization, y=y)
    _emit_unary(low, node, x, operator, y)


@lowering("Softmax")
def softmax(low: Lowerer, node: onnx_ir.Node) -> None:
    """Softmax; the integer form has one output quantisation, requantised where another is asked."""
    x, result = low.value(get_input(node, 0)), node.outputs[0]
    axis, y = axis_of(node, len(x.shape), -1), low.target(result)
    if x.quantization is None or y is None:
        if x.quantization is not None or y is not None:
            low.stay_real(node, "its input and its result must both be quantised")
        x, y = low.real(node, x), None
    x = low.arrange(node, x, _with_last(low.axes_of(x), axis))
    if x.quantization is None or y is None:
        tensor = low.emit(node, Softmax(), x.tensor, name=name_of(result))
        low.define(result, Value(tensor, x.arrangement))
        return
    own = SOFTMAX_OUTPUT[DType.INT8]
    operator = Softmax.quantized(x=x.quantization, y=own)
    tensor = low.emit(node, operator, x.tensor, name=name_of(result), quantization=own)
    low.define(result, low.requantized(node, Value(tensor, x.arrangement, own), y))


def _with_last(axes: tuple[int, ...], last: int) -> tuple[int, ...]:
    return (*(a for a in axes if a != last), last)


@lowering("LayerNormalization")
def layer_normalization(low: Lowerer, node: onnx_ir.Node) -> None:
    """Normalisation over the trailing axes, which are flattened."""
    x = low.value(get_input(node, 0))
    axis = axis_of(node, len(x.shape), -1)
    check_supported(unused_outputs(node, 1), node, "outputs other than the first are used")
    size = math.prod(x.shape[axis:])
    parameters = []
    for index in (1, 2):
        value = find_input(node, index)
        weights = None if value is None else low.weights(node, value)
        check_supported(
            value is None or weights is not None, node, "scale and bias must be constant"
        )
        if weights is not None:
            check(
                weights.data.size == size,
                node,
                f"input {index} has {weights.data.size} numbers, must have {size}",
            )
        parameters.append(None if weights is None else affine.real_data(weights).reshape(size))
    gamma, beta = parameters
    epsilon = get_float(node, "epsilon", 1e-5)
    tail = low.tail(node)
    y = low.target(tail.value)
    operator = LayerNorm(epsilon, clamp=tail.clamp)
    if x.quantization is not None and y is not None:
        gamma, beta, scale = LayerNorm.integer_parameters(gamma, beta)
        operator = LayerNorm.quantized(
            epsilon=epsilon, size=size, x=x.quantization, y=y, gamma_scale=scale
        )
        operator = replace(operator, clamp=integer_clamp(tail, y))
    else:
        if x.quantization is not None or y is not None:
            low.stay_real(node, "its input and its result must both be quantised")
        x, y = low.real(node, x), None
    plain = low.plain(node, x)
    tensor = low.emit(
        node,
        operator,
        low.view(node, plain.tensor, (*x.shape[:axis], size)),
        *(
            None if p is None else low.constant(p, f"{node.name}.{name}")
            for p, name in ((gamma, "scale"), (beta, "bias"))
        ),
        name=name_of(tail.value),
        quantization=y,
    )
    low.define_plain(tail.value, low.view(node, tensor, x.shape), y)


@lowering("ArgMax")
def arg_max(low: Lowerer, node: onnx_ir.Node) -> None:
    """Index of the largest element, int64 as in ONNX; the same on integers and on reals."""
    x, result = low.value(get_input(node, 0)), node.outputs[0]
    axis = axis_of(node, len(x.shape), 0)
    check_supported(get_int(node, "select_last_index", 0) == 0, node, "select_last_index is set")
    axes = low.axes_of(x)
    x = low.arrange(node, x, axes)
    operator = ArgMax(axes.index(axis), DType.INT64)
    tensor = low.emit(node, operator, x.tensor, name=name_of(result))
    kept = tuple(d for i, d in enumerate(x.shape) if i != axis)
    order = tuple(a - (a > axis) for a in axes if a != axis)
    arrangement = Arrangement.permuted(kept, order)
    if get_int(node, "keepdims", 1):
        shape = tuple(1 if i == axis else d for i, d in enumerate(x.shape))
        arrangement = arrangement.reshaped(shape)  # type: ignore[assignment]
    low.define(result, Value(tensor, arrangement))
