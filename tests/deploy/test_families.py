"""Artifacts for ARM computers and Jetson: what is in them, and that a board could use it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgekit
from edgekit.bench.kit import kit_files
from edgekit.bench.report import Report
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.runtime import RuntimeSession
from edgekit.errors import DeviceMissingError, InvalidDataError, UnsupportedError, UsageError
from edgekit.targets.arm_cpu.cpus import this_architecture
from edgekit.targets.target import ARM_CPU, builtin_targets
from tests.support.models import tiny_onnx

pytestmark = pytest.mark.needs("cc", "aarch64 compiler", "onnxruntime", "litert")

COMPUTERS = [t.name for t in builtin_targets().values() if t.family == ARM_CPU]
STEPS = '{"schema": 1, "window": null, "steps": [{"kind": "scale", "factor": 0.5, "offset": 0.0}]}'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small float ``.onnx`` file."""
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    path.write_bytes(tiny_onnx())
    return path


def samples(count: int = 40) -> np.ndarray:
    """Inputs for the model."""
    return np.random.default_rng(1).standard_normal((count, 2, 6, 6)).astype(np.float32)


def made(model: Path, folder: Path, target: str, **options: object) -> Artifact:
    """An artifact for a target."""
    return edgekit.export(
        model, target=target, calibration=samples(), output=folder / target, **options
    )


