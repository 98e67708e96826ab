"""Calls of the kernels between reals and integers, and between two quantisations."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from edgekit.program.ir import DType
from edgekit.program.operators.quantization import (
    Binarize,
    Dequantize,
    DynamicQuantize,
    Quantize,
    Requantize,
)
from edgekit.targets.c.bindings.elementwise import clamp_parameters, factor_parameters
from edgekit.targets.c.bindings.normalization import row_parameters
from edgekit.targets.c.kernel import Bound, Call, kernel


def _to(dtype: DType) -> Callable[[Bound], bool]:
    def accepts(bound: Bound) -> bool:
        return bound.outputs[0].dtype == dtype

    return accepts


@kernel("quantize_f32_s8", Quantize, DType.FLOAT32, accepts=_to(DType.INT8))
@kernel("quantize_f32_s16", Quantize, DType.FLOAT32, accepts=_to(DType.INT16))
@kernel("dequantize_s8", Dequantize, DType.INT8)
@kernel("dequantize_s16", Dequantize, DType.INT16)
def affine(bound: Bound) -> Call:
    """``quantize_f32_s8``, ``dequantize_s8`` and their like."""
    operator = cast("Quantize | Dequantize", bound.operation.operator)
    return Call(
        {
            "count": bound.input(0).type.size,
            "scale": operator.scale,
            "zero_point": operator.zero_point,
        },
        (bound.value(0), bound.result()),
    )


@kernel("requantize_s8_s16", Requantize, DType.INT8, accepts=_to(DType.INT16))
@kernel("requantize_s16_s8", Requantize, DType.INT16, accepts=_to(DType.INT8))
@kernel("requantize_s16_s16", Requantize, DType.INT16, accepts=_to(DType.INT16))
@kernel("requantize_s16_s32", Requantize, DType.INT16, accepts=_to(DType.INT32))
@kernel("requantize_s32_s8", Requantize, DType.INT32, accepts=_to(DType.INT8))
@kernel("requantize_s32_s16", Requantize, DType.INT32, accepts=_to(DType.INT16))
def requantize(bound: Bound) -> Call:
    """``requantize_s8_s16`` and its like; int8 to int8 is a table, see activation.py."""
    operator = cast(Requantize, bound.operation.operator)
    return Call(
        {
            "count": bound.input(0).type.size,
            "x_zero_point": operator.x_zero_point,
            "y_zero_point": operator.y_zero_point,
            **factor_parameters(operator.requant),
            **clamp_parameters(operator.dtype.limits),
        },
        (bound.value(0), bound.result()),
    )


@kernel("dynamic_quantize_f32", DynamicQuantize, DType.FLOAT32)
def dynamic_quantize(bound: Bound) -> Call:
    """``dynamic_quantize_f32``."""
    operator = cast(DynamicQuantize, bound.operation.operator)
    return Call(
        {**row_parameters(bound), "floor_absmax": operator.floor},
        (bound.value(0), bound.result(0), bound.result(1)),
    )


@kernel("binarize_s8", Binarize, DType.INT8)
def binarize(bound: Bound) -> Call:
    """``binarize_s8``."""
    operator = cast(Binarize, bound.operation.operator)
    return Call(
        {
            "count": bound.input(0).type.size,
            "x_zero_point": operator.x_zero_point,
            "level": operator.level,
        },
        (bound.value(0), bound.result()),
    )
