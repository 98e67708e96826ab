"""Rules that the operators share: optional inputs, axes, clamps, zero points, factors."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from edgekit.program.fixed_point import Requant, Rounding
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


def require_fits(value: int, label: str, dtype: DType) -> None:
    """Refuse a zero point outside the range of `dtype`."""
    low, high = dtype.limits
    require(low <= value <= high, f"{label} {value} does not fit {dtype}")


def require_zero_points(dtype: DType, **points: int) -> None:
    """Refuse zero points that do not fit int8, and any but 0 for int16 and float32.

    Args:
        dtype: of the tensors.
        points: by name of their field.
    """
    for label, value in points.items():
        if dtype is DType.INT8:
            require_fits(value, label, dtype)
        else:
            require(value == 0, f"{label} is {value}, must be 0 for {dtype}")


def require_scalar_requant(
    requant: Requant | None, rounding: Rounding = "double", label: str = "requant"
) -> None:
    """Refuse several factors, and another rounding than the kernels'; None passes."""
    if requant is None:
        return
    count = len(requant.multiplier)
    require(count == 1, f"{label} has {count} factors, must have one")
    require(
        requant.rounding == rounding,
        f"{label} rounds {requant.rounding!r}, must be {rounding!r}",
    )
