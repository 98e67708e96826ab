"""Spiking graphs as Models: ONNX Runtime runs both, and they are the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.errors import InvalidModelError, UsageError
from edgekit.model import load, save
from edgekit.model.coded import is_dequantizer, read_coded
from edgekit.spiking import (
    Edge,
    Input,
    Leaky,
    Output,
    Simulator,
    SpikingGraph,
    quantize_weights,
    to_model,
    to_window_model,
)
from edgekit.spiking.nodes import spread_over
from tests.support.spiking_graphs import (
    all_graphs,
    convolutional_graph,
    l2mu_graph,
    late_graph,
    random_window,
    recurrent_graph,
)
from tests.support.spiking_onnx import run_steps, run_window

pytestmark = pytest.mark.needs("onnxruntime")

GRAPHS = all_graphs()
STEPS = 40
AMBIGUOUS = 1e-5
"""|membrane - threshold| up to which the order of a float sum may decide over a spike."""


def assert_same_until_ambiguous(graph: SpikingGraph, window: Any, results: Any) -> int:
    """Compare a step graph's run with the simulator's, neuron by neuron.

    Until the first spike that differs all membranes agree within 1e-5; the first that differs lies
    as good as on its threshold.

    Returns:
        Steps that were compared.
    """
    simulator = Simulator(graph)
    for step, got in enumerate(results):
        want = simulator.step({name: array[step] for name, array in window.items()})
        state = simulator.state
        for name in graph.populations():
            node: Any = graph.nodes[name]
            ours, theirs = state[f"{name}.membrane"], got[f"{name}.membrane.next"][0]
            threshold = np.broadcast_to(spread_over(node.threshold, ours.shape), ours.shape)
            differ = (ours > threshold) != (theirs > threshold)
            if differ.any():
                assert np.abs(ours - threshold)[differ].max() <= AMBIGUOUS
                return step
            np.testing.assert_allclose(theirs, ours, atol=AMBIGUOUS)
        for name, array in want.items():
            np.testing.assert_allclose(got[name][0], array, atol=AMBIGUOUS)
    return len(next(iter(window.values())))


@pytest.mark.parametrize("name", GRAPHS)
def test_the_step_graph_is_the_simulator(name: str) -> None:
    """Two windows in ONNX Runtime, with and without its own rewrites."""
    graph = GRAPHS[name]
    spiking = to_model(graph)
    compared = 0
    for seed, optimized in ((0, True), (1, False)):
        window = random_window(graph, STEPS, seed=seed)
        results = run_steps(spiking, window, optimized=optimized)
        compared += assert_same_until_ambiguous(graph, window, results)
    # A spike in 10**5 is ambiguous: most windows have none.
    assert compared > STEPS


@pytest.mark.parametrize("name", GRAPHS)
def test_the_scan_is_the_steps(name: str) -> None:
    """A window at once gives, to the bit, what its samples give one by one."""
    graph = GRAPHS[name]
    window = random_window(graph, STEPS, seed=2)
    whole = run_window(to_window_model(graph, STEPS), window)
    steps = list(run_steps(to_model(graph), window))
    for output in graph.outputs():
        assert whole[output].shape == (STEPS, 1, *graph.shapes()[output])
        assert np.array_equal(whole[output], np.stack([step[output] for step in steps]))
        assert np.array_equal(whole[f"{output}.last"], steps[-1][output])
        assert whole[output].any()


@pytest.mark.parametrize("name", GRAPHS)
def test_models_are_valid_onnx(name: str) -> None:
    """The checker of ONNX accepts both, shapes inferred strictly."""
    for model in (to_model(GRAPHS[name]).model, to_window_model(GRAPHS[name], 3)):
        proto = onnx.load_from_string(model.to_bytes())
        onnx.checker.check_model(proto)
        onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)


@pytest.mark.parametrize("name", ["last_step", "scan", "window"])
def test_any_name_may_be_an_output(name: str) -> None:
    """What a window's Scan needs besides has names that no node can have."""
    nodes = {"x": Input((2,)), "lif": Leaky(0.5), name: Output()}
    graph = SpikingGraph("net", nodes, (Edge("x", "lif"), Edge("lif", name)))
    proto = onnx.load_from_string(to_window_model(graph, 3).to_bytes())
    onnx.checker.check_model(proto)
    assert [output.name for output in proto.graph.output] == [name, f"{name}.last"]


def test_the_step_graph_says_what_is_state() -> None:
    """Inputs, then the state; outputs, then the next state; names as stated."""
    spiking = to_model(l2mu_graph(population="synaptic", stacked=False))
    graph = spiking.model.ir.graph
    populations = ("s_in", "s_u", "s_m", "s_h", "s_o")
    parts = [f"{name}.{part}" for name in populations for part in ("synaptic", "membrane")]
    parts += ["s_m.spikes", "s_h.spikes", "count.count"]
    assert sorted(spiking.state) == sorted(parts)
    assert all(after == f"{before}.next" for before, after in spiking.state.items())
    assert [value.name for value in graph.inputs] == ["samples", *spiking.state]
    assert [value.name for value in graph.outputs] == ["scores", *spiking.state.values()]
    assert [tuple(value.shape) for value in graph.inputs][:2] == [(1, 6), (1, 24)]
    assert {node.op_type for node in graph if node.domain == "edgekit"} == {"Synaptic"}


