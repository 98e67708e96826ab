"""Packed rows: drawn by hand, in both directions, and damaged."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import InvalidDataError
from edgekit.formats import ELEMENTS, Element

every_element = pytest.mark.parametrize("element", ELEMENTS.values(), ids=list(ELEMENTS))


@st.composite
def rows_of_levels(draw: st.DrawFn) -> tuple[int, int, int]:
    """Rows, columns, seed."""
    return draw(st.integers(0, 5)), draw(st.integers(0, 41)), draw(st.integers(0, 2**32))


def levels_of(element: Element, shape: tuple[int, int, int]) -> np.ndarray:
    rows, columns, seed = shape
    levels = np.array(element.levels, element.dtype)
    return np.random.default_rng(seed).choice(levels, (rows, columns))


@every_element
@settings(max_examples=25, deadline=None)
@given(shape=rows_of_levels())
def test_unpacking_gives_what_was_packed(element: Element, shape: tuple[int, int, int]) -> None:
    integers = levels_of(element, shape)
    packed = element.pack(integers)
    assert packed.dtype == np.uint8
    assert packed.shape == (integers.shape[0], element.row_bytes(integers.shape[1]))
    back = element.unpack(packed, integers.shape[1])
    assert back.dtype == element.dtype
    np.testing.assert_array_equal(back, integers)


@every_element
@settings(max_examples=25, deadline=None)
@given(shape=rows_of_levels())
def test_a_row_is_a_little_endian_number(element: Element, shape: tuple[int, int, int]) -> None:
    """Against arithmetic on Python's integers."""
    integers = levels_of(element, shape)
    packed = element.pack(integers)
    for row, codes in zip(packed, element.codes(integers).tolist(), strict=True):
        if element.packing == "trits":
            digits = [*codes, *[1] * (-len(codes) % 5)]
            expected = [
                sum(digit * 3**place for place, digit in enumerate(digits[start : start + 5]))
                for start in range(0, len(digits), 5)
            ]
        else:
            number = sum(code << element.bits * place for place, code in enumerate(codes))
            expected = list(number.to_bytes(element.row_bytes(len(codes)), "little"))
        assert row.tolist() == expected


@every_element
def test_every_code_goes_through(element: Element) -> None:
    integers = np.array([element.levels], element.dtype)
    np.testing.assert_array_equal(
        element.unpack(element.pack(integers), integers.shape[1]), integers
    )


@pytest.mark.parametrize(
    ("name", "integers", "drawn"),
    [
        # The last byte of a row first, so that the number reads from its most significant bit.
        ("binary", [1, -1, -1, 1, 1, 1, 1, 1, 1, -1], "00000001 11111001"),
        ("ternary", [1, -1, 0, 1, -1], "00000011 01001101"),
        ("int2", [1, -2, 0, -1], "11001001"),
        ("int3", [1, -1, -4, 3], "00000111 00111001"),
        ("shift2", [1, 2, -1, -2], "11100100"),
        ("shift3", [8, -1, 1], "00000000 00100011"),
        ("shift4", [128, -128], "11110111"),
        ("int4", [1, -1, 7], "00000111 11110001"),
        ("int5", [-16, 15, 1], "00000101 11110000"),
        ("int6", [1, -1, 2], "00000000 00101111 11000001"),
        ("int7", [-64, 1], "00000000 11000000"),
        ("int8", [-128, 127], "01111111 10000000"),
        ("fp4-e2m1", [12, -1], "10010111"),
        ("fp4-e1m2", [7, -4], "11000111"),
        ("fp4-e3m0", [1, -64], "11110001"),
        ("fp6-e2m3", [60, -8], "00001010 00011111"),
        ("fp8-e3m4", [1984, -16], "10010000 01111111"),
        ("fp8-e4m3", [229376, -512], "10111000 01111110"),
        ("fp8-e5m2", [7 << 29, -(1 << 16)], "10111100 01111011"),
    ],
)
def test_layout_drawn_by_hand(name: str, integers: list[int], drawn: str) -> None:
    packed = ELEMENTS[name].pack(np.array([integers]))
    assert " ".join(f"{byte:08b}" for byte in packed[0, ::-1]) == drawn


def test_five_trits_by_hand() -> None:
    packed = ELEMENTS["ternary-p5"].pack(np.int8([[-1, -1, -1, -1, -1, 1], [1, 1, 1, 1, 1, -1]]))
    # 0; 2 + 3*1 + 9 + 27 + 81; 242; 0 + 3 + 9 + 27 + 81
    assert packed.tolist() == [[0, 122], [242, 120]]


def test_int4_is_packed_as_onnx_packs_it() -> None:
    values = np.array([-8, 7, 0, 3, -1, 5, -2], np.int8)
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.INT4, [7], values.tolist())
    stored = bytes(tensor.int32_data) if tensor.int32_data else tensor.raw_data
    assert ELEMENTS["int4"].pack(values[None]).tobytes() == stored


@pytest.mark.parametrize(
    ("name", "columns", "row_bytes"),
    [
        *(("binary", 8, 1), ("binary", 9, 2), ("ternary", 5, 2), ("ternary-p5", 10, 2)),
        *(("ternary-p5", 11, 3), ("int3", 8, 3), ("int4", 0, 0), ("fp6-e2m3", 4, 3)),
    ],
)
def test_row_bytes(name: str, columns: int, row_bytes: int) -> None:
    assert ELEMENTS[name].row_bytes(columns) == row_bytes


@every_element
def test_bits_per_weight_is_what_long_rows_take(element: Element) -> None:
    assert 8 * element.row_bytes(1_000_000) / 1_000_000 == element.bits_per_weight


@every_element
def test_truncated_rows_are_refused(element: Element) -> None:
    packed = element.pack(np.array([element.levels[:2] * 10] * 2, element.dtype))
    with pytest.raises(InvalidDataError, match=rf"uint8\[R, {packed.shape[1]}\]"):
        element.unpack(packed[:, :-1], 20)
    with pytest.raises(InvalidDataError, match=rf"uint8\[R, {packed.shape[1]}\]"):
        element.unpack(packed.astype(np.int16), 20)
    with pytest.raises(InvalidDataError, match=rf"uint8\[R, {packed.shape[1]}\]"):
        element.unpack(packed[0], 20)


@pytest.mark.parametrize("name", [n for n, e in ELEMENTS.items() if e.bits < 8])
def test_bits_after_the_last_code_must_be_clear(name: str) -> None:
    """They are when `pack` wrote them; if not, the length is wrong or the data damaged."""
    element = ELEMENTS[name]
    packed = element.pack(np.array([[1], [1]], element.dtype))
    packed[1, -1] ^= 0x80 if element.packing == "bits" else 81
    with pytest.raises(InvalidDataError, match="after the last code of row 1"):
        element.unpack(packed, 1)


def test_bytes_above_242_are_no_trits() -> None:
    with pytest.raises(InvalidDataError, match="byte 1 of row 0 is 243; five trits reach 242"):
        ELEMENTS["ternary-p5"].unpack(np.uint8([[0, 243]]), 10)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3)])
def test_only_rows_are_packed(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidDataError, match=r"must be \[R, K\]"):
        ELEMENTS["int4"].pack(np.zeros(shape, np.int8))
