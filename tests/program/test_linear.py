"""Matrix products: shape rules, meaning against LiteRT's reference kernels, refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgekit.program.fixed_point import FLOAT64_RESULT_LIMIT, Requant
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.base import OperatorError
from edgekit.program.operators.linear import BatchMatMul, FullyConnected
from tests.cases.convolution import DTYPES, near_ties
from tests.cases.linear import (
    SINGLE_PRODUCT,
    TIES,
    Dense,
    Product,
    layers,
    products,
)
from tests.support.litert import TFLiteBuilder, schema
from tests.support.oracle import assert_equals_litert

FLOAT_TOLERANCE = 3e-5
"""Of sums of at most 1100 products of numbers about 4; LiteRT adds in another order."""

ACTIVATIONS = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}
INTEGERS = DTYPES[:2]
ACCUMULATOR_LIMIT = {DType.INT8: 2**31 - 1, DType.INT16: 2**52}


def dense_model(layer: Dense) -> bytes:
    """A fully connected layer as a .tflite file."""
    builder = TFLiteBuilder()
    weights, bias = layer.weights()
    scales: list[dict[str, object]] = [{}, {}, {}, {}]
    if layer.dtype.is_integer:
        x_q, w_q, y_q = layer.quantizations()
        scales = [
            {"scale": x_q.scalar_scale, "zero_point": x_q.scalar_zero_point},
            {"scale": w_q.scale},
            {"scale": np.float32(x_q.scalar_scale) * np.array(w_q.scale, np.float32)},
            {"scale": y_q.scalar_scale, "zero_point": y_q.scalar_zero_point},
        ]
    x = builder.tensor("x", layer.x, layer.dtype, **scales[0])
    w = builder.tensor("w", weights.shape, weights.dtype.name, data=weights, **scales[1])
    b = -1
    if bias is not None:
        b = builder.tensor("b", bias.shape, bias.dtype.name, data=bias, **scales[2])
    y = builder.tensor("y", (*layer.x[:-1], layer.outputs), layer.dtype, **scales[3])
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[layer.activation]
    builder.operator("FULLY_CONNECTED", [x, w, b], [y], options, version=9)
    return builder.build([x], [y])


def product_model(product: Product) -> bytes:
    """A product of two matrices as a .tflite file."""
    builder = TFLiteBuilder()
    scales: list[dict[str, object]] = [{}, {}, {}]
    if product.dtype.is_integer:
        scales = [
            {"scale": q.scalar_scale, "zero_point": q.scalar_zero_point}
            for q in product.quantizations()
        ]
    types = [TensorType(shape, product.dtype) for shape in (product.a, product.b)]
    (y_type,) = product.operator().infer(*types)
    a = builder.tensor("a", product.a, product.dtype, **scales[0])
    b = builder.tensor("b", product.b, product.dtype, **scales[1])
    y = builder.tensor("y", y_type.shape, product.dtype, **scales[2])
    options = schema.BatchMatMulOptionsT()
    options.adjY = product.transpose_b
    builder.operator("BATCH_MATMUL", [a, b], [y], options, version=4)
    return builder.build([a, b], [y])


@pytest.mark.parametrize("layer", layers(litert=True), ids=lambda layer: layer.id)
@pytest.mark.needs("litert")
def test_dense_equals_litert(layer: Dense) -> None:
    """Integers to the bit, floats within the tolerance."""
    tolerance = FLOAT_TOLERANCE if layer.dtype is DType.FLOAT32 else 0
    program = assert_equals_litert(dense_model(layer), tolerance=tolerance)
    assert program.operations[-1].operator == layer.operator()


@pytest.mark.parametrize("product", products(tflite=True), ids=lambda product: product.id)
@pytest.mark.needs("litert")
def test_product_equals_litert(product: Product) -> None:
    """Integers to the bit, floats within the tolerance."""
    tolerance = FLOAT_TOLERANCE if product.dtype is DType.FLOAT32 else 0
    program = assert_equals_litert(product_model(product), tolerance=tolerance)
    assert program.operations[-1].operator == product.operator()


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.needs("litert")
def test_dense_ties_equal_litert(dtype: DType) -> None:
    """Every int8 value: accumulators lie exactly between two outputs, on both sides of 0."""
    layer = replace(TIES, dtype=dtype)
    x = np.arange(-128, 128).reshape(layer.x).astype(dtype.value)
    assert_equals_litert(dense_model(layer), inputs=[[x]])
    assert layer.w is not None
    assert layer.w_scale is not None
    real = np.multiply.outer(x.ravel(), layer.w) * np.array(layer.w_scale)
    ties = real % 1 == 0.5
    assert ties[real > 0].sum() > 300
    assert ties[real < 0].sum() > 300


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.needs("litert")
def test_product_ties_equal_litert(dtype: DType) -> None:
    """All products of the ends of a range, a quarter of them between two outputs."""
    values = np.array([*range(-60, 60), -128, 127], dtype.value)
    product = Product(
        name="ties",
        dtype=dtype,
        a=(values.size, 1),
        b=(1, values.size),
        a_scale=0.5,
        b_scale=0.5,
        y_scale=4.0,
        zero_points=(0, 0, 0),
    )
    program = assert_equals_litert(
        product_model(product), inputs=[[values[:, np.newaxis], values[np.newaxis]]]
    )
    real = np.multiply.outer(values.astype(int), values.astype(int)) / 16
    ties = real % 1 == 0.5
    assert min(ties[real > 0].sum(), ties[real < 0].sum()) > 300
    assert program.operations[-1].operator == product.operator()


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.needs("litert")
def test_requantisation_near_ties_equals_litert(dtype: DType) -> None:
    """Random scales; accumulators where the last bit of the factor decides."""
    rng = np.random.default_rng(3)
    telling = 0
    for seed in range(24):
        if seed % 2:
            scales = 10.0 ** rng.uniform((-3, -5, -3), (-1, -3, -1))
        else:
            scales = rng.integers(1, 40, 3) * 2.0 ** rng.integers((-12, -12, -3), (0, 0, 3))
        x_scale, w_scale, y_scale = scales.tolist()
        layer = replace(
            SINGLE_PRODUCT,
            name="near-ties",
            dtype=dtype,
            x=(1, 1),
            x_scale=x_scale,
            w_scale=(w_scale,),
            y_scale=y_scale,
        )
        layer = near_ties(layer, seed, ACCUMULATOR_LIMIT[dtype])
        program = assert_equals_litert(dense_model(layer), samples=1)
        operator = program.operations[-1].operator
        assert isinstance(operator, FullyConnected)
        assert operator.requant is not None
        if dtype is DType.INT8:
            other = Requant.from_real([x_scale * w_scale / y_scale], "single")
            clipped = [np.clip(r.apply(layer.bias), -128, 127) for r in (operator.requant, other)]
            telling += int((clipped[0] != clipped[1]).sum())
    assert dtype is DType.INT16 or telling > 20, "the accumulators would not tell roundings apart"


@pytest.mark.needs("litert")
def test_product_scales_multiply_in_float32() -> None:
    """Unlike a layer's: the product of the two scales is rounded to float32 first."""
    rng = np.random.default_rng(4)
    accumulators = np.arange(-(2**21), 2**21)
    telling = 0
    while telling < 4:
        a, b = (float(np.float32(s)) for s in rng.uniform(0.01, 0.03, 2))
        y = float(np.float32(a * b * 2**14))
        exact, rounded = (
            np.clip(Requant.from_real([f], "double").apply(accumulators), -128, 127)
            for f in (a * b / y, float(np.float32(a) * np.float32(b)) / y)
        )
        for accumulator in accumulators[exact != rounded][:3].tolist():
            left, right = _factors(accumulator)
            product = Product(
                name="float32",
                a=(1, left.size),
                b=(left.size, 1),
                a_scale=a,
                b_scale=b,
                y_scale=y,
                zero_points=(0, 0, 0),
            )
            assert_equals_litert(product_model(product), inputs=[[left[None], right[:, None]]])
            telling += 1


