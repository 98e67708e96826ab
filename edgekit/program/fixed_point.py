"""Fixed-point arithmetic of the TFLite 8-bit specification, exact, on NumPy int64 arrays.

Every function here has a twin of the same name in ``ek_common.h``.

Source: "TensorFlow Lite 8-bit quantization specification"; Jacob et al. 2018, arXiv 1712.05877,
section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Int64 = NDArray[np.int64]
Rounding = Literal["double", "single", "wide", "float64"]
Activation = Literal["none", "relu", "relu6", "relu_n1_to_1"]

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1

MULTIPLIER_BITS: dict[Rounding, int] = {"double": 31, "single": 31, "wide": 31, "float64": 53}
"""Binary digits of each rounding's multipliers, all behind the binary point."""

SHIFTS: dict[Rounding, tuple[int, int]] = {
    "double": (-31, 30),
    "single": (-31, 30),
    "wide": (-31, 14),
    "float64": (-74, 32),
}
"""Smallest and largest shift of each rounding."""

FLOAT64_ACCUMULATOR_LIMIT = 2**53
"""Where accumulators saturate before ``float64`` rounding multiplies them."""

FLOAT64_RESULT_LIMIT = 2**30
"""Where the results of ``float64`` rounding saturate; a zero point can still be added."""

FLOAT_ACTIVATIONS: dict[Activation, tuple[float, float]] = {
    "none": (-math.inf, math.inf),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}
"""What each fused activation lets through."""


def doubling_high_mul(a: ArrayLike, b: ArrayLike) -> Int64:
    """High 32 bits of ``2·a·b``, rounded to nearest, ties towards +∞.

    The only overflow, both operands −2³¹, saturates to 2³¹ − 1.

    >>> int(doubling_high_mul(2**30, 2**30))
    536870912
    >>> int(doubling_high_mul(-(2**31), -(2**31)))
    2147483647
    """
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    # Division by 2^31 that truncates towards zero, as C's does.
    high = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    return np.minimum(high, INT32_MAX)


def rounding_right_shift(x: ArrayLike, exponent: ArrayLike) -> Int64:
    """``x / 2**exponent`` rounded to nearest, ties away from zero; exponent in 0…31.

    >>> rounding_right_shift([5, -5, 6, -6], 2).tolist()
    [1, -1, 2, -2]
    """
    x = np.asarray(x, np.int64)
    exponent = np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (x < 0)
    rounded: Int64 = (x >> exponent) + (remainder > threshold)
    return rounded


def wrap_int32(x: ArrayLike) -> Int64:
    """Two's complement wrap to 32 bits, as a C cast through ``uint32_t`` does.

    >>> int(wrap_int32(2**31))
    -2147483648
    """
    wrapped: Int64 = ((np.asarray(x, np.int64) + 2**31) & 0xFFFFFFFF) - 2**31
    return wrapped


def quantize_multiplier(real: float) -> tuple[int, int]:
    """A positive real as ``multiplier · 2**(shift − 31)``, multiplier in [2³⁰, 2³¹).

    A shift below −31 makes the multiplier zero.

    >>> quantize_multiplier(0.25)
    (1073741824, -1)
    >>> quantize_multiplier(0.0), quantize_multiplier(2.0**-33)
    ((0, 0), (0, 0))
    """
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    # round-half-away, which is C's round(); the fraction is positive.
    multiplier = math.floor(fraction * 2.0**31 + 0.5)
    if multiplier == 2**31:
        multiplier //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        return INT32_MAX, 30
    return multiplier, shift


def float64_multiplier(real: float) -> tuple[int, int]:
    """A positive real as ``multiplier · 2**(shift − 53)``, exactly, multiplier in [2⁵², 2⁵³).

    Below 2⁻⁷⁵ no accumulator reaches one half: the multiplier is zero.

    >>> float64_multiplier(0.25) == (2**52, -1)
    True
    """
    fraction, shift = math.frexp(real)
    if real == 0.0 or shift < SHIFTS["float64"][0]:
        return 0, 0
    return int(fraction * 2.0**53), shift


