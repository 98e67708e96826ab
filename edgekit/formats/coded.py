"""Quantised weights as values: integers with scales, and the same packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import InvalidDataError

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Coded:
    """Weights as the integers of a format.

    The real weight is ``float32(integers[r, k] * factors[r, k // group]) * scale[r]``: the product
    of integers is exact in float32, so there is one rounding, the last one.

    Attributes:
        integers: [R, K] of the element's dtype; R output channels.
        scale: float32[R], or float32[1] for all rows; finite and positive.
        factors: int32[R, G] integer factors of the groups of a row, None without groups.

    Raises:
        InvalidDataError: arrays of other dtypes or shapes, a scale that is not positive.
    """

    integers: Array
    scale: Float32
    factors: Int32 | None = None

    def __post_init__(self) -> None:
        if self.integers.dtype.kind != "i" or self.integers.ndim != 2:
            raise InvalidDataError(f"integers are {_shown(self.integers)}, must be signed [R, K]")
        check_scale(self.scale, self.integers.shape[0])
        _check_factors(self.factors, self.integers.shape[0], np.int32)


@dataclass(frozen=True, eq=False)
class Packed:
    """Weights as the bytes that are stored.

    Attributes:
        data: uint8[R, row bytes], as :mod:`edgekit.formats.packing` draws them.
        columns: weights of a row.
        scale: float32[R], or float32[1] for all rows.
        factor_codes: uint8[R, G] codes of the factors, None without groups.

    Raises:
        InvalidDataError: arrays of other dtypes or shapes, a scale that is not positive.
    """

    data: Bytes
    columns: int
    scale: Float32
    factor_codes: Bytes | None = None

    def __post_init__(self) -> None:
        if self.data.dtype != np.uint8 or self.data.ndim != 2 or self.columns < 0:
            raise InvalidDataError(
                f"packed weights are {_shown(self.data)} of {self.columns} columns, must be "
                "uint8[R, row bytes]"
            )
        check_scale(self.scale, self.data.shape[0])
        _check_factors(self.factor_codes, self.data.shape[0], np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes of codes, factors and scales."""
        factors = 0 if self.factor_codes is None else self.factor_codes.nbytes
        return self.data.nbytes + factors + self.scale.nbytes


def check_scale(scale: Array, rows: int) -> None:
    """Refuse what is no scale of `rows` output channels.

    Raises:
        InvalidDataError: another dtype or shape, a value that is not finite and positive.
    """
    if scale.dtype != np.float32 or scale.shape not in ((rows,), (1,)):
        raise InvalidDataError(f"scale is {_shown(scale)}, must be float32[{rows}] or float32[1]")
    wrong = ~(np.isfinite(scale) & (scale > 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InvalidDataError(f"scale {scale[row]} at [{row}] must be finite and positive")


def _check_factors(factors: Array | None, rows: int, dtype: type) -> None:
    if factors is None:
        return
    if factors.dtype != dtype or factors.ndim != 2 or factors.shape[0] != rows:
        raise InvalidDataError(
            f"factors are {_shown(factors)}, must be {np.dtype(dtype)}[{rows}, groups]"
        )


def _shown(array: Array) -> str:
    return f"{array.dtype}{list(array.shape)}"
