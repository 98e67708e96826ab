"""Along one axis: the index of the largest element, and rows of a nearest-neighbour image."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.program.operators.movement import ResizeNearest
from edgekit.program.operators.normalization import ArgMax
from edgekit.program.operators.rules import given
from edgekit.quantize.converted.table import Inputs, executor


@executor(ArgMax)
def _argmax(operator: ArgMax, inputs: Inputs) -> tuple[Tensor, ...] | None:
    x = given(inputs[0])
    if x.is_floating_point():
        return None
    axis = operator.axis + 1
    # torch does not promise which of equal elements it finds; the smallest index is the first.
    places = torch.arange(x.shape[axis], device=x.device)
    places = places.reshape(-1, *(1,) * (x.ndim - axis - 1))
    largest = x == x.amax(axis, keepdim=True)
    first = torch.where(largest, places, x.shape[axis]).amin(axis)
    return (first.to(getattr(torch, operator.dtype.value)),)


@executor(ResizeNearest)
def _resize_nearest(operator: ResizeNearest, inputs: Inputs) -> tuple[Tensor, ...]:
    x = given(inputs[0])
    for axis, size in zip((2, 3), operator.size, strict=True):
        indices = torch.as_tensor(operator.indices(x.shape[axis], size).copy(), device=x.device)
        x = x.index_select(axis, indices)
    return (x,)
