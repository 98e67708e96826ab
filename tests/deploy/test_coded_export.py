"""Networks with packed weights as artifacts: bytes, instructions beside int8, other runtimes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import edgekit
from edgekit.cli.app import app
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.comparison import coded_layers, coding_of, int8_twin
from edgekit.deploy.manifest import CodedLayer
from edgekit.errors import UnsupportedError, UsageError
from edgekit.model import save
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, Boundary, DType, Operation, Program, Quantization, Tensor
from edgekit.program.operators.coding import Coding, accumulator_for
from edgekit.program.operators.linear import FullyConnected
from edgekit.program.verify import verify
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.image import build_image
from edgekit.targets.target import target
from tests.support.coded_network import FORMATS, coded_model, coded_network, dynamic_network
from tests.support.random_network import random_network

EMULATED = "cortex-m4"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A network of grouped int4 weights on an emulated core, beside int8."""
    folder = tmp_path_factory.mktemp("packed")
    return edgekit.export(coded_network("int4-g32"), target=EMULATED, output=folder / "out")


def images(count: int) -> Array:
    """Inputs of :func:`coded_model`."""
    rng = np.random.default_rng(4)
    return rng.standard_normal((count, 1, 2, 6, 6)).astype(np.float32)


def stored(emission: Emission) -> int:
    """Bytes of packed weights and factors among the constants of a library."""
    return sum(
        member.data.nbytes
        for member in emission.weights.members
        if member.data.dtype == np.uint8 and member.name.endswith(("_weights", "_factors"))
    )


@pytest.mark.parametrize("weights", ["int4-g4", "ternary-p5"])
@pytest.mark.needs("cortex-m compiler")
def test_packed_bytes_are_what_is_linked(weights: str, tmp_path: Path) -> None:
    """The figures of the layers, the constants of the library and the linker's section agree."""
    program = coded_network(weights)
    emission = emit(program, version="test")
    packed_bytes = sum(layer.packed_bytes for layer in coded_layers(program))
    assert packed_bytes == stored(emission)
    image = build_image(emission.library, target(EMULATED), folder=tmp_path)
    assert image.sizes.weights == emission.weights.bytes
    assert b"".join(m.data.tobytes() for m in emission.weights.members) in image.path.read_bytes()


@pytest.mark.needs("cortex-m compiler")
def test_manifest_says_what_layers_take(packed: Artifact) -> None:
    """Format, bytes, bits and counted instructions of every coded layer; it reads back."""
    layers = packed.manifest.coded
    assert [layer.operation for layer in layers] == [
        op.name for op in packed.program.operations if coding_of(op) is not None
    ]
    assert edgekit.load(packed.folder).manifest == packed.manifest
    with packed.open() as session:
        x = edgekit_input(packed)
        profile = {layer.operation: layer for layer in session.profile(x).layers}
    for layer in layers:
        assert layer.format == "int4-g32"
        assert layer.packed_bits == 8 * layer.packed_bytes / layer.weights
        assert layer.packed_bytes < layer.weights
        assert layer.macs == profile[layer.operation].macs
        assert layer.instructions == profile[layer.operation].instructions
        assert layer.int8_instructions is not None
        assert layer.int8_instructions > layer.macs
    assert packed.manifest.check.identical is True
    assert not (packed.folder / "int8").exists()


@pytest.mark.needs("cortex-m compiler", "qemu-system-arm", "cc")
def test_layers_are_counted_where_images_are_booted(tmp_path: Path) -> None:
    """QEMU tells the layers of an image apart as well."""
    packed = edgekit.export(coded_network("int4-g32"), target="cortex-m55", output=tmp_path / "out")
    for layer in packed.manifest.coded:
        assert layer.instructions is not None
        assert layer.int8_instructions is not None
        assert layer.instructions > layer.macs


def edgekit_input(artifact: Artifact) -> Array:
    """What instructions are counted for."""
    from edgekit.deploy.benchmark import seeded_inputs

    (x,) = seeded_inputs(artifact.program, artifact.manifest.configuration.seed).values()
    return x


