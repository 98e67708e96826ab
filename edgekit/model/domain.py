"""Operators of the ``edgekit`` domain: what ONNX has no operator for.

Each is an ONNX *model-local function*: a body of standard operators that any runtime executes. The
compiler recognises the call by its name and does not look at the body. A new operator is one entry
of :data:`FUNCTIONS` and a pass or a lowering that knows it.
"""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir

DOMAIN = "edgekit"

VERSION = 1
"""Version of the domain that models import."""

FUNCTIONS: dict[str, str] = {
    # Fake quantisation to codes low…high of int8, halves to even. `scale` (float32, positive) and
    # `zero_point` (int8) have one element for the whole tensor or one per index of `axis`.
    # QuantizeLinear saturates to int8; a second, narrower saturation gives the same as one.
    "QuantizeDequantize": """
        QuantizeDequantize <low: int = -128, high: int = 127, axis: int = 0>
            (x, scale, zero_point) => (y)
        {
            wide = QuantizeLinear <axis: int = @axis> (x, scale, zero_point)
            low_number = Constant <value_int: int = @low> ()
            high_number = Constant <value_int: int = @high> ()
            low_code = CastLike (low_number, zero_point)
            high_code = CastLike (high_number, zero_point)
            codes = Clip (wide, low_code, high_code)
            y = DequantizeLinear <axis: int = @axis> (codes, scale, zero_point)
        }
    """,
}
"""Definitions in ONNX's text form, by operator, without their header."""


def function(op_type: str, opset: int) -> onnx.FunctionProto:
    """The function that defines an operator.

    Args:
        op_type: key of :data:`FUNCTIONS`.
        opset: version of the standard operators in its body, 18 or newer.

    >>> function("QuantizeDequantize", 21).domain
    'edgekit'
    """
    header = f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]>'
    return onnx.parser.parse_function(header + FUNCTIONS[op_type])


def attach_functions(model: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
    """Give a model the definitions of the operators of this domain that it calls.

    Rules:

    1. An operator that a node of the graph, of its subgraphs or of a function calls gets the
       function of :data:`FUNCTIONS`, in the model's own opset.
    2. A definition that the model carries already, and that is another, is replaced by ours, which
       the name stands for.
    3. The model imports the domain in :data:`VERSION`.
    """
    graphs: list[onnx_ir.Graph | onnx_ir.Function] = [model.graph, *model.functions.values()]
    nodes = (node for graph in graphs for node in graph.all_nodes())
    used = {node.op_type for node in nodes if node.domain == DOMAIN} & FUNCTIONS.keys()
    opset = model.graph.opset_imports.get("", 0)
    modified = False
    for op_type in sorted(used):
        definition = onnx_ir.serde.deserialize_function(function(op_type, opset))
        carried = model.functions.get(definition.identifier())
        if carried is None or onnx_ir.to_proto(carried) != onnx_ir.to_proto(definition):
            model.functions[definition.identifier()] = definition
            modified = True
    if used and model.graph.opset_imports.get(DOMAIN) != VERSION:
        model.graph.opset_imports[DOMAIN] = VERSION
        modified = True
    return model, modified
