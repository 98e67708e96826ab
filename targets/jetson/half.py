"""The float16 baseline: the float Model with every float32 tensor inside as float16.

A strongly typed network computes in the types of its graph, so a float16 baseline is a graph of
its own. Inputs and outputs stay float32, so that every model of an artifact is fed alike.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
from onnx_ir import DataType

from edgekit.errors import UnsupportedError
from edgekit.model.model import Model
from edgekit.model.nodes import (
    Array,
    add_constant,
    const,
    insert,
    is_op,
    label,
    name_of,
    unique_name,
)
from edgekit.targets.jetson.element_types import value_types

_BOUNDING = ("Clip", "Max", "Min", "Pad", "Where")
"""Operators whose constants may be cut to float16's range without harm."""

_TYPE_ATTRIBUTES = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype"}


def to_float16(model: Model) -> Model:
    """Compute in float16 what a Model computes in float32.

    Args:
        model: optimised, without local functions and quantisation; not changed.

    Raises:
        UnsupportedError: a constant exceeds float16's range, or an operator has no float16 form.
    """
    ir = model.ir.clone()
    graph = ir.graph
    opset = graph.opset_imports[""]
    types = value_types(graph, opset)
    inside = [node for node in graph if node.domain == ""]
    problems: list[str] = []
    for node in inside:
        _convert_attributes(node)
        for output in node.outputs:
            if types.get(output) == DataType.FLOAT:
                output.type = onnx_ir.TensorType(DataType.FLOAT16)
    halves = {v: _half_input(graph, v) for v in graph.inputs if types.get(v) == DataType.FLOAT}
    for node in inside:
        problems += _convert_operands(node, opset, types, halves)
    for index, value in enumerate(list(graph.outputs)):
        if types.get(value) == DataType.FLOAT and value.producer() is not None:
            graph.outputs[index] = _float_output(graph, value)
    if problems:
        lines = "\n  ".join(problems)
        raise UnsupportedError(f"{model.name}: cannot be computed in float16:\n  {lines}")
    graph.sort()
    return model.with_ir(ir)


def _half_input(graph: onnx_ir.Graph, value: onnx_ir.Value) -> onnx_ir.Value:
    name = f"{name_of(value)}.float16"
    half = insert(graph[0], "Cast", [value], {"to": int(DataType.FLOAT16)}, name=name)
    half.shape, half.type = value.shape, onnx_ir.TensorType(DataType.FLOAT16)
    return half


def _float_output(graph: onnx_ir.Graph, value: onnx_ir.Value) -> onnx_ir.Value:
    """Cast an output to float32 under its name; `value` gets another one."""
    producer, name = value.producer(), name_of(value)
    assert producer is not None
    value.name = unique_name(graph, f"{name}.float16")
    attributes = {"to": int(DataType.FLOAT)}
    result = insert(producer, "Cast", [value], attributes, name=f"{name}.cast", after=True)
    result.name = name
    result.shape, result.type = value.shape, onnx_ir.TensorType(DataType.FLOAT)
    return result


def _convert_attributes(node: onnx_ir.Node) -> None:
    """Let an operator whose result type an attribute gives make float16."""
    name = _TYPE_ATTRIBUTES.get(node.op_type)
    attribute = node.attributes.get(name or "")
    if name and attribute is not None and attribute.value == int(DataType.FLOAT):
        node.attributes[name] = onnx_ir.AttrInt64(name, int(DataType.FLOAT16))
    filling = node.attributes.get("value")
    if is_op(node, "ConstantOfShape"):
        array = np.zeros(1, np.float32) if filling is None else filling.as_tensor().numpy()
        if array.dtype == np.float32:
            tensor = onnx_ir.Tensor(np.asarray(array, np.float16))
            node.attributes["value"] = onnx_ir.AttrTensor("value", tensor)


def _convert_operands(
    node: onnx_ir.Node,
    opset: int,
    types: dict[onnx_ir.Value, DataType],
    halves: dict[onnx_ir.Value, onnx_ir.Value],
) -> list[str]:
    """Let a node read float16 wherever its operator takes it; returns what is wrong."""
    schema = onnx.defs.get_schema(node.op_type, opset)
    for index, output in enumerate(node.outputs):
        formal = schema.outputs[min(index, len(schema.outputs) - 1)]
        if types.get(output) == DataType.FLOAT and "tensor(float16)" not in formal.types:
            return [f"{label(node)}: the operator has no float16 form"]
    if is_op(node, "Cast") and node.inputs[0] in halves.values():
        return []
    for index, value in enumerate(node.inputs):
        if value is None or types.get(value) != DataType.FLOAT:
            continue
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        array = const(value)
        if "tensor(float16)" not in formal.types:
            if array is None:
                return [f"{label(node)}: input {index} must be float32"]
        elif array is not None:
            half = _half(array, saturate=is_op(node, *_BOUNDING))
            if half is None:
                return [f"{label(node)}: constant {name_of(value)!r} exceeds float16's range"]
            graph = node.graph
            assert isinstance(graph, onnx_ir.Graph)
            constant = add_constant(graph, f"{name_of(value)}.float16", half)
            node.replace_input_with(index, constant)
            if not value.uses() and not value.is_graph_output():
                del graph.initializers[name_of(value)]
        elif value in halves:
            node.replace_input_with(index, halves[value])
    return []


def _half(array: Array, *, saturate: bool) -> Array | None:
    """A float32 array in float16, infinities kept; None where finite values would become some."""
    largest = float(np.finfo(np.float16).max)
    finite = np.isfinite(array)
    if saturate:
        array = np.where(finite, np.clip(array, -largest, largest), array)
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.isfinite(half[finite]).all() else None
