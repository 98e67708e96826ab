"""The nodes of a spiking graph: what one of them holds, and the shape that it gives.

A node reads the sum of its incoming edges. Shapes have no batch axis: ``(n,)`` of a flat
population, ``(C,L)`` or ``(C,H,W)`` of a spatial one. Every node checks its own parameters when it
is made, and the shape that reaches it in :meth:`output_shape`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import numpy as np

from edgekit.errors import InvalidModelError
from edgekit.spiking.arrays import (
    Float32,
    Shape,
    float32,
    paddings,
    parameter,
    per_axis,
    shape_tuple,
)
from edgekit.spiking.neurons import Leaky, Neuron, Reset, Synaptic, spread_over
from edgekit.spiking.weight import Weight

__all__ = [
    "NODES",
    "AvgPool",
    "Conv",
    "Count",
    "Flatten",
    "Input",
    "Leaky",
    "Linear",
    "MaxPool",
    "Neuron",
    "Node",
    "Output",
    "Pool",
    "Reset",
    "Scale",
    "SumPool",
    "Synaptic",
    "Weighted",
    "spread_over",
]


@dataclass(frozen=True)
class Input:
    """What comes from outside in every step.

    Attributes:
        shape: of one step, without batch: ``(n,)``, ``(C,L)`` or ``(C,H,W)``.
    """

    shape: Shape

    def __post_init__(self) -> None:
        shape = shape_tuple(self.shape, "shape", least=1)
        object.__setattr__(self, "shape", shape)
        if not 1 <= len(shape) <= 3:
            raise InvalidModelError(f"shape is {list(shape)}, must have 1 to 3 axes")

    def output_shape(self, shape: Shape) -> Shape:
        """Its own shape; nothing reaches it."""
        return self.shape


@dataclass(frozen=True)
class Output:
    """What goes outside in every step, unchanged."""

    def output_shape(self, shape: Shape) -> Shape:
        """The same."""
        return shape


@dataclass(frozen=True)
class Flatten:
    """All axes as one, in row-major order of (C,L) or (C,H,W), as torch does."""

    def output_shape(self, shape: Shape) -> Shape:
        """One axis."""
        return (math.prod(shape),)


@dataclass(frozen=True)
class Count:
    """The sum of its input since the last reset, this step's included."""

    def output_shape(self, shape: Shape) -> Shape:
        """The same."""
        return shape


@dataclass(frozen=True, eq=False)
class Scale:
    """``x * factor``.

    Attributes:
        factor: float32, one element, or broadcast against the input as NumPy does.
    """

    factor: Float32

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", parameter(self.factor, "factor"))

    def output_shape(self, shape: Shape) -> Shape:
        """The same; a factor does not enlarge what it scales."""
        try:
            result = np.broadcast_shapes(shape, self.factor.shape)
        except ValueError:
            result = ()
        if result != shape and self.factor.size != 1:
            raise InvalidModelError(
                f"factor has the shape {list(self.factor.shape)}, the input {list(shape)}"
            )
        return shape


