"""Weights through every format: integers, scales, bytes and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.errors import InvalidDataError, UsageError
from edgekit.formats import ELEMENTS, FACTORS, RULES, SPECIAL, Coded, Format, Packed
from edgekit.formats.factors import PLAIN_FACTORS
from edgekit.formats.groups import spread

NAMES = (
    *ELEMENTS,
    *("int4-t", "int8-t", "int4-g32", "int4-g5", "int2-g8", "int4-mse", "int3-g16-mse"),
    *("ternary-mean", "ternary-c", "ternary-p5-mean", "ternary-g7", "ternary-p5-c-mean"),
    *("binary-t", "binary-g4", "shift3-t-unit", "shift3-absmax", "shift2-g6", "shift4-g3-absmax"),
    *("fp4-e2m1-g128", "fp4-e2m1-g8", "fp4-e1m2-g32", "fp4-e3m0-g32", "fp6-e2m3-g16"),
    *("fp8-e4m3-t", "fp8-e5m2-g5", "fp8-e3m4-g5-e4m3", "int8-g32-shift", "fp8-e5m2-g4-shift"),
    *("mxfp4", "nvfp4"),
)
every_format = pytest.mark.parametrize("name", NAMES)

WEIGHTS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 4), st.integers(0, 40)),
    elements=st.one_of(
        st.floats(-1, 1, width=32),
        st.floats(-(2.0**100), 2.0**100, width=32),
        st.sampled_from([0.0, -0.0, 0.5, -0.5, 2.0**-133]),
    ),
)


def gauss(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def same(a: Coded, b: Coded) -> None:
    """Equal in every bit."""
    assert a.integers.dtype == b.integers.dtype
    np.testing.assert_array_equal(a.integers, b.integers)
    assert a.scale.tobytes() == b.scale.tobytes()
    assert (a.factors is None) == (b.factors is None)
    if a.factors is not None:
        np.testing.assert_array_equal(a.factors, b.factors)


def steps_of(fmt: Format, coded: Coded) -> np.ndarray:
    """What an integer 1 stands for, for every weight, in float64."""
    scale = coded.scale.astype(np.float64)[:, None]
    if coded.factors is None:
        return np.broadcast_to(scale, coded.integers.shape)
    wide = spread(coded.factors, group=fmt.group, columns=coded.integers.shape[1])
    return wide * scale


@every_format
@settings(max_examples=10, deadline=None)
@given(w=WEIGHTS)
def test_a_round_trip_keeps_everything(name: str, w: np.ndarray) -> None:
    """Through bytes exactly; through numbers, at the same scale, to the same integers."""
    fmt = Format.parse(name)
    coded = fmt.quantize(w)
    packed = fmt.pack(coded)
    assert packed.data.shape == (w.shape[0], fmt.element.row_bytes(w.shape[1]))
    same(fmt.unpack(packed), coded)
    real = fmt.dequantize(coded)
    assert real.dtype == np.float32
    assert real.shape == w.shape
    again = fmt.quantize(real, scale=coded.scale, factors=coded.factors)
    # A group that vanished has no integers to find again.
    kept = steps_of(fmt, coded) > 0
    np.testing.assert_array_equal(again.integers[kept], coded.integers[kept])
    np.testing.assert_array_equal(fmt.dequantize(again), real)


@every_format
@settings(max_examples=10, deadline=None)
@given(w=WEIGHTS)
def test_weights_become_the_nearest_level(name: str, w: np.ndarray) -> None:
    fmt = Format.parse(name)
    coded = fmt.quantize(w)
    levels = np.array([v for v in fmt.element.levels if v >= fmt.element.minimum], np.float64)
    step = steps_of(fmt, coded)
    kept = step > 0
    error = np.abs(coded.integers * step - w)[kept]
    best = np.full(error.shape, np.inf)
    for level in levels:
        best = np.minimum(best, np.abs(level * step - w)[kept])
    # The quotient is rounded: on a tie the other level may be chosen.
    assert (error <= best + 3e-7 * np.abs(w)[kept] + 3e-7 * step[kept]).all()
    assert (fmt.dequantize(coded)[~kept] == 0).all()


@every_format
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0), (1, 1)])
def test_empty_and_one_element(name: str, shape: tuple[int, int]) -> None:
    fmt = Format.parse(name)
    w = np.full(shape, -0.75, np.float32)
    coded = fmt.quantize(w)
    same(fmt.unpack(fmt.pack(coded)), coded)
    real = fmt.dequantize(coded)
    assert real.shape == shape
    if fmt.rule != "unit":
        # A single weight lies on a level, up to the rounding of its scale.
        factor = 1.0 if fmt.factors != "shift" else 0.85
        assert (np.abs(real) >= factor * 0.75 * (1 - 1e-6)).all()
        assert (real < 0).all()
    assert (fmt.effective_bits(*shape) == 0) == (0 in shape)


@every_format
def test_zeros_stay_zero(name: str) -> None:
    """Rows and groups of zeros; only formats without 0 leave a rest, the floor of their rule."""
    fmt = Format.parse(name)
    w = gauss(3, 24)
    w[1] = 0
    w[2, :8] = 0
    coded = fmt.quantize(w)
    real = fmt.dequantize(coded)
    if 0 in fmt.element.levels or fmt.granularity == "group":
        assert not real[1].any()
    elif fmt.granularity == "channel":
        assert np.abs(real[1]).max() <= (2e-5 if fmt.rule == "mean" else 1e-37)
    if coded.factors is not None:
        assert not coded.factors[1].any()
    assert np.isfinite(real).all()


@every_format
def test_constant_rows_are_kept(name: str) -> None:
    """Equal weights become equal, with their sign; to the precision of a power of two at worst."""
    fmt = Format.parse(name)
    if fmt.rule == "unit":
        return
    w = np.float32([[0.3], [-0.3]]) * np.ones((1, 12), np.float32)
    real = fmt.dequantize(fmt.quantize(w))
    assert (real == real[:, :1]).all()
    low, high = (0.8, 1.06) if fmt.factors == "shift" else (1 - 1e-5, 1 + 1e-5)
    assert (low <= real / w).all()
    assert (real / w <= high).all()


@every_format
def test_nan_and_infinity_are_refused_with_their_place(name: str) -> None:
    fmt = Format.parse(name)
    for value in (np.nan, np.inf, -np.inf):
        w = gauss(2, 3)
        w[1, 2] = value
        with pytest.raises(InvalidDataError, match=rf"weight \[1, 2\] is {value}"):
            fmt.quantize(w)
        with pytest.raises(InvalidDataError, match=rf"weight \[1, 2\] is {value}"):
            fmt.scales(w)


@every_format
def test_the_largest_weights_decode_to_finite_ones(name: str) -> None:
    """Float32's largest would not: its scale, rounded up, times the largest level is infinite."""
    fmt = Format.parse(name)
    w = np.float32([[2.0**126, -(2.0**126), 1e38 / 2]] * 2)
    assert np.isfinite(fmt.dequantize(fmt.quantize(w))).all()
    with pytest.raises(InvalidDataError, match=r"weight \[0, 0\] is 3.4.*at most 2\*\*126"):
        fmt.quantize(np.full((1, 1), np.finfo(np.float32).max))
    with pytest.raises(InvalidDataError, match=r"weight \[0, 0\] is 1e\+200"):
        fmt.quantize(np.full((1, 1), 1e200))


