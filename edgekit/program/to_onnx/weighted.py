"""Writers of operators that multiply matrices: convolutions, linear layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import TensorProto

from edgekit.formats import Coded
from edgekit.model.coded import coded_attributes, initializers, operator_of
from edgekit.program.ir import Array, DType, Quantization, Tensor
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D, TransposeConv2D
from edgekit.program.operators.linear import (
    BatchMatMul,
    DynamicFullyConnected,
    FullyConnected,
)
from edgekit.program.to_onnx.node import Node
from edgekit.program.to_onnx.registry import writes
from edgekit.program.to_onnx.values import CHANNELS_FIRST, per_tensor, plain


def _constant(node: Node, index: int) -> tuple[Tensor, Array]:
    tensor = node.input(index)
    if tensor.data is None:
        node.refuse(f"its weights {tensor.name!r} are computed, must be constant")
    return tensor, tensor.data


def _scales(node: Node, w: Tensor) -> Quantization:
    """What integer weights mean."""
    if w.quantization is None:
        node.refuse(f"its weights {w.name!r} are {w.dtype} without scales")
    return w.quantization


def _weights(node: Node, w: Tensor, data: Array, axis: int) -> str:
    """Weights in ONNX's order, behind DequantizeLinear where they are integers.

    Args:
        node: whose weights.
        w: the tensor they come from.
        data: rearranged.
        axis: of the output channels in `data`.
    """
    stored = node.graph.constant(np.ascontiguousarray(data), w.name)
    if not w.dtype.is_integer:
        return stored
    q = _scales(node, w)
    q = q if q.axis is None else replace(q, axis=axis)
    return node.values.dequantized(stored, w.dtype, q, f"{w.name}.real")


def _coded_rows(node: Node, w: Tensor, data: Array, factors: int) -> str:
    """Coded weights as reals [O,K], packed in the file.

    Args:
        node: whose weights.
        w: the tensor they come from.
        data: its integers in rows.
        factors: the operator's input that holds factors.
    """
    coding, scales = node.operator.coding, _scales(node, w)
    stored = node.optional(factors)
    coded = Coded(data, np.array(scales.scale, np.float32), None if stored is None else stored.data)
    arrays = initializers(coded, coding.format, coding.factors)
    return node.graph.call(
        operator_of(coding.format),
        *(node.graph.constant(array, f"{w.name}.{part}") for part, array in arrays.items()),
        name=f"{w.name}.real",
        **coded_attributes(coding.format, coding.factors, data.shape[1], coding.group),
    )


def _matrix(node: Node, index: int, factors: int) -> str:
    """Weights [O,K] as reals."""
    w, data = _constant(node, index)
    if node.operator.coding is not None:
        return _coded_rows(node, w, data, factors)
    return _weights(node, w, data, 0)


def _bias(node: Node, index: int) -> list[str]:
    """The bias, none or one; int32 behind DequantizeLinear in steps of both scales' product.

    An int64 one, which ONNX cannot dequantise, is float32.
    """
    bias = node.optional(index)
    if bias is None:
        return []
    if bias.data is None:
        node.refuse(f"its bias {bias.name!r} is computed, must be constant")
    if bias.dtype is DType.FLOAT32:
        return [node.graph.constant(bias.data, bias.name)]
    x_scale = per_tensor(node.input(0)).scalar_scale
    scales = [x_scale * scale for scale in _scales(node, node.input(1)).scale]
    if bias.dtype is DType.INT64:
        return [node.floats(bias.data * np.array(scales), "bias")]
    steps = tuple(float(np.float32(s)) for s in scales)
    q = Quantization(steps, (0,) * len(steps), None if len(steps) == 1 else 0)
    stored = node.graph.constant(bias.data, bias.name)
    return [node.values.dequantized(stored, bias.dtype, q, f"{bias.name}.real")]


@writes(Conv2D)
def conv_2d(node: Node) -> None:
    """w[O,KH,KW,I/g] to w[O,I/g,KH,KW]."""
    if node.optional(3) is not None:
        node.refuse(
            "the addition of a residual is fused into it, and the scale between the two is gone; "
            "write the Program as it was before fuse_residual"
        )
    w, data = _constant(node, 1)
    if node.operator.coding is None:
        moved = data.transpose(0, 3, 1, 2)
        _conv(node, _weights(node, w, moved, 0), moved.shape, node.operator.groups)
        return
    rows = _coded_rows(node, w, data.reshape(data.shape[0], -1), 4)
    kernel = node.values.reshaped(rows, data.shape, w.name)
    value = node.graph.node("Transpose", kernel, name=f"{w.name}.transposed", perm=CHANNELS_FIRST)
    shape = tuple(data.shape[axis] for axis in CHANNELS_FIRST)
    _conv(node, value, shape, node.operator.groups)


@writes(DepthwiseConv2D)
def depthwise_conv_2d(node: Node) -> None:
    """w[KH,KW,O] to w[O,1,KH,KW], as many groups as channels."""
    w, data = _constant(node, 1)
    moved, groups = data.transpose(2, 0, 1)[:, np.newaxis], node.input(0).shape[3]
    if node.operator.coding is None:
        weights = _weights(node, w, moved, 0)
    else:
        rows = _coded_rows(node, w, moved.reshape(moved.shape[0], -1), 3)
        weights = node.values.reshaped(rows, moved.shape, w.name)
    _conv(node, weights, moved.shape, groups)


def _conv(node: Node, weights: str, shape: tuple[int, ...], groups: int) -> None:
    """A convolution with weights of ONNX's shape."""
    operator = node.operator
    value = node.add(
        "Conv",
        node.image(0),
        weights,
        *_bias(node, 2),
        kernel_shape=shape[2:],
        strides=operator.stride,
        dilations=operator.dilation,
        pads=operator.padding,
        group=groups,
    )
    node.finish(value, CHANNELS_FIRST, operator.clamp)


