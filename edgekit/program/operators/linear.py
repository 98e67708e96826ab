"""Matrix products: a fully connected layer, and the product of two computed matrices.

Their integer meaning is the TFLite 8-bit specification's, with int16 activations as in its 16x8
scheme; see :mod:`edgekit.program.operators.accumulator` for what happens behind the sum. Every sum
runs over k in ascending order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.program.fixed_point import Activation, Requant, activation_clamp
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.accumulator import (
    CONVOLUTION_ROUNDING,
    FULLY_CONNECTED_ROUNDING,
    MAX_TERMS_INT8,
    accumulate,
    finish,
    operand,
    require_bias,
    require_integer_fields,
    require_symmetric,
    require_weighted_sum,
    weight_factors,
)
from edgekit.program.operators.base import Operator, operator, require, require_dtype, require_rank
from edgekit.program.operators.coding import Coding, require_coded
from edgekit.program.operators.rules import Clamp, given

MAX_RANK = 5
"""Most axes that a product of two computed matrices has."""

MAX_TERMS = {DType.INT8: (2**31 - 1) // 255**2, DType.INT16: 2**23}
"""Longest sums of products of two computed integers, less their zero points: those of int8 must fit
int32, those of int16 the exact integers of float64."""


def _require_columns(x: TensorType, w: TensorType) -> tuple[int, int]:
    """Outputs and terms of w[O,K], where x[...,K] fits it."""
    require_rank(w, "w", 2)
    outputs, terms = w.shape
    require(
        len(x.shape) >= 1 and x.shape[-1] == terms,
        f"x has shape {list(x.shape)}, its last extent must be the {terms} columns of w",
    )
    require(outputs >= 1 and x.size >= 1, "x and w must not be empty")
    return outputs, terms


def _sums(x: Array, zero_point: int, weights: Array) -> Array:
    """``Σ_k (x[..., k] - zero_point)·weights[o, k]``."""
    values = operand(x, zero_point)
    acc = np.zeros((*x.shape[:-1], 1, weights.shape[0]), values.dtype)
    accumulate(acc, values[..., np.newaxis, :], weights[np.newaxis])
    return acc.reshape(*x.shape[:-1], weights.shape[0])


@operator("fully_connected", inputs="x w bias? factors?")
@dataclass(frozen=True, kw_only=True)
class FullyConnected(Operator):
    """``y[..., o] = Σ_k x[..., k]·w[o, k] + bias[o]``; y[...,O] from x[...,K], w[O,K], bias[O].

    Attributes:
        x_zero_point, y_zero_point: integers that mean 0; 0 for float32 and int16.
        requant: factor from accumulator to output, per tensor or per output; None for float32.
        clamp: smallest and largest output; integers, or floats (either may be infinite), or None.
        coding: of the weights, see :mod:`~edgekit.program.operators.coding`; None for plain ones.

    >>> x, w = TensorType((1, 6), DType.FLOAT32), TensorType((4, 6), DType.FLOAT32)
    >>> FullyConnected().infer(x, w)[0].shape
    (1, 4)
    """

    x_zero_point: int = 0
    requant: Requant | None = None
    y_zero_point: int = 0
    clamp: Clamp | None = None
    coding: Coding | None = None

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y[...,O]."""
        x, w, (bias, factors) = given(inputs[0]), given(inputs[1]), (*inputs[2:], None, None)[:2]
        outputs, terms = _require_columns(x, w)
        require_weighted_sum(
            x,
            w,
            bias,
            outputs=outputs,
            terms=terms,
            zero_points=(self.x_zero_point, self.y_zero_point),
            requant=self.requant,
            clamp=self.clamp,
            roundings=FULLY_CONNECTED_ROUNDING,
            coding=self.coding,
            factors=factors,
        )
        return (TensorType((*x.shape[:-1], outputs), x.dtype),)

    def weight_rows(self, w: Array) -> Array:
        """Weights [O,K], in the order of the sum."""
        return w

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """Exact value; see :mod:`~edgekit.program.operators.accumulator`."""
        x, w, (bias, factors) = given(inputs[0]), given(inputs[1]), (*inputs[2:], None, None)[:2]
        weights = operand(w) if self.coding is None else self.coding.scaled(w, factors)
        acc = _sums(x, self.x_zero_point, weights)
        y = finish(
            acc,
            bias,
            DType(x.dtype.name),
            self.requant,
            self.y_zero_point,
            self.clamp,
            self.coding,
        )
        return (y,)

    def macs(self, *inputs: TensorType | None) -> int:
        """Products."""
        x, w = given(inputs[0]), given(inputs[1])
        return x.size * w.shape[0]

    @classmethod
    def quantized(
        cls,
        *,
        x: Quantization,
        w: Quantization,
        y: Quantization,
        dtype: DType = DType.INT8,
        activation: Activation = "none",
        coding: Coding | None = None,
    ) -> FullyConnected:
        """The integer operator, as LiteRT prepares FULLY_CONNECTED.

        Args:
            x: per-tensor quantisation of the input.
            w: quantisation of the weights, symmetric, per tensor or along axis 0.
            y: per-tensor quantisation of the output.
            dtype: of x and y, int8 or int16.
            activation: fused.
            coding: the field; the scales of `w` are then those of its integers times factors.

        Raises:
            OperatorError: the weights have a zero point.
        """
        require_symmetric(w)
        return cls(
            x_zero_point=x.scalar_zero_point,
            requant=Requant.from_real(weight_factors(x, w, y), FULLY_CONNECTED_ROUNDING[dtype]),
            y_zero_point=y.scalar_zero_point,
            clamp=activation_clamp(activation, y.scalar_scale, y.scalar_zero_point, dtype.limits),
            coding=coding,
        )


