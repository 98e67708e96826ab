"""exp, tanh, sigmoid and reciprocal square root in float32, without a mathematics library.

Every step is one IEEE 754 single-precision operation, rounded to nearest, in a fixed order; the C
twins in ``ek_math_f32.h`` have the same steps, so both give the same bits on every machine that
does not contract ``a * b + c`` into one rounding (``-ffp-contract=off``) and does not evaluate in
a wider type.

Errors against float64, in units in the last place of the float32 result, as measured by the tests:

========== ============ ========= ==============================================================
function   largest ulp  domain    outside
========== ============ ========= ==============================================================
`exp`      1.0          all       0 below −87.33654 (no subnormal results), +∞ above 88.72283
`sigmoid`  2.5          all       0 below −88.72283, 1 above 17.4 or so
`tanh`     1.5          all       ±1 beyond 9.1 or so
`rsqrt`    1.5          [2⁻¹⁰⁰, 2¹⁰⁰]  meaningless
========== ============ ========= ==============================================================

NaN gives NaN. The polynomials are least-maximum fits of ours over the reduced ranges.

Source of the method (reduction by multiples of ln 2 in two parts, rational tanh by exp): Cody and
Waite, "Software Manual for the Elementary Functions", 1980; the first guess of `rsqrt` is the
well-known one of Quake III, refined by Newton's iteration.

The tables of integer operators need float64 values, once: `exact_exp` and `exact_tanh` compute them
in decimal, since mathematics libraries, NumPy's among them, differ between machines in the last
digit.
"""

from __future__ import annotations

from decimal import Context, Decimal

import numpy as np
from numpy.typing import NDArray

from edgekit.program.ir import Array

Float32 = NDArray[np.float32]

EXP_LOW = np.float32(-87.33654)
EXP_HIGH = np.float32(88.72283)
LOG2_E = np.float32(float.fromhex("0x1.715476p+0"))
LN2_HIGH = np.float32(float.fromhex("0x1.63p-1"))  # 9 bits: its product with an exponent is exact
LN2_LOW = np.float32(float.fromhex("-0x1.bd0106p-13"))
EXP_POLYNOMIAL = tuple(
    np.float32(float.fromhex(c))
    for c in ("0x1.6a21acp-10", "0x1.123b6ap-7", "0x1.5558fap-5", "0x1.555490p-3", "0x1.fffffcp-2")
)
"""``(exp(r) - 1 - r) / r**2`` for ``|r| <= ln(2) / 2``, highest power first."""

TANH_POLYNOMIAL_BELOW = np.float32(0.625)
TANH_POLYNOMIAL = tuple(
    np.float32(float.fromhex(c))
    for c in (
        "0x1.18e1dcp-9",
        "-0x1.0bf4fcp-7",
        "0x1.638b58p-6",
        "-0x1.b9ee90p-5",
        "0x1.111066p-3",
        "-0x1.555554p-2",
    )
)
"""``(tanh(x) / x - 1) / x**2`` in powers of ``x**2``, highest first."""

RSQRT_GUESS = 0x5F3759DF
ONE, TWO, HALF = (np.float32(c) for c in (1, 2, 0.5))


def _horner(coefficients: tuple[np.float32, ...], x: Float32) -> Float32:
    value: Float32 = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def _power_of_two(exponent: NDArray[np.int32]) -> Float32:
    """``2**exponent`` for −126…127, by its bits."""
    return ((exponent + 127) << 23).astype(np.int32).view(np.float32)


def exp(x: Array) -> Float32:
    """``e**x``, elementwise.

    >>> exp(np.float32([0, 1, -100])).tolist()
    [1.0, 2.7182817459106445, 0.0]
    """
    x = np.asarray(x, np.float32)
    inside = np.where((x >= EXP_LOW) & (x <= EXP_HIGH), x, np.float32(0))
    turns = inside * LOG2_E
    exponent = (turns + np.where(turns < 0, -HALF, HALF)).astype(np.int32)
    count = exponent.astype(np.float32)
    r = (inside - count * LN2_HIGH) - count * LN2_LOW
    value = _horner(EXP_POLYNOMIAL, r) * (r * r) + r + ONE
    # In two factors: 2**128 is no float32, but the largest results need it.
    first = exponent >> 1
    value = value * _power_of_two(first) * _power_of_two(exponent - first)
    value = np.where(x > EXP_HIGH, np.float32(np.inf), value)
    return np.where(x >= EXP_LOW, value, np.where(x == x, np.float32(0), x))


def sigmoid(x: Array) -> Float32:
    """``1 / (1 + exp(-x))``, elementwise.

    >>> sigmoid(np.float32([0, 2])).tolist()
    [0.5, 0.8807970285415649]
    """
    return ONE / (ONE + exp(-np.asarray(x, np.float32)))


def tanh(x: Array) -> Float32:
    """Hyperbolic tangent, elementwise; odd but for the sign of zero, which is lost.

    >>> tanh(np.float32([0.5, -20])).tolist()
    [0.46211716532707214, -1.0]
    """
    x = np.asarray(x, np.float32)
    magnitude = np.abs(x)
    small = np.where(magnitude < TANH_POLYNOMIAL_BELOW, x, np.float32(0))
    square = small * small
    near = _horner(TANH_POLYNOMIAL, square) * square * small + small
    with np.errstate(over="ignore"):
        far = ONE - TWO / (exp(magnitude + magnitude) + ONE)
    return np.where(magnitude < TANH_POLYNOMIAL_BELOW, near, np.where(x < 0, -far, far))


def rsqrt(x: Array) -> Float32:
    """``1 / sqrt(x)``, elementwise.

    >>> rsqrt(np.float32([4, 0.01])).tolist()
    [0.5, 10.0]
    """
    x = np.asarray(x, np.float32)
    half = x * HALF
    y = (RSQRT_GUESS - (x.view(np.int32) >> 1)).astype(np.int32).view(np.float32)
    for _ in range(3):
        y = y + y * (HALF - half * y * y)
    return y


_DECIMAL = Context(prec=40, Emin=-999999, Emax=999999, traps=[])
"""Twice float64's digits; what is too large becomes infinity, what is too small zero."""


def exact_exp(x: float) -> float:
    """``e**x``, the nearest float64.

    >>> exact_exp(1.0), exact_exp(1000.0), exact_exp(-1e30)
    (2.718281828459045, inf, 0.0)
    """
    return float(_DECIMAL.exp(Decimal(x)))


def exact_tanh(x: float) -> float:
    """Hyperbolic tangent, the nearest float64.

    >>> exact_tanh(0.5), exact_tanh(-1e30)
    (0.46211715726000974, -1.0)
    """
    if abs(x) < 1e-9:
        return x  # x**3 / 3 lies far below the last digit, and would cancel below
    power = _DECIMAL.exp(Decimal(-2 * abs(x)))
    one = Decimal(1)
    share = _DECIMAL.divide(_DECIMAL.subtract(one, power), _DECIMAL.add(one, power))
    return float(share.copy_sign(Decimal(x)))
