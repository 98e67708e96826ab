"""Every kind of model as a source: files, torch modules, exported programs, factories."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli.options import read_arguments
from edgekit.deploy.comparison import coding_of
from edgekit.deploy.manifest import Configuration
from edgekit.deploy.source import Source, read_source
from edgekit.errors import EdgekitError, InvalidModelError, UnsupportedError, UsageError
from edgekit.formats import Format
from edgekit.model import load, save
from edgekit.model.coded import replace_weights
from edgekit.model.domain import attach_functions
from edgekit.model.nodes import const, get_input, is_op
from edgekit.program.interpret import run
from edgekit.program.operators.coding import Coding
from edgekit.quantize.static import quantize_static
from edgekit.targets.target import target
from tests.support.onnx_models import OnnxBuilder
from tests.support.posttraining import network, samples
from tests.support.quantized import program_feeds

FACTORY = """
import torch
from torch import nn

def net(width=4):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))

def ready():
    return net(), torch.ones(1, 3)

class Two(nn.Module):
    def forward(self, left, right):
        return left + right
"""

RNG = np.random.default_rng(0)
SAMPLES = RNG.standard_normal((16, 3), dtype=np.float32)


def source(
    model: object, calibration: Any = None, *, example: object = None, **options: Any
) -> Source:
    weights = options.pop("weights", None)
    configuration = replace(Configuration("host", "net"), **options)
    return read_source(
        model, target("host"), configuration, calibration, example_inputs=example, weights=weights
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with ``mymodels.py`` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mymodels.py").write_text(FACTORY)
    yield tmp_path
    sys.modules.pop("mymodels", None)


def onnx_file(path: Path) -> Path:
    b = OnnxBuilder()
    w = b.constant(RNG.standard_normal((3, 2), dtype=np.float32))
    b.output(b.node("MatMul", b.input("x", (1, 3)), w))
    path.write_bytes(b.build())
    return path


@pytest.mark.needs("onnxruntime")
def test_onnx_files(tmp_path: Path) -> None:
    """What was read and what was made of it, for the writers of other forms."""
    path = onnx_file(tmp_path / "net.onnx")
    real = source(path, precision="float32")
    assert real.float_model is not None
    assert (real.quantised_model, real.samples, real.reference) == (None, None, None)
    made = source(str(path), {"x": SAMPLES}, calibration_limit=4)
    assert made.float_model is not None and made.quantised_model is not None
    assert made.reference is not None
    assert made.calibration is not None and made.calibration.samples == 4
    assert made.samples is not None and len(made.samples) == 16
    (tmp_path / "q.onnx").write_bytes(made.quantised_model.to_bytes())
    again = source(tmp_path / "q.onnx")
    assert again.float_model is None
    assert again.quantised_model is not None
    feeds = {"x": np.full((1, 3), 7, np.int8)}
    for name, value in run(again.program, feeds).items():
        assert np.array_equal(value, run(made.program, feeds)[name])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.pth", "a pickle, which is never loaded; save the module with torch.export.save"),
        ("net.safetensors", "weights without a model; give the module as"),
        ("net.py", "source; name the function in it that makes the module: module:factory"),
        ("net.h5", "of an unknown kind; edgekit reads .tflite, .onnx, .pt2 and .nir files"),
    ],
)
def test_files_of_other_kinds(name: str, message: str) -> None:
    with pytest.raises(InvalidModelError, match=message):
        source(Path(name))


@pytest.mark.needs("onnxruntime")
def test_options_that_files_do_not_take(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "net.onnx")
    for options, message in (
        ({"weights": "w.safetensors"}, "weights are for 'package.module:factory'"),
        ({"factory_args": (("depth", "8"),)}, r"arguments \['depth'\] are for"),
        ({"example": SAMPLES}, "example_inputs belong to modules"),
    ):
        with pytest.raises(UsageError, match=message):
            source(path, **options)


@pytest.mark.torch
@pytest.mark.needs("torch")
def test_modules_and_programs(here: Path) -> None:
    """The object, its ExportedProgram and its .pt2 file give the same Program."""
    import torch

    sys.path.insert(0, str(here))
    try:
        import mymodels
    finally:
        sys.path.remove(str(here))
    torch.manual_seed(0)
    module = mymodels.net().eval()
    made = source(module, SAMPLES, example=np.ones((1, 3), np.float32))
    assert (made.record.file, made.record.format) == ("Sequential", "torch")
    assert made.float_model is not None
    data = made.float_model.to_bytes()
    assert made.record.sha256 == hashlib.sha256(data).hexdigest()
    program = torch.export.export(module, (torch.ones(1, 3),))
    torch.export.save(program, "net.pt2")
    feeds = {"input": np.full((1, 3), 9, np.int8)}
    want = run(made.program, feeds)["output"]
    for other, kind in ((program, "torch"), ("net.pt2", "pt2")):
        found = source(other, SAMPLES)
        assert found.record.format == kind
        assert np.array_equal(run(found.program, feeds)["output"], want)
    assert found.record.sha256 == hashlib.sha256(Path("net.pt2").read_bytes()).hexdigest()
    with pytest.raises(UsageError, match="an exported program knows its inputs"):
        source(program, example=torch.ones(1, 3))


@pytest.mark.torch
@pytest.mark.needs("torch")
def test_factories(here: Path) -> None:
    """Where the example comes from; arguments; weights."""
    import torch
    from safetensors.torch import save_file

    assert source("mymodels:ready", precision="float32").record.file == "mymodels:ready"
    shaped = source("mymodels:net", precision="float32", input_shapes=(("input", (5, 3)),))
    assert shaped.notes == ("the batch of the example, 5, is fixed to 1",)
    sampled = source("mymodels:net", {"x": SAMPLES, "y": np.zeros(16, int)})
    assert sampled.program.inputs[0].source_shape == (1, 3)
    layers = {"0.weight": (6, 3), "0.bias": (6,), "2.weight": (2, 6), "2.bias": (2,)}
    weights = {name: torch.ones(shape) for name, shape in layers.items()}
    save_file(weights, "w.safetensors")
    loaded = source(
        "mymodels:net",
        precision="float32",
        weights="w.safetensors",
        factory_args=(("width", "6"),),
        input_shapes=(("input", (1, 3)),),
    )
    (result,) = run(loaded.program, {"input": np.ones((1, 3), np.float32)}).values()
    assert result.tolist() == [[25.0, 25.0]]


@pytest.mark.torch
@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("model", "calibration", "options", "error", "message"),
    [
        ("mymodels:net", None, {}, UsageError, "Sequential needs an example.*give example_inputs"),
        ("mymodels:Two", SAMPLES, {}, UsageError, r"no array 'left', an argument of Two\.forward"),
        (
            "mymodels:net",
            None,
            {"input_shapes": (("inputs", (1, 3)),)},
            UsageError,
            "no argument 'inputs'; did you mean 'input'",
        ),
        (
            "mymodels:net",
            None,
            {"input_shapes": (("input", (0, 3)),)},
            UsageError,
            "extents must be positive",
        ),
        (
            "mymodels:net",
            None,
            {"input_shapes": (("input", (1, 3)),), "example": SAMPLES},
            UsageError,
            "not both",
        ),
        ("mymodels:ready", None, {}, UsageError, "mymodels:ready is a float model: give calib"),
        ("mymodels:nett", None, {}, UsageError, "did you mean net"),
        ("net.pt2", None, {}, InvalidModelError, "net.pt2: cannot be read: No such file"),
        (3, None, {}, UnsupportedError, "cannot export a builtins.int: give the path of a .tflite"),
    ],
)
def test_what_is_no_source(
    here: Path,
    model: object,
    calibration: Any,
    options: dict[str, Any],
    error: type[EdgekitError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        source(model, calibration, **options)


def weights_in_blocks() -> bytes:
    """A product whose weights alone are quantised, by blocks of 4 with real scales."""
    b = OnnxBuilder()
    codes = b.constant(RNG.integers(-127, 128, (8, 5)).astype(np.int8))
    scales = b.constant(RNG.uniform(0.01, 0.03, (2, 5)).astype(np.float32))
    weights = b.node("DequantizeLinear", codes, scales, axis=0, block_size=4)
    b.output(b.node("MatMul", b.input("x", (1, 8)), weights))
    return b.build()


def test_coded_weights_alone_are_calibrated(tmp_path: Path) -> None:
    """Activations become int8, the weights stay as they are coded, in either form."""
    standard = tmp_path / "blocks.onnx"
    standard.write_bytes(weights_in_blocks())
    data = RNG.standard_normal((20, 1, 8)).astype(np.float32)
    found = source(standard, {"x": data})
    (operation,) = (op for op in found.program.operations if coding_of(op) is not None)
    assert coding_of(operation) == Coding("int8", 4, "uint8")
    assert found.calibration is not None
    assert found.reference is not None
    assert not found.fallbacks
    (real,) = run(found.reference, {"x": data[0]}).values()
    (boundary,) = found.program.outputs
    quantization = found.program.tensors[boundary.tensor].quantization
    assert quantization is not None
    (codes,) = run(found.program, program_feeds(found.program, {"x": data[0]})).values()
    got = (codes.astype(np.float64) - quantization.scalar_zero_point) * quantization.scalar_scale
    assert np.abs(got - real).max() <= 0.05 * np.abs(real).max()
    with pytest.raises(UsageError, match="is a float model: give calibration"):
        source(standard)

    model = load(network())
    for node in model.ir.graph:
        if is_op(node, "Gemm"):
            fmt, weights = Format.parse("fp4-e2m1-g8"), const(get_input(node, 1))
            replace_weights(node, fmt.quantize(weights), fmt)
    attach_functions(model.ir)
    ours = save(model, tmp_path / "ours.onnx")
    program = source(ours, samples()).program
    codings = [coding_of(op) for op in program.operations if hasattr(op.operator, "coding")]
    assert codings == [*[None] * 4, Coding("fp4-e2m1", 8, "uint8")]


def test_notes_of_the_lowering_arrive(tmp_path: Path) -> None:
    """Scales that move a little when they become integer factors: the user hears of it."""
    path = tmp_path / "blocks.onnx"
    path.write_bytes(weights_in_blocks())
    data = {"x": RNG.standard_normal((20, 1, 8)).astype(np.float32)}
    quantised = save(quantize_static(load(path), data), tmp_path / "quantised.onnx")
    for found in (source(path, data), source(quantised)):
        (note,) = (note for note in found.notes if "multiples of 1/255" in note)
        assert "largest of their channel" in note


def test_arguments_on_the_command_line() -> None:
    """``NAME=VALUE``; the value may hold a further equals sign."""
    assert read_arguments(["depth=8", "kind=a=b"]) == {"depth": "8", "kind": "a=b"}
    for text in ("depth", "=8", "de pth=8"):
        with pytest.raises(UsageError, match="must read NAME=VALUE"):
            read_arguments([text])


def test_without_torch(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules and .pt2 files say what is missing."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    for model, what in (("mymodels:net", "modules"), ("net.pt2", r"\.pt2 files")):
        with pytest.raises(UsageError, match=rf"{what} need torch: pip install 'edgekit\[torch\]'"):
            source(model)
