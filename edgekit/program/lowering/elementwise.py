"""Add, Sub and Mul."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir

from edgekit.model.geometry import broadcast, check
from edgekit.model.nodes import get_input, name_of
from edgekit.program.ir import Quantization
from edgekit.program.lowering.arrangement import Arrangement
from edgekit.program.lowering.fusion import Tail
from edgekit.program.lowering.lowerer import Lowerer, integer_clamp
from edgekit.program.lowering.table import lowering
from edgekit.program.lowering.value import Value
from edgekit.program.operators.base import Operator
from edgekit.program.operators.elementwise import Add, Mul, Sub

_OPERATORS: dict[str, type[Add] | type[Sub] | type[Mul]] = {"Add": Add, "Sub": Sub, "Mul": Mul}


@lowering("Add", "Sub", "Mul")
def binary(low: Lowerer, node: onnx_ir.Node) -> None:
    """Two operands, broadcast."""
    check(len(node.inputs) == 2, node, f"has {len(node.inputs)} inputs, must have 2")
    a, b = (low.value(get_input(node, i)) for i in (0, 1))
    kind = _OPERATORS[node.op_type]
    tail = low.tail(node)
    y = low.target(tail.value)
    if y is not None:
        a, b = _uniform(low, a, b), _uniform(low, b, a)
    operator: Operator
    if y is not None and a.quantization is not None and b.quantization is not None:
        operator = kind.quantized(a=a.quantization, b=b.quantization, y=y)
        operator = _clamped(operator, tail, y)
    else:
        if y is not None or a.quantization is not None or b.quantization is not None:
            low.stay_real(node, "its inputs and its result must all be quantised")
        a, b, y = low.real(node, a), low.real(node, b), None
        operator = kind(clamp=tail.clamp)
    shape = broadcast(node, a.shape, b.shape)
    left, right, arrangement = _aligned(low, node, a, b, shape)
    tensor = low.emit(node, operator, left, right, name=name_of(tail.value), quantization=y)
    low.define(tail.value, Value(tensor, arrangement, y))


def _clamped(operator: Add | Sub | Mul, tail: Tail, y: Quantization) -> Operator:
    clamp = integer_clamp(tail, y)
    if isinstance(operator, Mul):
        return replace(operator, clamp=clamp)
    assert operator.quant is not None
    return replace(operator, quant=replace(operator.quant, clamp=clamp))


def _uniform(low: Lowerer, value: Value, other: Value) -> Value:
    """A float constant with one value, as int8 that means it to float32's precision.

    Exporters leave such constants unquantised. Other floats stay as they are.
    """
    data = low.tensors[value.tensor].data
    if other.quantization is None or value.quantization is not None or data is None:
        return value
    number = float(data.reshape(-1)[0])
    if data.dtype != np.float32 or (data != data.reshape(-1)[0]).any():
        return value
    scale = abs(number) / 127 if number else 1.0
    quantization = Quantization.per_tensor(scale)
    if quantization.scalar_scale == 0:
        return value
    code = np.int8(np.sign(number) * 127)
    tensor = low.constant(np.full_like(data, code, np.int8), value.tensor, quantization)
    return Value(tensor, value.arrangement, quantization)


def _aligned(
    low: Lowerer, node: onnx_ir.Node, a: Value, b: Value, shape: tuple[int, ...]
) -> tuple[str, str, Arrangement]:
    """Tensors of two operands that broadcast in one order of axes, and that order.

    The larger operand keeps its order.
    """
    for one, other, swapped in ((a, b, False), (b, a, True)):
        if one.shape == shape and np.prod(other.shape, dtype=int) == 1:
            # A single number broadcasts over any order.
            number = low.view(node, other.tensor, (1,))
            pair = (number, one.tensor) if swapped else (one.tensor, number)
            return *pair, one.arrangement
    rank = len(shape)
    a, b = _widened(a, rank), _widened(b, rank)
    if (
        a.arrangement == b.arrangement
        and low.tensors[a.tensor].shape == low.tensors[b.tensor].shape
    ):
        return a.tensor, b.tensor, a.arrangement
    sizes = [
        low.tensors[v.tensor].type.size * (not low.tensors[v.tensor].is_constant) for v in (a, b)
    ]
    axes = low.axes_of(a if sizes[0] >= sizes[1] else b)
    left, right = low.arrange(node, a, axes), low.arrange(node, b, axes)
    return left.tensor, right.tensor, Arrangement.permuted(shape, axes)


def _widened(value: Value, rank: int) -> Value:
    """Axes of extent 1 in front until there are `rank`."""
    missing = rank - len(value.shape)
    if missing == 0:
        return value
    return value.arranged(value.arrangement.reshaped((1,) * missing + value.shape))
