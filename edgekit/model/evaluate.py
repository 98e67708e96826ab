"""Values of nodes whose inputs are all constants, computed with NumPy.

Only what shape arithmetic and weight preparation in real files need; float32 stays float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir

from edgekit.errors import InvalidModelError
from edgekit.model import geometry
from edgekit.model.geometry import check
from edgekit.model.nodes import Array, const, find_input, get_int, label, shape_of

MAX_FOLDED = 2**24
"""Larger results are not folded: a file of a few bytes must not fill the memory."""

Evaluator = Callable[[onnx_ir.Node, Sequence[Array]], Array]

_EVALUATORS: dict[str, Evaluator] = {}


def _evaluator(*op_types: str) -> Callable[[Evaluator], Evaluator]:
    def register(function: Evaluator) -> Evaluator:
        _EVALUATORS.update(dict.fromkeys(op_types, function))
        return function

    return register


def evaluate(node: onnx_ir.Node) -> Array | None:
    """The value of a node's only output, None where it is not known or not folded.

    The output's shape must be inferred already.

    Raises:
        InvalidModelError: the inputs do not fit the operator.
    """
    if node.domain != "":
        return None
    if node.op_type == "Shape":
        # The one operator that needs its input's shape only.
        shape = shape_of(find_input(node, 0))
        if shape is None:
            return None
        stop = get_int(node, "end", len(shape))
        return np.array(shape[get_int(node, "start", 0) : stop], np.int64)
    function = _EVALUATORS.get(node.op_type)
    result = shape_of(node.outputs[0])
    if function is None or result is None or np.prod(result, dtype=object) > MAX_FOLDED:
        return None
    arrays = []
    for value in node.inputs:
        array = const(value)
        if array is None and value is not None:
            return None
        arrays.append(np.zeros(0) if array is None else array)
    check(bool(arrays), node, "has no input")
    try:
        with np.errstate(all="ignore"):
            return np.asarray(function(node, arrays))
    except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
        raise InvalidModelError(
            f"{label(node)}: its constant inputs do not fit: {error}"
        ) from error


_ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Pow": np.power,
    "Mod": np.mod,
    "Min": lambda *a: np.minimum.reduce(np.broadcast_arrays(*a)),
    "Max": lambda *a: np.maximum.reduce(np.broadcast_arrays(*a)),
    "Equal": np.equal,
    "Less": np.less,
    "Greater": np.greater,
    "Where": np.where,
    "Neg": np.negative,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Not": np.logical_not,
}


@_evaluator(*_ELEMENTWISE)
def _elementwise(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    result = _ELEMENTWISE[node.op_type](*arrays)
    keeps_type = node.op_type not in ("Equal", "Less", "Greater", "Not", "Where")
    return result.astype(arrays[0].dtype) if keeps_type else result


@_evaluator("Div")
def _div(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    a, b = arrays
    if a.dtype.kind not in "iu":
        return np.asarray(np.divide(a, b)).astype(a.dtype)
    check(bool((b != 0).all()), node, "divides an integer by zero")
    # Integers truncate towards zero.
    quotient = np.floor_divide(np.abs(a), np.abs(b)) * np.sign(a) * np.sign(b)
    return np.asarray(quotient).astype(a.dtype)


@_evaluator("Identity", "Dropout")
def _identity(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    return arrays[0]


@_evaluator("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    shape = shape_of(node.outputs[0])
    assert shape is not None
    return arrays[0].reshape(shape)


@_evaluator("Expand")
def _expand(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    shape = shape_of(node.outputs[0])
    assert shape is not None
    return np.broadcast_to(arrays[0], shape).copy()


@_evaluator("ConstantOfShape")
def _constant_of_shape(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    attribute = node.attributes.get("value")
    if attribute is None:
        fill = np.zeros(1, np.float32)
    else:
        check(
            attribute.type == onnx_ir.AttributeType.TENSOR and not attribute.is_ref(),
            node,
            "attribute 'value' must be a tensor",
        )
        fill = np.asarray(attribute.as_tensor().numpy())
        check(fill.size == 1, node, "attribute 'value' must have one element")
    return np.full(tuple(arrays[0].reshape(-1)), fill.reshape(-1)[0], fill.dtype)


@_evaluator("Transpose")
def _transpose(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    return arrays[0].transpose(geometry.permutation_of(node, arrays[0].ndim))


@_evaluator("Concat")
def _concat(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    return np.concatenate(arrays, geometry.axis_of(node, arrays[0].ndim, 0))


@_evaluator("Slice")
def _slice(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    box = geometry.box_of(node, arrays[0].shape)
    assert box is not None
    indices = (
        range(b, b + c * s, s) for b, c, s in zip(box.begin, box.count, box.step, strict=True)
    )
    return arrays[0][np.ix_(*(np.fromiter(i, np.int64) for i in indices))]


@_evaluator("Gather")
def _gather(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    axis = geometry.axis_of(node, arrays[0].ndim, 0)
    return np.take(arrays[0], arrays[1].astype(np.int64), axis)


@_evaluator("Cast")
def _cast(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    return arrays[0].astype(onnx_ir.DataType(get_int(node, "to", 0)).numpy())


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
}


@_evaluator(*_REDUCTIONS)
def _reduce(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    axes = geometry.reduced_axes(node, arrays[0].ndim)
    assert axes is not None
    keep = get_int(node, "keepdims", 1) == 1
    result = _REDUCTIONS[node.op_type](arrays[0], axis=axes, keepdims=keep)
    return np.asarray(result).astype(arrays[0].dtype)


@_evaluator("QuantizeLinear")
def _quantize(node: onnx_ir.Node, arrays: Sequence[Array]) -> Array:
    x, scale = arrays[0], arrays[1]
    zero_point = arrays[2] if len(arrays) > 2 and arrays[2].size else np.zeros(1, np.uint8)
    info = np.iinfo(zero_point.dtype)
    check(scale.ndim <= 1, node, "blocked quantisation is not supported")
    if scale.size > 1:
        axis = geometry.axis_of(node, x.ndim, 1)
        check(x.shape[axis] == scale.size, node, f"{scale.size} scales for shape {list(x.shape)}")
        shape = [1] * x.ndim
        shape[axis] = -1
        scale = scale.reshape(shape)
        zero_point = zero_point.reshape(shape) if zero_point.size > 1 else zero_point.reshape(())
    else:
        scale, zero_point = scale.reshape(()), zero_point.reshape(())
    levels = np.rint(x / scale).astype(np.float64) + zero_point
    return np.clip(levels, info.min, info.max).astype(zero_point.dtype)
