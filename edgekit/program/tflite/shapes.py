"""Readers of builtin operators that move elements, and of pools and means."""

from __future__ import annotations

import math

from edgekit.program.fixed_point import activation_clamp, float_activation_clamp
from edgekit.program.ir import Tensor
from edgekit.program.operators.base import Operator
from edgekit.program.operators.movement import (
    Concat,
    Pad,
    Reshape,
    ResizeNearest,
    Slice,
    Split,
    Transpose,
)
from edgekit.program.operators.pooling import AvgPool2D, MaxPool2D, Mean
from edgekit.program.operators.rules import Clamp
from edgekit.program.tflite.node import Node
from edgekit.program.tflite.registry import MANY, builtin
from edgekit.program.tflite.windows import padding, positive_pair, strides


def _move(node: Node, operator: Operator, x: Tensor) -> None:
    """Emit an operator that copies elements of `x`, whose quantisation the outputs must share."""
    node.same_quantization(x, *node.outputs)
    node.emit(operator, x)


def _pool(node: Node, kind: type[AvgPool2D] | type[MaxPool2D]) -> None:
    x = node.input(0, rank=4)
    node.same_quantization(x, node.output)
    kernel, stride = positive_pair(node, "filter_height", "filter_width"), strides(node)
    clamp: Clamp | None = float_activation_clamp(node.activation())
    if node.is_quantized:
        y = node.per_tensor(node.output)
        clamp = activation_clamp(
            node.activation(), y.scalar_scale, y.scalar_zero_point, node.output.dtype.limits
        )
    window = padding(node, x.shape[1:3], kernel, stride, (1, 1))
    node.emit(kind(kernel=kernel, stride=stride, padding=window, clamp=clamp), x)


@builtin("AVERAGE_POOL_2D", options="Pool2DOptions")
def average_pool_2d(node: Node) -> None:
    """Padding does not count."""
    _pool(node, AvgPool2D)


@builtin("MAX_POOL_2D", options="Pool2DOptions")
def max_pool_2d(node: Node) -> None:
    """Padding never wins."""
    _pool(node, MaxPool2D)


@builtin("MEAN", inputs=2, options="ReducerOptions")
def mean(node: Node) -> None:
    """Over constant axes."""
    x = node.input(0)
    rank = len(x.shape)
    axes = tuple(sorted({node.axis(axis, rank) for axis in node.integers(1)}))
    keep_dims = bool(node.option("keep_dims"))
    if not node.is_quantized:
        node.emit(Mean(axes, keep_dims), x)
        return
    operator = node.make(
        Mean.quantized,
        axes=axes,
        keep_dims=keep_dims,
        count=math.prod(x.shape[axis] for axis in axes),
        x=node.per_tensor(x),
        y=node.per_tensor(node.output),
        dtype=node.output.dtype,
    )
    node.emit(operator, x)


@builtin("CONCATENATION", inputs=(1, MANY), options="ConcatenationOptions")
def concatenation(node: Node) -> None:
    """All inputs and the output are quantised alike."""
    parts = [node.input(i) for i in range(len(node.inputs))]
    if node.activation() != "none":
        node.unsupported(f"fused_activation is {node.activation()}; supported is none")
    node.same_quantization(node.output, *parts)
    node.emit(Concat(node.axis(node.option("axis"), len(parts[0].shape))), *parts)


