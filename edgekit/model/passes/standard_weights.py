"""Say quantised weights in ONNX's own types, where it has them."""

from __future__ import annotations

import math

import onnx_ir
from onnx_ir import DataType

from edgekit.model import geometry
from edgekit.model.coded import CodedConstant, is_dequantizer, read_coded
from edgekit.model.nodes import (
    Array,
    Shape,
    add_constant,
    const,
    find_input,
    get_input,
    get_int,
    get_string,
    graph_of,
    insert,
    is_op,
    only_use,
    remove,
    shape_of,
    take_over,
)

TYPES = {
    "int8": (DataType.INT8, 13),
    "int4": (DataType.INT4, 21),
    "int2": (DataType.INT2, 25),
}
"""The type of an element, and the first opset whose DequantizeLinear takes it, by element."""


def standard_weights(model: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
    """Write coded weights as DequantizeLinear of integers, where that says the same.

    Rules:

    1. Coded weights of int8, int4 or int2 without factors, in an opset that has the type, become
       DequantizeLinear, per tensor or along axis 0.
    2. Transpose, or Reshape that keeps the axis of the scales, of a constant behind
       DequantizeLinear that nobody else reads moves the constant itself.

    Raises:
        InvalidModelError: coded weights that are not what they say.
    """
    opset = model.graph.opset_imports.get("", 0)
    modified = False
    for node in model.graph:
        if is_dequantizer(node):
            _, since = TYPES.get(get_string(node, "element", ""), (None, opset + 1))
            if opset >= since and get_string(node, "factors", "") == "none":
                modified |= _linear(node, read_coded(node))
        elif is_op(node, "Reshape", "Transpose"):
            modified |= _moved(node)
    return model, modified


def _linear(node: onnx_ir.Node, found: CodedConstant) -> bool:
    name = found.element.name
    graph, scale = graph_of(node), found.coded.scale
    per_row = scale.size > 1
    inputs = [
        add_constant(
            graph, f"{node.name}.{name}", found.coded.integers.astype(TYPES[name][0].numpy())
        ),
        add_constant(graph, f"{node.name}.scale", scale if per_row else scale.reshape(())),
    ]
    attributes = {"axis": 0} if per_row else {}
    result = insert(node, "DequantizeLinear", inputs, attributes, name=f"{node.name}.dq")
    result.shape = onnx_ir.Shape(found.coded.integers.shape)
    result.type = onnx_ir.TensorType(DataType.FLOAT)
    take_over(node.outputs[0], result)
    remove(node)
    return True


def _moved(node: onnx_ir.Node) -> bool:
    source = find_input(node, 0)
    dequantize = None if source is None else source.producer()
    if source is None or dequantize is None or not is_op(dequantize, "DequantizeLinear"):
        return False
    data, scale = const(get_input(dequantize, 0)), const(get_input(dequantize, 1))
    if data is None or scale is None or only_use(source) is not node:
        return False
    if scale.ndim > 1 or get_int(dequantize, "block_size", 0):
        return False
    axis = None if scale.size == 1 else geometry.axis_of(dequantize, data.ndim, 1)
    found = (
        _transposed(node, data, axis) if is_op(node, "Transpose") else _reshaped(node, data, axis)
    )
    if found is None:
        return False
    array, axis = found
    moved = add_constant(graph_of(node), f"{get_input(dequantize, 0).name}.moved", array)
    attributes = {} if axis is None else {"axis": axis}
    inputs = [moved, *dequantize.inputs[1:]]
    result = insert(node, "DequantizeLinear", inputs, attributes, name=f"{node.name}.dq")
    result.shape = onnx_ir.Shape(array.shape)
    result.type = onnx_ir.TensorType(DataType.FLOAT)
    take_over(node.outputs[0], result)
    remove(node)
    return True


def _transposed(node: onnx_ir.Node, data: Array, axis: int | None) -> tuple[Array, int | None]:
    permutation = geometry.permutation_of(node, data.ndim)
    return data.transpose(permutation), None if axis is None else permutation.index(axis)


def _reshaped(node: onnx_ir.Node, data: Array, axis: int | None) -> tuple[Array, int | None] | None:
    shape = shape_of(node.outputs[0])
    if shape is None or math.prod(shape) != data.size:
        return None
    kept = None if axis is None else _kept(data.shape, axis, shape)
    return None if axis is not None and kept is None else (data.reshape(shape), kept)


def _kept(old: Shape, axis: int, new: Shape) -> int | None:
    """The axis of `new` that is the axis of `old`, None where it is joined or split.

    >>> _kept((8, 27), 0, (8, 3, 3, 3)), _kept((8, 27), 1, (8, 3, 9)), _kept((2, 9, 4), 2, (18, 4))
    (0, None, 1)
    """
    before = math.prod(old[:axis])
    for index, extent in enumerate(new):
        if extent == old[axis] and math.prod(new[:index]) == before:
            return index
    return None