def test_values_have_the_names_of_their_nodes() -> None:
    """What a debugger looks for is there, integrators included."""
    graph = recurrent_graph()
    written = to_model(graph).model.ir.graph
    names = {value.name for node in written for value in node.outputs}
    assert {"w", "v", "lif", "readout", "membrane", "lif.sum1", "li.membrane.next"} <= names
    assert "li" not in names
    assert np.isposinf(written.initializers["li.threshold"].const_value.numpy()).all()


def test_a_delayed_value_that_is_no_spike_is_state() -> None:
    """Samples of the step before, and a spike that two nodes read delayed, kept once."""
    graph = late_graph()
    spiking = to_model(graph)
    assert set(spiking.state) == {"x.value", "lif.membrane", "lif.spikes"}
    window = random_window(graph, 10)
    want = Simulator(graph).run(window)
    for step, got in enumerate(run_steps(spiking, window)):
        assert all(np.array_equal(got[name][0], want[name][step]) for name in want)
    got = run_window(to_window_model(graph, 10), window)
    assert all(np.array_equal(got[name][:, 0], want[name]) for name in want)


@pytest.mark.parametrize("element", ["int8", "int4", "ternary", "ternary-p5", "shift3", "shift4"])
@pytest.mark.parametrize("kind", ["l2mu", "conv1", "conv2"])
def test_coded_weights_run_and_read_back(kind: str, element: str) -> None:
    """Linear, grouped Linear and Conv: ONNX Runtime sees the values, edgekit the codes."""
    graph = l2mu_graph() if kind == "l2mu" else convolutional_graph(axes=int(kind[-1]), seed=4)
    graph = quantize_weights(graph, element)
    spiking = to_model(graph)
    window = random_window(graph, STEPS, seed=3)
    assert assert_same_until_ambiguous(graph, window, run_steps(spiking, window)) > STEPS // 2
    found = {
        node.inputs[0].name.removesuffix(".packed"): read_coded(node)
        for node in spiking.model.ir.graph
        if is_dequantizer(node)
    }
    weighted = {name: node for name, node in graph.nodes.items() if hasattr(node, "weight")}
    assert len(found) == len(weighted)
    for name, node in weighted.items():
        (coded,) = [c for key, c in found.items() if key.split(".")[0] == name]
        codes = node.weight.codes
        rows = np.moveaxis(codes, 1, -1) if codes.ndim > 2 else codes
        assert coded.element.name == element
        assert np.array_equal(coded.coded.integers, rows.reshape(len(rows), -1))
        assert np.array_equal(coded.coded.scale, node.weight.scale)
    assert not [name for name in spiking.model.ir.graph.initializers if name.endswith(".weight")]


@pytest.mark.parametrize("element", [None, "int8", "shift3"])
def test_coded_weights_stay_outside_the_scan(element: str | None) -> None:
    """A window of a quantised graph is its steps; nothing is unpacked in the body."""
    graph = l2mu_graph(seed=3)
    graph = graph if element is None else quantize_weights(graph, element)
    model = to_window_model(graph, STEPS)
    window = random_window(graph, STEPS, seed=4)
    steps = [step["scores"] for step in run_steps(to_model(graph), window)]
    assert np.array_equal(run_window(model, window)["scores"], np.stack(steps))
    (scan,) = [node for node in model.ir.graph if node.op_type == "Scan"]
    body = scan.attributes["body"].value
    assert not body.initializers
    assert not [node for node in body if is_dequantizer(node)]


def test_both_models_are_written_and_read(tmp_path: Path) -> None:
    """The file holds the functions; the step graph loads as any model does."""
    spiking = to_model(l2mu_graph())
    path = save(spiking.model, tmp_path / "step.onnx")
    loaded = load(path)
    assert [v.name for v in loaded.ir.graph.inputs] == [
        v.name for v in spiking.model.ir.graph.inputs
    ]
    window = to_window_model(l2mu_graph(), 5)
    proto = onnx.load(save(window, tmp_path / "window.onnx"))
    assert {f.name for f in proto.functions} == {"Leaky"}


def test_the_same_graph_gives_the_same_bytes() -> None:
    """Nothing depends on the order of sets."""
    assert to_model(l2mu_graph()).model.to_bytes() == to_model(l2mu_graph()).model.to_bytes()
    first, second = (to_window_model(l2mu_graph(), 7).to_bytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("steps", [0, -1, 2**20 + 1])
def test_a_window_has_a_sensible_length(steps: int) -> None:
    """No step or millions of them are mistakes."""
    with pytest.raises(UsageError, match="must be from 1 to 1048576"):
        to_window_model(l2mu_graph(), steps)


def test_an_invalid_graph_becomes_no_model() -> None:
    """Both validate before they write anything."""
    graph = SpikingGraph("g", {"x": Input((1,)), "y": Output()}, ())
    for write in (to_model, lambda g: to_window_model(g, 3)):
        with pytest.raises(InvalidModelError, match="no incoming edge"):
            write(graph)
