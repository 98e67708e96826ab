"""Spiking networks as artifacts: sources, precisions, windows and steps, what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.data.preprocessing import Clip, Preprocessing, Scale, Standardize, Window
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.frontend import frontend
from edgekit.deploy.manifest import Configuration
from edgekit.deploy.session import Session
from edgekit.deploy.source import Source, read_source
from edgekit.errors import EdgekitError, InvalidDataError, UnsupportedError, UsageError
from edgekit.program.interpret import Interpreter, run
from edgekit.program.ir import DType
from edgekit.spiking.quantize import quantize_weights
from edgekit.spiking.simulate import Simulator
from edgekit.targets.c.emit import emit
from edgekit.targets.host import HostMachine
from edgekit.targets.target import target
from tests.support.chain import assert_identical
from tests.support.spiking_artifacts import (
    CHANNELS,
    STEPS,
    WINDOWS,
    exported,
    graph,
    labels,
    windows,
)

pytestmark = pytest.mark.needs("cc")

PRECISIONS = ("float32", "int8", "ternary", "shift3")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The network for this machine, in every precision."""
    folder = tmp_path_factory.mktemp("spiking")
    return {precision: exported(folder, precision) for precision in PRECISIONS}


@pytest.fixture(scope="module")
def m4(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The ternary network for a Cortex-M4."""
    return exported(tmp_path_factory.mktemp("m4"), "ternary", "cortex-m4")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_exact(artifacts: dict[str, Artifact], precision: str) -> None:
    """Host C is the interpreter, step by step, over every window."""
    artifact = artifacts[precision]
    report = artifact.verify({"x": windows(), "y": labels()})
    assert report.identical
    assert (report.samples, report.steps) == (WINDOWS, STEPS)
    assert report.outputs[0].elements == WINDOWS * STEPS * 4
    assert (report.class_agreement is None) == (precision == "float32")
    assert artifact.manifest.configuration.precision == precision


def test_float_is_the_simulator(artifacts: dict[str, Artifact]) -> None:
    """Summation order included: to the bit."""
    simulator = Simulator(graph())
    interpreter = Interpreter(artifacts["float32"].program)
    for window in windows():
        want = simulator.run({"x": window})["scores"]
        got = interpreter.run_sequence({"x": window[:, np.newaxis]})["scores"]
        assert_identical({"scores": want}, {"scores": got[:, 0].astype(np.float32)})
        simulator.reset()


@pytest.mark.needs("cortex-m compiler")
@pytest.mark.parametrize("device", ["local", "emulator"])
def test_a_window_is_its_steps(m4: Artifact, device: str) -> None:
    """`run` of a window, `run_sequence`, and a stream that is stepped sample by sample."""
    codes, _ = m4.samples(windows()[:3])
    with m4.open(device) as session:
        assert isinstance(session, Session)
        for window in codes:
            session.step(window["x"][0])  # Leaves a state behind, which must not count.
            last = session.run(window)
            every = session.run_sequence(window)
            session.reset()
            stream = np.stack([session.step(sample) for sample in window["x"]])
            assert_identical({"y": every}, {"y": stream})
            assert_identical({"y": every[-1]}, {"y": last})
        assert len(np.unique(every)) > 1


@pytest.mark.needs("cortex-m compiler")
def test_what_an_artifact_says(m4: Artifact) -> None:
    record = m4.manifest.spiking
    assert record is not None
    assert (record.steps, record.dt_seconds, record.element) == (STEPS, 0.05, "ternary")
    assert record.windows == WINDOWS
    assert [name for name, _ in record.activity] == ["s", "h", "o"]
    assert all(0 < share < 1 for _, share in record.activity)
    assert [kept.operation for kept in record.membranes] == ["s", "h", "o"]
    assert all(kept.bound is not None and kept.bound < 1 << 31 for kept in record.membranes)
    weights = CHANNELS * 20 + 2 * 20 * 20 + 20 * 4
    assert record.parameters == weights + 20 + 4
    # The vectors are windows of the calibration data, and passed on the emulated core.
    assert m4.manifest.check.identical
    vectors, _ = m4.samples(None)
    codes, _ = m4.samples(windows())
    assert vectors.steps == STEPS
    assert (vectors.inputs["x"] == codes.inputs["x"][: len(vectors)]).all()
    assert m4.program.input_tensors[0].dtype == DType.INT16


@pytest.mark.needs("cortex-m compiler")
def test_the_window_function_of_c(m4: Artifact, tmp_path: Path) -> None:
    """The self-test calls it with whole windows; a wrong sample is noticed."""
    folder = shutil.copytree(m4.folder, tmp_path / "artifact")
    header = (folder / "src" / "tiny.h").read_text()
    assert f"#define TINY_STEPS {STEPS}" in header
    assert "int tiny_run_window(tiny_context *ctx, const tiny_input_0_t *samples_0);" in header
    command = ["make", "-s", "-f", "tiny.mk", "tiny_selftest"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0 of 2 outputs differ\n"), done.stderr
    source = folder / "test" / "selftest.c"
    text = source.read_text()
    begin = text.index("input_0_0[] = {") + len("input_0_0[] = {")
    end = text.index("}", begin)
    reversed_samples = ", ".join(text[begin:end].replace("\n", " ").split(",")[::-1])
    source.write_text(text[:begin] + reversed_samples.strip(" ,") + text[end:])
    (folder / "tiny_selftest").unlink()
    again = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "1 of 2 outputs differ" in again.stdout


def export(**options: Any) -> Artifact:
    """To a place that must stay empty."""
    options = {"target": "host", "calibration": windows(), "output": "nowhere", **options}
    return edgekit.export(graph(), **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"calibration": None}, UsageError, "needs windows"),
        ({"calibration": windows()[:, 0]}, InvalidDataError, "single samples, not windows"),
        ({"calibration": windows()[..., :2]}, InvalidDataError, r"must be \[N, 3\]"),
        ({"calibration": np.full_like(windows(), np.nan)}, InvalidDataError, "NaN"),
        ({"calibration": 0 * windows()}, UsageError, "must hold more than 0"),
        ({"target": "jetson-orin-nano"}, UnsupportedError, "has no state"),
        ({"input_shapes": {"x": (1, 3)}}, UsageError, "declares its inputs"),
        ({"state": {"a": "b"}}, UsageError, "declares its inputs"),
        ({"observer": "mse"}, UsageError, "keep their largest value"),
        ({"precision": "float16"}, UsageError, "float16"),
        ({"precision": "fp4"}, UsageError, "precision is 'fp4'"),
    ],
)
def test_refusals(
    options: dict[str, Any],
    error: type[EdgekitError],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Typed, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        export(**{"precision": "int8", **options})
    assert list(tmp_path.iterdir()) == []


def source(model: object, **options: Any) -> Source:
    """What would be deployed for this machine."""
    configuration = Configuration("host", "tiny", **options)
    return read_source(model, target("host"), configuration, windows())


def test_weights_that_are_quantised_stay_so() -> None:
    """As they are, or not at all."""
    quantised = quantize_weights(graph(), "shift3")
    made = source(quantised)
    assert made.spiking is not None
    assert made.spiking.element == "shift3"
    with pytest.raises(UsageError, match="its weights are shift3; ternary cannot be had"):
        source(quantised, precision="ternary")


def test_elements_are_for_spiking_networks(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="for the weights of spiking networks"):
        edgekit.export(path, target="host", precision="ternary", output=tmp_path / "out")


FACTORY = """
from tests.support.spiking_artifacts import graph
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with ``mynets.py`` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynets.py").write_text(FACTORY)
    yield tmp_path
    sys.modules.pop("mynets", None)


@pytest.mark.torch
@pytest.mark.needs("torch")
def test_a_factory_makes_a_graph(here: Path, artifacts: dict[str, Artifact]) -> None:
    """The same network, the same bits."""
    made = source("mynets:graph", precision="ternary")
    assert (made.record.format, made.record.file) == ("spiking", "mynets:graph")
    codes, _ = artifacts["ternary"].samples(windows()[:2])
    for window in codes:
        want, got = (
            Interpreter(program).run_sequence(window)
            for program in (artifacts["ternary"].program, made.program)
        )
        assert_identical(want, got)


def test_windows_of_another_length(artifacts: dict[str, Artifact]) -> None:
    """Refused, with what is wrong with the shape."""
    artifact = artifacts["int8"]
    for data, message in (
        (windows()[:, :4], "these have 4 steps"),
        (windows()[:, 0], "these are single samples"),
        (windows().transpose(0, 2, 1), "time axis lies in another place"),
        (windows()[..., :2], r"must be windows \[N, 6, 3\]$"),
    ):
        with pytest.raises(InvalidDataError, match=message):
            artifact.samples(data)
    with artifact.open() as session, pytest.raises(InvalidDataError, match="has 6 steps"):
        session.run(np.zeros((4, 1, CHANNELS), np.int16))


CHAIN = Preprocessing(
    (Standardize((0.5, -0.2, 0.1), (1.5, 0.7, 1.1)), Scale(0.9, 0.05), Clip(-2.0, 2.0)),
    Window(length=STEPS, stride=STEPS, sampling_hz=20.0),
)


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """With declared pre-processing."""
    folder = tmp_path_factory.mktemp("stream")
    (folder / "chain.json").write_text(CHAIN.to_json())
    return exported(folder, "int8", preprocessing=folder / "chain.json")


def recording(samples: int = 3 * STEPS + 2) -> dict[str, Any]:
    """Raw, with times and labels."""
    rng = np.random.default_rng(9)
    return {
        "seconds": np.arange(samples) / 20 + rng.uniform(0, 0.01, samples),
        "values": rng.normal(0, 1, (samples, CHANNELS)),
        "y": np.arange(samples) // STEPS,
    }


def test_recordings_are_cut(streaming: Artifact) -> None:
    """And go through the declared steps; a window has the label of its end."""
    stream = recording()
    found, count = streaming.samples(stream)
    assert (count, found.steps) == (3, STEPS)
    cut = stream["values"][: 3 * STEPS].reshape(3, STEPS, CHANNELS).astype(np.float32)
    want = CHAIN.apply(cut.transpose(0, 2, 1)).transpose(0, 2, 1)
    assert_identical({"x": want[:, :, np.newaxis]}, {"x": found.real["x"]})
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2]


