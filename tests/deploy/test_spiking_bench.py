"""What a benchmark says of a spiking network: spikes, schedules, steps, and its opponent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.bench.protocol import Protocol
from edgekit.bench.report import Report, as_text
from edgekit.bench.runners.base import windows_of
from edgekit.data.preprocessing import Preprocessing, Scale
from edgekit.deploy.artifact import Artifact
from edgekit.deploy.crossover import ACTIVITIES, probe_of, spread
from edgekit.deploy.opponent import as_samples, check_opponent
from edgekit.deploy.session import Session
from edgekit.deploy.spikes import bit_sets, count_spikes, driven
from edgekit.deploy.window import spread_windows
from edgekit.errors import InvalidDataError, UsageError
from edgekit.program.interpret import Interpreter
from edgekit.program.operators.spiking_bits import unpack_spikes
from edgekit.report.html import html_report
from edgekit.spiking.activity import measure
from edgekit.spiking.graph import Edge, SpikingGraph
from tests.support.onnx_models import OnnxBuilder
from tests.support.spiking_artifacts import (
    CHANNELS,
    CLASSES,
    STEPS,
    WINDOWS,
    exported,
    graph,
    labels,
    windows,
)

pytestmark = pytest.mark.needs("cc", "cortex-m compiler")


def opponent_file(path: Path) -> Path:
    """A dense network over the same windows, time last."""
    rng, b = np.random.default_rng(0), OnnxBuilder()
    x = b.input("x", (1, CHANNELS, STEPS))
    flat = b.node("Flatten", x)
    w = b.constant(rng.normal(0, 0.3, (CHANNELS * STEPS, CLASSES)).astype(np.float32))
    b.output(b.node("MatMul", flat, w))
    path.write_bytes(b.build())
    return path


@pytest.fixture(scope="module")
def spiking(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The ternary network for a board with a known clock."""
    return exported(tmp_path_factory.mktemp("spiking"), "ternary", "nucleo-l4r5zi")


