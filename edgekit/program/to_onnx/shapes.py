"""Writers of operators that move elements, and of pools and means.

What only moves elements moves the integers themselves: no scale is involved.
"""

from __future__ import annotations

import numpy as np

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
from edgekit.program.to_onnx.node import Node
from edgekit.program.to_onnx.registry import writes
from edgekit.program.to_onnx.values import CHANNELS_FIRST, per_tensor, plain

IMAGE_AXES = (1, 2)
"""Height and width."""


def _window(node: Node) -> dict[str, tuple[int, ...]]:
    operator = node.operator
    return {
        "kernel_shape": operator.kernel,
        "strides": operator.stride,
        "pads": operator.padding,
    }


def _require_one_quantization(node: Node) -> None:
    """Refuse a pool whose result means something else by its integers than its input."""
    x, y = node.input(0), node.output
    if x.dtype.is_integer and per_tensor(x) != per_tensor(y):
        node.refuse(f"{x.name!r} and {y.name!r} differ in scale or zero point")


@writes(MaxPool2D)
def max_pool(node: Node) -> None:
    """Of reals: that is the form in which integer pools are found in ONNX."""
    _require_one_quantization(node)
    value = node.add("MaxPool", node.image(0), **_window(node))
    node.finish(value, CHANNELS_FIRST, node.operator.clamp)


@writes(AvgPool2D)
def average_pool(node: Node) -> None:
    """Padding counts, as the real 0, or not."""
    _require_one_quantization(node)
    x, operator = node.input(0), node.operator
    counts = operator.count_include_pad and any(operator.padding)
    if counts and x.dtype.is_integer and operator.x_zero_point != per_tensor(x).scalar_zero_point:
        node.refuse(f"its padding is {operator.x_zero_point}, which is not 0 in {x.name!r}")
    include = int(operator.count_include_pad)
    value = node.add("AveragePool", node.image(0), count_include_pad=include, **_window(node))
    node.finish(value, CHANNELS_FIRST, node.operator.clamp)


@writes(Mean)
def mean(node: Node) -> None:
    """Over height and width as a global pool, which has an integer kernel; else as ReduceMean."""
    x, y, operator = node.input(0), node.output, node.operator
    if len(x.shape) == 4 and operator.axes == IMAGE_AXES:
        value = node.add("GlobalAveragePool", node.image(0))
        if operator.keep_dims:
            node.finish(value, CHANNELS_FIRST, operator.clamp)
            return
        value = node.add("Flatten", value)
    else:
        value = node.values.real(x, plain(len(x.shape)))
        axes = node.integers(operator.axes, "axes")
        value = node.add("ReduceMean", value, axes, keepdims=int(operator.keep_dims))
    node.finish(value, plain(len(y.shape)), operator.clamp)


@writes(Concat)
def concat(node: Node) -> None:
    """Any number of tensors."""
    order = node.shared_order()
    parts = [node.values.raw(node.input(i), order) for i in range(len(node.inputs))]
    axis = order.index(node.operator.axis)
    value = node.graph.node("Concat", *parts, name=node.output.name, axis=axis)
    node.define(value, order)


@writes(Split)
def split(node: Node) -> None:
    """Pieces of the given sizes."""
    order = node.shared_order()
    raw = node.values.raw(node.input(0), order)
    sizes = node.integers(node.operator.sizes, "sizes")
    names = [y.name for y in node.outputs]
    axis = order.index(node.operator.axis)
    for index, value in enumerate(node.graph.nodes("Split", raw, sizes, names=names, axis=axis)):
        node.define(value, order, index)


@writes(Slice)
def slice_(node: Node) -> None:
    """Every so manieth element of a box; an end before element 0 is far below."""
    order, operator = node.shared_order(), node.operator
    raw = node.values.raw(node.input(0), order)
    lowest = np.iinfo(np.int32).min
    bounds = [
        node.integers(operator.begin, "begin"),
        node.integers([end if end >= 0 else lowest for end in operator.end], "end"),
        node.integers([order.index(axis) for axis in range(len(order))], "axes"),
        node.integers(operator.strides, "strides"),
    ]
    node.define(node.graph.node("Slice", raw, *bounds, name=node.output.name), order)


@writes(Pad)
def pad(node: Node) -> None:
    """With the operator's value, an integer where the tensor holds integers."""
    x, order, operator = node.input(0), node.shared_order(), node.operator
    if x.dtype is DType.INT16:
        node.refuse("ONNX Runtime's Pad takes no int16")
    raw = node.values.raw(x, order)
    sides = [[operator.padding[axis][side] for axis in order] for side in (0, 1)]
    amounts = node.integers([*sides[0], *sides[1]], "padding")
    value = np.array(operator.value, x.dtype.numpy)
    fill = node.graph.constant(value, f"{node.name}.value")
    node.define(node.graph.node("Pad", raw, amounts, fill, name=node.output.name), order)


@writes(Reshape)
def reshape(node: Node) -> None:
    """The same elements."""
    raw, shape = node.values.flat(node.input(0))
    y = node.output
    if shape != y.shape:
        raw = node.values.reshaped(raw, y.shape, y.name)
    node.define(raw, plain(len(y.shape)))


@writes(Transpose)
def transpose(node: Node) -> None:
    """Of the Program's axes."""
    x, y = node.input(0), node.output
    raw = node.values.raw(x, plain(len(x.shape)))
    value = node.graph.node("Transpose", raw, name=y.name, perm=node.operator.permutation)
    node.define(value, plain(len(y.shape)))


@writes(ResizeNearest)
def resize_nearest(node: Node) -> None:
    """Rows and columns by index."""
    operator, x = node.operator, node.input(0)
    if operator.align_corners and operator.half_pixel_centers:
        node.refuse("it aligns corners and measures from centres; ONNX's Resize does one of both")
    if x.dtype not in (DType.INT8, DType.INT32, DType.FLOAT32):
        node.refuse(f"ONNX Runtime's Resize takes no {x.dtype}")
    mode, rounding = "asymmetric", "floor"
    if operator.align_corners:
        mode, rounding = "align_corners", "round_prefer_ceil"
    elif operator.half_pixel_centers:
        # floor((i + 0.5) * scale) is (i + 0.5) * scale - 0.5, rounded with halves upwards.
        mode, rounding = "half_pixel", "round_prefer_ceil"
    sizes = node.integers((x.shape[0], x.shape[3], *operator.size), "sizes")
    value = node.graph.node(
        "Resize",
        node.values.raw(x, CHANNELS_FIRST),
        "",
        "",
        sizes,
        name=node.output.name,
        mode="nearest",
        coordinate_transformation_mode=mode,
        nearest_mode=rounding,
    )
    node.define(value, CHANNELS_FIRST)
