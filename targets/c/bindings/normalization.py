"""Calls of the kernels along one axis: softmax, layernorm, argmax."""

from __future__ import annotations

import math
from typing import cast

from edgekit.program.ir import DType
from edgekit.program.operators.normalization import (
    ArgMax,
    LayerNorm,
    Softmax,
    softmax_tables_s16,
)
from edgekit.targets.c.bindings.elementwise import clamp_parameters, factor_parameters
from edgekit.targets.c.kernel import Bound, Call, Derived, Parameter, kernel


def row_parameters(bound: Bound) -> dict[str, Parameter]:
    """The first input as rows along its last axis."""
    shape = bound.input(0).shape
    return {"rows": math.prod(shape[:-1]), "length": shape[-1]}


@kernel("softmax_f32", Softmax, DType.FLOAT32)
def softmax_float(bound: Bound) -> Call:
    """``softmax_f32``."""
    operator = cast(Softmax, bound.operation.operator)
    return Call({**row_parameters(bound), "beta": operator.beta}, (bound.value(0), bound.result()))


@kernel("softmax_s8", Softmax, DType.INT8)
def softmax_int8(bound: Bound) -> Call:
    """``softmax_s8``."""
    operator = cast(Softmax, bound.operation.operator)
    return Call(
        {
            **row_parameters(bound),
            "multiplier": operator.multiplier,
            "shift": operator.shift,
            "diff_min": operator.diff_min,
        },
        (bound.value(0), bound.result()),
    )


@kernel("softmax_s16", Softmax, DType.INT16)
def softmax_int16(bound: Bound) -> Call:
    """``softmax_s16`` with its two tables."""
    operator = cast(Softmax, bound.operation.operator)
    exp_table, reciprocal_table = softmax_tables_s16()
    return Call(
        {
            **row_parameters(bound),
            "multiplier": operator.multiplier,
            "shift": operator.shift,
        },
        (
            bound.value(0),
            Derived("exp_table", exp_table),
            Derived("reciprocal_table", reciprocal_table),
            bound.result(),
        ),
    )


@kernel("layernorm_f32", LayerNorm, DType.FLOAT32)
def layernorm_float(bound: Bound) -> Call:
    """``layernorm_f32``."""
    operator = cast(LayerNorm, bound.operation.operator)
    return Call(
        {
            **row_parameters(bound),
            "epsilon": operator.epsilon,
            **clamp_parameters(operator.clamp),
        },
        (bound.value(0), bound.value(1), bound.value(2), bound.result()),
    )


@kernel("layernorm_s8", LayerNorm, DType.INT8)
def layernorm_integer(bound: Bound) -> Call:
    """``layernorm_s8``."""
    operator = cast(LayerNorm, bound.operation.operator)
    return Call(
        {
            **row_parameters(bound),
            "epsilon": operator.integer_epsilon,
            **factor_parameters(operator.requant),
            "y_zero_point": operator.y_zero_point,
            **clamp_parameters(operator.clamp),
        },
        (bound.value(0), bound.value(1), bound.value(2), bound.result()),
    )


@kernel("argmax_s8", ArgMax, DType.INT8)
@kernel("argmax_f32", ArgMax, DType.FLOAT32)
def argmax(bound: Bound) -> Call:
    """``argmax_s8`` and ``argmax_f32``."""
    operator = cast(ArgMax, bound.operation.operator)
    shape = bound.input(0).shape
    return Call(
        {
            "outer": math.prod(shape[: operator.axis]),
            "length": shape[operator.axis],
            "inner": math.prod(shape[operator.axis + 1 :]),
            "wide": int(operator.dtype == DType.INT64),
        },
        (bound.value(0), bound.result()),
    )
