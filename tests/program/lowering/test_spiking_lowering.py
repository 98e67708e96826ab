"""Float spiking networks: the Program against the simulator to the bit, and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import InvalidModelError, UnsupportedError, UsageError
from edgekit.model import Model, load
from edgekit.model.domain import attach_functions
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import DType
from edgekit.program.lowering import Lowered, SpikingOptions, int16_scale, lower_noted
from edgekit.program.operators import spiking_schedule
from edgekit.program.operators.spiking_bits import unpack_spikes
from edgekit.program.operators.spiking_weighted import SpikeDense
from edgekit.spiking.graph import Edge, SpikingGraph
from edgekit.spiking.nodes import Input, Leaky, Linear, Output
from edgekit.spiking.simulate import Simulator
from edgekit.spiking.to_model import to_model
from edgekit.spiking.weight import Weight
from tests.support.onnx_models import OnnxBuilder, run_onnx
from tests.support.spiking_graphs import all_graphs, l2mu_graph, random_window, scaled_graph
from tests.support.spiking_onnx import run_steps
from tests.support.spiking_random import random_graph

AMBIGUOUS = 1e-5
"""How near a threshold a membrane may be where two orders of adding disagree about a spike."""

QUICK = settings(deadline=None, derandomize=True)


def lowered(graph: SpikingGraph, options: SpikingOptions | None = None) -> Lowered:
    """The Program of a graph's step."""
    step = to_model(graph)
    return lower_noted(step.model, state=step.state, spiking=options)


