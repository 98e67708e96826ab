"""Sum, difference and product of two tensors, with NumPy's broadcasting.

Integers follow the TFLite 8-bit specification and its 16-bit extension: both operands of a sum are
brought to a common finer scale, added, and rescaled; a product is rescaled once. Every rescaling
rounds ``double``. float32 is one IEEE operation, then the clamp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from edgekit.program.fixed_point import (
    Activation,
    Int64,
    Requant,
    activation_clamp,
    float_activation_clamp,
    wrap_int32,
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

MAX_RANK = 5
"""Most axes that broadcasting kernels walk."""

HEADROOM = {DType.INT8: 20, DType.INT16: 15}
"""Bits by which a sum's operands move left first: the sum of two then still fits int32."""


def broadcast(a: TensorType, b: TensorType) -> tuple[int, ...]:
    """NumPy's broadcast shape of two tensors of at most five axes.

    Raises:
        OperatorError: the shapes do not broadcast, or have too many axes.

    >>> broadcast(TensorType((1, 4, 3), DType.INT8), TensorType((4, 1), DType.INT8))
    (1, 4, 3)
    """
    rank = max(len(a.shape), len(b.shape))
    require(rank <= MAX_RANK, f"broadcasting takes at most {MAX_RANK} axes, got {rank}")
    try:
        return np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        require(False, f"a {list(a.shape)} and b {list(b.shape)} do not broadcast")
        raise


def require_pair(a: TensorType | None, b: TensorType | None) -> TensorType:
    """Result type of two operands: one dtype, broadcast shape."""
    a, b = given(a), given(b)
    require_dtype(a, "a", DType.INT8, DType.INT16, DType.FLOAT32)
    require(a.dtype == b.dtype, f"a is {a.dtype} and b {b.dtype}, must be one dtype")
    return TensorType(broadcast(a, b), a.dtype)


@dataclass(frozen=True)
class Sum:
    """Integer parameters of ``y = a ± b`` between three quantisations.

    Attributes:
        a_zero_point, b_zero_point, y_zero_point: zero points.
        left_shift: operands are multiplied by ``2**left_shift`` before rescaling.
        a, b: factors that bring each operand to twice the larger input scale, at most 1/2.
        y: factor that brings the sum to the output scale.
        clamp: bounds of the result, in integers.

    The C twin is ``ek_sum`` in ``ek_sum.h``.

    >>> one = Quantization.per_tensor(1.0)
    >>> Sum.quantized(a=one, b=one, y=one).apply(np.array([1, 127]), np.array([2, 1])).tolist()
    [3, 127]
    """

    a_zero_point: int
    b_zero_point: int
    y_zero_point: int
    left_shift: int
    a: Requant
    b: Requant
    y: Requant
    clamp: tuple[int, int]

    @classmethod
    def quantized(
        cls,
        *,
        a: Quantization,
        b: Quantization,
        y: Quantization,
        dtype: DType = DType.INT8,
        activation: Activation = "none",
    ) -> Self:
        """Parameters as the reference kernels prepare them, in float64 from float32 scales.

        Args:
            a: per-tensor quantisation of the first operand.
            b: per-tensor quantisation of the second operand.
            y: per-tensor quantisation of the result.
            dtype: of all three, int8 or int16.
            activation: fused into the clamp.
        """
        twice_larger = 2 * max(a.scalar_scale, b.scalar_scale)
        left_shift = HEADROOM[dtype]
        return cls(
            a_zero_point=a.scalar_zero_point,
            b_zero_point=b.scalar_zero_point,
            y_zero_point=y.scalar_zero_point,
            left_shift=left_shift,
            a=Requant.from_real([a.scalar_scale / twice_larger], "double"),
            b=Requant.from_real([b.scalar_scale / twice_larger], "double"),
            y=Requant.from_real([twice_larger / (2**left_shift * y.scalar_scale)], "double"),
            clamp=activation_clamp(activation, y.scalar_scale, y.scalar_zero_point, dtype.limits),
        )

    def check(self, dtype: DType) -> None:
        """Refuse parameters that do not fit `dtype` or whose arithmetic would overflow.

        Raises:
            OperatorError: says which.
        """
        for label, value in (
            ("a_zero_point", self.a_zero_point),
            ("b_zero_point", self.b_zero_point),
            ("y_zero_point", self.y_zero_point),
        ):
            require_fits(value, label, dtype)
        require_clamp(self.clamp, dtype)
        for label, factor in (("a", self.a), ("b", self.b), ("y", self.y)):
            require_scalar_requant(factor, label=label)
        require(
            self.left_shift == HEADROOM[dtype],
            f"left_shift is {self.left_shift}, must be {HEADROOM[dtype]} for {dtype}",
        )
        for label, factor in (("a", self.a), ("b", self.b)):
            (multiplier,), (shift,) = factor.multiplier, factor.shift
            require(
                shift < 0 or (shift == 0 and multiplier <= 2**30),
                f"factor {label} is {multiplier} * 2**{shift - 31}, must be at most 1/2",
            )

    def apply(self, a: ArrayLike, b: ArrayLike, sign: Literal[1, -1] = 1) -> Int64:
        """``a + sign * b`` of integer arrays, clamped; broadcasts."""
        scaled_a = self.a.apply(
            wrap_int32((np.asarray(a, np.int64) - self.a_zero_point) << self.left_shift)
        )
        scaled_b = self.b.apply(
            wrap_int32((np.asarray(b, np.int64) - self.b_zero_point) << self.left_shift)
        )
        y = self.y.apply(scaled_a + sign * scaled_b) + self.y_zero_point
        return np.clip(y, *self.clamp)


