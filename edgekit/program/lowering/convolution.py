"""Conv and ConvTranspose, with one or two spatial axes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir

from edgekit.model import geometry
from edgekit.model.geometry import Window, check, check_supported
from edgekit.model.nodes import Array, find_input, get_input, get_int, is_op, name_of
from edgekit.program.ir import Quantization
from edgekit.program.lowering.arrangement import CHANNELS_LAST, Arrangement, image_pair
from edgekit.program.lowering.lowerer import Lowerer, integer_clamp
from edgekit.program.lowering.table import lowering
from edgekit.program.lowering.value import Value, Weights
from edgekit.program.lowering.weighted import (
    bias_tensor,
    coded_plan,
    coded_sum,
    integer_plan,
    real_weights,
)
from edgekit.program.operators.convolution import (
    Conv2D,
    Convolution,
    DepthwiseConv2D,
    TransposeConv2D,
)


@lowering("Conv", "ConvTranspose")
def conv(low: Lowerer, node: onnx_ir.Node) -> None:
    """A convolution with its bias and the clamp behind it."""
    x = low.value(get_input(node, 0))
    transposed = is_op(node, "ConvTranspose")
    weights = low.weights(node, get_input(node, 1), packed=not transposed)
    bias = find_input(node, 2)
    row = None if bias is None else low.weights(node, bias)
    check_supported(
        weights is not None and (bias is None or row is not None),
        node,
        "weights and bias must be constant",
    )
    assert weights is not None
    rank = len(x.shape)
    check_supported(rank in (3, 4), node, f"has {rank - 2} spatial axes, supported: 1 and 2")
    tail = low.tail(node)
    rows = None
    if weights.blocks is None:
        y = integer_plan(low, node, x, weights, tail)
    else:
        check(weights.data.ndim == rank, node, f"weights {list(weights.data.shape)} do not fit")
        found = coded_plan(low, node, x, weights.rearranged(_rows), tail)
        rows, y = found or (None, None)
    if y is None:
        x, weights = low.real(node, x), real_weights(low, node, weights)
    elif rows is not None:
        weights = Weights(_kernels(rows.integers, weights.data.shape), rows.scale)
    groups = get_int(node, "group", 1)
    weights, window = _geometry(node, x.shape, weights, groups, transposed)

    depthwise = not transposed and 1 < groups == x.shape[1] and weights.data.shape[3] == 1
    if depthwise:
        # [O, KH, KW, 1] to [KH, KW, O]
        weights = weights.moved(weights.data[..., 0].transpose(1, 2, 0), axis=2)
    fields: dict[str, Any] = {
        "stride": image_pair(window.stride, 1),
        "dilation": image_pair(window.dilation, 1),
        "padding": (*image_pair(window.before, 0), *image_pair(window.after, 0)),
    }
    if not depthwise:
        fields["groups"] = groups
    if transposed:
        fields["output_padding"] = image_pair(window.output_padding, 0)
    kind = DepthwiseConv2D if depthwise else TransposeConv2D if transposed else Conv2D
    extra: list[str | None] = []
    if rows is not None:
        coded = coded_sum(low, node, rows, row, x, single=y)
        fields["coding"] = coded.coding
        extra = [coded.bias]
        if coded.factors is not None:
            extra += [coded.factors] if depthwise else [None, coded.factors]
    operator = _operator(kind, fields, x, weights, y, tail.clamp)
    if y is not None:
        operator = replace(operator, clamp=integer_clamp(tail, y))

    arranged = low.arrange(node, x, CHANNELS_LAST[rank])
    channels, outputs = x.shape[1], weights.data.shape[2 if depthwise else 0]
    image = low.view(node, arranged.tensor, (x.shape[0], *image_pair(x.shape[2:], 1), channels))
    tensor = low.emit(
        node,
        operator,
        image,
        low.constant(weights.data, name_of(get_input(node, 1)), weights.quantization),
        *(extra or [bias_tensor(low, node, row, x, weights, outputs)]),
        name=name_of(tail.value),
        quantization=y,
    )
    shape = (x.shape[0], outputs, *window.output)
    result = Arrangement.permuted(shape, CHANNELS_LAST[rank])
    low.define(tail.value, Value(low.view(node, tensor, result.stored), result, y))


def _rows(weights: Array) -> Array:
    """[O, I/groups, ...] to rows in the order of the sum: channels last."""
    return np.moveaxis(weights, 1, -1).reshape(weights.shape[0], -1)


def _kernels(rows: Array, shape: tuple[int, ...]) -> Array:
    """Rows as :func:`_rows` makes them, in the shape that they had before."""
    return np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def _operator(
    kind: type[Conv2D] | type[DepthwiseConv2D] | type[TransposeConv2D],
    fields: dict[str, Any],
    x: Value,
    weights: Weights,
    y: Quantization | None,
    clamp: tuple[float, float] | None,
) -> Convolution:
    if y is None:
        return kind(**fields, clamp=clamp)
    assert x.quantization is not None
    assert weights.quantization is not None
    return kind.quantized(x=x.quantization, w=weights.quantization, y=y, **fields)


def _geometry(
    node: onnx_ir.Node,
    shape: tuple[int, ...],
    weights: Weights,
    groups: int,
    transposed: bool,
) -> tuple[Weights, Window]:
    """Weights as [O, KH, KW, I/groups], and the window on the spatial axes there are."""
    data = weights.data
    check(data.ndim == len(shape), node, f"weights {list(data.shape)} do not fit {list(shape)}")
    kernel = geometry.conv_kernel(node, data.shape)
    inputs = data.shape[0] if transposed else data.shape[1] * groups
    check(
        groups >= 1 and inputs == shape[1] and data.shape[0] % groups == 0,
        node,
        f"weights {list(data.shape)} with {groups} groups do not fit input {list(shape)}",
    )
    if transposed:
        window = geometry.transposed_window(node, shape[2:], kernel)
        # [I, O/g, ...] to [O, I/g, ...]: every group by itself.
        grouped = data.reshape(groups, data.shape[0] // groups, *data.shape[1:])
        data = grouped.swapaxes(1, 2).reshape(-1, data.shape[0] // groups, *kernel)
        weights = _repeated(weights, groups)
    else:
        window = geometry.window(node, shape[2:], kernel)
    if len(kernel) == 1:
        data = data[:, :, np.newaxis, :]
    return weights.moved(data.transpose(0, 2, 3, 1), axis=0), window


def _repeated(weights: Weights, groups: int) -> Weights:
    """Scales of a transposed convolution, which all groups share, written out per output."""
    quantization = weights.quantization
    if quantization is None or quantization.axis is None:
        return weights
    return Weights(
        weights.data,
        replace(
            quantization,
            scale=quantization.scale * groups,
            zero_point=quantization.zero_point * groups,
        ),
    )
