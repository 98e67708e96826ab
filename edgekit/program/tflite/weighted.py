"""Readers of builtin operators that multiply matrices: convolutions, linear layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from edgekit.program.fixed_point import float_activation_clamp
from edgekit.program.ir import DType, Tensor
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D, TransposeConv2D
from edgekit.program.operators.linear import BatchMatMul, FullyConnected
from edgekit.program.operators.movement import Reshape, Transpose
from edgekit.program.tflite.node import Node
from edgekit.program.tflite.registry import builtin
from edgekit.program.tflite.windows import padding, positive_pair, same, strides

S = TypeVar("S", Conv2D, DepthwiseConv2D, TransposeConv2D, FullyConnected)


def _sum_operator(node: Node, kind: type[S], x: Tensor, w: Tensor, **fields: Any) -> S:
    """An operator of class `kind`, in its integer or float32 form, with the fused activation."""
    if node.is_quantized:
        assert w.quantization is not None
        return node.make(
            kind.quantized,
            x=node.per_tensor(x),
            w=w.quantization,
            y=node.per_tensor(node.output),
            dtype=node.output.dtype,
            activation=node.activation(),
            **fields,
        )
    return node.make(kind, clamp=float_activation_clamp(node.activation()), **fields)


@builtin("CONV_2D", inputs=(2, 3), options="Conv2DOptions")
def conv_2d(node: Node) -> None:
    """x[N,H,W,I], w[O,KH,KW,I/groups], bias[O]."""
    x, w = node.input(0, rank=4), node.weights(1, rank=4, axis=0)
    stride, dilation = strides(node), positive_pair(node, "dilation_h", "dilation_w")
    if x.shape[3] % w.shape[3] != 0:
        node.invalid(
            f"weights {w.name!r} have {w.shape[3]} input channels, must divide the "
            f"{x.shape[3]} of {x.name!r}"
        )
    operator = _sum_operator(
        node,
        Conv2D,
        x,
        w,
        stride=stride,
        dilation=dilation,
        padding=padding(node, x.shape[1:3], w.shape[1:3], stride, dilation),
        groups=x.shape[3] // w.shape[3],
    )
    node.emit(operator, x, w, node.optional(2))


@builtin("DEPTHWISE_CONV_2D", inputs=(2, 3), options="DepthwiseConv2DOptions")
def depthwise_conv_2d(node: Node) -> None:
    """x[N,H,W,I], w[1,KH,KW,O], bias[O]; the weights lose their first axis."""
    x, w = node.input(0, rank=4), node.weights(1, rank=4, axis=3)
    assert w.data is not None
    if w.shape[0] != 1:
        node.invalid(f"weights {w.name!r} have shape {list(w.shape)}, must begin with 1")
    stride, dilation = strides(node), positive_pair(node, "dilation_h", "dilation_w")
    operator = _sum_operator(
        node,
        DepthwiseConv2D,
        x,
        w,
        stride=stride,
        dilation=dilation,
        padding=padding(node, x.shape[1:3], w.shape[1:3], stride, dilation),
    )
    quantization = w.quantization
    if quantization is not None and quantization.axis is not None:
        quantization = replace(quantization, axis=2)
    node.emit(operator, x, node.constant(w.name, w.data[0], quantization), node.optional(2))


@builtin("TRANSPOSE_CONV", inputs=(3, 4), options="TransposeConvOptions")
def transpose_conv_2d(node: Node) -> None:
    """output_shape[4], w[O,KH,KW,I], x[N,H,W,I], bias[O]."""
    w, x = node.weights(1, rank=4, axis=0), node.input(2, rank=4)
    shape = node.integers(0)
    if len(shape) != 4:
        node.invalid(f"output shape {list(shape)} must have 4 entries")
    stride = strides(node)
    sides = [
        _transposed_padding(node, x.shape[1 + k], shape[1 + k], w.shape[1 + k], stride[k])
        for k in (0, 1)
    ]
    (top, bottom, more_rows), (left, right, more_columns) = sides
    operator = _sum_operator(
        node,
        TransposeConv2D,
        x,
        w,
        stride=stride,
        padding=(top, left, bottom, right),
        output_padding=(more_rows, more_columns),
    )
    node.emit(operator, x, w, node.optional(3))


def _transposed_padding(
    node: Node, size: int, target: int, kernel: int, stride: int
) -> tuple[int, int, int]:
    """Elements cut off before and after, and added after, along one axis.

    The file gives the size of the output; its padding is that of the convolution back from there.
    """
    if target < 1:
        node.invalid(f"an extent of the output shape is {target}, must be positive")
    before = same(target, kernel, stride)[0] if node.same_padding() else 0
    after = (size - 1) * stride + kernel - before - target
    return before, max(after, 0), max(-after, 0)


@builtin("FULLY_CONNECTED", inputs=(2, 3), options="FullyConnectedOptions")
def fully_connected(node: Node) -> None:
    """x[...,K] flattened to rows of K unless ``keep_num_dims``, w[O,K], bias[O]."""
    x, w = node.input(0), node.weights(1, rank=2, axis=0)
    if node.option("weights_format") != 0:
        node.unsupported("weights are shuffled; supported is the default format")
    columns = w.shape[1]
    if not node.option("keep_num_dims") and x.shape != (x.type.size // columns, columns):
        x = node.intermediate(Reshape((x.type.size // columns, columns)), x, like=x)
    node.emit(_sum_operator(node, FullyConnected, x, w), x, w, node.optional(2))


@builtin("BATCH_MATMUL", inputs=2, options="BatchMatMulOptions")
def batch_matmul(node: Node) -> None:
    """a[...,M,K], b[...,K,N], each with its last two axes swapped where the options say so."""
    a, b = node.input(0), node.input(1)
    if not node.is_quantized and b.dtype is DType.INT8:
        node.unsupported(f"hybrid: float32 activations with int8 weights {b.name!r}")
    if node.option("adj_x"):
        rank = len(a.shape)
        if rank < 2:
            node.invalid(f"{a.name!r} has shape {list(a.shape)}, must have at least rank 2")
        a = node.intermediate(Transpose((*range(rank - 2), rank - 1, rank - 2)), a, like=a)
    transpose_b = bool(node.option("adj_y"))
    if not node.is_quantized:
        node.emit(BatchMatMul(transpose_b=transpose_b), a, b)
        return
    operator = node.make(
        BatchMatMul.quantized,
        a=node.per_tensor(a),
        b=node.per_tensor(b),
        y=node.per_tensor(node.output),
        dtype=node.output.dtype,
        transpose_b=transpose_b,
    )
    node.emit(operator, a, b)
