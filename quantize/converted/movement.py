"""Operators that move elements."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.program.operators.movement import Concat, Pad, Reshape, Slice, Split, Transpose
from edgekit.program.operators.rules import given
from edgekit.quantize.converted.table import Inputs, executor


@executor(Concat)
def _concat(operator: Concat, inputs: Inputs) -> tuple[Tensor, ...]:
    parts = [given(x) for x in inputs]
    samples = max(len(x) for x in parts)
    return (torch.cat([x.expand(samples, *x.shape[1:]) for x in parts], operator.axis + 1),)


@executor(Split)
def _split(operator: Split, inputs: Inputs) -> tuple[Tensor, ...]:
    return tuple(torch.split_with_sizes(given(inputs[0]), operator.sizes, operator.axis + 1))


@executor(Slice)
def _slice(operator: Slice, inputs: Inputs) -> tuple[Tensor, ...]:
    y = given(inputs[0])
    fields = zip(operator.begin, operator.end, operator.strides, strict=True)
    for axis, (begin, end, stride) in enumerate(fields, 1):
        # torch slices with positive steps only.
        indices = torch.arange(begin, end, stride, device=y.device)
        y = y.index_select(axis, indices)
    return (y,)


@executor(Pad)
def _pad(operator: Pad, inputs: Inputs) -> tuple[Tensor, ...]:
    # torch counts from the last axis.
    padding = [n for pair in reversed(operator.padding) for n in pair]
    return (functional.pad(given(inputs[0]), padding, value=operator.value),)


@executor(Reshape)
def _reshape(operator: Reshape, inputs: Inputs) -> tuple[Tensor, ...]:
    x = given(inputs[0])
    return (x.reshape(x.shape[0], *operator.shape),)


@executor(Transpose)
def _transpose(operator: Transpose, inputs: Inputs) -> tuple[Tensor, ...]:
    return (given(inputs[0]).permute(0, *(axis + 1 for axis in operator.permutation)),)
