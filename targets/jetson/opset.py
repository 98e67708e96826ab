"""Declare an older opset, where the nodes of a Model mean the same in it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.model import Model
from edgekit.model.nodes import dtype_of, label

OPSET = 20
"""Newest opset that every TensorRT from 10.0 on documents as supported.

Source: onnx-tensorrt, docs/operators.md of TensorRT 10.0 (9 to 20) and 10.15 (9 to 24).
"""

_IR_VERSION = 9
"""Of ONNX 1.15, the release that brought opset 20."""

_CHANGED_MEANING = {"GroupNormalization": 21}
"""Operators that have the same form in both opsets but compute something else since the newer."""


def to_opset(model: Model, opset: int) -> Model:
    """The same graph with an older opset declared; a Model of that opset or an older one as it is.

    Args:
        model: without local functions; not changed.
        opset: of ONNX's own operators.

    Raises:
        UnsupportedError: lists every node that the older opset cannot say.
    """
    current = model.ir.graph.opset_imports.get("", opset)
    if current <= opset:
        return model
    problems = [
        f"{label(node)}: {problem}"
        for node in model.ir.graph
        if node.domain == ""
        for problem in _problems(node, current, opset)
    ]
    if problems:
        lines = "\n  ".join(problems)
        raise UnsupportedError(
            f"{model.name}: cannot be written in opset {opset}, the newest that every TensorRT 10 "
            f"reads:\n  {lines}"
        )
    ir = model.ir.clone()
    ir.graph.opset_imports[""] = opset
    ir.ir_version = min(ir.ir_version, _IR_VERSION)
    return model.with_ir(ir)


def _problems(node: onnx_ir.Node, current: int, opset: int) -> Iterator[str]:
    try:
        newer = onnx.defs.get_schema(node.op_type, current)
    except onnx.defs.SchemaError:
        return  # No such operator in either: for whoever checks operators.
    try:
        older = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        yield f"the operator exists since opset {newer.since_version}"
        return
    changed = _CHANGED_MEANING.get(node.op_type)
    if changed is not None and opset < changed <= current:
        yield f"its meaning changed in opset {changed}"
    for name in node.attributes:
        if name not in older.attributes:
            yield f"attribute {name!r} is newer"
    if len(node.inputs) > older.max_input:
        yield f"has {len(node.inputs)} inputs, the older form at most {older.max_input}"
    for index, value in enumerate(node.inputs):
        dtype = dtype_of(value)
        formal = older.inputs[min(index, len(older.inputs) - 1)]
        if dtype is not None and f"tensor({_spelling(dtype)})" not in formal.types:
            yield f"input {index} is {dtype.name}, which the older form does not take"


def _spelling(dtype: onnx_ir.DataType) -> str:
    """What ONNX's operator schemas call an element type."""
    return {"FLOAT": "float"}.get(dtype.name, dtype.name.lower())
