"""Writers of operators that multiply matrices: convolutions, linear layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.program.ir import DType, Quantization, Tensor
from edgekit.program.operators.accumulator import BIAS_DTYPE
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D, TransposeConv2D
from edgekit.program.operators.linear import BatchMatMul, FullyConnected
from edgekit.program.tflite.schema import PADDINGS
from edgekit.program.tflite.writer.file import Inputs, Writing
from edgekit.program.tflite.writer.padding import is_same, transposed_padding
from edgekit.program.tflite.writer.registry import writes

WINDOW_ADVICE = "; TFLite pads SAME or not at all"


def _bias(node: Writing, index: int) -> int | Tensor | None:
    """The bias, where there is one; a quantised one means multiples of both scales' product."""
    bias = node.optional(index)
    if bias is None:
        return None
    assert bias.dtype is BIAS_DTYPE[node.outputs[0].dtype]
    if bias.dtype is DType.FLOAT32 or bias.quantization is not None:
        return bias
    x, w = node.per_tensor(node.input(0)), node.quantization(node.input(1))
    scales = tuple(float(np.float32(x.scalar_scale * scale)) for scale in w.scale)
    axis = None if len(scales) == 1 else 0
    form = f"bias of {node.outputs[0].name}"
    return node.changed(bias, form, quantization=Quantization(scales, (0,) * len(scales), axis))


def _require_constant_weights(node: Writing) -> Tensor:
    w = node.input(1)
    if w.data is None:
        node.refuse(f"its weights {w.name!r} are computed, must be constant")
    if node.operator.coding is not None:
        node.refuse(f"its weights are {node.operator.coding.element}, packed; TFLite takes int8")
    return w


def _window(node: Writing) -> dict[str, int]:
    """Padding and strides of a window over an image."""
    operator, x, w = node.operator, node.input(0), node.input(1)
    kernel = w.shape[:2] if isinstance(operator, DepthwiseConv2D) else w.shape[1:3]
    same = is_same(operator.padding, x.shape[1:3], kernel, operator.stride, operator.dilation)
    if any(operator.padding) and not same:
        node.refuse(f"its padding is {list(operator.padding)}{WINDOW_ADVICE}")
    return {
        "padding": PADDINGS.index("same" if any(operator.padding) else "valid"),
        "stride_h": operator.stride[0],
        "stride_w": operator.stride[1],
    }


def _dilation(node: Writing) -> dict[str, int]:
    rows, columns = node.operator.dilation
    return {"dilation_h": rows, "dilation_w": columns}


@writes(Conv2D)
def conv_2d(node: Writing) -> None:
    """x[N,H,W,I], w[O,KH,KW,I/groups], bias[O]."""
    operator, w = node.operator, _require_constant_weights(node)
    if node.optional(3) is not None:
        node.refuse(
            "the addition of a residual is fused into it, and the scale between the two is gone; "
            "write the Program as it was before fuse_residual"
        )
    node.need_scales()
    options = {
        **_window(node),
        **_dilation(node),
        "fused_activation": node.activation(operator.clamp),
    }
    since = 1 if operator.groups == 1 else 6
    inputs: Inputs = [node.input(0), w, _bias(node, 2)]
    node.emit("CONV_2D", inputs, ("Conv2DOptions", options), since=since)


@writes(DepthwiseConv2D)
def depthwise_conv_2d(node: Writing) -> None:
    """x[N,H,W,I], w[KH,KW,O], bias[O]; the weights get a first axis of 1."""
    operator, x, w = node.operator, node.input(0), _require_constant_weights(node)
    node.need_scales()
    options = {
        **_window(node),
        **_dilation(node),
        "depth_multiplier": w.shape[2] // x.shape[3],
        "fused_activation": node.activation(operator.clamp),
    }
    quantization = w.quantization
    if quantization is not None and quantization.axis is not None:
        quantization = replace(quantization, axis=quantization.axis + 1)
    assert w.data is not None
    weights = node.changed(
        w, "depthwise", shape=(1, *w.shape), data=w.data[np.newaxis], quantization=quantization
    )
    since = 1 if operator.dilation == (1, 1) else 2
    inputs: Inputs = [x, weights, _bias(node, 2)]
    node.emit("DEPTHWISE_CONV_2D", inputs, ("DepthwiseConv2DOptions", options), since=since)


@writes(TransposeConv2D)
def transpose_conv_2d(node: Writing) -> None:
    """output_shape[4], w[O,KH,KW,I], x[N,H,W,I], bias[O]."""
    operator, x, w = node.operator, node.input(0), _require_constant_weights(node)
    node.need_scales()
    if operator.groups != 1 or operator.dilation != (1, 1):
        node.refuse(
            f"it has {operator.groups} groups and dilation {list(operator.dilation)}; TFLite's "
            "TRANSPOSE_CONV has neither"
        )
    y = node.outputs[0]
    padding = transposed_padding(operator, x.shape[1:3], y.shape[1:3], w.shape[1:3])
    if padding is None:
        node.refuse(f"its padding is {list(operator.padding)}{WINDOW_ADVICE}")
    activation = node.activation(operator.clamp)
    options = {
        "padding": PADDINGS.index(padding),
        "stride_h": operator.stride[0],
        "stride_w": operator.stride[1],
        "fused_activation": activation,
    }
    bias = _bias(node, 2)
    since = 4 if activation else 3 if bias is not None else 1
    inputs: Inputs = [node.integers(y.shape, "shape"), w, x, bias]
    node.emit("TRANSPOSE_CONV", inputs, ("TransposeConvOptions", options), since=since)


@writes(FullyConnected)
def fully_connected(node: Writing) -> None:
    """x[...,K], w[O,K], bias[O]; leading axes are kept."""
    x, w = node.input(0), _require_constant_weights(node)
    node.need_scales()
    node.need_int32(_largest_sum(node), node.operator.requant)
    keep = len(x.shape) != 2
    bias = _bias(node, 2)
    options = {
        "fused_activation": node.activation(node.operator.clamp),
        "keep_num_dims": keep,
    }
    since = 6 if bias is None else 5 if keep else 1
    node.emit("FULLY_CONNECTED", [x, w, bias], ("FullyConnectedOptions", options), since=since)


def _largest_sum(node: Writing) -> float:
    """Bound on the magnitude of a fully connected layer's accumulators."""
    x, w, bias = node.input(0), node.input(1), node.optional(2)
    if not x.dtype.is_integer:
        return 0.0
    assert w.data is not None
    sums = np.abs(w.data.astype(np.float64)).sum(axis=1) * (x.dtype.limits[1] * 2 + 1)
    if bias is not None and bias.data is not None:
        sums = sums + np.abs(bias.data.astype(np.float64))
    return float(sums.max())


@writes(BatchMatMul)
def batch_matmul(node: Writing) -> None:
    """a[...,M,K], b[...,K,N] or b[...,N,K]."""
    node.need_scales()
    if node.activation(node.operator.clamp) != 0:
        node.refuse("its result is clamped; TFLite's BATCH_MATMUL has no fused activation")
    options = {"adj_y": node.operator.transpose_b}
    node.emit("BATCH_MATMUL", [node.input(0), node.input(1)], ("BatchMatMulOptions", options))