@dataclass(frozen=True)
class Requant:
    """Multiplication of an accumulator by a positive real, in integers.

    Attributes:
        multiplier: one integer in [0, 2**B), or one per output channel. B is 53 for ``float64``
            rounding, else 31.
        shift: as many; the real factor is ``multiplier · 2**(shift − B)``.
        rounding: of the product, one of

            ``double``
                int32 accumulators; rounds the high product, then the right shift (gemmlowp).
            ``single``
                int32 accumulators; rounds once, ties towards +∞. The specification allows it beside
                ``double``; convolutions with coded weights use it.
            ``wide``
                int64 accumulators; keeps 15 digits of the multiplier, rounds once, ties towards +∞.
            ``float64``
                the product is a float64 one, rounded once more to an integer, ties away from zero;
                accumulators saturate at ±2⁵³, results at ±2³⁰.

    Raises:
        ValueError: no factor, not as many shifts, or one that is out of range.

    >>> acc = np.array([5, 6, -6])
    >>> {r: Requant.from_real([0.25], r).apply(acc).tolist() for r in ("double", "single")}
    {'double': [2, 2, -2], 'single': [1, 2, -1]}
    >>> Requant.from_real([0.25], "float64").apply(acc).tolist()
    [1, 2, -2]
    """

    multiplier: tuple[int, ...]
    shift: tuple[int, ...]
    rounding: Rounding

    def __post_init__(self) -> None:
        low, high = SHIFTS[self.rounding]
        bits = MULTIPLIER_BITS[self.rounding]
        counts = len(self.multiplier), len(self.shift)
        if counts[0] != counts[1] or not self.multiplier:
            raise ValueError(f"{counts[0]} multipliers and {counts[1]} shifts, must be as many")
        if not all(0 <= m < 2**bits for m in self.multiplier):
            raise ValueError(f"multipliers of {self.rounding!r} must lie in 0…2**{bits} - 1")
        if not all(low <= s <= high for s in self.shift):
            raise ValueError(f"shifts of {self.rounding!r} must lie in {low}…{high}")

    @classmethod
    def from_real(cls, factors: Sequence[float], rounding: Rounding) -> Requant:
        """Nearest representable factors; what is too large becomes the largest."""
        split = float64_multiplier if rounding == "float64" else quantize_multiplier
        bits, most = MULTIPLIER_BITS[rounding], SHIFTS[rounding][1]
        pairs = [split(float(f)) for f in factors]
        pairs = [(m, s) if s <= most else (2**bits - 1, most) for m, s in pairs]
        return cls(tuple(m for m, _ in pairs), tuple(s for _, s in pairs), rounding)

    def apply(self, acc: ArrayLike) -> Int64:
        """Requantise; a per-channel factor runs along the last axis. int32 out."""
        return multiply_by_quantized_multiplier(
            acc, np.array(self.multiplier), np.array(self.shift), self.rounding
        )


def multiply_by_quantized_multiplier(
    acc: ArrayLike, multiplier: ArrayLike, shift: ArrayLike, rounding: Rounding
) -> Int64:
    """``acc · multiplier · 2**(shift − B)``, int32 out; see :class:`Requant`."""
    acc = np.asarray(acc, np.int64)
    multiplier = np.asarray(multiplier, np.int64)
    shift = np.asarray(shift, np.int64)
    if rounding == "float64":
        return _multiply_in_float64(acc, np.ldexp(multiplier.astype(np.float64), shift - 53))
    if rounding == "double":
        left = np.maximum(shift, 0)
        right = np.maximum(-shift, 0)
        return rounding_right_shift(doubling_high_mul(wrap_int32(acc << left), multiplier), right)
    bits = 31
    if rounding == "wide":
        multiplier, bits = reduced_multiplier(multiplier), 15
    total = bits - shift
    return wrap_int32((acc * multiplier + (np.int64(1) << (total - 1))) >> total)


