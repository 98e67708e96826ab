"""Weighted sums of integers: float64 where it is exact, which is everywhere that verifies.

Integers below 2⁵³ are exact in float64, in whatever order they are added. The shape rules and the
bounds of coded operations keep every sum there, those of the magnitudes included: int8 and int16
sums end far below, those of coded operations with an int64 accumulator at 2⁵³. Group factors are
integers, so they go into the weights. Convolutions run as torch's own matrix products of unfolded
inputs; cuDNN, which may choose transforms that round, is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.program.operators.coding import Coding
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D, TransposeConv2D
from edgekit.program.operators.linear import BatchMatMul, DynamicFullyConnected, FullyConnected
from edgekit.program.operators.rules import given
from edgekit.quantize.converted.rounding import added, clamped, requantized, wrap_int32
from edgekit.quantize.converted.table import Inputs, axes_after, executor, folded, unfolded

Weighted = Conv2D | DepthwiseConv2D | TransposeConv2D | FullyConnected | BatchMatMul


def _has_torch_form(inputs: Inputs, *constants: int) -> bool:
    """Whether `x` is an integer, and the inputs at these positions the same for every sample."""
    x = given(inputs[0])
    shared = (x is None or len(x) == 1 for x in (inputs[i] for i in constants if i < len(inputs)))
    return not x.is_floating_point() and all(shared)


def _constant(inputs: Inputs, index: int) -> Tensor | None:
    """An input as the Program has it, without the samples' axis; None where it is absent."""
    tensor = inputs[index] if index < len(inputs) else None
    return None if tensor is None else tensor[0]


def _rows(w: Tensor, coding: Coding | None, factors: Tensor | None) -> Tensor:
    """Weights [O,K], one row per output, with their groups' factors in; float64."""
    if coding is None or factors is None:
        return w.double()
    spread = factors.double().repeat_interleave(coding.group, 1)
    return w.double() * spread[:, : w.shape[1]]


