"""Softmax and argmax against LiteRT's reference kernels; layernorm against real arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from edgekit.program.fixed_point import Requant
from edgekit.program.ir import DType, Quantization, TensorType
from edgekit.program.operators.base import Operator, OperatorError
from edgekit.program.operators.normalization import (
    LAYERNORM_MAX_EPSILON,
    SOFTMAX_OUTPUT,
    ArgMax,
    LayerNorm,
    Softmax,
    exp_on_negative,
    reciprocal_of_one_plus,
)
from tests.cases.case import one_operator
from tests.support.chain import check_host

INT8, INT16, FLOAT = DType.INT8, DType.INT16, DType.FLOAT32
INDEX_CODES = {DType.INT32: 2, DType.INT64: 4}
"""Of the indices' type in ArgMaxOptions."""


def kind(dtype: DType, *shape: int) -> TensorType:
    """A type."""
    return TensorType(shape, dtype)


def softmax_litert(x: np.ndarray, quantization: Quantization | None, beta: float) -> np.ndarray:
    """LiteRT's softmax."""
    from ai_edge_litert import schema_py_generated as schema

    from tests.support.litert_operator import Port, litert_operator

    options = schema.SoftmaxOptionsT()
    options.beta = beta
    dtype = x.dtype.name
    output = None if quantization is None else SOFTMAX_OUTPUT[DType(dtype)]
    given, result = Port(x.shape, dtype, quantization), Port(x.shape, dtype, output)
    return litert_operator("SOFTMAX", [given], result, options)(x)[0]


def rows(dtype: DType, length: int, seed: int) -> np.ndarray:
    """Rows over the whole range, narrow ones, constant ones, and one with a single peak."""
    rng = np.random.default_rng(seed)
    low, high = dtype.limits
    wide = rng.integers(low, high, (60, length), endpoint=True)
    narrow = rng.integers(-9, 9, (60, length))
    constant = np.broadcast_to(rng.integers(low, high, (5, 1)), (5, length))
    peak = np.full((1, length), low)
    peak[0, -1] = high
    return np.concatenate([wide, narrow, constant, peak]).astype(dtype.numpy)


@pytest.mark.needs("litert")
@pytest.mark.parametrize("length", [1, 2, 10, 131])
@pytest.mark.parametrize("dtype", [INT8, INT16])
def test_integer_softmax_equals_litert(dtype: DType, length: int) -> None:
    rng = np.random.default_rng(length)
    scales = [1e-7, 1e-3, 0.0625, 1.0, 15.9, 16.0, 31.0, *np.exp(rng.uniform(-7, 2, 10))]
    for number, scale in enumerate(scales):
        x, beta = rows(dtype, length, number), (1.0, 0.3, 2.0)[number % 3]
        given = Quantization.per_tensor(scale, int(rng.integers(-128, 128)) * (dtype == "int8"))
        operator = Softmax.quantized(x=given, y=SOFTMAX_OUTPUT[dtype], beta=beta, dtype=dtype)
        want = softmax_litert(x, given, beta)
        np.testing.assert_array_equal(operator.reference(x)[0], want, f"scale {scale}, beta {beta}")


@pytest.mark.needs("litert")
def test_many_equal_elements_equal_litert() -> None:
    # The most that LiteRT runs: it aborts where the sum of exponentials reaches 512.
    x, given = np.zeros((1, 511), np.int8), Quantization.per_tensor(0.1)
    operator = Softmax.quantized(x=given, y=SOFTMAX_OUTPUT[INT8])
    np.testing.assert_array_equal(operator.reference(x)[0], softmax_litert(x, given, 1.0))


@pytest.mark.needs("cc")
@pytest.mark.parametrize("length", [511, 512, 513, 1000, 2048, 4095])
def test_too_many_equal_elements_share_nothing(length: int) -> None:
    x = np.zeros((1, length), np.int8)
    given = Quantization.per_tensor(0.1)
    operator = Softmax.quantized(x=given, y=SOFTMAX_OUTPUT[INT8])
    assert set(operator.reference(x)[0].ravel()) == {-127 if length < 512 else -128}
    check_host(one_operator(operator, kind(INT8, *x.shape)), [{"in0": x}])


@pytest.mark.needs("litert")
def test_float32_softmax_is_near_litert() -> None:
    x = np.random.default_rng(1).normal(0, 3, (1, 500, 37)).astype(np.float32)
    got, want = Softmax().reference(x)[0], softmax_litert(x, None, 1.0)
    assert np.max(np.abs(got.astype(np.float64) - want) / np.spacing(want)) <= 8


def test_float32_softmax_adds_from_the_front() -> None:
    # 1 + 2**-24 rounds to 1, so the small ones are lost one by one if the large one comes first,
    # and survive if it comes last.
    small = np.float32(-16.7)
    front = Softmax().reference(np.array([[0.0] + [small] * 40], np.float32))[0]
    back = Softmax().reference(np.array([[small] * 40 + [0.0]], np.float32))[0]
    assert front[0, 0] == 1.0
    assert back[0, -1] < 1.0


