"""Sums, differences, products: shape rules, and LiteRT's reference kernels to the bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgekit.program.fixed_point import Activation, Requant
from edgekit.program.ir import DType, Quantization, TensorType
from edgekit.program.operators.base import Operator, OperatorError
from edgekit.program.operators.convolution import Conv2D
from edgekit.program.operators.elementwise import Add, Mul, Sub, Sum
from tests.cases.elementwise import SCALES, SHAPES, Scales, quantizations

BUILTINS: dict[type[Operator], str] = {Add: "ADD", Sub: "SUB", Mul: "MUL"}
ACTIVATIONS: dict[Activation, int] = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}

TINY_FACTORS: dict[str, Scales] = {
    "operand_below_-31": ((1e-12, 5), (1.0, -3), (1.0, 9)),
    "result_below_-31": ((1e-6, 5), (1e-6, -3), (1e9, 9)),
}
"""Scales whose factors need a shift below −31, so that they are zero."""


def litert(kind: type[Operator], activation: Activation, a: Any, b: Any, y: Any) -> Any:
    """The builtin between three ports."""
    from ai_edge_litert import schema_py_generated as schema

    from tests.support.litert_operator import litert_operator

    options = getattr(schema, f"{BUILTINS[kind].title()}OptionsT")()
    options.fusedActivationFunction = ACTIVATIONS[activation]
    if kind is not Mul:
        options.potScaleInt16 = False
    return litert_operator(BUILTINS[kind], [a, b], y, options)


def port(shape: tuple[int, ...], dtype: DType, quantization: Quantization | None = None) -> Any:
    """An input or output of the LiteRT model."""
    from tests.support.litert_operator import Port

    return Port(shape, str(dtype), quantization)


def operands(dtype: DType, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All 65,536 pairs of int8; 100,000 pairs of int16, its corners among them."""
    if dtype == DType.INT8:
        codes = np.arange(-128, 128, dtype=np.int8)
        a, b = np.meshgrid(codes, codes)
        return a.reshape(1, -1), b.reshape(1, -1)
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-(2**15), 2**15, (2, 1, 100_000)).astype(np.int16)
    a[0, :4], b[0, :4] = [-32768, 32767, -32768, 32767], [-32768, 32767, 32767, -32768]
    return a, b


@pytest.mark.needs("litert")
@pytest.mark.parametrize("dtype", [DType.INT8, DType.INT16])
@pytest.mark.parametrize("kind", BUILTINS)
@pytest.mark.parametrize("name", [*SCALES, *TINY_FACTORS])
def test_integers_equal_litert(kind: Any, dtype: DType, name: str) -> None:
    scales = {**SCALES, **TINY_FACTORS}[name]
    activation = list(ACTIVATIONS)[len(name) % 4]
    given = quantizations(scales, dtype)
    a, b = operands(dtype, len(name))
    ports = [port(a.shape, dtype, given[key]) for key in "aby"]
    want = litert(kind, activation, *ports)(a, b)[0]
    operator = kind.quantized(**given, dtype=dtype, activation=activation)
    np.testing.assert_array_equal(operator.reference(a, b)[0], want)


@pytest.mark.needs("litert")
@pytest.mark.parametrize("dtype", [DType.INT8, DType.INT16, DType.FLOAT32])
@pytest.mark.parametrize("kind", BUILTINS)
@pytest.mark.parametrize("name", SHAPES)
def test_broadcasting_equals_litert(kind: Any, dtype: DType, name: str) -> None:
    rng = np.random.default_rng(3)
    integer = dtype.is_integer
    given = quantizations(SCALES["plain"], dtype) if integer else dict.fromkeys("aby")
    operator = kind.quantized(**given, dtype=dtype) if integer else kind.float32()
    for shapes in (SHAPES[name], SHAPES[name][::-1]):
        a, b = (rng.normal(0, 50, shape).astype(dtype.numpy) for shape in shapes)
        got = operator.reference(a, b)[0]
        model = litert(
            kind,
            "none",
            port(a.shape, dtype, given["a"]),
            port(b.shape, dtype, given["b"]),
            port(got.shape, dtype, given["y"]),
        )
        np.testing.assert_array_equal(got, model(a, b)[0])


@pytest.mark.needs("litert")
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", BUILTINS)
def test_float32_equals_litert(kind: Any, activation: Activation) -> None:
    a, b = np.random.default_rng(4).normal(0, 4, (2, 1, 20_000)).astype(np.float32)
    ports = [port(a.shape, DType.FLOAT32)] * 3
    want = litert(kind, activation, *ports)(a, b)[0]
    got = kind.float32(activation).reference(a, b)[0]
    np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))


