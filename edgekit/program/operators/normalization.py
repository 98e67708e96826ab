"""Operators along one axis: softmax, layernorm, argmax.

Integer softmax follows the TFLite reference kernels, which compute in the fixed-point arithmetic of
gemmlowp (int8) or with two interpolated tables (int16). TFLite has no layer normalisation; the int8
form is ours, see :class:`LayerNorm`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.program import float_math
from edgekit.program.fixed_point import (
    INT32_MAX,
    INT32_MIN,
    Int64,
    Requant,
    doubling_high_mul,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_right_shift,
    wrap_int32,
)
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.base import Operator, operator, require, require_dtype
from edgekit.program.operators.rules import (
    Clamp,
    clamped,
    given,
    require_axis,
    require_clamp,
    require_fits,
    require_scalar_requant,
)

SOFTMAX_OUTPUT = {
    DType.INT8: Quantization.per_tensor(1 / 256, -128),
    DType.INT16: Quantization.per_tensor(1 / 32768, 0),
}
"""The quantisation of softmax results; no other exists."""

SOFTMAX_MAX_SIZE = {DType.INT8: 4095, DType.INT16: 65535}
"""Longest rows of integer softmax: the sum of so many exponentials fits int32."""

LAYERNORM_FRACTION_BITS = 10
"""Fractional bits of the normalised value; the other five of int16 hold up to ±32 deviations."""

LAYERNORM_MAX_SIZE = 65535
"""Longest row that int8 layernorm takes: its sums then fit int32, K² times its variance 46 bits."""

LAYERNORM_EPSILON_BITS = 14
"""Fractional bits that the variance, 46 bits at most, gets for the sake of epsilon."""

LAYERNORM_MAX_EPSILON = 2**60


def _require_row(x: TensorType) -> None:
    require(len(x.shape) >= 1 and x.shape[-1] >= 1, "x needs a last axis that is not empty")


def sequential_sum(x: Array) -> Array:
    """Sum along the last axis, kept, strictly from the front, starting with +0."""
    return np.asarray(np.add.accumulate(x, axis=-1, dtype=x.dtype)[..., -1:] + x.dtype.type(0))


def exp_on_negative(x: Array) -> Int64:
    """``exp(x / 2**26)`` in 31 fractional bits, for x of −2³¹…0, as gemmlowp computes it.

    The distance to the next quarter above goes through a polynomial about −1/8, the number of
    quarters through one product with ``exp(-2**k)`` for each of its bits.

    Source: gemmlowp, "fixedpoint.h"; Jacob et al. 2018, arXiv 1712.05877, section 2.2.

    >>> exp_on_negative(np.array([0, -(2**26), -(2**31)])).tolist()
    [2147483647, 790015308, 0]
    """
    x = np.asarray(x, np.int64)
    quarter = 1 << 24
    distance = (x & (quarter - 1)) - quarter
    result = _exp_near_minus_eighth(distance << 5)
    quarters = distance - x
    for power in range(-2, 5):
        scaled = doubling_high_mul(result, _EXP_OF_MINUS_POWER[power])
        result = np.where(quarters & (1 << (26 + power)), scaled, result)
    return np.where(x == 0, INT32_MAX, result)


_EXP_OF_MINUS_POWER = {
    k: math.floor(float_math.exact_exp(-(2.0**k)) * 2**31 + 0.5) for k in range(-3, 5)
}


def _exp_near_minus_eighth(a: Int64) -> Int64:
    """``exp(a)`` for a in [−1/4, 0), both in 31 fractional bits: a Taylor polynomial about −1/8."""
    x = a + (1 << 28)
    x2 = doubling_high_mul(x, x)
    x3 = doubling_high_mul(x2, x)
    x4 = doubling_high_mul(x2, x2)
    third = math.floor(2**31 / 3 + 0.5)
    cubic = doubling_high_mul(rounding_right_shift(x4, 2) + x3, third)
    tail = rounding_right_shift(cubic + x2, 1)
    centre = _EXP_OF_MINUS_POWER[-3]
    return centre + doubling_high_mul(centre, x + tail)


def reciprocal_of_one_plus(x: Array) -> Int64:
    """``1 / (1 + x)`` for x in [0, 1), both in 31 fractional bits, as gemmlowp computes it.

    Newton's iteration for the inverse of ``(1 + x) / 2``, three steps from ``48/17 - 32/17 * d``.

    >>> reciprocal_of_one_plus(np.array([0, 2**30])).tolist()
    [2147483647, 1431655762]
    """
    half = (np.asarray(x, np.int64) + INT32_MAX + 1) >> 1
    # 29 fractional bits from here on.
    y = 1515870810 + doubling_high_mul(half, -1010580540)
    for _ in range(3):
        error = (1 << 29) - doubling_high_mul(half, y)
        y = y + saturate_int32(doubling_high_mul(y, error) << 2)
    return saturate_int32(y << 1)


def saturate_int32(x: Int64) -> Int64:
    """To the nearest int32."""
    return np.clip(x, INT32_MIN, INT32_MAX)


def _bit_lengths(x: Int64) -> Int64:
    return np.array([int(v).bit_length() for v in x.ravel()], np.int64).reshape(x.shape)


@cache
def softmax_tables_s16() -> tuple[Array, Array]:
    """int16 softmax's tables of 513 entries in 15 fractional bits: exp on −10…0, 1/(1+x) on 0…1.

    Between two entries kernels interpolate; each entry is corrected by half the error that
    interpolation makes in the middle, as the reference kernels do.

    >>> [t[[0, 256, 512]].tolist() for t in softmax_tables_s16()]
    [[2, 221, 32767], [32767, 21845, 16384]]
    """
    return (
        _interpolation_table(float_math.exact_exp, 10.0 / 65535, 32767),
        _interpolation_table(lambda v: 1.0 / (1.0 + v), 1.0 / 65535, -32768),
    )


def _interpolation_table(
    function: Callable[[float], float], scale: float, zero_point: int
) -> Array:
    low, high = scale * (-32768 - zero_point), scale * (32767 - zero_point)
    step = (high - low) / 512
    unit = 65536 / (2.0 / 65535 * 32767 - 2.0 / 65535 * -32768)

    def nearest(value: float) -> float:
        return math.copysign(math.floor(abs(value) + 0.5), value)

    def entry(i: int) -> float:
        here = nearest(function(low + i * step) * unit)
        middle = nearest(function(low + i * step + step / 2) * unit)
        interpolated = nearest((function(low + (i + 1) * step) * unit + here) / 2)
        return here - nearest((interpolated - middle) / 2)

    entries = [entry(i) for i in range(512)] + [nearest(function(high) * unit)]
    table = np.clip(entries, -32768, 32767).astype(np.int16)
    table.setflags(write=False)
    return table


def _interpolated(x: Int64, table: Array) -> Int64:
    """A table of 513 entries at an int16: 9 bits of index, 7 bits between entries."""
    values = table.astype(np.int64)
    index = 256 + (x >> 7)
    slope = values[index + 1] - values[index]
    return np.asarray(values[index] + ((slope * (x & 127) + 64) >> 7))


@operator("softmax", inputs="x", in_place=(0,))
@dataclass(frozen=True)
class Softmax(Operator):
    """``exp(beta * x) / sum(exp(beta * x))`` along the last axis.

    float32: the row's maximum is subtracted, products and exponentials are taken element by
    element, added from the front, and each is divided by the sum. Integer results have the
    quantisation of `SOFTMAX_OUTPUT`; the input's zero point cancels.

    Attributes:
        beta: factor of the input.
        multiplier, shift: integers: ``beta * x.scale`` in steps of 2⁻²⁶ (int8, shift 0…31) or
            10/65535 (int16) as ``multiplier * 2**(shift - 31)``.
        diff_min: int8: elements so far below the row's maximum count as zero.

    >>> Softmax().reference(np.float32([[0, 0], [100, 0]]))[0].tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """

    beta: float = 1.0
    multiplier: int = 0
    shift: int = 0
    diff_min: int = 0

    @classmethod
    def quantized(
        cls,
        *,
        x: Quantization,
        y: Quantization,
        beta: float = 1.0,
        dtype: DType = DType.INT8,
    ) -> Self:
        """The integer form.

        Args:
            x: per-tensor quantisation of the input.
            y: per-tensor quantisation of the output; must be the dtype's in `SOFTMAX_OUTPUT`, the
                scale to 0.1 %.
            beta: factor of the input.
            dtype: of input and output, int8 or int16.

        Raises:
            UnsupportedError: another output quantisation, or ``beta * x.scale`` not above 2⁻²⁶.
        """
        wanted = SOFTMAX_OUTPUT[dtype]
        deviation = abs(y.scalar_scale / wanted.scalar_scale - 1)
        if deviation > 1e-3 or y.zero_point != wanted.zero_point:
            raise UnsupportedError(
                f"softmax: {dtype} output has scale {y.scalar_scale:g} and zero point "
                f"{y.scalar_zero_point}, must have {wanted.scalar_scale:g} and "
                f"{wanted.scalar_zero_point}"
            )
        if dtype == DType.INT16:
            factor = float(np.float32(x.scalar_scale) * np.float32(beta)) / (10.0 / 65535.0)
            return cls(beta, *quantize_multiplier(factor))
        factor = min(beta * x.scalar_scale * 2**26, 2.0**31 - 1)
        if factor <= 1:
            raise UnsupportedError(
                f"softmax: beta * input scale is {beta * x.scalar_scale:g}, must be above 2**-26"
            )
        fraction, shift = math.frexp(factor)
        multiplier = math.floor(fraction * 2.0**31 + 0.5)
        if multiplier == 2**31:
            multiplier, shift = multiplier // 2, shift + 1
        return cls(beta, multiplier, shift, -math.floor(31 * 2.0**26 / 2.0**shift))

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The type of `x`."""
        x = given(inputs[0])
        require_dtype(x, "x", DType.INT8, DType.INT16, DType.FLOAT32)
        _require_row(x)
        if x.dtype.is_integer:
            require(0 <= self.multiplier <= INT32_MAX, f"multiplier {self.multiplier} is no int32")
            require(
                x.shape[-1] <= SOFTMAX_MAX_SIZE[x.dtype],
                f"{x.dtype} rows have {x.shape[-1]} elements, must have at most "
                f"{SOFTMAX_MAX_SIZE[x.dtype]}",
            )
        if x.dtype == DType.INT8:
            require(0 <= self.shift <= 31, f"shift {self.shift} is not 0…31")
            require(-(2**31) < self.diff_min <= 0, f"diff_min {self.diff_min} is not an int32 <= 0")
        if x.dtype == DType.INT16:
            require(-31 <= self.shift <= 30, f"shift {self.shift} is not -31…30")
        return (x,)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The shares."""
        x = given(inputs[0])
        if x.dtype.kind == "f":
            highest = np.fmax.reduce(x, axis=-1, keepdims=True)
            with np.errstate(over="ignore"):
                powers = float_math.exp((x - highest) * np.float32(self.beta))
            return (powers / sequential_sum(powers),)
        difference = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
        y = self._int8(difference) if x.dtype == np.int8 else self._int16(difference)
        return (y.astype(x.dtype),)

    def _int8(self, difference: Int64) -> Int64:
        counted = difference >= self.diff_min
        # What does not count is moved to 0 so that nothing overflows; it is masked afterwards.
        scaled = wrap_int32(np.where(counted, difference, 0) << self.shift)
        power = exp_on_negative(doubling_high_mul(scaled, self.multiplier))
        shares = np.where(counted, rounding_right_shift(power, 12), 0)
        total = shares.sum(axis=-1, keepdims=True)
        headroom = 32 - _bit_lengths(total)
        inverse = reciprocal_of_one_plus((total << headroom) - 2**31)
        # Where the sum of exponentials reaches 512 the last shift is above 31 and every share
        # becomes zero; the reference kernel refuses to run there.
        y = rounding_right_shift(doubling_high_mul(inverse, power), 35 - headroom)
        return np.where(counted, np.minimum(y - 128, 127), -128)

    def _int16(self, difference: Int64) -> Int64:
        exp_table, reciprocal_table = softmax_tables_s16()
        scaled = multiply_by_quantized_multiplier(difference, self.multiplier, self.shift, "double")
        power = _interpolated(np.clip(scaled + 32767, -32768, 32767), exp_table)
        total = power.sum(axis=-1, keepdims=True)
        length = _bit_lengths(total)
        # The sum as 1 + t, t in 0…1 with 16 bits, recentred to int16.
        leading = ((total << (31 - length)) + (1 << 13)) >> 14
        centred = np.clip(leading - (2**15 + 2**16), -32768, 32767)
        inverse = _interpolated(centred, reciprocal_table)
        half = np.int64(1) << (length - 2)
        return np.asarray(np.clip((power * inverse + half) >> (length - 1), 0, 32767))


@operator("layernorm", inputs="x gamma? beta?", in_place=(0,))
@dataclass(frozen=True)
class LayerNorm(Operator):
    """Layer normalisation along the last axis (Ba et al. 2016, arXiv 1607.06450).

    ``y = (x - mean) / sqrt(variance + epsilon) * gamma + beta``, the variance over K elements.

    float32, x, gamma and beta of one dtype: mean and variance add from the front and divide once;
    the root is :func:`edgekit.program.float_math.rsqrt`; each element is subtracted, multiplied by
    the root, by gamma, and beta is added, in this order.

    int8 is ours, in integers only. For a row x[K] with gamma[K] int16 and beta[K] int32::

        s = sum(x)                     t = (K * sum(x * x) - s * s) * 2**14 + integer_epsilon
        k: 2**60 <= t * 4**k < 2**62   r = floor(sqrt(t * 4**k))
        inverse = min(floor(2**61 / r), 2**31 - 1)
        n = (K * x - s) * inverse * 2**(k - 44)      rounded, halves upwards; saturated to ±32767
        y = requant(n * gamma + beta) + y_zero_point, clamped

    ``t`` is K² times the variance, exactly, so the only approximations are root and reciprocal
    (30 bits), epsilon (14 fractional bits) and the 10 fractional bits of the normalised value n.
    An absent gamma is 1, an absent beta 0; ``n * gamma + beta`` wraps in int32.

    Attributes:
        epsilon: added to the variance.
        integer_epsilon: int8: ``epsilon * K**2 / x.scale**2 * 2**14``, at least 1.
        requant: int8: ``gamma.scale * 2**-10 / y.scale``; None for float32.
        y_zero_point: int8: zero point of the output.
        clamp: bounds of the result in units of the output; int8 needs it.

    >>> LayerNorm(0.0).reference(np.float32([[1, 3]]), None, np.float32([10, 10]))[0].tolist()
    [[9.0, 11.0]]
    """

    epsilon: float
    integer_epsilon: int = 0
    requant: Requant | None = None
    y_zero_point: int = 0
    clamp: Clamp | None = None

    @classmethod
    def quantized(
        cls,
        *,
        epsilon: float,
        size: int,
        x: Quantization,
        y: Quantization,
        gamma_scale: float = 1.0,
    ) -> Self:
        """The int8 form.

        Args:
            epsilon: added to the variance, in real units.
            size: elements per row, K.
            x: per-tensor quantisation of the input.
            y: per-tensor quantisation of the output.
            gamma_scale: of the integer gamma, see :meth:`integer_parameters`.
        """
        fine = 2.0**LAYERNORM_EPSILON_BITS
        integer_epsilon = epsilon * size**2 / x.scalar_scale**2 * fine
        return cls(
            epsilon=epsilon,
            integer_epsilon=int(
                min(max(math.floor(integer_epsilon + 0.5), 1), LAYERNORM_MAX_EPSILON)
            ),
            requant=Requant.from_real(
                [gamma_scale * 2.0**-LAYERNORM_FRACTION_BITS / y.scalar_scale], "double"
            ),
            y_zero_point=y.scalar_zero_point,
            clamp=DType.INT8.limits,
        )

    @staticmethod
    def integer_parameters(
        gamma: Array | None, beta: Array | None
    ) -> tuple[Array | None, Array | None, float]:
        """Integer gamma and beta, and the scale of gamma, for the int8 form.

        Args:
            gamma: real factors [K] or None.
            beta: real offsets [K] or None.

        Returns:
            gamma as int16 (None if absent), beta as int32 in steps of ``scale / 1024`` (None if
            absent), and the scale.

        >>> gamma, beta, scale = LayerNorm.integer_parameters(np.float32([1, -0.5]), None)
        >>> gamma.tolist(), beta
        ([32767, -16384], None)
        """
        bits, scale = LAYERNORM_FRACTION_BITS, 1.0
        if gamma is not None:
            scale = max(float(np.abs(gamma).max()) / 32767, 2.0**-100)
            if beta is not None:
                # Beta gets half of the sum's int32.
                scale = max(scale, float(np.abs(beta).max()) * 2.0**bits / 2**30)
        scale = float(np.float32(scale))
        whole = None if gamma is None else np.rint(gamma.astype(np.float64) / scale)
        offset = None if beta is None else np.rint(beta.astype(np.float64) / scale * 2**bits)
        return (
            None if whole is None else np.clip(whole, -32767, 32767).astype(np.int16),
            None if offset is None else np.clip(offset, -(2**30), 2**30).astype(np.int32),
            scale,
        )

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The type of `x`."""
        x, *parameters = inputs
        x = given(x)
        require_dtype(x, "x", DType.INT8, DType.FLOAT32)
        _require_row(x)
        integer = x.dtype == DType.INT8
        dtypes = (DType.INT16, DType.INT32) if integer else (DType.FLOAT32, DType.FLOAT32)
        for label, parameter, dtype in zip(("gamma", "beta"), parameters, dtypes, strict=False):
            if parameter is None:
                continue
            require_dtype(parameter, label, dtype)
            require(
                parameter.shape == x.shape[-1:],
                f"{label} has shape {list(parameter.shape)}, must have {list(x.shape[-1:])}",
            )
        require((self.requant is not None) == integer, f"requant is for int8, x is {x.dtype}")
        require_scalar_requant(self.requant)
        require_clamp(self.clamp, x.dtype)
        if integer:
            require_fits(self.y_zero_point, "y_zero_point", x.dtype)
            require(
                x.shape[-1] <= LAYERNORM_MAX_SIZE,
                f"int8 rows have {x.shape[-1]} elements, must have at most {LAYERNORM_MAX_SIZE}",
            )
            require(
                1 <= self.integer_epsilon <= LAYERNORM_MAX_EPSILON,
                f"integer_epsilon {self.integer_epsilon} is not 1…2**60",
            )
        return (x,)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The normalised, scaled and shifted elements."""
        x, gamma, beta = (*inputs, None, None)[:3]
        x = given(x)
        if self.requant is not None:
            return (self._int8(x, gamma, beta, self.requant),)
        count = np.float32(x.shape[-1])
        centred = x - sequential_sum(x) / count
        variance = sequential_sum(centred * centred) / count
        y = centred * float_math.rsqrt(variance + np.float32(self.epsilon))
        if gamma is not None:
            y = y * gamma
        if beta is not None:
            y = y + beta
        return (clamped(y, self.clamp),)

    def _int8(self, x: Array, gamma: Array | None, beta: Array | None, requant: Requant) -> Array:
        wide = x.astype(np.int64)
        size = x.shape[-1]
        total = wide.sum(axis=-1, keepdims=True)
        squares = (wide * wide).sum(axis=-1, keepdims=True)
        spread = size * squares - total * total
        variance = (spread << LAYERNORM_EPSILON_BITS) + self.integer_epsilon
        doublings = (62 - _bit_lengths(variance)) // 2
        roots = [math.isqrt(int(v)) for v in (variance << (2 * doublings)).ravel()]
        root = np.array(roots, np.int64).reshape(variance.shape)
        inverse = np.minimum((1 << 61) // root, INT32_MAX)
        shift = 44 - doublings
        half = np.int64(1) << (shift - 1)
        normal = np.clip(((size * wide - total) * inverse + half) >> shift, -32767, 32767)
        if gamma is not None:
            normal = normal * gamma
        if beta is not None:
            normal = normal + beta
        y = requant.apply(wrap_int32(normal)) + self.y_zero_point
        return clamped(y, self.clamp).astype(x.dtype)


@operator("argmax", inputs="x")
@dataclass(frozen=True)
class ArgMax(Operator):
    """Index of the first largest element along an axis, which disappears.

    Attributes:
        axis: counted from the front.
        dtype: of the indices, int32 or int64.

    NaN, which inputs never hold, is never larger than anything.

    >>> ArgMax(1).reference(np.int8([[3, 7, 7]]))[0].tolist()
    [1]
    """

    axis: int
    dtype: DType = DType.INT32

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The shape of `x` without the axis."""
        x = given(inputs[0])
        require_dtype(x, "x", DType.INT8, DType.FLOAT32)
        require_axis(self.axis, len(x.shape))
        require(x.shape[self.axis] >= 1, f"axis {self.axis} is empty")
        require(
            self.dtype in (DType.INT32, DType.INT64), f"y is {self.dtype}, must be int32 or int64"
        )
        shape = x.shape[: self.axis] + x.shape[self.axis + 1 :]
        return (TensorType(shape, self.dtype),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The indices."""
        x = given(inputs[0])
        if x.dtype.kind == "f":
            # NumPy's argmax takes the first NaN; a comparison never does.
            first = np.isnan(np.take(x, [0], axis=self.axis))
            x = np.where(np.isnan(x), -np.inf, x)
            index = np.where(first, 0, np.argmax(x, axis=self.axis, keepdims=True))
            return (np.squeeze(index, self.axis).astype(self.dtype.numpy),)
        return (np.argmax(x, axis=self.axis).astype(self.dtype.numpy),)
