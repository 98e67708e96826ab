"""Arrays and small tuples as the nodes of a spiking graph hold them: checked, typed, read-only."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import InvalidModelError

Array = NDArray[Any]
Float32 = NDArray[np.float32]
Shape = tuple[int, ...]

MAX_EXTENT = 2**31 - 1
"""Most of anything that is counted along one axis."""


def float32(values: Any, what: str) -> Float32:
    """A read-only float32 array of finite numbers.

    Args:
        values: anything that NumPy reads as numbers; a torch tensor must be detached.
        what: what messages call it.

    Raises:
        InvalidModelError: no numbers, NaN, infinity, or numbers beyond float32.

    >>> float32([0.5, 1], "beta").tolist()
    [0.5, 1.0]
    """
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidModelError(f"{what} is no array of numbers: {error}") from error
    wrong = ~np.isfinite(array)
    if wrong.any():
        place = [int(index) for index in np.argwhere(wrong)[0]]
        raise InvalidModelError(
            f"{what} at {place} is {np.asarray(values)[tuple(place)]}, must be finite in float32"
        )
    array.flags.writeable = False
    return array


def parameter(values: Any, what: str) -> Float32:
    """As :func:`float32`, with at least one axis and one element: a parameter of neurons.

    Raises:
        InvalidModelError: as there, or an empty array.
    """
    array = float32(values, what)
    if array.size == 0:
        raise InvalidModelError(f"{what} is empty, must have one number or one per neuron")
    return array if array.ndim else array.reshape(1)


def shape_tuple(values: Any, what: str, *, least: int) -> Shape:
    """A tuple of integers in [`least`, 2**31).

    Args:
        values: one integer or a sequence of them.
        what: what messages call it.
        least: smallest legal number.

    Raises:
        InvalidModelError: anything else.

    >>> shape_tuple([3, 3], "kernel", least=1)
    (3, 3)
    """
    given = values if isinstance(values, Sequence | np.ndarray) else (values,)
    try:
        numbers = tuple(operator.index(value) for value in given)
    except TypeError:
        numbers = None
    if numbers is None or not all(least <= number <= MAX_EXTENT for number in numbers):
        raise InvalidModelError(f"{what} is {values!r}, must be whole numbers of at least {least}")
    return numbers


def per_axis(values: Shape, axes: int, what: str) -> Shape:
    """One number for every axis, of one that stands for all or of one each.

    Raises:
        InvalidModelError: another count.

    >>> per_axis((2,), 2, "stride")
    (2, 2)
    """
    if len(values) == 1:
        return values * axes
    if len(values) != axes:
        raise InvalidModelError(f"{what} is {list(values)}, must be one number or {axes}")
    return values


def paddings(values: Shape, axes: int) -> Shape:
    """Padding as ONNX states it: before the first element of every axis, then behind the last.

    Args:
        values: one number for all sides, one per axis for both of its sides, or all `2 * axes`.
        axes: how many.

    Raises:
        InvalidModelError: another count.

    >>> paddings((1, 0), 2), paddings((0, 1), 1)
    ((1, 0, 1, 0), (0, 1))
    """
    if len(values) == 2 * axes:
        return values
    if len(values) not in (1, axes):
        raise InvalidModelError(
            f"padding is {list(values)}, must be 1, {axes} or {2 * axes} numbers"
        )
    return per_axis(values, axes, "padding") * 2