def test_bad_recordings(streaming: Artifact, artifacts: dict[str, Artifact]) -> None:
    """Refused whole: nothing is made up for what is missing."""
    for change, message in (
        (lambda s: s["values"].__setitem__((4, 1), np.nan), "value of sample 4 is NaN"),
        (lambda s: s["seconds"].__setitem__(3, np.inf), "time of sample 3 is NaN"),
        (lambda s: s["seconds"].__setitem__(slice(7, None), s["seconds"][7:] + 0.1), "missing"),
        (lambda s: s["seconds"].__setitem__(5, s["seconds"][4]), "not later than sample 4"),
        (lambda s: s.update(y=s["y"][:5]), "one for each of 20 samples"),
        (lambda s: s.update(more=s["values"]), "one array of values"),
        (lambda s: s.update(values=s["values"][:, 0]), r"must be \[time\] and"),
    ):
        stream = recording()
        change(stream)
        with pytest.raises(InvalidDataError, match=message):
            streaming.samples(stream)
    with pytest.raises(InvalidDataError, match="has 4 samples, a window has 6"):
        streaming.samples(recording(4))
    with pytest.raises(InvalidDataError, match="declares no window"):
        artifacts["int8"].samples(recording())


def test_pre_processing_becomes_c(streaming: Artifact) -> None:
    """Beside the network; codes are NumPy's, up to one."""
    program = frontend(streaming.program, CHAIN)
    assert program is not None
    assert (streaming.folder / "preprocessing" / "tiny_input.c").is_file()
    raw = recording()["values"].astype(np.float32)
    (scale,) = streaming.program.input_tensors[0].quantization.scale  # type: ignore[union-attr]
    want = np.clip(np.rint(CHAIN.apply(raw) / scale), -32767, 32767)
    emission = emit(program, version="test")
    machine = HostMachine(emission.library)
    with Session(emission.program, emission.library, emission.layers, machine, "local") as session:
        for sample, codes in zip(raw, want, strict=True):
            got = session.run(sample[np.newaxis])
            assert_identical(run(program, {"raw": sample[np.newaxis]}), {"x": got})
            assert np.abs(got[0].astype(int) - codes).max() <= 1
    float_program = Interpreter(streaming.reference or streaming.program).program
    assert frontend(float_program, Preprocessing()) is None
