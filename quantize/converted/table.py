"""The table of executors: which torch function computes which operator on a batch of samples.

Every tensor has one axis more than the Program says, in front: the samples. A computed tensor has
all of them there, a constant one, which broadcasts. An executor that meets what it has no torch
form for (float32 sums, computed weights) returns None, and NumPy takes over: the operator's own
reference, in one of the ways of :class:`Batching`, and so exact by definition.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from edgekit.program.ir import Array
from edgekit.program.operators.activation import HardSwish, LeakyRelu, Sigmoid, Tanh
from edgekit.program.operators.base import Operator
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D, TransposeConv2D
from edgekit.program.operators.linear import FullyConnected
from edgekit.program.operators.movement import ResizeNearest
from edgekit.program.operators.normalization import LayerNorm, Softmax
from edgekit.program.operators.pooling import AvgPool2D, MaxPool2D
from edgekit.program.operators.recurrent import Gru, Lstm
from edgekit.program.operators.spiking_neurons import Leaky, Synaptic
from edgekit.program.operators.spiking_pools import CurrentPool2D
from edgekit.program.operators.spiking_values import (
    SpikeCount,
    SpikeMaxPool2D,
    SpikeSumPool2D,
    SpikeValues,
)
from edgekit.program.operators.spiking_weighted import (
    CurrentConv2D,
    CurrentDense,
    SpikeConv2D,
    SpikeDense,
)

Inputs = list[Tensor | None]
Executor = Callable[[Any, Inputs], tuple[Tensor, ...] | None]

EXECUTORS: dict[type[Operator], Executor] = {}
"""Torch form by class of operator."""

E = TypeVar("E", bound=Executor)


def executor(*operators: type[Operator]) -> Callable[[E], E]:
    """Register the torch form of operators."""

    def register(function: E) -> E:
        EXECUTORS.update(dict.fromkeys(operators, function))
        return function

    return register


class Batching(Enum):
    """How a reference, which knows no samples, is given several.

    ROWS: it works along the last axis, or on single elements: it takes any axes in front.
    IMAGES: the first axis of every tensor that differs counts images, or populations of neurons,
        which do not touch each other: samples become images.
    SEQUENCES: likewise the second axis of x, behind the steps, and the first of the states.
    SINGLY: one sample after the other.
    """

    ROWS = "rows"
    IMAGES = "images"
    SEQUENCES = "sequences"
    SINGLY = "singly"


BATCHING: dict[type[Operator], Batching] = {
    **dict.fromkeys((HardSwish, LeakyRelu, Sigmoid, Tanh), Batching.ROWS),
    **dict.fromkeys((FullyConnected, LayerNorm, Softmax), Batching.ROWS),
    **dict.fromkeys((Conv2D, DepthwiseConv2D, TransposeConv2D), Batching.IMAGES),
    **dict.fromkeys((AvgPool2D, MaxPool2D, ResizeNearest), Batching.IMAGES),
    **dict.fromkeys((CurrentConv2D, CurrentDense, SpikeConv2D, SpikeDense), Batching.IMAGES),
    **dict.fromkeys((SpikeCount, SpikeMaxPool2D, SpikeSumPool2D, SpikeValues), Batching.IMAGES),
    **dict.fromkeys((CurrentPool2D, Leaky, Synaptic), Batching.IMAGES),
    **dict.fromkeys((Lstm, Gru), Batching.SEQUENCES),
}
"""Operators whose references take all samples at once; others, users' own among them, do not."""

SAMPLED = ("x", "residual", "h", "c", "s", "acc", "u", "i", "count")
"""Inputs that may differ from sample to sample where a reference takes all samples at once."""


def execute(operator: Operator, inputs: Inputs) -> tuple[Tensor, ...]:
    """The outputs of an operator for every sample.

    Args:
        operator: of the Program.
        inputs: tensors with the axis of the samples in front, None for absent ones.
    """
    own = EXECUTORS.get(type(operator))
    results = None if own is None else own(operator, inputs)
    return referred(operator, inputs) if results is None else results


def referred(operator: Operator, inputs: Inputs) -> tuple[Tensor, ...]:
    """The same by the operator's NumPy reference."""
    samples = max((len(x) for x in inputs if x is not None), default=1)
    names = [name.rstrip("?*") for name in operator.inputs]
    names += names[-1:] * (len(inputs) - len(names))  # of the last there may be any number
    arrays = [None if x is None else x.cpu().numpy() for x in inputs]
    batching = BATCHING.get(type(operator), Batching.SINGLY)
    shared = [a is None or len(a) == 1 for a in arrays]
    if batching is not Batching.SINGLY and all(
        one or name in SAMPLED for one, name in zip(shared, names, strict=False)
    ):
        merged = [
            a if a is None else (_merged(a, samples, batching) if name in SAMPLED else a[0])
            for a, name in zip(arrays, names, strict=False)
        ]
        results = [_parted(y, samples, batching) for y in _called(operator, merged)]
    else:
        each = [
            _called(operator, [a if a is None else a[min(i, len(a) - 1)] for a in arrays])
            for i in range(samples)
        ]
        results = [np.stack(parts) for parts in zip(*each, strict=True)]
    device = next((x.device for x in inputs if x is not None), torch.device("cpu"))
    return tuple(
        torch.from_numpy(np.array(y, y.dtype.newbyteorder("="), order="C")).to(device)
        for y in results
    )


def _called(operator: Operator, arrays: list[Array | None]) -> tuple[Array, ...]:
    # Overflow to infinity is a value like any other, as for the interpreter.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return operator.reference(*arrays)


def _merged(array: Array, samples: int, batching: Batching) -> Array:
    """All samples as one input of a reference; a constant is the same for each."""
    every = np.broadcast_to(array, (samples, *array.shape[1:]))
    if batching is Batching.ROWS:
        return every
    if batching is Batching.SEQUENCES and array.ndim == 4:  # [S,T,N,I], unlike states [S,N,H]
        return every.swapaxes(0, 1).reshape(array.shape[1], -1, array.shape[3])
    return every.reshape(-1, *array.shape[2:])


def _parted(array: Array, samples: int, batching: Batching) -> Array:
    """The inverse, for an output."""
    if batching is Batching.ROWS:
        return array
    if batching is Batching.SEQUENCES and array.ndim == 3:
        return array.reshape(len(array), samples, -1, array.shape[2]).swapaxes(0, 1)
    return array.reshape(samples, -1, *array.shape[1:])


def folded(x: Tensor) -> Tensor:
    """Samples and images as one axis: [S, N, ...] as [S·N, ...]."""
    return x.flatten(0, 1)


def unfolded(y: Tensor, x: Tensor) -> Tensor:
    """The inverse, for what was computed of `x`."""
    return y.reshape(x.shape[0], -1, *y.shape[1:])


def axes_after(rank: int, *tensors: Tensor) -> list[Tensor]:
    """Tensors with axes of 1 behind that of the samples, so that all have `rank` axes and it."""
    return [t.reshape(t.shape[0], *(1,) * (rank + 1 - t.ndim), *t.shape[1:]) for t in tensors]