@pytest.mark.needs("litert")
@pytest.mark.parametrize("index", INDEX_CODES)
@pytest.mark.parametrize("dtype", [INT8, FLOAT])
def test_argmax_equals_litert(dtype: DType, index: DType) -> None:
    from ai_edge_litert import schema_py_generated as schema

    from tests.support.litert_operator import Port, litert_operator

    # Few values, so that there are ties.
    x = np.random.default_rng(2).integers(-3, 3, (2, 5, 3, 7)).astype(dtype.numpy)
    options = schema.ArgMaxOptionsT()
    options.outputType = INDEX_CODES[index]
    for axis in range(4):
        got = ArgMax(axis, index).reference(x)[0]
        ports = [
            Port(x.shape, str(dtype), Quantization.per_tensor(1.0) if dtype.is_integer else None),
            Port((), "int32", data=np.array(axis, np.int32)),
        ]
        want = litert_operator("ARG_MAX", ports, Port(got.shape, str(index)), options)(x)[0]
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_argmax_ignores_nan_as_a_comparison_does() -> None:
    x = np.float32([[np.nan, 1, 2], [1, np.nan, 2], [-np.inf, np.nan, -np.inf]])
    assert ArgMax(1).reference(x)[0].tolist() == [0, 2, 0]


@pytest.mark.needs("cc")
@pytest.mark.parametrize("dtype", [INT8, INT16])
def test_softmax_rows_on_host(dtype: DType) -> None:
    for number, scale in enumerate((1e-7, 0.01, 0.2, 31.0)):
        x = rows(dtype, 9, number)
        operator = Softmax.quantized(
            x=Quantization.per_tensor(scale), y=SOFTMAX_OUTPUT[dtype], dtype=dtype
        )
        check_host(one_operator(operator, kind(dtype, *x.shape)), [{"in0": x}])


def test_exp_on_negative_is_exp() -> None:
    x = -np.arange(0, 2**31, 12_345_677, dtype=np.int64)
    error = exp_on_negative(x) / 2.0**31 - np.exp(x / 2.0**26)
    assert np.abs(error).max() < 2e-7


def test_reciprocal_of_one_plus_is_the_reciprocal() -> None:
    x = np.arange(0, 2**31, 12_345_677, dtype=np.int64)
    error = reciprocal_of_one_plus(x) / 2.0**31 - 1 / (1 + x / 2.0**31)
    assert np.abs(error).max() < 1e-8


def layernorm_real(
    x: np.ndarray, gamma: np.ndarray | None, beta: np.ndarray | None, epsilon: float
) -> np.ndarray:
    """Layer normalisation in float64."""
    x = x.astype(np.float64)
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


PARAMETERS: dict[str, tuple[bool, bool]] = {
    "bare": (False, False),
    "gamma": (True, False),
    "beta": (False, True),
    "full": (True, True),
}


def parameters(name: str, size: int, rng: np.random.Generator) -> list[np.ndarray | None]:
    """Gamma and beta, those that `name` has."""
    drawn = rng.normal(1, 0.5, size), rng.normal(0, 1, size)
    pairs = zip(drawn, PARAMETERS[name], strict=True)
    return [values.astype(np.float32) if there else None for values, there in pairs]


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("size", [2, 7, 64, 768])
def test_float32_layernorm_is_near_exact(size: int, name: str) -> None:
    rng = np.random.default_rng(size)
    gamma, beta = parameters(name, size, rng)
    x = rng.normal(0.5, 2, (50, size)).astype(np.float32)
    got = LayerNorm(1e-5).reference(x, gamma, beta)[0]
    np.testing.assert_allclose(got, layernorm_real(x, gamma, beta, 1e-5), atol=2e-5)


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("size", [2, 7, 64, 768])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 3.0])
def test_int8_layernorm_is_within_one_step(epsilon: float, size: int, name: str) -> None:
    rng = np.random.default_rng(size)
    gamma, beta = parameters(name, size, rng)
    x_given = Quantization.per_tensor(0.037, int(rng.integers(-128, 128)))
    y_given = Quantization.per_tensor(0.05, -7)
    x = np.concatenate(
        [
            rng.integers(-128, 128, (40, size)),
            rng.integers(-3, 3, (40, size)),
            rng.integers(-128, 128, (3, 1)) + np.zeros((3, size), np.int64),
            np.where(np.arange(size) == 1, 127, -128)[None],
        ]
    ).astype(np.int8)
    integer_gamma, integer_beta, gamma_scale = LayerNorm.integer_parameters(gamma, beta)
    operator = LayerNorm.quantized(
        epsilon=epsilon, size=size, x=x_given, y=y_given, gamma_scale=gamma_scale
    )
    got = operator.reference(x, integer_gamma, integer_beta)[0]
    real = 0.037 * (x.astype(np.float64) - x_given.scalar_zero_point)
    want = np.clip(layernorm_real(real, gamma, beta, epsilon) / 0.05 - 7, -128, 127)
    assert np.abs(got - want).max() < 0.6


