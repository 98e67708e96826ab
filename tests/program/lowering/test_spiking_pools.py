"""Pools in front of neurons: the Program against plain NumPy, C, and float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir
import pytest

from edgekit.errors import UnsupportedError
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import DType
from edgekit.program.lowering import Lowered, SpikingOptions, int16_scale, lower_noted
from edgekit.spiking.graph import Edge, SpikingGraph
from edgekit.spiking.nodes import (
    AvgPool,
    Conv,
    Flatten,
    Input,
    Leaky,
    MaxPool,
    Node,
    Output,
    Scale,
    SumPool,
)
from edgekit.spiking.quantize import quantize_weights
from edgekit.spiking.simulate import Simulator
from edgekit.spiking.to_model import SpikingModel, to_model
from edgekit.spiking.weight import Weight
from edgekit.targets.c.emit import emit
from edgekit.targets.emulated import EmulatedMachine
from edgekit.targets.host import HostMachine
from edgekit.targets.image import build_image
from edgekit.targets.target import target
from tests.support.chain import STRICT, assert_identical, run_machine
from tests.support.spiking_graphs import Maker, Population, chain, random_window
from tests.support.spiking_integers import IntegerNetwork

SCALE = int16_scale(-4.0, 4.0)


def lowered(graph: SpikingGraph, step: SpikingModel | None = None) -> Lowered:
    """The Program of a quantised graph's step."""
    step = step or to_model(graph)
    options = SpikingOptions(input_scale=dict.fromkeys(graph.inputs(), SCALE))
    return lower_noted(step.model, state=step.state, spiking=options)


def coded(values: np.ndarray) -> np.ndarray:
    """int16 codes of samples."""
    return np.clip(np.rint(values / SCALE), -32767, 32767).astype(np.int16)


# Structures


def pooled(
    make: Maker, extents: tuple[int, ...], *between: Node, channels: int = 5
) -> SpikingGraph:
    """A convolution with a bias, what is between, neurons and their spikes."""
    kernel = (3, 3)[: len(extents)]
    nodes: dict[str, Node] = {
        "x": Input((2, *extents)),
        "conv": make.conv(channels, 2, kernel, 0.8, padding=1),
    }
    nodes |= {f"n{k}": node for k, node in enumerate(between)}
    nodes |= {"lif": make.neuron(channels), "out": Output()}
    return SpikingGraph("pooled", nodes, chain(*nodes))


def two(make: Maker, pool: Node) -> SpikingGraph:
    """The pool of a sum: samples, and the spikes of the layer in front, a shift apart."""
    nodes: dict[str, Node] = {
        "x": Input((2, 6, 8)),
        "first": make.conv(3, 2, (1, 1), 0.8),
        "s": make.neuron(3),
        "direct": make.conv(4, 2, (3, 3), 0.5, padding=1),
        "behind": make.conv(4, 3, (1, 1), 0.8),
        "pool": pool,
        "lif": make.neuron(1),
        "out": Output(),
    }
    edges = (*chain("x", "first", "s", "behind", "pool", "lif", "out"), *chain("x", "direct"))
    return SpikingGraph("two", nodes, (*edges, Edge("direct", "pool")))


def recurrent(make: Maker, pool: Node) -> SpikingGraph:
    """The pool of a current beside the weights of the neurons' own spikes."""
    graph = pooled(make, (8, 6), pool)
    nodes = {**graph.nodes, "back": make.conv(5, 5, (3, 3), 0.4, padding=1)}
    return SpikingGraph(
        "recurrent", nodes, (*graph.edges, Edge("lif", "back", delay=1), Edge("back", "lif"))
    )


def both(make: Maker) -> SpikingGraph:
    """Two pools of unlike windows into one neuron."""
    graph = pooled(make, (8, 6), MaxPool((2, 2)))
    extra = {
        "other": make.conv(5, 2, (1, 1), 0.5),
        "mean": AvgPool((4, 2), stride=2, padding=(1, 0)),
    }
    edges = (*graph.edges, *chain("x", "other", "mean", "lif"))
    return SpikingGraph("both", {**graph.nodes, **extra}, edges)


