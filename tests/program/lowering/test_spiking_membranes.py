"""Integrators whose membranes are read: the Program against plain NumPy, C, and float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import DType
from edgekit.program.lowering import Lowered, SpikingOptions, int16_scale, lower_noted
from edgekit.spiking.graph import Edge, SpikingGraph
from edgekit.spiking.nir.neurons import neuron_parts
from edgekit.spiking.nir.semantics import Semantics
from edgekit.spiking.nir.tree import NirNode
from edgekit.spiking.nodes import (
    AvgPool,
    Flatten,
    Input,
    Leaky,
    Linear,
    Node,
    Output,
    Scale,
    Synaptic,
)
from edgekit.spiking.quantize import quantize_weights
from edgekit.spiking.simulate import Simulator
from edgekit.spiking.to_model import to_model
from edgekit.spiking.weight import Weight
from edgekit.targets.c.emit import emit
from edgekit.targets.emulated import EmulatedMachine
from edgekit.targets.host import HostMachine
from edgekit.targets.image import build_image
from edgekit.targets.target import target
from tests.support.chain import STRICT, assert_identical, run_machine
from tests.support.spiking_graphs import Maker, chain, random_window
from tests.support.spiking_integers import IntegerNetwork

SCALE = int16_scale(-4.0, 4.0)

COUNT = 9


def lowered(graph: SpikingGraph) -> Lowered:
    """The Program of a quantised graph's step."""
    step = to_model(graph)
    options = SpikingOptions(input_scale=dict.fromkeys(graph.inputs(), SCALE))
    return lower_noted(step.model, state=step.state, spiking=options)


def coded(values: np.ndarray) -> np.ndarray:
    """int16 codes of samples."""
    return np.clip(np.rint(values / SCALE), -32767, 32767).astype(np.int16)


# Structures


def integrator(make: Maker, count: int = COUNT) -> Leaky:
    """Membranes that leave."""
    return Leaky(make.rng.uniform(0.5, 0.9, count).astype(np.float32), spiking=False)


def neurons(make: Maker, count: int = COUNT) -> Leaky:
    """Reset to zero at once: the membrane of a CubaLIF."""
    beta = make.rng.uniform(0.6, 0.95, count).astype(np.float32)
    return Leaky(beta, make.rng.uniform(0.5, 2.0, count).astype(np.float32), "zero")


def graph_of(between: dict[str, Node], make: Maker, **others: Node) -> SpikingGraph:
    """Samples, weights, an integrator, what is between, neurons and their spikes."""
    nodes: dict[str, Node] = {
        "x": Input((5,)),
        "w": make.linear(COUNT, 5, 0.8),
        "syn": integrator(make),
        **between,
        "lif": neurons(make),
        "out": Output(),
        **others,
    }
    return SpikingGraph("membranes", nodes, chain(*[n for n in nodes if n not in others]))


def cuba(make: Maker, count: int, leak: float) -> dict[str, Node]:
    """A CubaLIF as NIR's importer writes it, by the ends of names."""
    fields = {
        "tau_syn": make.rng.uniform(2e-4, 6e-4, count),
        "tau_mem": make.rng.uniform(4e-4, 12e-4, count),
        "r": make.rng.uniform(4, 6, count),
        "w_in": make.rng.uniform(2, 3, count),
        "v_leak": np.full(count, leak),
        "v_threshold": np.ones(count),
        "v_reset": np.zeros(count),
    }
    return dict(neuron_parts(NirNode("CubaLIF", fields), Semantics(reset="zero")))


def cuba_graph(seed: int, leak: float = 0.0) -> SpikingGraph:
    """Three layers of CubaLIF neurons that reset to zero; every layer leaves."""
    make = Maker(seed, "leaky", "zero")
    nodes: dict[str, Node] = {"x": Input((6,))}
    columns = 6
    for layer, count in enumerate((24, 20, 4)):
        nodes[f"w{layer}"] = make.linear(count, columns, 0.8, bias=0.05)
        parts = cuba(make, count, leak)
        assert next(iter(parts)) == "_synapse"
        nodes |= {f"n{layer}{end}": node for end, node in parts.items()}
        columns = count
    edges = [*chain(*nodes)]
    for layer in range(3):
        nodes[f"out{layer}"] = Output()
        edges.append(Edge(f"n{layer}", f"out{layer}"))
    return SpikingGraph("cuba", nodes, tuple(edges))


