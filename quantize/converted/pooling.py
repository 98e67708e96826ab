"""Integer pools and means."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.program.operators.pooling import AvgPool2D, MaxPool2D, Mean
from edgekit.program.operators.rules import given
from edgekit.quantize.converted.rounding import clamped, requantized
from edgekit.quantize.converted.table import Inputs, executor, folded, unfolded


def _windows(pool: AvgPool2D | MaxPool2D, x: Tensor, fill: int) -> Iterator[Tensor]:
    """One tensor of the output's shape per element of the window, of x[N,H,W,C]."""
    top, left, bottom, right = pool.padding
    padded = functional.pad(x, (0, 0, left, right, top, bottom), value=fill)
    height, width = (
        (padded.shape[1 + axis] - pool.kernel[axis]) // pool.stride[axis] + 1 for axis in (0, 1)
    )
    for ky in range(pool.kernel[0]):
        rows = padded[:, ky :: pool.stride[0]][:, :height]
        for kx in range(pool.kernel[1]):
            yield rows[:, :, kx :: pool.stride[1]][:, :, :width]


@executor(MaxPool2D)
def _max_pool(operator: MaxPool2D, inputs: Inputs) -> tuple[Tensor, ...] | None:
    x = given(inputs[0])
    if x.is_floating_point():
        return None
    least = torch.iinfo(x.dtype).min
    windows = _windows(operator, folded(x), least)
    best = next(windows)
    for window in windows:
        best = torch.maximum(best, window)
    return (unfolded(clamped(best, operator.clamp), x),)


@executor(AvgPool2D)
def _avg_pool(operator: AvgPool2D, inputs: Inputs) -> tuple[Tensor, ...] | None:
    x = given(inputs[0])
    if x.is_floating_point():
        return None
    fill, count = 0, torch.tensor(math.prod(operator.kernel), device=x.device)
    if operator.count_include_pad:
        fill = operator.x_zero_point
    else:
        there = x.new_ones((1, *x.shape[2:4], 1), dtype=torch.int64)
        count = sum(_windows(operator, there, 0), torch.zeros_like(count))
    acc = sum(_windows(operator, folded(x).long(), fill), torch.zeros_like(count))
    magnitude = (acc.abs() + count // 2) // count
    return (unfolded(clamped(acc.sign() * magnitude, operator.clamp).to(x.dtype), x),)


@executor(Mean)
def _mean(operator: Mean, inputs: Inputs) -> tuple[Tensor, ...] | None:
    x = given(inputs[0])
    if operator.requant is None:
        return None
    axes = tuple(axis + 1 for axis in operator.axes)
    count = math.prod(x.shape[axis] for axis in axes)
    acc = x.long().sum(axes, keepdim=operator.keep_dims) - operator.x_zero_point * count
    y = requantized(operator.requant, acc) + operator.y_zero_point
    return (clamped(y, operator.clamp).to(x.dtype),)
