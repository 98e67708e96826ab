"""The number format of one weight: a short code, and the exact integer that it means."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import InvalidDataError
from edgekit.formats import packing

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Float32 = NDArray[np.float32]

_DTYPES = (np.int8, np.int16, np.int32, np.int64)


@dataclass(frozen=True)
class Element:
    """A number format of one value.

    A value is ``integer * unit``. The integers are what every implementation computes with; the
    unit is a power of two that scales them to the numbers which the format's specification
    states, and disappears in the scale of a tensor.

    Attributes:
        name: as in `ELEMENTS`.
        bits: of one code before packing.
        integers: the meaning of code c at index c; None where a code means nothing.
        unit: what the integer 1 stands for.
        packing: ``bits``: codes one after the other; ``trits``: five codes 0, 1, 2 a byte. Both
            are drawn in :mod:`edgekit.formats.packing`.
        ties: where a number in the middle between two neighbours goes. ``even``: to the one that
            is an even multiple of their distance, which for integers is IEEE 754's rule, and for
            minifloats the even mantissa. ``smaller``: to the smaller magnitude. Between -1 and 1,
            where 0 is no level, to 1.
        narrow: weights leave the most negative level out, so that the rest is symmetric.

    Raises:
        AssertionError: integers that do not fit the bits; a bug of the table.
    """

    name: str
    bits: int
    integers: tuple[int | None, ...]
    unit: float = 1.0
    packing: Literal["bits", "trits"] = "bits"
    ties: Literal["even", "smaller"] = "even"
    narrow: bool = False

    def __post_init__(self) -> None:
        assert len(self.integers) == (3 if self.packing == "trits" else 2**self.bits), self.name
        assert np.frexp(self.unit)[0] == 0.5, self.name

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """Every integer that a code means, ascending, each once."""
        return tuple(sorted({integer for integer in self.integers if integer is not None}))

    @property
    def maximum(self) -> int:
        """The largest integer; ``maximum * unit`` is the largest number."""
        return self.levels[-1]

    @property
    def minimum(self) -> int:
        """The smallest integer that weights use: symmetric to `maximum` where `narrow`."""
        return -self.maximum if self.narrow else self.levels[0]

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The smallest of int8, int16, int32, int64 that holds every integer."""
        low, high = self.levels[0], self.levels[-1]
        return next(
            np.dtype(dtype)
            for dtype in _DTYPES
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max
        )

    @property
    def bits_per_weight(self) -> float:
        """Stored bits of one weight in a long row, without scales: 1.6 where five share a byte."""
        return 8 / packing.TRITS if self.packing == "trits" else float(self.bits)

    def row_bytes(self, columns: int) -> int:
        """Bytes of a packed row of `columns` weights."""
        if self.packing == "trits":
            return packing.trits_row_bytes(columns)
        return packing.bits_row_bytes(columns, self.bits)

    @cached_property
    def table(self) -> Float32:
        """float32[codes]: the integer of every code, exactly; 0 where a code means nothing."""
        table = np.array([integer or 0 for integer in self.integers], np.float32)
        table.flags.writeable = False
        return table

    @cached_property
    def thresholds(self) -> Float32:
        """The smallest float32 that go to `levels` 1, 2, ... and not to the one below.

        The nearest level of a float32 ``y`` is ``levels[count(thresholds <= y)]``, ties included:
        where a tie goes down, the threshold is the next float32 after the middle, which is itself
        a float32 in every format.

        Returns:
            float32[levels - 1], ascending, in units of the integers.

        >>> from edgekit.formats import ELEMENTS
        >>> ELEMENTS["fp4-e3m0"].thresholds[7:].tolist()
        [0.5000000596046448, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0]
        """
        return self._thresholds(np.float32)

    @cached_property
    def _wide_thresholds(self) -> NDArray[np.float64]:
        """`thresholds` for float64."""
        return self._thresholds(np.float64)

    def _thresholds(self, dtype: type[np.float32] | type[np.float64]) -> Array:
        thresholds = np.empty(len(self.levels) - 1, dtype)
        for index, (low, high) in enumerate(pairwise(self.levels)):
            middle = dtype((low + high) / 2)
            up = self._tie_goes_up(low, high)
            thresholds[index] = middle if up else np.nextafter(middle, dtype(np.inf))
        thresholds.flags.writeable = False
        return thresholds

    def _tie_goes_up(self, low: int, high: int) -> bool:
        """Whether the middle of two neighbouring levels goes to the larger one."""
        if low < 0 < high:
            return True
        smaller = min(abs(low), abs(high))
        inwards = self.ties == "smaller" or smaller // (high - low) % 2 == 0
        return inwards == (abs(high) == smaller)

    @cached_property
    def _consecutive(self) -> bool:
        return self.levels[-1] - self.levels[0] + 1 == len(self.levels)

    def nearest(self, x: Array) -> Array:
        """The integers of the levels nearest to numbers.

        Args:
            x: float32 or float64, any shape, in the specification's numbers (``integer * unit``);
                infinity saturates.

        Returns:
            Integers of `dtype`; ties as `ties` says; beyond the levels the outermost one.

        Raises:
            InvalidDataError: NaN.

        >>> from edgekit.formats import ELEMENTS
        >>> ELEMENTS["fp4-e2m1"].nearest(np.float32([0.2, 0.25, 2.5, -3.5, 99])).tolist()
        [0, 0, 4, -8, 12]
        """
        x = np.asarray(x)
        if x.dtype != np.float64:
            x = x.astype(np.float32, copy=False)
        with np.errstate(over="ignore"):
            return self.nearest_integers(x * x.dtype.type(1 / self.unit))

    def nearest_integers(self, y: Array) -> Array:
        """`nearest` of numbers that are in units of the integers, as ``weight / scale`` is.

        >>> from edgekit.formats import ELEMENTS
        >>> ELEMENTS["shift3"].nearest_integers(np.float32([0, -1.5, 3, 5, 1e9])).tolist()
        [1, -1, 2, 4, 8]
        """
        y = np.asarray(y)
        if y.dtype != np.float64:
            y = y.astype(np.float32, copy=False)
        if np.isnan(y).any():
            place = [int(index) for index in np.argwhere(np.isnan(y))[0]]
            raise InvalidDataError(f"{self.name}: the value at {place} is NaN")
        if self._consecutive:
            return np.clip(np.rint(y), self.levels[0], self.levels[-1]).astype(self.dtype)
        thresholds = self._wide_thresholds if y.dtype == np.float64 else self.thresholds
        index = np.searchsorted(thresholds, y, side="right")
        levels: Array = np.array(self.levels, self.dtype)
        return levels[index]

    def codes(self, integers: Array) -> Bytes:
        """The code of every integer; of several the smallest, so that -0 is never written.

        Args:
            integers: any integer dtype and shape.

        Raises:
            InvalidDataError: not integers, or one that is no level.

        >>> from edgekit.formats import ELEMENTS
        >>> ELEMENTS["int4"].codes(np.int8([-8, -1, 0, 7])).tolist()
        [8, 15, 0, 7]
        """
        integers = np.asarray(integers)
        if integers.dtype.kind not in "iu":
            raise InvalidDataError(f"{self.name}: {integers.dtype} given, must be integers")
        levels = np.array(self.levels, np.int64)
        index = np.searchsorted(levels, integers).clip(max=levels.size - 1)
        wrong = levels[index] != integers
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise InvalidDataError(
                f"{self.name}: {integers[place]} at {list(place)} is no level; levels are "
                f"{_listed(self.levels)}"
            )
        smallest = np.array([self.integers.index(level) for level in self.levels], np.uint8)
        return np.asarray(smallest[index])

    def integers_of(self, codes: Bytes) -> Array:
        """The integers that codes mean.

        Raises:
            InvalidDataError: a code that means nothing.

        >>> from edgekit.formats import ELEMENTS
        >>> ELEMENTS["fp4-e2m1"].integers_of(np.uint8([7, 15, 8])).tolist()
        [12, -12, 0]
        """
        codes = np.asarray(codes)
        used = np.zeros(256, bool)
        used[: len(self.integers)] = [integer is not None for integer in self.integers]
        wrong = ~used[codes]
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise InvalidDataError(
                f"{self.name}: code {codes[place]} at {list(place)} means nothing in this format"
            )
        table: Array = np.array([integer or 0 for integer in self.integers], self.dtype)
        return table[codes]

    def pack(self, integers: Array) -> Bytes:
        """integers[R, K] to uint8[R, row_bytes(K)].

        Raises:
            InvalidDataError: not two dimensions, or an integer that is no level.

        >>> from edgekit.formats import ELEMENTS
        >>> ELEMENTS["int4"].pack(np.int8([[1, -1, 3]])).tolist()
        [[241, 3]]
        """
        integers = np.asarray(integers)
        if integers.ndim != 2:
            raise InvalidDataError(
                f"{self.name}: weights of shape {list(integers.shape)} given, must be [R, K]"
            )
        codes = self.codes(integers)
        if self.packing == "trits":
            return packing.pack_trits(codes)
        return packing.pack_bits(codes, self.bits)

    def unpack(self, packed: Bytes, columns: int) -> Array:
        """The integers[R, columns] that `pack` was given.

        Raises:
            InvalidDataError: rows of another length, codes that mean nothing, or set bits after
                the last code.

        >>> from edgekit.formats import ELEMENTS
        >>> ELEMENTS["int4"].unpack(np.uint8([[241, 3]]), 3).tolist()
        [[1, -1, 3]]
        """
        if self.packing == "trits":
            return self.integers_of(packing.unpack_trits(packed, columns))
        return self.integers_of(packing.unpack_bits(packed, bits=self.bits, columns=columns))


def _listed(levels: tuple[int, ...]) -> str:
    """Levels as a message shows them: all of a few, the ends of many."""
    if len(levels) <= 17:
        return ", ".join(map(str, levels))
    return f"{levels[0]}, {levels[1]}, ... {levels[-1]}"