def _finished(operator: Weighted, acc: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """Outputs from exact sums [..., O], as :func:`~edgekit.program.operators.accumulator.finish`.

    Args:
        operator: whose requantisation, zero point and clamp count.
        acc: float64.
        bias: one value per output channel.
        x: input of the operator; the output has its dtype.
    """
    total = acc.long()
    if bias is not None:
        total = total + bias.long()
    coding = getattr(operator, "coding", None)
    if x.dtype == torch.int8 and coding is None:
        total = wrap_int32(total)
    moved = requantized(given(operator.requant), total).add_(operator.y_zero_point)
    # As int32 a sum beyond its range wraps.
    return clamped(moved.int(), operator.clamp).to(x.dtype)


def _image(x: Tensor, zero_point: int) -> Tensor:
    """[S,N,H,W,C] less its zero point as float64 [S·N,C,H,W]."""
    return (folded(x).double() - zero_point).permute(0, 3, 1, 2)


def _convolved(
    function: object, x: Tensor, w: Tensor, operator: Conv2D | TransposeConv2D
) -> Tensor:
    """A convolution of torch's without cuDNN, [N,O,H,W] as [N,H,W,O]."""
    assert callable(function)
    with torch.backends.cudnn.flags(enabled=False):
        acc = function(
            x, w, stride=operator.stride, dilation=operator.dilation, groups=operator.groups
        )
    result: Tensor = acc.permute(0, 2, 3, 1)
    return result


@executor(Conv2D)
def _conv_2d(operator: Conv2D, inputs: Inputs) -> tuple[Tensor, ...] | None:
    if not _has_torch_form(inputs, 1, 2, 4):
        return None
    x, w = given(inputs[0]), given(_constant(inputs, 1))
    residual = inputs[3] if len(inputs) > 3 else None
    rows = _rows(w.flatten(1), operator.coding, _constant(inputs, 4))
    top, left, bottom, right = operator.padding
    image = functional.pad(_image(x, operator.x_zero_point), (left, right, top, bottom))
    weights = rows.reshape(w.shape).permute(0, 3, 1, 2)
    acc = _convolved(functional.conv2d, image, weights, operator)
    y = unfolded(_finished(operator, acc, _constant(inputs, 2), x), x)
    if residual is not None:
        y = added(given(operator.residual), y, residual).to(x.dtype)
    return (y,)


@executor(DepthwiseConv2D)
def _depthwise_conv_2d(operator: DepthwiseConv2D, inputs: Inputs) -> tuple[Tensor, ...] | None:
    if not _has_torch_form(inputs, 1, 2, 3):
        return None
    x, w = given(inputs[0]), given(_constant(inputs, 1))
    rows = _rows(w.flatten(0, 1).T, operator.coding, _constant(inputs, 3))
    taps = rows.T.reshape(*w.shape[:2], x.shape[4], -1)
    top, left, bottom, right = operator.padding
    values = folded(x).double() - operator.x_zero_point
    values = functional.pad(values, (0, 0, left, right, top, bottom))
    height, width = (
        (values.shape[1 + a] - operator.dilation[a] * (w.shape[a] - 1) - 1) // operator.stride[a]
        + 1
        for a in (0, 1)
    )
    acc = values.new_zeros((len(values), height, width, *taps.shape[2:]))
    for ky in range(w.shape[0]):
        down = values[:, ky * operator.dilation[0] :: operator.stride[0]][:, :height]
        for kx in range(w.shape[1]):
            there = down[:, :, kx * operator.dilation[1] :: operator.stride[1]][:, :, :width]
            acc.addcmul_(there[..., None], taps[ky, kx])
    return (unfolded(_finished(operator, acc.flatten(3), _constant(inputs, 2), x), x),)


@executor(TransposeConv2D)
def _transpose_conv_2d(operator: TransposeConv2D, inputs: Inputs) -> tuple[Tensor, ...] | None:
    if not _has_torch_form(inputs, 1, 2):
        return None
    x, w = given(inputs[0]), given(_constant(inputs, 1))
    outputs, *kernel, depth = w.shape
    # torch wants [groups·I, O/groups, KH, KW].
    grouped = w.double().reshape(operator.groups, -1, *kernel, depth)
    weights = grouped.permute(0, 4, 1, 2, 3).reshape(-1, outputs // operator.groups, *kernel)
    image = _image(x, operator.x_zero_point)
    acc = _convolved(functional.conv_transpose2d, image, weights, operator)
    top, left, bottom, right = operator.padding
    down, across = operator.output_padding
    acc = functional.pad(acc, (0, 0, -left, across - right, -top, down - bottom))
    return (unfolded(_finished(operator, acc, _constant(inputs, 2), x), x),)


@executor(FullyConnected)
def _fully_connected(operator: FullyConnected, inputs: Inputs) -> tuple[Tensor, ...] | None:
    if not _has_torch_form(inputs, 1, 2, 3):
        return None
    x, w = given(inputs[0]), given(_constant(inputs, 1))
    rows = _rows(w, operator.coding, _constant(inputs, 3))
    acc = functional.linear(x.double() - operator.x_zero_point, rows)
    return (_finished(operator, acc, _constant(inputs, 2), x),)


@executor(DynamicFullyConnected)
def _dynamic(operator: DynamicFullyConnected, inputs: Inputs) -> tuple[Tensor, ...] | None:
    if not _has_torch_form(inputs, 2, 3, 4, 5):
        return None
    x, x_scale = given(inputs[0]), given(inputs[1])
    w, w_scale = given(_constant(inputs, 2)), given(_constant(inputs, 3))
    bias = _constant(inputs, 4)
    rows = _rows(w, operator.coding, _constant(inputs, 5))
    # The integer is rounded to float32 once; its product and the sum once each.
    total = functional.linear(x.double(), rows).float()
    y = total * (x_scale * w_scale)
    return (y if bias is None else y + bias,)


@executor(BatchMatMul)
def _batch_matmul(operator: BatchMatMul, inputs: Inputs) -> tuple[Tensor, ...] | None:
    a, b = given(inputs[0]), given(inputs[1])
    if a.is_floating_point():
        return None
    left, right = axes_after(
        max(a.ndim, b.ndim) - 1,
        a.double() - operator.a_zero_point,
        b.double() - operator.b_zero_point,
    )
    if operator.transpose_b:
        right = right.transpose(-1, -2)
    return (_finished(operator, left @ right, None, a),)
