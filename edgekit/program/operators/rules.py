"""Rules that the operators share: optional inputs, axes, clamps."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from edgekit.program.ir import Array, DType
from edgekit.program.operators.base import require

Clamp = tuple[int, int] | tuple[float, float]
"""Smallest and largest result; integers, or floats of which either may be infinite."""

T = TypeVar("T")


def given(value: T | None) -> T:
    """An input that is not optional."""
    assert value is not None
    return value


def require_axis(axis: int, rank: int) -> None:
    """Refuse an axis outside ``0 <= axis < rank``."""
    require(0 <= axis < rank, f"axis {axis} is outside 0…{rank - 1}")


def clamped(y: Array, clamp: Clamp | None) -> Array:
    """``min(max(y, low), high)`` in the dtype of `y`; NaN stays NaN."""
    if clamp is None:
        return y
    low, high = (y.dtype.type(bound) for bound in clamp)
    y = np.where(y < low, low, y)
    return np.where(y > high, high, y)


def require_clamp(clamp: Clamp | None, dtype: DType) -> None:
    """Refuse an integer clamp that is absent or does not fit, and an empty one."""
    require(clamp is not None or not dtype.is_integer, f"{dtype} needs a clamp")
    if clamp is None:
        return
    require(clamp[0] <= clamp[1], f"clamp {list(clamp)} is empty")
    if dtype.is_integer:
        low, high = dtype.limits
        require(
            all(isinstance(bound, int) and low <= bound <= high for bound in clamp),
            f"clamp {list(clamp)} does not fit {dtype}",
        )