def features(make: Maker) -> SpikingGraph:
    """Neurons that pool their fan-in: a flat layer behind the pool of an image."""
    graph = pooled(make, (8, 6), MaxPool((2, 2)), Flatten())
    flat: dict[str, Node] = {"lif": make.neuron(5 * 4 * 3), "fc": make.linear(3, 60, 0.8)}
    nodes = {**graph.nodes, **flat, "last": make.neuron(3)}
    return SpikingGraph(
        "features", nodes, chain("x", "conv", "n0", "n1", "lif", "fc", "last", "out")
    )


def negative(make: Maker) -> SpikingGraph:
    """Currents that are below 0 everywhere: a place of the padding would win."""
    weight = -make.rng.uniform(0.1, 0.5, (3, 2, 1, 1)).astype(np.float32)
    nodes: dict[str, Node] = {
        "x": Input((2, 5, 5)),
        "conv": Conv(Weight(weight)),
        "pool": MaxPool((3, 3), stride=2, padding=1),
        "lif": Leaky(np.float32([0.5]), spiking=False),
        "out": Output(),
    }
    return SpikingGraph("negative", nodes, chain(*nodes))


def samples(make: Maker) -> SpikingGraph:
    """Means of samples without weights in between, which a layer behind has."""
    layer = {"lif": make.neuron(2), "w": make.conv(3, 2, (3, 3), 0.8), "s": make.neuron(3)}
    nodes = {"x": Input((2, 8, 6)), "pool": AvgPool((2, 2)), **layer, "out": Output()}
    return SpikingGraph("samples", nodes, chain(*nodes))


GRAPHS: dict[str, Callable[[Maker], SpikingGraph]] = {
    "max": lambda m: pooled(m, (8, 6), MaxPool((2, 2))),
    "max-padded": lambda m: pooled(m, (7, 8), MaxPool((3, 3), stride=2, padding=1)),
    "max-one-side": lambda m: pooled(
        m, (7, 8), MaxPool((3, 2), stride=(1, 3), padding=(2, 0, 0, 1))
    ),
    "max-1d": lambda m: pooled(m, (11,), MaxPool((3,), stride=2, padding=1)),
    "avg": lambda m: pooled(m, (8, 6), AvgPool((2, 2))),
    "avg-padded": lambda m: pooled(m, (7, 8), AvgPool((3, 3), stride=2, padding=1)),
    "avg-1d": lambda m: pooled(m, (12,), AvgPool((3,))),
    "avg-1d-padded": lambda m: pooled(m, (13,), AvgPool((4,), stride=3, padding=2)),
    "sum": lambda m: pooled(m, (8, 6), SumPool((2, 3), stride=2, padding=(0, 1))),
    "chain": lambda m: pooled(
        m, (9, 8), MaxPool((2, 2), stride=1), AvgPool((2, 2)), MaxPool((2, 1))
    ),
    "scaled": lambda m: pooled(
        m,
        (8, 6),
        Scale(m.rng.uniform(0.5, 2, (5, 1, 1))),
        MaxPool((2, 2)),
        Scale(np.float32([0.7])),
    ),
    "two-max": lambda m: two(m, MaxPool((2, 2))),
    "two-avg": lambda m: two(m, AvgPool((3, 3), stride=2)),
    "recurrent-max": lambda m: recurrent(m, MaxPool((2, 2))),
    "recurrent-avg": lambda m: recurrent(m, AvgPool((2, 2))),
    "both": both,
    "features": features,
    "negative": negative,
    "samples": samples,
}