@pytest.mark.needs("cortex-m compiler")
def test_int8_figures_are_those_of_an_int8_network(packed: Artifact, tmp_path: Path) -> None:
    """The twin, exported by itself, costs what the manifest says."""
    twin = edgekit.export(int8_twin(packed.program), target=EMULATED, output=tmp_path / "twin")
    assert twin.manifest.coded == ()
    with twin.open() as session:
        counts = {p.operation: p.instructions for p in session.profile(edgekit_input(twin)).layers}
    for layer in packed.manifest.coded:
        assert counts[layer.operation] == layer.int8_instructions


@pytest.mark.parametrize("weights", FORMATS)
def test_int8_twin(weights: str) -> None:
    """Every format has one: int8 weights, int32 biases, the same layers and shapes."""
    for program in (coded_network(weights), dynamic_network(weights)):
        twin = int8_twin(program)
        assert [op.name for op in twin.operations] == [op.name for op in program.operations]
        assert all(coding_of(op) is None for op in twin.operations)
        constants = {t.dtype for t in twin.tensors.values() if t.is_constant}
        assert constants <= {DType.INT8, DType.INT32, DType.FLOAT32}
        for old, new in zip(program.operations, twin.operations, strict=True):
            before = old.operator.macs(*program.types(old.inputs))
            assert new.operator.macs(*twin.types(new.inputs)) == before
        sample = {"x": np.zeros(program.inputs[0].source_shape, program.input_tensors[0].dtype)}
        assert Interpreter(twin).run(sample)["y"].shape == program.outputs[0].source_shape


def test_smaller_but_not_faster() -> None:
    """Only where both are known, and the bytes are fewer and the instructions are not."""
    layer = CodedLayer("l", "int4", 100, 50, 4.0, 1000, 5000, 4000)
    assert layer.is_only_smaller
    assert (layer.per_mac, layer.int8_per_mac) == (5.0, 4.0)
    for other in (
        CodedLayer("l", "int4", 100, 50, 4.0, 1000, 3999, 4000),
        CodedLayer("l", "int8-g4", 100, 125, 10.0, 1000, 5000, 4000),
        CodedLayer("l", "int4", 100, 50, 4.0, 1000),
        CodedLayer("l", "int4", 100, 50, 4.0, 1000, 5000),
    ):
        assert not other.is_only_smaller


@pytest.mark.needs("cortex-m compiler")
def test_plain_networks_are_not_compared(tmp_path: Path) -> None:
    """Without coded layers there is nothing to say."""
    made = edgekit.export(random_network(3, 2), target=EMULATED, output=tmp_path / "out")
    assert made.manifest.coded == ()