@pytest.mark.parametrize("w", [np.zeros(3, np.float32), np.zeros((2, 3), np.int8)])
def test_only_rows_of_floats_are_weights(w: np.ndarray) -> None:
    with pytest.raises(InvalidDataError, match=r"must be float32\[R, K\]"):
        Format.parse("int4").quantize(w)


@pytest.mark.parametrize("name", [*ELEMENTS, "int4-t", "fp8-e4m3-t", "mxfp4"])
def test_numbers_of_a_format_are_their_own_nearest(name: str) -> None:
    """With scales found anew, for rules that the largest weight decides."""
    fmt = Format.parse(name)
    if fmt.rule != "absmax":
        fmt = Format(fmt.element, fmt.granularity)
    coded = fmt.quantize(gauss(8, 96))
    again = fmt.quantize(fmt.dequantize(coded))
    np.testing.assert_array_equal(again.integers, coded.integers)
    np.testing.assert_allclose(again.scale, coded.scale, rtol=3e-7)


@pytest.mark.parametrize("name", ELEMENTS)
def test_every_level_is_reached(name: str) -> None:
    element = ELEMENTS[name]
    levels = np.array([level for level in element.levels if level >= element.minimum])
    fmt = Format(element, "tensor")
    coded = fmt.quantize(levels.astype(np.float32)[None] * np.float32(0.125))
    np.testing.assert_array_equal(coded.integers, levels[None])
    np.testing.assert_array_equal(fmt.dequantize(coded), levels[None] * 0.125)


