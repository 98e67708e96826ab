"""Integer factors of groups: what a group's scale is, relative to the scale of its row.

A factor is stored as one byte and means an integer, so that kernels multiply the sum of a group by
it and add groups up exactly; one float32 scale a row (or tensor) does the rest.

======== =============================== ================================= =====================
name     code                            factor                            scale
======== =============================== ================================= =====================
none     0                               1                                 as without groups
uint8    0 ... 255                       the code                          largest group's / 255
shift    0 ... 15; 255                   2**code; 0                        a power of two
e4m3     0 ... 126, an FP8 E4M3 number   the number in units of 2**-9      of the tensor
======== =============================== ================================= =====================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import InvalidDataError
from edgekit.formats.elements import ELEMENTS

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]

FactorName = Literal["none", "uint8", "shift", "e4m3"]

SHIFT_REACH = 15
"""The largest exponent of a ``shift`` factor: groups that are smaller than their row's largest by
more vanish, at most 2**-15 of the largest weight."""

SHIFT_ZERO = 255
"""The ``shift`` code of the factor 0."""


@dataclass(frozen=True)
class Factors:
    """A kind of group factors.

    Attributes:
        name: as in `FACTORS`.
        integers: the factor of code c at index c; None where a code means nothing.
    """

    name: FactorName
    integers: tuple[int | None, ...]

    @cached_property
    def levels(self) -> Float32:
        """float32[codes]: the factor of every code, exactly; 0 where a code means nothing."""
        levels = np.array([integer or 0 for integer in self.integers], np.float32)
        levels.flags.writeable = False
        return levels

    @property
    def maximum(self) -> int:
        """The largest factor."""
        return max(integer for integer in self.integers if integer is not None)

    def codes(self, factors: Array) -> Bytes:
        """uint8 codes of integer factors of any shape.

        Raises:
            InvalidDataError: a factor that no code means.

        >>> FACTORS["shift"].codes(np.int32([[1, 1024, 0]])).tolist()
        [[0, 10, 255]]
        """
        factors = np.asarray(factors)
        code_of = {integer: c for c, integer in enumerate(self.integers) if integer is not None}
        distinct, index = np.unique(factors, return_inverse=True)
        for factor in distinct:
            if int(factor) not in code_of:
                place = [int(i) for i in np.argwhere(factors == factor)[0]]
                raise InvalidDataError(f"{factor} at {place} is no {self.name} factor")
        codes = np.array([code_of[int(factor)] for factor in distinct], np.uint8)
        return codes[index].reshape(factors.shape)

    def decode(self, codes: Bytes) -> Int32:
        """int32 factors of uint8 codes of any shape.

        Raises:
            InvalidDataError: a code that means nothing.

        >>> FACTORS["e4m3"].decode(np.uint8([[0, 1, 126]])).tolist()
        [[0, 1, 229376]]
        """
        codes = np.asarray(codes, np.uint8)
        used = np.zeros(256, bool)
        used[: len(self.integers)] = [integer is not None for integer in self.integers]
        wrong = ~used[codes]
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise InvalidDataError(f"code {codes[place]} at {list(place)} is no {self.name} factor")
        table = np.array([integer or 0 for integer in self.integers], np.int32)
        return np.asarray(table[codes])


FACTORS: dict[str, Factors] = {
    factors.name: factors
    for factors in (
        Factors("none", (1,)),
        Factors("uint8", tuple(range(256))),
        Factors(
            "shift",
            tuple(
                2**code if code <= SHIFT_REACH else 0 if code == SHIFT_ZERO else None
                for code in range(256)
            ),
        ),
        Factors("e4m3", ELEMENTS["fp8-e4m3"].integers[:128]),
    )
}
"""Every kind of group factors by name."""

PLAIN_FACTORS: FactorName = "uint8"
"""What groups have whose format names nothing else."""

NAMED_FACTORS = tuple(name for name in FACTORS if name not in ("none", PLAIN_FACTORS))
"""What the name of a format says."""


def factor_codes(factors: Array, kind: FactorName) -> Bytes:
    """uint8[R, G] codes of int32[R, G] factors of this kind."""
    return FACTORS[kind].codes(factors)