def stepped(found: Lowered, window: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs [T,...] of the interpreter."""
    fed = {name: array[:, None] for name, array in window.items()}
    return {n: a[:, 0] for n, a in Interpreter(found.program).run_sequence(fed).items()}


def check_simulator(graph: SpikingGraph, steps: int) -> None:
    """Program and simulator agree to the bit."""
    window = random_window(graph, steps, seed=1)
    got, want = stepped(lowered(graph), window), Simulator(graph).run(window)
    assert got.keys() == want.keys()
    for name in want:
        assert np.array_equal(got[name], want[name]), name


@pytest.mark.parametrize("name", all_graphs())
def test_structures_equal_the_simulator(name: str) -> None:
    """Every structure, step by step."""
    check_simulator(all_graphs()[name], 40)


@settings(QUICK, max_examples=15)
@given(st.integers(0, 10_000))
def test_random_graphs_equal_the_simulator(seed: int) -> None:
    """Any graph, step by step."""
    check_simulator(random_graph(seed), 12)


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("seed", range(12))
def test_first_difference_from_the_runtime_is_ambiguous(seed: int) -> None:
    """Neurons spike as in ONNX Runtime, up to the first membrane at its threshold."""
    graph = random_graph(seed)
    window = random_window(graph, 25, seed=2)
    got = stepped(lowered(graph), window)
    for step, want in enumerate(run_steps(to_model(graph), window)):
        for name in graph.populations():
            ours, theirs = got[f"spikes_{name}"][step], want[f"spikes_{name}"][0]
            node = graph.nodes[name]
            differs = ours != theirs
            if differs.any():
                threshold = np.broadcast_to(
                    node.threshold.reshape(-1, *[1] * (ours.ndim - 1))
                    if node.threshold.ndim < ours.ndim
                    else node.threshold,
                    ours.shape,
                )
                distance = np.abs(want[f"{name}.membrane.next"][0] - threshold)[differs]
                assert distance.max() <= AMBIGUOUS
                return
        np.testing.assert_allclose(got["membrane"][step], want["membrane"][0], atol=1e-4)


def test_stepping_equals_a_sequence() -> None:
    """State is carried by step, and gone after reset."""
    graph = l2mu_graph()
    program = lowered(graph).program
    window = random_window(graph, 30)["samples"][:, None]
    whole = Interpreter(program).run_sequence({"samples": window})["scores"]
    stepper = Interpreter(program)
    for _ in range(2):
        for sample, want in zip(window, whole, strict=True):
            assert np.array_equal(stepper.step({"samples": sample})["scores"], want)
        stepper.reset()
    assert whole[-1].sum() > 0


def test_spikes_are_bit_sets() -> None:
    """Populations, delayed ones too, are words; numbers appear only where they leave."""
    graph = l2mu_graph(hidden=40)
    found = lowered(graph)
    assert set(found.spikes) == set(graph.populations())
    states = {s.read: found.program.tensors[s.read] for s in found.program.state}
    assert states["s_h.spikes"].type == found.program.tensors[found.spikes["s_h"].tensor].type
    assert (states["s_h.spikes"].shape, states["s_h.spikes"].dtype) == ((1, 2), DType.INT32)
    assert "spike_values" not in {op.operator.name for op in found.program.operations}
    assert {"spike_dense", "current_dense", "leaky", "spike_count"} == {
        op.operator.name for op in found.program.operations
    }


def test_spatial_spikes_are_numbered_channels_last() -> None:
    """Bit (h, w, c) is neuron (c, h, w); a flat reader's weights follow."""
    graph = all_graphs()["conv2-max"]
    found, simulator_spikes = lowered(graph), {}

    def observe(name: str, value: np.ndarray) -> None:
        simulator_spikes[name] = value

    window = random_window(graph, 6, seed=1)
    simulator = Simulator(graph, observe=observe)
    interpreter = Interpreter(found.program)
    total = 0
    for t in range(6):
        seen: dict[str, np.ndarray] = {}
        simulator.step({name: array[t] for name, array in window.items()})
        interpreter.step({n: a[t][None] for n, a in window.items()}, seen.__setitem__)
        want = simulator_spikes["lif1"]
        bits = unpack_spikes(seen[found.spikes["lif1"].tensor], want.size)[0]
        channels, height, width = want.shape
        assert np.array_equal(bits.reshape(height, width, channels).transpose(2, 0, 1), want)
        total += int(bits.sum())
    assert total > 0


@pytest.mark.parametrize(
    ("encoded", "dense"), [(0.25, {"e_x", "w_x", "w_o"}), (0.05, {"w_o"}), (None, {"w_o"})]
)
def test_activity_chooses_the_schedule(
    monkeypatch: pytest.MonkeyPatch, encoded: float | None, dense: set[str]
) -> None:
    """Sums of inputs that are busy on the whole run dense, quiet and unknown ones by events."""
    monkeypatch.setattr(spiking_schedule, "CROSSOVER", {"float32": 0.2})
    activity = {"s_h": 0.3, "s_m": 0.1} | ({} if encoded is None else {"s_x": encoded})
    operations = lowered(l2mu_graph(), SpikingOptions(activity=activity)).program.operations
    schedules = {
        op.name: op.operator.schedule for op in operations if op.operator.name == "spike_dense"
    }
    assert {name for name, schedule in schedules.items() if schedule == "dense"} == dense


def test_sums_of_several_populations_are_one_operation() -> None:
    """u, m and h read three, two and three, groups of channels included."""
    program = lowered(l2mu_graph()).program
    sums = [op.operator for op in program.operations if isinstance(op.operator, SpikeDense)]
    channels, memory, hidden, encoded = 2, 8, 20, 16
    assert [(s.neurons, s.groups) for s in sums if len(s.neurons) > 1] == [
        ((encoded, hidden, memory), 1),
        ((memory, channels), channels),
        ((encoded, hidden, memory), 1),
    ]


def test_two_states_of_the_same_spikes() -> None:
    """A delay of two steps, and one population read back by two: each state has its own bytes."""
    b = OnnxBuilder(21)
    x = b.input("x", (1, 5))
    names = ("u", "once", "again", "twice")
    u, once, again, twice = (b.input(name, (1, 5)) for name in names)
    total = x
    for weight, value in zip((0.5, -0.25, 0.75), (once, again, twice), strict=True):
        w = b.constant(np.full((5, 5), weight, np.float32) * np.eye(5, dtype=np.float32))
        total = b.node("Add", total, b.node("MatMul", value, w))
    decay, threshold = b.constant(np.float32([0.8])), b.constant(np.float32([0.6]))
    spikes, after = b.node_all(
        "Leaky", total, u, decay, threshold, outputs=2, name="lif", domain="edgekit"
    )
    outputs = [spikes, after, b.node("Identity", spikes), b.node("Identity", spikes)]
    outputs += [b.node("Identity", once)]
    for output in outputs:
        b.output(output)
    model = with_functions(b)
    state = dict(zip(names, outputs[1:], strict=True))
    interpreter = Interpreter(lower_noted(model, state=state).program)
    held = {name: np.zeros((1, 5), np.float32) for name in names}
    seen = 0
    for sample in np.random.default_rng(0).normal(0.3, 0.6, (40, 1, 5)).astype(np.float32):
        want = run_onnx(model.to_bytes(), {"x": sample, **held})
        (got,) = interpreter.step({"x": sample}).values()
        assert np.array_equal(got, want[spikes])
        held = {name: want[output] for name, output in state.items()}
        seen += int(got.sum())
    assert seen > 40


def test_readers_that_want_numbers_get_them() -> None:
    """Spikes into an operator that knows no bits, and a product that two read."""
    b = OnnxBuilder(21)
    x, u = b.input("x", (1, 6)), b.input("u", (1, 6))
    decay, threshold = b.constant(np.float32([0.5])), b.constant(np.float32([0.2]))
    spikes, after = b.node_all("Leaky", x, u, decay, threshold, outputs=2, domain="edgekit")
    rng = np.random.default_rng(1)
    product = b.node(
        "Gemm",
        spikes,
        b.constant(rng.normal(0, 1, (6, 4)).astype(np.float32)),
        b.constant(rng.normal(0, 1, 4).astype(np.float32)),
    )
    for output in (after, b.node("Tanh", product), b.node("Sigmoid", spikes)):
        b.output(output)
    b.output(b.node("Mul", product, b.constant(np.float32([2]))))
    model = with_functions(b)
    found = lower_noted(model)
    assert "spike_dense" in {op.operator.name for op in found.program.operations}
    feeds = {name: rng.normal(0, 1, (1, 6)).astype(np.float32) for name in ("x", "u")}
    want = run_onnx(model.to_bytes(), feeds)
    for name, value in Interpreter(found.program).run(feeds).items():
        np.testing.assert_allclose(value, want[name], rtol=1e-6, atol=1e-6)


def with_functions(b: OnnxBuilder) -> Model:
    """The built model with the neurons' definitions."""
    model = load(b.build())
    return model.with_ir(attach_functions(model.ir)[0])


# Bad input


def one_population(
    *, shape: tuple[int, ...] = (1, 4), beta: object = 0.5, threshold: object = 1.0, reset: int = 0
) -> Model:
    """Neurons that read the input."""
    b = OnnxBuilder(21)
    x, u = b.input("x", shape), b.input("u", shape)
    decay = b.constant(np.asarray(beta, np.float32))
    level = b.constant(np.asarray(threshold, np.float32))
    for output in b.node_all(
        "Leaky", x, u, decay, level, outputs=2, name="lif", domain="edgekit", reset=reset
    ):
        b.output(output)
    return with_functions(b)


def test_a_batch_is_refused() -> None:
    """One network has one state."""
    with pytest.raises(UnsupportedError, match=r"'lif'.*\[2, 4\].*batch of 1"):
        lower_noted(one_population(shape=(2, 4)))


@pytest.mark.parametrize("beta", [-0.1, 1.5])
def test_decays_outside_zero_to_one_are_refused(beta: float) -> None:
    """The message holds the number."""
    with pytest.raises(InvalidModelError, match=r"'lif'.*decay.*\[0, 1\]"):
        lower_noted(one_population(beta=beta))


def test_an_unknown_reset_is_refused() -> None:
    """There are three."""
    with pytest.raises(InvalidModelError, match="reset is 3, must be 0, 1 or 2"):
        lower_noted(one_population(reset=3))


def test_an_infinite_threshold_needs_no_reset() -> None:
    """Subtracting infinity is no arithmetic."""
    with pytest.raises(InvalidModelError, match="thresholds must be finite"):
        lower_noted(one_population(threshold=np.inf))


def test_computed_decays_are_refused() -> None:
    """Decays are constants."""
    b = OnnxBuilder(21)
    x, u, decay = b.input("x", (1, 4)), b.input("u", (1, 4)), b.input("decay", (1,))
    outputs = b.node_all(
        "Leaky",
        *(x, u, decay, b.constant(np.float32([1]))),
        outputs=2,
        name="lif",
        domain="edgekit",
    )
    b.output(outputs[0])
    with pytest.raises(UnsupportedError, match=r"'lif'.*decays and thresholds must be constants"):
        lower_noted(with_functions(b))


def test_what_the_current_needs_is_reported_once() -> None:
    """An operator that cannot be lowered in front of neurons is named; the neurons are not."""
    b = OnnxBuilder(21)
    x, u = b.input("x", (1, 4)), b.input("u", (1, 4))
    strange = b.node("Erf", x)
    outputs = b.node_all(
        "Leaky",
        *(strange, u, b.constant(np.float32([0.5])), b.constant(np.float32([1]))),
        outputs=2,
        name="lif",
        domain="edgekit",
    )
    b.output(outputs[0])
    with pytest.raises(UnsupportedError, match="Erf") as caught:
        lower_noted(with_functions(b))
    assert "'lif'" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SpikingOptions(activity={"hidden": 0.5}), r"activity of 'hidden'.*'lif'"),
        (SpikingOptions(input_scale={"y": 0.5}), r"input_scale of 'y'.*'u', 'x'"),
    ],
)
def test_options_for_nobody_are_refused(options: SpikingOptions, message: str) -> None:
    """The message lists what there is."""
    with pytest.raises(UsageError, match=message):
        lower_noted(one_population(), spiking=options)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_must_be_positive(scale: float) -> None:
    """Zero, negative and not finite ones are refused where they are given."""
    with pytest.raises(UsageError, match="input_scale of 'x'"):
        SpikingOptions(input_scale={"x": scale})


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_activities_are_shares(share: float) -> None:
    """From 0 to 1."""
    with pytest.raises(UsageError, match=r"activity of 'h'.*0…1"):
        SpikingOptions(activity={"h": share})