@builtin("SPLIT", inputs=2, outputs=(1, MANY))
def split(node: Node) -> None:
    """axis, x; into as many equal parts as there are outputs."""
    x = node.input(1)
    axis, parts = node.axis(node.integer(0), len(x.shape)), len(node.outputs)
    if x.shape[axis] % parts != 0:
        node.invalid(f"axis {axis} of {x.name!r} has size {x.shape[axis]}, no multiple of {parts}")
    _move(node, Split(axis, (x.shape[axis] // parts,) * parts), x)


@builtin("SPLIT_V", inputs=3, outputs=(1, MANY))
def split_v(node: Node) -> None:
    """x, sizes, axis; one size may be -1, which takes what is left."""
    x, sizes = node.input(0), node.integers(1)
    axis = node.axis(node.integer(2), len(x.shape))
    if len(sizes) != len(node.outputs):
        node.invalid(f"has {len(sizes)} sizes for {len(node.outputs)} outputs")
    _move(node, Split(axis, _fill_open(sizes, x.shape[axis] - sum(sizes) - 1)), x)


def _fill_open(sizes: tuple[int, ...], rest: int) -> tuple[int, ...]:
    """`sizes` with -1 replaced by `rest`, where there is exactly one."""
    return tuple(rest if s == -1 and sizes.count(-1) == 1 else s for s in sizes)


@builtin("SLICE", inputs=3)
def slice_(node: Node) -> None:
    """x, begin, size; a size of -1 reaches to the end."""
    x, begin, size = node.input(0), node.integers(1), node.integers(2)
    if not len(x.shape) == len(begin) == len(size):
        node.invalid(f"{len(begin)} begins and {len(size)} sizes for {len(x.shape)} axes")
    end = tuple(
        extent if s == -1 else b + s for extent, b, s in zip(x.shape, begin, size, strict=True)
    )
    _move(node, Slice(begin, end, (1,) * len(begin)), x)


@builtin("STRIDED_SLICE", inputs=4, options="StridedSliceOptions")
def strided_slice(node: Node) -> None:
    """x, begin, end, strides, with masks; new axes and an ellipsis are not supported."""
    x = node.input(0)
    for mask in ("ellipsis_mask", "new_axis_mask", "offset"):
        if node.option(mask):
            node.unsupported(f"{mask} is {node.option(mask)}; supported is 0")
    begins, ends, steps = (node.integers(i) for i in (1, 2, 3))
    rank = len(x.shape)
    if not len(begins) == len(ends) == len(steps) <= rank or 0 in steps:
        node.invalid(
            f"begin {list(begins)}, end {list(ends)}, strides {list(steps)} must be as many, at "
            f"most one per axis of {list(x.shape)}, without stride 0"
        )
    bounds = [
        _bounds(node, axis, x.shape[axis], begin, end, step)
        for axis, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True))
    ] + [(0, size, 1) for size in x.shape[len(steps) :]]
    begin, end, stride = zip(*bounds, strict=True)
    operator = Slice(begin, end, stride)
    shrunk = [axis for axis in range(len(steps)) if node.option("shrink_axis_mask") >> axis & 1]
    if not shrunk:
        _move(node, operator, x)
        return
    box = node.intermediate(operator, x, like=x)
    shape = tuple(size for axis, size in enumerate(box.shape) if axis not in shrunk)
    _move(node, Reshape(shape), box)


def _bounds(
    node: Node, axis: int, size: int, begin: int, end: int, step: int
) -> tuple[int, int, int]:
    """First index, bound and step along one axis, as :class:`Slice` defines them."""

    def bit(mask: str) -> bool:
        return bool(node.option(mask) >> axis & 1)

    low, high = (0, size) if step > 0 else (-1, size - 1)
    begin = begin + size if begin < 0 else begin
    begin = min(max(begin, low), high)
    if bit("begin_mask"):
        begin = 0 if step > 0 else size - 1
    if bit("shrink_axis_mask"):
        return begin, begin + 1, 1
    end = end + size if end < 0 else end
    end = min(max(end, low), high)
    if bit("end_mask"):
        end = size if step > 0 else -1
    return begin, end, step


@builtin("PAD", inputs=2)
@builtin("PADV2", inputs=3)
def pad(node: Node) -> None:
    """x, paddings[rank,2] and for PADV2 the value; zeros are quantised as the input."""
    x, flat = node.input(0), node.integers(1)
    if len(flat) != 2 * len(x.shape):
        node.invalid(f"paddings have {len(flat)} entries, must have {2 * len(x.shape)}")
    value: int | float = 0
    if len(node.inputs) == 3:
        value = _pad_value(node, x)
    elif node.is_quantized:
        value = node.per_tensor(x).scalar_zero_point
    _move(node, Pad(tuple(zip(flat[::2], flat[1::2], strict=True)), value), x)


def _pad_value(node: Node, x: Tensor) -> int | float:
    constant = node.input(2)
    if constant.data is None or constant.dtype is not x.dtype or constant.data.size != 1:
        node.unsupported(
            f"padding value {constant.name!r} must be one constant {x.dtype}, is "
            f"{constant.dtype}{list(constant.shape)}"
        )
    node.same_quantization(x, constant)
    value: int | float = constant.data.ravel()[0].item()
    return value


@builtin("RESHAPE", inputs=(1, 2), options="ReshapeOptions")
def reshape(node: Node) -> None:
    """The shape is an input or an option; one extent may be -1."""
    x = node.input(0)
    if node.optional(1) is not None:
        shape = node.integers(1)
    else:
        option = node.option("new_shape")
        shape = () if option is None else tuple(int(d) for d in option)
    known = math.prod(d for d in shape if d != -1)
    _move(node, Reshape(_fill_open(shape, x.type.size // known if known > 0 else 0)), x)


@builtin("SQUEEZE", options="SqueezeOptions")
def squeeze(node: Node) -> None:
    """Drops the named axes of size 1, or all."""
    x = node.input(0)
    rank = len(x.shape)
    named = node.option("squeeze_dims")
    if named is None or len(named) == 0:
        axes = {k for k in range(rank) if x.shape[k] == 1}
    else:
        axes = {node.axis(int(axis), rank) for axis in named}
    _move(node, Reshape(tuple(d for k, d in enumerate(x.shape) if k not in axes)), x)


@builtin("EXPAND_DIMS", inputs=2)
def expand_dims(node: Node) -> None:
    """Adds an axis of size 1."""
    x = node.input(0)
    axis = node.axis(node.integer(1), len(x.shape) + 1)
    _move(node, Reshape((*x.shape[:axis], 1, *x.shape[axis:])), x)


@builtin("TRANSPOSE", inputs=2)
def transpose(node: Node) -> None:
    """x, permutation."""
    x = node.input(0)
    rank = len(x.shape)
    _move(node, Transpose(tuple(node.axis(axis, rank) for axis in node.integers(1))), x)


@builtin("RESIZE_NEAREST_NEIGHBOR", inputs=2, options="ResizeNearestNeighborOptions")
def resize_nearest_neighbor(node: Node) -> None:
    """x[N,H,W,C], size[2]."""
    x, size = node.input(0, rank=4), node.integers(1)
    if len(size) != 2:
        node.invalid(f"size {list(size)} must have 2 entries")
    operator = ResizeNearest(
        (size[0], size[1]),
        align_corners=bool(node.option("align_corners")),
        half_pixel_centers=bool(node.option("half_pixel_centers")),
    )
    _move(node, operator, x)
