"""Trained networks on real windows: every device to the bit, snnTorch and ONNX Runtime to rounding.

Small L2MUs of both kinds of neurons, trained for a few dozen steps, then again with int8, ternary
and shift weights; 200 windows of 40 samples of the test people. All networks lie side by side in
one library, so that every kernel is compiled once. The networks of the activity study go the same
way in ``benchmarks/spiking_exactness.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data import Clip, Preprocessing, Standardize, load
from edgekit.program.ir import Array, Boundary, Operation, Program, State, Tensor
from edgekit.program.lowering import SpikingOptions, int16_scale, lower_noted
from edgekit.program.verify import verify
from edgekit.spiking import SpikingGraph, measure, to_model
from edgekit.spiking.drift import AMBIGUOUS, Drift, compare_traces
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.emulated import EmulatedMachine
from edgekit.targets.host import HostMachine
from edgekit.targets.image import build_image
from edgekit.targets.target import target
from tests.support.scripts import script

pytestmark = [
    pytest.mark.torch,
    pytest.mark.needs("torch", "snntorch", "sklearn", "onnxruntime", "cc"),
]

NETWORKS = (
    ("leaky", "float32"),
    ("leaky", "w8"),
    ("leaky", "w158"),
    ("leaky", "shift3"),
    ("synaptic", "float32"),
    ("synaptic", "w8"),
)
"""Kinds of neurons, and precisions: sums of weights do not know what kind of neurons they drive."""

CORES = ("cortex-m0plus", "cortex-m4", "cortex-m33")
WINDOWS = 200

TRAINING = {"float32": (60, 2e-2), "w8": (5, 4e-3), "w158": (15, 8e-3), "shift3": (15, 8e-3)}
"""Steps of training, and the largest learning rate; coded weights go on from the float ones."""

COMMON: dict[str, Any] = {"memories": 2, "order": 4, "theta": 20.0}
SIZES: dict[str, dict[str, Any]] = {
    "leaky": {"per_channel": 4, "layers": (16,), "hidden": 24},
    "synaptic": {"per_channel": 2, "layers": (12,), "hidden": 16},
}
"""What decides how long an emulated core without floating-point instructions takes."""

BATCH = 32
INTERPRETED = 4
"""Windows for the interpreter itself; its references see all of them at once."""

AGREEMENT = 0.99
"""Share of windows that integers must give the class that the trained module gives them."""


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """A network with everything that is compared.

    Attributes:
        module: without norms.
        graph: of it.
        program: of a step, for its graph.
        codes: of the windows, as the Program takes them: [windows, steps, 1, channels].
    """

    module: Any
    graph: SpikingGraph
    program: Program
    codes: Array


Networks = dict[tuple[str, str], Trained]
"""By kind of neurons and precision."""


@pytest.fixture(scope="module")
def data(data_folder: Path) -> tuple[Array, Array, Array]:
    """Windows and labels of training people, windows of test people: [N, channels, steps]."""
    found = load("wisdm-watch", path=data_folder / "har/wisdm_watch7_w40.npz", split="subject")
    steps = Standardize.fitted(found.x[found.train]), Clip(-8, 8)
    x, y = found.part("train")
    chosen = np.random.default_rng(0).permutation(len(x))[: 60 * BATCH]
    test, _ = found.part("test")
    spread = np.linspace(0, len(test) - 1, WINDOWS).astype(int)
    preprocessing = Preprocessing(steps)
    return preprocessing.apply(x[chosen]), y[chosen], preprocessing.apply(test[spread])


@pytest.fixture(scope="module")
def networks(data: tuple[Array, Array, Array]) -> Networks:
    """All of them; coded weights begin with the float ones in front of them."""
    import torch

    from edgekit.spiking.layers.l2mu_network import L2MU
    from edgekit.zoo.quantized import quantized

    x, y, test = data
    found = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for kind, precision in NETWORKS:
            if precision == "float32":
                model = L2MU(**COMMON, **SIZES[kind], kind=kind)
                train(model, x, y, *TRAINING[precision])
                module = copy.deepcopy(model).fold()
            else:
                module = quantized(copy.deepcopy(model), precision, torch.from_numpy(x[:32]))
                train(module, x, y, *TRAINING[precision])
            found[kind, precision] = lowered(module.eval(), x[:256], test)
    return found


def train(model: Any, x: Array, y: Array, steps: int, rate: float) -> None:
    """A few steps of training."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 5) * (1 - step / steps)
    )
    model.train()
    for step in range(steps):
        batch = slice(step * BATCH, (step + 1) * BATCH)
        scores = model(torch.from_numpy(x[batch]))
        loss = torch.nn.functional.cross_entropy(0.5 * scores, torch.from_numpy(y[batch]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.rates = {}


def lowered(module: Any, calibration: Array, test: Array) -> Trained:
    """The Program that is deployed, with schedules by the activity of calibration windows."""
    graph = module.graph()
    activity = dict(measure(graph, {"x": module.windows(calibration)[:32]}).rates)
    scale = int16_scale(float(calibration.min()), float(calibration.max()))
    is_float = all(not w.quantized for w in weights(graph))
    step = to_model(graph)
    options = SpikingOptions(input_scale={} if is_float else {"x": scale}, activity=activity)
    program = lower_noted(step.model, state=step.state, spiking=options).program
    codes = module.windows(test)[:, :, np.newaxis]
    if not is_float:
        codes = np.clip(np.rint(codes / np.float32(scale)), -32768, 32767).astype(np.int16)
    return Trained(module, graph, program, codes)


def weights(graph: SpikingGraph) -> Iterator[Any]:
    """Of every layer."""
    return (node.weight for node in graph.nodes.values() if hasattr(node, "weight"))


def side_by_side(programs: Mapping[str, Program], name: str) -> Program:
    """Networks as one Program with the inputs, outputs and states of all, named ``key/name``."""
    tensors: dict[str, Tensor] = {}
    operations: list[Operation] = []
    states: list[State] = []
    inputs: list[Boundary] = []
    outputs: list[Boundary] = []
    for key, program in programs.items():
        for tensor in program.tensors.values():
            tensors[f"{key}/{tensor.name}"] = replace(tensor, name=f"{key}/{tensor.name}")
        operations += [
            Operation(
                f"{key}/{op.name}",
                op.operator,
                tuple(None if n is None else f"{key}/{n}" for n in op.inputs),
                tuple(f"{key}/{n}" for n in op.outputs),
            )
            for op in program.operations
        ]
        states += [State(f"{key}/{s.read}", f"{key}/{s.write}", s.initial) for s in program.state]
        for given, every in ((program.inputs, inputs), (program.outputs, outputs)):
            every += [replace(b, tensor=f"{key}/{b.tensor}", name=f"{key}/{b.name}") for b in given]
    whole = Program(name, tensors, tuple(operations), tuple(inputs), tuple(outputs), tuple(states))
    return verify(whole, stage="putting networks side by side")


@dataclass(frozen=True, eq=False, repr=False)
class Deployed:
    """All networks in one library, named ``kind-precision/``, and what C does with them here."""

    emission: Emission
    windows: dict[str, Array]
    run: dict[str, Array]

    def scores(self, kind: str, precision: str) -> Array:
        """After every step, [windows, steps, classes]."""
        return self.run[f"{kind}-{precision}/scores"][:, :, 0]


@pytest.fixture(scope="module")
def deployed(networks: Networks) -> Deployed:
    """On this machine."""
    named = {f"{kind}-{precision}": t for (kind, precision), t in networks.items()}
    program = side_by_side({key: trained.program for key, trained in named.items()}, "all")
    windows = {f"{key}/x": trained.codes for key, trained in named.items()}
    emission = emit(program, version="test")
    machine = HostMachine(emission.library)
    try:
        run = script("spiking_runs").device_run(machine, emission, windows)
    finally:
        machine.close()
    return Deployed(emission, windows, run)


def test_every_bit_counts() -> None:
    """What the tests below go by tells 0 from -0, and refuses to compare other networks."""
    differing = script("spiking_runs").differing
    ones = {"u": np.ones((1, 2), np.float32), "s": np.ones((1, 2), np.int32)}
    assert (
        differing(ones, {**ones, "u": np.float32([[1, np.nextafter(1, 2, dtype=np.float32)]])}) == 1
    )
    assert differing({"u": np.float32([0, 0])}, {"u": np.float32([-0.0, 0])}) == 1
    with pytest.raises(ValueError, match="runs of other networks"):
        differing(ones, {"u": ones["u"]})


def test_host_c_is_the_interpreter(deployed: Deployed) -> None:
    """Scores, membranes, currents, counts and spikes after every one of 8000 steps."""
    runs = script("spiking_runs")
    program, found = deployed.emission.program, deployed.run
    assert runs.differing(runs.batched(program, deployed.windows), found) == 0
    first = {name: codes[:INTERPRETED] for name, codes in deployed.windows.items()}
    want = runs.interpreted(program, first)
    assert runs.differing(want, {name: a[:INTERPRETED] for name, a in found.items()}) == 0
    # Six populations, whose neurons remember one number or two; two of spikes, and the count.
    remembered = {"leaky": 6 + 3, "synaptic": 2 * 6 + 3}
    assert len(program.state) == sum(remembered[kind] for kind, _ in NETWORKS)


@pytest.mark.needs("cortex-m compiler")
@pytest.mark.parametrize("core", CORES)
def test_emulated_cores_are_the_host(core: str, deployed: Deployed, tmp_path: Path) -> None:
    """Everything that is remembered, after every step."""
    runs = script("spiking_runs")
    emission = emit(deployed.emission.program, features=target(core).features, version="test")
    image = build_image(emission.library, target(core), folder=tmp_path)
    image.require_fit()
    machine = EmulatedMachine(image.library, image.target, image.elf)
    try:
        found = runs.device_run(machine, emission, deployed.windows)
    finally:
        machine.close()
    assert runs.differing(deployed.run, found) == 0


@pytest.mark.parametrize("kind", ["leaky", "synaptic"])
def test_float_is_snntorch_and_onnx_runtime(
    kind: str, networks: Networks, deployed: Deployed
) -> None:
    """Where a window differs, it begins with a neuron that is as good as on its threshold."""
    runs = script("spiking_runs")
    trained = networks[kind, "float32"]
    x = trained.codes[:, :, 0]
    ours, scores = runs.simulated(trained.graph, x)
    assert (scores == deployed.scores(kind, "float32")).all()
    for name, trace in ours.items():
        # The simulator's neurons are those of the C code.
        kept = deployed.run[f"{kind}-float32/{name}.membrane"]
        assert (kept.reshape(trace.membrane.shape) == trace.membrane).all()
    references = {
        "snntorch": runs.snntorch_run(trained.module, x),
        "onnxruntime": runs.onnx_run(trained.graph, x),
    }
    limits = runs.thresholds(trained.graph)
    for traces, given in references.values():
        drift: Drift = compare_traces(traces, ours, limits)
        drift.raise_if(farther=AMBIGUOUS)
        assert drift.windows == WINDOWS
        # About one spike in 10^5 is ambiguous.
        assert drift.differing_windows <= 10
        assert drift.spikes > 20_000
        assert (given != scores).any(axis=(1, 2)).sum() <= drift.differing_windows
    scanned = runs.scan_scores(trained.graph, x)
    assert (scanned != scores).any(axis=(1, 2)).sum() <= 10


@pytest.mark.parametrize(("kind", "precision"), NETWORKS)
def test_integers_decide_as_the_trained_network(
    kind: str, precision: str, networks: Networks, deployed: Deployed
) -> None:
    import torch

    trained = networks[kind, precision]
    given = deployed.scores(kind, precision)[:, -1].argmax(1)
    test = networks[kind, "float32"].codes[:, :, 0]
    with torch.no_grad():
        scores = trained.module(torch.from_numpy(trained.module.samples(test)))
    agreement = float((given == scores.argmax(1).numpy()).mean())
    assert agreement >= AGREEMENT
    # Networks that say the same of everything would agree as well.
    assert int(np.bincount(given).max()) < 0.8 * WINDOWS
