"""Other runtimes at the network's boundary, and an artifact run in several ways at once."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

import edgekit
from edgekit.bench import bench as bench_module
from edgekit.bench.protocol import Protocol
from edgekit.bench.report import SCHEMA, read_report
from edgekit.bench.runners import RUNTIMES, open_model
from edgekit.bench.runners.arithmetic import Arithmetic, arithmetic
from edgekit.bench.runners.base import RunnerError, RuntimeMissingError
from edgekit.bench.runners.cuda import Cuda
from edgekit.bench.subject import Port
from edgekit.cli.app import app
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.benchmark import subject_for
from edgekit.deploy.ondevice import ports_of
from edgekit.errors import UnsupportedError, UsageError, VerificationError
from tests.support.models import tiny_tflite
from tests.support.onnx_models import OnnxBuilder

QUICK = Protocol(warmup=0, iterations=3, min_seconds=0)
X = Port("x", "int8", (1, 2, 3), None, None, 6, 0.5, 1)
Y = Port("y", "int8", (1, 2, 3), None, None, 6, 0.25, -2)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The small int8 model for a board."""
    folder = tmp_path_factory.mktemp("board")
    (folder / "tiny.tflite").write_bytes(tiny_tflite())
    return edgekit.export(folder / "tiny.tflite", target="nucleo-l4r5zi", output=folder / "out")


def identity(path: Path, dtype: str, shape: tuple[int, ...] = (1, 2, 3)) -> Path:
    """An ONNX file that returns what it is given."""
    builder = OnnxBuilder()
    builder.output(builder.node("Identity", builder.input("x", shape, dtype)), dtype)
    path.write_bytes(builder.build())
    return path


@pytest.mark.needs("onnxruntime")
def test_real_numbers_at_an_integer_boundary(tmp_path: Path) -> None:
    """Dequantised with the input's scale, quantised with the output's; and as they are."""
    file = identity(tmp_path / "f.onnx", "float32")
    with open_model("onnxruntime", file, [X], [Y], precision="float32", threads=2) as runner:
        x = np.array([[[-128, 1, 2], [3, 4, 127]]], np.int8)
        real = (x.astype(np.float32) - 1) * np.float32(0.5)
        want = np.clip(real / 0.25 - 2, -128, 127).astype(np.int8)
        assert (runner.run({"x": x})["y"] == want).all()
        assert (runner.run({"x": real})["y"] == want).all()
        assert (runner.results(runner.invoke(runner.prepare({"x": x})))["y"] == real).all()
        assert (runner.wants_real, runner.threads, runner.file) == (True, 2, "f.onnx")
        assert (runner.name, runner.kernels) == ("onnxruntime", "CPUExecutionProvider")


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize(
    ("dtype", "shape", "words"),
    [("float32", (1, 3, 2), "the file has shape"), ("uint8", (1, 2, 3), r"is tensor\(uint8\)")],
)
def test_a_file_of_another_network(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], words: str
) -> None:
    """Refused when it is opened, not when it runs."""
    file = identity(tmp_path / "f.onnx", dtype, shape)
    with pytest.raises(RunnerError, match=f"'x'.*{words}"):
        open_model("onnxruntime", file, [X], [Y], precision="int8")


@pytest.mark.needs("onnxruntime", "litert")
@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_a_file_that_is_no_model(tmp_path: Path, runtime: str) -> None:
    """The runtime's words, as one kind of error."""
    (tmp_path / "f").write_bytes(b"nonsense")
    with pytest.raises(RunnerError, match="f: .* refuses it"):
        open_model(runtime, tmp_path / "f", [X], [Y], precision="int8")


def quantised(path: Path, operator: str) -> Path:
    """An operator on reals between integers at both ends, as quantised files say it."""
    builder = OnnxBuilder()
    scale, zero = builder.constant(np.float32(0.5)), builder.constant(np.int8(1))
    x = builder.input("x", (1, 2, 3), "int8")
    real = builder.node(operator, builder.node("DequantizeLinear", x, scale, zero))
    builder.output(builder.node("QuantizeLinear", real, scale, zero), "int8")
    path.write_bytes(builder.build())
    return path


@pytest.mark.needs("onnxruntime")
def test_int8_is_not_always_computed_in_integers(tmp_path: Path) -> None:
    """No processor has an integer kernel for a sine: the label and a note say so."""
    file = quantised(tmp_path / "f.onnx", "Sin")
    with open_model("onnxruntime", file, [X], [Y], precision="int8") as runner:
        assert runner.kernels == "CPUExecutionProvider, nodes: 0 integer, 1 float"
        assert runner.notes == (
            "ONNX Runtime computes 1 of 1 nodes in float on this processor, although the file is "
            "int8",
        )
        assert not runner.wants_real