def _multiply_in_float64(acc: Int64, factor: NDArray[np.float64]) -> Int64:
    most = FLOAT64_ACCUMULATOR_LIMIT
    product = np.clip(acc, -most, most).astype(np.float64) * factor
    whole = np.trunc(product)
    # The difference is exact; adding one half to the product would not be.
    whole += np.where(np.abs(product - whole) >= 0.5, np.sign(product), 0.0)
    return np.clip(whole, -FLOAT64_RESULT_LIMIT, FLOAT64_RESULT_LIMIT).astype(np.int64)


def reduced_multiplier(multiplier: ArrayLike) -> Int64:
    """The 15 bits of a multiplier that ``wide`` rounding keeps, rounded, saturated to 2¹⁵ − 1.

    The product with an accumulator of 48 bits then fits int64.

    >>> reduced_multiplier([2**30, 2**31 - 1, 0]).tolist()
    [16384, 32767, 0]
    """
    rounded: Int64 = (np.asarray(multiplier, np.int64) + (1 << 15)) >> 16
    return np.minimum(rounded, 0x7FFF)


def activation_clamp(
    activation: Activation, scale: float, zero_point: int, limits: tuple[int, int]
) -> tuple[int, int]:
    """Range of the integers that a fused activation lets through.

    Args:
        activation: ``none``, ``relu`` (0…), ``relu6`` (0…6) or ``relu_n1_to_1`` (−1…1).
        scale: of the output.
        zero_point: of the output.
        limits: smallest and largest integer of the output's type.

    >>> activation_clamp("relu6", 0.05, -128, (-128, 127))
    (-128, -8)
    >>> activation_clamp("relu", 0.05, 3, (-128, 127))
    (3, 127)
    """
    return clamp_between(*FLOAT_ACTIVATIONS[activation], scale, zero_point, limits)


def clamp_between(
    low: float, high: float, scale: float, zero_point: int, limits: tuple[int, int]
) -> tuple[int, int]:
    """Range of the integers between two reals, saturated to the integer type.

    Args:
        low: real lower bound, may be infinite.
        high: real upper bound, may be infinite.
        scale: of the output.
        zero_point: of the output.
        limits: smallest and largest integer of the output's type.

    >>> clamp_between(-math.inf, 0.3, 0.1, 5, (-128, 127))
    (-128, 8)
    """

    def quantized(real: float) -> int:
        # The specification divides in float32 and rounds half away from zero.
        with np.errstate(over="ignore"):
            quotient = float(np.float32(real) / np.float32(scale))
        if math.isinf(quotient):
            return limits[quotient > 0]
        nearest = zero_point + int(math.copysign(math.floor(abs(quotient) + 0.5), quotient))
        return min(max(nearest, limits[0]), limits[1])

    return quantized(low), quantized(high)


def float_activation_clamp(activation: Activation) -> tuple[float, float] | None:
    """Range of the reals that a fused activation lets through, None for all.

    >>> float_activation_clamp("relu")
    (0.0, inf)
    >>> float_activation_clamp("none")
    """
    return None if activation == "none" else FLOAT_ACTIVATIONS[activation]


def near_power_of_two(scale: float) -> int | None:
    """The exponent of a float32 scale within 0.07 % of a power of two, else None.

    Where the reference kernels have a scheme for power-of-two scales, they decide so, in float32.

    >>> near_power_of_two(0.25), near_power_of_two(0.2501), near_power_of_two(0.3)
    (-2, -2, None)
    """
    log2 = np.float32(math.log(scale)) * (np.float32(1) / np.float32(math.log(2)))
    nearest = math.floor(float(log2) + 0.5)
    return nearest if abs(float(log2) - nearest) < 1e-3 else None
