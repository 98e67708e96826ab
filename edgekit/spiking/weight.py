"""Weights of a spiking graph: real numbers, and the codes that they stand for where there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.errors import EdgekitError, InvalidModelError
from edgekit.formats import ELEMENTS, Element
from edgekit.spiking.arrays import Array, Float32, float32


@dataclass(frozen=True, eq=False)
class Weight:
    """Weights of a Linear or Conv node.

    Attributes:
        values: float32[O,K/groups] (Linear), [O,I/groups,k] or [O,I/groups,kh,kw] (Conv): torch's
            order. Read-only.
        codes: int8 or int16 integers of the element, of the shape of `values`; None where the
            weights are real numbers.
        scale: float32[O], finite and positive; None without codes.
        element: a name of :data:`edgekit.formats.ELEMENTS`; None without codes.

    With codes, ``values == float32(codes) * scale[row]``, one float32 multiplication: exactly.

    Raises:
        InvalidModelError: arrays of other shapes or types, NaN, infinity, codes that are no level
            of the element, values that are not the codes'.

    >>> Weight.of_codes(np.int8([[1, 0, -1]]), np.float32([0.5]), "ternary").values.tolist()
    [[0.5, 0.0, -0.5]]
    """

    values: Float32
    codes: Array | None = None
    scale: Float32 | None = None
    element: str | None = None

    def __post_init__(self) -> None:
        values = float32(self.values, "weights")
        object.__setattr__(self, "values", values)
        if values.ndim not in (2, 3, 4) or values.size == 0:
            raise InvalidModelError(
                f"weights have the shape {list(values.shape)}, must be [O,K], [O,I,k] or "
                "[O,I,kh,kw] with at least one element"
            )
        parts = (self.codes, self.scale, self.element)
        if all(part is None for part in parts):
            return
        if any(part is None for part in parts):
            raise InvalidModelError("weights have only some of codes, scale and element")
        self._check_codes()

    @classmethod
    def of_codes(cls, codes: Array, scale: Float32, element: str) -> Weight:
        """The weights that codes stand for.

        Args:
            codes: int8 or int16, [O,...].
            scale: float32[O].
            element: of :data:`edgekit.formats.ELEMENTS`.

        Raises:
            InvalidModelError: see the class.
        """
        codes, scale = np.asarray(codes), np.asarray(scale, np.float32)
        if codes.ndim < 2 or scale.shape != codes.shape[:1]:
            raise InvalidModelError(
                f"scale has the shape {list(scale.shape)}, codes {list(codes.shape)}: one scale "
                "per row is needed"
            )
        return cls(decoded(codes, scale), codes, scale, element)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of `values`."""
        return self.values.shape

    @property
    def quantized(self) -> bool:
        """Whether there are codes."""
        return self.codes is not None

    @property
    def format(self) -> Element:
        """The element of quantised weights."""
        assert self.element is not None
        return ELEMENTS[self.element]

    def _check_codes(self) -> None:
        codes, scale, element = self.codes, self.scale, self.element
        assert codes is not None and scale is not None and element is not None
        if element not in ELEMENTS:
            raise InvalidModelError(
                f"weights of the element {element!r}, must be one of {', '.join(ELEMENTS)}"
            )
        codes = np.array(codes)
        if codes.dtype not in (np.int8, np.int16) or codes.shape != self.values.shape:
            raise InvalidModelError(
                f"codes are {codes.dtype.name}{list(codes.shape)}, must be int8 or int16"
                f"{list(self.values.shape)}"
            )
        try:
            ELEMENTS[element].codes(codes)
        except EdgekitError as error:
            raise InvalidModelError(f"codes: {error}") from error
        scale = float32(scale, "scale")
        if scale.shape != codes.shape[:1] or not (scale > 0).all():
            raise InvalidModelError(
                f"scale is {scale.tolist() if scale.size < 5 else list(scale.shape)}, must be "
                f"{codes.shape[0]} positive numbers"
            )
        if not np.array_equal(decoded(codes, scale), self.values):
            raise InvalidModelError("weights are not the codes times the scales of their rows")
        codes.flags.writeable = False
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "scale", scale)


def decoded(codes: Array, scale: Float32) -> Float32:
    """``float32(codes) * scale[row]``, one multiplication each."""
    with np.errstate(over="ignore"):
        real = codes.astype(np.float32) * scale.reshape(-1, *[1] * (codes.ndim - 1))
    return np.asarray(real, np.float32)
