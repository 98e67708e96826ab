"""Observers: from the values that a tensor takes to the range that int8 should cover.

All statistics are exact or rounded once: extremes are exact, histograms count in integers, sums run
through :func:`math.fsum`, which is independent of order and machine.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import UsageError
from edgekit.program.ir import DType, Quantization

Range = tuple[float, float]

RangeQuantization = Callable[[float, float], Quantization]

BINS = 4096
"""Bins of a histogram over a symmetric range."""

DEFAULT_PERCENTILE = 99.99

_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


class Observer(ABC):
    """Sees arrays one after the other; gives a range at the end."""

    @abstractmethod
    def update(self, values: NDArray[Any]) -> None:
        """Take finite float32 values of any shape into account."""

    @abstractmethod
    def range(self) -> Range:
        """Smallest and largest real that the quantisation should represent."""


class MinMax(Observer):
    """The extremes.

    >>> observer = MinMax()
    >>> observer.update(np.float32([1, -2])); observer.update(np.float32([3]))
    >>> observer.range()
    (-2.0, 3.0)
    """

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf

    def update(self, values: NDArray[Any]) -> None:
        """See :class:`Observer`."""
        if values.size:
            self._low = min(self._low, float(values.min()))
            self._high = max(self._high, float(values.max()))

    def range(self) -> Range:
        """See :class:`Observer`."""
        return (self._low, self._high) if self._low <= self._high else (0.0, 0.0)


class Histogram:
    """Integer counts over ``[-reach, reach)``; the reach is a power of two and grows by doubling.

    Doubling merges pairs of bins, so the counts do not depend on how values came in batches.

    >>> histogram = Histogram(bins=4)
    >>> histogram.update(np.float32([0.25, -0.25])); histogram.update(np.float32([3.0]))
    >>> histogram.reach, histogram.counts.tolist()
    (4.0, [0, 1, 1, 1])
    """

    def __init__(self, bins: int = BINS) -> None:
        assert bins % 4 == 0
        self.counts = np.zeros(bins, np.int64)
        self.reach = 0.0

    def update(self, values: NDArray[Any]) -> None:
        """Count finite values."""
        if not values.size:
            return
        magnitude = float(np.abs(values).max())
        # The smallest power of two above the magnitude; zeros count in any reach.
        wanted = 2.0 ** math.frexp(magnitude)[1] if magnitude else self.reach or 2.0**-126
        self._grow(wanted)
        bins = self.counts.size
        scaled = values.astype(np.float64).reshape(-1) / self.reach * (bins // 2)
        index = np.floor(scaled).astype(np.int64) + bins // 2
        self.counts += np.bincount(np.clip(index, 0, bins - 1), minlength=bins)

    def _grow(self, wanted: float) -> None:
        if self.reach == 0.0 or not self.counts.any():
            self.reach = max(wanted, self.reach)
        half = self.counts.size // 2
        while self.reach < wanted:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate(
                [np.zeros(half // 2, np.int64), pairs, np.zeros(half // 2, np.int64)]
            )
            self.reach *= 2

    def edges(self) -> NDArray[np.float64]:
        """Borders of the bins, one more than bins."""
        return np.linspace(-self.reach, self.reach, self.counts.size + 1)


class Percentile(Observer):
    """The range that leaves out a share of the values, half of it at either end.

    Args:
        percent: share of the values inside, 50 to 100.
    """

    def __init__(self, percent: float = DEFAULT_PERCENTILE) -> None:
        # The decimal that was written, not the float next to it: 99.98 of 10,000 drops one a side.
        self._outside = (100 - Fraction(str(percent))) / 200
        self._extremes, self._histogram = MinMax(), Histogram()

    def update(self, values: NDArray[Any]) -> None:
        """See :class:`Observer`."""
        self._extremes.update(values)
        self._histogram.update(values)

    def range(self) -> Range:
        """Borders of bins; the extremes where nothing is left out."""
        low, high = self._extremes.range()
        counts = self._histogram.counts
        total = int(counts.sum())
        dropped = math.floor(total * self._outside)
        if dropped == 0:
            return low, high
        cumulative, edges = np.cumsum(counts), self._histogram.edges()
        first = int(np.searchsorted(cumulative, dropped, side="right"))
        last = int(np.searchsorted(cumulative, total - dropped, side="left"))
        return max(low, float(edges[first])), min(high, float(edges[last + 1]))


class MeanSquaredError(Observer):
    """The range whose int8 quantisation has the least mean squared error.

    Ranges are the extremes scaled by 1, 0.99, …, 0.2; the first of equals wins. The error is that
    of the histogram's bin centres.

    Args:
        quantization: what is made of a range, None for :func:`affine_quantization`.
    """

    STEPS = tuple(k / 100 for k in range(100, 19, -1))

    def __init__(self, quantization: RangeQuantization | None = None) -> None:
        self._quantization = quantization or affine_quantization
        self._extremes, self._histogram = MinMax(), Histogram()

    def update(self, values: NDArray[Any]) -> None:
        """See :class:`Observer`."""
        self._extremes.update(values)
        self._histogram.update(values)

    def range(self) -> Range:
        """See :class:`Observer`."""
        low, high = self._extremes.range()
        edges, counts = self._histogram.edges(), self._histogram.counts
        used = counts > 0
        centres = np.clip((edges[:-1] + edges[1:])[used] / 2, low, high)
        weights = counts[used].astype(np.float64)

        def error(step: float) -> float:
            quantization = self._quantization(low * step, high * step)
            scale, zero_point = quantization.scalar_scale, quantization.scalar_zero_point
            codes = np.clip(np.rint(centres / scale) + zero_point, *DType.INT8.limits)
            return math.fsum(weights * ((codes - zero_point) * scale - centres) ** 2)

        if low >= high:
            return low, high
        best = min(self.STEPS, key=error)
        return low * best, high * best


def make_observer(
    name: str, quantization: RangeQuantization | None = None
) -> Callable[[], Observer]:
    """Observers by name: ``minmax``, ``mse``, ``percentile``, ``percentile:99.9``.

    Args:
        name: of the observer.
        quantization: what will be made of its range, None for :func:`affine_quantization`.

    Raises:
        UsageError: no such observer, or a percentage outside 50 to 100.

    >>> type(make_observer("mse")()).__name__
    'MeanSquaredError'
    """
    kind, _, argument = name.partition(":")
    if kind == "percentile":
        try:
            percent = float(argument) if argument else DEFAULT_PERCENTILE
        except ValueError:
            percent = math.nan
        if not 50 <= percent <= 100:
            raise UsageError(f"observer {name!r}: the percentage must be a number from 50 to 100")
        return lambda: Percentile(percent)
    plain: dict[str, Callable[[], Observer]] = {
        "minmax": MinMax,
        "mse": lambda: MeanSquaredError(quantization),
    }
    if name not in plain:
        raise UsageError(
            f"observer {name!r} is unknown; there are minmax, mse, percentile and percentile:NUMBER"
        )
    return plain[name]


def affine_quantization(low: float, high: float) -> Quantization:
    """Asymmetric int8 over a range that is widened to hold 0, which is represented exactly.

    The scale is float32; a range of nothing but 0 gets scale 1.

    >>> affine_quantization(0.0, 2.55)
    Quantization(scale=(0.009999999776482582,), zero_point=(-128,), axis=None)
    >>> affine_quantization(-1.0, 1.0).zero_point
    (0,)
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return Quantization.per_tensor(1.0, 0)
    scale = max(float(np.float32((high - low) / 255)), _SMALLEST_SCALE)
    smallest, largest = DType.INT8.limits
    # The nudged zero point of gemmlowp: from the end that rounds with the smaller error.
    from_low, from_high = smallest - low / scale, largest - high / scale
    error_low = abs(smallest) + abs(low / scale)
    error_high = abs(largest) + abs(high / scale)
    point = from_low if error_low < error_high else from_high
    return Quantization.per_tensor(scale, min(max(round(point), smallest), largest))


def symmetric_quantization(low: float, high: float) -> Quantization:
    """Symmetric int8 over a range: zero point 0, the largest magnitude becomes 127.

    The scale is float32; a range of nothing but 0 gets scale 1.

    >>> symmetric_quantization(-0.5, 1.27)
    Quantization(scale=(0.009999999776482582,), zero_point=(0,), axis=None)
    """
    largest = max(-low, high, 0.0)
    scale = max(float(np.float32(largest / 127)), _SMALLEST_SCALE) if largest else 1.0
    return Quantization.per_tensor(scale, 0)
