"""Operators along one axis: softmax, layernorm, argmax.

Integer softmax follows the TFLite reference kernels, which compute in the fixed-point arithmetic of
gemmlowp (int8) or with two interpolated tables (int16). TFLite has no layer normalisation; the int8
form is ours, see :class:`LayerNorm`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.program import float_math
from edgekit.program.fixed_point import (
    INT32_MAX,
    Int64,
    Requant,
    doubling_high_mul,
    multiply_by_quantized_multiplier,
    rounding_right_shift,
    wrap_int32,
)
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.base import Operator, operator, require, require_dtype
from edgekit.program.operators.movement import given
from edgekit.program.operators.pooling import clamped, require_clamp

SOFTMAX_OUTPUT = {
    DType.INT8: Quantization.per_tensor(1 / 256, -128),
    DType.INT16: Quantization.per_tensor(1 / 32768, 0),
}
"""The quantisation of softmax results; no other exists."""

LAYERNORM_FRACTION_BITS = 10
"""Fractional bits of the normalised value; the other five of int16 hold up to ±32 deviations."""

LAYERNORM_MAX_SIZE = 65535
"""Longest row that int8 layernorm takes: its sums then fit int32, its variance int64."""


def _require_row(x: TensorType) -> None:
    require(len(x.shape) >= 1 and x.shape[-1] >= 1, "x needs a last axis that is not empty")


def _sequential_sum(x: Array) -> Array:
    """Sum along the last axis, kept, strictly from the front, starting with +0."""
    return np.add.accumulate(x, axis=-1, dtype=x.dtype)[..., -1:] + x.dtype.type(0)


def _multiply_s32(a: Int64, b: Int64) -> Int64:
    return doubling_high_mul(a, b)


def exp_on_negative(x: Int64) -> Int64:
    """``exp(x / 2**26)`` in 31 fractional bits, for x of −2³¹…0; gemmlowp's fixed-point form.

    The fraction above the next lower quarter goes through a polynomial about −1/8, the quarters
    through one product per bit of their count, with the constant ``exp(-2**k)``.

    Source: gemmlowp, "fixedpoint/fixedpoint.h" (exp_on_negative_values); Jacob et al. 2018, arXiv
    1712.05877, appendix A.

    >>> exp_on_negative(np.array([0, -(2**26), -(2**31)])).tolist()
    [2147483647, 790015104, 0]
    """
    x = np.asarray(x, np.int64)
    quarter = np.int64(1) << 24
    below = (x & (quarter - 1)) - quarter  # in -1/4…0, 26 fractional bits
    result = _exp_near_minus_eighth(below << 5)
    quarters = below - x
    for exponent in range(-2, 5):
        constant = math.floor(math.exp(-(2.0**exponent)) * 2**31 + 0.5)
        scaled = doubling_high_mul(result, constant)
        result = np.where(quarters & (1 << (26 + exponent)), scaled, result)
    return np.where(x == 0, INT32_MAX, result)


def _exp_near_minus_eighth(a: Int64) -> Int64:
    """``exp(a / 2**31)`` for a of −1/4…0, all in 31 fractional bits: four Taylor terms about −1/8."""
    eighth = math.floor(math.exp(-1 / 8) * 2**31 + 0.5)
    third = math.floor(2**31 / 3 + 0.5)
    x = a + (1 << 28)
    x2 = doubling_high_mul(x, x)
    x3 = doubling_high_mul(x2, x)
    x4 = doubling_high_mul(x2, x2)
    x4_quarter = rounding_right_shift(x4, 2)
    tail = rounding_right_shift(doubling_high_mul(x4_quarter + x3, third) + x2, 1)
    return np.minimum(eighth + doubling_high_mul(eighth, x + tail), INT32_MAX)