def quantised(name: str, element: str = "int8", population: Population = "leaky") -> SpikingGraph:
    """A structure with coded weights."""
    return quantize_weights(GRAPHS[name](Maker(3, population, "subtract")), element)


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
            membrane, own = network.state[name], seen[f"{name}.membrane.next"].reshape(-1)
            # Channels lie last, in the flat population behind an image too.
            image = membrane.reshape(5, 4, 3) if membrane.shape == (60,) else membrane
            lying = image if image.ndim == 1 else np.moveaxis(image, 0, -1)
            assert np.array_equal(own, lying.reshape(-1)), name
    return found


def extremes(graph: SpikingGraph, steps: int) -> np.ndarray:
    """Samples as they are, then the largest of every sign."""
    usual = coded(random_window(graph, steps, seed=1)["x"])
    signs = np.sign(usual[0] + 0.5).astype(np.int16)
    return np.concatenate([usual, np.stack([32767 * signs] * 5), np.stack([-32767 * signs] * 5)])


@pytest.mark.parametrize("element", ["int8", "ternary"])
@pytest.mark.parametrize("name", GRAPHS)
def test_structures_equal_the_simulation(name: str, element: str) -> None:
    """Leaky with one element, Synaptic with the other; nothing leaves its stated bound."""
    graph = quantised(name, element, "synaptic" if element == "ternary" else "leaky")
    found = check_integers(graph, extremes(graph, 6))
    assert "current_pool_2d" in {op.operator.name for op in found.program.operations}


@pytest.mark.needs("cc")
@pytest.mark.parametrize("name", ["max-padded", "avg-1d-padded", "two-max", "both", "features"])
def test_host_c_gives_the_same_bits(name: str) -> None:
    """Outputs of every step; the state is C's own."""
    graph = quantised(name)
    program = lowered(graph).program
    emission = emit(program, version="test")
    machine, interpreter = HostMachine(emission.library, flags=STRICT), Interpreter(program)
    for sample in extremes(graph, 4):
        fed = {"x": sample[None]}
        assert_identical(
            interpreter.step(fed), run_machine(machine, emission, fed, step=True), name
        )


@pytest.mark.needs("cortex-m compiler")
@pytest.mark.parametrize(
    ("name", "core"), [("max-padded", "cortex-m0plus"), ("avg-1d-padded", "cortex-m4")]
)
def test_emulated_cores_give_the_same_bits(name: str, core: str, tmp_path: Path) -> None:
    """As on the host."""
    graph, where = quantised(name, "ternary", "synaptic"), target(core)
    program = lowered(graph).program
    emission = emit(program, features=where.features, version="test")
    image = build_image(emission.library, where, folder=tmp_path)
    machine, interpreter = EmulatedMachine(emission.library, where, image.elf), Interpreter(program)
    for sample in extremes(graph, 3):
        fed = {"x": sample[None]}
        assert_identical(
            interpreter.step(fed), run_machine(machine, emission, fed, step=True), name
        )


@pytest.mark.parametrize("name", ["max-padded", "avg-padded", "sum", "two-max", "recurrent-avg"])
def test_integers_fire_as_float32_does(name: str) -> None:
    """At most one place in 200 differs, of neurons that spike now and then."""
    graph = quantised(name)
    codes = coded(random_window(graph, 30, seed=2)["x"])
    got = Interpreter(lowered(graph).program).run_sequence({"x": codes[:, None]})["out"][:, 0]
    want = Simulator(graph).run(codes * np.float32(SCALE))["out"]
    assert (got != want).mean() <= 1 / 200
    assert 0.02 < want.mean() < 0.95


def test_padding_is_never_the_largest() -> None:
    """Samples above 0 under weights below 0: membranes at the border are below 0 too."""
    graph = quantised("negative")
    found = lowered(graph)
    got = Interpreter(found.program).step({"x": np.full((1, 2, 5, 5), 100, np.int16)})["out"]
    assert (got < 0).all()


# The proof of the range


