"""The on-device scripts against a stand-in with the names of the real bindings."""

from __future__ import annotations

import ast
import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bench.protocol import Protocol
from edgekit.bench.runners import cuda, open_model
from edgekit.bench.runners import tensorrt as runner_module
from edgekit.bench.runners.base import Runner, RunnerError, RuntimeMissingError
from edgekit.bench.subject import Port
from edgekit.targets.jetson.derive import written_out
from edgekit.targets.jetson.modules import DEFAULT, MODULES, TENSORRT_MAJORS
from edgekit.targets.jetson.ondevice import build
from edgekit.targets.jetson.package import package
from edgekit.targets.jetson.scripts import device_scripts
from tests.support.onnx_models import run_onnx
from tests.targets.jetson.fake_tensorrt import build_driver, fake_tensorrt
from tests.targets.jetson.networks import IMAGE, classifier, network, samples

pytestmark = pytest.mark.needs("onnxruntime")

SCRIPT = Path(build.__file__)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_driver(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """The files of an artifact that building reads."""
    made = package(network(classifier), samples(), MODULES[DEFAULT])
    assert made.float16 is not None
    assert made.float32 is not None
    models = {"model": made.model, "float16": made.float16, "float": made.float32}
    assert tuple(models) == build.MODELS
    for name, data in models.items():
        (tmp_path / f"{name}.onnx").write_bytes(data)
    (tmp_path / "ondevice").mkdir()
    for name, text in device_scripts().items():
        (tmp_path / "ondevice" / name).write_text(text, "utf-8")
    return tmp_path


def install(monkeypatch: pytest.MonkeyPatch, version: str = "10.3.0") -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version))


def run_build(artifact: Path, *arguments: str) -> int:
    return build.main([*arguments, "--folder", str(artifact)])


