"""Between reals and integers: in float32 every step is one IEEE operation, as in the references."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.program.operators.quantization import (
    QUANTIZE_LIMIT,
    Binarize,
    Dequantize,
    DynamicQuantize,
    Quantize,
    Requantize,
)
from edgekit.program.operators.rules import given
from edgekit.quantize.converted.rounding import divided, requantized, rounded_away, wrap_int32
from edgekit.quantize.converted.table import Inputs, executor


@executor(Quantize)
def _quantize(operator: Quantize, inputs: Inputs) -> tuple[Tensor, ...]:
    quotient = divided(given(inputs[0]), operator.scale)
    limit = float(QUANTIZE_LIMIT)
    low = quotient.new_full((1,), -limit)
    inside = torch.where(quotient >= low, quotient, low).clamp(max=limit).double()
    y = rounded_away(inside).long() + operator.zero_point
    return (y.clamp(*operator.dtype.limits).to(getattr(torch, operator.dtype.value)),)


@executor(Dequantize)
def _dequantize(operator: Dequantize, inputs: Inputs) -> tuple[Tensor, ...]:
    difference = (given(inputs[0]).int() - operator.zero_point).float()
    return (difference * difference.new_full((1,), operator.scale),)


@executor(Requantize)
def _requantize(operator: Requantize, inputs: Inputs) -> tuple[Tensor, ...]:
    difference = wrap_int32(given(inputs[0]).long() - operator.x_zero_point)
    y = requantized(operator.requant, difference) + operator.y_zero_point
    return (y.clamp(*operator.dtype.limits).to(getattr(torch, operator.dtype.value)),)


@executor(DynamicQuantize)
def _dynamic_quantize(operator: DynamicQuantize, inputs: Inputs) -> tuple[Tensor, ...]:
    x = given(inputs[0])
    limit = x.new_full((1,), 127.0)
    # NaN does not count: fmax and nan_to_num leave it out.
    magnitudes = torch.where(x.isnan(), torch.zeros_like(x), x.abs())
    largest = magnitudes.amax(-1, keepdim=True).fmax(x.new_full((1,), operator.floor))
    scaled = x * (limit / largest)
    inside = torch.where(scaled >= -limit, scaled, -limit).clamp(max=127.0)
    return inside.round().to(torch.int8), largest / limit


@executor(Binarize)
def _binarize(operator: Binarize, inputs: Inputs) -> tuple[Tensor, ...]:
    positive = given(inputs[0]) >= operator.x_zero_point
    return ((2 * positive.to(torch.int8) - 1) * operator.level,)
