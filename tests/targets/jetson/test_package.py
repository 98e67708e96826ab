"""The three models of an artifact: real networks on real data, linters, the float16 baseline."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.errors import UnsupportedError, UsageError
from edgekit.model import Model, load
from edgekit.program import tflite
from edgekit.program.to_onnx import to_onnx
from edgekit.quantize.static import quantize_static
from edgekit.targets.jetson.derive import written_out
from edgekit.targets.jetson.half import to_float16
from edgekit.targets.jetson.modules import DEFAULT, MODULES
from edgekit.targets.jetson.package import JetsonPackage, package
from edgekit.targets.jetson.rules import RULES
from tests.support.onnx_models import OnnxBuilder, run_onnx
from tests.targets.jetson.networks import IMAGE, Body, classifier, network, residual, samples
from tests.targets.jetson.test_derive import fake_quantising
from tests.targets.jetson.test_rules import float_skip, good

NANO, AGX = MODULES[DEFAULT], MODULES["jetson-agx-orin"]
NETWORKS = ("kws_dscnn", "ic_resnet8", "vww_96", "ad01")
INPUT = "input_1"

MAX_LOSS = 0.01
"""Share of top-1 that int8 may lose on real data."""

MIN_AGREEMENT = 0.95
"""Share of top-1 in which int8 and float must agree."""

HALF_STEP = 2.0**-8
"""Largest difference of the float16 baseline over the largest result: a few of its 2^-11 steps."""


def outputs(model: bytes, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The only output for every input, as ONNX Runtime computes it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.stack([session.run(None, {name: x})[0] for x in inputs])


@cache
def real_network(path: Path) -> Model:
    return load(to_onnx(tflite.read(path, dequantize_weights=True)))


def float_model(data_folder: Path, name: str) -> Model:
    return real_network(data_folder / "models" / "mlperf_tiny" / f"{name}_fp32.tflite")


@pytest.fixture(scope="module")
def images(data_folder: Path) -> tuple[JetsonPackage, np.ndarray, np.ndarray]:
    """ResNet8 for Jetson, calibrated with 100 training images; test images and labels."""
    with np.load(data_folder / "images" / "cifar10_lossless_convnetjs.npz") as training:
        calibration = training["x"][:100].astype(np.float32)
    with np.load(data_folder / "images" / "cifar10_lossless_calib500.npz") as test:
        inputs = test["x"].astype(np.float32)[:, np.newaxis]
        labels = test["y"]
    made = package(float_model(data_folder, "ic_resnet8"), {INPUT: calibration}, AGX)
    return made, inputs, labels


@pytest.fixture(scope="module")
def keywords(data_folder: Path) -> tuple[JetsonPackage, np.ndarray, np.ndarray]:
    """DS-CNN for Jetson, calibrated with 24 speakers; every sixteenth clip of the others."""
    with np.load(data_folder / "kws" / "gsc_test_mfcc.npz") as data:
        codes, labels, speakers = data["X"], data["y"], data["speaker"]
        real = (codes.astype(np.float64) - data["zero_point"]) * data["scale"]
    clips = real.astype(np.float32).reshape(-1, 1, 49, 10, 1)
    calibrating = np.isin(speakers, np.unique(speakers)[:24])
    scored = np.flatnonzero(~calibrating)[::16]
    made = package(
        float_model(data_folder, "kws_dscnn"), {INPUT: clips[calibrating]}, AGX, limit=100
    )
    return made, clips[scored], labels[scored]


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("task", ["images", "keywords"])
def test_top_1_on_real_data(task: str, request: pytest.FixtureRequest) -> None:
    made, inputs, labels = request.getfixturevalue(task)
    assert made.float32 is not None
    wanted, got = (outputs(m, inputs)[:, 0].argmax(axis=1) for m in (made.float32, made.model))
    reference = np.mean(wanted == labels)
    assert reference > 0.85
    assert np.mean(got == labels) >= reference - MAX_LOSS
    assert np.mean(got == wanted) >= MIN_AGREEMENT


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("task", ["images", "keywords"])
def test_float16_is_near_float32_on_real_data(task: str, request: pytest.FixtureRequest) -> None:
    made, inputs, _ = request.getfixturevalue(task)
    assert made.float16 is not None
    wanted, got = (outputs(m, inputs[:20]) for m in (made.float32, made.float16))
    assert got.dtype == wanted.dtype == np.float32
    assert np.abs(got - wanted).max() <= 2 * HALF_STEP


@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks(data_folder: Path, name: str) -> None:
    model = float_model(data_folder, name)
    shape = tuple(int(d) for d in model.ir.graph.inputs[0].shape or ())
    data = {INPUT: np.random.default_rng(0).random((3, *shape)).astype(np.float32)}
    made = package(model, data, AGX)
    assert made.tensorrt == (10, 11)
    assert made.rules == tuple(RULES)
    assert made.emulated == made.notes == ()
    for each in (made.model, made.float32, made.float16):
        assert each is not None
        onnx.checker.check_model(onnx.load_from_string(each), full_check=True)
    assert made.float32 is not None
    assert constant_bytes(made.model) < 0.4 * constant_bytes(made.float32), "a quarter, and scales"
    assert package(model, data, AGX) == made, "the same bytes again"


def constant_bytes(model: bytes) -> int:
    return sum(len(t.raw_data) for t in onnx.load_from_string(model).graph.initializer)


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    command = "from polygraphy.tools import main; main()"
    return subprocess.run(
        [sys.executable, "-P", "-c", command, "check", "lint", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.needs("polygraphy", "onnxruntime")
@pytest.mark.parametrize("kind", ["model", "float16"])
def test_polygraphy_finds_nothing(
    kind: str, images: tuple[JetsonPackage, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(getattr(images[0], kind))
    done = lint(path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    assert "LINT |" not in done.stdout, done.stdout


@pytest.mark.needs("polygraphy", "onnxruntime")
def test_polygraphy_accepts_what_tensorrt_refuses(tmp_path: Path) -> None:
    """Why there are rules of our own: no linter sees that the model is asymmetric."""
    path = tmp_path / "model.onnx"
    model = quantize_static(network(classifier), samples())
    path.write_bytes(model.to_bytes())
    done = lint(path)
    assert done.returncode == 0
    assert "PASSED" in done.stdout, done.stdout
    with pytest.raises(UnsupportedError, match=r"its zero point is -?\d+"):
        package(model, None, NANO)


def test_the_asymmetric_model_is_refused_by_rule_and_node() -> None:
    model = quantize_static(network(classifier), samples())
    with pytest.raises(UnsupportedError) as caught:
        package(model, None, NANO)
    text = str(caught.value)
    assert "QuantizeLinear node 'relu_1.quantized': its zero point is -128" in text
    assert "[symmetric]" in text
    assert "[float-bias]" in text


def test_a_quantised_model_that_keeps_the_rules_passes_as_it_is() -> None:
    source = good()
    made = package(source, None, NANO)
    assert made.model == source.to_bytes()
    assert made.float32 is made.float16 is None
    assert any("quantised already" in note for note in made.notes)


def test_a_quantised_model_of_a_newer_opset_is_written_in_an_older_one() -> None:
    source = good()
    source.ir.graph.opset_imports[""] = 23
    made = package(source, None, NANO)
    assert onnx.load_from_string(made.model).opset_import[0].version == 20


def test_a_quantised_model_that_breaks_a_rule_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"Add node 'add': its operand 'x' is float"):
        package(float_skip(), None, NANO)


def test_float_models_need_calibration() -> None:
    with pytest.raises(UsageError, match="int8 needs calibration data"):
        package(network(classifier), None, NANO)


def test_emulated_operators_are_named() -> None:
    made = package(network(fake_quantising), samples(), NANO)
    assert made.emulated == ("edgekit.Stepped node 'low_bit'",)
    assert made.notes == ("edgekit.Stepped node 'low_bit' runs as float operators",)


def fine_tuned(zero_point: int) -> Model:
    """A convolution between quantisers of edgekit's domain, as QAT writes."""

    def body(b: OnnxBuilder, x: str) -> str:
        helper = onnx.helper
        identity = [helper.make_node("Identity", ["v"], ["r"])]
        opsets = [helper.make_opsetid("", 21)]
        attributes = {"attributes": ["low", "high"]}
        b.functions.append(
            helper.make_function(
                *("edgekit", "QuantizeDequantize", ["v", "s", "z"], ["r"], identity, opsets),
                **attributes,
            )
        )

        def quantised(value: str, point: int, scale: float) -> str:
            parameters = b.constant(np.float32(scale)), b.constant(np.int8(point))
            return b.node("QuantizeDequantize", value, *parameters, domain="edgekit")

        w = quantised(b.constant(np.full((2, 3, 1, 1), 0.5, np.float32)), 0, 0.01)
        return b.node("Conv", quantised(x, zero_point, 0.02), w, name="conv")

    return network(body)


