"""What all weighted sums share: which dtypes go together, and how an accumulator becomes an output.

An integer sum is requantised, moved by the output's zero point and clamped::

    y = clamp(requant(Σ (x − x_zero_point)·w + bias) + y_zero_point)

=========  =======  ==============  ===========  ========================================
x and y    w        bias            accumulator  rounding of `Requant`
=========  =======  ==============  ===========  ========================================
int8       int8     int32           int32        ``double``; fully connected: ``float64``
int16      int8     int64           int64        ``wide``; fully connected: ``float64``
float32    float32  float32         float32      no `Requant`
=========  =======  ==============  ===========  ========================================

The roundings are those of LiteRT 2.3's reference kernels, which the tests measure. Additions of the
bias and of the zero point wrap in two's complement, as C does through unsigned integers; the sum of
products cannot overflow, because the shape rules bound its length.

A float32 sum starts at 0, adds its products one by one in the order that the operator states, every
product and every sum rounded on its own, then adds the bias, then clamps. A product that would meet
padding is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.program.fixed_point import Requant, Rounding, wrap_int32
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.base import require, require_dtype
from edgekit.program.operators.coding import Coding, require_coded
from edgekit.program.operators.rules import Clamp, clamped, require_clamp

BIAS_DTYPE = {DType.INT8: DType.INT32, DType.INT16: DType.INT64, DType.FLOAT32: DType.FLOAT32}
"""Dtype of the bias by dtype of the input."""

Roundings = Mapping[DType, Rounding]

CONVOLUTION_ROUNDING: Roundings = {DType.INT8: "double", DType.INT16: "wide"}
"""How convolutions and the product of two computed matrices round."""

FULLY_CONNECTED_ROUNDING: Roundings = {DType.INT8: "float64", DType.INT16: "float64"}
"""How a fully connected layer rounds."""

CODED_CONVOLUTION_ROUNDING: Mapping[DType, Rounding] = {
    DType.INT32: "single",
    DType.INT64: "float64",
}
"""How convolutions with coded weights round, by accumulator. Weights of few bits have large
factors, where rounding twice would lean to one side; no foreign reference asks for it here."""

MAX_TERMS_INT8 = (2**31 - 1) // (255 * 128)
"""How many products of an int8 input, less its zero point, and an int8 weight fit int32."""


def require_weighted_sum(
    x: TensorType,
    w: TensorType,
    bias: TensorType | None,
    *,
    outputs: int,
    terms: int,
    zero_points: tuple[int, int],
    requant: Requant | None,
    clamp: Clamp | None,
    roundings: Roundings,
    coding: Coding | None = None,
    factors: TensorType | None = None,
) -> None:
    """Refuse dtypes, a bias or integer fields that do not go together.

    Args:
        x: input of the operator.
        w: its weights.
        bias: its bias.
        outputs: number of output channels.
        terms: number of products in one sum.
        zero_points: fields of the operator: of the input, of the output.
        requant: field of the operator.
        clamp: field of the operator.
        roundings: what the operator's requantisation must round like.
        coding: field of the operator, None for plain weights.
        factors: of the groups of coded weights.

    Raises:
        OperatorError: says what would be right.
    """
    if coding is not None:
        require_coded(coding, x, w, factors, outputs=outputs, terms=terms)
        require_bias(bias, coding.accumulator, outputs)
        roundings = coded_roundings(coding, roundings)
    else:
        require_dtype(x, "x", *BIAS_DTYPE)
        require_dtype(w, "w", DType.INT8 if x.dtype.is_integer else DType.FLOAT32)
        require(factors is None, "factors are for coded weights, must be absent")
        require_bias(bias, BIAS_DTYPE[x.dtype], outputs)
    require(terms >= 1, "the sum has no terms")
    require_integer_fields(x.dtype, zero_points, requant, clamp, roundings)
    if requant is not None:
        count = len(requant.multiplier)
        require(count in (1, outputs), f"requant has {count} factors, must have 1 or {outputs}")
    require(
        x.dtype is not DType.INT8 or coding is not None or terms <= MAX_TERMS_INT8,
        f"{terms} products may overflow int32, must be {MAX_TERMS_INT8} at most",
    )


def require_bias(bias: TensorType | None, dtype: DType, outputs: int) -> None:
    """Refuse a bias of another dtype or shape; None passes."""
    if bias is not None:
        require_dtype(bias, "bias", dtype)
        require(bias.shape == (outputs,), f"bias has shape {list(bias.shape)}, must be [{outputs}]")


def coded_roundings(coding: Coding | None, roundings: Roundings) -> Roundings:
    """How an operator rounds, whose roundings for plain weights are given.

    >>> coded_roundings(Coding("int4"), CONVOLUTION_ROUNDING)[DType.INT8]
    'single'
    >>> coded_roundings(Coding("int4", accumulator=DType.INT64), CONVOLUTION_ROUNDING)[DType.INT8]
    'float64'
    """
    if coding is None or roundings[DType.INT8] == "float64":
        return roundings
    return {DType.INT8: CODED_CONVOLUTION_ROUNDING[coding.accumulator]}


def require_integer_fields(
    dtype: DType,
    zero_points: tuple[int, ...],
    requant: Requant | None,
    clamp: Clamp | None,
    roundings: Roundings,
) -> None:
    """Refuse zero points, a requantisation or a clamp that do not fit `dtype`."""
    require_clamp(clamp, dtype)
    low, high = dtype.limits if dtype is DType.INT8 else (0, 0)
    require(
        all(low <= point <= high for point in zero_points),
        f"the zero points are {list(zero_points)}, must lie in {low}…{high} for {dtype}",
    )
    require(
        (requant is not None) == dtype.is_integer,
        f"requant must be {'there' if dtype.is_integer else 'None'} for {dtype}",
    )
    if requant is not None:
        require(
            requant.rounding == roundings[dtype],
            f"requant rounds {requant.rounding!r}, must be {roundings[dtype]!r} for {dtype}",
        )


def operand(x: Array, zero_point: int = 0) -> Array:
    """What is multiplied: floats as they are, integers less their zero point.

    Integers come as float64, whose matrix products run in BLAS and are exact below 2⁵³; the longest
    sum of int16 by int8 products that fits memory stays far below.
    """
    return x if x.dtype == np.float32 else x.astype(np.float64) - zero_point


def accumulate(acc: Array, x: Array, w: Array) -> None:
    """Add ``Σ_c x[..., g, c]·w[g, o, c]`` to ``acc[..., g, o]`` in place.

    Float32 sums add their products one after the other in the order of c; integer ones are exact.
    """
    if acc.dtype == np.float32:
        terms, weights = np.moveaxis(x, -1, 0), np.moveaxis(w, -1, 0)
        for column, weight in zip(terms, weights, strict=True):
            acc += column[..., np.newaxis] * weight
        return
    *lead, groups, depth = x.shape
    rows = x.reshape(-1, groups, depth).transpose(1, 0, 2)
    products = rows @ w.transpose(0, 2, 1)
    acc += products.transpose(1, 0, 2).reshape(*lead, groups, w.shape[1])


def finish(
    acc: Array,
    bias: Array | None,
    dtype: DType,
    requant: Requant | None,
    y_zero_point: int,
    clamp: Clamp | None,
    coding: Coding | None = None,
) -> Array:
    """Turn accumulators [..., O] into outputs of `dtype`.

    Args:
        acc: float32 sums, or exact integers in int64 or float64.
        bias: one value per output channel.
        dtype: of the output; it decides the width of the accumulator.
        requant: field of the operator.
        y_zero_point: field of the operator.
        clamp: field of the operator.
        coding: field of the operator; its totals, bounded as they are, do not wrap.
    """
    if requant is None:
        if bias is not None:
            acc = acc + bias
        return clamped(acc, clamp)
    total = acc.astype(np.int64)
    if bias is not None:
        total = total + bias.astype(np.int64)
    if dtype is DType.INT8 and coding is None:
        total = wrap_int32(total)
    moved = wrap_int32(requant.apply(total) + y_zero_point)
    return clamped(moved, clamp).astype(dtype.numpy)


def weight_factors(x: Quantization, w: Quantization, y: Quantization) -> list[float]:
    """Real factors from accumulator to output, one per scale of `w`, in float64."""
    return [x.scalar_scale * scale / y.scalar_scale for scale in w.scale]


def require_symmetric(w: Quantization) -> None:
    """Refuse weights with a zero point."""
    require(not any(w.zero_point), "the zero points of w are not all 0, must be")
