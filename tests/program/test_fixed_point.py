"""Fixed-point arithmetic against arbitrary-precision integers, and at its ends."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from edgekit.program.fixed_point import (
    INT32_MAX,
    INT32_MIN,
    MULTIPLIER_BITS,
    SHIFTS,
    Requant,
    Rounding,
    activation_clamp,
    doubling_high_mul,
    float64_multiplier,
    quantize_multiplier,
    rounding_right_shift,
)


def away(real: Fraction) -> int:
    """Nearest integer, ties away from zero."""
    nearest = math.floor(abs(real) + Fraction(1, 2))
    return nearest if real >= 0 else -nearest


def up(real: Fraction) -> int:
    """Nearest integer, ties towards +infinity."""
    return math.floor(real + Fraction(1, 2))


def test_doubling_high_mul_rounds_ties_up() -> None:
    """2ab / 2**32 of extreme and random operands."""
    rng = np.random.default_rng(1)
    ends = [INT32_MIN, INT32_MIN + 1, -(2**30), -1, 0, 1, 2**30, INT32_MAX]
    operands = np.array([*ends, *rng.integers(INT32_MIN, INT32_MAX, 100)])
    got = doubling_high_mul(operands[:, None], operands)
    for a, row in zip(operands.tolist(), got.tolist(), strict=True):
        for b, high in zip(operands.tolist(), row, strict=True):
            assert high == min(up(Fraction(a * b, 2**31)), INT32_MAX)


def test_rounding_right_shift_rounds_ties_away() -> None:
    """Every exponent, about ties and at the ends of int32."""
    for exponent in range(32):
        half = 2**exponent // 2
        values = [k * 2**exponent + d for k in (-3, -2, -1, 0, 1, 2) for d in (half, half - 1)]
        values = [v for v in [*values, INT32_MIN, INT32_MAX] if INT32_MIN <= v <= INT32_MAX]
        got = rounding_right_shift(values, exponent).tolist()
        assert got == [away(Fraction(v, 2**exponent)) for v in values]


@pytest.mark.parametrize(
    ("real", "multiplier", "shift"),
    [
        (1.0, 2**30, 1),
        (0.5, 2**30, 0),
        (2.0**-32, 2**30, -31),
        (np.nextafter(2.0**-32, 0), 2**30, -31),  # rounds up to the next power of two
        (2.0**-32 * (1 - 2.0**-31), 0, 0),
        (2.0**-33, 0, 0),
        (0.0, 0, 0),
        (2.0**29, 2**30, 30),
        (2.0**30, INT32_MAX, 30),
        (1e300, INT32_MAX, 30),
    ],
)
def test_quantize_multiplier_at_its_ends(real: float, multiplier: int, shift: int) -> None:
    """Shifts below -31 give zero, those above 30 the largest factor."""
    assert quantize_multiplier(real) == (multiplier, shift)


def test_float64_multiplier_is_exact() -> None:
    """Multiplier and shift are the float64 number itself."""
    for real in np.exp2(np.random.default_rng(2).uniform(-74, 32, 200)).tolist():
        multiplier, shift = float64_multiplier(real)
        assert 2**52 <= multiplier < 2**53
        assert Fraction(real) == multiplier * Fraction(2) ** (shift - 53)
    assert float64_multiplier(2.0**-76) == (0, 0)


@pytest.mark.parametrize("rounding", SHIFTS)
def test_factors_saturate(rounding: Rounding) -> None:
    """A factor beyond the largest shift becomes the largest factor."""
    requant = Requant.from_real([1e300], rounding)
    assert requant.shift == (SHIFTS[rounding][1],)
    assert requant.multiplier == (2 ** MULTIPLIER_BITS[rounding] - 1,)


@pytest.mark.parametrize(
    ("multiplier", "shift", "rounding", "message"),
    [
        ((), (), "double", "0 multipliers and 0 shifts"),
        ((1, 2), (0,), "double", "2 multipliers and 1 shifts"),
        ((-5,), (0,), "double", r"must lie in 0…2\*\*31 - 1"),
        ((2**31,), (0,), "wide", r"must lie in 0…2\*\*31 - 1"),
        ((2**53,), (0,), "float64", r"must lie in 0…2\*\*53 - 1"),
        ((5,), (99,), "double", "must lie in -31…30"),
        ((5,), (15,), "wide", "must lie in -31…14"),
        ((5,), (-75,), "float64", "must lie in -74…32"),
    ],
)
def test_impossible_factors_are_refused(
    multiplier: tuple[int, ...], shift: tuple[int, ...], rounding: Rounding, message: str
) -> None:
    """By an exception, not by an assertion, which ``python -O`` leaves out."""
    with pytest.raises(ValueError, match=message):
        Requant(multiplier, shift, rounding)


def test_roundings_differ_where_they_say() -> None:
    """One accumulator below 0 and one above, each halfway."""
    acc = np.array([-10, -6, -2, 2, 6, 10])
    quarter = {r: Requant.from_real([0.25], r).apply(acc).tolist() for r in SHIFTS}
    assert quarter == {
        "double": [-3, -2, -1, 1, 2, 3],
        "single": [-2, -1, 0, 1, 2, 3],
        "wide": [-2, -1, 0, 1, 2, 3],
        "float64": [-3, -2, -1, 1, 2, 3],
    }
    # 5/4: double rounds 2.5 to 3, then 1.5 to 2.
    fives = {r: Requant.from_real([0.25], r).apply([5, -5]).tolist() for r in SHIFTS}
    assert fives["double"] == [2, -1]
    assert fives["single"] == fives["wide"] == fives["float64"] == [1, -1]


def test_single_and_wide_against_exact_arithmetic() -> None:
    """One rounding of the exact product, of 31 or of 15 digits of the factor."""
    rng = np.random.default_rng(3)
    for real in np.exp2(rng.uniform(-28, 5, 60)).tolist():
        acc = rng.integers(-(2**24), 2**24, 40)
        for rounding, bits in (("single", 31), ("wide", 15)):
            requant = Requant.from_real([real], rounding)  # type: ignore[arg-type]
            multiplier = requant.multiplier[0]
            if rounding == "wide":
                multiplier = min((multiplier + 2**15) >> 16, 2**15 - 1)
            factor = multiplier * Fraction(2) ** (requant.shift[0] - bits)
            assert requant.apply(acc).tolist() == [up(a * factor) for a in acc.tolist()]


@pytest.mark.parametrize(
    ("activation", "zero_point", "wanted"),
    [
        ("none", 5, (-128, 127)),
        ("relu", -128, (-128, 127)),
        ("relu", 127, (127, 127)),
        ("relu6", 0, (0, 60)),
        ("relu6", 100, (100, 127)),
        ("relu_n1_to_1", 0, (-10, 10)),
        ("relu_n1_to_1", -125, (-128, -115)),
    ],
)
def test_activation_clamp(activation: str, zero_point: int, wanted: tuple[int, int]) -> None:
    """Real bounds as integers, cut at the type's ends."""
    clamp = activation_clamp(activation, 0.1, zero_point, (-128, 127))  # type: ignore[arg-type]
    assert clamp == wanted