@operator("dynamic_fully_connected", inputs="x x_scale w w_scale bias? factors?")
@dataclass(frozen=True, kw_only=True)
class DynamicFullyConnected(Operator):
    """A fully connected layer whose input brings a scale per row; int8 in, float32 out.

    ::

        y[..., o] = float32(total) * (x_scale[...] * w_scale[o]) + bias[o]

    ``total = Σ_k x[..., k]·w[o, k]`` is exact, with the factors of coded weights where there are
    any; every conversion, product and sum in float32 is rounded once. x[...,K] and x_scale[...,1]
    are what ``dynamic_quantize`` gives.

    Inputs: w[O,K] int8, or coded; w_scale float32 [O] or [1]; bias float32 [O].

    Attributes:
        coding: of the weights, see :mod:`~edgekit.program.operators.coding`; None for int8.

    >>> unit = DynamicFullyConnected()
    >>> x, scale = np.int8([[2, -3]]), np.float32([[0.5]])
    >>> unit.reference(x, scale, np.int8([[1, 1], [4, 0]]), np.float32([0.25]), None)[0].tolist()
    [[-0.125, 1.0]]
    """

    coding: Coding | None = None

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y[...,O], float32."""
        x, x_scale, w, w_scale = (given(i) for i in inputs[:4])
        bias, factors = (*inputs[4:], None, None)[:2]
        outputs, terms = _require_columns(x, w)
        require_dtype(x, "x", DType.INT8)
        if self.coding is not None:
            require_coded(self.coding, x, w, factors, outputs=outputs, terms=terms)
        else:
            require_dtype(w, "w", DType.INT8)
            require(factors is None, "factors are for coded weights, must be absent")
            most = MAX_TERMS_INT8
            require(terms <= most, f"{terms} products may overflow int32, must be {most} at most")
        wanted = TensorType((*x.shape[:-1], 1), DType.FLOAT32)
        require(x_scale == wanted, f"x_scale is {x_scale}, must be {wanted}")
        require_dtype(w_scale, "w_scale", DType.FLOAT32)
        require(
            w_scale.shape in ((1,), (outputs,)),
            f"w_scale has shape {list(w_scale.shape)}, must be [1] or [{outputs}]",
        )
        require_bias(bias, DType.FLOAT32, outputs)
        return (TensorType((*x.shape[:-1], outputs), DType.FLOAT32),)

    def weight_rows(self, w: Array) -> Array:
        """Weights [O,K], in the order of the sum."""
        return w

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The reals."""
        x, x_scale, w, w_scale = (given(i) for i in inputs[:4])
        bias, factors = (*inputs[4:], None, None)[:2]
        weights = operand(w) if self.coding is None else self.coding.scaled(w, factors)
        # The total is exact in float64, so this is its one rounding.
        total = _sums(x, 0, weights).astype(np.float32)
        y = total * (x_scale * w_scale)
        return (y if bias is None else y + bias,)

    def macs(self, *inputs: TensorType | None) -> int:
        """Products."""
        x, w = given(inputs[0]), given(inputs[2])
        return x.size * w.shape[0]


