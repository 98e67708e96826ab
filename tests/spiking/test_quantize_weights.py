"""Weights as codes: shared scales, rules, what may be kept, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import InvalidModelError, UnsupportedError, UsageError
from edgekit.formats import ELEMENTS, RULES
from edgekit.spiking import (
    Edge,
    Input,
    Leaky,
    Linear,
    Output,
    Simulator,
    SpikingGraph,
    Weight,
    quantize_weights,
)
from edgekit.spiking.quantize import sharing_groups
from tests.support.spiking_graphs import (
    chain,
    convolutional_graph,
    l2mu_graph,
    random_window,
    recurrent_graph,
)

FITTING = [name for name, element in ELEMENTS.items() if element.dtype.itemsize <= 2]


def weighted(graph: SpikingGraph) -> dict[str, Any]:
    """Nodes with weights, by name."""
    return {name: node for name, node in graph.nodes.items() if hasattr(node, "weight")}


def test_groups_of_an_l2mu_cell() -> None:
    """Everything into u, into m, into h shares scales; the rest is alone."""
    assert sharing_groups(l2mu_graph()) == (
        ("c_in",),
        ("c_enc",),
        ("c_x",),
        ("e_x", "e_h", "e_m"),
        ("a", "b"),
        ("w_x", "w_h", "w_m"),
        ("w_o",),
    )


def test_a_node_that_two_populations_read_joins_their_groups() -> None:
    """Scales must fit everywhere; a node that no population reads is alone."""
    weight = Weight(np.ones((2, 2)))
    nodes = {
        "x": Input((2,)),
        **{name: Linear(weight) for name in ("a", "both", "b", "free")},
        "lif1": Leaky(0.5),
        "lif2": Leaky(0.5),
        "y": Output(),
    }
    edges = [Edge("x", name) for name in ("a", "both", "b", "free")]
    edges += [Edge("a", "lif1"), Edge("both", "lif1"), Edge("b", "lif2"), Edge("both", "lif2")]
    edges += [Edge(name, "y") for name in ("lif1", "lif2", "free")]
    assert sharing_groups(SpikingGraph("g", nodes, tuple(edges))) == (("a", "both", "b"), ("free",))


@pytest.mark.parametrize("element", FITTING)
def test_every_element_makes_a_valid_graph(element: str) -> None:
    """Codes are levels, scales are shared, and the error is at most that of any shared scale."""
    graph = l2mu_graph(seed=7)
    coded = quantize_weights(graph, element)
    coded.validate()
    nodes, before = weighted(coded), weighted(graph)
    assert all(node.weight.element == element for node in nodes.values())
    for names in sharing_groups(graph):
        scales = [nodes[name].weight.scale for name in names]
        assert all(np.array_equal(scale, scales[0]) for scale in scales)
    for name, node in nodes.items():
        assert np.array_equal(node.bias, before[name].bias) or node.bias is before[name].bias
        step = node.weight.scale[:, None] * np.max(np.diff(ELEMENTS[element].levels))
        inside = np.abs(before[name].weight.values) <= (
            node.weight.scale[:, None] * min(-ELEMENTS[element].minimum, ELEMENTS[element].maximum)
        )
        error = np.abs(node.weight.values - before[name].weight.values)
        assert (error[inside] <= np.broadcast_to(step * 0.5001, error.shape)[inside]).all()


def test_int8_reaches_the_largest_weight_of_a_neuron() -> None:
    """The rule absmax over all rows into the neuron: one of them has ±127, none saturates."""
    coded = weighted(quantize_weights(l2mu_graph(), "int8"))
    codes = np.concatenate([coded[name].weight.codes for name in ("w_x", "w_h", "w_m")], axis=1)
    assert (np.abs(codes.astype(int)).max(axis=1) == 127).all()
    error = coded["w_h"].weight.values - weighted(l2mu_graph())["w_h"].weight.values
    assert (np.abs(error) <= coded["w_h"].weight.scale[:, None] * 0.5001).all()


def test_ternary_scale_is_the_mean_magnitude_of_a_neuron() -> None:
    """BitNet b1.58's rule, with all rows of a neuron."""
    before = weighted(l2mu_graph())
    rows = np.concatenate([before[name].weight.values for name in ("w_x", "w_h", "w_m")], axis=1)
    coded = weighted(quantize_weights(l2mu_graph(), "ternary"))
    np.testing.assert_allclose(coded["w_x"].weight.scale, np.abs(rows).mean(axis=1), rtol=1e-6)
    ratio = before["w_x"].weight.values / coded["w_x"].weight.scale[:, None]
    assert np.array_equal(coded["w_x"].weight.codes, np.clip(np.rint(ratio), -1, 1))


