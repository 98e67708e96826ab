"""Sequences: a Session steps through them, and what export, verification and benchmarks do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import edgekit
from edgekit.bench.bench import SIMULATED_SAMPLES, answers
from edgekit.bench.protocol import Protocol
from edgekit.bench.runners.base import Runner
from edgekit.bench.samples import Samples
from edgekit.cli.app import app
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.data import samples_for
from edgekit.deploy.ondevice import ports_of
from edgekit.deploy.runtime import RuntimeSession
from edgekit.deploy.session import Inputs, Session
from edgekit.deploy.verification import verify
from edgekit.errors import InvalidDataError, UnsupportedError
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, DType
from edgekit.targets.c.emit import emit
from edgekit.targets.host import HostMachine
from tests.support.chain import assert_identical
from tests.support.programs import recurrent_network

pytestmark = pytest.mark.needs("cc")

COUNT, STEPS = 12, 16
"""Sequences, and steps of each: more than verification runs in an emulator by default."""


class Faulty(Session):
    """A device that computes one wrong bit in the second step of every sequence."""

    def run_sequence_named(self, inputs: Inputs) -> dict[str, Array]:
        results = super().run_sequence_named(inputs)
        results["h"].view(np.int32)[1, 0, 0] ^= 1
        return results


def opened(kind: type[Session] = Session) -> Session:
    """The recurrent network on this machine."""
    emission = emit(recurrent_network(), version="test")
    machine = HostMachine(emission.library)
    return kind(emission.program, emission.library, emission.layers, machine, "local")


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """The recurrent network on this machine, closed afterwards."""
    with opened() as made:
        yield made


def test_a_sequence_is_reset_and_steps(session: Session) -> None:
    xs = np.random.default_rng(0).standard_normal((5, 1, 3)).astype(np.float32)
    session.run(xs[0])  # Leaves a state behind, which must not count.
    got = session.run_sequence(xs)
    want = Interpreter(session.program).run_sequence({"x": xs})["h"]
    assert_identical({"h": want}, {"h": got})
    session.reset()
    assert_identical({"h": want}, {"h": np.stack([session.step(x) for x in xs])})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((0, 1, 3), np.float32), "at least 1, for every input; there are {'x': 0}"),
        (np.float32(1), "there are {'x': 0}"),
        (np.zeros((2, 3), np.float32), r"has shape \[3\], must be \[1, 3\]"),
        ({"z": np.zeros((2, 1, 3), np.float32)}, "missing"),
    ],
)
def test_refuses_what_is_no_sequence(session: Session, inputs: object, message: str) -> None:
    with pytest.raises(InvalidDataError, match=message):
        session.run_sequence(inputs)  # type: ignore[arg-type]


def labelled() -> tuple[Array, Array]:
    """Sequences for the recurrent network, and the largest output of each one's last step."""
    xs = np.random.default_rng(1).standard_normal((COUNT, STEPS, 1, 3)).astype(np.float32)
    interpreter = Interpreter(recurrent_network())
    return xs, np.array([interpreter.run_sequence({"x": x})["h"][-1].argmax() for x in xs])


def test_every_step_is_verified(session: Session) -> None:
    xs, labels = labelled()
    samples = samples_for(session.program, {"x": xs, "y": labels})
    report = verify(session, samples, reference=session.program)
    assert report.identical
    assert (report.samples, report.steps, report.accuracy) == (COUNT, STEPS, 1.0)
    assert report.outputs[0].elements == COUNT * STEPS * 4
    assert {layer.mismatches for layer in report.layers} == {0}
    assert report.closeness[0].max_abs == 0
    assert report.float_accuracy == 1.0
    with opened(Faulty) as faulty:
        found = verify(faulty, samples, reference=session.program)
    assert found.outputs[0].mismatches == COUNT
    assert not found.passed
    # The last step is right, and only it counts.
    assert found.accuracy == 1.0


