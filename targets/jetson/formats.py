"""Number formats of the ``edgekit`` domain that the Model for TensorRT cannot say.

What a source says in ONNX's own types is for the rules of
:mod:`edgekit.targets.jetson.rules_quantization`.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.coded import is_dequantizer
from edgekit.model.domain import DOMAIN
from edgekit.model.model import Model
from edgekit.model.nodes import get_int, get_string, label

RUNS = "int8 weights and activations with one scale per tensor or channel, float16 and float32"
"""The formats of the models that are built for Jetson here."""

_ACTIVATIONS = {
    "DynamicQuantizeDequantize": "activations with a scale per token",
    "Binarize": "binary activations",
}
"""What functions of the ``edgekit`` domain give."""


def check_formats(model: Model) -> None:
    """Refuse coded weights other than int8, dynamic and binary activations.

    Raises:
        UnsupportedError: lists every node with its format, and says what can run.
    """
    problems = [f"{label(node)}: {what}" for node in model.ir.graph for what in _formats(node)]
    if problems:
        lines = "\n  ".join(problems)
        raise UnsupportedError(
            f"{model.name}: formats that the models for Jetson do not have; they run {RUNS}:\n  "
            + lines
        )


def _formats(node: onnx_ir.Node) -> Iterator[str]:
    """What is wrong with a node's format, in words."""
    if is_dequantizer(node):
        factors = get_string(node, "factors", "none")
        groups = "" if factors == "none" else f" in groups of {get_int(node, 'group', 0)}"
        element = get_string(node, "element", "unknown")
        if (element, factors) != ("int8", "none"):
            yield f"{element} weights{groups}"
    elif node.domain == DOMAIN and node.op_type in _ACTIVATIONS:
        yield _ACTIVATIONS[node.op_type]