@pytest.mark.parametrize("element", ["int4", "shift3"])
def test_mse_beats_absmax(element: str) -> None:
    """The searched scale has a smaller error than the one that saturates nothing."""
    graph = l2mu_graph(hidden=40)
    before = weighted(graph)

    def error(coded: SpikingGraph) -> float:
        names = ("w_x", "w_h", "w_m")
        return sum(
            float(np.square(node.weight.values - before[name].weight.values).sum())
            for name, node in weighted(coded).items()
            if name in names
        )

    searched = error(quantize_weights(graph, element))
    assert searched < 0.97 * error(quantize_weights(graph, element, rule="absmax"))
    assert searched == error(quantize_weights(graph, element, rule="mse"))


def test_convolutions_have_a_scale_per_channel() -> None:
    """Rows of a convolution are its output channels."""
    coded = weighted(quantize_weights(convolutional_graph(), "int8"))
    assert coded["conv2"].weight.codes.shape == (6, 2, 3, 3)
    assert (np.abs(coded["conv2"].weight.codes.astype(int)).reshape(6, -1).max(axis=1) == 127).all()


def test_a_good_format_hardly_changes_what_the_network_does() -> None:
    """At int8 membranes stay near those of the float network; at ternary they do not."""
    graph = recurrent_graph()
    window = random_window(graph, 40)
    want = Simulator(graph).run(window)["membrane"]
    gaps = {
        element: np.abs(
            Simulator(quantize_weights(graph, element)).run(window)["membrane"][:8] - want[:8]
        ).max()
        for element in ("int8", "ternary")
    }
    assert gaps["int8"] < 0.05 < gaps["ternary"]


def test_groups_may_be_kept_or_be_another_element() -> None:
    """The memory's fixed matrices in int8, the input in float, the rest ternary."""
    graph = l2mu_graph()
    coded = quantize_weights(graph, "ternary", keep=["c_in"], elements={"a": "int8", "b": "int8"})
    elements = {name: node.weight.element for name, node in weighted(coded).items()}
    assert elements.pop("c_in") is None
    assert elements.pop("a") == elements.pop("b") == "int8"
    assert set(elements.values()) == {"ternary"}
    assert not any(node.weight.quantized for node in weighted(graph).values())


def test_weights_that_are_coded_already_are_coded_anew() -> None:
    """The same element again changes nothing where the scale reaches the largest weight."""
    once = quantize_weights(l2mu_graph(), "int8")
    twice = weighted(quantize_weights(once, "int8"))
    assert all(
        np.array_equal(node.weight.codes, twice[n].weight.codes)
        for n, node in weighted(once).items()
    )


@pytest.mark.parametrize("element", ["int8", "int4", "ternary", "shift3"])
def test_a_neuron_without_weights_has_a_scale(element: str) -> None:
    """Rows of zeros have no magnitude; what becomes of them is as small as can be."""
    graph = recurrent_graph()
    node: Any = graph.nodes["w"]
    other: Any = graph.nodes["v"]
    silent = graph.with_nodes(
        {
            "w": Linear(Weight(np.concatenate([node.weight.values[:-1], np.zeros((1, 4))]))),
            "v": Linear(Weight(np.concatenate([other.weight.values[:-1], np.zeros((1, 10))]))),
        }
    )
    coded = weighted(quantize_weights(silent, element))
    assert np.abs(coded["w"].weight.values[-1]).max() < 1e-30
    assert RULES["absmax"](np.zeros((1, 4), np.float32), ELEMENTS[element])[0] > 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("int99",), UsageError, "no number format 'int99'"),
        (("fp8-e4m3",), UnsupportedError, "its integers exceed 16 bits; supported: int2"),
        (("int8", ["ghost"]), UsageError, "no weights are called 'ghost', there are: c_in, "),
        (("int8", ["s_h"]), UsageError, "no weights are called 's_h'"),
        (("int8", ["w_h"]), UsageError, "w_x: int8, w_h: kept, w_m: int8; they lead into the same"),
        (("int8", [], {"w_h": "int4"}), UsageError, "w_x: int8, w_h: int4, w_m: int8"),
        (("int8", ["w_o"], {"w_o": "int4"}), UsageError, "'w_o' is to be kept and to become int4"),
        (("int8", [], {}, "best"), UsageError, "no rule 'best' for scales"),
    ],
)
def test_what_cannot_be_is_refused(arguments: Any, error: Any, message: str) -> None:
    """Unknown names, parts of a population, integers of more than 16 bits."""
    names = ("element", "keep", "elements", "rule")
    given = dict(zip(names, arguments, strict=False))
    with pytest.raises(error) as raised:
        quantize_weights(l2mu_graph(), given.pop("element"), **given)
    assert message in str(raised.value)


def test_an_invalid_graph_is_not_quantised() -> None:
    """It validates first."""
    with pytest.raises(InvalidModelError):
        quantize_weights(SpikingGraph("g", {"x": Input((1,))}, chain("x")), "int8")
