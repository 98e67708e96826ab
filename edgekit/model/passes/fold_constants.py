"""Compute now what depends on constants only."""

from __future__ import annotations

import numpy as np
import onnx_ir

from edgekit.errors import InvalidModelError
from edgekit.model.evaluate import evaluate
from edgekit.model.nodes import Array, label, name_of, remove
from edgekit.model.shapes import infer_shapes

_SCALAR_ATTRIBUTES = {
    "value_float": np.float32,
    "value_int": np.int64,
    "value_floats": np.float32,
    "value_ints": np.int64,
}


def fold_constants(model: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
    """Replace computations on constants by their values; infer every shape on the way.

    Rules:

    1. A Constant node becomes an initializer.
    2. ``Shape`` of a value with a static shape becomes an initializer.
    3. A node of :mod:`edgekit.model.evaluate` whose inputs are all initializers becomes one.
       QuantizeLinear is among them, DequantizeLinear is not: it marks quantised constants.
    """
    modified = False
    for node in model.graph:
        value = _constant(node) if node.op_type == "Constant" and node.domain == "" else None
        if value is None:
            infer_shapes(node)
            unfolded = any(o.is_graph_output() for o in node.outputs)
            value = None if unfolded or len(node.outputs) != 1 else evaluate(node)
        elif node.outputs[0].is_graph_output():
            continue
        if value is not None:
            _replace(model.graph, node, value)
            modified = True
    return model, modified


def _constant(node: onnx_ir.Node) -> Array:
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            continue
        if name == "value" and attribute.type == onnx_ir.AttributeType.TENSOR:
            return np.asarray(attribute.as_tensor().numpy())
        dtype = _SCALAR_ATTRIBUTES.get(name)
        if dtype is not None:
            return np.asarray(attribute.value, dtype)
    raise InvalidModelError(f"{label(node)}: must have a dense tensor or numbers as its value")


def _replace(graph: onnx_ir.Graph, node: onnx_ir.Node, array: Array) -> None:
    old = node.outputs[0]
    name, old.name = name_of(old), None
    array = np.ascontiguousarray(array).reshape(array.shape)
    tensor = onnx_ir.Tensor(array)
    new = onnx_ir.Value(
        name=name,
        shape=onnx_ir.Shape(array.shape),
        type=onnx_ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(new)
    old.replace_all_uses_with(new)
    remove(node)