@writes(TransposeConv2D)
def transpose_conv_2d(node: Node) -> None:
    """w[O,KH,KW,I/g] to w[I,O/g,KH,KW]."""
    operator = node.operator
    w, data = _constant(node, 1)
    groups, outputs = operator.groups, data.shape[0]
    q = w.quantization
    if groups > 1 and q is not None and q.axis is not None:
        node.refuse("its groups have scales of their own; DequantizeLinear has one axis of scales")
    more, step = operator.output_padding, operator.stride
    if more[0] >= step[0] or more[1] >= step[1]:
        node.refuse(
            f"its output padding {list(more)} is not below the stride {list(step)}, as "
            "ConvTranspose wants"
        )
    grouped = data.transpose(3, 0, 1, 2).reshape(
        data.shape[3], groups, outputs // groups, *data.shape[1:3]
    )
    data = grouped.swapaxes(0, 1).reshape(-1, outputs // groups, *data.shape[1:3])
    value = node.add(
        "ConvTranspose",
        node.image(0),
        _weights(node, w, data, 1),
        *_bias(node, 2),
        kernel_shape=data.shape[2:],
        strides=operator.stride,
        dilations=operator.dilation,
        pads=operator.padding,
        output_padding=operator.output_padding,
        group=groups,
    )
    node.finish(value, CHANNELS_FIRST, operator.clamp)


@writes(FullyConnected)
def fully_connected(node: Node) -> None:
    """A Gemm of rows; leading axes are flattened before and restored afterwards."""
    x, y = node.input(0), node.output
    raw, shape = node.values.flat(x)
    rows = (x.type.size // x.shape[-1], x.shape[-1])
    if shape == rows:
        real = node.values.real(x, plain(2))
    else:
        raw = node.values.reshaped(raw, rows, f"{node.name}.rows")
        real = raw
        if x.dtype.is_integer:
            real = node.values.dequantized(raw, x.dtype, per_tensor(x), f"{node.name}.real")
    operands = [real, _matrix(node, 1, 3), *_bias(node, 2)]
    value = node.add("Gemm", *operands, transB=1)
    if len(y.shape) == 2:
        node.finish(value, plain(2), node.operator.clamp)
        return
    if y.dtype.is_integer:
        # Quantised as rows, so that nothing lies between the product and its quantisation.
        value = node.values.quantized(value, y.dtype, per_tensor(y), f"{y.name}.rows")
        value = node.values.reshaped(value, y.shape, y.name)
        if node.operator.clamp == y.dtype.limits:
            node.define(value, plain(len(y.shape)))
            return
        value = node.values.dequantized(value, y.dtype, per_tensor(y), f"{y.name}.unclamped")
    else:
        value = node.values.reshaped(value, y.shape, y.name)
    node.finish(value, plain(len(y.shape)), node.operator.clamp)


@writes(DynamicFullyConnected)
def dynamic_fully_connected(node: Node) -> None:
    """A Gemm of the rows that codes and scales mean."""
    codes, scale, y = node.input(0), node.input(1), node.output
    rank = len(codes.shape)
    floats = node.graph.node(
        "Cast",
        node.values.raw(codes, plain(rank)),
        name=f"{node.name}.integers",
        to=TensorProto.FLOAT,
    )
    real = node.add("Mul", floats, node.values.raw(scale, plain(rank)))
    if rank != 2:
        rows = (codes.type.size // codes.shape[-1], codes.shape[-1])
        real = node.values.reshaped(real, rows, f"{node.name}.rows")
    bias = node.optional(4)
    operands = [real, _matrix(node, 2, 5)]
    if bias is not None:
        operands.append(node.values.raw(bias, plain(1)))
    value = node.add("Gemm", *operands, transB=1)
    if len(y.shape) != 2:
        value = node.values.reshaped(value, y.shape, y.name)
    node.define(value, plain(len(y.shape)))


@writes(BatchMatMul)
def batch_matmul(node: Node) -> None:
    """a, and b with its last axes swapped where the operator says so."""
    a, b = node.input(0), node.input(1)
    order = plain(len(b.shape))
    if node.operator.transpose_b:
        order = (*order[:-2], order[-1], order[-2])
    left, right = node.values.real(a, plain(len(a.shape))), node.values.real(b, order)
    value = node.add("MatMul", left, right)
    node.finish(value, plain(len(node.output.shape)), node.operator.clamp)