def reach(*between: Node) -> float:
    """Largest current that is proved, in real numbers: of neurons without memory."""
    graph = pooled(Maker(3, "leaky", "subtract"), (6, 6), *between)
    conv = graph.nodes["conv"]
    assert isinstance(conv, Conv)
    silent = {"conv": Conv(conv.weight, padding=(1,)), "lif": Leaky(np.float32([0]), spiking=False)}
    found = lowered(quantize_weights(graph.with_nodes(silent), "int8"))
    form = found.membranes["lif"]
    assert form.bound is not None and form.limit is None
    return float(form.bound * form.step.max())


@pytest.mark.parametrize(
    ("pool", "places"), [(MaxPool((3, 3)), 1), (SumPool((2, 3)), 6), (AvgPool((2, 3)), 1)]
)
def test_ranges_are_those_of_one_place_or_of_all(pool: Node, places: int) -> None:
    np.testing.assert_allclose(reach(pool), places * reach(), rtol=1e-4)


def test_sums_beyond_int32_are_refused() -> None:
    """A window of so many places is not sure to fit."""
    graph = pooled(Maker(3, "leaky", "subtract"), (90, 90), SumPool((90, 90)))
    with pytest.raises(UnsupportedError, match=r"'lif'.*must fit int32"):
        lowered(quantize_weights(graph, "int8"))


# Scales


def test_weights_in_front_of_pools_share_scales() -> None:
    """All that a population reads through pools, and beside them."""
    for name, members in (("recurrent-max", ("conv", "back")), ("both", ("conv", "other"))):
        scales = [quantised(name).nodes[member].weight.scale for member in members]
        np.testing.assert_array_equal(*scales)


# What stays refused


def refused(graph: SpikingGraph, match: str, step: SpikingModel | None = None) -> None:
    """The message names the node and says what would do, in words without internals."""
    with pytest.raises(UnsupportedError, match=match) as caught:
        lowered(graph, step)
    assert "put the pool behind the neuron, or use float32" in str(caught.value)
    assert "SpikingOptions" not in str(caught.value)


def test_means_of_unlike_windows_are_refused() -> None:
    """Padding that does not count makes them differ."""
    graph = quantised("avg-padded")
    step = to_model(graph)
    (node,) = (n for n in step.model.ir.graph if n.op_type == "AveragePool")
    node.attributes["count_include_pad"] = onnx_ir.AttrInt64("count_include_pad", 0)
    refused(graph, r"'n0'.*same number of places", step)


@pytest.mark.parametrize("pool", [MaxPool((2, 2)), AvgPool((2, 2))])
def test_places_of_unlike_scales_are_refused(pool: Node) -> None:
    """A factor for every place in front of the pool."""
    make = Maker(3, "leaky", "subtract")
    gain = Scale(make.rng.uniform(0.5, 2, (5, 8, 6)))
    conv = make.conv(5, 2, (3, 3), 0.8, padding=1)
    graph = pooled(make, (8, 6), gain, pool).with_nodes({"conv": Conv(conv.weight, padding=(1,))})
    refused(quantize_weights(graph, "int8"), r"'n1'.*worth different amounts.*'lif'")


def test_constants_that_decide_the_largest_are_refused() -> None:
    """With the convolution's bias the factors make constants of unlike places."""
    make = Maker(3, "leaky", "subtract")
    gain = Scale(make.rng.uniform(0.5, 2, (5, 8, 6)))
    graph = quantize_weights(pooled(make, (8, 6), gain, MaxPool((2, 2))), "int8")
    refused(graph, r"'n1'.*different constants")


@pytest.mark.parametrize("pool", [MaxPool((2, 2)), AvgPool((2, 2)), SumPool((2, 2))])
def test_weights_behind_pools_of_currents_are_refused(pool: Node) -> None:
    """Nothing but a pool stands between two layers of weights."""
    make = Maker(3, "leaky", "subtract")
    graph = pooled(make, (8, 6), pool, make.conv(5, 5, (1, 1), 0.8))
    refused(quantize_weights(graph, "int8"), r"'lif'.*'n0', which is a pool")