@pytest.mark.parametrize("bits", range(3, 9))
def test_integer_weights_are_symmetric(bits: int) -> None:
    """Also where a scale from outside makes them saturate."""
    fmt = Format.parse(f"int{bits}")
    coded = fmt.quantize(np.float32([[-9e9, 9e9]]), scale=np.float32([1]))
    assert coded.integers.tolist() == [[-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1]]


def test_int2_weights_use_all_four_levels() -> None:
    coded = Format.parse("int2").quantize(np.float32([[-9, -1, 0, 9]]), scale=np.float32([1]))
    assert coded.integers.tolist() == [[-2, -1, 0, 1]]


@every_format
def test_a_given_scale_is_used(name: str) -> None:
    fmt = Format.parse(name)
    w = gauss(3, 20)
    coded = fmt.quantize(w)
    same(fmt.quantize(w, scale=coded.scale, factors=coded.factors), coded)
    scale, factors = fmt.scales(w)
    same(fmt.quantize(w, scale=scale, factors=factors), coded)


def test_given_steps_of_groups_become_factors() -> None:
    fmt = Format.parse("int4-g2")
    w = np.float32([[2, 1, 0.2, 0.1, 3]])
    coded = fmt.quantize(w, scale=np.float32([[0.51, 0.02, 1.02]]))
    assert coded.factors is not None
    assert coded.factors.tolist() == [[128, 5, 255]]
    assert coded.scale[0] == np.float32(1.02) / np.float32(255)
    assert coded.integers.tolist() == [[4, 2, 7, 5, 3]]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("int4", {"scale": np.ones(3, np.float32)}, r"must be float32\[2\] or float32\[1\]"),
        ("int4", {"scale": np.float32([1, 0])}, r"scale 0.0 at \[1\]"),
        ("int4", {"scale": np.float32([np.nan])}, r"scale nan at \[0\]"),
        ("int4", {"scale": np.float32([np.inf])}, r"scale inf at \[0\]"),
        ("int4", {"factors": np.ones((2, 1), np.int32)}, "without a scale"),
        (
            "int4",
            {"scale": np.ones(1, np.float32), "factors": np.ones((2, 1), np.int32)},
            "no groups",
        ),
        ("int4-g2", {"scale": np.ones((2, 1), np.float32)}, r"must be \[2, 2\]"),
        ("int4-g2", {"scale": np.float32([[1, 1], [1, -1]])}, "not negative"),
        (
            "int4-g2",
            {"scale": np.ones(2, np.float32), "factors": np.full((2, 2), 256)},
            r"256 at \[0, 0\] is no uint8 factor",
        ),
        (
            "mxfp4",
            {"scale": np.ones(2, np.float32), "factors": np.full((2, 2), 2)},
            r"factors are \[2, 2\], must be \[2, 1\]",
        ),
    ],
)
def test_bad_scales_are_refused(name: str, arguments: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InvalidDataError, match=message):
        Format.parse(name).quantize(gauss(2, 4), **arguments)


def test_group_scales_are_what_decodes() -> None:
    """Weights meet the scale after its rounding: a factor of 1 for a group far below."""
    fmt = Format.parse("int4-g2")
    coded = fmt.quantize(np.float32([[7, 0, 0.01, 0.004]]))
    assert coded.factors is not None
    assert coded.factors.tolist() == [[255, 1]]
    step = 7 / 7 / 255
    assert coded.integers.tolist() == [[7, 0, round(0.01 / step), round(0.004 / step)]]


def test_median_of_the_tensor_and_of_every_channel() -> None:
    w = np.float32([[1, 2, 3], [10, 20, 30]])
    assert Format.parse("ternary").quantize(w).scale.tolist() == [3]
    assert Format.parse("ternary-c").quantize(w).scale.tolist() == [2, 20]
    assert Format.parse("ternary-g2").quantize(w).factors is not None