@pytest.mark.needs("cortex-m compiler")
def test_command_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The table and the warnings; data as one document; no figures where none are wanted."""
    save(coded_model("int4"), tmp_path / "net.q.onnx")
    run = ["export", str(tmp_path / "net.q.onnx"), "--target", EMULATED]
    where = ["-o", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, [*run, *where])
    assert shown.exit_code == 0, shown.output
    layers = edgekit.load(tmp_path / "out").manifest.coded
    assert len(layers) == 2
    assert "int8_instructions_per_mac" in shown.stdout
    for layer in layers:
        assert f"{layer.per_mac:.4g}" in shown.stdout
        assert f"{layer.int8_per_mac:.4g}" in shown.stdout
        warned = f"{layer.operation}: int4 is smaller than int8" in shown.stderr
        assert warned == layer.is_only_smaller
    assert any(layer.is_only_smaller for layer in layers)
    data = CliRunner().invoke(app, ["-q", *run, *where, "--no-compare-int8", "--format", "json"])
    rows = json.loads(data.stdout)["coded"]
    assert [row["instructions_per_mac"] for row in rows] == [None, None]
    assert [row["packed_bytes"] for row in rows] == [layer.packed_bytes for layer in layers]
    assert not edgekit.load(tmp_path / "out").manifest.configuration.compare_int8


@pytest.mark.needs("cc", "onnxruntime")
def test_other_runtimes_keep_the_format(tmp_path: Path) -> None:
    """ONNX Runtime rounds no weights once more: those of a small group live beside a large one."""
    program = two_groups()
    artifact = edgekit.export(program, target="host", output=tmp_path / "out")
    x = np.random.default_rng(5).integers(-128, 128, (20, 1, 32)).astype(np.int8)
    x[..., 16:] = 0
    report = artifact.verify({"x": x}, backend="onnxruntime")
    (output,) = report.outputs
    assert output.elements == 80
    assert output.largest_step <= 1


def two_groups() -> Program:
    """A dense layer whose second half of weights is 255 times as large, and reads zeros."""
    rng = np.random.default_rng(6)
    w = rng.integers(-7, 8, (4, 32)).astype(np.int8)
    factors = np.tile(np.int32([[1, 255]]), (4, 1))
    meaning = Quantization((1e-3,) * 4, (0,) * 4, 0)
    x_meaning, y_meaning = Quantization.per_tensor(1.0), Quantization.per_tensor(0.02)
    coding = Coding("int4", 16, "uint8", accumulator_for("int4", w, group=16, factors=factors))
    operator = FullyConnected.quantized(x=x_meaning, w=meaning, y=y_meaning, coding=coding)
    tensors = {
        "x": Tensor("x", (1, 32), DType.INT8, x_meaning),
        "w": Tensor.constant("w", w, meaning),
        "factors": Tensor.constant("factors", factors),
        "y": Tensor("y", (1, 4), DType.INT8, y_meaning),
    }
    dense = Operation("dense", operator, ("x", "w", None, "factors"), ("y",))
    inputs, outputs = (Boundary("x", "x", (1, 32)),), (Boundary("y", "y", (1, 4)),)
    return verify(Program("groups", tensors, (dense,), inputs, outputs))


@pytest.mark.needs("cc", "onnxruntime")
def test_other_runtimes(tmp_path: Path) -> None:
    """ONNX Runtime takes the Program's integers and unpacks the weights itself."""
    program = coded_network("int4-g8")
    artifact = edgekit.export(program, target="host", output=tmp_path / "out")
    assert artifact.backends == ("c", "onnxruntime")
    (note,) = artifact.manifest.notes
    assert note.startswith("no model.tflite: ")
    assert [layer.instructions for layer in artifact.manifest.coded] == [None] * 4
    rng = np.random.default_rng(4)
    x = rng.integers(-128, 128, (20, *program.inputs[0].source_shape)).astype(np.int8)
    (output,) = artifact.verify({"x": x}, backend="onnxruntime").outputs
    assert output.elements == 200
    assert output.largest_step <= 1
    assert artifact.verify({"x": x}, backend="c").identical


def test_jetson_refuses(tmp_path: Path) -> None:
    """Its formats are TensorRT's; what it runs is named."""
    save(coded_model("nvfp4"), tmp_path / "net.q.onnx")
    with pytest.raises(UnsupportedError, match=r"(?s)conv: nvfp4\n.*int8.*float16"):
        edgekit.export(tmp_path / "net.q.onnx", target="jetson", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.torch
@pytest.mark.needs("torch", "cc")
def test_converted_modules_are_deployed_as_they_are(tmp_path: Path) -> None:
    """The very Program that ran in torch, under the name asked for; options are refused."""
    from edgekit.quantize.converted import ConvertedModule

    module = ConvertedModule.from_model(coded_model("mxfp4"))
    artifact = edgekit.export(module, target="host", output=tmp_path / "out", name="own")
    assert artifact.manifest.model.format == "torch"
    assert artifact.manifest.configuration.name == "own"
    assert artifact.program.operations == module.program.operations
    assert artifact.manifest.coded == coded_layers(module.program)
    x = images(2)[:, 0]
    for options in (
        {"precision": "float32"},
        {"calibration": x},
        {"example_inputs": x},
        {"input_shapes": {"x": (1, 2, 6, 6)}},
    ):
        with pytest.raises(UsageError, match="deployed as it is"):
            edgekit.export(module, target="host", output=tmp_path / "no", **options)
    assert not (tmp_path / "no").exists()
