"""Requantisation in torch: twins of :mod:`edgekit.program.fixed_point`, equal to the bit.

Everything is int64, whose products and sums wrap in torch as they do in NumPy; the one rounding in
floating point, ``float64``, consists of single IEEE operations. Only divisions need care: torch
turns a division by a number, or by a tensor of one element that lies on the host, into a product
with its inverse. Divisors are therefore tensors on the device of what they divide.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgekit.program.fixed_point import (
    FLOAT64_ACCUMULATOR_LIMIT,
    FLOAT64_RESULT_LIMIT,
    Requant,
    reduced_multiplier,
)
from edgekit.program.operators.elementwise import Sum
from edgekit.program.operators.rules import Clamp


def wrap_int32(x: Tensor) -> Tensor:
    """Two's complement wrap to 32 bits of int64.

    >>> wrap_int32(torch.tensor([2**31, -(2**31) - 1])).tolist()
    [-2147483648, 2147483647]
    """
    return x.int().long()


def doubling_high_mul(a: Tensor, b: Tensor) -> Tensor:
    """High 32 bits of ``2·a·b``, rounded to nearest, ties towards +∞; int32 a, b in 0…2³¹ − 1.

    What C writes as a truncating division of a nudged product is one shift: it rounds down, the
    same for both signs. Only two operands of −2³¹, which are no multipliers, would saturate.
    """
    return (a * b).add_(1 << 30).bitwise_right_shift_(31)


def rounding_right_shift(x: Tensor, exponent: Tensor) -> Tensor:
    """``x / 2**exponent`` rounded to nearest, ties away from zero; exponent in 0…31.

    >>> rounding_right_shift(torch.tensor([5, -5, 6, -6]), torch.tensor(2)).tolist()
    [1, -1, 2, -2]
    """
    half = (torch.ones_like(exponent) << exponent) >> 1
    # −1 for negative numbers, so that their ties round down; 0 where nothing is shifted.
    nudge = (x >> 63).bitwise_and_(-(exponent > 0).long())
    return nudge.add_(x).add_(half).bitwise_right_shift_(exponent)


def requantized(requant: Requant, acc: Tensor) -> Tensor:
    """``requant.apply(acc)``; per-channel factors run along the last axis.

    Args:
        requant: the factors.
        acc: int64; for ``double`` and ``single`` rounding within int32.

    >>> requantized(Requant.from_real([0.25], "double"), torch.tensor([5, 6, -6])).tolist()
    [2, 2, -2]
    """
    multipliers = np.array(requant.multiplier, np.int64)
    if requant.rounding == "float64":
        factors = np.ldexp(multipliers.astype(np.float64), np.array(requant.shift) - 53)
        return _in_float64(acc, torch.as_tensor(factors, device=acc.device))
    if requant.rounding == "wide":
        multipliers = reduced_multiplier(multipliers)
    multiplier = torch.as_tensor(multipliers, device=acc.device)
    shift = torch.tensor(requant.shift, device=acc.device)
    if requant.rounding == "double":
        if max(requant.shift) > 0:
            acc = wrap_int32(acc << shift.clamp(min=0))
        return rounding_right_shift(doubling_high_mul(acc, multiplier), (-shift).clamp(min=0))
    total = (15 if requant.rounding == "wide" else 31) - shift
    return wrap_int32((acc * multiplier + (torch.ones_like(total) << (total - 1))) >> total)


def _in_float64(acc: Tensor, factor: Tensor) -> Tensor:
    most = FLOAT64_ACCUMULATOR_LIMIT
    product = acc.clamp(-most, most).double() * factor
    whole = product.trunc()
    # The difference is exact; adding one half to the product would not be.
    up = (product - whole).abs() >= 0.5
    whole = whole + torch.where(up, product.sign(), torch.zeros_like(product))
    return whole.clamp(-FLOAT64_RESULT_LIMIT, FLOAT64_RESULT_LIMIT).long()


def clamped(y: Tensor, clamp: Clamp | None) -> Tensor:
    """``min(max(y, low), high)`` of integers."""
    return y if clamp is None else y.clamp(int(clamp[0]), int(clamp[1]))


def added(terms: Sum, a: Tensor, b: Tensor, sign: int = 1) -> Tensor:
    """``terms.apply(a, b, sign)`` of integers that broadcast, int64."""
    left = requantized(terms.a, wrap_int32((a.long() - terms.a_zero_point) << terms.left_shift))
    right = requantized(terms.b, wrap_int32((b.long() - terms.b_zero_point) << terms.left_shift))
    y = requantized(terms.y, wrap_int32(left + sign * right)) + terms.y_zero_point
    return clamped(y, terms.clamp)


def divided(x: Tensor, divisor: float) -> Tensor:
    """``x / divisor``, rounded once in the dtype of `x`."""
    return x / x.new_full((1,), divisor)


def rounded_away(x: Tensor) -> Tensor:
    """float64 plus one half away from zero, truncated: to nearest where |x| is below 2⁵¹."""
    return torch.trunc(x + torch.copysign(x.new_full((1,), 0.5), x))