@pytest.mark.needs("onnxruntime")
def test_without_onnx_the_arithmetic_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board may have the runtime alone: nothing is claimed."""

    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr("edgekit.bench.runners.arithmetic.import_module", missing)
    file = quantised(tmp_path / "f.onnx", "Sin")
    with open_model("onnxruntime", file, [X], [Y], precision="int8") as runner:
        assert runner.kernels == "CPUExecutionProvider, in integers or floats"
        assert "is not known" in runner.notes[0]
        assert runner.run({"x": np.zeros((1, 2, 3), np.int8)})["y"].shape == (1, 2, 3)


def test_integer_and_float_nodes_are_counted() -> None:
    """By the data that goes in; what only moves or converts values does not count."""
    floats, integers = TensorProto.FLOAT, TensorProto.INT8
    nodes = [
        helper.make_node("QLinearConv", ["x", "s", "z"], ["a"], domain="com.microsoft"),
        helper.make_node("Transpose", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z"], ["d"]),
        helper.make_node("Reshape", ["d", "shape"], ["e"]),
        helper.make_node("Conv", ["e", "w"], ["f"]),
        helper.make_node("QuantizeLinear", ["f", "s", "z"], ["g"]),
        helper.make_node("QGemm", ["g", *"szwszb", "s", "z"], ["h"], domain="com.microsoft"),
        helper.make_node("Relu", ["h"], ["i"]),
        helper.make_node("QGemm", ["i", *"szwsz"], ["j"], domain="com.microsoft"),
        helper.make_node("Softmax", ["j"], ["k"]),
        helper.make_node("Cast", ["k"], ["l"], to=TensorProto.INT32),
        helper.make_node("Add", ["l", "l"], ["m"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", integers, (1,))],
        [helper.make_tensor_value_info("m", TensorProto.INT32, (1,))],
        [helper.make_tensor("s", floats, (), [1.0]), helper.make_tensor("z", integers, (), [0])],
    )
    # Integers: QLinearConv, MaxPool, QGemm, Relu, QGemm, Add. Floats: Conv, Softmax.
    assert arithmetic(graph, TensorProto) == Arithmetic(integer=6, real=2)


@pytest.mark.needs("litert")
def test_litert_says_what_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XNNPACK where it took nodes over; not where it did not; not known where nothing tells."""
    litert: Any = import_module("ai_edge_litert.interpreter")
    (tmp_path / "tiny.tflite").write_bytes(tiny_tflite())
    x, y = replace(X, source_shape=(1, 6, 6, 2), bytes=72), replace(Y, source_shape=(3,), bytes=3)

    def kernels() -> str:
        with open_model("litert", tmp_path / "tiny.tflite", [x], [y], precision="int8") as runner:
            return runner.kernels

    assert kernels() == "XNNPACK"
    monkeypatch.delattr(litert.Interpreter, "_get_ops_details")
    assert kernels() == "the runtime's choice, not known"
    monkeypatch.undo()
    reference = litert.OpResolverType.BUILTIN_REF
    plain = partial(litert.Interpreter, experimental_op_resolver_type=reference)
    monkeypatch.setattr(litert, "Interpreter", plain)
    assert kernels() == "built-in kernels"


class Driver:
    """CUDA's driver, of which one function fails."""

    def __init__(self, failing: str) -> None:
        self.called: list[str] = []
        self.failing = failing

    def __getattr__(self, name: str) -> Any:
        def function(*arguments: object) -> int:
            self.called.append(name)
            return 2 * (name == self.failing)

        return function


