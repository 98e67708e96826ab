"""What the quantised Model looks like: the constraints of the 8-bit specification."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.model import Model, load
from edgekit.model.nodes import const, get_input, is_op
from edgekit.program.fixed_point import Requant
from edgekit.program.interpret import run
from edgekit.program.ir import Quantization
from edgekit.program.lowering import lower
from edgekit.program.operators.convolution import Conv2D
from edgekit.quantize.constants import quantize_weights
from edgekit.quantize.static import quantize_static
from tests.support.onnx_models import OnnxBuilder, run_onnx
from tests.support.quantized import compare, program_feeds

RNG = np.random.default_rng(6)
IMAGE = (1, 4, 6, 6)


def weights(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 0.3).astype(np.float32)


def quantized(
    body: Callable[[OnnxBuilder, str], str], shape: tuple[int, ...] = IMAGE, scale: float = 1.0
) -> tuple[Model, dict[str, np.ndarray]]:
    b = OnnxBuilder()
    b.output(body(b, b.input("x", shape)))
    samples = {"x": (RNG.standard_normal((16, *shape)) * scale).astype(np.float32)}
    return quantize_static(load(b.build()), samples), samples


def activations(model: Model) -> dict[str, Quantization]:
    """Quantisation by the name of the value that a QuantizeLinear reads."""
    found = {}
    for node in model.ir.graph:
        if is_op(node, "QuantizeLinear"):
            scale, zero_point = const(node.inputs[1]), const(node.inputs[2])
            assert scale is not None
            assert zero_point is not None
            found[str(get_input(node, 0).name)] = Quantization.per_tensor(
                float(scale), int(zero_point)
            )
    return found


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("Softmax", Quantization.per_tensor(1 / 256, -128)),
        ("Sigmoid", Quantization.per_tensor(1 / 256, -128)),
        ("Tanh", Quantization.per_tensor(1 / 128, 0)),
    ],
)
def test_prescribed_results(op: str, expected: Quantization) -> None:
    model, _ = quantized(lambda b, x: b.node("Relu", b.node(op, x, name="y")))
    assert activations(model)["y"] == expected


def test_movement_and_pools_share_a_scale() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        y = b.node("Conv", x, b.constant(weights(4, 4, 1, 1)), name="conv")
        y = b.node("MaxPool", y, kernel_shape=[2, 2], name="max")
        y = b.node("AveragePool", y, kernel_shape=[2, 2], name="mean")
        y = b.node("Transpose", y, perm=[0, 2, 1, 3], name="turned")
        return b.node("Flatten", y, name="flat")

    model, _ = quantized(body)
    found = activations(model)
    shared = {found[n] for n in ("conv", "max", "mean", "turned", "flat.real")}
    assert len(shared) == 1
    assert found["x"] not in shared


def test_concat_shares_a_scale_but_not_with_a_sigmoid() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        one = b.node("Conv", x, b.constant(weights(2, 4, 1, 1)), name="one")
        two = b.node("Sigmoid", b.node("Mul", x, b.constant(np.float32(9))), name="two")
        big = b.constant(np.full((1, 1, 6, 6), 30, np.float32))
        return b.node("Concat", one, two, big, axis=1, name="joined")

    model, samples = quantized(body)
    found = activations(model)
    assert found["one"] == found["joined.real"]
    assert found["two"] == Quantization.per_tensor(1 / 256, -128)
    # The constant belongs to the range.
    assert (127 - found["one"].scalar_zero_point) * found["one"].scalar_scale >= 29.9
    program = lower(model)
    names = [op.operator.name for op in program.operations]
    assert names == ["conv_2d", "mul", "sigmoid", "requantize", "concat"]
    feeds = [{"x": x} for x in samples["x"]]
    assert compare(program, model.to_bytes(), feeds).steps <= 2


def test_zero_is_exact_everywhere() -> None:
    model, _ = quantized(
        lambda b, x: b.node(
            "Conv", b.node("Add", x, b.constant(np.float32(50))), b.constant(weights(3, 4, 3, 3))
        )
    )
    for quantization in activations(model).values():
        assert -128 <= quantization.scalar_zero_point <= 127


def test_bias_is_int32_in_steps_of_both_scales() -> None:
    bias = np.float32([0.5, -0.25, 3.0])
    model, _ = quantized(
        lambda b, x: b.node("Conv", x, b.constant(weights(3, 4, 1, 1)), b.constant(bias), name="c")
    )
    conv = next(node for node in model.ir.graph if is_op(node, "Conv"))
    x_scale = activations(model)["x"].scalar_scale
    scales = []
    for index in (1, 2):
        source = get_input(conv, index).producer()
        assert source is not None
        scales.append((const(source.inputs[0]), const(source.inputs[1])))
    (integers, w_scale), (codes, b_scale) = scales
    assert integers is not None
    assert (integers.dtype, np.abs(integers).max()) == (np.int8, 127)
    assert w_scale is not None
    assert b_scale is not None
    assert codes is not None
    np.testing.assert_allclose(b_scale, w_scale * np.float32(x_scale), rtol=1e-7)
    assert codes.dtype == np.int32
    assert (np.abs(codes * b_scale.astype(float) - bias) <= 0.51 * b_scale).all()


@pytest.mark.parametrize("bias", [None, 0.7, -1e4])
def test_channels_of_zeros(bias: float | None) -> None:
    w = weights(3, 4, 1, 1)
    w[1] = 0
    rest = [] if bias is None else [np.float32([0.1, bias, 0.2])]
    model, samples = quantized(
        lambda b, x: b.node("Conv", x, b.constant(w), *(b.constant(r) for r in rest), name="c")
    )
    program = lower(model)
    quantization = program.output_tensors[0].quantization
    assert quantization is not None
    got = run(program, program_feeds(program, {"x": samples["x"][0]}))["c"]
    real = (got[:, 1].astype(float) - quantization.scalar_zero_point) * quantization.scalar_scale
    assert np.abs(real - (bias or 0)).max() <= quantization.scalar_scale * 0.51


def test_a_large_bias_raises_its_channels_scale() -> None:
    w = np.full((2, 1), 1e-6, np.float32)
    found = quantize_weights(w, 0, 0.01, np.float32([0, 9]))
    assert found.bias is not None
    assert np.abs(found.bias).max() <= 2**30
    assert found.scale[1] > found.scale[0]
    np.testing.assert_allclose(found.bias[1] * 0.01 * found.scale[1].astype(float), 9, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0])
def test_constant_activations(value: float) -> None:
    b = OnnxBuilder()
    x = b.input("x", (1, 3))
    b.output(b.node("Relu", b.node("Gemm", x, b.constant(weights(3, 2)))))
    model = quantize_static(load(b.build()), {"x": np.full((4, 1, 3), value, np.float32)})
    difference = compare(
        lower(model), model.to_bytes(), [{"x": np.full((1, 3), value, np.float32)}]
    )
    assert difference.steps <= 1


def test_transposed_convolution_in_groups_shares_scales() -> None:
    model, samples = quantized(
        lambda b, x: b.node(
            "ConvTranspose",
            x,
            b.constant(weights(4, 3, 2, 2)),
            b.constant(weights(6)),
            group=2,
            strides=[2, 2],
        )
    )
    program = lower(model)
    operator = program.operations[0].operator
    requant = getattr(operator, "requant", None)
    assert isinstance(requant, Requant)
    assert requant.multiplier[:3] == requant.multiplier[3:]
    assert compare(program, model.to_bytes(), [{"x": x} for x in samples["x"]]).steps <= 1


def test_a_clamp_is_fused_and_its_result_alone_quantised() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        y = b.node("Conv", x, b.constant(weights(3, 4, 1, 1)), name="inner")
        return b.node("Relu", y, name="outer")

    model, _ = quantized(body)
    assert set(activations(model)) == {"x", "outer.real"}
    operation = lower(model).operations[0].operator
    assert isinstance(operation, Conv2D)
    assert operation.clamp == (-128, 127)
    assert activations(model)["outer.real"].scalar_zero_point == -128


def test_the_quantised_model_stays_close_to_the_float_one() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        y = b.node(
            "Relu", b.node("Conv", x, b.constant(weights(8, 4, 3, 3)), b.constant(weights(8)))
        )
        y = b.node("Add", b.node("Conv", y, b.constant(weights(8, 8, 1, 1))), y)
        y = b.node("Flatten", b.node("GlobalAveragePool", y))
        return b.node("Gemm", y, b.constant(weights(8, 5)), b.constant(weights(5)), name="y")

    b = OnnxBuilder()
    b.output(body(b, b.input("x", IMAGE)))
    samples = RNG.standard_normal((64, *IMAGE)).astype(np.float32)
    for observer in ("minmax", "mse", "percentile"):
        model = quantize_static(load(b.build()), {"x": samples}, observer=observer)
        errors, spread = [], []
        for x in samples:
            want = run_onnx(b.build(), {"x": x})["y"]
            errors.append(run_onnx(model.to_bytes(), {"x": x})["y"] - want)
            spread.append(want)
        assert np.std(errors) < 0.03 * np.std(spread), observer


def test_the_float_model_is_not_changed() -> None:
    b = OnnxBuilder()
    b.output(b.node("Gemm", b.input("x", (1, 3)), b.constant(weights(3, 2)), alpha=0.5))
    model = load(b.build())
    before = model.to_bytes()
    quantize_static(model, {"x": np.ones((2, 1, 3), np.float32)})
    assert model.to_bytes() == before
