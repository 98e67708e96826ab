"""Functions of one element: clip, leaky ReLU, hard swish, sigmoid, tanh.

An int8 operand has 256 values, so C kernels look int8 results up in a table. int16 follows the
TFLite reference kernels where those define it. float32 uses :mod:`edgekit.program.float_math`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Self

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.program import float_math
from edgekit.program.fixed_point import (
    Int64,
    Requant,
    clamp_between,
    near_power_of_two,
    quantize_multiplier,
    rounding_right_shift,
)
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.base import Operator, operator, require, require_dtype
from edgekit.program.operators.rules import (
    Clamp,
    clamped,
    given,
    require_clamp,
    require_fits,
    require_scalar_requant,
    require_zero_points,
)

SIGMOID_STEPS_PER_UNIT = 24
"""Resolution of the table behind int16 sigmoid and tanh."""


def _unary(x: TensorType | None, *allowed: DType) -> TensorType:
    x = given(x)
    require_dtype(x, "x", *allowed)
    return x


@operator("clip", inputs="x", in_place=(0,))
@dataclass(frozen=True)
class Clip(Operator):
    """``min(max(x, low), high)``: every ReLU with bounds, and clip.

    Attributes:
        clamp: bounds of the result in units of the output; either float32 bound may be infinite.
        x_zero_point, y_zero_point: zero points, used with `requant`.
        requant: factor from the input's scale to the output's, applied before the clamp; None
            where both have one quantisation, and for float32.

    float32 passes NaN and keeps the sign of zero: ``x < low ? low : (x > high ? high : x)``.

    >>> Clip((0.0, 6.0)).reference(np.float32([-1, 3, 9]))[0].tolist()
    [0.0, 3.0, 6.0]
    """

    clamp: Clamp
    x_zero_point: int = 0
    y_zero_point: int = 0
    requant: Requant | None = None

    @classmethod
    def quantized(
        cls,
        *,
        low: float,
        high: float,
        x: Quantization,
        y: Quantization,
        dtype: DType = DType.INT8,
    ) -> Self:
        """The integer form.

        Args:
            low: real lower bound, may be infinite.
            high: real upper bound, may be infinite.
            x: per-tensor quantisation of the input.
            y: per-tensor quantisation of the output.
            dtype: of both, int8 or int16.

        >>> half, one = Quantization.per_tensor(0.5), Quantization.per_tensor(1.0, 3)
        >>> Clip.quantized(low=0, high=6, x=half, y=half).clamp
        (0, 12)
        >>> Clip.quantized(low=0, high=6, x=half, y=one).reference(np.int8([-9, 4, 50]))[0].tolist()
        [3, 5, 9]
        """
        clamp = clamp_between(low, high, y.scalar_scale, y.scalar_zero_point, dtype.limits)
        if x == y:
            return cls(clamp)
        factor = np.float32(x.scalar_scale) / np.float32(y.scalar_scale)
        return cls(
            clamp,
            x_zero_point=x.scalar_zero_point,
            y_zero_point=y.scalar_zero_point,
            requant=Requant.from_real([float(factor)], "double"),
        )

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The type of `x`."""
        x = _unary(inputs[0], DType.INT8, DType.INT16, DType.FLOAT32)
        require_clamp(self.clamp, x.dtype)
        require(self.requant is None or x.dtype.is_integer, f"{x.dtype} takes no requant")
        require_scalar_requant(self.requant)
        if x.dtype.is_integer:
            require_fits(self.x_zero_point, "x_zero_point", x.dtype)
            require_fits(self.y_zero_point, "y_zero_point", x.dtype)
        return (x,)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The clamped elements."""
        x = given(inputs[0])
        if self.requant is None:
            return (clamped(x, self.clamp),)
        y = self.requant.apply(x.astype(np.int64) - self.x_zero_point) + self.y_zero_point
        return (clamped(y, self.clamp).astype(x.dtype),)


@operator("leaky_relu", inputs="x", in_place=(0,))
@dataclass(frozen=True)
class LeakyRelu(Operator):
    """``x > 0 ? x : alpha * x``.

    Attributes:
        alpha: slope below zero.
        x_zero_point, y_zero_point: zero points; 0 for int16.
        identity: factor from the input's scale to the output's at and above zero; None for float32.
        slope: the same times ``|alpha|``, used below zero; the sign is alpha's.
        clamp: bounds of the result in units of the output; integers need it.

    >>> LeakyRelu(0.5).reference(np.float32([-2, 3]))[0].tolist()
    [-1.0, 3.0]
    """

    alpha: float
    x_zero_point: int = 0
    y_zero_point: int = 0
    identity: Requant | None = None
    slope: Requant | None = None
    clamp: Clamp | None = None

    @classmethod
    def quantized(
        cls, *, alpha: float, x: Quantization, y: Quantization, dtype: DType = DType.INT8
    ) -> Self:
        """The integer form; factors in float32 as the reference kernels compute them.

        Args:
            alpha: slope below zero.
            x: per-tensor quantisation of the input.
            y: per-tensor quantisation of the output.
            dtype: of both, int8 or int16.
        """
        scale, inverse = np.float32(x.scalar_scale), np.float32(y.scalar_scale)
        slope = scale * np.float32(alpha) / inverse
        return cls(
            alpha=alpha,
            x_zero_point=x.scalar_zero_point,
            y_zero_point=y.scalar_zero_point,
            identity=Requant.from_real([float(scale / inverse)], "double"),
            slope=Requant.from_real([abs(float(slope))], "double"),
            clamp=dtype.limits,
        )

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The type of `x`."""
        x = _unary(inputs[0], DType.INT8, DType.INT16, DType.FLOAT32)
        require_clamp(self.clamp, x.dtype)
        present = (self.identity is not None, self.slope is not None)
        require(
            present == (x.dtype.is_integer,) * 2,
            f"{x.dtype} {'needs' if x.dtype.is_integer else 'takes no'} identity and slope",
        )
        require_scalar_requant(self.identity, label="identity")
        require_scalar_requant(self.slope, label="slope")
        require_zero_points(x.dtype, x_zero_point=self.x_zero_point, y_zero_point=self.y_zero_point)
        return (x,)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The values."""
        x = given(inputs[0])
        if self.identity is None or self.slope is None:
            return (clamped(np.where(x > 0, x, x * np.float32(self.alpha)), self.clamp),)
        value = x.astype(np.int64) - self.x_zero_point
        sign = -1 if self.alpha < 0 else 1
        scaled = np.where(value >= 0, self.identity.apply(value), sign * self.slope.apply(value))
        return (clamped(scaled + self.y_zero_point, self.clamp).astype(x.dtype),)


def _int16_factor(real: np.float32) -> tuple[int, int]:
    """A positive real as 16-bit multiplier and exponent, ``multiplier * 2**(exponent - 15)``."""
    multiplier, exponent = quantize_multiplier(float(real))
    return min((multiplier + (1 << 15)) >> 16, 2**15 - 1), exponent


def _doubling_high_mul_s16(a: Int64, b: int) -> Int64:
    """High 16 bits of ``2ab`` of 16-bit values, rounded, ties towards +∞; saturates."""
    return np.asarray(np.minimum((a * b + (1 << 14)) >> 15, 2**15 - 1))


def _saturate_s16(x: Int64) -> Int64:
    return np.clip(x, -(2**15), 2**15 - 1)


@operator("hard_swish", inputs="x", in_place=(0,))
@dataclass(frozen=True)
class HardSwish(Operator):
    """``x * min(max(x + 3, 0), 6) / 6`` (Howard et al. 2019, arXiv 1905.02244), in that order.

    Attributes:
        x_zero_point, y_zero_point: zero points.
        output_multiplier, output_exponent: ``x.scale / 128 / y.scale`` as a 16-bit factor,
            ``multiplier * 2**(exponent - 15)``.
        reluish_multiplier, reluish_exponent: ``x.scale / 128 / (3 / 32768)``, likewise.
        clamp: bounds of the result in units of the output; integers need it.

    int8 follows the TFLite reference kernel's 16-bit arithmetic step by step.

    >>> HardSwish().reference(np.float32([-4, 1, 6]))[0].tolist()
    [-0.0, 0.6666666865348816, 6.0]
    """

    x_zero_point: int = 0
    y_zero_point: int = 0
    output_multiplier: int = 0
    output_exponent: int = 0
    reluish_multiplier: int = 0
    reluish_exponent: int = 0
    clamp: Clamp | None = None

    @classmethod
    def quantized(cls, *, x: Quantization, y: Quantization, dtype: DType = DType.INT8) -> Self:
        """The int8 form; factors in float32 as the reference kernel computes them.

        Args:
            x: per-tensor quantisation of the input.
            y: per-tensor quantisation of the output.
            dtype: of both, int8.

        Raises:
            UnsupportedError: the output's scale is below 1/128 of the input's.
        """
        fine = np.float32(1 / 128) * np.float32(x.scalar_scale)
        output_multiplier, output_exponent = _int16_factor(fine / np.float32(y.scalar_scale))
        reluish_multiplier, reluish_exponent = _int16_factor(fine / np.float32(3 / 32768))
        if output_exponent > 0:
            raise UnsupportedError(
                f"hard_swish: output scale {y.scalar_scale:g} is finer than 1/128 of the input "
                f"scale {x.scalar_scale:g}; it must be at least {float(fine):g}"
            )
        return cls(
            x_zero_point=x.scalar_zero_point,
            y_zero_point=y.scalar_zero_point,
            output_multiplier=output_multiplier,
            output_exponent=output_exponent,
            reluish_multiplier=reluish_multiplier,
            reluish_exponent=reluish_exponent,
            clamp=dtype.limits,
        )

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The type of `x`."""
        x = _unary(inputs[0], DType.INT8, DType.FLOAT32)
        require_clamp(self.clamp, x.dtype)
        return (x,)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The values."""
        x = given(inputs[0])
        if x.dtype.kind == "f":
            gate = clamped(x + np.float32(3), (0.0, 6.0))
            return (clamped(x * gate / np.float32(6), self.clamp),)
        fine = (x.astype(np.int64) - self.x_zero_point) << 7
        scaled = _doubling_high_mul_s16(fine, self.output_multiplier)
        # The gate: x rescaled so that 3.0 saturates int16, then moved from [-1, 1] to [0, 1].
        # All of a left shift but one bit comes before the product; only the last may saturate.
        left = max(self.reluish_exponent, 0)
        gate = _saturate_s16(fine << max(left - 1, 0))
        gate = _doubling_high_mul_s16(gate, self.reluish_multiplier)
        gate = _saturate_s16(gate << min(left, 1))
        gate = rounding_right_shift(gate, max(-self.reluish_exponent, 0))
        gate = (gate + 2**15) >> 1
        # Truncation towards zero here cancels the bias of the rounding products above.
        product = gate * scaled
        product = np.sign(product) * (np.abs(product) >> 15)
        y = rounding_right_shift(product, -self.output_exponent) + self.y_zero_point
        return (clamped(y, self.clamp).astype(x.dtype),)


def lookup_table(
    function: Callable[[Array], Array], x: Quantization, y: Quantization
) -> tuple[int, ...]:
    """The int8 results of a real function for all int8 inputs, from −128 on.

    Steps are float32, as in the TFLite reference: dequantise, apply, times the reciprocal of the
    output scale, round half away from zero, add the zero point, saturate.

    Args:
        function: float32 array to float32 array.
        x: per-tensor quantisation of the input.
        y: per-tensor quantisation of the output.

    >>> one = Quantization.per_tensor(1.0)
    >>> lookup_table(lambda v: v * np.float32(0.5), one, one)[125:132]
    (-2, -1, -1, 0, 1, 1, 2)
    """
    codes = np.arange(-128, 128) - x.scalar_zero_point
    real = np.float32(x.scalar_scale) * codes.astype(np.float32)
    scaled = function(real) * (np.float32(1) / np.float32(y.scalar_scale))
    rounded = np.trunc(scaled.astype(np.float64) + np.copysign(0.5, scaled))
    return tuple(int(q) for q in np.clip(rounded + y.scalar_zero_point, -128, 127))


def _rounded(function: Callable[[float], float], x: Array) -> Array:
    """A float64 function rounded to float32: what a good mathematics library returns."""
    with np.errstate(over="ignore"):
        return np.array([function(v) for v in x.tolist()]).astype(np.float32)


def _table_sigmoid(x: Array) -> Array:
    return np.float32(1) / (np.float32(1) + _rounded(float_math.exact_exp, -x))


def _table_tanh(x: Array) -> Array:
    return _rounded(float_math.exact_tanh, x)


@cache
def sigmoid_table_s16() -> Array:
    """The upper half of a sigmoid, ``65536 * sigmoid(i / 24) - 32768``, int16, for i in 0…255.

    Kernels interpolate between two entries. As in the reference kernels each entry is raised by
    half of what interpolation falls short of the curve in the middle, and the last is 1 exactly.

    >>> sigmoid_table_s16()[[0, 1, 28, 255]].tolist()
    [0, 683, 17207, 32767]
    """
    # Even entries are those of the table, odd ones lie in the middle between two.
    halves = [
        65536 / (1 + float_math.exact_exp(-i / 2 / SIGMOID_STEPS_PER_UNIT)) - 32768
        for i in range(513)
    ]
    here, middle, there = (np.array(halves[i : i + 511 : 2]) for i in range(3))
    table = np.floor(here + (middle - (here + there) / 2) / 2 + 0.5)
    table[255] = 32767
    result: Array = table.astype(np.int16)
    result.setflags(write=False)
    return result


@dataclass(frozen=True)
class _Curve(Operator):
    """What sigmoid and tanh share: a table for int8, interpolation for int16."""

    table: tuple[int, ...] | None = field(default=None, repr=False)
    multiplier: int = 0
    right_shift: int = 0

    @classmethod
    def _quantized(
        cls,
        function: Callable[[Array], Array],
        shifts: tuple[int, ...],
        x: Quantization,
        y: Quantization,
        dtype: DType,
    ) -> Self:
        if dtype == DType.INT8:
            return cls(table=lookup_table(function, x, y))
        zero_points = (x.scalar_zero_point, y.scalar_zero_point)
        if zero_points != (0, 0) or near_power_of_two(y.scalar_scale) != -15:
            raise UnsupportedError(
                f"{cls.name}: int16 needs zero points 0 and output scale 1/32768, "
                f"got zero points {zero_points} and output scale {y.scalar_scale:g}"
            )
        exponent = near_power_of_two(x.scalar_scale)
        if exponent is not None and exponent + 12 in shifts:
            return cls(multiplier=3 << (exponent + 12))
        factor, right_shift = x.scalar_scale * 4096.0 * 3.0, 0
        while factor <= 32767.0 / 2.0 and right_shift <= 30:
            factor, right_shift = factor * 2, right_shift + 1
        if factor >= 2**16:
            raise UnsupportedError(
                f"{cls.name}: int16 input scale {x.scalar_scale:g} overflows, must be below 5.33"
            )
        return cls(multiplier=int(factor), right_shift=right_shift)

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The type of `x`."""
        x = _unary(inputs[0], DType.INT8, DType.INT16, DType.FLOAT32)
        if x.dtype == DType.INT8:
            table = self.table
            require(table is not None and len(table) == 256, "int8 needs a table of 256 entries")
            require(all(-128 <= q <= 127 for q in given(table)), "table does not fit int8")
        else:
            require(self.table is None, f"{x.dtype} takes no table")
        if x.dtype == DType.INT16:
            require(0 <= self.right_shift <= 31, f"right_shift {self.right_shift} is not 0…31")
            # A shift adds its half to the product first: both must fit int32.
            largest = 2**16 - 1 if self.right_shift == 0 else 2**15 - 1
            require(
                0 < self.multiplier <= largest,
                f"multiplier {self.multiplier} is not 1…{largest}",
            )
        return (x,)

    def _reference(
        self, x: Array, real: Callable[[Array], Array], interpolated: Callable[[Int64], Int64]
    ) -> tuple[Array, ...]:
        if x.dtype.kind == "f":
            return (real(x),)
        if self.table is not None:
            return (np.array(self.table, np.int8)[x.astype(np.intp) + 128],)
        half = (1 << self.right_shift) >> 1
        scaled = (x.astype(np.int64) * self.multiplier + half) >> self.right_shift
        return (interpolated(scaled).astype(np.int16),)