@pytest.fixture(scope="module")
def opponent(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The dense network for the same board."""
    folder = tmp_path_factory.mktemp("opponent")
    return edgekit.export(
        opponent_file(folder / "dense.onnx"),
        target="nucleo-l4r5zi",
        calibration=windows().transpose(0, 2, 1).copy(),
        output=folder / "dense",
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three windows with labels."""
    path = tmp_path_factory.mktemp("data") / "test.npz"
    np.savez(path, x=windows()[:3], y=labels()[:3])
    return path


@pytest.fixture(scope="module")
def report(spiking: Artifact, opponent: Artifact, data: Path) -> Report:
    """On the emulated core."""
    return spiking.bench(data, opponent=opponent)


def test_spikes_are_those_of_the_network(tmp_path: Path) -> None:
    """In float32 the Program's spikes are the graph's: an independent count agrees."""
    artifact = exported(tmp_path, "float32")
    samples, _ = artifact.samples(windows())
    record = artifact.manifest.spiking
    assert record is not None
    found = count_spikes(artifact.program, record, samples)
    want = measure(graph(), windows())
    assert found.windows == WINDOWS
    for population in found.populations:
        assert population.spike_rate == pytest.approx(want.populations[population.name].rate)
        assert population.neurons == want.populations[population.name].neurons
        assert population.membrane.dtype == "float32"
    # What one population reads is one operation, by the name of its first part.
    parts = {"w_h": ("w_h", "r_h"), "w_o": ("w_o",)}
    assert [s.operation for s in found.synapses] == list(parts)
    for synapses in found.synapses:
        known = [want.synapses[name] for name in parts[synapses.operation]]
        weights = sum(part.weights for part in known)
        active = sum(part.activity * part.weights for part in known)
        operations = sum(part.synaptic_ops for part in known)
        assert synapses.activity == pytest.approx(active / weights)
        assert synapses.synaptic_ops == pytest.approx(operations)
        assert synapses.weights == weights
        assert synapses.dense_ops == sum(part.dense_ops for part in known)
        assert synapses.bytes_touched == pytest.approx(4 * operations)
    assert found.analog_ops == want.analog_ops


def test_spikes_of_a_sorted_file(tmp_path: Path) -> None:
    """Windows in which nothing moves come first: they say little of the others."""
    sorted_windows = np.concatenate([np.zeros_like(windows()), windows()])
    artifact = exported(tmp_path, "float32")
    quick = Protocol(warmup=0, iterations=1, min_seconds=0)
    found = artifact.bench(sorted_windows, limit=6, protocol=quick).spiking
    assert found is not None
    assert (found.windows, found.input) == (6, f"{2 * WINDOWS} in the data, evenly spread")
    whole = measure(graph(), sorted_windows).populations["h"].rate
    silent = measure(graph(), sorted_windows[:6]).populations["h"].rate
    (rate,) = (p.spike_rate for p in found.populations if p.name == "h")
    assert rate is not None
    assert abs(rate - whole) < 0.3 * abs(silent - whole)
    verified = artifact.verify(sorted_windows, limit=6)
    assert (verified.samples, verified.available, verified.identical) == (6, 2 * WINDOWS, True)
    chosen, _ = artifact.samples(sorted_windows, 6)
    assert [bool(window["x"].any()) for window in chosen] == [False] * 3 + [True] * 3


def test_a_run_is_a_window(report: Report, spiking: Artifact) -> None:
    run = report.subject
    assert run.step is not None and run.cycles is not None and run.latency_ms is not None
    assert run.step.steps == STEPS
    assert run.cycles == pytest.approx(sum(layer.cycles or 0 for layer in run.layers))
    assert run.step.cycles == pytest.approx(run.cycles / STEPS)
    assert run.step.worst_cycles is not None and run.step.worst_cycles >= run.step.cycles
    assert run.latency_ms.p50 == pytest.approx(STEPS * (run.step.latency_ms or 0))
    assert run.energy_uj is not None
    # What keeps the state is a layer like any other.
    carry = run.layers[-1]
    assert (carry.operation, carry.operator) == ("state", "carry")
    assert carry.cycles
    assert run.input == "3 windows of test.npz"
    assert run.macs == STEPS * sum(layer.macs for layer in spiking.manifest.layers)
    assert run.accuracy is not None
    assert run.accuracy.samples == 3
    assert report.artifact.precision == "ternary"


def test_the_emulated_steps_add_up(spiking: Artifact) -> None:
    """Counting layer by layer carries the state: outputs are those of the interpreter."""
    codes, _ = spiking.samples(windows()[:1])
    with spiking.open() as session:
        assert isinstance(session, Session)
        records = [session.prepare({"x": x}) for x in codes.inputs["x"][0]]
        counts = session.count_window(records)
        got = session.results(session._fetched())["scores"]
        assert len(counts) == STEPS
        assert all(len(step) == len(session.layers) + 1 for step in counts)
    want = Interpreter(spiking.program).run_sequence(codes[0])["scores"][-1]
    assert (got == want).all()


def test_both_schedules(report: Report) -> None:
    """At the activity of real windows, and over activities."""
    assert report.spiking is not None
    crossover = report.spiking.crossover
    assert crossover is not None
    assert [point.activity for point in crossover.points] == list(ACTIVITIES)
    event = [point.event_cycles for point in crossover.points]
    assert event == sorted(event), "more spikes cost more"
    assert event[-1] > event[0]
    dense = [point.dense_cycles for point in crossover.points]
    assert max(dense) < 1.01 * min(dense), "the dense step does not mind"
    run = report.subject
    assert run.step is not None
    # The network is deployed event-driven: what was counted is what is drawn.
    assert crossover.event_cycles == pytest.approx(run.step.cycles)
    assert event[0] < crossover.event_cycles < event[-1]
    assert 0 < crossover.activity < 1


def test_probes_compute_the_same(spiking: Artifact) -> None:
    """Event-driven or dense, coded or int8: the same currents for the same spikes."""
    programs = [probe_of(spiking.program, schedule) for schedule in ("event", "dense")]
    rng = np.random.default_rng(0)
    inputs = {}
    for boundary in programs[0].inputs:
        shape = boundary.source_shape
        inputs[boundary.name] = rng.integers(-9, 9, shape, dtype=np.int32)
    for operation, operator in driven(programs[0]):
        for name, neurons in bit_sets(operation, operator):
            inputs[name] = spread(neurons, 0.4)
    event, dense = (Interpreter(program).run(inputs) for program in programs)
    assert list(event) == list(dense)
    assert all((event[name] == dense[name]).all() for name in event)
    assert any(value.any() for value in event.values())
    operators = [operator for _, operator in driven(programs[1])]
    assert {(o.schedule, o.coding) for o in operators} == {("dense", None)}


@pytest.mark.parametrize("activity", ACTIVITIES)
def test_bits_are_spread_evenly(activity: float) -> None:
    for neurons in (1, 20, 33, 180):
        bits = unpack_spikes(spread(neurons, activity), neurons)[0]
        assert bits.sum() == round(activity * neurons)
        half = bits[: neurons // 2].sum()
        assert abs(half - bits.sum() / 2) <= 1


def test_the_opponent(report: Report, opponent: Artifact) -> None:
    """The same windows, each network's own figures, and in what they differ."""
    assert report.spiking is not None
    other = report.spiking.opponent
    assert other is not None
    assert (other.device, other.element, other.name) == ("emulator", "int8", "dense")
    assert other.parameters == CHANNELS * STEPS * CLASSES
    assert other.cycles is not None and other.latency_ms is not None
    own = opponent.bench(windows()[:3].transpose(0, 2, 1).copy()).subject
    assert other.cycles == own.cycles
    assert other.accuracy is not None
    assert "weights differ: ternary here, int8 there" in other.notes
    assert other.memory.state_bytes == 0


def test_opponents_that_are_none(spiking: Artifact, opponent: Artifact, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="spikes as well"):
        spiking.bench(opponent=spiking)
    with pytest.raises(UsageError, match="does not spike; an opponent is for"):
        opponent.bench(opponent=spiking)
    samples, _ = spiking.samples(windows())
    cut = replace(samples, real={"x": samples.real["x"][:, 1:]})
    with pytest.raises(InvalidDataError, match="takes the same windows, with time first or last"):
        as_samples(cut, opponent.program)
    other = Artifact(opponent.folder, opponent.manifest)
    other.preprocessing = Preprocessing((Scale(2.0),))
    with pytest.raises(InvalidDataError, match="declares other pre-processing"):
        check_opponent(spiking, other)


def test_windows_for_the_opponent(opponent: Artifact, spiking: Artifact) -> None:
    """Time moves behind the channels where the network has it there."""
    samples, _ = spiking.samples({"x": windows(), "y": labels()})
    found = as_samples(samples, opponent.program)
    assert (found["x"] == windows().transpose(0, 2, 1)).all()
    assert (found["labels"] == labels()).all()


def test_pre_processing_is_counted_apart(report: Report) -> None:
    """As C, on the same core; the codes of the input are all that there is to do."""
    chain = report.preprocessing
    assert chain is not None and chain.cycles and chain.instructions
    assert chain.latency_ms is not None
    assert chain.latency_ms.provenance == "modelled"
    assert chain.specification == "samples become the codes of the input"


def test_the_report_survives(report: Report) -> None:
    assert Report.from_json(json.loads(as_text(report))) == report
    page = html_report([report])
    assert "Event-driven against dense" in page
    assert "Beside dense, which does not spike" in page


def test_nothing_is_drawn_at_random(spiking: Artifact) -> None:
    """Without data the artifact's own windows are run."""
    samples = spiking._bench_samples(None, None, 7)  # type: ignore[arg-type]
    vectors, _ = spiking.samples(None)
    assert len(samples) == len(vectors)
    assert (samples.inputs[0]["x"] == vectors.inputs["x"][0, 0]).all()
    assert samples.source == "the artifact's test vectors"


def test_windows_are_spread() -> None:
    found = spread_windows(windows_of(list(range(24)), 2), 3)
    assert found == [[0, 1], [8, 9], [16, 17]]


def test_time_on_this_machine(tmp_path: Path, data: Path) -> None:
    """Windows are timed whole; what a layer takes in one step is not said."""
    run = exported(tmp_path, "int8").bench(data).subject
    assert run.latency_ms is not None and run.step is not None
    assert run.latency_ms.provenance == "measured"
    assert run.step.latency_ms == pytest.approx(run.latency_ms.p50 / STEPS)
    assert run.step.worst_latency_ms is None
    assert run.layers == ()
    assert run.agreement is not None
    assert (run.agreement.mismatches, run.agreement.elements) == (0, 2 * STEPS * CLASSES)


def test_a_network_whose_layers_write_all_state_has_nothing_to_carry(tmp_path: Path) -> None:
    whole = graph()
    left = {name: node for name, node in whole.nodes.items() if name != "count"}
    edges = tuple(e for e in whole.edges if "count" not in (e.source, e.target))
    network = SpikingGraph("bare", left, (*edges, Edge("o", "scores")))
    artifact = edgekit.export(
        network, target="cortex-m4", precision="w8", calibration=windows(), output=tmp_path / "a"
    )
    run = artifact.bench(windows(), limit=2).runs[0]
    assert (run.layers[-1].operator, run.layers[-1].cycles) == ("carry", 0)
    assert run.cycles is not None and run.cycles > 0