@pytest.fixture(scope="module")
def pi(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """For a Raspberry Pi, with declared pre-processing."""
    folder = tmp_path_factory.mktemp("pi")
    (folder / "steps.json").write_text(STEPS, encoding="utf-8")
    return made(model, folder, "raspberry-pi-5", preprocessing=folder / "steps.json")


@pytest.fixture(scope="module")
def jetson(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """For the first Jetson."""
    return made(model, tmp_path_factory.mktemp("jetson"), "jetson")


@pytest.mark.parametrize("target", COMPUTERS)
def test_every_computer_runs_the_bits(model: Path, tmp_path: Path, target: str) -> None:
    """The shared object that ships, in emulation or here, equals the interpreter."""
    artifact = made(model, tmp_path, target)
    assert artifact.manifest.check.identical is True
    report = artifact.verify(samples(6))
    assert report.device == artifact.target.devices[0]
    assert report.identical
    assert report.layers
    assert (artifact.folder / f"lib{artifact.manifest.configuration.name}.so").is_file()


@pytest.mark.parametrize("backend", ["onnxruntime", "litert"])
def test_other_runtimes_are_compared(pi: Artifact, backend: str) -> None:
    """Their differences are counted, never hidden and never a failure."""
    assert pi.backends == ("c", "onnxruntime", "litert")
    with pi.open(backend=backend) as session:
        assert isinstance(session, RuntimeSession)
        y = session.run(np.zeros((1, 2, 6, 6), np.int8))
        assert y.dtype == np.int8
    report = pi.verify(samples(), backend=backend)
    (output,) = report.outputs
    assert (report.backend, report.exact, report.passed) == (backend, False, True)
    assert output.elements == 40 * y.size
    assert output.top1_changes is not None
    assert output.largest_step is not None
    assert output.largest_step <= 2
    assert output.mismatch_rate <= 0.3
    assert report.closeness[0].cosine > 0.99


def test_a_runtime_is_refused_elsewhere(pi: Artifact) -> None:
    """Other runtimes run on this machine only, and only those whose file there is."""
    with pytest.raises(UnsupportedError, match="onnxruntime runs on device local, not on emulator"):
        pi.open("emulator", backend="onnxruntime")
    with pytest.raises(UnsupportedError, match="no back end 'tensorrt'; it has c, onnxruntime"):
        pi.open(backend="tensorrt")


def test_a_missing_runtime_is_named(pi: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the package that provides it."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceMissingError, match="pip install onnxruntime"):
        pi.open(backend="onnxruntime")


def test_what_tflite_cannot_say_is_absent_and_said(tmp_path: Path) -> None:
    """A network with state has C code, no files for runtimes, and the reasons in its notes."""
    from tests.support.programs import recurrent_network

    artifact = edgekit.export(recurrent_network(), target="aarch64", output=tmp_path / "out")
    assert artifact.backends == ("c",)
    notes = "\n".join(artifact.manifest.notes)
    assert "no model.tflite" in notes
    assert "no model.onnx" in notes
    assert "state" in notes
    assert notes.partition("\n")[0][:20] in (artifact.folder / "README.md").read_text("utf-8")


def test_equal_exports_are_equal(model: Path, tmp_path: Path) -> None:
    """Every file of an artifact, for a computer and for a Jetson."""
    for target in ("raspberry-pi-4", "jetson-thor"):
        first, second = (made(model, tmp_path / n, target) for n in "ab")
        assert first.manifest == second.manifest


def test_the_kit_is_the_code_that_measures_here(pi: Artifact) -> None:
    """File by file; a change of edgekit.bench is a change of what boards run."""
    for name, text in kit_files(preprocessing=True).items():
        assert (pi.folder / name).read_text("utf-8") == text


def test_a_board_measures_by_itself(model: Path, tmp_path: Path) -> None:
    """In a process that has no edgekit, with the artifact moved to another folder."""
    target = {"x86-64": "x86-64", "aarch64": "aarch64"}.get(this_architecture(), "armv7")
    (tmp_path / "steps.json").write_text(STEPS, encoding="utf-8")
    artifact = made(model, tmp_path, target, preprocessing=tmp_path / "steps.json")
    moved = tmp_path / "elsewhere"
    shutil.move(artifact.folder, moved)
    command = [sys.executable, "-I", "ondevice/bench.py", "--output", "out/report.json"]
    command += ["--backend", "c,onnxruntime,litert", "--baseline", "fp32"]
    command += ["--iters", "3", "--min-seconds", "0"]
    done = subprocess.run(command, cwd=moved, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads((moved / "out" / "report.json").read_text("utf-8"))
    report = Report.from_json(document)
    assert [run.backend for run in report.runs] == ["c", "onnxruntime", "litert", "onnxruntime"]
    assert [run.role for run in report.runs] == ["subject"] * 3 + ["baseline"]
    agreement = report.runs[0].agreement
    assert agreement is not None
    assert agreement.mismatches == 0
    assert report.preprocessing is not None
    assert report.preprocessing.latency_ms is not None
    for run in report.runs:
        assert run.latency_ms is not None
        assert run.latency_ms.provenance == "measured"
        assert len(run.latency_ms.samples) == 3


def test_a_wrong_declaration_is_refused(model: Path, tmp_path: Path) -> None:
    """Before anything is built."""
    (tmp_path / "steps.json").write_text('{"schema": 2}', encoding="utf-8")
    with pytest.raises(InvalidDataError, match=r"steps\.json"):
        made(model, tmp_path, "aarch64", preprocessing=tmp_path / "steps.json")
    assert not (tmp_path / "aarch64").exists()


def test_jetson_holds_models_and_scripts(jetson: Artifact) -> None:
    """Three models, no C; ONNX Runtime stands in and is near the float model."""
    assert jetson.manifest.interface is None
    files = [(m.file, m.precision) for m in jetson.manifest.models]
    assert files == [
        ("model.onnx", "int8"),
        ("float16.onnx", "float16"),
        ("float.onnx", "float32"),
    ]
    for file, _ in files:
        onnx.checker.check_model(str(jetson.folder / file), full_check=True)
    assert {"build.py", "bench.py"} <= {p.name for p in (jetson.folder / "ondevice").iterdir()}
    assert "ondevice/build.py" in (jetson.folder / "README.md").read_text("utf-8")
    assert jetson.target.status == "needs-hardware"
    assert jetson.backends == ("onnxruntime",)
    report = jetson.verify({"x": samples(), "y": np.zeros(40, np.int64)})
    assert (report.exact, report.outputs) == (False, ())
    assert (report.identical, report.passed) == (None, True)
    assert report.closeness[0].cosine > 0.99
    assert report.accuracy is not None
    assert report.float_accuracy is not None


def test_jetson_has_no_c_code(jetson: Artifact) -> None:
    """Asked for, it is refused with the reason."""
    with pytest.raises(UnsupportedError, match="jetson artifacts hold no C"):
        _ = jetson.library
    with pytest.raises(UnsupportedError, match="no back end 'c'"):
        jetson.open(backend="c")


def test_jetson_refuses_an_asymmetric_model(model: Path, pi: Artifact, tmp_path: Path) -> None:
    """What the other families run as it is; the message names rule and node."""
    with pytest.raises(UnsupportedError, match="symmetric"):
        edgekit.export(pi.folder / "model.onnx", target="jetson", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_jetson_wants_calibration(model: Path, tmp_path: Path) -> None:
    """A float model cannot be quantised without samples; the message says what can be done."""
    with pytest.raises(UsageError, match="calibration data .* or ask for .* float32 or float16"):
        edgekit.export(model, target="jetson", output=tmp_path / "out")


@pytest.mark.parametrize(("precision", "other"), [("float16", "float32"), ("float32", "float16")])
def test_jetson_in_float(model: Path, tmp_path: Path, precision: str, other: str) -> None:
    """Without calibration; the other float precision is the baseline."""
    artifact = edgekit.export(model, target="jetson", precision=precision, output=tmp_path / "out")
    assert [m.precision for m in artifact.manifest.models] == [precision, other]
    report = artifact.verify(samples(8))
    assert report.closeness[0].cosine > 0.9999
    with pytest.raises(UsageError, match="float16 is a precision of Jetsons"):
        edgekit.export(model, target="host", precision="float16", output=tmp_path / "host")
