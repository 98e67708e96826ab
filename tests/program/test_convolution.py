"""Convolutions: shape rules, meaning against LiteRT's reference kernels, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgekit.program.fixed_point import Requant
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.base import OperatorError
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D, TransposeConv2D
from edgekit.program.operators.elementwise import Add
from tests.cases.convolution import (
    DTYPES,
    SINGLE_PRODUCT,
    TIES,
    Layer,
    layers,
    near_ties,
    residual_case,
)
from tests.support.litert import TFLiteBuilder, schema
from tests.support.oracle import assert_equals_litert

FLOAT_TOLERANCE = 3e-5
"""Of sums of at most 1100 products of numbers about 4; LiteRT adds in another order."""

OPTIONS = {
    "conv": ("CONV_2D", schema.Conv2DOptionsT),
    "depthwise": ("DEPTHWISE_CONV_2D", schema.DepthwiseConv2DOptionsT),
    "transpose": ("TRANSPOSE_CONV", schema.TransposeConvOptionsT),
}
ACTIVATIONS = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}


def tflite(layer: Layer) -> bytes:
    """The layer as a .tflite file."""
    builder = TFLiteBuilder()
    weights, bias = layer.weights()
    (y_type,) = layer.operator().infer(
        TensorType(layer.x, layer.dtype), TensorType(weights.shape, DType(weights.dtype.name)), None
    )
    scales: list[dict[str, object]] = [{}, {}, {}, {}]
    if layer.dtype.is_integer:
        x_q, w_q, y_q = layer.quantizations()
        bias_scale = np.float32(x_q.scalar_scale) * np.array(w_q.scale, np.float32)
        axis = 3 if layer.kind == "depthwise" else 0
        scales = [
            {"scale": x_q.scalar_scale, "zero_point": x_q.scalar_zero_point},
            {"scale": w_q.scale, "axis": axis},
            {"scale": bias_scale},
            {"scale": y_q.scalar_scale, "zero_point": y_q.scalar_zero_point},
        ]
    w_data = weights[np.newaxis] if layer.kind == "depthwise" else weights
    x = builder.tensor("x", layer.x, layer.dtype, **scales[0])
    w = builder.tensor("w", w_data.shape, weights.dtype.name, data=w_data, **scales[1])
    assert bias is not None
    b = builder.tensor("b", bias.shape, bias.dtype.name, data=bias, **scales[2])
    y = builder.tensor("y", y_type.shape, layer.dtype, **scales[3])
    builtin, make_options = OPTIONS[layer.kind]
    options = make_options()
    options.padding = getattr(schema.Padding, str(layer.padding))
    options.strideH, options.strideW = layer.stride
    options.fusedActivationFunction = ACTIVATIONS[layer.activation]
    if layer.kind == "transpose":
        shape = builder.tensor("shape", (4,), "int32", data=np.array(y_type.shape, np.int32))
        builder.operator(builtin, [shape, w, x, b], [y], options, version=4)
        return builder.build([x], [y])
    options.dilationHFactor, options.dilationWFactor = layer.dilation
    if layer.kind == "depthwise":
        options.depthMultiplier = layer.outputs // layer.x[3]
    builder.operator(builtin, [x, w, b], [y], options, version=5)
    return builder.build([x], [y])


@pytest.mark.parametrize("layer", layers(tflite=True), ids=lambda layer: layer.id)
@pytest.mark.needs("litert")
def test_equals_litert(layer: Layer) -> None:
    """Integers to the bit, floats within the tolerance."""
    tolerance = FLOAT_TOLERANCE if layer.dtype is DType.FLOAT32 else 0
    program = assert_equals_litert(tflite(layer), samples=3, tolerance=tolerance)
    assert program.operations[-1].operator == layer.operator()


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.needs("litert")
def test_ties_equal_litert(kind: str, dtype: DType) -> None:
    """Every int8 value: accumulators lie exactly between two outputs, on both sides of 0."""
    layer = replace(TIES, kind=kind, dtype=dtype)
    x = np.arange(-128, 128).reshape(layer.x).astype(dtype.value)
    assert_equals_litert(tflite(layer), inputs=[[x]])
    assert layer.w is not None
    assert layer.w_scale is not None
    products = np.multiply.outer(x.ravel(), layer.w) * np.array(layer.w_scale)
    ties = products % 1 == 0.5
    assert ties[products > 0].sum() > 300
    assert ties[products < 0].sum() > 300


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.needs("litert")
def test_requantisation_near_ties_equals_litert(kind: str, dtype: DType) -> None:
    """Random scales; accumulators where the last bit of the factor decides."""
    rng = np.random.default_rng(3)
    telling = 0
    for seed in range(12):
        x_scale, w_scale, y_scale = 10.0 ** rng.uniform((-3, -5, -3), (-1, -3, -1))
        layer = replace(
            SINGLE_PRODUCT,
            name="near-ties",
            kind=kind,
            dtype=dtype,
            x=(1, 1, 1, 1),
            x_scale=x_scale,
            w_scale=(w_scale,),
            y_scale=y_scale,
        )
        layer = near_ties(layer, seed, 2**31 - 1 if dtype is DType.INT8 else 2**46)
        program = assert_equals_litert(tflite(layer), samples=1)
        operator = program.operations[-1].operator
        other = Requant.from_real([x_scale * w_scale / y_scale], "single")
        assert operator.requant is not None
        clipped = [np.clip(r.apply(layer.bias), *dtype.limits) for r in (operator.requant, other)]
        telling += int((clipped[0] != clipped[1]).sum())
    assert telling > 20, "the accumulators would not tell roundings apart"


@pytest.mark.needs("litert")
def test_scales_multiply_in_float64() -> None:
    """The product of the scales is not rounded to float32 on the way to the factor."""
    rng = np.random.default_rng(4)
    for _ in range(40):
        x, w = (float(np.float32(s)) for s in rng.uniform(0.01, 0.03, 2))
        y = float(np.float32(x * w * 2**23))
        accumulators = np.arange(-(2**20), 2**20) * 1021
        exact, rounded = (
            np.clip(Requant.from_real([f], "double").apply(accumulators), -128, 127)
            for f in (x * w / y, float(np.float32(x) * np.float32(w)) / y)
        )
        differ = accumulators[exact != rounded]
        if differ.size:
            break
    assert differ.size
    layer = replace(
        SINGLE_PRODUCT,
        name="float64",
        x=(1, 1, 1, 1),
        x_scale=x,
        w_scale=(w,),
        y_scale=y,
        w=(0,),
        bias=tuple(differ.tolist()),
        outputs=differ.size,
    )
    assert_equals_litert(tflite(layer), samples=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["none", "relu"])
def test_residual_is_convolution_then_addition(dtype: DType, activation: str) -> None:
    """The fused sum is the composition of the two operators, to the bit."""
    case = residual_case(dtype, activation)  # type: ignore[arg-type]
    fused = case.program.operations[0].operator
    assert isinstance(fused, Conv2D)
    plain = replace(fused, residual=None, residual_clamp=None)
    w, bias = case.program.tensors["in1"].data, case.program.tensors["in2"].data
    add = Add(quant=fused.residual, clamp=fused.residual_clamp)
    for sample in case.inputs():
        (branch,) = plain.reference(sample["in0"], w, bias)
        (wanted,) = add.reference(branch, sample["in3"])
        (got,) = Interpreter(case.program).run(sample).values()
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == wanted.dtype
        assert len(np.unique(got)) > 10


def _row(*values: float) -> Array:
    return np.array(values, np.float32).reshape(1, 1, -1, 1)


def test_float_sums_are_sequential() -> None:
    """(0 + 1e8 + 1) - 1e8 is 0 in float32, any other order gives 1; the bias comes last."""
    x = _row(1e8, 1, -1e8)
    w = np.ones((1, 1, 3, 1), np.float32)
    assert Conv2D().reference(x, w)[0].item() == 0
    assert DepthwiseConv2D().reference(x, w[0])[0].item() == 0
    assert Conv2D().reference(x, w, np.array([3], np.float32))[0].item() == 3
    # The centre output of the transposed convolution meets its taps in order as well.
    y = TransposeConv2D().reference(_row(-1e8, 1, 1e8), w)[0]
    assert y.ravel()[2] == 0


def test_padding_is_left_out_of_float_sums() -> None:
    """A tap on padding is no product with 0: infinite weights there do not make NaN."""
    w = np.array([np.inf, 1, np.inf], np.float32).reshape(1, 1, 3, 1)
    assert Conv2D(padding=(0, 1, 0, 1)).reference(_row(2), w)[0].item() == 2
    assert DepthwiseConv2D(padding=(0, 1, 0, 1)).reference(_row(2), w[0])[0].item() == 2
    assert TransposeConv2D(padding=(0, 1, 0, 1)).reference(_row(2), w)[0].item() == 2


def test_macs_count_every_tap() -> None:
    """Known figures: a 3x3 convolution, its depthwise form, and a transposed one."""
    x = TensorType((1, 8, 8, 4), DType.FLOAT32)
    same = (1, 1, 1, 1)
    w = TensorType((6, 3, 3, 4), DType.FLOAT32)
    assert Conv2D(padding=same).macs(x, w) == 8 * 8 * 6 * 9 * 4
    assert DepthwiseConv2D(padding=same).macs(x, TensorType((3, 3, 4), DType.FLOAT32)) == 2304
    assert TransposeConv2D(stride=(2, 2)).macs(x, w) == 8 * 8 * 6 * 9 * 4


def _types(x: tuple[int, ...], w: tuple[int, ...], *more: TensorType) -> list[TensorType]:
    return [TensorType(x, DType.FLOAT32), TensorType(w, DType.FLOAT32), *more]


X, W = (1, 5, 5, 4), (6, 3, 3, 4)
UNIT = Requant.from_real([1.0], "double")


@pytest.mark.parametrize(
    ("operator", "types", "message"),
    [
        (Conv2D(), _types(X[1:], W), "rank 4"),
        (Conv2D(), _types((1, 0, 5, 4), W), "must not be empty"),
        (Conv2D(stride=(0, 1)), _types(X, W), "stride is"),
        (Conv2D(dilation=(1, 0)), _types(X, W), "dilation is"),
        (Conv2D(padding=(0, -1, 0, 0)), _types(X, W), "padding is"),
        (Conv2D(dilation=(3, 1)), _types(X, W), "reaches over 7 values of the padded height 5"),
        (Conv2D(groups=4), _types(X, W), "must divide the 6 output channels"),
        (Conv2D(groups=2), _types(X, W), "must be the 4 channels of x"),
        (Conv2D(), _types(X, W, TensorType((5,), DType.FLOAT32)), r"must be \[6\]"),
        (Conv2D(), _types(X, W, TensorType((6,), DType.INT32)), "bias is int32"),
        (Conv2D(requant=UNIT), _types(X, W), "requant must be None"),
        (Conv2D(x_zero_point=1), _types(X, W), "zero points"),
        (DepthwiseConv2D(), _types(X, (3, 3, 6)), "multiple of the 4 of x"),
        (DepthwiseConv2D(), _types(X, W), "rank 3"),
        (TransposeConv2D(output_padding=(0, -1)), _types(X, W), "output_padding is"),
        (TransposeConv2D(padding=(4, 0, 4, 0)), _types(X, W), "leaves an output of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_types(operator: Conv2D, types: list[TensorType], message: str) -> None:
    """What does not fit is refused in words."""
    with pytest.raises(OperatorError, match=message):
        operator.infer(*types)


def _integer(x: DType = DType.INT8, depth: int = 4) -> list[TensorType]:
    return [TensorType((1, 5, 5, depth), x), TensorType((6, 3, 3, depth), DType.INT8)]


FULL = DType.INT8.limits


@pytest.mark.parametrize(
    ("operator", "types", "message"),
    [
        (Conv2D(clamp=FULL), _integer(), "requant must be there for int8"),
        (Conv2D(requant=UNIT), _integer(), "clamp"),
        (Conv2D(requant=UNIT, clamp=(0, 128)), _integer(), "clamp"),
        (Conv2D(requant=UNIT, clamp=FULL, y_zero_point=128), _integer(), "zero points"),
        (Conv2D(requant=UNIT, clamp=FULL), _integer(DType.INT16), "must be 'wide' for int16"),
        (Conv2D(requant=UNIT, clamp=FULL), _integer(depth=7311), "may overflow int32"),
        (
            Conv2D(requant=Requant.from_real([1.0] * 5, "double"), clamp=FULL),
            _integer(),
            "must have 1 or 6",
        ),
        (
            Conv2D(requant=Requant.from_real([1.0], "wide"), clamp=FULL, x_zero_point=1),
            _integer(DType.INT16),
            "zero points",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_integer_fields(operator: Conv2D, types: list[TensorType], message: str) -> None:
    """Integer fields that do not fit the dtype are refused."""
    with pytest.raises(OperatorError, match=message):
        operator.infer(*types)


def test_refuses_a_residual_without_its_fields() -> None:
    """Integer residuals need fields, fields need an input, and its type is that of y."""
    case = residual_case(DType.INT8, "none")
    fused = case.program.operations[0].operator
    assert isinstance(fused, Conv2D)
    x, w, bias, residual = (case.program.tensors[f"in{i}"].type for i in range(4))
    with pytest.raises(OperatorError, match="needs its fields"):
        replace(fused, residual=None).infer(x, w, bias, residual)
    with pytest.raises(OperatorError, match="must have an input too"):
        fused.infer(x, w, bias)
    with pytest.raises(OperatorError, match="residual is"):
        fused.infer(x, w, bias, TensorType((1, 1), DType.INT8))
    with pytest.raises(OperatorError, match="residual_clamp must be None for int8"):
        replace(fused, residual_clamp=(0.0, 1.0)).infer(x, w, bias, residual)


def test_refuses_an_impossible_residual_clamp() -> None:
    """The float one too must have a residual to bound, and must not be empty."""
    types = _types(X, W)
    y = Conv2D().infer(*types)[0]
    with pytest.raises(OperatorError, match="residual_clamp needs a residual"):
        Conv2D(residual_clamp=(0.0, 1.0)).infer(*types)
    with pytest.raises(OperatorError, match="is empty"):
        Conv2D(residual_clamp=(1.0, 0.0)).infer(*types, None, y)


def test_refuses_asymmetric_weights() -> None:
    """The specification's weights have zero point 0."""
    one = Quantization.per_tensor(1.0)
    with pytest.raises(OperatorError, match="not all 0"):
        Conv2D.quantized(x=one, w=Quantization((1.0, 1.0), (0, 1), 0), y=one)