def recurrent(make: Maker) -> SpikingGraph:
    """Neurons that add a membrane and the weights of their own spikes."""
    graph = graph_of({}, make, back=make.linear(COUNT, COUNT, 0.4, bias=0.1))
    edges = (*graph.edges, Edge("lif", "back", delay=1), Edge("back", "lif"))
    return SpikingGraph("recurrent", graph.nodes, edges)


def two(make: Maker) -> SpikingGraph:
    """Neurons that add two membranes of other steps, one of them scaled."""
    gain = Scale(make.rng.uniform(0.2, 3.0, COUNT).astype(np.float32))
    extra = {"v": make.linear(COUNT, 5, 0.5), "slow": integrator(make), "gain": gain}
    graph = graph_of({}, make, **extra)
    edges = (*graph.edges, *chain("x", "v", "slow", "gain", "lif"))
    return SpikingGraph("two", graph.nodes, edges)


def spatial(make: Maker, *between: Node, last: Node) -> SpikingGraph:
    """An integrator behind a convolution."""
    conv = make.conv(4, 2, (3, 3), 0.8)
    nodes: dict[str, Node] = {"x": Input((2, 6, 5)), "conv": conv, "syn": integrator(make, 4)}
    nodes |= {f"n{k}": node for k, node in enumerate(between)}
    nodes |= {"lif": last, "out": Output()}
    return SpikingGraph("spatial", nodes, chain(*nodes))


GRAPHS: dict[str, Callable[[Maker], SpikingGraph]] = {
    "direct": lambda m: graph_of({}, m),
    "cuba": lambda m: cuba_graph(1),
    "cuba-leak": lambda m: cuba_graph(2, leak=0.3),
    "scaled": lambda m: graph_of({"gain": Scale(np.float32([0.3]))}, m),
    "scaled-each": lambda m: graph_of(
        {"gain": Scale(m.rng.uniform(0.1, 2, COUNT).astype(np.float32))}, m
    ),
    "weights": lambda m: graph_of({"v": m.linear(COUNT, COUNT, 0.7, bias=0.1)}, m),
    "groups": lambda m: graph_of({"v": m.linear(COUNT, COUNT, 0.7, groups=3)}, m),
    "diagonal-signs": lambda m: graph_of({"v": m.linear(COUNT, COUNT, 0.7, groups=COUNT)}, m),
    "recurrent": recurrent,
    "two": two,
    "chain": lambda m: graph_of({"next": integrator(m), "last": integrator(m)}, m),
    "synaptic": lambda m: graph_of(
        {"mid": Synaptic(np.float32([0.6]), np.float32([0.8]), spiking=False)}, m
    ),
    "no-leak": lambda m: graph_of({"sum": Leaky(np.float32([1]), spiking=False)}, m),
    "spatial": lambda m: spatial(m, last=neurons(m, 4)),
    "spatial-flat": lambda m: spatial(
        m, Flatten(), m.linear(COUNT, 48, 0.7), last=neurons(m, COUNT)
    ),
    "spatial-conv": lambda m: spatial(m, m.conv(3, 4, (2, 2), 0.7), last=neurons(m, 3)),
}


def quantised(name: str, element: str = "int8") -> SpikingGraph:
    """A structure with coded weights."""
    return quantize_weights(GRAPHS[name](Maker(3, "leaky", "zero")), element)


def check_integers(graph: SpikingGraph, codes: np.ndarray) -> Lowered:
    """Outputs and membranes are the independent simulation's, which checks every stated bound."""
    found = lowered(graph)
    assert all(t.dtype is not DType.FLOAT32 for t in found.program.tensors.values())
    interpreter = Interpreter(found.program)
    network = IntegerNetwork(graph, found.membranes, {"x": SCALE})
    for code in codes:
        seen: dict[str, np.ndarray] = {}
        got = interpreter.step({"x": code[None]}, seen.__setitem__)
        want = network.step({"x": code})
        for name, values in got.items():
            assert np.array_equal(values[0], want[name]), name
        for name in found.membranes:
            membrane = network.state[name]
            # Spatial populations lie with their channels last.
            lying = membrane if membrane.ndim == 1 else np.moveaxis(membrane, 0, -1)
            assert np.array_equal(seen[f"{name}.membrane.next"].reshape(-1), lying.reshape(-1)), (
                name
            )
    return found