def test_mxfp4_is_ocps_formula() -> None:
    rng = np.random.default_rng(3)
    w = (rng.standard_normal((6, 80)) * np.exp2(rng.integers(-9, 9, (6, 80)) // 2)).astype("f4")
    fmt = Format.parse("mxfp4")
    coded = fmt.quantize(w)
    real = fmt.dequantize(coded)
    for row, start in itertools.product(range(6), range(0, 80, 32)):
        block = w[row, start : start + 32].astype(float)
        scale = 2.0 ** (np.floor(np.log2(np.abs(block).max())) - 2)
        expected = ELEMENTS["fp4-e2m1"].nearest(block / scale) / 2 * scale
        np.testing.assert_array_equal(real[row, start : start + 32], expected)


def test_mxfp4_keeps_the_smallest_scale_of_e8m0() -> None:
    """2**-127 and no less; the weights below are zero or a few steps."""
    w = np.zeros((2, 32), np.float32)
    w[0, 0] = 2.0**-140
    w[1, 0] = 2.0**-125
    coded = Format.parse("mxfp4").quantize(w)
    assert coded.scale.tolist() == [2.0**-128, 2.0**-128]
    assert coded.integers[:, 0].tolist() == [0, 8]


def test_groups_far_below_their_row_vanish() -> None:
    w = np.float32([[1] * 32 + [2.0**-15] * 32 + [2.0**-16] * 32])
    fmt = Format.parse("mxfp4")
    coded = fmt.quantize(w)
    assert coded.factors is not None
    assert coded.factors.tolist() == [[32768, 1, 0]]
    np.testing.assert_array_equal(fmt.dequantize(coded)[:, ::32], [[1, 2.0**-15, 0]])


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("shift3-t-unit",)])
def test_rows_have_nothing_to_do_with_each_other(name: str) -> None:
    """Unless they share a scale."""
    fmt = Format.parse(name)
    if fmt.granularity == "tensor" or fmt.factors == "e4m3":
        return
    w = gauss(5, 33)
    whole = fmt.quantize(w)
    for row in range(5):
        alone = fmt.quantize(w[row : row + 1])
        np.testing.assert_array_equal(alone.integers[0], whole.integers[row])
        np.testing.assert_array_equal(alone.scale[0], whole.scale[row])


@pytest.mark.parametrize(
    ("name", "rows", "columns", "bits"),
    [
        ("int4", 10, 64, 4 + 32 / 64),
        ("int4-t", 10, 64, 4 + 32 / 640),
        ("int4", 1, 3, (16 + 32) / 3),
        ("int3-g32", 2, 65, (2 * 25 * 8 + 6 * 8 + 64) / 130),
        ("ternary-p5", 4, 1000, 1.6 + 32 / 4000),
        ("binary", 16, 1024, 1 + 32 / 1024),
        ("mxfp4", 1, 1 << 20, 4.25 + 32 / (1 << 20)),
        ("nvfp4", 1, 1 << 20, 4.5 + 32 / (1 << 20)),
        ("int4", 0, 7, 0),
    ],
)
def test_effective_bits(name: str, rows: int, columns: int, bits: float) -> None:
    assert Format.parse(name).effective_bits(rows, columns) == pytest.approx(bits, rel=1e-12)


@every_format
@pytest.mark.parametrize("shape", [(3, 37), (1, 1), (7, 160)])
def test_effective_bits_are_the_packed_bytes(name: str, shape: tuple[int, int]) -> None:
    fmt = Format.parse(name)
    packed = fmt.pack(fmt.quantize(gauss(*shape)))
    expected = 8 * packed.nbytes / (shape[0] * shape[1])
    assert fmt.effective_bits(*shape) == pytest.approx(expected, rel=1e-12)


@every_format
def test_names_are_read_as_they_are_written(name: str) -> None:
    fmt = Format.parse(name)
    assert str(fmt) == name
    assert hash(fmt) == hash(Format.parse(name))


def test_every_combination_has_a_name() -> None:
    groupings = [("tensor", 0, "none"), ("channel", 0, "none")] + [
        ("group", size, kind) for size in (1, 128) for kind in FACTORS if kind != "none"
    ]
    seen = set()
    for element, grouping, rule in itertools.product(ELEMENTS.values(), groupings, RULES):
        granularity, group, factors = grouping
        try:
            fmt = Format(element, granularity, group, factors, rule)  # type: ignore[arg-type]
        except UsageError:
            continue
        assert Format.parse(str(fmt)) == fmt
        seen.add(str(fmt))
    assert len(seen) > 200