def test_int8_layernorm_keeps_large_offsets() -> None:
    # Beta thousands of times gamma would overflow if gamma's own scale were taken.
    gamma, beta = np.float32([0.001, 0.001]), np.float32([50.0, -50.0])
    integer_gamma, integer_beta, scale = LayerNorm.integer_parameters(gamma, beta)
    operator = LayerNorm.quantized(
        epsilon=1e-5,
        size=2,
        x=Quantization.per_tensor(1.0),
        y=Quantization.per_tensor(1.0),
        gamma_scale=scale,
    )
    got = operator.reference(np.int8([[1, 5]]), integer_gamma, integer_beta)[0]
    assert got.tolist() == [[50, -50]]


@pytest.mark.needs("cc")
def test_int8_layernorm_extremes_on_host() -> None:
    one = Quantization.per_tensor(1.0)
    rng = np.random.default_rng(9)
    for epsilon in (1, 5, LAYERNORM_MAX_EPSILON):
        for size in (1, 2, 65535):
            x = rng.integers(-128, 128, (4, size)).astype(np.int8)
            x[0], x[1], x[2] = 127, -128, np.where(np.arange(size) % 2, 127, -128)
            operator = LayerNorm(0.0, epsilon, Requant.from_real([0.001], "double"), 3, (-128, 127))
            gamma = np.full(size, -32768, np.int16)
            beta = np.full(size, -(2**31), np.int32)
            parameters = ("const", gamma), ("const", beta)
            program = one_operator(operator, kind(INT8, *x.shape), *parameters)
            check_host(program, [{"in0": x}])
    assert LayerNorm.quantized(epsilon=0.0, size=4, x=one, y=one).integer_epsilon == 1


def test_softmax_refuses_other_quantisations() -> None:
    one = Quantization.per_tensor(1.0)
    with pytest.raises(UnsupportedError, match=r"must have 0\.00390625 and -128"):
        Softmax.quantized(x=one, y=one)
    with pytest.raises(UnsupportedError, match=r"above 2\*\*-26"):
        Softmax.quantized(x=Quantization.per_tensor(1e-9), y=SOFTMAX_OUTPUT[INT8])


SINGLE = Requant.from_real([1.0], "single")
PAIR = Requant.from_real([1.0, 2.0], "double")
NORM: dict[str, Any] = {"integer_epsilon": 1, "requant": Requant.from_real([1.0], "double")}


@pytest.mark.parametrize(
    ("operator", "inputs", "message"),
    [
        (Softmax(), [kind(INT8, 1, 4096)], "at most 4095"),
        (Softmax(shift=32), [kind(INT8, 1, 4)], "shift 32"),
        (Softmax(shift=-32), [kind(INT16, 1, 4)], "shift -32"),
        (Softmax(), [kind(FLOAT, 1, 0)], "not empty"),
        (Softmax(), [kind(FLOAT)], "not empty"),
        (LayerNorm(0.1), [kind(INT8, 1, 4), None, None], "requant is for int8"),
        (LayerNorm(0.1, **NORM), [kind(FLOAT, 1, 4), None, None], "requant is for int8"),
        (LayerNorm(0.1, **NORM), [kind(INT8, 1, 4), None, None], "needs a clamp"),
        (LayerNorm(0.1, **NORM, clamp=(0, 1)), [kind(INT8, 1, 65536)], "at most 65535"),
        (LayerNorm(0.1, 1, SINGLE, 0, (0, 1)), [kind(INT8, 1, 4)], "requant rounds 'single'"),
        (LayerNorm(0.1, 1, PAIR, 0, (0, 1)), [kind(INT8, 1, 4)], "requant has 2 factors"),
        (LayerNorm(0.1, **NORM, y_zero_point=128, clamp=(0, 1)), [kind(INT8, 1, 4)], "y_zero_poi"),
        (LayerNorm(0.1), [kind(FLOAT, 1, 4), kind(FLOAT, 3), None], "must have \\[4\\]"),
        (LayerNorm(0.1), [kind(FLOAT, 1, 4), None, kind(DType.INT32, 4)], "must be float32"),
        (ArgMax(2), [kind(INT8, 1, 4)], "outside"),
        (ArgMax(0), [kind(INT16, 1, 4)], "must be int8 or float32"),
        (ArgMax(0, INT8), [kind(INT8, 1, 4)], "must be int32 or int64"),
    ],
)
def test_refuses(operator: Operator, inputs: list[TensorType | None], message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        operator.infer(*inputs)
