"""Which nodes one Program operator takes together.

The quantiser asks the same questions: between fused nodes there is no value to quantise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir

from edgekit.model.constants import stored_behind
from edgekit.model.nodes import const, get_input, is_op, only_use, shape_of
from edgekit.model.passes.fuse_activations import clamp_bounds

CLAMPING = (
    *("Conv", "ConvTranspose", "Gemm", "Add", "Sub", "Mul"),
    "LayerNormalization",
)
"""Operators whose Program form can clamp its result."""


@dataclass(frozen=True)
class Tail:
    """What a node computes together with the nodes behind it.

    Attributes:
        value: the value that the whole computes.
        bias: the constant added, None for none.
        low, high: bounds of a fused clamp, infinite for none.
        absorbed: the nodes behind the first, in order.
    """

    value: onnx_ir.Value
    bias: onnx_ir.Value | None = None
    low: float = -math.inf
    high: float = math.inf
    absorbed: tuple[onnx_ir.Node, ...] = ()

    @property
    def clamp(self) -> tuple[float, float] | None:
        """The float clamp, None where nothing is clamped."""
        unbounded = (-math.inf, math.inf)
        return None if (self.low, self.high) == unbounded else (self.low, self.high)


def tail_of(node: onnx_ir.Node) -> Tail:
    """Collect what fuses behind a node: the bias of a MatMul, then one Relu or Clip."""
    value, absorbed = node.outputs[0], []
    bias = None
    if is_op(node, "MatMul"):
        adding = only_use(value)
        bias = None if adding is None else _bias(node, adding, value)
        if bias is not None and adding is not None:
            absorbed.append(adding)
            value = adding.outputs[0]
    low, high = -math.inf, math.inf
    if is_op(node, *CLAMPING) or _is_fully_connected(node):
        clamping = only_use(value)
        bounds = None if clamping is None else clamp_bounds(clamping)
        if clamping is not None and bounds is not None and get_input(clamping, 0) is value:
            (low, high), value = bounds, clamping.outputs[0]
            absorbed.append(clamping)
    return Tail(value, bias, low, high, tuple(absorbed))


def _is_fully_connected(node: onnx_ir.Node) -> bool:
    """Whether a node is a MatMul with a constant matrix on its right."""
    if not is_op(node, "MatMul"):
        return False
    right = get_input(node, 1)
    shape = shape_of(right)
    return shape is not None and len(shape) <= 2 and is_constant(right)


def _bias(node: onnx_ir.Node, adding: onnx_ir.Node, product: onnx_ir.Value) -> onnx_ir.Value | None:
    """The constant row that `adding` adds to the product with a constant matrix, or None."""
    columns, shape = shape_of(get_input(node, 1)), shape_of(product)
    if not is_op(adding, "Add") or not _is_fully_connected(node) or len(adding.inputs) != 2:
        return None
    if columns is None or shape is None or len(columns) != 2:
        return None
    other = adding.inputs[1 if adding.inputs[0] is product else 0]
    row = shape_of(other)
    fits = row is not None and row[-1:] == columns[1:] and len(row) <= min(2, len(shape))
    fits = fits and row is not None and len(row) >= 1 and row[:-1] in ((), (1,))
    return other if fits and is_constant(other) else None


def is_constant(value: onnx_ir.Value | None) -> bool:
    """Whether a value is an initializer, or quantised in one."""
    if value is None:
        return False
    return const(value) is not None or stored_behind(value) is not None
