"""Writers of operators that move elements, and of pools and means."""

from __future__ import annotations

from edgekit.program.ir import DType
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
from edgekit.program.tflite.schema import PADDINGS
from edgekit.program.tflite.writer.file import Inputs, Writing
from edgekit.program.tflite.writer.padding import is_same
from edgekit.program.tflite.writer.registry import writes

LARGE_RANK = 4
"""Ranks above it came with later versions."""


def _is_large(node: Writing) -> bool:
    return len(node.input(0).shape) > LARGE_RANK


@writes(AvgPool2D, MaxPool2D)
def pool(node: Writing) -> None:
    """Windows with SAME padding, which does not count, or none."""
    operator = node.operator
    node.need_scales()
    if isinstance(operator, AvgPool2D) and operator.count_include_pad:
        node.refuse("its padding counts; TFLite's AVERAGE_POOL_2D leaves padding out")
    extents = node.input(0).shape[1:3]
    padded = any(operator.padding)
    if padded and not is_same(operator.padding, extents, operator.kernel, operator.stride, (1, 1)):
        node.refuse(f"its padding is {list(operator.padding)}; TFLite pads SAME or not at all")
    options = {
        "padding": PADDINGS.index("same" if padded else "valid"),
        "stride_h": operator.stride[0],
        "stride_w": operator.stride[1],
        "filter_height": operator.kernel[0],
        "filter_width": operator.kernel[1],
        "fused_activation": node.activation(operator.clamp),
    }
    builtin = "AVERAGE_POOL_2D" if isinstance(operator, AvgPool2D) else "MAX_POOL_2D"
    node.emit(builtin, [node.input(0)], ("Pool2DOptions", options))


@writes(Mean)
def mean(node: Writing) -> None:
    """x, axes."""
    node.need_scales()
    x = node.input(0)
    if x.dtype.is_integer:
        low, high = x.dtype.limits
        node.need_int32(node.operator.count(x.type) * (high - low), node.operator.requant)
    axes = node.integers(node.operator.axes, "axes")
    options = {"keep_dims": node.operator.keep_dims}
    node.emit("MEAN", [x, axes], ("ReducerOptions", options))


@writes(Concat)
def concat(node: Writing) -> None:
    """Any number of tensors."""
    options = {"axis": node.operator.axis}
    node.emit("CONCATENATION", node.inputs, ("ConcatenationOptions", options))


@writes(Split)
def split(node: Writing) -> None:
    """Into equal parts where they are, else with their sizes."""
    x, sizes = node.input(0), node.operator.sizes
    axis = node.integers([node.operator.axis], "axis", scalar=True)
    options = {"num_splits": len(sizes)}
    if len(set(sizes)) == 1 and x.dtype is not DType.INT64:
        node.emit("SPLIT", [axis, x], ("SplitOptions", options))
    else:
        inputs: Inputs = [x, node.integers(sizes, "sizes"), axis]
        node.emit("SPLIT_V", inputs, ("SplitVOptions", options))


@writes(Slice)
def slice_(node: Writing) -> None:
    """A box, or every so manieth element of one."""
    x, operator = node.input(0), node.operator
    begin = node.integers(operator.begin, "begin")
    if set(operator.strides) == {1}:
        sizes = [end - first for first, end in zip(operator.begin, operator.end, strict=True)]
        box: Inputs = [x, begin, node.integers(sizes, "size")]
        node.emit("SLICE", box, since=5 if _is_large(node) else 1)
        return
    # An end of -1 means the last element there; "through element 0" is said by the mask.
    mask = sum(1 << axis for axis, end in enumerate(operator.end) if end < 0)
    inputs: Inputs = [
        x,
        begin,
        node.integers([max(end, 0) for end in operator.end], "end"),
        node.integers(operator.strides, "strides"),
    ]
    since = 4 if _is_large(node) else 1
    node.emit("STRIDED_SLICE", inputs, ("StridedSliceOptions", {"end_mask": mask}), since=since)


@writes(Pad)
def pad(node: Writing) -> None:
    """With zeros, or with the value as a further input."""
    x, operator = node.input(0), node.operator
    padding = node.integers(operator.padding, "padding")
    since = 4 if _is_large(node) else 1
    if operator.value == _zero(node):
        node.emit("PAD", [x, padding], since=since)
    else:
        value = node.value_like(x, operator.value, "value")
        node.emit("PADV2", [x, padding, value], since=since)


def _zero(node: Writing) -> int | None:
    """The number that means 0 in the input, None where it has no such meaning."""
    x = node.input(0)
    if not x.dtype.is_integer:
        return 0
    if x.dtype not in (DType.INT8, DType.INT16) or x.quantization is None:
        return None
    return node.per_tensor(x).scalar_zero_point


@writes(Reshape)
def reshape(node: Writing) -> None:
    """x, shape; that of a scalar, which has no elements, is an option only."""
    x, shape = node.input(0), node.operator.shape
    inputs: Inputs = [x, node.integers(shape, "shape")] if shape else [x]
    node.emit("RESHAPE", inputs, ("ReshapeOptions", {"new_shape": shape}))


@writes(Transpose)
def transpose(node: Writing) -> None:
    """x, permutation."""
    rank = len(node.input(0).shape)
    since = 6 if rank > 5 else 4 if rank > LARGE_RANK else 1
    permutation = node.integers(node.operator.permutation, "permutation")
    node.emit("TRANSPOSE", [node.input(0), permutation], since=since)


@writes(ResizeNearest)
def resize_nearest(node: Writing) -> None:
    """x, size."""
    operator = node.operator
    options = {
        "align_corners": operator.align_corners,
        "half_pixel_centers": operator.half_pixel_centers,
    }
    since = 3 if operator.align_corners or operator.half_pixel_centers else 1
    inputs: Inputs = [node.input(0), node.integers(operator.size, "size")]
    table = ("ResizeNearestNeighborOptions", options)
    node.emit("RESIZE_NEAREST_NEIGHBOR", inputs, table, since=since)
