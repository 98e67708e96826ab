"""Q/DQ models lowered to integers, against ONNX Runtime on the same model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from edgekit.model import Model, load
from edgekit.program.interpret import run
from edgekit.program.ir import DType, Program
from edgekit.program.lowering import lower
from edgekit.quantize.static import quantize_static
from tests.support.onnx_cases import OnnxCase, float_cases
from tests.support.onnx_models import OnnxBuilder, run_onnx
from tests.support.quantized import Difference, compare, compare_layers, program_feeds

pytestmark = pytest.mark.needs("onnxruntime")

SAMPLES = 12

SEVERAL_ROUNDINGS = {
    "Mul-gate": 2,
    "layout-attention": 4,
    "layout-axis_operators": 3,
    "layout-mean_gemm": 3,
}
"""Steps by which nets of several operators may differ: each multiplies the step before it."""

RATE_BOUND = 0.015
"""Share of all elements of all cases that may differ: twice what is measured."""


def names(program: Program) -> list[str]:
    return [op.operator.name for op in program.operations]


def quantized_case(case: OnnxCase) -> tuple[Model, list[dict[str, np.ndarray]]]:
    samples = [case.feeds(seed) for seed in range(SAMPLES)]
    calibration = {name: np.stack([s[name] for s in samples]) for name in case.shapes}
    return quantize_static(load(case.model), calibration), samples


@pytest.mark.parametrize("case", float_cases(), ids=lambda c: c.id)
def test_at_most_one_step_from_onnxruntime(case: OnnxCase) -> None:
    model, samples = quantized_case(case)
    program = lower(model)
    assert all(t.dtype != DType.FLOAT32 for t in program.tensors.values())
    for name, difference in compare_layers(model, samples).items():
        assert difference.elements > 0
        assert difference.steps <= 1, f"{name}: {difference}"
    difference = compare(program, model.to_bytes(), samples)
    assert difference.steps <= SEVERAL_ROUNDINGS.get(case.id, 1), difference
    assert difference.elements > 0


def test_the_rate_of_differences_is_small() -> None:
    total = Difference()
    for case in float_cases():
        model, _ = quantized_case(case)
        total.include(compare(lower(model), model.to_bytes(), [case.feeds(99)]))
    assert total.mismatches <= RATE_BOUND * total.elements, total


RNG = np.random.default_rng(11)


def codes(*shape: int, dtype: str = "int8") -> np.ndarray:
    low = 1 if dtype == "uint8" else -127
    return RNG.integers(low, low + 254, shape).astype(dtype)


def scales(count: int) -> np.ndarray:
    return RNG.uniform(0.002, 0.01, count).astype(np.float32)


def qdq(body: Callable[[OnnxBuilder, str], str], shape: tuple[int, ...]) -> OnnxBuilder:
    b = OnnxBuilder()
    b.output(body(b, b.input("x", shape)))
    return b


def check(b: OnnxBuilder, expected: list[str], steps: int = 1) -> Program:
    data = b.build()
    program = lower(load(data))
    assert names(program) == expected
    shape = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in b.inputs}
    samples = [
        {n: RNG.standard_normal(s).astype(np.float32) for n, s in shape.items()}
        for _ in range(SAMPLES)
    ]
    assert compare(program, data, samples).steps <= steps
    return program


IMAGE = (1, 4, 6, 5)


def conv_body(
    dtype: str = "int8",
    per_channel: bool = True,
    bias: str | None = "int32",
    weight_zero: int = 0,
    weight_dtype: str = "int8",
) -> Callable[[OnnxBuilder, str], str]:
    def body(b: OnnxBuilder, x: str) -> str:
        zero = 120 if dtype == "uint8" else -7
        x = b.quantize(x, 0.03, zero, dtype)
        scale = scales(6) if per_channel else scales(1)[0]
        w = codes(6, 4, 3, 3, dtype=weight_dtype)
        inputs = [x, b.dequantized(w, scale, zero_point=weight_zero)]
        if bias == "int32":
            inputs.append(b.dequantized(RNG.integers(-900, 900, 6).astype(np.int32), 0.03 * scale))
        elif bias == "other scale":
            inputs.append(b.dequantized(RNG.integers(-99, 99, 6).astype(np.int32), 0.001))
        elif bias == "float":
            inputs.append(b.constant(RNG.standard_normal(6).astype(np.float32)))
        y = b.node("Relu", b.node("Conv", *inputs, pads=[1, 1, 1, 1]))
        return b.quantize(y, 0.04, 3 if dtype == "uint8" else -125, dtype)

    return body


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bias", ["int32", "other scale", "float", None])
def test_conv_forms(dtype: str, per_channel: bool, bias: str | None) -> None:
    program = check(qdq(conv_body(dtype, per_channel, bias), IMAGE), ["conv_2d"])
    quantization = program.output_tensors[0].quantization
    assert quantization is not None
    assert quantization.scalar_zero_point == -125


def test_uint8_weights_around_128_are_int8() -> None:
    check(qdq(conv_body(weight_zero=128, weight_dtype="uint8"), IMAGE), ["conv_2d"])


def test_uint8_and_int8_models_are_the_same_program() -> None:
    def body(dtype: str) -> Callable[[OnnxBuilder, str], str]:
        def build(b: OnnxBuilder, x: str) -> str:
            shift = 128 if dtype == "uint8" else 0
            x = b.quantize(x, 0.03, -9 + shift, dtype)
            y = b.node("MaxPool", b.node("Sigmoid", x), kernel_shape=[2, 2])
            return b.quantize(y, 1 / 256, -128 + shift, dtype)

        return build

    signed, unsigned = (lower(load(qdq(body(d), IMAGE).build())) for d in ("int8", "uint8"))
    feeds = {"x": RNG.integers(-128, 128, IMAGE).astype(np.int8)}
    for (_, a), (_, b) in zip(
        run(signed, feeds).items(), run(unsigned, feeds).items(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_movement_needs_no_quantisation_of_its_own() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        # Quantised before the convolution and behind everything else, as some tools write it.
        x = b.quantize(x, 0.03, 0)
        y = b.node("Conv", x, b.dequantized(codes(4, 4, 1, 1), scales(4)))
        y = b.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
        y = b.node("Reshape", y, b.constant(np.array([1, -1])))
        y = b.quantize(y, 0.05, 4)
        y = b.node("Gemm", y, b.dequantized(codes(3, 24), scales(3)), transB=1)
        return b.quantize(y, 0.2, -20)

    check(qdq(body, IMAGE), ["conv_2d", "max_pool_2d", "reshape", "fully_connected"])


def test_relu_and_concat_of_several_scales() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        x = b.quantize(x, 0.03, -9)
        one = b.quantize(b.node("Tanh", x), 1 / 128, 0)
        two = b.quantize(b.node("Relu", x), 0.025, -128)
        return b.quantize(b.node("Concat", one, two, b.node("Relu", x), axis=1), 0.02, -60)

    check(
        qdq(body, IMAGE),
        ["tanh", "clip", "clip", "requantize", "requantize", "requantize", "concat"],
    )


def test_numbers_left_in_float_are_made_exact_codes() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        y = b.node("Mul", b.quantize(x, 0.03, -9), b.constant(np.float32(0.1)))
        return b.quantize(y, 0.003, 1)

    check(qdq(body, IMAGE), ["mul"])


def test_matmul_with_bias_and_batch_matmul() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        x = b.quantize(x, 0.03, 5)
        w = scales(7)
        y = b.node("MatMul", x, b.dequantized(codes(6, 7), w, axis=1))
        y = b.node("Add", y, b.dequantized(RNG.integers(-500, 500, 7).astype(np.int32), 0.03 * w))
        y = b.quantize(b.node("Relu", y), 0.02, -128)
        z = b.quantize(b.node("Transpose", y, perm=[0, 2, 1]), 0.02, -128)
        return b.quantize(b.node("MatMul", y, z), 0.1, -100)

    check(qdq(body, (2, 3, 6)), ["fully_connected", "transpose", "batch_matmul"])


def test_inputs_and_outputs_take_the_models_quantisation() -> None:
    b = qdq(lambda b, x: b.quantize(b.node("Relu", b.quantize(x, 0.5, 7)), 0.25, -128), (1, 4))
    program = lower(load(b.build()))
    source, result = program.input_tensors[0], program.output_tensors[0]
    assert (source.dtype, result.dtype) == (DType.INT8, DType.INT8)
    assert source.quantization is not None
    assert (source.quantization.scale, source.quantization.zero_point) == ((0.5,), (7,))
    assert result.quantization is not None
    assert (result.quantization.scale, result.quantization.zero_point) == ((0.25,), (-128,))


def test_the_type_without_a_zero_point() -> None:
    # uint8 unless output_dtype says int8; uint8's zero point 0 is int8's -128.
    for attributes, zero_point in (({}, -128), ({"output_dtype": 3}, 0)):

        def body(b: OnnxBuilder, x: str, attributes: dict[str, int] = attributes) -> str:
            scale = b.constant(np.float32(0.05))
            q = b.node("QuantizeLinear", b.node("Relu", b.quantize(x, 0.1, 0)), scale, **attributes)
            return b.node("DequantizeLinear", q, scale)

        program = check(qdq(body, (1, 9)), ["clip"])
        quantization = program.output_tensors[0].quantization
        assert quantization is not None
        assert quantization.scalar_zero_point == zero_point


class TestFallback:
    """What stays in float is listed, and refused unless it is allowed."""

    def softmax(self) -> OnnxBuilder:
        def body(b: OnnxBuilder, x: str) -> str:
            x = b.quantize(x, 0.03, 5)
            y = b.node("Gemm", x, b.dequantized(codes(5, 3), scales(3), axis=1))
            y = b.quantize(y, 0.1, 0)
            return b.node("Softmax", y, name="soft")

        return qdq(body, (2, 5))

    def test_it_is_refused_with_its_names(self) -> None:
        with pytest.raises(UnsupportedError) as caught:
            lower(load(self.softmax().build()))
        text = str(caught.value)
        assert "--allow-fallback" in text
        assert "soft/softmax (softmax): its input and its result must both be quantised" in text

    def test_it_runs_where_allowed(self) -> None:
        data = self.softmax().build()
        program = lower(load(data), allow_fallback=True)
        assert names(program) == ["fully_connected", "dequantize", "softmax"]
        feeds = {"x": RNG.standard_normal((2, 5)).astype(np.float32)}
        want = run_onnx(data, feeds)["soft"]
        got = run(program, program_feeds(program, feeds))["soft"]
        # One step of the logits is 0.1.
        np.testing.assert_allclose(got, want, atol=0.03)

    @pytest.mark.parametrize(
        ("b", "reason"),
        [
            (qdq(conv_body(weight_zero=3), IMAGE), "zero points that are not 0"),
            (
                qdq(lambda b, x: b.node("Tanh", b.quantize(x, 0.1, 0), name="t"), IMAGE),
                "its input and its result must both be quantised",
            ),
            (
                qdq(lambda b, x: b.quantize(b.node("Tanh", x, name="t"), 0.1, 0), IMAGE),
                "its input and its result must both be quantised",
            ),
        ],
    )
    def test_reasons(self, b: OnnxBuilder, reason: str) -> None:
        with pytest.raises(UnsupportedError, match=reason):
            lower(load(b.build()))
        data = b.build()
        program = lower(load(data), allow_fallback=True)
        feeds = {"x": RNG.standard_normal(IMAGE).astype(np.float32)}
        want = run_onnx(data, feeds)
        got = run(program, program_feeds(program, feeds))
        for name, expected in want.items():
            quantization = program.output_tensors[0].quantization
            actual = got[name].astype(np.float32)
            if quantization is not None:
                actual -= quantization.scalar_zero_point
                actual *= np.float32(quantization.scalar_scale)
            step = 1e-6 if quantization is None else quantization.scalar_scale
            assert np.abs(actual - expected).max() <= step * 1.01


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (lambda b, x: b.quantize(b.node("Relu", b.quantize(x, 0.1, 0, "int32")), 0.1, 0), "int32"),
        (
            lambda b, x: b.node(
                "DequantizeLinear",
                b.node("QuantizeLinear", x, *per_channel(b), axis=1),
                *per_channel(b),
                axis=1,
            ),
            "activations are quantised per channel, supported: per tensor",
        ),
        (
            lambda b, x: b.node("QuantizeLinear", x, b.node("Relu", x)),
            "scale and zero point must be constants",
        ),
    ],
)
def test_other_quantisations_are_refused(body: Callable, said: str) -> None:
    with pytest.raises(UnsupportedError, match=said):
        lower(load(qdq(body, (1, 4)).build()), allow_fallback=True)


def per_channel(b: OnnxBuilder) -> tuple[str, str]:
    return b.constant(np.float32([0.1] * 4)), b.constant(np.zeros(4, np.int8))


def test_uint8_at_the_border_is_refused_with_advice() -> None:
    b = qdq(lambda b, x: b.node("QuantizeLinear", x, b.constant(np.float32(0.1))), (1, 4))
    with pytest.raises(UnsupportedError, match="end the model with DequantizeLinear, or use int8"):
        lower(load(b.build()))