def _interpolate(magnitude: Int64, bits: int, beyond: int) -> Int64:
    """The table at ``magnitude / 2**bits``, with `bits` more bits; `beyond` past its end."""
    table = sigmoid_table_s16().astype(np.int64)
    index = np.minimum(magnitude >> bits, 254)
    fraction = magnitude & ((1 << bits) - 1)
    inside = (table[index] << bits) + fraction * (table[index + 1] - table[index])
    return np.where(magnitude >> bits >= 255, beyond << bits, inside)


def _sigmoid_s16(scaled: Int64) -> Int64:
    """sigmoid(scaled / (24 * 2**9)) in 15 bits; the upper half of the curve is in the table."""
    above = _interpolate(np.abs(scaled), 9, 32766)
    return 16384 + (np.where(scaled >= 0, above + 512, 511 - above) >> 10)


def _tanh_s16(scaled: Int64) -> Int64:
    """tanh(scaled / (24 * 2**9)) in 15 bits, by ``tanh(x) = 2 * sigmoid(2 * x) - 1``."""
    above = _interpolate(np.abs(scaled), 8, 32767)
    return np.where(scaled >= 0, above + 128, 127 - above) >> 8


@operator("sigmoid", inputs="x", in_place=(0,))
@dataclass(frozen=True)
class Sigmoid(_Curve):
    """``1 / (1 + exp(-x))``.

    Attributes:
        table: int8 result by int8 input, from −128 on; None for other dtypes.
        multiplier, right_shift: int16: rescale the input to steps of 1/12288, halves upwards.

    >>> Sigmoid().reference(np.float32([0, 100]))[0].tolist()
    [0.5, 1.0]
    """

    @classmethod
    def quantized(cls, *, x: Quantization, y: Quantization, dtype: DType = DType.INT8) -> Self:
        """The integer form.

        Args:
            x: per-tensor quantisation of the input.
            y: per-tensor quantisation of the output; int16 needs scale 1/32768, zero point 0.
            dtype: of both, int8 or int16.

        Raises:
            UnsupportedError: int16 with zero points, another output scale, or too coarse an input.
        """
        return cls._quantized(_table_sigmoid, (0,), x, y, dtype)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The values."""
        return self._reference(given(inputs[0]), float_math.sigmoid, _sigmoid_s16)


@operator("tanh", inputs="x", in_place=(0,))
@dataclass(frozen=True)
class Tanh(_Curve):
    """Hyperbolic tangent.

    Attributes:
        table: int8 result by int8 input, from −128 on; None for other dtypes.
        multiplier, right_shift: int16: rescale the input to steps of 1/12288, halves upwards.

    >>> Tanh().reference(np.float32([0, 100]))[0].tolist()
    [0.0, 1.0]
    """

    @classmethod
    def quantized(cls, *, x: Quantization, y: Quantization, dtype: DType = DType.INT8) -> Self:
        """The integer form; arguments and errors as for :meth:`Sigmoid.quantized`."""
        return cls._quantized(_table_tanh, (0, 1), x, y, dtype)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The values."""
        return self._reference(given(inputs[0]), float_math.tanh, _tanh_s16)
