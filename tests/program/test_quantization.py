"""Quantise, dequantise, requantise against LiteRT; dynamic quantisation against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.program.fixed_point import Requant
from edgekit.program.ir import DType, Quantization, TensorType
from edgekit.program.operators.base import Operator, OperatorError
from edgekit.program.operators.quantization import (
    REQUANTIZE,
    Dequantize,
    DynamicQuantize,
    Quantize,
    Requantize,
)
from tests.cases.case import one_operator
from tests.support.chain import check_host

INT8, INT16, INT32, FLOAT = DType.INT8, DType.INT16, DType.INT32, DType.FLOAT32
PAIRS = [(x, y) for x, outputs in REQUANTIZE.items() for y in outputs]

AFFINE = ((0.5, 0), (0.013, -128), (1e-4, 127), (37.0, 1))
"""Scale and zero point."""


def per_tensor(scale: float, zero_point: int, dtype: DType) -> Quantization:
    """int16 has zero point 0 in TFLite."""
    return Quantization.per_tensor(scale, zero_point if dtype == INT8 else 0)


def litert(
    x: np.ndarray, x_given: Quantization | None, y: DType, y_given: Quantization | None
) -> np.ndarray:
    """LiteRT's QUANTIZE, or its DEQUANTIZE where `y` is float32."""
    from tests.support.litert_operator import Port, litert_operator

    builtin = "DEQUANTIZE" if y == FLOAT else "QUANTIZE"
    ports = Port(x.shape, x.dtype.name, x_given), Port(x.shape, str(y), y_given)
    return litert_operator(builtin, [ports[0]], ports[1])(x)[0]


def reals(scale: float, seed: int) -> np.ndarray:
    """Reals over and beyond the range, exact ties, and neighbours of ties."""
    ties = ((np.arange(-400, 400) + 0.5) * scale).astype(np.float32)
    around = [ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(np.inf))]
    spread = np.random.default_rng(seed).normal(0, 150 * scale, 5000).astype(np.float32)
    ends = np.float32([0.0, -0.0, 40_000 * scale, -40_000 * scale, 1e-42])
    return np.concatenate([*around, spread, ends]).reshape(1, -1)


@pytest.mark.needs("litert")
@pytest.mark.parametrize("dtype", [INT8, INT16])
@pytest.mark.parametrize("affine", AFFINE)
def test_quantize_equals_litert(affine: tuple[float, int], dtype: DType) -> None:
    given = per_tensor(*affine, dtype)
    x = reals(affine[0], 1)
    got = Quantize.quantized(y=given, dtype=dtype).reference(x)[0]
    np.testing.assert_array_equal(got, litert(x, None, dtype, given))


@pytest.mark.needs("litert")
@pytest.mark.parametrize("dtype", [INT8, INT16])
@pytest.mark.parametrize("affine", AFFINE)
def test_dequantize_equals_litert(affine: tuple[float, int], dtype: DType) -> None:
    given, (low, high) = per_tensor(*affine, dtype), dtype.limits
    x = np.arange(low, high + 1).astype(dtype.numpy).reshape(1, -1)
    got, want = Dequantize.quantized(x=given).reference(x)[0], litert(x, given, FLOAT, None)
    np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))


@pytest.mark.needs("litert")
@pytest.mark.parametrize(("x_dtype", "y_dtype"), PAIRS)
def test_requantize_equals_litert(x_dtype: DType, y_dtype: DType) -> None:
    rng = np.random.default_rng(2)
    low, high = x_dtype.limits
    if x_dtype == INT32:
        x = np.concatenate([rng.integers(low, high, 5000), rng.integers(-999, 999, 5000)])
    else:
        x = np.arange(low, high + 1)
    x = x.astype(x_dtype.numpy).reshape(1, -1)
    for ratio in (1.0, 0.5, 2.0, 0.031, 1.7, 2.0**-20, 2.0**-33):
        x_given = per_tensor(0.01 * ratio, -7, x_dtype)
        y_given = per_tensor(0.01, 100, y_dtype)
        got = Requantize.quantized(x=x_given, y=y_given, dtype=y_dtype).reference(x)[0]
        want = litert(x, x_given, y_dtype, y_given)
        np.testing.assert_array_equal(got, want, f"ratio {ratio}")


@pytest.mark.needs("cc")
@pytest.mark.parametrize("dtype", [INT8, INT16])
def test_ties_and_ends_on_host(dtype: DType) -> None:
    x = reals(0.013, 3)
    x[0, :6] = [math.inf, -math.inf, 3e38, -3e38, 2.0**31, -(2.0**31)]
    operator = Quantize(float(np.float32(0.013)), 100, dtype)
    check_host(one_operator(operator, TensorType(x.shape, FLOAT)), [{"in0": x}])


