"""Integer spiking networks: the Program against an independent simulation in plain NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import UnsupportedError
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import DType
from edgekit.program.lowering import Lowered, SpikingOptions, int16_scale, lower_noted
from edgekit.spiking.graph import Edge, SpikingGraph
from edgekit.spiking.nodes import Conv, Input, Leaky, Linear, Node, Output, Scale, SumPool
from edgekit.spiking.quantize import quantize_weights
from edgekit.spiking.simulate import Simulator
from edgekit.spiking.to_model import to_model
from edgekit.spiking.weight import Weight
from tests.support.spiking_graphs import (
    all_graphs,
    feedforward_graph,
    l2mu_graph,
    random_window,
    recurrent_graph,
)
from tests.support.spiking_integers import IntegerNetwork
from tests.support.spiking_random import random_graph

QUICK = settings(deadline=None, derandomize=True)

SCALE = int16_scale(-4.0, 4.0)

ELEMENTS = ("int8", "ternary", "shift3", "int4")

WEIGHTED = [
    name
    for name, graph in all_graphs().items()
    if any(isinstance(node, Linear | Conv) for node in graph.nodes.values())
]

CASES = [(name, ELEMENTS[k % 4]) for k, name in enumerate(WEIGHTED)] + [
    (name, element) for name in ("l2mu", "recurrent", "conv1-max") for element in ELEMENTS
]
"""Every structure with some weights, some structures with all."""


def lowered(graph: SpikingGraph, options: SpikingOptions | None = None) -> Lowered:
    """The Program of a quantised graph's step."""
    step = to_model(graph)
    if options is None:
        options = SpikingOptions(input_scale=dict.fromkeys(graph.inputs(), SCALE))
    return lower_noted(step.model, state=step.state, spiking=options)


