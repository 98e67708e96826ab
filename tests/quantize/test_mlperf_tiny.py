"""Post-training int8 of real networks on real data, through ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgekit.model import Model, load
from edgekit.program import tflite
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import DType, Program
from edgekit.program.lowering import lower
from edgekit.program.to_onnx import to_onnx
from edgekit.quantize.static import quantize_static
from tests.support.onnx_models import run_onnx
from tests.support.programs import channels_first
from tests.support.quantized import Difference, compare, compare_layers, program_feeds

pytestmark = pytest.mark.needs("onnxruntime")

INPUT = "input_1"
MODELS = ("kws_dscnn", "ic_resnet8", "vww_96", "ad01")
MAX_LOSS = 0.01
"""Share of top-1 that int8 may lose."""

LAYER_RATE = 0.004
"""Share of elements in which layers may round otherwise, twice what is measured."""

OUTPUT_RATE = 0.2
"""Share of probabilities that may differ."""


@dataclass(frozen=True)
class Task:
    """A float network in ONNX with data.

    Attributes:
        onnx: the model.
        calibration: float32 [samples, *input], apart from what is scored.
        inputs: float32 [samples, *input], scored.
        labels: of `inputs`.
        reference: top-1 of the float network on `inputs`.
    """

    onnx: bytes
    calibration: np.ndarray
    inputs: np.ndarray
    labels: np.ndarray
    reference: float


def task(onnx: bytes, calibration: np.ndarray, inputs: np.ndarray, labels: np.ndarray) -> Task:
    """Score the float network once."""
    interpreter = Interpreter(lower(load(onnx)))
    results = [next(iter(interpreter.run({INPUT: x}).values())) for x in inputs]
    return Task(onnx, calibration, inputs, labels, accuracy(results, labels))


def float_program(data_folder: Path, name: str) -> Program:
    """The network with an NCHW image at its input, as ONNX models have it."""
    path = data_folder / "models" / "mlperf_tiny" / f"{name}_fp32.tflite"
    return channels_first(tflite.read(path, dequantize_weights=True))


@pytest.fixture(scope="module")
def keywords(data_folder: Path) -> Task:
    """Keyword spotting: 200 clips of the first 24 of 240 speakers calibrate, others are scored.

    Every eighth of the 4,104 clips of the other 216 speakers, for time.
    """
    with np.load(data_folder / "kws" / "gsc_test_mfcc.npz") as data:
        codes, labels, speakers = data["X"], data["y"], data["speaker"]
        scale, zero_point = data["scale"], data["zero_point"]
    real = ((codes.astype(np.float64) - zero_point) * scale).astype(np.float32)
    real = real.reshape(-1, 1, 1, 49, 10)
    calibrating = np.isin(speakers, np.unique(speakers)[:24])
    scored = np.flatnonzero(~calibrating)[::8]
    return task(
        to_onnx(float_program(data_folder, "kws_dscnn")),
        real[calibrating][:200],
        real[scored],
        labels[scored],
    )


@pytest.fixture(scope="module")
def images(data_folder: Path) -> Task:
    """Image classification: 100 training images calibrate, 500 test images are scored.

    The float network takes raw values: the int8 one's input scale is 1, its zero point −128.
    """

    def planes(x: np.ndarray) -> np.ndarray:
        return x.astype(np.float32).transpose(0, 3, 1, 2)[:, np.newaxis]

    folder = data_folder / "images"
    with np.load(folder / "cifar10_lossless_convnetjs.npz") as training:
        calibration = planes(training["x"][:100])
    with np.load(folder / "cifar10_lossless_calib500.npz") as test:
        inputs, labels = planes(test["x"]), test["y"]
    return task(to_onnx(float_program(data_folder, "ic_resnet8")), calibration, inputs, labels)


def accuracy(results: list[np.ndarray], labels: np.ndarray) -> float:
    return float(np.mean([r.argmax() == y for r, y in zip(results, labels, strict=True)]))


def int8_accuracy(model: Model, task: Task) -> float:
    program = lower(model)
    assert all(t.dtype != DType.FLOAT32 for t in program.tensors.values())
    interpreter = Interpreter(program)
    results = []
    for x in task.inputs:
        outputs = interpreter.run(program_feeds(program, {INPUT: x}))
        results.append(next(iter(outputs.values())))
    return accuracy(results, task.labels)


@pytest.mark.parametrize("observer", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("name", ["keywords", "images"])
def test_int8_loses_at_most_one_point(
    name: str, observer: str, request: pytest.FixtureRequest
) -> None:
    task: Task = request.getfixturevalue(name)
    model = quantize_static(load(task.onnx), {INPUT: task.calibration}, observer=observer)
    got = int8_accuracy(model, task)
    assert task.reference > 0.85
    assert got >= task.reference - MAX_LOSS, (task.reference, got)


@pytest.mark.parametrize("name", ["keywords", "images"])
def test_real_inputs_against_onnxruntime(name: str, request: pytest.FixtureRequest) -> None:
    task: Task = request.getfixturevalue(name)
    model = quantize_static(load(task.onnx), {INPUT: task.calibration[:50]})
    samples = [{INPUT: x} for x in task.inputs[:40]]
    layers = Difference()
    for layer, difference in compare_layers(model, samples).items():
        assert difference.steps <= 1, f"{layer}: {difference}"
        layers.include(difference)
    assert layers.mismatches <= LAYER_RATE * layers.elements, layers
    # Nine to twelve layers, and a softmax that multiplies the steps of uncertain predictions.
    difference = compare(lower(model), model.to_bytes(), samples)
    assert difference.mismatches <= OUTPUT_RATE * difference.elements, difference
    assert difference.steps <= 24, difference


@pytest.mark.parametrize("name", MODELS)
def test_float_networks_equal_onnxruntime(data_folder: Path, name: str) -> None:
    source = float_program(data_folder, name)
    model = to_onnx(source)
    program = lower(load(model))
    boundary = program.inputs[0]
    rng = np.random.default_rng(2)
    for _ in range(3):
        x = (rng.standard_normal(boundary.source_shape) * 20).astype(np.float32)
        want = run_onnx(model, {INPUT: x})
        got = Interpreter(program).run({INPUT: x})
        for key, expected in want.items():
            assert np.abs(got[key] - expected).max() <= 1e-5 * np.abs(expected).max()
        # And the detour through ONNX gives the very bits of the network as it was read.
        direct = Interpreter(source).run({source.inputs[0].name: x})
        for mine, other in zip(got.values(), direct.values(), strict=True):
            np.testing.assert_array_equal(mine, other)


def test_statistics_do_not_depend_on_the_order_of_samples(keywords: Task) -> None:
    model = load(keywords.onnx)
    for observer in ("minmax", "mse", "percentile"):
        some = keywords.calibration[:20]
        forwards = quantize_static(model, {INPUT: some}, observer=observer)
        backwards = quantize_static(model, {INPUT: some[::-1]}, observer=observer)
        assert forwards.to_bytes() == backwards.to_bytes()