def test_quantisers_of_edgekit_become_those_of_onnx() -> None:
    made = package(fine_tuned(0), None, NANO)
    kinds = [node.op_type for node in onnx.load_from_string(made.model).graph.node]
    assert sorted(kinds) == ["Conv", "DequantizeLinear", "DequantizeLinear", "QuantizeLinear"]
    assert made.emulated == ()
    with pytest.raises(UnsupportedError, match="its zero point is -7"):
        package(fine_tuned(-7), None, NANO)


def test_operators_that_the_parser_does_not_read_are_refused() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        return b.node("FFT", x, domain="acme", name="f")

    with pytest.raises(UnsupportedError, match=r"acme.FFT node 'f'"):
        package(network(body), samples(), NANO)


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("body", [classifier, residual])
def test_float16_baseline(body: Body) -> None:
    source, data = written_out(network(body)), samples()
    half = to_float16(source)
    proto = onnx.load_from_string(half.to_bytes())
    onnx.checker.check_model(proto, full_check=True)
    assert {t.data_type for t in proto.graph.initializer} == {onnx.TensorProto.FLOAT16}
    types = {v.type.tensor_type.elem_type for v in (*proto.graph.input, *proto.graph.output)}
    assert types == {onnx.TensorProto.FLOAT}
    for x in data["x"]:
        wanted, got = (
            next(iter(run_onnx(m.to_bytes(), {"x": x}).values())) for m in (source, half)
        )
        assert np.abs(got - wanted).max() <= HALF_STEP * np.abs(wanted).max()