@operator("batch_matmul", inputs="a b")
@dataclass(frozen=True, kw_only=True)
class BatchMatMul(Operator):
    """``y[..., m, n] = Σ_k a[..., m, k]·b[..., k, n]``, leading axes broadcast as NumPy does.

    Both operands have the same dtype: int8, int16 or float32.

    Attributes:
        transpose_b: b is [...,N,K] instead of [...,K,N].
        a_zero_point, b_zero_point, y_zero_point: integers that mean 0; 0 for float32 and int16.
        requant: one factor from accumulator to output; None for float32.
        clamp: smallest and largest output; integers, or floats (either may be infinite), or None.

    >>> a, b = TensorType((2, 1, 3, 4), DType.FLOAT32), TensorType((5, 4, 6), DType.FLOAT32)
    >>> BatchMatMul().infer(a, b)[0].shape
    (2, 5, 3, 6)
    """

    transpose_b: bool = False
    a_zero_point: int = 0
    b_zero_point: int = 0
    requant: Requant | None = None
    y_zero_point: int = 0
    clamp: Clamp | None = None

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y[...,M,N]."""
        a, b = given(inputs[0]), given(inputs[1])
        require_dtype(a, "a", DType.INT8, DType.INT16, DType.FLOAT32)
        require_dtype(b, "b", a.dtype)
        ranks = (len(a.shape), len(b.shape))
        require(
            min(ranks) >= 2 and max(ranks) <= MAX_RANK,
            f"a and b have ranks {ranks}, must have ranks from 2 to {MAX_RANK}",
        )
        require(a.size >= 1 and b.size >= 1, "a and b must not be empty")
        rows, terms = a.shape[-2:]
        other, columns = b.shape[:-3:-1] if self.transpose_b else b.shape[-2:]
        require(
            terms == other, f"a sums over {terms} columns, b over {other} rows, must be as many"
        )
        try:
            batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError:
            require(
                False,
                f"the leading axes of {list(a.shape)} and {list(b.shape)} do not broadcast, "
                "each pair must be equal or hold a 1",
            )
        require_integer_fields(
            a.dtype,
            (self.a_zero_point, self.b_zero_point, self.y_zero_point),
            self.requant,
            self.clamp,
            CONVOLUTION_ROUNDING,
        )
        require(
            self.requant is None or len(self.requant.multiplier) == 1,
            "requant has several factors, must have one",
        )
        most = MAX_TERMS.get(a.dtype, terms)
        require(terms <= most, f"{terms} products may overflow, must be {most} at most")
        return (TensorType((*batch, rows, columns), a.dtype),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """Exact value; see :mod:`~edgekit.program.operators.accumulator`."""
        a, b = given(inputs[0]), given(inputs[1])
        left, right = operand(a, self.a_zero_point), operand(b, self.b_zero_point)
        if self.transpose_b:
            right = right.swapaxes(-1, -2)
        if left.dtype == np.float32:
            batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
            acc = np.zeros((*batch, left.shape[-2], right.shape[-1]), np.float32)
            for k in range(left.shape[-1]):
                acc += left[..., :, k, np.newaxis] * right[..., np.newaxis, k, :]
        else:
            acc = left @ right
        dtype = DType(a.dtype.name)
        return (finish(acc, None, dtype, self.requant, self.y_zero_point, self.clamp),)

    def macs(self, *inputs: TensorType | None) -> int:
        """Products."""
        a = given(inputs[0])
        return self.infer(*inputs)[0].size * a.shape[-1]

    @classmethod
    def quantized(
        cls,
        *,
        a: Quantization,
        b: Quantization,
        y: Quantization,
        dtype: DType = DType.INT8,
        transpose_b: bool = False,
    ) -> BatchMatMul:
        """The integer operator, as LiteRT prepares BATCH_MATMUL.

        Args:
            a: per-tensor quantisation of the first operand.
            b: per-tensor quantisation of the second operand.
            y: per-tensor quantisation of the output.
            dtype: of all three, int8 or int16.
            transpose_b: the field.
        """
        # LiteRT multiplies these two scales in float32, those of weighted sums in float64.
        product = float(np.float32(a.scalar_scale) * np.float32(b.scalar_scale))
        factor = product / y.scalar_scale
        return cls(
            transpose_b=transpose_b,
            a_zero_point=a.scalar_zero_point,
            b_zero_point=b.scalar_zero_point,
            requant=Requant.from_real([factor], CONVOLUTION_ROUNDING[dtype]),
            y_zero_point=y.scalar_zero_point,
            clamp=dtype.limits,
        )
