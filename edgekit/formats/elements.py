"""The table of element formats.

======================= ==== =========================================== ============ ============
name                    bits integers                                    unit         largest
======================= ==== =========================================== ============ ============
int2 ... int8           2-8  two's complement                            1            1 ... 127
ternary                 2    -1, 0, 1; code 2 unused                     1            1
ternary-p5              1.6  -1, 0, 1 as codes 0, 1, 2, five a byte      1            1
shift2, shift3, shift4  2-4  ±1 ... ±2**(2**(bits - 1) - 1), no 0        1            2, 8, 128
binary                  1    code 0 is -1, code 1 is 1                   1            1
fp4-e2m1                4    ±0, 1, 2, 3, 4, 6, 8, 12                    1/2          6
fp4-e1m2                4    ±0 ... 7                                    1/2          3.5
fp4-e3m0                4    ±0, 1, 2, 4, 8, 16, 32, 64                  1/4          16
fp6-e2m3                6    ±0 ... 60                                   1/8          7.5
fp8-e3m4                8    ±0 ... 1984                                 1/64         31
fp8-e4m3                8    ±0 ... 229,376; NaN unused                  1/512        448
fp8-e5m2                8    ±0 ... 7 << 29; infinity, NaN unused        2**-16       57344
======================= ==== =========================================== ============ ============

Codes, the most significant bit first::

    shift4     s e e e      value (1 - 2s) * 2**e
    fp4-e2m1   s e e m      value (1 - 2s) * (1 + m/2**M) * 2**(e - bias), e > 0
    fp6-e2m3   s e e m m m        (1 - 2s) *      m/2**M  * 2**(1 - bias), e = 0

with bias = 2**(E - 1) - 1, for a single exponent bit 0. The minifloats without infinity and NaN use
every code for a number; in E4M3 the codes of all ones, in E5M2 those of the largest exponent mean
no number and are unused. The code of -0 reads as 0 and is never written.

Source: DenseShift: Li et al. 2023, arXiv 2208.09708. E2M1, E2M3, E4M3, E5M2: OCP Microscaling
Formats (MX) Specification 1.0, sections 5.3.1 to 5.3.3. E1M2, E3M0, E3M4: FP4DiT, 2025, arXiv
2503.15465, whose bias for the range of the largest number is the one above.
"""

from __future__ import annotations

from typing import Literal

from edgekit.errors import UsageError
from edgekit.formats.element import Element


def _two_complement(bits: int) -> Element:
    """Two's complement; of int2's four levels weights use all, three would be ternary."""
    half = 2 ** (bits - 1)
    integers = (*range(half), *range(-half, 0))
    return Element(name=f"int{bits}", bits=bits, integers=integers, narrow=bits > 2)


def _shift(bits: int) -> Element:
    """A sign bit above an exponent: powers of two without zero."""
    magnitudes = tuple(2**exponent for exponent in range(2 ** (bits - 1)))
    integers = (*magnitudes, *(-magnitude for magnitude in magnitudes))
    return Element(name=f"shift{bits}", bits=bits, integers=integers, ties="smaller")


def minifloat_magnitudes(exponent: int, mantissa: int) -> tuple[int, ...]:
    """What the codes behind a sign mean, in units of the smallest number above 0.

    Args:
        exponent: bits of it.
        mantissa: bits of it; codes whose exponent is 0 are subnormal.

    >>> minifloat_magnitudes(2, 1)
    (0, 1, 2, 3, 4, 6, 8, 12)
    """
    steps = 2**mantissa
    return tuple(
        code if code < steps else (steps + code % steps) << (code // steps - 1)
        for code in range(2 ** (exponent + mantissa))
    )


def _minifloat(
    exponent: int, mantissa: int, unused: Literal["none", "nan", "ieee"] = "none"
) -> Element:
    """Sign, `exponent` bits, `mantissa` bits, with subnormals.

    Args:
        exponent: E.
        mantissa: M.
        unused: codes that mean no number. ``nan``: all ones behind the sign; ``ieee``: the
            largest exponent.
    """
    magnitudes: list[int | None] = [*minifloat_magnitudes(exponent, mantissa)]
    missing = {"none": 0, "nan": 1, "ieee": 2**mantissa}[unused]
    if missing:
        magnitudes[-missing:] = [None] * missing
    negative = [None if magnitude is None else -magnitude for magnitude in magnitudes]
    bits = 1 + exponent + mantissa
    bias = max(2 ** (exponent - 1) - 1, 0)
    return Element(
        name=f"fp{bits}-e{exponent}m{mantissa}",
        bits=bits,
        integers=(*magnitudes, *negative),
        unit=2.0 ** (1 - bias - mantissa),
    )


ELEMENTS: dict[str, Element] = {
    element.name: element
    for element in (
        *(_two_complement(bits) for bits in range(2, 9)),
        Element(name="ternary", bits=2, integers=(0, 1, None, -1)),
        Element(name="ternary-p5", bits=2, integers=(-1, 0, 1), packing="trits"),
        *(_shift(bits) for bits in (2, 3, 4)),
        Element(name="binary", bits=1, integers=(-1, 1)),
        _minifloat(2, 1),
        _minifloat(1, 2),
        _minifloat(3, 0),
        _minifloat(2, 3),
        _minifloat(3, 4),
        _minifloat(4, 3, "nan"),
        _minifloat(5, 2, "ieee"),
    )
}
"""Every element format by name."""


def find_element(name: str) -> Element:
    """The element of this name.

    Raises:
        UsageError: there is none; the message lists what there is.
    """
    if name not in ELEMENTS:
        raise UsageError(f"no number format {name!r}; there are: {', '.join(ELEMENTS)}")
    return ELEMENTS[name]
