"""Calls of the kernels of one element: clip, leaky ReLU, hard swish, sigmoid, tanh."""

from __future__ import annotations

from typing import cast

import numpy as np

from edgekit.program.ir import DType
from edgekit.program.operators.activation import (
    Clip,
    HardSwish,
    LeakyRelu,
    Sigmoid,
    Tanh,
    sigmoid_table_s16,
)
from edgekit.program.operators.quantization import Requantize
from edgekit.targets.c.bindings.elementwise import clamp_parameters, factor_parameters
from edgekit.targets.c.kernel import Bound, Call, Derived, kernel


def _rescales(bound: Bound) -> bool:
    return cast(Clip, bound.operation.operator).requant is not None


def _keeps_scale(bound: Bound) -> bool:
    return not _rescales(bound)


def _to_int8(bound: Bound) -> bool:
    return bound.outputs[0].dtype == DType.INT8


@kernel("lookup_s8", Clip, DType.INT8, accepts=_rescales)
@kernel("lookup_s8", LeakyRelu, DType.INT8)
@kernel("lookup_s8", HardSwish, DType.INT8)
@kernel("lookup_s8", Sigmoid, DType.INT8)
@kernel("lookup_s8", Tanh, DType.INT8)
@kernel("lookup_s8", Requantize, DType.INT8, accepts=_to_int8)
def lookup(bound: Bound) -> Call:
    """``lookup_s8``, with the operator's own results for all 256 inputs."""
    (table,) = bound.operation.operator.reference(np.arange(-128, 128, dtype=np.int8))
    return Call(
        {"count": bound.input(0).type.size},
        (bound.value(0), Derived("table", table), bound.result()),
    )


@kernel("clip_s8", Clip, DType.INT8, accepts=_keeps_scale)
@kernel("clip_s16", Clip, DType.INT16, accepts=_keeps_scale)
@kernel("clip_f32", Clip, DType.FLOAT32)
@kernel("hard_swish_f32", HardSwish, DType.FLOAT32)
def clip(bound: Bound) -> Call:
    """``clip_s8`` and its like: nothing but bounds."""
    clamp = cast("Clip | HardSwish", bound.operation.operator).clamp
    return Call(
        {"count": bound.input(0).type.size, **clamp_parameters(clamp)},
        (bound.value(0), bound.result()),
    )


@kernel("requantize_s16_s16", Clip, DType.INT16, accepts=_rescales)
def clip_rescaling(bound: Bound) -> Call:
    """int16 with another scale: ``requantize_s16_s16`` has the bounds."""
    operator = cast(Clip, bound.operation.operator)
    return Call(
        {
            "count": bound.input(0).type.size,
            "x_zero_point": operator.x_zero_point,
            "y_zero_point": operator.y_zero_point,
            **factor_parameters(operator.requant),
            **clamp_parameters(operator.clamp),
        },
        (bound.value(0), bound.result()),
    )


@kernel("leaky_relu_s16", LeakyRelu, DType.INT16)
def leaky_relu_integer(bound: Bound) -> Call:
    """``leaky_relu_s16``."""
    operator = cast(LeakyRelu, bound.operation.operator)
    return Call(
        {
            "count": bound.input(0).type.size,
            "negative": int(operator.alpha < 0),
            **factor_parameters(operator.identity, "identity_"),
            **factor_parameters(operator.slope, "slope_"),
            **clamp_parameters(operator.clamp),
        },
        (bound.value(0), bound.result()),
    )


@kernel("leaky_relu_f32", LeakyRelu, DType.FLOAT32)
def leaky_relu_float(bound: Bound) -> Call:
    """``leaky_relu_f32``."""
    operator = cast(LeakyRelu, bound.operation.operator)
    return Call(
        {
            "count": bound.input(0).type.size,
            "alpha": operator.alpha,
            **clamp_parameters(operator.clamp),
        },
        (bound.value(0), bound.result()),
    )


@kernel("sigmoid_f32", Sigmoid, DType.FLOAT32)
@kernel("tanh_f32", Tanh, DType.FLOAT32)
def curve_float(bound: Bound) -> Call:
    """``sigmoid_f32`` and ``tanh_f32``."""
    return Call({"count": bound.input(0).type.size}, (bound.value(0), bound.result()))


@kernel("sigmoid_s16", Sigmoid, DType.INT16)
@kernel("tanh_s16", Tanh, DType.INT16)
def curve_integer(bound: Bound) -> Call:
    """``sigmoid_s16`` and ``tanh_s16``, which share one table."""
    operator = cast("Sigmoid | Tanh", bound.operation.operator)
    curve = {
        "count": bound.input(0).type.size,
        "multiplier": operator.multiplier,
        "right_shift": operator.right_shift,
    }
    return Call(
        {"curve": curve},
        (bound.value(0), Derived("table", sigmoid_table_s16()), bound.result()),
    )