def _factors(total: int, length: int = 300) -> tuple[Array, Array]:
    """Two int8 vectors whose dot product is `total`."""
    left, right = np.zeros((2, length), np.int8)
    sign, rest = (-1 if total < 0 else 1), abs(total)
    for i in range(length):
        step = min(127, rest // 127) or min(1, rest)
        left[i], right[i] = (127, sign * step) if rest >= 127 else (rest, sign * step)
        rest -= abs(int(left[i]) * int(right[i]))
    assert int(left.astype(int) @ right.astype(int)) == total
    return left, right


@pytest.mark.parametrize("factor", [0.25, 1 / 3, 0.1, 2.0**-40, 1.5, 3e5])
def test_float64_rounding_is_python_float_rounding(factor: float) -> None:
    """Against Python's own float64 product, rounded half away from zero."""
    rng = np.random.default_rng(6)
    middles = (rng.integers(-(2**15), 2**15, 500) + 0.5) / factor
    accumulators = np.concatenate([np.rint(middles), [0, 1, -1, 2**31 - 1, -(2**31)]])
    accumulators = np.clip(accumulators, -(2**53), 2**53).astype(np.int64)
    got = Requant.from_real([factor], "float64").apply(accumulators)
    for accumulator, result in zip(accumulators.tolist(), got.tolist(), strict=True):
        product = float(accumulator) * factor
        nearest = math.floor(abs(product)) + (abs(product) % 1 >= 0.5)
        wanted = math.copysign(min(nearest, FLOAT64_RESULT_LIMIT), product)
        assert result == wanted, (accumulator, factor)


def test_float_sums_are_sequential() -> None:
    """(0 + 1e8 + 1) - 1e8 is 0 in float32, other orders give 1; the bias comes last."""
    x = np.array([[1e8, 1, -1e8]], np.float32)
    ones = np.ones((1, 3), np.float32)
    assert FullyConnected().reference(x, ones)[0].item() == 0
    assert FullyConnected().reference(x, ones, np.array([3], np.float32))[0].item() == 3
    assert BatchMatMul().reference(x, ones.T)[0].item() == 0
    assert BatchMatMul(transpose_b=True).reference(x, ones)[0].item() == 0


def test_macs() -> None:
    """Rows times columns times depth."""
    x, w = TensorType((3, 8), DType.FLOAT32), TensorType((5, 8), DType.FLOAT32)
    assert FullyConnected().macs(x, w) == 3 * 5 * 8
    a, b = TensorType((2, 1, 3, 4), DType.FLOAT32), TensorType((6, 4, 5), DType.FLOAT32)
    assert BatchMatMul().macs(a, b) == 2 * 6 * 3 * 5 * 4


def _types(dtype: DType, *shapes: tuple[int, ...]) -> list[TensorType]:
    return [TensorType(shape, dtype) for shape in shapes]


UNIT = Requant.from_real([1.0], "float64")
FULL = DType.INT8.limits


@pytest.mark.parametrize(
    ("operator", "types", "message"),
    [
        (FullyConnected(), _types(DType.FLOAT32, (2, 4), (3, 5)), "must be the 5 columns of w"),
        (FullyConnected(), _types(DType.FLOAT32, (2, 4), (4,)), "rank 2"),
        (FullyConnected(), _types(DType.FLOAT32, (0, 4), (3, 4)), "must not be empty"),
        (FullyConnected(), _types(DType.FLOAT32, (2, 4), (3, 4), (2,)), r"must be \[3\]"),
        (FullyConnected(), _types(DType.INT32, (2, 4), (3, 4)), "x is int32"),
        (FullyConnected(clamp=FULL), _types(DType.INT8, (2, 4), (3, 4)), "must be there"),
        (
            FullyConnected(clamp=FULL, requant=Requant.from_real([1.0], "single")),
            _types(DType.INT8, (2, 4), (3, 4)),
            "must be 'float64' for int8",
        ),
        (
            FullyConnected(clamp=FULL, requant=UNIT),
            _types(DType.INT8, (1, 65794), (1, 65794)),
            "65793 at most",
        ),
        (BatchMatMul(), _types(DType.FLOAT32, (4,), (4, 2)), "ranks from 2"),
        (BatchMatMul(), _types(DType.FLOAT32, (1,) * 6, (1, 1)), "ranks from 2 to 5"),
        (BatchMatMul(), _types(DType.FLOAT32, (2, 4), (5, 2)), "sums over 4 columns"),
        (BatchMatMul(), _types(DType.FLOAT32, (2, 0), (0, 2)), "must not be empty"),
        (BatchMatMul(), _types(DType.FLOAT32, (3, 2, 4), (2, 4, 2)), "do not broadcast"),
        (
            BatchMatMul(),
            [TensorType((2, 4), DType.FLOAT32), TensorType((4, 2), DType.INT8)],
            "b is int8",
        ),
        (
            BatchMatMul(clamp=FULL, requant=Requant.from_real([1.0, 1.0], "double")),
            _types(DType.INT8, (2, 4), (4, 2)),
            "must have one",
        ),
        (
            BatchMatMul(clamp=FULL, requant=Requant.from_real([1.0], "double")),
            _types(DType.INT8, (1, 33026), (33026, 1)),
            "33025 at most",
        ),
        (
            BatchMatMul(clamp=FULL, requant=Requant.from_real([1.0], "wide"), b_zero_point=1),
            _types(DType.INT16, (2, 4), (4, 2)),
            "zero points",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses(
    operator: FullyConnected | BatchMatMul, types: list[TensorType], message: str
) -> None:
    """What does not fit is refused in words."""
    with pytest.raises(OperatorError, match=message):
        operator.infer(*types)


def test_refuses_asymmetric_weights() -> None:
    """The specification's weights have zero point 0."""
    one = Quantization.per_tensor(1.0)
    with pytest.raises(OperatorError, match="not all 0"):
        FullyConnected.quantized(x=one, w=Quantization.per_tensor(1.0, 3), y=one)
