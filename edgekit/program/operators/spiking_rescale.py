"""Integers in other steps: membranes that other neurons read as numbers.

A membrane counts in steps of its own, one size per neuron. Added to a current, or multiplied with
weights, it has to count in theirs; a factor per neuron says how much of theirs one of its own is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgekit.program.fixed_point import wrap_int32
from edgekit.program.ir import Array, DType, TensorType
from edgekit.program.operators.base import Operator, operator, require, require_dtype
from edgekit.program.operators.rules import given

MAX_SHIFT = 61
"""Largest shift: product and rounded half together then fit int64."""


@operator("rescale", inputs="u factor acc?", in_place=(0, 2))
@dataclass(frozen=True, kw_only=True)
class Rescale(Operator):
    """``y = acc + u * factor * 2**-shift``, all int32, rounded once.

    ::

        y[n, ...] = acc[n, ...] + ((factor * u[n, ...] + 2**(shift - 1)) >> shift)

    The product is exact in 64 bits, the shift floors: to nearest, halves up. With ``shift = 0``
    nothing is rounded. The result wraps in two's complement; whoever makes a Program sees to it
    that it fits. u, acc and y are [N, ...] of one shape; factor is constant and has one element,
    one for every channel (the last axis) or one for every neuron.

    Attributes:
        shift: bits of the factor behind the point, 0 … 61.

    >>> half = Rescale(shift=30)
    >>> half.reference(np.int32([[5, -5, 4]]), np.int32([1 << 29]))[0].tolist()
    [[3, -2, 2]]
    """

    shift: int

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The type of u."""
        u, factor, acc = given(inputs[0]), given(inputs[1]), (*inputs[2:], None)[0]
        require_dtype(u, "u", DType.INT32)
        require_dtype(factor, "factor", DType.INT32)
        require(
            len(u.shape) >= 2 and u.size >= 1,
            f"u has shape {list(u.shape)}, must be [N, ...] and not empty",
        )
        lengths = sorted({1, u.shape[-1], math.prod(u.shape[1:])})
        require(
            factor.shape in [(length,) for length in lengths],
            f"factor has shape {list(factor.shape)}, must have one element, one for every channel "
            f"or one for every neuron: [n] with n among {lengths}",
        )
        require(acc is None or acc == u, f"acc is {acc}, must be {u} like u")
        require(0 <= self.shift <= MAX_SHIFT, f"shift is {self.shift}, must lie in 0…{MAX_SHIFT}")
        return (u,)

    def constants_problem(self, constants: dict[str, Array]) -> str | None:
        """Factors are constants, not negative."""
        factor = constants.get("factor")
        if factor is None:
            return "factor is computed, must be constant"
        return f"factor holds {factor.min()}, must not be negative" if factor.min() < 0 else None

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The integers in other steps."""
        u, factor, acc = given(inputs[0]), given(inputs[1]), (*inputs[2:], None)[0]
        factor = factor.astype(np.int64)
        if factor.size not in (1, u.shape[-1]):
            factor = factor.reshape(u.shape[1:])
        y = rescaled(u.astype(np.int64), factor, self.shift)
        if acc is not None:
            y = wrap_int32(y) + acc
        return (wrap_int32(y).astype(np.int32),)


def rescaled(value: Array, factor: Array, shift: int) -> Array:
    """``value * factor * 2**-shift``, int64 of int64: to nearest, halves up."""
    product = factor * value
    return product if shift == 0 else (product + (1 << (shift - 1))) >> shift
