"""Between reals and integers, and between two quantisations.

``quantize``, ``dequantize`` and ``requantize`` are TFLite's QUANTIZE and DEQUANTIZE.
``binarize`` is the activation of binary networks (Courbariaux et al. 2016, arXiv 1602.02830).
``dynamic_quantize`` is ours: the absmax quantisation of activations in BitNet (Wang et al. 2023,
arXiv 2310.11453; Ma et al. 2024, arXiv 2402.17764), one scale per row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from edgekit.program.fixed_point import Requant, wrap_int32
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.base import Operator, operator, require, require_dtype
from edgekit.program.operators.rules import given, require_fits, require_scalar_requant

QUANTIZE_LIMIT = np.float32(2**24)
"""Quotients are clamped to ± this before they become integers; every int16 lies well inside."""

REQUANTIZE = {
    DType.INT8: (DType.INT8, DType.INT16),
    DType.INT16: (DType.INT8, DType.INT16, DType.INT32),
    DType.INT32: (DType.INT8, DType.INT16),
}
"""Output dtypes of ``requantize`` by input dtype: those that TFLite has."""


def _require_affine(scale: float, zero_point: int, dtype: DType) -> None:
    require(0 < scale < float("inf"), f"scale is {scale}, must be positive and finite")
    require(float(np.float32(scale)) == scale, f"scale {scale!r} is no float32")
    require_fits(zero_point, "zero_point", dtype)


@operator("quantize", inputs="x")
@dataclass(frozen=True)
class Quantize(Operator):
    """``y = round(x / scale) + zero_point``, saturated; float32 to int8 or int16.

    The quotient is float32 and halves round away from zero. NaN, which inputs never hold, gives the
    smallest integer.

    Attributes:
        scale, zero_point: of the output.
        dtype: of the output.

    >>> Quantize(0.5, 3).reference(np.float32([0.25, -0.25, 1e30]))[0].tolist()
    [4, 2, 127]
    """

    scale: float
    zero_point: int
    dtype: DType = DType.INT8

    @classmethod
    def quantized(cls, *, y: Quantization, dtype: DType = DType.INT8) -> Self:
        """From the output's per-tensor quantisation and dtype."""
        return cls(y.scalar_scale, y.scalar_zero_point, dtype)

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The shape of `x`, another dtype."""
        x = given(inputs[0])
        require_dtype(x, "x", DType.FLOAT32)
        require(
            self.dtype in (DType.INT8, DType.INT16), f"y is {self.dtype}, must be int8 or int16"
        )
        _require_affine(self.scale, self.zero_point, self.dtype)
        return (TensorType(x.shape, self.dtype),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The integers."""
        with np.errstate(over="ignore"):
            quotient = given(inputs[0]) / np.float32(self.scale)
        above = np.where(quotient >= -QUANTIZE_LIMIT, quotient, -QUANTIZE_LIMIT)
        inside = np.minimum(above, QUANTIZE_LIMIT).astype(np.float64)
        nearest = np.trunc(inside + np.copysign(0.5, inside)).astype(np.int64)
        y = np.clip(nearest + self.zero_point, *self.dtype.limits)
        return (y.astype(self.dtype.numpy),)


@operator("dequantize", inputs="x")
@dataclass(frozen=True)
class Dequantize(Operator):
    """``y = scale * (x - zero_point)``, int8 or int16 to float32, rounded once.

    Attributes:
        scale, zero_point: of the input.

    >>> Dequantize(0.5, 3).reference(np.int8([4, -128]))[0].tolist()
    [0.5, -65.5]
    """

    scale: float
    zero_point: int

    @classmethod
    def quantized(cls, *, x: Quantization) -> Self:
        """From the input's per-tensor quantisation."""
        return cls(x.scalar_scale, x.scalar_zero_point)

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The shape of `x`, float32."""
        x = given(inputs[0])
        require_dtype(x, "x", DType.INT8, DType.INT16)
        _require_affine(self.scale, self.zero_point, x.dtype)
        return (TensorType(x.shape, DType.FLOAT32),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The reals."""
        difference = given(inputs[0]).astype(np.int32) - np.int32(self.zero_point)
        return (np.float32(self.scale) * difference.astype(np.float32),)