@dataclass(frozen=True)
class _Addition(Operator):
    """What sum and difference share."""

    quant: Sum | None = None
    clamp: tuple[float, float] | None = None

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """One dtype in and out; NumPy's broadcast shape."""
        y = require_pair(*inputs)
        require(
            (self.quant is not None) == y.dtype.is_integer,
            f"{y.dtype} {'needs' if y.dtype.is_integer else 'takes no'} quant",
        )
        if self.quant is not None:
            require(self.clamp is None, f"{y.dtype} takes its clamp from quant")
            self.quant.check(y.dtype)
        else:
            require_clamp(self.clamp, y.dtype)
        return (y,)

    @classmethod
    def quantized(
        cls,
        *,
        a: Quantization,
        b: Quantization,
        y: Quantization,
        dtype: DType = DType.INT8,
        activation: Activation = "none",
    ) -> Self:
        """The integer form; arguments as for :meth:`Sum.quantized`."""
        return cls(quant=Sum.quantized(a=a, b=b, y=y, dtype=dtype, activation=activation))

    @classmethod
    def float32(cls, activation: Activation = "none") -> Self:
        """The float32 form with a fused activation."""
        return cls(clamp=float_activation_clamp(activation))

    def _reference(
        self, inputs: tuple[Array | None, ...], sign: Literal[1, -1]
    ) -> tuple[Array, ...]:
        a, b = given(inputs[0]), given(inputs[1])
        if self.quant is not None:
            return (self.quant.apply(a, b, sign).astype(a.dtype),)
        return (clamped(np.asarray(a + b if sign > 0 else a - b), self.clamp),)


@operator("add", inputs="a b", in_place=(0, 1))
@dataclass(frozen=True)
class Add(_Addition):
    """``y = a + b``, broadcast.

    Attributes:
        quant: integer parameters; None for float32.
        clamp: float32 bounds of the result; None for none, and for integers.

    >>> Add(clamp=(0.0, 6.0)).reference(np.float32([1, 5, -3]), np.float32([2]))[0].tolist()
    [3.0, 6.0, 0.0]
    """

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The clamped sums."""
        return self._reference(inputs, 1)


@operator("sub", inputs="a b", in_place=(0, 1))
@dataclass(frozen=True)
class Sub(_Addition):
    """``y = a - b``, broadcast.

    Attributes:
        quant: integer parameters; None for float32.
        clamp: float32 bounds of the result; None for none, and for integers.

    >>> Sub().reference(np.float32([1, 5]), np.float32([[2], [3]]))[0].tolist()
    [[-1.0, 3.0], [-2.0, 2.0]]
    """

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The clamped differences."""
        return self._reference(inputs, -1)


@operator("mul", inputs="a b", in_place=(0, 1))
@dataclass(frozen=True)
class Mul(Operator):
    """``y = a * b``, broadcast.

    Attributes:
        a_zero_point, b_zero_point, y_zero_point: zero points; 0 for int16 inputs.
        requant: factor from the product of ``a - a_zero_point`` and ``b - b_zero_point`` to the
            output; None for float32.
        clamp: bounds of the result in units of the output; integers need it.

    >>> half = Quantization.per_tensor(0.5)
    >>> mul = Mul.quantized(a=half, b=half, y=half)
    >>> mul.reference(np.int8([5, -5]), np.int8([3, 3]))[0].tolist()
    [8, -7]
    """

    a_zero_point: int = 0
    b_zero_point: int = 0
    requant: Requant | None = None
    y_zero_point: int = 0
    clamp: Clamp | None = None

    @classmethod
    def quantized(
        cls,
        *,
        a: Quantization,
        b: Quantization,
        y: Quantization,
        dtype: DType = DType.INT8,
        activation: Activation = "none",
    ) -> Self:
        """The integer form, its factor computed in float32 as the reference kernels do.

        Args:
            a: per-tensor quantisation of the first operand.
            b: per-tensor quantisation of the second operand.
            y: per-tensor quantisation of the result.
            dtype: of all three, int8 or int16.
            activation: fused into the clamp.
        """
        factor = (
            np.float32(a.scalar_scale) * np.float32(b.scalar_scale) / np.float32(y.scalar_scale)
        )
        return cls(
            a_zero_point=a.scalar_zero_point,
            b_zero_point=b.scalar_zero_point,
            requant=Requant.from_real([float(factor)], "double"),
            y_zero_point=y.scalar_zero_point,
            clamp=activation_clamp(activation, y.scalar_scale, y.scalar_zero_point, dtype.limits),
        )

    @classmethod
    def float32(cls, activation: Activation = "none") -> Self:
        """The float32 form with a fused activation."""
        return cls(clamp=float_activation_clamp(activation))

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """One dtype in and out; NumPy's broadcast shape."""
        y = require_pair(*inputs)
        require_clamp(self.clamp, y.dtype)
        require(
            (self.requant is not None) == y.dtype.is_integer,
            f"{y.dtype} {'needs' if y.dtype.is_integer else 'takes no'} requant",
        )
        require_scalar_requant(self.requant)
        # The product of the shifted operands must fit int32.
        require_zero_points(y.dtype, a_zero_point=self.a_zero_point, b_zero_point=self.b_zero_point)
        if y.dtype.is_integer:
            require_fits(self.y_zero_point, "y_zero_point", y.dtype)
        return (y,)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The clamped products."""
        a, b = given(inputs[0]), given(inputs[1])
        if self.requant is None:
            return (clamped(np.asarray(a * b), self.clamp),)
        product = (a.astype(np.int64) - self.a_zero_point) * (
            b.astype(np.int64) - self.b_zero_point
        )
        y = self.requant.apply(product) + self.y_zero_point
        return (clamped(y, self.clamp).astype(a.dtype),)