@pytest.mark.parametrize("kind", sorted(FACTORS.keys() - {"none"}))
def test_every_kind_of_factors_has_a_name(kind: str) -> None:
    """The table alone decides: a kind is a modifier, but for the one that is meant without."""
    fmt = Format(ELEMENTS["int8"], "group", 16, kind)
    name = "int8-g16" if kind == PLAIN_FACTORS else f"int8-g16-{kind}"
    assert str(fmt) == name
    assert Format.parse(name) == fmt
    with pytest.raises(UsageError) as caught:
        Format.parse("int8-g16-fast")
    assert (f"-{kind}," in str(caught.value)) == (kind != PLAIN_FACTORS)


def test_special_names() -> None:
    assert str(Format.parse("fp4-e2m1-g16-e4m3")) == "nvfp4"
    assert Format.parse("mxfp4") == SPECIAL["mxfp4"]
    assert Format.parse("mxfp4").element.name == "fp4-e2m1"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("int9", "no weight format 'int9'; formats: int2, .*nvfp4; modifiers: -gN"),
        ("", "no weight format ''"),
        ("INT4", "no weight format 'INT4'"),
        ("int4-", "no modifier ''"),
        ("int4-g0", "no modifier 'g0'"),
        ("int4-g-3", "no modifier 'g'"),
        ("int4-g99999999", "no modifier"),
        ("int4-fast", "no modifier 'fast' of weight formats, in 'int4-fast'"),
        ("int4-t-c", "says a thing twice"),
        ("int4-g32-t", "says a thing twice"),
        ("int4-mse-mse", "says a thing twice"),
        ("mxfp4-g16", "'mxfp4-g16': mxfp4 takes no modifiers"),
        ("int4-median", "rule median is for ternary and binary"),
        ("int4-shift", "only groups have"),
        ("nvfp4-mse", "nvfp4 takes no modifiers"),
        ("fp4-e2m1-g32-shift-mse", "rule mse with shift factors"),
    ],
)
def test_unknown_names_say_what_is_known(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Format.parse(name)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"granularity": "row"}, "no granularity 'row'"),
        ({"granularity": "group"}, "groups of 0"),
        ({"granularity": "group", "group": 8}, "only groups have a positive size and factors"),
        ({"group": 8}, "only groups have"),
        ({"rule": "best"}, "no rule 'best'"),
        ({"factors": "int9"}, "no factors 'int9'"),
        ({"granularity": "group", "group": -1, "factors": "uint8"}, "groups of -1"),
    ],
)
def test_meaningless_combinations_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Format(ELEMENTS["int4"], **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("integers", "scale", "factors", "message"),
    [
        (np.zeros((2, 3)), np.ones(2, "f4"), None, "must be signed"),
        (np.zeros(3, np.int8), np.ones(1, "f4"), None, "must be signed"),
        (np.zeros((2, 3), np.int8), np.ones(2), None, r"scale is float64\[2\]"),
        (np.zeros((2, 3), np.int8), np.float32([1, -1]), None, r"scale -1.0 at \[1\]"),
        (np.zeros((2, 3), np.int8), np.ones(2, "f4"), np.ones((2, 1)), r"must be int32\[2, groups"),
    ],
)
def test_coded_checks_its_arrays(
    integers: np.ndarray, scale: np.ndarray, factors: np.ndarray | None, message: str
) -> None:
    with pytest.raises(InvalidDataError, match=message):
        Coded(integers, scale, factors)


def test_damaged_bytes_are_refused() -> None:
    fmt = Format.parse("mxfp4")
    packed = fmt.pack(fmt.quantize(gauss(2, 64)))
    codes = packed.factor_codes
    assert codes is not None
    with pytest.raises(InvalidDataError, match=r"uint8\[R, 32\]"):
        fmt.unpack(Packed(packed.data[:, :-1], 64, packed.scale, codes))
    with pytest.raises(InvalidDataError, match=r"must be \[2, 2\]"):
        fmt.unpack(Packed(packed.data, 64, packed.scale, codes[:, :1]))
    with pytest.raises(InvalidDataError, match=r"must be \[2, 2\]"):
        fmt.unpack(Packed(packed.data, 64, packed.scale))
    with pytest.raises(InvalidDataError, match="code 99 .* is no shift factor"):
        fmt.unpack(Packed(packed.data, 64, packed.scale, np.full_like(codes, 99)))
    with pytest.raises(InvalidDataError, match="columns, must be"):
        Packed(packed.data, -1, packed.scale, codes)
    with pytest.raises(InvalidDataError, match="no groups"):
        Format.parse("fp4-e2m1").unpack(packed)
