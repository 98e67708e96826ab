"""What weighted sums into spiking neurons share: rules for their inputs, and the sums themselves.

See :mod:`~edgekit.program.operators.spiking_weighted` for what they mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgekit.program.fixed_point import wrap_int32
from edgekit.program.ir import Array, DType, TensorType
from edgekit.program.operators.base import require, require_dtype
from edgekit.program.operators.coding import Coding
from edgekit.program.operators.convolution import Convolution, Pair, Tap
from edgekit.program.operators.rules import require_zero_points

MAX_TERMS = 2**16
"""Most inputs of one sum: kernels keep the numbers of active inputs in 16 bits."""


def require_weights(w: TensorType, coding: Coding | None, *, integers: bool) -> None:
    """Refuse weights of another dtype than the inputs and the coding ask for.

    Args:
        w: the weights.
        coding: field of the operator.
        integers: whether the sum is of integers.
    """
    require(w.size >= 1, f"w has shape {list(w.shape)}, must not be empty")
    if coding is None:
        return
    coding.check()
    require(
        coding.dtype is DType.INT8 and coding.accumulator is DType.INT32,
        f"coding: the levels of {coding.element} in {coding.accumulator} totals, must be levels "
        "that int8 holds in int32",
    )
    require(
        coding.factors == "none",
        f"coding: factors are {coding.factors!r}, must be 'none': a neuron has one scale",
    )
    require(integers, "coding is for integers, must be None for float32")
    require_dtype(w, "w", DType.INT8)


def require_terms(terms: int) -> None:
    """Refuse sums that are too long for the kernels."""
    require(1 <= terms <= MAX_TERMS, f"a sum has {terms} terms, must have 1 to {MAX_TERMS}")


def require_acc(acc: TensorType | None, y: TensorType) -> None:
    """Refuse an accumulator of another type than the result."""
    require(acc is None or acc == y, f"acc is {acc}, must be {y}")


def current_dtype(w: TensorType) -> DType:
    """What a current is in, by the weights."""
    return DType.FLOAT32 if w.dtype is DType.FLOAT32 else DType.INT32


def require_groups(outputs: int, groups: int) -> None:
    """Refuse groups that do not share the outputs evenly."""
    require(
        groups >= 1 and outputs % groups == 0,
        f"groups is {groups}, must divide the {outputs} outputs",
    )


def begun(acc: Array | None, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Where a sum starts: float32 as the module says, integers in int64."""
    if dtype == np.float32:
        zero = np.zeros(shape, np.float32)
        return zero if acc is None else acc + zero
    return np.zeros(shape, np.int64) if acc is None else acc.astype(np.int64)


def added(sums: Array, x: Array, w: Array) -> Array:
    """``sums[n, g, o] + Σ_k x[n, g, k]·w[g, o, k]``, in float32 one product after the other.

    Args:
        sums: float32 or int64, that of the operands.
        x: samples, or truth values of neurons that spike.
        w: finite weights.
    """
    if sums.dtype != np.float32:
        # Exact: a total stays far below 2**53.
        products = x.astype(np.float64).swapaxes(0, 1) @ w.astype(np.float64).swapaxes(1, 2)
        return sums + products.swapaxes(0, 1).astype(np.int64)
    rows = np.ascontiguousarray(w.transpose(2, 0, 1))
    if x.dtype == np.bool_:
        # Products of 0 change no sum: none of them is -0, and weights are finite.
        sums = sums.copy()
        for k in np.flatnonzero(x.any((0, 1))).tolist():
            active = np.nonzero(x[:, :, k])
            sums[active] += rows[k][active[1]]
        return sums
    for k in range(w.shape[2]):
        sums = sums + x[:, :, k, np.newaxis] * rows[k]
    return sums


def finished(sums: Array, shape: tuple[int, ...]) -> Array:
    """The current: integers wrapped into int32."""
    sums = sums.reshape(shape)
    return sums if sums.dtype == np.float32 else wrap_int32(sums).astype(np.int32)


def require_sample(x: TensorType, w: TensorType, zero_point: int, coding: Coding | None) -> None:
    """Refuse dtypes that do not go together, and a zero point that x cannot have."""
    require_dtype(x, "x", DType.INT8, DType.INT16, DType.FLOAT32)
    require_dtype(w, "w", DType.INT8 if x.dtype.is_integer else DType.FLOAT32)
    require_zero_points(x.dtype, x_zero_point=zero_point)
    require_weights(w, coding, integers=x.dtype.is_integer)


def operand(x: Array, zero_point: int) -> Array:
    """What is multiplied: floats as they are, integers less their zero point in int64."""
    return x if x.dtype == np.float32 else x.astype(np.int64) - zero_point


@dataclass(frozen=True, kw_only=True)
class Window(Convolution):
    """The geometry of a convolution alone: stride, padding, dilation."""

    def check(self, x: TensorType, w: TensorType) -> None:
        """Refuse x[N,H,W,I] and w[O,KH,KW,I/groups] of other ranks, and fields out of range."""
        self._require_geometry(x, w)

    def extents(self, x: TensorType, kernel: Pair) -> Pair:
        """How often a window of `kernel` taps fits, down and across."""
        return self._slide(x, kernel)

    def taps(self, kernel: Pair, strided: Pair, dense: Pair) -> Iterator[Tap]:
        """Every kernel position, in order, with the positions that it joins."""
        return self._taps(kernel, strided, dense)
