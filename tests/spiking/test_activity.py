"""Counting spikes and synaptic operations, against counts made one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import InvalidDataError
from edgekit.spiking import Conv, Linear, Simulator, SpikingGraph, Weight, measure, quantize_weights
from edgekit.spiking.activity import BATCH, fan_out
from tests.support.spiking_graphs import (
    AvgPool,
    all_graphs,
    convolutional_graph,
    l2mu_graph,
    random_window,
    scaled_graph,
)

GRAPHS = all_graphs()


def windows_of(graph: SpikingGraph, count: int, steps: int) -> dict[str, np.ndarray]:
    """Random windows [N,T,...] of every input."""
    made = [random_window(graph, steps, seed=seed) for seed in range(count)]
    return {name: np.stack([window[name] for window in made]) for name in made[0]}


def traced(graph: SpikingGraph, windows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Values of all nodes [N,T,...]."""
    runs = []
    for index in range(len(next(iter(windows.values())))):
        seen: dict[str, list[np.ndarray]] = {}
        Simulator(
            graph, observe=lambda name, array, seen=seen: seen.setdefault(name, []).append(array)
        ).run({name: array[index] for name, array in windows.items()})
        runs.append({name: np.stack(arrays) for name, arrays in seen.items()})
    return {name: np.stack([run[name] for run in runs]) for name in runs[0]}


@pytest.mark.parametrize("name", ["l2mu", "recurrent-synaptic", "conv2-max", "conv1-max"])
def test_rates_and_operations_are_those_of_single_spikes(name: str) -> None:
    """Every spike meets the weights that its input has; delayed ones arrive a step later."""
    graph = GRAPHS[name]
    count, steps = 3, 12
    windows = windows_of(graph, count, steps)
    values = traced(graph, windows)
    activity = measure(graph, windows)
    assert (activity.windows, activity.steps) == (count, steps)
    for population, found in activity.populations.items():
        assert found.rate == pytest.approx(values[population].mean(), abs=1e-12)
        assert found.neurons == values[population][0, 0].size
    for weighted, found in activity.synapses.items():
        node: Any = graph.nodes[weighted]
        (edge,) = graph.incoming(weighted)
        if not found.event_driven:
            assert edge.source not in graph.spikes()
            assert (found.synaptic_ops, found.activity) == (0, 1)
            continue
        arriving = values[edge.source]
        if edge.delay:
            arriving = np.concatenate([np.zeros_like(arriving[:, :1]), arriving[:, :-1]], axis=1)
        assert found.activity == pytest.approx(arriving.mean(), abs=1e-12)
        met = sum(touched_weights(node, spikes) for window in arriving for spikes in window)
        assert found.synaptic_ops == pytest.approx(met / (count * steps))
        assert found.dense_ops == touched_weights(node, np.ones_like(arriving[0, 0]))
    assert 0 < activity.synaptic_ops < activity.event_driven_ops


def touched_weights(node: Any, active: np.ndarray) -> int:
    """Weights that meet an active input, counted by a node whose weights are all 1.

    The output of such a node is how many active inputs met each of its sums.
    """
    weight = Weight(np.ones(node.weight.shape))
    ones: Any = (
        Linear(weight, None, node.groups)
        if isinstance(node, Linear)
        else Conv(weight, None, node.stride, node.padding, node.dilation, node.groups)
    )
    from edgekit.spiking.compute import add_products

    total = np.zeros((1, *ones.output_shape(active.shape)))
    add_products(total, active[None].astype(np.float64), ones)
    return int(total.sum())


def test_the_fan_out_of_a_strided_padded_convolution() -> None:
    """By hand: kernel 3, stride 2, padding 1 over 5 values, 4 outputs in 2 groups."""
    conv = Conv(Weight(np.ones((4, 1, 3))), stride=(2,), padding=(1,), groups=2)
    assert fan_out(conv, (2, 5)).tolist() == [[2, 4, 2, 4, 2]] * 2


def test_totals_are_sums_over_nodes() -> None:
    """Analog inputs count apart; bytes follow the stored bits."""
    graph = l2mu_graph()
    windows = windows_of(graph, 2, 10)
    activity = measure(graph, windows)
    assert activity.analog_ops == 24
    assert activity.dense_ops == 24 + sum(
        node.weight.values.size
        for name, node in graph.nodes.items()
        if isinstance(node, Linear) and name != "c_in"
    )
    assert activity.bytes_dense == 4 * activity.dense_ops
    assert activity.bytes_touched == pytest.approx(4 * (activity.synaptic_ops + 24))
    neurons = sum(p.neurons for p in activity.populations.values())
    spikes = sum(p.rate * p.neurons for p in activity.populations.values())
    assert activity.rate == pytest.approx(spikes / neurons)
    assert list(activity.rates) == list(graph.populations())
    ternary = measure(quantize_weights(graph, "ternary"), windows)
    assert ternary.bytes_dense == ternary.dense_ops / 4


def test_sums_and_averages_are_not_driven_by_events() -> None:
    """Behind an average pool every input is multiplied."""
    graph = convolutional_graph(pool=AvgPool)
    activity = measure(graph, windows_of(graph, 1, 4))
    assert activity.synapses["conv2"].source is None
    assert activity.synapses["fc"].source == "flat"


def test_windows_beyond_one_batch_are_counted_alike() -> None:
    """Batches are an implementation's affair."""
    graph = l2mu_graph()
    few = windows_of(graph, 1, 5)
    many = {name: np.repeat(array, BATCH + 3, axis=0) for name, array in few.items()}
    one, more = measure(graph, few), measure(graph, many)
    assert more.windows == BATCH + 3
    assert more.rates == pytest.approx(one.rates)
    assert more.synaptic_ops == pytest.approx(one.synaptic_ops)


def test_an_array_alone_stands_for_the_only_input() -> None:
    """With several inputs names are needed."""
    graph = l2mu_graph()
    windows = windows_of(graph, 2, 5)
    assert measure(graph, windows["samples"]) == measure(graph, windows)
    with pytest.raises(InvalidDataError, match="give them by name"):
        measure(scaled_graph(), np.zeros((2, 5, 4)))


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (np.zeros((40, 6)), "has the shape [40, 6], must be [windows, steps, 6] with at least"),
        (np.zeros((0, 40, 6)), "with at least one window"),
        (np.zeros((2, 0, 6)), "has no steps"),
        (np.zeros((2, 6, 40)), "must be [windows, steps, 6]"),
        (np.full((2, 5, 6), np.nan), "samples must be finite"),
        ({"x": np.zeros((2, 5, 6))}, "must be ['samples']"),
    ],
)
def test_windows_that_are_none_are_refused(windows: Any, message: str) -> None:
    """Axes in another order, nothing at all, NaN."""
    with pytest.raises(InvalidDataError) as error:
        measure(l2mu_graph(), windows)
    assert message in str(error.value)


def test_inputs_with_several_numbers_of_windows_are_refused() -> None:
    """Windows belong together."""
    with pytest.raises(InvalidDataError, match="several numbers of windows"):
        measure(scaled_graph(), {"x": np.zeros((2, 5, 4)), "y": np.zeros((3, 5, 4))})