@dataclass(frozen=True, eq=False)
class Linear:
    """``y = W x + b`` of a flat population.

    Attributes:
        weight: [O, K/groups].
        bias: float32[O] or None.
        groups: as in a grouped convolution: outputs ``g*O/groups`` and following read inputs
            ``g*K/groups`` and following.
    """

    weight: Weight
    bias: Float32 | None = None
    groups: int = 1

    def __post_init__(self) -> None:
        if len(self.weight.shape) != 2:
            raise InvalidModelError(
                f"weights have the shape {list(self.weight.shape)}, must be [O,K]"
            )
        _check_rows(self)

    def output_shape(self, shape: Shape) -> Shape:
        """``(K,)`` to ``(O,)``."""
        outputs, columns = self.weight.shape
        if shape != (columns * self.groups,):
            raise InvalidModelError(
                f"reads the shape {list(shape)}, must be [{columns * self.groups}]"
                + ("; a Flatten node is missing" if len(shape) > 1 else "")
            )
        return (outputs,)


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution of a spatial population, 1-d or 2-d by the rank of its weights.

    Attributes:
        weight: [O,I/groups,k] or [O,I/groups,kh,kw].
        bias: float32[O] or None.
        stride, dilation: one number per axis; one stands for all.
        padding: with zeros; one number, one per axis, or before every axis and then behind.
        groups: of channels.
    """

    weight: Weight
    bias: Float32 | None = None
    stride: Shape = (1,)
    padding: Shape = (0,)
    dilation: Shape = (1,)
    groups: int = 1

    def __post_init__(self) -> None:
        axes = len(self.weight.shape) - 2
        if axes not in (1, 2):
            raise InvalidModelError(
                f"weights have the shape {list(self.weight.shape)}, must be [O,I,k] or [O,I,kh,kw]"
            )
        _check_rows(self)
        for name, least in (("stride", 1), ("dilation", 1), ("padding", 0)):
            values = shape_tuple(getattr(self, name), name, least=least)
            full = paddings(values, axes) if name == "padding" else per_axis(values, axes, name)
            object.__setattr__(self, name, full)

    @property
    def kernel(self) -> Shape:
        """Extents of the kernel."""
        return self.weight.shape[2:]

    def output_shape(self, shape: Shape) -> Shape:
        """``(I,...)`` to ``(O,...)``."""
        channels = self.weight.shape[1] * self.groups
        axes = len(self.kernel)
        if len(shape) != axes + 1 or shape[0] != channels:
            raise InvalidModelError(
                f"reads the shape {list(shape)}, must be {channels} channels and {axes} axes"
            )
        return (self.weight.shape[0], *_extents(shape[1:], self, self.dilation))


@dataclass(frozen=True)
class _Pool:
    """A window that moves over every channel.

    Attributes:
        kernel: extents of the window, one per axis; one stands for all.
        stride: likewise; empty: the kernel.
        padding: one number, one per axis, or before every axis and then behind.
    """

    kernel: Shape
    stride: Shape = ()
    padding: Shape = (0,)

    def __post_init__(self) -> None:
        kernel = shape_tuple(self.kernel, "kernel", least=1)
        stride = shape_tuple(self.stride, "stride", least=1) or kernel
        padding = shape_tuple(self.padding, "padding", least=0)
        if len(kernel) not in (1, 2):
            raise InvalidModelError(f"kernel is {list(kernel)}, must have 1 or 2 axes")
        object.__setattr__(self, "kernel", kernel)
        object.__setattr__(self, "stride", per_axis(stride, len(kernel), "stride"))
        object.__setattr__(self, "padding", paddings(padding, len(kernel)))
        if any(p >= k for p, k in zip(self.padding, kernel * 2, strict=True)):
            raise InvalidModelError(
                f"padding {list(self.padding)} makes windows of padding alone, must be below the "
                f"kernel {list(kernel)}"
            )

    def output_shape(self, shape: Shape) -> Shape:
        """``(C,...)`` to ``(C,...)``; windows that do not fit whole are left out."""
        if len(shape) != len(self.kernel) + 1:
            raise InvalidModelError(
                f"reads the shape {list(shape)}, must be channels and {len(self.kernel)} axes"
            )
        return (shape[0], *_extents(shape[1:], self, (1,) * len(self.kernel)))


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The largest of a window; padding is never it. Of spikes: whether there is any."""


@dataclass(frozen=True)
class SumPool(_Pool):
    """The sum of a window; padding counts as 0."""


@dataclass(frozen=True)
class AvgPool(_Pool):
    """The sum of a window, divided by all its places: padding counts as 0s that are there."""


Node = (
    Input
    | Output
    | Linear
    | Conv
    | MaxPool
    | SumPool
    | AvgPool
    | Flatten
    | Scale
    | Leaky
    | Synaptic
    | Count
)
NODES: tuple[type[Node], ...] = get_args(Node)
"""Every kind of node."""

Weighted = Linear | Conv
Pool = MaxPool | SumPool | AvgPool


def _check_rows(node: Weighted) -> None:
    """Groups and bias of a node with weights."""
    rows = node.weight.shape[0]
    groups = shape_tuple(node.groups, "groups", least=1)
    if len(groups) != 1 or rows % groups[0]:
        raise InvalidModelError(f"groups is {node.groups!r}, must divide the {rows} outputs")
    object.__setattr__(node, "groups", groups[0])
    if node.bias is None:
        return
    bias = float32(node.bias, "bias")
    object.__setattr__(node, "bias", bias)
    if bias.shape != (rows,):
        raise InvalidModelError(f"bias has the shape {list(bias.shape)}, must be [{rows}]")


def _extents(extents: Shape, node: Conv | _Pool, dilation: Shape) -> Shape:
    """How often a window fits along every axis.

    Raises:
        InvalidModelError: not once.
    """
    axes = len(extents)
    result = []
    for axis, extent in enumerate(extents):
        padded = extent + node.padding[axis] + node.padding[axes + axis]
        reach = dilation[axis] * (node.kernel[axis] - 1) + 1
        if padded < reach:
            raise InvalidModelError(
                f"the kernel reaches over {reach} of {padded} padded values of axis {axis + 1}"
            )
        result.append((padded - reach) // node.stride[axis] + 1)
    return tuple(result)