def test_sum_saturates_and_rounds() -> None:
    one, two = Quantization.per_tensor(1.0), Quantization.per_tensor(2.0)
    halved = Sum.quantized(a=one, b=one, y=two)
    # Sums of ±1 and ±3 are ties of the output scale: away from zero.
    assert halved.apply([1, 3, -1, -3], 0).tolist() == [1, 2, -1, -2]
    same = Sum.quantized(a=one, b=one, y=one, activation="relu6")
    assert same.apply([100, -100, 2], [100, -100, 1]).tolist() == [6, 0, 3]


def test_factor_below_minus_31_is_zero() -> None:
    tiny, one = Quantization.per_tensor(2.0**-20), Quantization.per_tensor(1.0)
    operator = Mul.quantized(a=tiny, b=tiny, y=one)
    assert operator.requant == Requant((0,), (0,), "double")
    assert operator.reference(np.int8([127]), np.int8([127]))[0].tolist() == [0]


INT8 = TensorType((1, 4), DType.INT8)
FLOAT = TensorType((1, 4), DType.FLOAT32)
ONE = Quantization.per_tensor(1.0)
ADD = Add.quantized(a=ONE, b=ONE, y=ONE)
MUL = Mul.quantized(a=ONE, b=ONE, y=ONE)
MANY = Requant.from_real([1.0] * 64, "double")
FLOAT64 = Requant.from_real([1.0], "float64")


@pytest.mark.parametrize(
    ("operator", "a", "b", "message"),
    [
        (ADD, INT8, FLOAT, "one dtype"),
        (ADD, INT8, TensorType((3,), DType.INT8), "do not broadcast"),
        (ADD, TensorType((1,) * 6, DType.INT8), INT8, "at most 5 axes"),
        (ADD, TensorType((1,), DType.INT32), TensorType((1,), DType.INT32), "must be int8 or"),
        (ADD, TensorType((4,), DType.INT16), TensorType((4,), DType.INT16), "left_shift"),
        (Add(), INT8, INT8, "needs quant"),
        (ADD, FLOAT, FLOAT, "takes no quant"),
        (Add(quant=ADD.quant, clamp=(0.0, 1.0)), INT8, INT8, "takes its clamp from quant"),
        (Add(clamp=(1.0, 0.0)), FLOAT, FLOAT, "empty"),
        (Mul(clamp=(-128, 127)), INT8, INT8, "needs requant"),
        (Mul(requant=MUL.requant), INT8, INT8, "needs a clamp"),
        (
            Mul(a_zero_point=1, requant=MUL.requant, clamp=(-128, 127)),
            TensorType((4,), DType.INT16),
            TensorType((4,), DType.INT16),
            "a_zero_point is 1, must be 0 for int16",
        ),
        (replace(MUL, requant=FLOAT64), INT8, INT8, "requant rounds 'float64', must be 'double'"),
        (replace(MUL, requant=MANY), INT8, INT8, "requant has 64 factors, must have one"),
        (replace(MUL, y_zero_point=128), INT8, INT8, "y_zero_point 128 does not fit"),
    ],
)
def test_refuses(operator: Operator, a: TensorType, b: TensorType, message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        operator.infer(a, b)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("a", Requant.from_real([3.0], "double"), "must be at most 1/2"),
        ("b", Requant.from_real([0.501], "double"), "must be at most 1/2"),
        ("a", Requant.from_real([0.5], "single"), "a rounds 'single', must be 'double'"),
        ("b", MANY, "b has 64 factors"),
        ("y", FLOAT64, "y rounds 'float64'"),
        ("a_zero_point", 128, "a_zero_point 128 does not fit int8"),
        ("b_zero_point", -129, "b_zero_point -129 does not fit int8"),
        ("y_zero_point", 2**31, "y_zero_point 2147483648 does not fit int8"),
        ("clamp", (-1000, 1000), "does not fit int8"),
        ("left_shift", 19, "left_shift is 19, must be 20"),
    ],
)
def test_sum_refuses(field: str, value: Any, message: str) -> None:
    """In an addition, and in the residual of a convolution."""
    assert ADD.quant is not None
    wild = replace(ADD.quant, **{field: value})
    with pytest.raises(OperatorError, match=message):
        Add(quant=wild).infer(INT8, INT8)
    conv = Conv2D.quantized(x=ONE, w=ONE, y=ONE, residual=wild)
    x, w = TensorType((1, 1, 1, 4), DType.INT8), TensorType((4, 1, 1, 4), DType.INT8)
    with pytest.raises(OperatorError, match=message):
        conv.infer(x, w, None, x)
