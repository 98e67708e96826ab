"""Element types as a strongly typed network infers them: from inputs and operators alone.

ONNX's operator schemas say which inputs and outputs of an operator have one type; so the types of
all values follow in one walk. ONNX's own inference is native code that a hostile file can crash,
so only the schemas are used.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir
from onnx_ir import DataType

from edgekit.model.nodes import find_input, find_int, is_op
from edgekit.model.shapes import quantized_type

_SPELLINGS = {f"tensor({d.name.lower()})": d for d in DataType if d != DataType.UNDEFINED}


def value_types(graph: onnx_ir.Graph, opset: int) -> dict[onnx_ir.Value, DataType]:
    """Element type of every value whose type follows from the inputs, by value.

    Args:
        graph: in topological order.
        opset: of ONNX's own operators.
    """
    types = {v: v.dtype for v in (*graph.inputs, *graph.initializers.values()) if v.dtype}
    for node in graph:
        for output, dtype in zip(node.outputs, _output_types(node, types, opset), strict=False):
            if dtype is not None:
                types[output] = dtype
    return types


def operand_groups(node: onnx_ir.Node, opset: int) -> dict[str, list[int]]:
    """Indices of the inputs that must have one type, by the type's name in the schema."""
    schema = _schema(node, opset)
    groups: dict[str, list[int]] = {}
    if schema is None or not schema.inputs:
        return groups
    for index, value in enumerate(node.inputs):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if value is not None and formal.is_homogeneous:
            groups.setdefault(formal.type_str, []).append(index)
    return groups


def _schema(node: onnx_ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    if node.domain != "":
        return None
    try:
        return onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return None


def _output_types(
    node: onnx_ir.Node, types: dict[onnx_ir.Value, DataType], opset: int
) -> Iterator[DataType | None]:
    """Types of the outputs in order, None where unknown."""
    special = _special(node, types)
    schema = _schema(node, opset)
    if special is not None or schema is None:
        yield special
        return
    bound = {}
    for name, indices in operand_groups(node, opset).items():
        known = [types[v] for i in indices if (v := node.inputs[i]) is not None and v in types]
        if known:
            bound[name] = known[0]
    constraints = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    for index in range(len(node.outputs)):
        name = schema.outputs[min(index, len(schema.outputs) - 1)].type_str
        allowed = constraints.get(name, (name,))
        only = _SPELLINGS.get(allowed[0]) if len(allowed) == 1 else None
        yield bound.get(name, only)


def _special(node: onnx_ir.Node, types: dict[onnx_ir.Value, DataType]) -> DataType | None:
    """The type of the first output where an attribute or a further input gives it."""
    second, third = find_input(node, 1), find_input(node, 2)
    match node.op_type:
        case "Cast":
            number = find_int(node, "to")
            return None if number is None else DataType(number)
        case "CastLike" | "DequantizeLinear":
            return None if second is None else types.get(second)
        case "QuantizeLinear":
            return quantized_type(node) if third is None else types.get(third)
        case "Constant" | "ConstantOfShape":
            attribute = node.attributes.get("value")
            tensor = None if attribute is None else attribute.as_tensor()
            if tensor is not None:
                return tensor.dtype
            return DataType.FLOAT if is_op(node, "ConstantOfShape") else None
    return None
