"""Every element format: its levels, rounding to them, and codes; by properties and by formulas."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.errors import InvalidDataError, UsageError
from edgekit.formats import ELEMENTS, Element, find_element

every_element = pytest.mark.parametrize("element", ELEMENTS.values(), ids=list(ELEMENTS))

FLOATS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=40),
    elements=st.one_of(
        st.floats(width=32, allow_nan=False),
        st.floats(-600, 600, width=32),
        st.floats(-8, 8, width=32),
    ),
)

LARGEST = {
    **{f"int{bits}": 2 ** (bits - 1) - 1 for bits in range(2, 9)},
    "ternary": 1,
    "ternary-p5": 1,
    "binary": 1,
    "shift2": 2,
    "shift3": 8,
    "shift4": 128,
    "fp4-e2m1": 6,
    "fp4-e1m2": 3.5,
    "fp4-e3m0": 16,
    "fp6-e2m3": 7.5,
    "fp8-e3m4": 31,
    "fp8-e4m3": 448,
    "fp8-e5m2": 57344,
}
"""As the papers and the OCP specification state them."""

MINIFLOATS = {
    name: (int(name.partition("-e")[2][0]), int(name.partition("m")[2]))
    for name in ELEMENTS
    if name.startswith("fp")
}
"""Exponent and mantissa bits by name."""

FOREIGN = {
    "fp4-e2m1": ml_dtypes.float4_e2m1fn,
    "fp6-e2m3": ml_dtypes.float6_e2m3fn,
    "fp8-e3m4": ml_dtypes.float8_e3m4,
    "fp8-e4m3": ml_dtypes.float8_e4m3fn,
    "fp8-e5m2": ml_dtypes.float8_e5m2,
}
"""Types of another implementation; its E3M4 spends the largest exponent on infinity and NaN."""


def middles(element: Element) -> np.ndarray:
    """The numbers halfway between neighbouring levels, in units of the integers."""
    levels = np.array(element.levels, np.float64)
    return (levels[1:] + levels[:-1]) / 2


@every_element
def test_largest_number(element: Element) -> None:
    assert element.maximum * element.unit == LARGEST[element.name]


def test_no_element_is_missing() -> None:
    assert set(LARGEST) == set(ELEMENTS)


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("int2", (-2, -1, 0, 1)),
        ("ternary-p5", (-1, 0, 1)),
        ("binary", (-1, 1)),
        ("shift3", (-8, -4, -2, -1, 1, 2, 4, 8)),
        ("fp4-e2m1", (-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12)),
        ("fp4-e1m2", tuple(range(-7, 8))),
        ("fp4-e3m0", (-64, -32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32, 64)),
    ],
)
def test_levels(name: str, levels: tuple[int, ...]) -> None:
    assert ELEMENTS[name].levels == levels


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("int8", np.int8),
        ("shift4", np.int16),
        ("fp6-e2m3", np.int8),
        ("fp8-e3m4", np.int16),
        ("fp8-e4m3", np.int32),
        ("fp8-e5m2", np.int64),
    ],
)
def test_dtype_is_the_smallest_that_holds_all(name: str, dtype: type) -> None:
    assert ELEMENTS[name].dtype == dtype


@pytest.mark.parametrize(("name", "bits"), MINIFLOATS.items())
def test_minifloat_codes_mean_what_the_formula_says(name: str, bits: tuple[int, int]) -> None:
    exponent_bits, mantissa_bits = bits
    bias = max(2 ** (exponent_bits - 1) - 1, 0)
    element = ELEMENTS[name]
    used = 0
    for code, integer in enumerate(element.integers):
        if integer is None:
            continue
        mantissa = code % 2**mantissa_bits / 2**mantissa_bits
        exponent = code >> mantissa_bits & (2**exponent_bits - 1)
        magnitude = (
            (1 + mantissa) * 2.0 ** (exponent - bias) if exponent else mantissa * 2.0 ** (1 - bias)
        )
        sign = -1 if code >> (element.bits - 1) else 1
        assert integer * element.unit == sign * magnitude
        used += 1
    assert used == 2**element.bits - {"fp8-e4m3": 2, "fp8-e5m2": 8}.get(name, 0)


@pytest.mark.parametrize("name", FOREIGN)
def test_codes_are_those_of_ml_dtypes(name: str) -> None:
    element = ELEMENTS[name]
    codes = np.arange(2**element.bits, dtype=np.uint8)
    with np.errstate(invalid="ignore"):
        theirs = codes.view(FOREIGN[name]).astype(np.float64)
    finite = np.isfinite(theirs)
    ours = element.table.astype(np.float64) * element.unit
    np.testing.assert_array_equal(ours[finite], theirs[finite])
    if name != "fp8-e3m4":
        assert [integer is not None for integer in element.integers] == finite.tolist()
    assert finite.sum() >= 2**element.bits - 32


@pytest.mark.parametrize("name", FOREIGN)
def test_rounding_is_that_of_ml_dtypes(name: str) -> None:
    """On random numbers, on every tie and beside it; theirs does not saturate, so inside."""
    element = ELEMENTS[name]
    dtype = FOREIGN[name]
    largest = float(ml_dtypes.finfo(dtype).max)
    rng = np.random.default_rng(0)
    ties = (middles(element) * element.unit).astype(np.float32)
    x = np.concatenate(
        [
            rng.uniform(-largest, largest, 20_000).astype(np.float32),
            (rng.standard_normal(20_000) * largest / 50).astype(np.float32),
            np.exp2(rng.uniform(-30, np.log2(largest), 20_000)).astype(np.float32),
            *(ties, np.nextafter(ties, np.float32(np.inf)), np.nextafter(ties, np.float32(-1e9))),
        ]
    )
    x = x[np.abs(x) <= largest]
    theirs = x.astype(dtype).astype(np.float64)
    np.testing.assert_array_equal(element.nearest(x) * element.unit, theirs)


@pytest.mark.parametrize(("name", "bits"), MINIFLOATS.items())
def test_rounding_is_fp4dits_formula(name: str, bits: tuple[int, int]) -> None:
    """Arithmetic on exponents, as arXiv 2503.15465 has it, against our table of thresholds."""
    exponent_bits, mantissa_bits = bits
    element = ELEMENTS[name]
    largest = element.maximum * element.unit
    bias = max(2 ** (exponent_bits - 1) - 1, 0)
    if name in ("fp4-e2m1", "fp6-e2m3", "fp8-e3m4", "fp4-e1m2", "fp4-e3m0"):
        top = 2**exponent_bits - np.log2(largest) + np.log2(2 - 2.0**-mantissa_bits) - 1
        assert top == pytest.approx(bias, abs=1e-12)
    x = np.concatenate(
        [
            np.random.default_rng(1).uniform(-1.2 * largest, 1.2 * largest, 20_000),
            middles(element) * element.unit,
        ]
    ).astype(np.float32)
    clipped = np.clip(x.astype(np.float64), -largest, largest)
    nonzero = np.where(clipped == 0, 1e-300, np.abs(clipped))
    level = np.maximum(np.floor(np.log2(nonzero)) + bias, 1)
    step = np.exp2(level - mantissa_bits - bias)
    np.testing.assert_array_equal(element.nearest(x) * element.unit, np.rint(clipped / step) * step)


@every_element
@settings(max_examples=25, deadline=None)
@given(x=FLOATS)
def test_nothing_is_nearer(element: Element, x: np.ndarray) -> None:
    integers = element.nearest(x)
    assert integers.dtype == element.dtype
    assert integers.shape == x.shape
    levels = np.array(element.levels, np.float64) * element.unit
    wide = np.clip(x.astype(np.float64), 2 * levels[0], 2 * levels[-1])
    distance = np.abs(wide[..., None] - levels)
    chosen = np.abs(wide - integers * element.unit)
    np.testing.assert_array_equal(chosen, distance.min(axis=-1))


@every_element
@settings(max_examples=25, deadline=None)
@given(x=FLOATS)
def test_larger_numbers_never_become_smaller(element: Element, x: np.ndarray) -> None:
    assert (np.diff(element.nearest(np.sort(x, axis=None)).astype(np.int64)) >= 0).all()


@every_element
def test_every_level_is_reached_and_stays(element: Element) -> None:
    for dtype in (np.float32, np.float64):
        numbers = np.array(element.levels, dtype) * dtype(element.unit)
        np.testing.assert_array_equal(element.nearest(numbers), element.levels)


@every_element
def test_beyond_the_levels_is_the_outermost(element: Element) -> None:
    x = np.float32([-np.inf, -3e38, -1e6, 1e6, 3e38, np.inf])
    low, high = element.levels[0], element.levels[-1]
    assert element.nearest(x).tolist() == [low] * 3 + [high] * 3
    assert element.nearest(x.astype(np.float64) * 1e200).tolist() == [low] * 3 + [high] * 3


@every_element
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ties(element: Element, dtype: type) -> None:
    """A middle goes where `ties` says, its neighbours in either direction to their own side."""
    middle = middles(element).astype(dtype)
    np.testing.assert_array_equal(middle, middles(element))
    low = np.array(element.levels[:-1])
    high = np.array(element.levels[1:])
    got = element.nearest_integers(middle)
    magnitude = np.abs(got.astype(np.int64))
    if element.ties == "smaller":
        inside = low * high >= 0
        np.testing.assert_array_equal(
            magnitude[inside], np.minimum(np.abs(low), np.abs(high))[inside]
        )
    elif element.name == "fp4-e3m0":
        # The significand 1 is odd: ties of powers of two go outwards, that of 0 and 1 to 0.
        assert magnitude.tolist() == [64, 32, 16, 8, 4, 2, 0, 0, 2, 4, 8, 16, 32, 64]
    elif element.name != "binary":
        codes = np.array([element.integers.index(int(value)) for value in got])
        odd = codes & 1 if element.packing == "bits" else magnitude & 1
        assert not odd.any()
    if 0 not in element.levels:
        assert got[(low < 0) & (high > 0)].tolist() == [1]
    infinity = dtype(np.inf)
    np.testing.assert_array_equal(element.nearest_integers(np.nextafter(middle, -infinity)), low)
    np.testing.assert_array_equal(element.nearest_integers(np.nextafter(middle, infinity)), high)


@every_element
def test_thresholds_find_the_level(element: Element) -> None:
    """What other implementations do: count the thresholds that are not above."""
    assert element.thresholds.dtype == np.float32
    y = np.random.default_rng(2).uniform(-1.2, 1.2, 5000).astype(np.float32)
    y = np.concatenate([y * np.float32(element.maximum), middles(element).astype(np.float32)])
    count = (element.thresholds <= y[:, None]).sum(axis=1)
    np.testing.assert_array_equal(np.array(element.levels)[count], element.nearest_integers(y))


@every_element
def test_nan_is_refused_with_its_place(element: Element) -> None:
    with pytest.raises(InvalidDataError, match=r"at \[1, 0\] is NaN"):
        element.nearest(np.float32([[0, 1], [np.nan, 2]]))


@every_element
def test_codes_and_integers_are_inverse(element: Element) -> None:
    levels = np.array(element.levels, element.dtype)
    codes = element.codes(levels)
    assert codes.dtype == np.uint8
    back = element.integers_of(codes)
    assert back.dtype == element.dtype
    np.testing.assert_array_equal(back, levels)
    assert len(set(codes.tolist())) == len(levels)


@pytest.mark.parametrize("name", MINIFLOATS)
def test_minus_zero_reads_as_zero_and_is_never_written(name: str) -> None:
    element = ELEMENTS[name]
    sign = 1 << (element.bits - 1)
    assert element.integers_of(np.uint8([sign])).tolist() == [0]
    assert element.codes(element.nearest(np.float32([-0.0]))).tolist() == [0]


@pytest.mark.parametrize(
    ("name", "code"),
    [("ternary", 2), ("ternary-p5", 3), ("int4", 16), ("fp8-e4m3", 0xFF), ("fp8-e5m2", 0x7C)],
)
def test_codes_that_mean_nothing_are_refused(name: str, code: int) -> None:
    with pytest.raises(InvalidDataError, match=rf"code {code} at \[0, 1\] means nothing"):
        ELEMENTS[name].integers_of(np.uint8([[0, code]]))


@pytest.mark.parametrize(
    ("name", "integer", "levels"),
    [
        ("int4", 8, "-8, -7,"),
        ("int4", -9, "-8, -7,"),
        ("binary", 0, "-1, 1"),
        ("shift3", 3, "-8, -4, -2, -1, 1, 2, 4, 8"),
        ("fp4-e2m1", 5, "-12, -8"),
        ("fp8-e5m2", 9, "-3758096384, "),
    ],
)
def test_integers_that_are_no_levels_are_refused(name: str, integer: int, levels: str) -> None:
    with pytest.raises(InvalidDataError, match=rf"{integer} at \[1, 0\].*{levels}"):
        ELEMENTS[name].pack(np.array([[1], [integer]]))


def test_floats_are_no_integers() -> None:
    with pytest.raises(InvalidDataError, match="float32 given, must be integers"):
        ELEMENTS["int4"].codes(np.float32([1]))


def test_an_unknown_element_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"no number format 'int9'.*int8.*fp8-e5m2"):
        find_element("int9")
    assert find_element("int4") is ELEMENTS["int4"]


def test_elements_are_values() -> None:
    """Hashable and equal by content; their tables cannot be changed."""
    assert len(set(ELEMENTS.values())) == len(ELEMENTS)
    for element in ELEMENTS.values():
        assert not element.table.flags.writeable
        assert not element.thresholds.flags.writeable
