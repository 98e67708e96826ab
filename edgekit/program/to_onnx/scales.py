"""Whether an operation's integer fields are what the scales of its tensors mean.

A Program computes with its fields, an ONNX model with scales: only where the fields follow from the
scales do both mean the same.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import fields, is_dataclass, replace
from typing import Any

from edgekit.errors import UnsupportedError
from edgekit.program.ir import DType
from edgekit.program.operators.activation import Clip
from edgekit.program.operators.base import OperatorError
from edgekit.program.operators.normalization import LayerNorm
from edgekit.program.to_onnx.node import Node
from edgekit.program.to_onnx.values import per_tensor

CLAMPS = ("clamp", "residual_clamp")
"""Fields that no scale decides on."""


def require_scales(node: Node) -> None:
    """Refuse an operation whose integer fields do not follow from the scales of its tensors.

    The fields of layernorm hold the scale of gamma, which no tensor has: they pass.

    Raises:
        UnwritableError: names the field.
    """
    operator = node.operator
    integer = any(t is not None and t.dtype in (DType.INT8, DType.INT16) for t in node.inputs)
    integer |= node.output.dtype in (DType.INT8, DType.INT16)
    if not integer or not hasattr(operator, "quantized") or isinstance(operator, LayerNorm):
        return
    try:
        derived = type(operator).quantized(**_arguments(node))
    except (OperatorError, UnsupportedError, OverflowError) as error:
        node.refuse(str(error))
    for field in fields(operator):
        mine, other = getattr(operator, field.name), getattr(derived, field.name)
        unused = isinstance(operator, Clip) and operator.requant is derived.requant is None
        if field.name in CLAMPS or unused:
            continue
        if is_dataclass(mine) and hasattr(mine, "clamp") and other is not None:
            other = replace(other, clamp=mine.clamp)
        if mine != other:
            node.refuse(f"its {field.name} is not what the scales of its tensors give")


def _arguments(node: Node) -> dict[str, Any]:
    """What the operator's ``quantized`` takes, from tensors and fields."""
    operator = node.operator
    ports = dict(zip((p.rstrip("?") for p in operator.inputs), node.inputs, strict=False))
    ports |= dict(zip(operator.outputs, node.outputs, strict=False))
    found: dict[str, Any] = {}
    for name in inspect.signature(operator.quantized).parameters:
        tensor = ports.get(name)
        if tensor is not None and tensor.is_constant and tensor.quantization is not None:
            found[name] = tensor.quantization
        elif tensor is not None:
            found[name] = per_tensor(tensor)
        elif name == "dtype":
            found[name] = node.output.dtype
        elif name == "count":
            found[name] = operator.count(node.input(0).type)
        elif hasattr(operator, name):
            found[name] = getattr(operator, name)
        elif name in ("low", "high"):
            found[name] = -math.inf if name == "low" else math.inf
    return found
