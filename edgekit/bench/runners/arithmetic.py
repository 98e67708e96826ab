"""In what ONNX Runtime computes: integers or floats, by the graph that it really executes.

A quantised ONNX file says what every tensor means, not which kernels run: those groups of nodes
that the runtime has no integer kernel for, on this processor, it leaves in float.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

MOVING = frozenset(
    {
        *("QuantizeLinear", "DequantizeLinear", "Cast", "ReorderInput", "ReorderOutput"),
        *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile"),
        *("Identity", "Constant", "Shape", "Concat", "QLinearConcat", "Slice", "Split"),
        *("Pad", "Gather", "DepthToSpace", "SpaceToDepth"),
    }
)
"""Operators that convert, order or copy values, and compute nothing."""

TO_REAL = ("DequantizeLinear", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
"""Operators whose result is float whatever goes in."""


@dataclass(frozen=True)
class Arithmetic:
    """Numbers of nodes that compute on integers and on floats."""

    integer: int
    real: int


def executed(open_session: Callable[[], object], options: Any) -> Arithmetic | None:
    """What a session computes in; None where the package onnx is missing, or nothing was written.

    Args:
        open_session: opens a session with `options`.
        options: for a session of its own, which writes its graph.
    """
    try:
        onnx: Any = import_module("onnx")
    except ImportError:
        return None
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        try:
            open_session()
            written = onnx.load(str(path))
        except Exception:
            # The runtime's own exceptions have no common base; a figure needs none of this.
            return None
    return arithmetic(written.graph, onnx.TensorProto)


def arithmetic(graph: Any, element: Any) -> Arithmetic:
    """Count the computing nodes of an optimised graph.

    Args:
        graph: ``GraphProto``; its nodes are in order of execution.
        element: ``TensorProto``, which names the element types.
    """
    floats = {element.FLOAT, element.FLOAT16, element.BFLOAT16, element.DOUBLE}
    real = {i.name for i in graph.input if i.type.tensor_type.elem_type in floats}
    real |= {t.name for t in graph.initializer if t.data_type in floats}
    counts = {True: 0, False: 0}
    for node in graph.node:
        # By the data, which is the first input; that of QLinearConcat is a scale.
        quantised = node.op_type.startswith("QLinear")
        is_real = not quantised and node.input[:1] != [] and node.input[0] in real
        if node.op_type not in MOVING:
            counts[is_real] += 1
        if _gives_real(node, is_real, floats):
            real |= set(node.output)
    return Arithmetic(integer=counts[False], real=counts[True])


def _gives_real(node: Any, is_real: bool, floats: set[int]) -> bool:
    """Whether a node's results are floats."""
    if node.op_type == "Cast":
        return next(a.i for a in node.attribute if a.name == "to") in floats
    if node.op_type == "QGemm":
        # Without the scale and zero point of its result, the last two of nine, that is float.
        return len(node.input) < 9 or not node.input[7]
    return node.op_type in TO_REAL or (is_real and node.op_type != "QuantizeLinear")