def test_float16_keeps_names_and_what_must_be_float32() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        scales = b.constant(np.float32([1, 1, 2, 2]))
        y = b.node("Resize", x, "", scales, mode="nearest", name="larger")
        y = b.node("Clip", y, b.constant(np.float32(-3e38)), b.constant(np.float32(6)))
        b.output(y)
        return b.node("Cast", y, to=onnx.TensorProto.FLOAT, name="cast")

    source = written_out(network(body))
    half = to_float16(source)
    proto = onnx.load_from_string(half.to_bytes())
    onnx.checker.check_model(proto, full_check=True)
    assert [v.name for v in proto.graph.output] == [v.name for v in source.ir.graph.outputs]
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert {a.dtype.name for a in stored.values() if a.shape} == {"float32"}, "Resize's scales"
    bounds = sorted(float(a) for a in stored.values() if not a.shape)
    assert bounds == [-65504.0, 6.0]


@pytest.mark.needs("onnxruntime")
def test_an_input_that_is_an_output_stays_as_it_is() -> None:
    b = OnnxBuilder(opset=20)
    x = b.input("x", IMAGE)
    b.output(x)
    b.output(b.node("Relu", x))
    half = to_float16(written_out(load(b.build())))
    assert [v.name for v in half.ir.graph.outputs] == ["x", "relu_0"]
    assert [node.op_type for node in half.ir.graph] == ["Cast", "Relu", "Cast"]
    (feed,) = samples(count=1)["x"]
    np.testing.assert_array_equal(run_onnx(half.to_bytes(), {"x": feed})["x"], feed)


def test_constants_beyond_float16_are_refused_and_noted() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        return b.node("Mul", x, b.constant(np.float32(1e6), "million"), name="huge")

    with pytest.raises(UnsupportedError, match="constant 'million' exceeds float16's range"):
        to_float16(network(body, opset=20))
    made = package(network(body), samples(), NANO)
    assert made.float16 is None
    assert "there is no float16 baseline" in made.notes[0]


def test_operators_without_a_float16_form_are_refused() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        steps = b.node("Range", *(b.constant(np.float32(n)) for n in (0, 8, 1)), name="steps")
        return b.node("Add", x, steps)

    with pytest.raises(UnsupportedError, match="Range node 'steps': the operator has no float16"):
        to_float16(network(body, opset=20))