@pytest.mark.parametrize("ends", [(0.0, 0.0), (2.0, 1.0), (0.0, float("inf"))])
def test_ranges_hold_something(ends: tuple[float, float]) -> None:
    """An empty range has no scale."""
    with pytest.raises(UsageError, match="range of samples"):
        int16_scale(*ends)


def test_a_missing_state_is_named() -> None:
    """State that names no input of the model."""
    graph = scaled_graph()
    step = to_model(graph)
    with pytest.raises(UsageError, match=r"'lif.potential'"):
        lower_noted(step.model, state={"lif.potential": "lif.membrane.next"})


def test_a_state_of_the_wrong_size_is_refused() -> None:
    """State and next value must have one shape."""
    graph = SpikingGraph(
        "small",
        {
            "x": Input((3,)),
            "w": Linear(Weight(np.ones((2, 3), np.float32))),
            "lif": Leaky(0.5),
            "out": Output(),
        },
        (Edge("x", "w"), Edge("w", "lif"), Edge("lif", "out")),
    )
    step = to_model(graph)
    broken = step.model.ir.clone()
    broken.graph.inputs[1].shape = onnx_ir.Shape((1, 3))
    with pytest.raises((UsageError, InvalidModelError), match=r"\[1, 3\].*\[1, 2\]"):
        lower_noted(replace(step.model, ir=broken), state=step.state)