def test_quantize_rounds_half_away_and_saturates() -> None:
    x = np.float32([0.5, -0.5, 1.5, -1.5, 0.49999997, math.inf, -math.inf, 1e30, math.nan])
    want = [1, -1, 2, -2, 0, 127, -128, 127, -128]
    assert Quantize(1.0, 0).reference(x)[0].tolist() == want


def dynamic_real(row: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """The definition, element by element in float32."""
    absmax = max(np.float32(1e-5), *(abs(v) for v in row))
    factor = np.float32(127) / absmax
    codes = [round(float(min(max(v * factor, np.float32(-127)), np.float32(127)))) for v in row]
    return np.array(codes, np.int8), absmax / np.float32(127)


def test_dynamic_quantize_is_its_definition() -> None:
    rng = np.random.default_rng(4)
    x = (rng.normal(0, 1, (3, 20, 33)) * np.exp(rng.uniform(-20, 20, (3, 20, 1)))).astype(
        np.float32
    )
    y, scale = DynamicQuantize().reference(x)
    assert (y.dtype, scale.shape) == (np.int8, (3, 20, 1))
    for index in np.ndindex(3, 20):
        codes, wanted = dynamic_real(x[index])
        np.testing.assert_array_equal(y[index], codes)
        assert scale[index][0] == wanted


def test_dynamic_quantize_rounds_half_to_even() -> None:
    y, scale = DynamicQuantize().reference(np.float32([[127, 0.5, 1.5, 2.5, -0.5, -1.5]]))
    assert y.tolist() == [[127, 0, 2, 2, 0, -2]]
    assert scale.tolist() == [[1.0]]


@pytest.mark.needs("cc")
def test_dynamic_quantize_on_host() -> None:
    rng = np.random.default_rng(5)
    x = (rng.normal(0, 1, (40, 65)) * np.exp(rng.uniform(-20, 20, (40, 1)))).astype(np.float32)
    x[0], x[1] = 0, np.where(np.arange(65) % 2, np.float32(3e38), np.float32(-1e-38))
    x[2] = np.arange(65) - np.float32(32.5)
    x[2, 0] = 127
    program = one_operator(DynamicQuantize(), TensorType(x.shape, FLOAT))
    check_host(program, [{"in0": x}])


def kind(dtype: DType, *shape: int) -> TensorType:
    """A type."""
    return TensorType(shape, dtype)


FACTOR = Requant.from_real([1.0], "double")


@pytest.mark.parametrize(
    ("operator", "x", "message"),
    [
        (Quantize(1.0, 0), kind(INT8, 4), "must be float32"),
        (Quantize(1.0, 0, INT32), kind(FLOAT, 4), "must be int8 or int16"),
        (Quantize(0.0, 0), kind(FLOAT, 4), "must be positive"),
        (Quantize(math.inf, 0), kind(FLOAT, 4), "must be positive and finite"),
        (Quantize(0.1, 0), kind(FLOAT, 4), "is no float32"),
        (Quantize(1.0, 128), kind(FLOAT, 4), "zero_point 128 does not fit int8"),
        (Dequantize(1.0, 0), kind(INT32, 4), "must be int8 or int16"),
        (Dequantize(1.0, -129), kind(INT8, 4), "does not fit"),
        (Requantize(FACTOR, dtype=INT32), kind(INT8, 4), "must be int8 or int16 where x is int8"),
        (Requantize(FACTOR), kind(FLOAT, 4), "must be int8 or int16 or int32"),
        (Requantize(FACTOR, 200), kind(INT8, 4), "x_zero_point 200"),
        (Requantize(FACTOR, 0, 200), kind(INT8, 4), "y_zero_point 200"),
        (Requantize(Requant.from_real([1.0], "single")), kind(INT8, 4), "rounds 'single'"),
        (Requantize(Requant.from_real([1.0, 1.0], "double")), kind(INT8, 4), "has 2 factors"),
        (DynamicQuantize(), kind(INT8, 4), "must be float32"),
        (DynamicQuantize(), kind(FLOAT, 4, 0), "not empty"),
        (DynamicQuantize(0.0), kind(FLOAT, 4), "floor is 0.0"),
    ],
)
def test_refuses(operator: Operator, x: TensorType, message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        operator.infer(x)