def coded(window: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """int16 codes of a window."""
    return {
        name: np.clip(np.rint(values / SCALE), -32767, 32767).astype(np.int16)
        for name, values in window.items()
    }


def check_integers(graph: SpikingGraph, element: str, steps: int) -> Lowered:
    """The Program's outputs are the independent simulation's, in integers throughout."""
    graph = quantize_weights(graph, element)
    found = lowered(graph)
    assert all(t.dtype is not DType.FLOAT32 for t in found.program.tensors.values())
    codes = coded(random_window(graph, steps, seed=1))
    got = Interpreter(found.program).run_sequence({n: a[:, None] for n, a in codes.items()})
    network = IntegerNetwork(graph, found.membranes, dict.fromkeys(graph.inputs(), SCALE))
    want = [network.step({name: a[t] for name, a in codes.items()}) for t in range(steps)]
    assert got.keys() == set(graph.outputs())
    for name, values in got.items():
        assert np.array_equal(values[:, 0], np.stack([w[name] for w in want])), name
    return found


@pytest.mark.parametrize(("name", "element"), sorted(set(CASES)))
def test_structures_equal_the_simulation(name: str, element: str) -> None:
    """Every structure; populations that mix samples and spikes too."""
    check_integers(all_graphs()[name], element, 12)


@settings(QUICK, max_examples=10)
@given(st.integers(0, 10_000), st.sampled_from(["int8", "ternary", "shift2", "shift3", "int3"]))
def test_random_graphs_equal_the_simulation(seed: int, element: str) -> None:
    """Any graph."""
    check_integers(random_graph(seed), element, 8)


@pytest.mark.parametrize("population", ["leaky", "synaptic"])
def test_integers_follow_the_real_network(population: str) -> None:
    """With fine formats hardly a spike differs from the same weights in float32."""
    graph = quantize_weights(l2mu_graph(seed=2, population=population), "int8")
    window = random_window(graph, 60, seed=3)
    got = Interpreter(lowered(graph).program).run_sequence(
        {name: a[:, None] for name, a in coded(window).items()}
    )["scores"][-1, 0]
    want = Simulator(graph).run({name: a * SCALE for name, a in coded(window).items()})
    assert np.abs(got - want["scores"][-1]).sum() <= 0.02 * want["scores"][-1].sum()
    assert want["scores"][-1].sum() > 10


def test_formats_are_stated_per_population() -> None:
    """Every population has a format whose step is its neurons' weight scale and fraction."""
    graph = quantize_weights(l2mu_graph(), "ternary")
    found = lowered(graph)
    assert set(found.membranes) == set(graph.populations())
    for name, linear in (("s_u", "e_x"), ("s_h", "w_x"), ("s_o", "w_o")):
        form, node = found.membranes[name], graph.nodes[linear]
        assert isinstance(node, Linear)
        np.testing.assert_allclose(form.step, node.weight.scale * 2.0**-form.fraction, rtol=1e-6)
        assert form.limit is None
        assert form.bound < 2**31
        assert str(form.bound) in form.proof
    assert found.notes == ()


def test_neurons_that_do_not_forget_saturate() -> None:
    """An integrator with beta 1 has a limit, and the caller hears of it."""
    graph = recurrent_graph()
    readout = graph.nodes["li"]
    assert isinstance(readout, Leaky)
    graph = graph.with_nodes({"li": replace(readout, beta=np.float32([1]))})
    found = check_integers(graph, "int8", 10)
    assert found.membranes["li"].limit is not None
    assert any("'li'" in note and "saturate" in note for note in found.notes)


def test_a_gain_changes_the_step() -> None:
    """A factor behind the weights, as Lapicque's neurons have, costs no operation."""
    plain, graph = feedforward_graph(), feedforward_graph()
    nodes = {**graph.nodes, "gain": Scale(np.float32([0.5]))}
    edges = [e for e in graph.edges if e.target != "lif1"]
    graph = SpikingGraph(graph.name, nodes, (*edges, Edge("fc1", "gain"), Edge("gain", "lif1")))
    with_gain, without = (check_integers(g, "int8", 12) for g in (graph, plain))
    steps = [
        f.membranes["lif1"].step * 2.0 ** f.membranes["lif1"].fraction for f in (with_gain, without)
    ]
    np.testing.assert_allclose(steps[0], 0.5 * steps[1])
    assert len(with_gain.program.operations) == len(without.program.operations)


def test_neurons_read_sums_of_windows_as_integers() -> None:
    """The sum of a window's spikes is a count: it needs no quantised weights."""
    rng = np.random.default_rng(0)
    conv = Conv(Weight(rng.standard_normal((3, 2, 3)).astype(np.float32)), padding=(1,))
    nodes: dict[str, Node] = {
        "x": Input((2, 12)),
        "conv": conv,
        "first": Leaky(0.8),
        "pool": SumPool((2,)),
        "second": Leaky(0.5, np.float32([1.5])),
        "out": Output(),
    }
    chain = ("x", "conv", "first", "pool", "second", "out")
    edges = tuple(Edge(a, b) for a, b in itertools.pairwise(chain))
    found = check_integers(SpikingGraph("sums", nodes, edges), "int8", 12)
    assert found.membranes["second"].unit == (2.0**-14, 2.0**-14)


# What cannot be lowered


def two_terms(first: Linear, second: Linear) -> SpikingGraph:
    """A population that reads an input and its own spikes of before."""
    nodes: dict[str, Node] = {
        "x": Input((3,)),
        "first": first,
        "lif": Leaky(0.9),
        "second": second,
        "out": Output(),
    }
    edges = (
        *(Edge("x", "first"), Edge("first", "lif"), Edge("lif", "second", delay=1)),
        *(Edge("second", "lif"), Edge("lif", "out")),
    )
    return SpikingGraph("pair", nodes, edges)


def int8_linear(columns: int, scale: float) -> Linear:
    """Two rows of small codes."""
    codes = np.arange(2 * columns, dtype=np.int8).reshape(2, columns)
    return Linear(Weight.of_codes(codes, np.full(2, scale, np.float32), "int8"))


def test_samples_need_a_scale() -> None:
    """The message says which input and which option."""
    graph = quantize_weights(feedforward_graph(), "int8")
    with pytest.raises(UnsupportedError, match=r"'lif1'.*'x'.*SpikingOptions\.input_scale"):
        lowered(graph, SpikingOptions())


def test_scales_of_one_neuron_must_agree() -> None:
    """0.1 and 0.03 are no power of two apart."""
    graph = two_terms(int8_linear(3, 0.1), int8_linear(2, 0.03))
    with pytest.raises(UnsupportedError, match=r"'lif'.*'first'.*share its scale.*power of two"):
        lowered(graph)


def test_samples_that_meet_spikes_come_in_powers_of_two() -> None:
    """Any other step is refused."""
    graph = two_terms(int8_linear(3, 0.1), int8_linear(2, 0.1))
    with pytest.raises(UnsupportedError, match="power of two"):
        lowered(graph, SpikingOptions(input_scale={"x": 0.001}))


def test_weights_of_a_neuron_are_of_one_kind() -> None:
    """Float weights beside quantised ones are named."""
    graph = two_terms(Linear(Weight(np.ones((2, 3), np.float32) / 3)), int8_linear(2, 0.1))
    with pytest.raises(UnsupportedError, match=r"'lif'.*'first' are float32.*all of one kind"):
        lowered(graph)


def test_a_negative_gain_is_refused() -> None:
    """The sign belongs into the weights."""
    graph = two_terms(int8_linear(3, 0.1), int8_linear(2, 0.1))
    nodes = {**graph.nodes, "gain": Scale(np.float32([-1]))}
    edges = [e for e in graph.edges if (e.source, e.target) != ("first", "lif")]
    graph = SpikingGraph("pair", nodes, (*edges, Edge("first", "gain"), Edge("gain", "lif")))
    with pytest.raises(UnsupportedError, match="must be positive"):
        lowered(graph)


def test_a_float_population_stays_float_only_if_allowed() -> None:
    """Populations that keep float weights are reported like any fallback."""
    graph = quantize_weights(feedforward_graph(), "int8", keep=["fc1"])
    step = to_model(graph)
    with pytest.raises(UnsupportedError, match=r"stay in float32.*(\n.*)*lif1"):
        lower_noted(step.model, state=step.state)
    found = lower_noted(step.model, state=step.state, allow_fallback=True)
    assert set(found.membranes) == {"lif2"}
    window = random_window(graph, 30, seed=1)
    got = Interpreter(found.program).run_sequence({"x": window["x"][:, None]})
    want = Simulator(graph).run(window)
    assert np.abs(got["scores"][-1, 0] - want["scores"][-1]).max() <= 1
    assert want["scores"][-1].sum() > 4


def test_integer_states_must_be_declared() -> None:
    """A membrane that the caller feeds has no integer form."""
    graph = quantize_weights(feedforward_graph(), "int8")
    step = to_model(graph)
    state = {n: o for n, o in step.state.items() if n != "lif2.membrane"}
    with pytest.raises(UnsupportedError, match=r"'lif2.membrane'.*declared state"):
        lower_noted(step.model, state=state, spiking=SpikingOptions(input_scale={"x": SCALE}))