@pytest.mark.parametrize("version", ["10.3.0", "10.13.3.9", "11.4.1"])
def test_engines_with_their_records(
    artifact: Path,
    version: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(monkeypatch, version)
    assert run_build(artifact) == 0
    records = json.loads(capsys.readouterr().out)
    assert [r["model"] for r in records] == ["model.onnx", "float16.onnx", "float.onnx"]
    for record in records:
        assert record["tensorrt"] == version
        assert record["engine_bytes"] == (artifact / "engines" / record["engine"]).stat().st_size
        stem = record["engine"].removesuffix(".plan")
        assert json.loads((artifact / "engines" / f"{stem}.json").read_text()) == record
        assert record["layers"]
        assert record["activation_bytes"] == 4096
        roles = {t["name"]: (t["role"], t["dtype"], t["shape"]) for t in record["tensors"]}
        assert roles["x"] == ("input", "FLOAT", list(IMAGE))
        assert roles["probabilities"] == ("output", "FLOAT", [1, 5])
    assert [r["timing_cache_used"] for r in records] == [False, True, True]
    assert not list((artifact / "engines").glob("*.partial"))


def test_only_what_is_asked_for(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    assert run_build(artifact, "model") == 0
    assert sorted(p.name for p in (artifact / "engines").iterdir()) == [
        *("model.json", "model.plan", "timing.cache"),
    ]


def test_a_foreign_timing_cache_is_ignored(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    (artifact / "engines").mkdir()
    (artifact / "engines" / "timing.cache").write_bytes(b"of another GPU")
    assert run_build(artifact, "model") == 0
    assert (artifact / "engines" / "timing.cache").read_bytes() == b"timings"


def test_the_gpu_is_recorded(
    artifact: Path, driver: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    install(monkeypatch)
    monkeypatch.setattr(build, "DRIVER", str(driver))
    assert run_build(artifact, "model") == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["gpu"] == {"name": "Fake Orin", "compute_capability": [8, 7]}


def test_without_a_driver_no_gpu_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "DRIVER", "libcuda-absent.so.1")
    assert build.gpu() is None


@pytest.mark.parametrize("version", ["8.6.2", "9.3.0", "12.0.0"])
def test_other_versions_are_refused(
    artifact: Path, version: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    install(monkeypatch, version)
    assert run_build(artifact) == 3
    assert f"TensorRT {version} is not supported, use TensorRT 10 or 11" in capsys.readouterr().err
    assert not (artifact / "engines").exists()


def test_a_tensorrt_10_without_strong_typing_is_refused() -> None:
    module = fake_tensorrt("11.0.0")
    assert build.network_flags(module) == 0
    module.__version__ = "10.0.0"  # type: ignore[attr-defined]
    with pytest.raises(build.BuildError, match="no strongly typed networks"):
        build.network_flags(module)


def test_without_tensorrt(artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert run_build(artifact) == 4
    assert "no tensorrt: install JetPack's python3-libnvinfer" in capsys.readouterr().err


def test_models_that_tensorrt_cannot_read(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    install(monkeypatch)
    (artifact / "model.onnx").write_bytes(b"no model")
    assert run_build(artifact) == 3
    assert "TensorRT cannot read the model:\n  INVALID_GRAPH" in capsys.readouterr().err
    assert list((artifact / "engines").iterdir()) == [], "nothing is half-written"


def test_models_that_tensorrt_cannot_build(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    install(monkeypatch)
    monkeypatch.setattr(build, "describe", lambda *_: {})
    model = written_out(network(lambda b, x: b.node("Relu", x, name="unbuildable")))
    (artifact / "model.onnx").write_bytes(model.to_bytes())
    assert run_build(artifact, "model") == 1
    captured = capsys.readouterr()
    assert "[TensorRT] no implementation for node" in captured.err
    assert captured.out == "", "standard output is for records"


def test_wrong_usage(artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    install(monkeypatch)
    for arguments in (["nothing"], ["--workspace-mib", "0"]):
        with pytest.raises(SystemExit) as caught:
            run_build(artifact, *arguments)
        assert caught.value.code == 2
    (artifact / "float.onnx").unlink()
    assert run_build(artifact, "float") == 4
    assert "holds no float.onnx" in capsys.readouterr().err


def test_the_script_runs_alone(artifact: Path) -> None:
    """As a file in an artifact: no edgekit, no NumPy, isolated from the environment."""
    script = artifact / "ondevice" / "build.py"
    command = "import runpy, sys; sys.modules['numpy'] = sys.modules['edgekit'] = None; "
    command += f"sys.argv = ['build.py']; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done.stderr
    assert "error: no tensorrt" in done.stderr


@pytest.mark.parametrize("path", [SCRIPT, Path(cuda.__file__), Path(runner_module.__file__)])
def test_python_3_10_reads_what_runs_on_the_device(path: Path) -> None:
    ast.parse(path.read_text("utf-8"), feature_version=(3, 10))


def test_both_sides_agree() -> None:
    assert build.MAJORS == runner_module.MAJORS == TENSORRT_MAJORS
    assert build.ENGINES == runner_module.ENGINES


def port(name: str, shape: tuple[int, ...]) -> Port:
    return Port(name, "float32", shape, None, None, 4 * int(np.prod(shape)), None, None)


INPUTS, OUTPUTS = [port("x", IMAGE)], [port("probabilities", (1, 5))]


@pytest.fixture
def built(artifact: Path, driver: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Path:
    """An artifact with engines, on a machine with TensorRT and a GPU."""
    install(monkeypatch)
    monkeypatch.setattr(cuda, "LIBRARY", str(driver))
    assert run_build(artifact) == 0
    capsys.readouterr()
    return artifact


def opened(artifact: Path, name: str = "model", **changes: Any) -> Runner:
    given = {"inputs": INPUTS, "outputs": OUTPUTS, "precision": "int8", **changes}
    return open_model(
        "tensorrt",
        artifact / f"{name}.onnx",
        given["inputs"],
        given["outputs"],
        precision=given["precision"],
    )


def open_allocations(driver: Path) -> int:
    return ctypes.c_int.in_dll(ctypes.CDLL(str(driver)), "ek_open_allocations").value


@pytest.mark.needs("cc")
@pytest.mark.parametrize("name", ["model", "float16", "float"])
def test_results_come_from_the_engine(built: Path, driver: Path, name: str) -> None:
    model = (built / f"{name}.onnx").read_bytes()
    before = open_allocations(driver)
    with opened(built, name) as runner:
        assert runner.name == "tensorrt"
        assert runner.version == "10.3.0"
        assert runner.wants_real
        for x in samples()["x"]:
            got = runner.run({"x": x})
            assert got["probabilities"].shape == (1, 5)
            np.testing.assert_array_equal(
                got["probabilities"], run_onnx(model, {"x": x})["probabilities"]
            )
        assert open_allocations(driver) == before + 4
    assert open_allocations(driver) == before, "everything is released"


@pytest.mark.needs("cc")
def test_results_survive_the_next_run_and_closing(built: Path) -> None:
    first, second = samples()["x"][:2]
    with opened(built) as runner:
        got = runner.run({"x": first})
        copy = got["probabilities"].copy()
        runner.run({"x": second})
    runner.close()
    np.testing.assert_array_equal(got["probabilities"], copy)


@pytest.mark.needs("cc")
def test_layers_and_copies_are_timed_apart(built: Path) -> None:
    with opened(built) as runner:
        layers = runner.profile(runner.prepare({"x": samples()["x"][0]}))
    names = [layer.operation for layer in layers]
    assert names == ["copy to the device", "conv_1 + relu_1", "fc", "copy from the device"]
    assert [layer.latency_ms for layer in layers[1:3]] == [0.25, 0.5]
    assert [layer.operator == "copy" for layer in layers] == [True, False, False, True]
    assert all(layer.latency_ms is not None and layer.latency_ms >= 0 for layer in layers)


@pytest.mark.needs("cc")
def test_the_shared_protocol_measures_it(built: Path) -> None:
    with opened(built) as runner:
        feeds = [{"x": x} for x in samples()["x"][:3]]
        cost = runner.cost(feeds, Protocol(warmup=1, iterations=10, min_seconds=0.0))
    assert cost.samples == 3
    assert cost.latency_ms is not None
    assert len(cost.latency_ms.samples) == 10


@pytest.mark.needs("cc")
def test_engines_that_do_not_belong_are_refused(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, record = built / "engines" / "model.plan", built / "engines" / "model.json"
    good_plan, good_record = plan.read_bytes(), record.read_text()

    plan.write_bytes(good_plan + b" ")
    with pytest.raises(RunnerError, match="is not the file that its record describes"):
        opened(built)
    plan.write_bytes(good_plan)

    for broken in ("", "[]", "{}", good_record.replace("model_sha256", "other")):
        record.write_text(broken)
        with pytest.raises(RunnerError, match=r"run ondevice/build.py on this device"):
            opened(built)
    record.write_text(good_record)

    install(monkeypatch, "10.4.0")
    with pytest.raises(RunnerError, match=r"was built by TensorRT 10.3.0, this is 10.4.0"):
        opened(built)
    install(monkeypatch)

    plan.unlink()
    with pytest.raises(RunnerError, match=r"model.onnx has no engine"):
        opened(built)


@pytest.mark.needs("cc")
def test_a_changed_model_needs_a_new_engine(built: Path) -> None:
    path = built / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\x08\x09")
    with pytest.raises(RunnerError, match=r"was built from another model.onnx"):
        opened(built)


@pytest.mark.needs("cc")
def test_other_inputs_and_outputs_are_refused(built: Path, driver: Path) -> None:
    before = open_allocations(driver)
    with pytest.raises(RunnerError, match="the file has 1 inputs, the network 2"):
        opened(built, inputs=[*INPUTS, port("y", (1,))])
    with pytest.raises(RunnerError, match=r"'x': the file has shape \[1, 3, 8, 8\]"):
        opened(built, inputs=[port("x", (1, 3, 8, 9))])
    assert open_allocations(driver) == before, "nothing stays behind"


@pytest.mark.needs("cc")
def test_missing_parts_are_named(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", "libcuda-absent.so.1")
    with pytest.raises(RuntimeMissingError, match="no CUDA driver on this machine"):
        opened(built)
    install(monkeypatch, "9.0.0")
    with pytest.raises(RuntimeMissingError, match=r"TensorRT 9.0.0 is not known, use 10 or 11"):
        opened(built)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(RuntimeMissingError, match="no tensorrt: it comes with JetPack"):
        opened(built)


@pytest.mark.needs("cc")
def test_too_little_memory(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", str(driver))
    device = cuda.Cuda()
    assert device.name == "Fake Orin"
    with pytest.raises(RunnerError, match="cuMemAlloc_v2 answered 2"):
        device.allocate(200_000_000)
    device.close()
