"""Rounding to the levels of an element in torch; what NumPy's ``nearest_integers`` gives, exactly.

:meth:`edgekit.formats.Element.nearest_integers` searches a table, which suits any format and no
training loop. The formats that there are have arithmetic: a few element-wise operations, nothing
that depends on data, so that ``torch.compile`` keeps one graph.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from edgekit.formats import Element

Nearest = Callable[[Tensor], Tensor]
"""From float32 numbers in units of the integers to the integers, as float32."""

_EXPONENT = 0x7F80_0000
"""The exponent's bits in a float32."""

_BELOW_HALF = 0x003F_FFFF
"""A float32's mantissa of one half, less one: added, it carries into the exponent only from above
the middle between two powers of two."""


def nearest(element: Element) -> Nearest:
    """The function that rounds to an element's levels, saturating; NaN stays NaN or is undefined.

    Of an element that is ``narrow`` the most negative level is left out, as weights do.

    >>> from edgekit.formats import ELEMENTS
    >>> nearest(ELEMENTS["fp4-e2m1"])(torch.tensor([0.5, 5.0, 7.0, -99.0])).tolist()
    [0.0, 4.0, 8.0, -12.0]
    """
    low, high = float(element.minimum), float(element.maximum)
    levels = element.levels
    # Partial applications of functions with a name: a module that holds one can be pickled.
    if len(levels) == levels[-1] - levels[0] + 1:
        return partial(_consecutive, low=low, high=high)
    if levels == (-1, 1):
        return _sign
    if 0 not in levels:
        return partial(_power_of_two, high=high)
    # Levels are 1 apart up to a power of two; that many steps has the range between two powers.
    first_gap = next(level for level in levels if level > 0 and level + 1 not in levels)
    return partial(_minifloat, high=high, unit=2.0 / first_gap)


def _consecutive(y: Tensor, *, low: float, high: float) -> Tensor:
    return y.round().clamp_(low, high)


def _sign(y: Tensor) -> Tensor:
    # Adding 0 makes 0 of -0, which is not negative.
    return torch.copysign(y.new_ones(()), y + 0.0)


def _power_of_two(y: Tensor, *, high: float) -> Tensor:
    """±2**e from ±1 to ±`high`; the middle between two goes to the smaller, 0 to 1."""
    bits = y.abs().clamp_(1.0, high).view(torch.int32)
    magnitude = bits.add_(_BELOW_HALF).bitwise_and_(_EXPONENT).view(torch.float32)
    return torch.copysign(magnitude, y + 0.0)


def _minifloat(y: Tensor, *, high: float, unit: float) -> Tensor:
    """Multiples of `unit` times the power of two below, at least of 1; even on ties."""
    y = y.clamp(-high, high)
    step = y.view(torch.int32).bitwise_and(_EXPONENT).view(torch.float32)
    step = step.mul_(unit).clamp_(min=1.0)
    # Both are powers of two times y: exact, so that only round() rounds.
    return y.div_(step).round_().mul_(step)
