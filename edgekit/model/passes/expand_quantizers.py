"""Write the quantisers of the ``edgekit`` domain as QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx_ir

from edgekit.model.domain import DOMAIN
from edgekit.model.geometry import axis_of, check, check_supported
from edgekit.model.nodes import (
    Array,
    add_constant,
    const,
    get_input,
    get_int,
    graph_of,
    insert,
    is_op,
    only_use,
    remove,
    shape_of,
    take_over,
)

QUANTIZER = "QuantizeDequantize"

_INT8 = np.iinfo(np.int8)


def expand_quantizers(model: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
    """Rewrite ``edgekit.QuantizeDequantize``, whose range QuantizeLinear cannot say.

    Rules:

    1. Of a constant: its codes become an int8 constant behind DequantizeLinear.
    2. Of a computed value, full range of int8: QuantizeLinear and DequantizeLinear.
    3. Of a computed value, narrower range: as 2, behind a Clip to the reals that the outermost
       codes mean. A code times its scale, divided by the scale again, rounds to the same code.
    4. QuantizeLinear of a clipped input of the graph: the input is quantised before it is clipped
       too, so that it can be fed as integers. Quantisation keeps order, so the codes are the same.

    A node whose scale or zero point is not constant yet waits for :func:`fold_constants`.

    Raises:
        InvalidModelError: range, scales or zero points do not fit each other.
        UnsupportedError: a computed value with a narrow range per channel.
    """
    modified = False
    for node in model.graph:
        if node.domain == DOMAIN and node.op_type == QUANTIZER:
            modified |= _expand(node)
        elif is_op(node, "QuantizeLinear"):
            modified |= _quantize_before_clip(node)
    if modified and not any(n.domain == DOMAIN and n.op_type == QUANTIZER for n in model.graph):
        for key in [k for k, f in model.functions.items() if (f.domain, f.name) == _KEY]:
            del model.functions[key]
    return model, modified


_KEY = (DOMAIN, QUANTIZER)


def _expand(node: onnx_ir.Node) -> bool:
    check(len(node.inputs) == 3, node, f"has {len(node.inputs)} inputs, must have 3")
    x, scale_input, zero_input = (get_input(node, i) for i in range(3))
    scale, zero_point, shape = const(scale_input), const(zero_input), shape_of(x)
    if scale is None or zero_point is None or shape is None:
        return False
    low, high = get_int(node, "low", _INT8.min), get_int(node, "high", _INT8.max)
    axis = axis_of(node, len(shape), 0) if scale.size > 1 else 0
    _check(node, shape, axis, scale, zero_point, (low, high))
    graph, name = graph_of(node), node.name
    scale_value = add_constant(graph, f"{name}.scale", _compact(scale))
    zero_value = add_constant(graph, f"{name}.zero_point", _compact(zero_point))
    attributes = {"axis": axis} if scale.size > 1 else {}
    array = const(x)
    if array is not None:
        codes = _codes(array, scale, zero_point, axis, (low, high))
        quantised = add_constant(graph, f"{name}.codes", codes)
    else:
        if (low, high) != (_INT8.min, _INT8.max):
            check_supported(scale.size == 1, node, "computed values are quantised per tensor")
            x = _clipped(node, x, scale, zero_point, (low, high))
        quantised = insert(
            node, "QuantizeLinear", [x, scale_value, zero_value], attributes, name=f"{name}.q"
        )
        quantised.shape = onnx_ir.Shape(shape)
        quantised.type = onnx_ir.TensorType(onnx_ir.DataType.INT8)
    inputs = [quantised, scale_value, zero_value]
    result = insert(node, "DequantizeLinear", inputs, attributes, name=f"{name}.dq")
    result.shape = onnx_ir.Shape(shape)
    result.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    take_over(node.outputs[0], result)
    remove(node)
    return True


def _quantize_before_clip(node: onnx_ir.Node) -> bool:
    clip = get_input(node, 0).producer()
    if clip is None or not is_op(clip, "Clip") or only_use(clip.outputs[0]) is not node:
        return False
    x = get_input(clip, 0)
    if not x.is_graph_input():
        return False
    codes = insert(clip, "QuantizeLinear", [x, *node.inputs[1:]], name=f"{node.name}.input")
    reals = insert(clip, "DequantizeLinear", [codes, *node.inputs[1:]], name=f"{node.name}.reals")
    codes.shape, codes.type = x.shape, node.outputs[0].type
    reals.shape, reals.type = x.shape, x.type
    clip.replace_input_with(0, reals)
    return True


def _check(
    node: onnx_ir.Node,
    shape: tuple[int, ...],
    axis: int,
    scale: Array,
    zero_point: Array,
    codes: tuple[int, int],
) -> None:
    low, high = codes
    check(_INT8.min <= low < high <= _INT8.max, node, f"range {low}…{high} is not within int8")
    fits = scale.dtype == np.float32 and scale.size >= 1 and bool((scale > 0).all())
    check(fits, node, "scales must be positive float32")
    fits = zero_point.dtype == np.int8 and zero_point.size == scale.size
    check(fits, node, f"zero points must be {scale.size} int8")
    inside = bool(((zero_point >= low) & (zero_point <= high)).all())
    check(inside, node, f"zero points must lie in {low}…{high}")
    if scale.size > 1:
        check(shape[axis] == scale.size, node, f"{scale.size} scales for axis {axis} of {shape}")


def _compact(parameter: Array) -> Array:
    """One number as a scalar, one per channel as a row."""
    return parameter.reshape(()) if parameter.size == 1 else parameter.reshape(-1)


def _codes(
    array: Array, scale: Array, zero_point: Array, axis: int, codes: tuple[int, int]
) -> Array:
    """int8 codes of a constant, float32 division, halves to even."""
    along = [1] * array.ndim
    if scale.size > 1:
        along[axis] = -1
    steps = np.rint(array / scale.reshape(along)).astype(np.float64)
    return np.clip(steps + zero_point.reshape(along), *codes).astype(np.int8)


def _clipped(
    node: onnx_ir.Node,
    x: onnx_ir.Value,
    scale: Array,
    zero_point: Array,
    codes: tuple[int, int],
) -> onnx_ir.Value:
    step, zero = np.float32(scale.reshape(())), int(zero_point.reshape(()))
    bounds = [
        add_constant(
            graph_of(node), f"{node.name}.{what}", np.array(np.float32(code - zero) * step)
        )
        for what, code in zip(("low", "high"), codes, strict=True)
    ]
    result = insert(node, "Clip", [x, *bounds], name=f"{node.name}.clip")
    result.shape, result.type = x.shape, onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    return result