def test_single_inputs_have_no_steps(session: Session) -> None:
    report = verify(session, samples_for(session.program, labelled()[0][:, 0]))
    assert report.identical
    assert report.steps is None
    assert report.outputs[0].elements == COUNT * 4
    words = f"{COUNT} samples"
    assert report.over == {"layers": "3 samples", "outputs": words, "closeness": words}


def test_measured_inputs_are_the_steps() -> None:
    xs, labels = labelled()
    data = samples_for(recurrent_network(), {"x": xs, "y": labels})
    measured = Samples.of(data, "test.npz")
    assert len(measured) == COUNT
    assert len(measured.inputs) == len(measured.real) == COUNT * STEPS
    assert (measured.inputs[STEPS + 2]["x"] == xs[1, 2]).all()
    assert measured.origin == f"the steps of {COUNT} sequences of test.npz"
    chosen = np.array([1, 4])
    some = measured.at(chosen)
    assert len(some) == 2
    assert len(some.inputs) == len(some.real) == 2 * STEPS
    assert (some.inputs[STEPS + 2]["x"] == xs[4, 2]).all()
    assert some.labels is not None
    assert some.labels.tolist() == labels[chosen].tolist()


def waves() -> Array:
    """Calibration sequences [COUNT, STEPS, 3] for the LSTM."""
    return np.random.default_rng(2).standard_normal((COUNT, STEPS, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    """An LSTM whose last output is read, for a window and for one step, for a Cortex-M4."""
    import torch

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = torch.nn.LSTM(3, 6, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            last: torch.Tensor = self.rnn(x)[0][:, -1]
            return last

    torch.manual_seed(3)
    module, folder = Last().eval(), tmp_path_factory.mktemp("lstm")
    window, step = (
        edgekit.export(
            module,
            torch.zeros(1, steps, 3),
            target="cortex-m4",
            calibration=waves(),
            output=folder / name,
            name=name,
        )
        for name, steps in (("window", STEPS), ("step", 1))
    )
    return window, step


@pytest.fixture
def stepped(exported: tuple[Artifact, Artifact], tmp_path: Path) -> tuple[Artifact, Path]:
    """The network of one step, and a file of sequences with its own answers as labels."""
    xs, step = waves(), exported[1]
    codes, _ = step.samples(xs)
    interpreter = Interpreter(step.program)
    answers = [next(iter(interpreter.run_sequence(x).values()))[-1].argmax() for x in codes]
    np.savez(tmp_path / "test.npz", x=xs, y=np.array(answers))
    return step, tmp_path / "test.npz"


@pytest.mark.torch
@pytest.mark.needs("torch", "cortex-m compiler")
@pytest.mark.parametrize("device", ["local", "emulator"])
def test_a_window_is_its_steps(exported: tuple[Artifact, Artifact], device: str) -> None:
    """Calibrated with the same sequences, both compute the same bits."""
    window, step = exported
    windows, sequences = (artifact.samples(waves()[:3])[0] for artifact in exported)
    assert (windows.steps, sequences.steps) == (None, STEPS)
    assert step.manifest.calibration is not None
    assert step.manifest.calibration.samples == COUNT
    assert step.program.input_tensors[0].dtype == DType.INT8
    with window.open(device) as whole, step.open(device) as stepping:
        assert isinstance(stepping, Session)
        for x, sequence in zip(windows, sequences, strict=True):
            want, got = whole.run(x), stepping.run_sequence(sequence)
            assert len(np.unique(want)) > 1
            assert_identical({"y": want}, {"y": got[-1]})


@pytest.mark.torch
@pytest.mark.needs("torch", "cortex-m compiler")
def test_an_emulator_runs_so_many_steps(stepped: tuple[Artifact, Path]) -> None:
    """A few sequences unless told otherwise; the float model is stepped too."""
    artifact, data = stepped
    report = artifact.verify(data)
    assert report.identical
    assert report.device == "emulator"
    assert (report.samples, report.available) == (SIMULATED_SAMPLES // STEPS, COUNT)
    assert report.accuracy == 1.0
    assert report.closeness[0].snr_db is not None
    assert report.closeness[0].snr_db > 30
    assert artifact.verify(data, limit=1).samples == 1


@pytest.mark.torch
@pytest.mark.needs("torch", "cortex-m compiler")
def test_benchmarks_time_steps(stepped: tuple[Artifact, Path]) -> None:
    """Every step is an input; accuracy is that of whole sequences, on every device."""
    artifact, data = stepped
    protocol = Protocol(warmup=0, iterations=COUNT * STEPS, min_seconds=0)
    report = artifact.bench(data, device="local,emulator", protocol=protocol)
    local, emulated = report.runs
    assert (local.samples, emulated.samples) == (COUNT * STEPS, 1)
    words = f"the steps of {COUNT} sequences of test.npz"
    assert (local.input, emulated.input) == (words, f"first one of {words}")
    assert local.accuracy is not None
    assert emulated.accuracy is not None
    assert (local.accuracy.value, local.accuracy.samples) == (1.0, COUNT)
    assert (emulated.accuracy.value, emulated.accuracy.samples) == (1.0, 100 // STEPS)
    assert local.accuracy.data == "test.npz"


@pytest.mark.torch
@pytest.mark.needs("torch", "cortex-m compiler", "qemu-system-arm")
def test_a_device_that_starts_anew_steps_nothing(stepped: tuple[Artifact, Path]) -> None:
    """No sequences and no accuracy, but the cost of a step."""
    artifact, data = stepped
    with pytest.raises(UnsupportedError, match="qemu starts anew for every run"):
        artifact.verify(data, device="qemu")
    run = artifact.bench(data, device="qemu").subject
    assert run.instructions is not None
    assert run.accuracy is None


@pytest.mark.torch
@pytest.mark.needs("torch", "cortex-m compiler")
def test_sequences_on_the_command_line(stepped: tuple[Artifact, Path]) -> None:
    artifact, data = stepped
    folder, runner = str(artifact.folder), CliRunner()
    verified = runner.invoke(app, ["verify", folder, "--data", str(data), "--device", "local"])
    assert verified.exit_code == 0, verified.output
    rows = [line.split() for line in verified.output.splitlines()]
    assert ["steps", str(STEPS)] in rows
    assert ["samples", str(COUNT), "of", str(COUNT)] in rows
    words = {"layer": "first steps of 3 samples", "output": f"all {COUNT * STEPS} steps"}
    for kind, over in words.items():
        compared = [line for line in verified.output.splitlines() if line.split()[:1] == [kind]]
        assert compared
        assert all(line.endswith(over) for line in compared)
    assert ["class_agreement", "1.0000", "(of", str(COUNT), "last", "steps)"] in rows
    few = runner.invoke(app, ["verify", folder, "--data", str(data), "--limit", "2"])
    assert f"2 of {COUNT}, evenly spread" in few.output
    assert ["accuracy", "1.0000", f"({COUNT}", "of", f"{COUNT})"] in rows
    options = ["--input", str(data), "--format", "json"]
    measured = runner.invoke(app, ["bench", folder, *options])
    assert measured.exit_code == 0, measured.output
    (run,) = json.loads(measured.stdout)["runs"]
    assert run["input"] == f"first one of the steps of {COUNT} sequences of test.npz"
    assert run["accuracy"]["value"] == 1.0


class Stateless(Runner):
    """A runtime that is asked for nothing."""

    name = "litert"
    version = kernels = "none"

    def prepare(self, inputs: Mapping[str, Array]) -> None:
        raise AssertionError

    def invoke(self, prepared: None) -> None:
        raise AssertionError

    def results(self, raw: None) -> dict[str, Array]:
        raise AssertionError


def test_runtimes_carry_no_state() -> None:
    program = recurrent_network()
    runner = Stateless(*ports_of(program), precision="float32")
    xs, labels = labelled()
    samples = samples_for(program, {"x": xs, "y": labels})
    with pytest.raises(UnsupportedError, match="litert carries no state from step to step"):
        verify(RuntimeSession(program, runner), samples)
    assert answers(runner, Samples.of(samples, "test.npz")) is None
