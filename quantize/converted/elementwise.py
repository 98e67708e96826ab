"""Sums, differences and products; elementwise functions of integers."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.program.operators.activation import Clip, LeakyRelu, Sigmoid, Tanh
from edgekit.program.operators.elementwise import Add, Mul, Sub
from edgekit.program.operators.rules import given
from edgekit.quantize.converted.rounding import added, clamped, requantized
from edgekit.quantize.converted.table import Inputs, axes_after, executor


def _pair(inputs: Inputs) -> list[Tensor]:
    """Two operands with as many axes, so that they broadcast as the Program's do."""
    a, b = given(inputs[0]), given(inputs[1])
    return axes_after(max(a.ndim, b.ndim) - 1, a, b)


@executor(Add, Sub)
def _sum(operator: Add | Sub, inputs: Inputs) -> tuple[Tensor, ...] | None:
    a, b = _pair(inputs)
    sign = 1 if isinstance(operator, Add) else -1
    if operator.quant is not None:
        return (added(operator.quant, a, b, sign).to(a.dtype),)
    # One IEEE operation for each element.
    return (_within(a + b if sign > 0 else a - b, operator.clamp),)


@executor(Mul)
def _mul(operator: Mul, inputs: Inputs) -> tuple[Tensor, ...]:
    a, b = _pair(inputs)
    if operator.requant is None:
        return (_within(a * b, operator.clamp),)
    product = (a.long() - operator.a_zero_point) * (b.long() - operator.b_zero_point)
    y = requantized(operator.requant, product) + operator.y_zero_point
    return (clamped(y, operator.clamp).to(a.dtype),)


def _within(y: Tensor, clamp: tuple[float, float] | None) -> Tensor:
    """Clamped as the references do: what is not outside stays, the sign of a zero and NaN too."""
    if clamp is None:
        return y
    low, high = (y.new_full((1,), bound) for bound in clamp)
    y = torch.where(y < low, low, y)
    return torch.where(y > high, high, y)


@executor(Clip)
def _clip(operator: Clip, inputs: Inputs) -> tuple[Tensor, ...]:
    x = given(inputs[0])
    if x.is_floating_point():
        return (_within(x, operator.clamp),)
    if operator.requant is None:
        return (clamped(x, operator.clamp),)
    y = requantized(operator.requant, x.long() - operator.x_zero_point) + operator.y_zero_point
    return (clamped(y, operator.clamp).to(x.dtype),)


@executor(LeakyRelu)
def _leaky_relu(operator: LeakyRelu, inputs: Inputs) -> tuple[Tensor, ...] | None:
    x = given(inputs[0])
    if operator.identity is None or operator.slope is None:
        return None
    value = x.long() - operator.x_zero_point
    sign = -1 if operator.alpha < 0 else 1
    scaled = torch.where(
        value >= 0,
        requantized(operator.identity, value),
        sign * requantized(operator.slope, value),
    )
    return (clamped(scaled + operator.y_zero_point, operator.clamp).to(x.dtype),)


@executor(Sigmoid, Tanh)
def _curve(operator: Sigmoid | Tanh, inputs: Inputs) -> tuple[Tensor, ...] | None:
    x = given(inputs[0])
    if operator.table is None:
        return None
    table = torch.tensor(operator.table, dtype=torch.int8, device=x.device)
    return (table[x.long() + 128],)
