"""Group factors: their codes, and steps of groups as factors of one scale."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.errors import InvalidDataError
from edgekit.formats import ELEMENTS, FACTORS, Factors, factor_codes
from edgekit.formats.group_scales import GROUP_SCALES

every_kind = pytest.mark.parametrize("factors", FACTORS.values(), ids=list(FACTORS))

STEPS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9),
    elements=st.one_of(
        st.floats(2.0**-60, 2.0**60, width=32),
        st.floats(2.0**-12, 1, width=32),
        st.just(0.0),
    ),
)


@every_kind
def test_codes_and_factors_are_inverse(factors: Factors) -> None:
    used = [c for c, integer in enumerate(factors.integers) if integer is not None]
    codes = np.array([used], np.uint8)
    decoded = factors.decode(codes)
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(factors.codes(decoded), codes)
    np.testing.assert_array_equal(factors.levels[codes], decoded)
    assert decoded.max() == factors.maximum
    assert not factors.levels.flags.writeable


def test_e4m3_factors_are_the_numbers_of_ml_dtypes() -> None:
    codes = np.arange(127, dtype=np.uint8)
    theirs = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    np.testing.assert_array_equal(FACTORS["e4m3"].decode(codes) / 512, theirs)


def test_shift_factors_are_powers_of_two_or_nothing() -> None:
    shift = FACTORS["shift"]
    assert shift.decode(np.uint8([0, 1, 15, 255])).tolist() == [1, 2, 32768, 0]
    assert shift.levels[[0, 15, 16, 255]].tolist() == [1, 32768, 0, 0]


@pytest.mark.parametrize(("kind", "code"), [("shift", 16), ("e4m3", 127), ("none", 1)])
def test_codes_that_mean_nothing_are_refused(kind: str, code: int) -> None:
    with pytest.raises(InvalidDataError, match=rf"code {code} at \[1, 0\] is no {kind} factor"):
        FACTORS[kind].decode(np.uint8([[0], [code]]))


@pytest.mark.parametrize(("kind", "factor"), [("uint8", 256), ("shift", 3), ("e4m3", 17)])
def test_other_factors_are_refused(kind: str, factor: int) -> None:
    with pytest.raises(InvalidDataError, match=rf"{factor} at \[0, 1\] is no {kind} factor"):
        factor_codes(np.int32([[1, factor]]), kind)


def test_factors_times_levels_are_exact_in_float32() -> None:
    """So that decoding rounds once: 8 significant bits by at most 8."""
    for element in ELEMENTS.values():
        integers = np.array(element.levels, np.int64)
        for factors in FACTORS.values():
            table = np.array([i for i in factors.integers if i is not None], np.int64)
            products = np.multiply.outer(integers, table)
            np.testing.assert_array_equal(products.astype(np.float32).astype(np.int64), products)


def real_steps(kind: str, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What steps become: in float64, with the scale and the factors."""
    scale, factors = GROUP_SCALES[kind].encode(steps)
    assert scale.dtype == np.float32
    assert factors.dtype == np.int32
    assert factors.shape == steps.shape
    FACTORS[kind].codes(factors)
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
    return factors * scale.astype(np.float64)[:, None], scale, factors


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_uint8_factors_are_the_nearest_multiples(steps: np.ndarray) -> None:
    real, scale, factors = real_steps("uint8", steps)
    assert ((factors == 0) == (steps == 0)).all()
    allowed = np.where(factors == 1, 1, 0.5001) * scale.astype(np.float64)[:, None]
    assert (np.abs(real - steps) <= allowed).all()
    for row, largest in zip(factors, steps.max(axis=1, initial=0), strict=True):
        assert row.max(initial=0) == (255 if largest > 0 else 0)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_shift_factors_are_the_powers_of_two_below(steps: np.ndarray) -> None:
    real, _, factors = real_steps("shift", steps)
    below = np.where(steps > 0, np.exp2(np.floor(np.log2(np.where(steps > 0, steps, 1)))), 0)
    far = below < below.max(axis=1, keepdims=True, initial=0) * 2.0**-15
    np.testing.assert_array_equal(real, np.where(far, 0, below))
    # No factor is larger than the row needs.
    for row in factors:
        assert row[row > 0].min(initial=1) == 1


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_e4m3_factors_are_what_ml_dtypes_rounds(steps: np.ndarray) -> None:
    _, scale, factors = real_steps("e4m3", steps)
    assert scale.shape == (1,)
    numbers = (steps / scale / 512).clip(max=448).astype(ml_dtypes.float8_e4m3fn)
    expected = np.maximum(numbers.astype(np.float64) * 512, 1)
    np.testing.assert_array_equal(factors, np.where(steps > 0, expected, 0))
