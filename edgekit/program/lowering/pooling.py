"""Pools and means."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir

from edgekit.model import geometry
from edgekit.model.geometry import check_supported
from edgekit.model.nodes import get_input, get_int, is_op, name_of
from edgekit.program.ir import DType, Quantization
from edgekit.program.lowering.arrangement import CHANNELS_LAST, Arrangement, image_pair
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.table import lowering
from edgekit.program.lowering.value import Value
from edgekit.program.operators.pooling import AvgPool2D, MaxPool2D, Mean


def _pool(
    low: Lowerer,
    node: onnx_ir.Node,
    x: Value,
    operator: AvgPool2D | MaxPool2D,
    extents: tuple[int, ...],
) -> None:
    """Emit a pool on the NHWC image of x; result and input have one quantisation."""
    result, rank = node.outputs[0], len(x.shape)
    x = low.arrange(node, x, CHANNELS_LAST[rank])
    height = x.shape[2:] if rank == 4 else (1, x.shape[2])
    image = low.view(node, x.tensor, (x.shape[0], *height, x.shape[1]))
    quantization = low.tensors[x.tensor].quantization
    tensor = low.emit(node, operator, image, name=name_of(result), quantization=quantization)
    arrangement = Arrangement.permuted((*x.shape[:2], *extents), CHANNELS_LAST[rank])
    viewed = low.view(node, tensor, arrangement.stored)
    low.define(result, Value(viewed, arrangement, x.quantization))


def _integer_limits(low: Lowerer, x: Value) -> tuple[int, int] | None:
    dtype = low.tensors[x.tensor].dtype
    return dtype.limits if dtype.is_integer else None


def _check_rank(node: onnx_ir.Node, x: Value) -> None:
    spatial = len(x.shape) - 2
    check_supported(spatial in (1, 2), node, f"has {spatial} spatial axes, supported: 1 and 2")


@lowering("MaxPool")
def max_pool(low: Lowerer, node: onnx_ir.Node) -> None:
    """The largest element of each window."""
    x = low.value(get_input(node, 0))
    _check_rank(node, x)
    check_supported(geometry.unused_outputs(node, 1), node, "the indices are used")
    window = geometry.window(node, x.shape[2:], geometry.kernel_of(node, len(x.shape) - 2))
    check_supported(set(window.dilation) == {1}, node, f"dilations are {list(window.dilation)}")
    operator = MaxPool2D(
        image_pair(window.kernel, 1),
        image_pair(window.stride, 1),
        (*image_pair(window.before, 0), *image_pair(window.after, 0)),
        _integer_limits(low, x),
    )
    _pool(low, node, x, operator, window.output)


@lowering("GlobalMaxPool")
def global_max_pool(low: Lowerer, node: onnx_ir.Node) -> None:
    """The largest element of each channel."""
    x = low.value(get_input(node, 0))
    _check_rank(node, x)
    extents = image_pair(x.shape[2:], 1)
    operator = MaxPool2D(extents, extents, clamp=_integer_limits(low, x))
    _pool(low, node, x, operator, (1,) * (len(x.shape) - 2))


@lowering("AveragePool")
def average_pool(low: Lowerer, node: onnx_ir.Node) -> None:
    """Means of windows; integers keep the input's quantisation and are then requantised."""
    x, result = low.value(get_input(node, 0)), node.outputs[0]
    _check_rank(node, x)
    window = geometry.window(node, x.shape[2:], geometry.kernel_of(node, len(x.shape) - 2))
    include = get_int(node, "count_include_pad", 0) == 1 and any(window.padding)
    check_supported(set(window.dilation) == {1}, node, f"dilations are {list(window.dilation)}")
    check_supported(
        not (include and any(window.overhang)),
        node,
        "count_include_pad with ceil_mode windows that reach behind the padding",
    )
    x, y = _quantised_or_real(low, node, x)
    operator = AvgPool2D(
        image_pair(window.kernel, 1),
        image_pair(window.stride, 1),
        (*image_pair(window.before, 0), *image_pair(window.after, 0)),
        _integer_limits(low, x),
        count_include_pad=include,
        x_zero_point=0 if x.quantization is None else x.quantization.scalar_zero_point,
    )
    _pool(low, node, x, operator, window.output)
    if y is not None:
        low.define(result, low.requantized(node, low.value(result), y))


def _quantised_or_real(
    low: Lowerer, node: onnx_ir.Node, x: Value
) -> tuple[Value, Quantization | None]:
    """The input and the result's quantisation, or the real input and None."""
    y = low.target(node.outputs[0])
    if x.quantization is not None and y is not None:
        return x, y
    if x.quantization is not None or y is not None:
        low.stay_real(node, "its input and its result must both be quantised")
    return low.real(node, x), None


@lowering("GlobalAveragePool", "ReduceMean")
def mean(low: Lowerer, node: onnx_ir.Node) -> None:
    """Means over axes."""
    x, result = low.value(get_input(node, 0)), node.outputs[0]
    rank = len(x.shape)
    if is_op(node, "GlobalAveragePool"):
        axes: tuple[int, ...] | None = tuple(range(2, rank))
        keep = True
    else:
        axes, keep = geometry.reduced_axes(node, rank), get_int(node, "keepdims", 1) == 1
    check_supported(axes is not None, node, "axes must be constant")
    assert axes is not None
    if not axes:
        low.define(result, x)
        return
    x, y = _quantised_or_real(low, node, x)
    order = low.axes_of(x)
    x = low.arrange(node, x, order)
    places = tuple(sorted(order.index(a) for a in axes))
    operator = Mean(places, keep_dims=True)
    if x.quantization is not None and y is not None:
        count = 1
        for axis in axes:
            count *= x.shape[axis]
        operator = Mean.quantized(
            axes=places, keep_dims=True, count=count, x=x.quantization, y=y, dtype=DType.INT8
        )
    tensor = low.emit(node, operator, x.tensor, name=name_of(result), quantization=y)
    kept = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    value = Value(tensor, Arrangement.permuted(kept, order), y)
    if not keep:
        shape = tuple(d for i, d in enumerate(kept) if i not in axes)
        value = replace(value, arrangement=value.arrangement.reshaped(shape))  # type: ignore[arg-type]
    low.define(result, value)