@pytest.mark.parametrize(
    ("failing", "released"),
    [("cuDevicePrimaryCtxRetain", 0), ("cuCtxSetCurrent", 1), ("cuStreamCreate", 1)],
)
def test_a_context_is_released_when_opening_fails(
    failing: str, released: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once if it was retained, else not."""
    driver = Driver(failing)
    monkeypatch.setattr("edgekit.bench.runners.cuda.ctypes.CDLL", lambda name: driver)
    with pytest.raises(RuntimeMissingError, match=f"{failing} answered 2"):
        Cuda()
    assert driver.called.count("cuDevicePrimaryCtxRelease_v2") == released


@pytest.mark.needs("litert")
def test_another_number_of_tensors(tmp_path: Path) -> None:
    """Said, with both numbers."""
    (tmp_path / "tiny.tflite").write_bytes(tiny_tflite())
    with pytest.raises(RunnerError, match="the file has 1 outputs, the network 2"):
        open_model(
            "litert",
            tmp_path / "tiny.tflite",
            [replace(X, source_shape=(1, 6, 6, 2), bytes=72)],
            [Y, replace(Y, name="z")],
            precision="int8",
        )


def test_a_runtime_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says what to install."""

    def missing(name: str) -> object:
        raise ImportError(name)

    for runtime, (module, _) in RUNTIMES.items():
        if runtime == "tensorrt":
            continue
        monkeypatch.setattr(f"{module}.import_module", missing)
        with pytest.raises(RuntimeMissingError, match="pip install"):
            open_model(runtime, tmp_path / "f", [X], [Y], precision="int8")
    with pytest.raises(RunnerError, match="no back end 'abacus'; there are c, onnxruntime"):
        open_model("abacus", tmp_path / "f", [X], [Y], precision="int8")


@pytest.mark.needs("litert", "cc", "cortex-m compiler")
def test_litert_agrees_to_a_step(board: Artifact, tmp_path: Path) -> None:
    """The model behind the artifact, at the artifact's own boundary."""
    (tmp_path / "tiny.tflite").write_bytes(tiny_tflite())
    inputs, outputs = ports_of(board.program)
    vectors = dict(np.load(board.folder / "vectors.npz"))
    with open_model(
        "litert", tmp_path / "tiny.tflite", inputs, outputs, precision="int8"
    ) as runner:
        agreement = bench_module.compare(runner, vectors)
    assert (agreement.samples, agreement.elements) == (2, 6)
    assert agreement.largest_step in (0, 1)


@pytest.mark.needs("cc", "cortex-m compiler")
def test_a_sweep_over_devices(board: Artifact, tmp_path: Path) -> None:
    """One report: counted on the emulator, measured here, accuracy in both."""
    shape = board.program.inputs[0].source_shape
    x = np.random.default_rng(2).integers(-128, 128, (3, *shape)).astype(np.int8)
    with board.open("local") as session:
        y = np.array([session.run(sample).argmax() for sample in x])
    y[0] = (y[0] + 1) % 3
    report = board.bench(
        {"x": x, "y": y}, device="emulator,local", protocol=QUICK, limit=2, command="mine"
    )
    emulated, local = report.runs
    assert report.command == "mine"
    assert (emulated.device, emulated.input, emulated.samples) == (
        "emulator",
        "first sample of the data",
        1,
    )
    assert emulated.latency_ms is not None
    assert (emulated.latency_ms.provenance, emulated.protocol) == ("modelled", None)
    assert (local.device, local.input, local.samples) == ("local", "the data", 3)
    assert local.protocol == QUICK
    for run in report.runs:
        assert run.accuracy is not None
        assert (run.accuracy.value, run.accuracy.samples) == (0.5, 2)
    assert report.artifact.artifact_sha256 is not None
    assert [f.file for f in report.files] == ["image.elf"]


@pytest.mark.needs("cc", "cortex-m compiler")
def test_the_memory_map_is_the_plan(board: Artifact) -> None:
    """Buffers that live at the same time do not overlap; the highest ends at the arena's size."""
    memory = subject_for(board).memory
    assert memory is not None
    placed = [b for b in memory.blocks if b.offset is not None]
    assert max((b.offset or 0) + b.bytes for b in placed) == memory.activations_bytes
    for number, a in enumerate(placed):
        for b in placed[number + 1 :]:
            apart = (a.last_layer or 0) < (b.first_layer or 0) or (b.last_layer or 0) < (
                a.first_layer or 0
            )
            above = (a.offset or 0) + a.bytes <= (b.offset or 0)
            below = (b.offset or 0) + b.bytes <= (a.offset or 0)
            assert apart or above or below, (a, b)


@pytest.mark.needs("cc", "cortex-m compiler")
def test_code_that_is_not_exact_is_not_measured(
    board: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verification error, and no report."""
    vectors = {k: v ^ np.int8(1) for k, v in np.load(board.folder / "vectors.npz").items()}
    monkeypatch.setattr("edgekit.deploy.artifact.read_arrays", lambda path: vectors)
    with pytest.raises(VerificationError, match="differ from the exact reference"):
        board.bench(device="local", protocol=QUICK)


@pytest.mark.needs("cc", "cortex-m compiler")
def test_what_an_artifact_does_not_hold(board: Artifact) -> None:
    """Named, with what there is."""
    with pytest.raises(UnsupportedError, match=r"no file for a runtime in float32"):
        board.bench(baseline="fp32", protocol=QUICK)
    with pytest.raises(UsageError, match="no device 'moon'"):
        board.bench(device="moon", protocol=QUICK)
    with pytest.raises(UsageError, match="empty name"):
        board.bench(device="local,,emulator", protocol=QUICK)


@pytest.mark.needs("cc", "cortex-m compiler")
def test_command_line(board: Artifact, tmp_path: Path) -> None:
    """A sweep as CSV, and the report in a folder that is made."""
    output = tmp_path / "runs" / "x.json"
    options = ["--iters", "3", "--min-seconds", "0", "--percentiles", "75", "--seed", "3"]
    arguments = ["bench", str(board.folder), "--device", "emulator,local", *options]
    result = CliRunner().invoke(app, ["-q", *arguments, "--format", "csv", "-o", str(output)])
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(r["device"], r["provenance"]) for r in rows] == [
        ("emulator", "modelled"),
        ("local", "measured"),
    ]
    report = read_report(output)
    assert [run.input for run in report.runs] == ["random, seed 3"] * 2
    local = report.runs[1].latency_ms
    assert local is not None
    assert [p.percent for p in local.percentiles] == [75]
    shown = CliRunner().invoke(app, ["-q", *arguments, "--format", "json"])
    assert json.loads(shown.stdout)["schema"] == SCHEMA
    wrong = CliRunner().invoke(app, ["bench", str(board.folder), "--percentiles", "often"])
    assert isinstance(wrong.exception, UsageError)