@pytest.mark.parametrize("element", ["int8", "ternary"])
@pytest.mark.parametrize("name", GRAPHS)
def test_structures_equal_the_simulation(name: str, element: str) -> None:
    """Samples as they are, then the largest of every sign: nothing leaves its stated bound."""
    graph = quantised(name, element)
    usual = coded(random_window(graph, 15, seed=1)["x"])
    signs = np.sign(usual[0] + 0.5).astype(np.int16)
    extreme = np.concatenate(
        [usual, np.stack([32767 * signs] * 25), np.stack([-32767 * signs] * 9)]
    )
    check_integers(graph, extreme)


@pytest.mark.needs("cc")
@pytest.mark.parametrize("name", ["cuba-leak", "recurrent", "weights", "two", "spatial"])
def test_host_c_gives_the_same_bits(name: str) -> None:
    """Outputs of every step; the state is C's own."""
    graph = quantised(name)
    program = lowered(graph).program
    emission = emit(program, version="test")
    machine, interpreter = HostMachine(emission.library, flags=STRICT), Interpreter(program)
    for sample in coded(random_window(graph, 10, seed=3)["x"]):
        fed = {"x": sample[None]}
        assert_identical(
            interpreter.step(fed), run_machine(machine, emission, fed, step=True), name
        )


@pytest.mark.needs("cortex-m compiler")
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
@pytest.mark.parametrize("name", ["cuba-leak", "weights"])
def test_emulated_cores_give_the_same_bits(name: str, core: str, tmp_path: Path) -> None:
    """As on the host."""
    graph, where = quantised(name), target(core)
    program = lowered(graph).program
    emission = emit(program, features=where.features, version="test")
    image = build_image(emission.library, where, folder=tmp_path)
    machine, interpreter = EmulatedMachine(emission.library, where, image.elf), Interpreter(program)
    for sample in coded(random_window(graph, 10, seed=3)["x"]):
        fed = {"x": sample[None]}
        assert_identical(
            interpreter.step(fed), run_machine(machine, emission, fed, step=True), name
        )


# How near the integers are to float32


MOST_DIFFERENT = 1 / 1000
"""Share of a population's places in a window at which integers may fire otherwise than float32."""


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_integers_fire_as_float32_does(leak: float) -> None:
    """CubaLIF networks with reset zero: at most one place in 1000 differs."""
    different = places = fired = 0
    for seed in range(4):
        graph = quantize_weights(cuba_graph(seed, leak), "int8")
        codes = coded(random_window(graph, 60, seed=seed)["x"])
        got = Interpreter(lowered(graph).program).run_sequence({"x": codes[:, None]})
        want = Simulator(graph).run(codes * np.float32(SCALE))
        for name, spikes in want.items():
            different += int((got[name][:, 0] != spikes).sum())
            places += spikes.size
            fired += int(spikes.sum())
    assert different <= MOST_DIFFERENT * places
    assert 0.03 * places < fired < 0.6 * places


def test_weights_read_membranes_in_16_bits() -> None:
    """Neurons behind them differ more; what they read is off by half a step at most."""
    graph = quantised("weights")
    found = lowered(graph)
    (read,) = found.membranes["lif"].reads
    form = found.membranes["syn"]
    assert (read.source, read.dtype, read.limited) == ("syn", "int16", False)
    # One step is 2**-15 to 2**-14 of the largest membrane.
    largest = form.bound * form.step.max()
    assert read.bound <= 32767
    assert largest * 2.0**-16 <= read.step[0] <= largest * 2.0**-14 * 1.01
    seen: dict[str, np.ndarray] = {}
    interpreter = Interpreter(found.program)
    codes = coded(random_window(graph, 20, seed=1)["x"])
    for sample in codes:
        interpreter.step({"x": sample[None]}, seen.__setitem__)
        real = seen["syn.membrane.next"][0] * form.step
        assert np.abs(seen["syn.codes"][0] * read.step - real).max() <= 0.5001 * read.step[0]
        assert np.abs(real).max() > 20 * read.step[0]


