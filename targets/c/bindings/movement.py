"""Calls of the kernels that move elements; all of them serve every dtype.

``reshape`` needs none: its output is its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.program.ir import DType, Tensor
from edgekit.program.operators.base import Operator
from edgekit.program.operators.movement import (
    MAX_RANK,
    Concat,
    Pad,
    ResizeNearest,
    Slice,
    Split,
    Transpose,
)
from edgekit.targets.c.kernel import Binding, Bound, Call, Derived, PointerTable, Value, kernel


def for_every_dtype(name: str, operator: type[Operator]) -> Callable[[Binding], Binding]:
    """Register a kernel that copies elements of any dtype."""

    def register(binding: Binding) -> Binding:
        for dtype in DType:
            binding = kernel(name, operator, dtype)(binding)
        return binding

    return register


@dataclass(frozen=True)
class StridedAxis:
    """An axis of a strided copy.

    Attributes:
        size: extent.
        stride: bytes from one index to the next in the source.
    """

    size: int
    stride: int


def merged(axes: Sequence[StridedAxis], element_bytes: int) -> tuple[list[StridedAxis], int]:
    """The same copy with as few axes as possible, and the bytes that lie together.

    Axes of size 1 go, neighbours that continue each other become one, and a dense innermost axis
    becomes part of the run.

    >>> merged([StridedAxis(1, 0), StridedAxis(4, 24), StridedAxis(3, 4), StridedAxis(4, 1)], 1)
    ([StridedAxis(size=4, stride=24)], 12)
    """
    kept: list[StridedAxis] = []
    run = element_bytes
    for axis in reversed(axes):
        if axis.size == 1:
            continue
        if not kept and axis.stride == run:
            run *= axis.size
        elif kept and axis.stride == kept[-1].stride * kept[-1].size:
            kept[-1] = StridedAxis(axis.size * kept[-1].size, kept[-1].stride)
        else:
            kept.append(axis)
    return kept[::-1], run


def _copy_strided(bound: Bound, axes: Sequence[StridedAxis], offset: int) -> Call:
    few, run = merged(axes, bound.input(0).dtype.bytes)
    every = [StridedAxis(1, 0)] * (MAX_RANK - len(few)) + few
    return Call(
        {
            "size": [axis.size for axis in every],
            "stride": [axis.stride for axis in every],
            "offset": offset,
            "run": run,
        },
        (bound.value(0), bound.result()),
    )


def _byte_strides(tensor: Tensor) -> list[int]:
    """Bytes from one index to the next along every axis of a contiguous tensor.

    Extents behind the axis times the size of an element.
    """
    return [
        math.prod(tensor.shape[axis + 1 :]) * tensor.dtype.bytes
        for axis in range(len(tensor.shape))
    ]


@for_every_dtype("copy_strided", Slice)
def slice_(bound: Bound) -> Call:
    """x, y."""
    operator, strides = bound.operation.operator, _byte_strides(bound.input(0))
    assert isinstance(operator, Slice)
    axes = [
        StridedAxis(size, step * stride)
        for size, step, stride in zip(
            bound.outputs[0].shape, operator.strides, strides, strict=True
        )
    ]
    offset = sum(b * stride for b, stride in zip(operator.begin, strides, strict=True))
    return _copy_strided(bound, axes, offset)


@for_every_dtype("copy_strided", Transpose)
def transpose(bound: Bound) -> Call:
    """x, y."""
    operator, x = bound.operation.operator, bound.input(0)
    assert isinstance(operator, Transpose)
    strides = _byte_strides(x)
    axes = [StridedAxis(x.shape[axis], strides[axis]) for axis in operator.permutation]
    return _copy_strided(bound, axes, 0)


@for_every_dtype("pad", Pad)
def pad(bound: Bound) -> Call:
    """x, y."""
    operator, x = bound.operation.operator, bound.input(0)
    assert isinstance(operator, Pad)
    axes: list[tuple[int, int, int]] = []  # size, before, after; innermost first
    for extent, (low, high) in reversed(list(zip(x.shape, operator.padding, strict=True))):
        if axes and axes[-1][1:] == (0, 0):
            inner = axes.pop()[0]
            axes.append((extent * inner, low * inner, high * inner))
        else:
            axes.append((extent, low, high))
    axes += [(1, 0, 0)] * (MAX_RANK - len(axes))
    size, before, after = (list(column) for column in zip(*reversed(axes), strict=True))
    value = np.array(operator.value, x.dtype.numpy).tobytes()
    return Call(
        {
            "size": size,
            "before": before,
            "after": after,
            "element_bytes": x.dtype.bytes,
            "value": list(value.ljust(8, b"\0")),
        },
        (bound.value(0), bound.result()),
    )


def _piece_bytes(tensors: Sequence[Tensor], axis: int) -> Derived:
    """Bytes of each tensor that lie together where they are joined along `axis`."""
    pieces = [math.prod(tensor.shape[axis:]) * tensor.dtype.bytes for tensor in tensors]
    return Derived("bytes", np.array(pieces, np.int32))


@for_every_dtype("concat", Concat)
def concat(bound: Bound) -> Call:
    """bytes, table of inputs, y."""
    operator = bound.operation.operator
    assert isinstance(operator, Concat)
    parts = [bound.input(i) for i in range(len(bound.inputs))]
    return Call(
        {"outer": math.prod(parts[0].shape[: operator.axis]), "inputs": len(parts)},
        (
            _piece_bytes(parts, operator.axis),
            PointerTable(tuple(Value(part.name) for part in parts)),
            bound.result(),
        ),
    )


@for_every_dtype("split", Split)
def split(bound: Bound) -> Call:
    """bytes, x, table of outputs."""
    operator = bound.operation.operator
    assert isinstance(operator, Split)
    parts = bound.outputs
    return Call(
        {"outer": math.prod(parts[0].shape[: operator.axis]), "outputs": len(parts)},
        (
            _piece_bytes(parts, operator.axis),
            bound.value(0),
            PointerTable(tuple(Value(part.name) for part in parts), writable=True),
        ),
    )


@for_every_dtype("resize_nearest", ResizeNearest)
def resize_nearest(bound: Bound) -> Call:
    """rows, columns, x, y."""
    operator, x = bound.operation.operator, bound.input(0)
    assert isinstance(operator, ResizeNearest)
    batches, height, width, channels = x.shape
    pixel = channels * x.dtype.bytes
    return Call(
        {
            "batches": batches,
            "height": operator.size[0],
            "width": operator.size[1],
            "pixel_bytes": pixel,
            "row_bytes": width * pixel,
            "image_bytes": height * width * pixel,
        },
        (
            Derived("rows", operator.indices(height, operator.size[0])),
            Derived("columns", operator.indices(width, operator.size[1])),
            bound.value(0),
            bound.result(),
        ),
    )
