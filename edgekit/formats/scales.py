"""Rules that choose the scale of weights: what one step of the integers stands for.

A rule takes weights float32[..., n] that share a scale and the range of the integers, and gives
float32[...]. Every operation below is one float32 operation, rounded to nearest, unless it says
otherwise, and none depends on the order of a sum: another implementation with the same steps has
the same bits.

========= ======================================================================================
absmax    max(max(w) / high, max(-w) / -low): the smallest scale at which nothing saturates;
          absmax / high where the range is symmetric
median    the lower median of abs(w): entry (n - 1) // 2 of the ascending n; at least 1e-5
mean      `mean_magnitude` of w; at least 1e-5
unit      1
mse       absmax * f, where f is the one of 1, 63/64, ... 12/64 with the smallest squared error
          of the quantised weights, in float64; the largest of several
========= ======================================================================================

Weights that are all zero take 1 by ``absmax`` and ``mse``, where 0 is a level, and the smallest
normal float32, 2**-126, where it is none (what remains of them is then as small as can be). No
scale is smaller than that.

Source: median and mean with their floor: Nielsen, Schneider-Kamp 2024, "BitNet b1.58 Reloaded",
arXiv 2407.09527. Mean for binary weights: Rastegari et al. 2016, "XNOR-Net", arXiv 1603.05279.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.formats.element import Element

Array = NDArray[Any]
Float32 = NDArray[np.float32]
Rule = Literal["absmax", "median", "mean", "unit", "mse"]

SMALLEST_SCALE = np.float32(2.0**-126)
"""The smallest normal float32: a division by less may overflow, and some processors flush it."""

SMALLEST_MEAN = np.float32(1e-5)
"""The floor of ``median`` and ``mean``."""

SHRINK_STEPS = 64
SHRINK_LEAST = 12
"""``mse`` tries absmax times ``SHRINK_STEPS`` to ``SHRINK_LEAST`` of 64ths."""

_MEAN_BITS = 38
"""Bits of a magnitude in `mean_magnitude`; 14 more than float32 has."""


def absmax_scale(w: Float32, element: Element) -> Float32:
    """Rule ``absmax``; see the module.

    >>> from edgekit.formats import ELEMENTS
    >>> absmax_scale(np.float32([[0.5, -1.4]]), ELEMENTS["int4"]).tolist()
    [0.20000000298023224]
    """
    high = w.max(axis=-1, initial=0) / np.float32(element.maximum)
    low = (-w).max(axis=-1, initial=0) / np.float32(-element.minimum)
    scale = np.maximum(high, low)
    nothing = np.float32(1) if 0 in element.levels else SMALLEST_SCALE
    zero = ~w.any(axis=-1)
    return np.asarray(np.where(zero, nothing, np.maximum(scale, SMALLEST_SCALE)), np.float32)


def median_scale(w: Float32, element: Element) -> Float32:
    """Rule ``median``; see the module. The lower median is torch's."""
    count = w.shape[-1]
    if count == 0:
        return np.full(w.shape[:-1], SMALLEST_MEAN)
    lower = (count - 1) // 2
    median: Float32 = np.partition(np.abs(w), lower, axis=-1)[..., lower]
    return np.asarray(np.maximum(median, SMALLEST_MEAN))


def mean_scale(w: Float32, element: Element) -> Float32:
    """Rule ``mean``; see the module."""
    return np.maximum(mean_magnitude(w), SMALLEST_MEAN)


def mean_magnitude(w: Float32) -> Float32:
    """The mean of abs(w) over the last axis, in fixed point, so that no order of adding matters.

    With 2**e the smallest power of two above every magnitude, magnitudes become integers
    ``rint(abs(w) * 2**(b - e))`` (float64, exact but for the rounding), which add up in int64;
    ``sum / n * 2**(e - b)`` is float64 again, and is rounded to float32 once. b is 38, and for
    more than 2**24 weights as much less as the sum needs.

    >>> mean_magnitude(np.float32([[1, -2, 0.5], [0, 0, 0]])).tolist()
    [1.1666666269302368, 0.0]
    """
    magnitude = np.abs(w).astype(np.float64)
    count = w.shape[-1]
    bits = min(_MEAN_BITS, 63 - count.bit_length())
    exponent = np.frexp(magnitude.max(axis=-1, initial=0))[1]
    integers = np.rint(np.ldexp(magnitude, (bits - exponent)[..., None])).astype(np.int64)
    mean = integers.sum(axis=-1).astype(np.float64) / max(count, 1)
    return np.asarray(np.ldexp(mean, exponent - bits), np.float32)


def unit_scale(w: Float32, element: Element) -> Float32:
    """Rule ``unit``; see the module."""
    return np.ones(w.shape[:-1], np.float32)


def mse_scale(w: Float32, element: Element) -> Float32:
    """Rule ``mse``; see the module."""
    largest = absmax_scale(w, element)
    best = largest
    least = np.full(largest.shape, np.inf)
    for shrink in range(SHRINK_STEPS, SHRINK_LEAST - 1, -1):
        factor = np.float32(shrink / SHRINK_STEPS)
        scale = np.maximum(largest * factor, SMALLEST_SCALE)
        error = squared_error(w, scale, element)
        best = np.where(error < least, scale, best)
        least = np.minimum(error, least)
    return np.asarray(best, np.float32)


def squared_error(w: Float32, scale: Float32, element: Element) -> NDArray[np.float64]:
    """What rounding to the levels costs: the sum of squares over the last axis, in float64."""
    integers = nearest_integers(w, scale[..., None], element)
    real = integers.astype(np.float32) * scale[..., None]
    error = w.astype(np.float64) - real
    return np.asarray(np.square(error).sum(axis=-1))


def nearest_integers(w: Float32, step: Float32, element: Element) -> Array:
    """The integers nearest to ``w / step``, not below the element's `minimum`.

    The division is one float32 operation; a quotient beyond float32 saturates. Where the step is
    0, which a factor of 0 makes it, the quotient is 0.
    """
    zero = step == 0
    with np.errstate(over="ignore"):
        quotient = np.where(zero, np.float32(0), w / np.where(zero, np.float32(1), step))
    integers = element.nearest_integers(quotient)
    return np.asarray(np.maximum(integers, element.dtype.type(element.minimum)))


RULES: dict[str, Callable[[Float32, Element], Float32]] = {
    "absmax": absmax_scale,
    "median": median_scale,
    "mean": mean_scale,
    "unit": unit_scale,
    "mse": mse_scale,
}
"""Every rule by name."""