# What is stated


def test_formats_state_what_is_read() -> None:
    """Units, bounds and the bits that are rounded off, with a sentence for each."""
    found = lowered(quantised("direct"))
    syn, lif = found.membranes["syn"], found.membranes["lif"]
    (read,) = lif.reads
    assert (read.source, read.dtype, read.bound) == ("syn", "int32", syn.bound)
    np.testing.assert_array_equal(read.step, syn.step)
    assert "'syn'" in read.proof and str(syn.bound) in read.proof
    assert lif.limit is None and lif.bound is not None
    # Its gain of up to 20 does not fit beside the finest synapse: bits are rounded off.
    assert lif.shift > 0 and lif.fraction == 0
    np.testing.assert_allclose(lif.step, syn.step * 2.0**lif.shift)
    assert syn.reads == () and syn.shift == 0


def test_one_operation_joins_integrator_and_neurons() -> None:
    """Nothing but the rounding stands between them, under the populations' names."""
    program = lowered(quantised("direct")).program
    names = [(op.name, op.operator.name) for op in program.operations]
    assert ("syn", "leaky") in names and ("lif", "leaky") in names
    assert [n for n, _ in names if n not in ("w", "syn", "lif", "out")] == ["lif/rescale"]


def test_codes_are_made_once() -> None:
    """Two populations behind two products read one tensor."""
    make = Maker(3, "leaky", "zero")
    graph = graph_of({"v": make.linear(COUNT, COUNT, 0.7)}, make, u=make.linear(COUNT, COUNT, 0.5))
    nodes = {**graph.nodes, "other": neurons(make), "spikes": Output()}
    edges = (*graph.edges, *chain("syn", "u", "other", "spikes"))
    graph = quantize_weights(SpikingGraph("twice", nodes, edges), "int8")
    found = check_integers(graph, coded(random_window(graph, 10)["x"]))
    kinds = [op.operator.name for op in found.program.operations]
    assert (kinds.count("rescale"), kinds.count("requantize")) == (1, 1)


def test_membranes_without_a_bound_saturate() -> None:
    """Neurons behind an integrator that forgets nothing say so of what they read."""
    found = lowered(quantised("no-leak"))
    (read,) = found.membranes["lif"].reads
    assert read.limited and read.bound == found.membranes["sum"].limit
    assert "saturate" in read.proof
    assert any("'sum'" in note for note in found.notes)


# What stays refused


def test_a_delayed_membrane_is_refused() -> None:
    """By the neuron's name, with what would do."""
    graph = graph_of({}, Maker(3, "leaky", "zero"))
    edges = tuple(replace(e, delay=1) if e.source == "syn" else e for e in graph.edges)
    graph = quantize_weights(SpikingGraph("late", graph.nodes, edges), "int8")
    with pytest.raises(UnsupportedError, match=r"'lif'.*'syn\.value'.*step before.*float32"):
        lowered(graph)


def test_weights_on_an_endless_sum_are_refused() -> None:
    """No int16 code is sure to hold it."""
    make = Maker(3, "leaky", "zero")
    between: dict[str, Node] = {"sum": Leaky(np.float32([1]), spiking=False)}
    between["v"] = make.linear(COUNT, COUNT, 0.7)
    with pytest.raises(UnsupportedError, match=r"'lif'.*'sum'.*no bound.*float32"):
        lowered(quantize_weights(graph_of(between, make), "int8"))


def test_pools_of_membranes_are_refused() -> None:
    """The pool is named, and whose membranes it reads."""
    make = Maker(3, "leaky", "zero")
    graph = quantize_weights(spatial(make, AvgPool((2, 2)), last=neurons(make, 4)), "int8")
    with pytest.raises(UnsupportedError, match=r"'n0'.*membrane of 'syn'.*supported.*float32"):
        lowered(graph)


