"""Spiking graphs: what is refused and why, order, shapes, and what is called spikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekit.errors import InvalidModelError
from edgekit.spiking import (
    AvgPool,
    Conv,
    Count,
    Edge,
    Flatten,
    Input,
    Leaky,
    Linear,
    MaxPool,
    Output,
    Scale,
    SpikingGraph,
    SumPool,
    Synaptic,
    Weight,
    identifier,
)
from tests.support.spiking_graphs import all_graphs, chain, convolutional_graph, l2mu_graph

GRAPHS = all_graphs()


def dense(outputs: int, inputs: int, groups: int = 1) -> Linear:
    """Weights of 1."""
    return Linear(Weight(np.ones((outputs, inputs // groups))), None, groups)


def changed(nodes: dict[str, Any], *edges: Edge, **fields: Any) -> SpikingGraph:
    """x[3] -> w -> lif[2] -> y, with other or more nodes and edges."""
    base = {"x": Input((3,)), "w": dense(2, 3), "lif": Leaky(0.9), "y": Output()}
    return SpikingGraph(
        fields.pop("name", "net"), base | nodes, (*chain("x", "w", "lif", "y"), *edges), **fields
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_order_puts_every_value_in_front_of_its_readers(name: str) -> None:
    """Edges without delay go forward; every node comes once."""
    graph = GRAPHS[name]
    graph.validate()
    order = graph.order()
    assert sorted(order) == sorted(graph.nodes)
    for edge in graph.edges:
        if not edge.delay:
            assert order.index(edge.source) < order.index(edge.target)


def test_order_does_not_depend_on_the_edges() -> None:
    """The same nodes with edges in another order run in the same order."""
    graph = l2mu_graph()
    turned = SpikingGraph(graph.name, graph.nodes, tuple(reversed(graph.edges)))
    assert turned.order() == graph.order()


def test_shapes_of_a_convolutional_graph() -> None:
    """Padding, stride, groups and pooling, by hand."""
    shapes = convolutional_graph().shapes()
    assert shapes["conv1"] == shapes["lif1"] == (4, 12, 10)
    assert shapes["pool"] == (4, 6, 5)
    assert shapes["conv2"] == (6, 3, 5)
    assert shapes["flat"] == (90,)


def test_a_window_that_does_not_fit_whole_is_left_out() -> None:
    """Extents are rounded down, one-sided padding counts once."""
    conv = Conv(Weight(np.ones((1, 1, 3))), stride=(2,), padding=(1, 0), dilation=(2,))
    assert conv.output_shape((1, 10)) == (1, 4)
    assert MaxPool((3, 2), stride=(2,), padding=(1, 0)).output_shape((5, 8, 8)) == (5, 4, 4)


def test_spikes_are_populations_and_what_moves_them() -> None:
    """Sums, averages and integrators are no spikes; a maximum of spikes is."""
    graphs = {pool: convolutional_graph(pool=pool) for pool in (MaxPool, SumPool, AvgPool)}
    found = {pool: graph.spikes() for pool, graph in graphs.items()}
    assert found[MaxPool] == {"lif1", "pool", "lif2", "flat", "lif3"}
    assert found[SumPool] == found[AvgPool] == found[MaxPool] - {"pool"}
    assert GRAPHS["recurrent"].spikes() == {"lif"}
    assert GRAPHS["recurrent"].populations() == ("lif",)
    assert GRAPHS["l2mu"].delayed() == ("s_m", "s_h")


def test_every_population_of_the_test_graphs_spikes_and_pauses() -> None:
    """The graphs that all tests share are neither silent nor saturated."""
    from edgekit.spiking import measure
    from tests.support.spiking_graphs import random_window

    for name, graph in GRAPHS.items():
        window = {key: array[None] for key, array in random_window(graph, 40).items()}
        rates = measure(graph, window).rates
        assert rates
        assert all(0.02 < rate < 0.9 for rate in rates.values()), (name, rates)


BROKEN: dict[str, tuple[Callable[[], SpikingGraph], str]] = {
    "unknown node": (lambda: changed({}, Edge("ghost", "lif")), "there is no node 'ghost'"),
    "long delay": (lambda: changed({}, Edge("lif", "lif", 2)), "must be 0 or 1 steps"),
    "cycle": (
        lambda: changed({"back": dense(2, 2)}, Edge("lif", "back"), Edge("back", "lif")),
        "a cycle without delay: lif -> back -> lif",
    ),
    "own cycle": (lambda: changed({}, Edge("lif", "lif")), "without delay: lif -> lif"),
    "edge into an input": (lambda: changed({}, Edge("lif", "x", 1)), "leads into an Input"),
    "edge out of an output": (lambda: changed({}, Edge("y", "lif", 1)), "out of an Output"),
    "no incoming edge": (lambda: changed({"w2": dense(2, 3)}), "'w2' has no incoming edge"),
    "an island": (
        lambda: changed({"a": Scale([1.0]), "b": Scale([1.0])}, Edge("a", "b", 1), Edge("b", "a")),
        "no Input reaches node 'a'",
    ),
    "no input": (
        lambda: SpikingGraph("net", {"lif": Leaky(0.9), "y": Output()}, chain("lif", "y")),
        "has no Input",
    ),
    "no output": (
        lambda: SpikingGraph("net", {"x": Input((3,)), "lif": Leaky(0.9)}, chain("x", "lif")),
        "has no Output",
    ),
    "wide input": (lambda: changed({"x": Input((4,))}), "'w': reads the shape [4], must be [3]"),
    "spatial input": (lambda: changed({"x": Input((3, 1))}), "a Flatten node is missing"),
    "several shapes": (
        lambda: changed({}, Edge("x", "lif", 1)),
        "'lif' adds values of several shapes: w [2], x [3]",
    ),
    "beta per neuron": (
        lambda: changed({"lif": Leaky([0.1, 0.2, 0.3])}),
        "'lif': beta has the shape [3], must be one number, [2] or [2]",
    ),
    "hostile name": (lambda: changed({"a.b; rm": Flatten()}), "the name 'a.b; rm' must be"),
    "long name": (lambda: changed({"n" * 121: Flatten()}), "at most 120"),
    "hostile graph name": (lambda: changed({}, name="../net"), "the name '../net' must be"),
    "foreign node": (lambda: changed({"w": object()}), "'w' is object, must be one of Input"),
    "dt": (lambda: changed({}, dt_seconds=0.0), "dt_seconds is 0.0"),
    "dt text": (lambda: changed({}, dt_seconds="0.05"), "dt_seconds is '0.05', must be positive"),
    "dt nan": (lambda: changed({}, dt_seconds=float("nan")), "dt_seconds is nan"),
    "huge": (
        lambda: changed({"x": Input((2**20, 2**20))}),
        "more than 67108864 elements",
    ),
    "large kernel": (
        lambda: SpikingGraph(
            "net",
            {"x": Input((1, 4)), "c": Conv(Weight(np.ones((1, 1, 5)))), "y": Output()},
            chain("x", "c", "y"),
        ),
        "the kernel reaches over 5 of 4 padded values of axis 1",
    ),
    "pool of a flat population": (
        lambda: changed({"p": MaxPool((2,))}, Edge("lif", "p")),
        "'p': reads the shape [2], must be channels and 1 axes",
    ),
    "factor": (
        lambda: changed({"s": Scale(np.ones(3))}, Edge("lif", "s")),
        "factor has the shape [3], the input [2]",
    ),
    "factor that enlarges": (
        lambda: changed({"s": Scale(np.ones((4, 2)))}, Edge("lif", "s")),
        "factor has the shape [4, 2], the input [2]",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_validate_refuses(case: str) -> None:
    """Each mistake has its message, which names the place."""
    make, message = BROKEN[case]
    with pytest.raises(InvalidModelError) as error:
        make().validate()
    assert message in str(error.value)


def ones(*shape: int) -> Weight:
    """Weights of 1."""
    return Weight(np.ones(shape))


def coded(codes: Any = ((1, -1),), scale: Any = (0.5,), element: str = "ternary") -> Weight:
    """Two ternary weights, or broken ones."""
    return Weight(np.array([[0.5, -0.5]]), np.array(codes, np.int8), np.array(scale), element)


BROKEN_NODES: dict[str, tuple[Callable[[], object], str]] = {
    "beta above 1": (lambda: Leaky([0.5, 1.5]), "beta at [1] is 1.5, must be in [0, 1]"),
    "beta below 0": (lambda: Leaky(-0.1), "must be in [0, 1]"),
    "beta nan": (lambda: Leaky(np.nan), "beta at [] is nan, must be finite"),
    "alpha": (lambda: Synaptic(2, 0.5), "alpha at [0] is 2.0, must be in [0, 1]"),
    "no beta": (lambda: Leaky([]), "beta is empty"),
    "text": (lambda: Leaky("fast"), "beta is no array of numbers"),
    "beyond a float": (lambda: Leaky(0.5, 10**400), "threshold is no array of numbers"),
    "threshold": (lambda: Leaky(0.5, np.inf), "threshold at [] is inf"),
    "reset": (lambda: Leaky(0.5, 1, "soft"), "must be one of subtract, zero, none"),
    "weights nan": (lambda: Weight([[1.0, np.nan]]), "weights at [0, 1] is nan"),
    "weights beyond float32": (lambda: Weight([[1e39]]), "weights at [0, 0] is 1e+39"),
    "weights of one axis": (lambda: Weight([1.0]), "must be [O,K], [O,I,k] or [O,I,kh,kw]"),
    "no weights": (lambda: Weight(np.ones((0, 3))), "at least one element"),
    "linear rank": (lambda: Linear(ones(2, 3, 3)), "must be [O,K]"),
    "conv rank": (lambda: Conv(ones(2, 3)), "must be [O,I,k] or [O,I,kh,kw]"),
    "groups": (lambda: Linear(ones(4, 3), None, 3), "groups is 3, must divide the 4 outputs"),
    "no groups": (lambda: Linear(ones(4, 3), None, 0), "groups is 0"),
    "bias": (lambda: Linear(ones(4, 3), np.ones(3)), "bias has the shape [3], must be [4]"),
    "bias inf": (lambda: Linear(ones(1, 3), [np.inf]), "bias at [0] is inf"),
    "stride": (lambda: Conv(ones(1, 1, 3), stride=0), "stride is 0"),
    "strides": (lambda: Conv(ones(1, 1, 3), stride=(1, 1)), "stride is [1, 1], must be one"),
    "padding": (lambda: Conv(ones(1, 1, 3), padding=-1), "padding is -1"),
    "paddings": (lambda: Conv(ones(1, 1, 3), padding=(1, 1, 1)), "padding is [1, 1, 1]"),
    "dilation": (lambda: Conv(ones(1, 1, 3), dilation="2"), "dilation is '2'"),
    "pool padding": (lambda: MaxPool(2, padding=2), "makes windows of padding alone"),
    "pool kernel": (lambda: AvgPool((2, 2, 2)), "must have 1 or 2 axes"),
    "shape": (lambda: Input((2, 0)), "shape is (2, 0), must be whole numbers of at least 1"),
    "shape rank": (lambda: Input((1, 2, 3, 4)), "must have 1 to 3 axes"),
    "shape of fractions": (lambda: Input((2.5,)), "must be whole numbers"),
    "shape of truth": (lambda: Input(()), "must have 1 to 3 axes"),
    "codes without scale": (
        lambda: Weight(np.ones((1, 1)), np.ones((1, 1), np.int8)),
        "only some of codes, scale and element",
    ),
    "element": (lambda: coded(element="int99"), "weights of the element 'int99'"),
    "no level": (lambda: coded(codes=((2, -1),)), "codes: ternary: 2 at [0, 0] is no level"),
    "codes' shape": (lambda: coded(codes=((1,), (-1,))), "codes are int8[2, 1]"),
    "codes' type": (
        lambda: Weight([[1.0]], np.ones((1, 1), np.int64), np.ones(1), "int8"),
        "codes are int64[1, 1], must be int8 or int16[1, 1]",
    ),
    "scale": (lambda: coded(scale=(-0.5,)), "scale is [-0.5], must be 1 positive numbers"),
    "scales": (lambda: coded(scale=(0.5, 0.5)), "must be 1 positive numbers"),
    "other values": (lambda: coded(scale=(0.25,)), "are not the codes times the scales"),
}


@pytest.mark.parametrize("case", BROKEN_NODES)
def test_nodes_refuse(case: str) -> None:
    """A node checks its own parameters when it is made."""
    make, message = BROKEN_NODES[case]
    with pytest.raises(InvalidModelError) as error:
        make()
    assert message in str(error.value)


def test_arrays_are_copied_and_read_only() -> None:
    """What a caller changes later does not reach the graph."""
    values = np.ones((2, 2), np.float32)
    weight = Weight(values)
    values[:] = np.nan
    assert (weight.values == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        weight.values[0, 0] = 2
    with pytest.raises(TypeError):
        changed({}).nodes["x"] = Count()  # type: ignore[index]


def test_every_level_of_an_element_is_a_weight() -> None:
    """Codes decode by one multiplication; int16 codes are kept."""
    codes = np.array([[128, -128, 1]], np.int16)
    weight = Weight.of_codes(codes, np.float32([0.1]), "shift4")
    assert weight.values.tolist() == (np.float32([[128, -128, 1]]) * np.float32(0.1)).tolist()
    assert weight.quantized
    assert weight.format.name == "shift4"


def test_identifier_makes_legal_and_free_names() -> None:
    """Whatever a file calls its nodes, the result validates."""
    taken: set[str] = set()
    for text in ("layers.0", "layers/0", "0", "", "\x00", "é" * 300, "a" * 300, "lif", "lif"):
        name = identifier(text, taken)
        assert name not in taken
        taken.add(name)
        SpikingGraph(
            "net", {"x": Input((1,)), name: Leaky(0.5), "y": Output()}, chain("x", name, "y")
        ).validate()