@operator("requantize", inputs="x", in_place=(0,))
@dataclass(frozen=True)
class Requantize(Operator):
    """``y = (x - x_zero_point) * factor + y_zero_point``, saturated; integers to integers.

    Attributes:
        requant: the factor, ratio of the scales.
        x_zero_point, y_zero_point: zero points.
        dtype: of the output.

    >>> one, half = Quantization.per_tensor(1.0, 1), Quantization.per_tensor(0.5, -2)
    >>> Requantize.quantized(x=one, y=half).reference(np.int8([0, 3, 127]))[0].tolist()
    [-4, 2, 127]
    """

    requant: Requant
    x_zero_point: int = 0
    y_zero_point: int = 0
    dtype: DType = DType.INT8

    @classmethod
    def quantized(cls, *, x: Quantization, y: Quantization, dtype: DType = DType.INT8) -> Self:
        """From both per-tensor quantisations; the ratio of the scales is taken in float64.

        Args:
            x: of the input.
            y: of the output.
            dtype: of the output.
        """
        return cls(
            requant=Requant.from_real([x.scalar_scale / y.scalar_scale], "double"),
            x_zero_point=x.scalar_zero_point,
            y_zero_point=y.scalar_zero_point,
            dtype=dtype,
        )

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The shape of `x`, dtype `dtype`."""
        x = given(inputs[0])
        require_dtype(x, "x", *REQUANTIZE)
        allowed = REQUANTIZE[x.dtype]
        require(
            self.dtype in allowed,
            f"y is {self.dtype}, must be {' or '.join(allowed)} where x is {x.dtype}",
        )
        require_scalar_requant(self.requant)
        require_fits(self.x_zero_point, "x_zero_point", x.dtype)
        require_fits(self.y_zero_point, "y_zero_point", self.dtype)
        return (TensorType(x.shape, self.dtype),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The rescaled integers; the difference wraps in int32."""
        x = given(inputs[0]).astype(np.int64)
        y = self.requant.apply(wrap_int32(x - self.x_zero_point)) + self.y_zero_point
        return (np.clip(y, *self.dtype.limits).astype(self.dtype.numpy),)


@operator("binarize", inputs="x", in_place=(0,))
@dataclass(frozen=True)
class Binarize(Operator):
    """``y = x >= x_zero_point ? level : -level``, int8 to int8: the sign, that of zero positive.

    A level above 1 makes the output's scale as much smaller, and with it the steps in which the
    next layer's bias is stored.

    Attributes:
        x_zero_point: of the input; the output has none.
        level: magnitude of the output, 1…127.

    >>> Binarize(3, 64).reference(np.int8([2, 3, 4]))[0].tolist()
    [-64, 64, 64]
    """

    x_zero_point: int = 0
    level: int = 1

    @classmethod
    def quantized(cls, *, x: Quantization, level: int = 1) -> Self:
        """From the input's per-tensor quantisation.

        Args:
            x: of the input.
            level: the field.
        """
        return cls(x.scalar_zero_point, level)

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The type of `x`."""
        x = given(inputs[0])
        require_dtype(x, "x", DType.INT8)
        require_fits(self.x_zero_point, "x_zero_point", x.dtype)
        require(1 <= self.level <= 127, f"level is {self.level}, must be in 1…127")
        return (x,)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The signs, times the level."""
        positive = given(inputs[0]) >= self.x_zero_point
        return (np.where(positive, self.level, -self.level).astype(np.int8),)


@operator("dynamic_quantize", inputs="x", outputs="y scale")
@dataclass(frozen=True)
class DynamicQuantize(Operator):
    """Symmetric int8 with a scale of its own per row, chosen from the row's largest magnitude.

    For each row along the last axis, in float32, one rounding per step::

        absmax = max(floor, max |x|)
        scale  = absmax / 127
        y      = round(min(max(x * (127 / absmax), -127), 127))      halves to even

    The input is x[...,K], the outputs are y[...,K] int8 and scale[...,1] float32. NaN, which inputs
    never hold, does not count for `absmax` and gives −127.

    Attributes:
        floor: smallest `absmax`, positive; rows below it use part of the range, rows of zeros
            give zeros. BitNet's is 1e-5.

    >>> y, scale = DynamicQuantize().reference(np.float32([[1, -2, 0.5]]))
    >>> y.tolist(), scale.tolist()
    ([[64, -127, 32]], [[0.015748031437397003]])
    """

    floor: float = float(np.float32(1e-5))

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """``[..., K]`` to int8 ``[..., K]`` and float32 ``[..., 1]``."""
        x = given(inputs[0])
        require_dtype(x, "x", DType.FLOAT32)
        require(len(x.shape) >= 1 and x.shape[-1] >= 1, "x needs a last axis that is not empty")
        require(1e-30 <= self.floor <= 1e30, f"floor is {self.floor}, must be in 1e-30…1e30")
        return (
            TensorType(x.shape, DType.INT8),
            TensorType((*x.shape[:-1], 1), DType.FLOAT32),
        )

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The codes and the scales."""
        x = given(inputs[0])
        floor, limit = np.float32(self.floor), np.float32(127)
        largest = np.fmax.reduce(np.abs(x), axis=-1, keepdims=True, initial=floor)
        with np.errstate(invalid="ignore"):
            scaled = x * (limit / largest)
        inside = np.minimum(np.where(scaled >= -limit, scaled, -limit), limit)
        return np.rint(inside).astype(np.int8), largest / limit