def test_a_product_that_leaves_is_refused() -> None:
    """Only neurons take it."""
    make = Maker(3, "leaky", "zero")
    nodes: dict[str, Node] = {
        "x": Input((5,)),
        "w": make.linear(COUNT, 5, 0.8),
        "syn": integrator(make),
        "v": make.linear(3, COUNT, 0.8),
        "out": Output(),
    }
    graph = quantize_weights(SpikingGraph("readout", nodes, chain(*nodes)), "int8")
    with pytest.raises(UnsupportedError, match=r"'v'.*membrane of 'syn'.*neurons"):
        lowered(graph)


def test_a_negative_gain_is_refused() -> None:
    """Integers count up."""
    graph = graph_of({"gain": Scale(np.float32([-0.3]))}, Maker(3, "leaky", "zero"))
    with pytest.raises(UnsupportedError, match=r"'lif'.*must be positive"):
        lowered(quantize_weights(graph, "int8"))


def test_float_and_integer_layers_do_not_mix() -> None:
    """Neurons that stay in float32 do not read integer membranes."""
    make = Maker(3, "leaky", "zero")
    graph = graph_of({"v": make.linear(COUNT, COUNT, 0.7)}, make)
    with pytest.raises(UnsupportedError, match=r"'lif'.*'syn'.*both, or of neither"):
        lowered(quantize_weights(graph, "int8", keep=["v"]))


def test_neurons_behind_real_membranes_stay_real() -> None:
    """A synapse with float weights keeps its neurons in float32, as a reported fallback."""
    make = Maker(3, "leaky", "zero")
    graph = graph_of({}, make)
    nodes = {k: n for k, n in graph.nodes.items() if k != "out"}
    nodes |= {"r": make.linear(3, COUNT, 0.9), "last": neurons(make, 3), "out": Output()}
    graph = quantize_weights(SpikingGraph("half", nodes, chain(*nodes)), "int8", keep=["w"])
    step = to_model(graph)
    with pytest.raises(UnsupportedError, match=r"stay in float32.*(\n.*)*lif"):
        lower_noted(step.model, state=step.state)
    found = lower_noted(step.model, state=step.state, allow_fallback=True)
    assert set(found.membranes) == {"last"}
    window = random_window(graph, 30, seed=1)
    got = Interpreter(found.program).run_sequence({"x": window["x"][:, None]})["out"][:, 0]
    want = Simulator(graph).run(window)["out"]
    assert (got != want).mean() <= 0.05 and want.sum() > 3


# Neurons without weights


@pytest.mark.parametrize("element", ["int8", "ternary"])
@pytest.mark.parametrize("bias", [1e-6, 0.3, 1e6])
def test_neurons_whose_weights_are_all_zero_run(element: str, bias: float) -> None:
    """Only a bias is left: any unit does for them, and the other neurons keep theirs."""
    make = Maker(5, "leaky", "subtract")
    linear = make.linear(4, 5, 0.8)
    values = linear.weight.values.copy()
    values[2] = 0
    nodes: dict[str, Node] = {
        "x": Input((5,)),
        "w": Linear(Weight(values), np.float32([0.1, 0, bias, 0])),
        "lif": Leaky(np.float32([0.9]), np.float32([1.0, 0.8, 4 * bias, 1.2])),
        "out": Output(),
    }
    graph = quantize_weights(SpikingGraph("silent", nodes, chain(*nodes)), element)
    window = random_window(graph, 40)["x"]
    found = lowered(graph)
    got = Interpreter(found.program).run_sequence({"x": coded(window)[:, None]})["out"][:, 0]
    want = Simulator(graph).run(coded(window) * np.float32(SCALE))["out"]
    assert (got != want).sum() <= 2 and want[:, 2].sum() > 3
    assert found.membranes["lif"].limit is None
    weight = graph.nodes["w"].weight
    others = [0, 1, 3]
    np.testing.assert_allclose(
        found.membranes["lif"].step[others],
        weight.scale[others] * SCALE * 2.0 ** -found.membranes["lif"].fraction,
        rtol=1e-6,
    )
