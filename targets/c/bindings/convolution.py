"""Calls of the convolution kernels."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd

from edgekit.program.ir import DType
from edgekit.program.operators.convolution import (
    Conv2D,
    Convolution,
    DepthwiseConv2D,
    TransposeConv2D,
)
from edgekit.targets.c.bindings.elementwise import clamp_parameters, sum_parameters
from edgekit.targets.c.bindings.weighted import (
    Parameters,
    factors,
    has_plain_weights,
    output_parameters,
)
from edgekit.targets.c.kernel import Bound, Call, Parameter, kernel

NO_SUM: dict[str, Parameter] = {"left_shift": 0}
"""The fields of ``ek_sum_params`` where nothing reads them."""


def convolution_shape(
    bound: Bound, operator: Convolution, kernel_size: tuple[int, ...]
) -> Parameters:
    """Field ``shape`` of type ``ek_convolution_shape``."""
    batches, height, width, channels = bound.input(0).shape
    _, y_height, y_width, y_channels = bound.outputs[0].shape
    shape: dict[str, Parameter] = {
        "batches": batches,
        "height": height,
        "width": width,
        "channels": channels,
        "y_height": y_height,
        "y_width": y_width,
        "y_channels": y_channels,
        "kernel_height": kernel_size[0],
        "kernel_width": kernel_size[1],
        "stride_height": operator.stride[0],
        "stride_width": operator.stride[1],
        "dilation_height": operator.dilation[0],
        "dilation_width": operator.dilation[1],
        "pad_top": operator.padding[0],
        "pad_left": operator.padding[1],
    }
    return {"shape": shape}


def residual_parameters(operator: Conv2D) -> Mapping[str, Parameter]:
    """Field ``residual`` of type ``ek_sum_params``."""
    return NO_SUM if operator.residual is None else sum_parameters(operator.residual)


@kernel("conv_2d_s8", Conv2D, DType.INT8, accepts=has_plain_weights)
@kernel("conv_2d_s16", Conv2D, DType.INT16)
@kernel("conv_2d_f32", Conv2D, DType.FLOAT32)
def conv_2d(bound: Bound) -> Call:
    """x, w, bias, multiplier and shift (integers), residual, y."""
    operator, dtype, w = bound.operation.operator, bound.input(0).dtype, bound.input(1)
    assert isinstance(operator, Conv2D)
    parameters = {
        **convolution_shape(bound, operator, w.shape[1:3]),
        "groups": operator.groups,
        **output_parameters(operator, dtype),
    }
    if dtype.is_integer:
        parameters["residual"] = residual_parameters(operator)
    else:
        clamp = clamp_parameters(operator.residual_clamp)
        parameters |= {f"residual_{name}": value for name, value in clamp.items()}
    return Call(
        parameters,
        (
            bound.value(0),
            bound.value(1),
            bound.value(2),
            *factors(operator.requant, w.shape[0]),
            bound.value(3),
            bound.result(),
        ),
    )


@kernel("depthwise_conv_2d_s8", DepthwiseConv2D, DType.INT8, accepts=has_plain_weights)
@kernel("depthwise_conv_2d_s16", DepthwiseConv2D, DType.INT16)
@kernel("depthwise_conv_2d_f32", DepthwiseConv2D, DType.FLOAT32)
def depthwise_conv_2d(bound: Bound) -> Call:
    """x, w, bias, multiplier and shift (integers), y."""
    operator, dtype, w = bound.operation.operator, bound.input(0).dtype, bound.input(1)
    assert isinstance(operator, DepthwiseConv2D)
    return Call(
        {**convolution_shape(bound, operator, w.shape[:2]), **output_parameters(operator, dtype)},
        (
            bound.value(0),
            bound.value(1),
            bound.value(2),
            *factors(operator.requant, w.shape[2]),
            bound.result(),
        ),
    )


def transposed_axis(
    inputs: int, outputs: int, taps: int, stride: int, dilation: int, pad: int
) -> dict[str, Parameter]:
    """Fields of ``ek_transpose_axis``.

    >>> axis = transposed_axis(5, 9, 3, stride=2, dilation=1, pad=1)
    >>> axis["tap_step"], axis["input_step"]
    (2, 1)
    """
    common = gcd(stride, dilation)
    return {
        "inputs": inputs,
        "outputs": outputs,
        "taps": taps,
        "stride": stride,
        "dilation": dilation,
        "pad": pad,
        "tap_step": stride // common,
        "input_step": dilation // common,
    }


@kernel("transpose_conv_2d_s8", TransposeConv2D, DType.INT8)
@kernel("transpose_conv_2d_s16", TransposeConv2D, DType.INT16)
@kernel("transpose_conv_2d_f32", TransposeConv2D, DType.FLOAT32)
def transpose_conv_2d(bound: Bound) -> Call:
    """x, w, bias, multiplier and shift (integers), y."""
    operator, x, w, y = (
        bound.operation.operator,
        bound.input(0),
        bound.input(1),
        bound.outputs[0],
    )
    assert isinstance(operator, TransposeConv2D)
    height, width = (
        transposed_axis(
            x.shape[1 + axis],
            y.shape[1 + axis],
            w.shape[1 + axis],
            operator.stride[axis],
            operator.dilation[axis],
            operator.padding[axis],
        )
        for axis in (0, 1)
    )
    shape: dict[str, Parameter] = {
        "batches": x.shape[0],
        "channels": x.shape[3],
        "y_channels": y.shape[3],
        "groups": operator.groups,
    }
    return Call(
        {
            "shape": shape,
            "height": height,
            "width": width,
            **output_parameters(operator, x.dtype),
        },
        (
            bound.value(0),
            bound.value(1),
            bound.value(2),
            *factors(operator.requant, w.shape[0]),
            bound.result(),
        ),
    )
