"""The simulator against loops written out, against torch and snnTorch, and against itself."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from edgekit.errors import InvalidDataError, InvalidModelError
from edgekit.spiking import (
    AvgPool,
    Conv,
    Count,
    Edge,
    Input,
    Leaky,
    Linear,
    MaxPool,
    Output,
    Simulator,
    SpikingGraph,
    SumPool,
    Synaptic,
    Weight,
)
from tests.support.spiking_graphs import (
    all_graphs,
    chain,
    l2mu_graph,
    late_graph,
    random_window,
    recurrent_graph,
    scaled_graph,
)

GRAPHS = all_graphs()
STEPS = 60


def single(node: Any, shape: tuple[int, ...]) -> SpikingGraph:
    """The path x -> node -> y."""
    return SpikingGraph(
        "single", {"x": Input(shape), "node": node, "y": Output()}, chain("x", "node", "y")
    )


def observed(graph: SpikingGraph, window: Any, **options: Any) -> dict[str, np.ndarray]:
    """Everything that is observed, [T,...] by name."""
    seen: dict[str, list[np.ndarray]] = {}
    Simulator(
        graph, observe=lambda name, array: seen.setdefault(name, []).append(array), **options
    ).run(window)
    return {name: np.stack(arrays) for name, arrays in seen.items()}


@pytest.mark.torch
@pytest.mark.needs("torch")
@pytest.mark.parametrize(
    ("kind", "reset", "each"),
    list(product(["leaky", "synaptic"], ["subtract", "zero", "none"], [False, True])),
)
def test_neurons_are_snntorch_to_the_bit(kind: str, reset: Any, each: bool) -> None:
    """Spikes and states of every step, with parameters shared or per neuron."""
    import snntorch
    import torch

    rng = np.random.default_rng(5)
    count = 30
    alpha, beta, threshold = (
        rng.uniform(low, high, count if each else 1).astype(np.float32)
        for low, high in ((0, 1), (0, 1), (0.3, 1.2))
    )
    x = rng.normal(0.2, 0.9, (STEPS, count)).astype(np.float32)
    if kind == "leaky":
        node: Any = Leaky(beta, threshold, reset)
        theirs = snntorch.Leaky(
            beta=torch.tensor(beta), threshold=torch.tensor(threshold), reset_mechanism=reset
        )
    else:
        node = Synaptic(alpha, beta, threshold, reset)
        theirs = snntorch.Synaptic(
            alpha=torch.tensor(alpha),
            beta=torch.tensor(beta),
            threshold=torch.tensor(threshold),
            reset_mechanism=reset,
        )
    ours = observed(single(node, (count,)), x)
    state = [torch.zeros(1, count)] * (1 if kind == "leaky" else 2)
    for step in range(STEPS):
        spikes, *state = theirs(torch.tensor(x[step : step + 1]), *state)
        state = [value.detach().clone() for value in state]
        assert np.array_equal(ours["node"][step], spikes.detach().numpy()[0])
        assert np.array_equal(ours["node.membrane"][step], state[-1].numpy()[0])
        if kind == "synaptic":
            assert np.array_equal(ours["node.synaptic"][step], state[0].numpy()[0])
    assert 0.05 < ours["node"].mean() < 0.95


def test_integrators_give_their_membrane() -> None:
    """No threshold, no reset, whatever these fields say."""
    x = np.full((4, 1), 3, np.float32)
    leaky = Leaky(np.float32([0.5]), np.float32([1]), "zero", spiking=False)
    assert Simulator(single(leaky, (1,))).run(x)["y"][:, 0].tolist() == [3, 4.5, 5.25, 5.625]
    synaptic = Synaptic(
        np.float32([0.5]), np.float32([0]), np.float32([1]), "subtract", spiking=False
    )
    assert Simulator(single(synaptic, (1,))).run(x)["y"][:, 0].tolist() == [3, 4.5, 5.25, 5.625]


def test_sums_continue_in_order_of_edges_and_biases_come_last() -> None:
    """The float32 bits are those of a loop over single products; other orders have other bits."""
    rng = np.random.default_rng(0)
    k, n = 40, 25
    w1, w2 = (rng.normal(0, 1, (n, k)).astype(np.float32) for _ in range(2))
    b1, b2 = (rng.normal(0, 1, n).astype(np.float32) for _ in range(2))
    nodes = {
        "x": Input((k,)),
        "z": Input((n,)),
        "w1": Linear(Weight(w1), b1),
        "w2": Linear(Weight(w2), b2),
        "lif": Leaky(np.float32([0.5])),
        "y": Output(),
    }
    edges = (
        Edge("x", "w1"),
        Edge("x", "w2"),
        Edge("w1", "lif"),
        Edge("z", "lif"),
        Edge("w2", "lif"),
        Edge("lif", "y"),
    )
    x, z = (rng.normal(0, 1, (1, size)).astype(np.float32) for size in (k, n))
    current = observed(SpikingGraph("sums", nodes, edges), {"x": x, "z": z})["lif.current"][0]
    total = np.zeros(n, np.float32)
    for value, column in zip(x[0], w1.T, strict=True):
        total = total + value * column
    total = total + z[0]
    for value, column in zip(x[0], w2.T, strict=True):
        total = total + value * column
    assert np.array_equal(current, total + (b1 + b2))
    apart = (w1 @ x[0] + b1) + z[0] + (w2 @ x[0] + b2)
    assert not np.array_equal(current, apart)
    np.testing.assert_allclose(current, apart, atol=1e-4)


def test_a_linear_with_two_readers_is_a_number_of_its_own() -> None:
    """Its products and its bias are added up before any neuron sees them."""
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(0, 1, (6, 9)), rng.normal(0, 1, 6)
    nodes = {
        "x": Input((9,)),
        "z": Input((6,)),
        "w": Linear(Weight(weight), bias),
        "lif": Leaky(np.float32([0.5])),
        "y": Output(),
        "sums": Output(),
    }
    edges = (Edge("x", "w"), Edge("z", "lif"), Edge("w", "lif"), *chain("lif", "y"))
    graph = SpikingGraph("shared", nodes, (*edges, Edge("w", "sums")))
    window = {name: rng.normal(0, 1, (1, size)) for name, size in (("x", 9), ("z", 6))}
    seen = observed(graph, window)
    assert np.array_equal(seen["lif.current"], seen["z"] + seen["w"])
    assert np.array_equal(seen["sums"], seen["w"])


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_groups_are_blocks_of_a_dense_matrix(groups: int) -> None:
    """To the bit: products with the zeros outside the blocks change nothing."""
    rng = np.random.default_rng(groups)
    weight = rng.normal(0, 1, (12, 6 // groups)).astype(np.float32)
    dense = np.zeros((12, 6), np.float32)
    for row in range(12):
        begin = row // (12 // groups) * (6 // groups)
        dense[row, begin : begin + 6 // groups] = weight[row]
    x = rng.normal(0, 1, (5, 6)).astype(np.float32)
    grouped = Simulator(single(Linear(Weight(weight), None, groups), (6,))).run(x)
    assert np.array_equal(grouped["y"], Simulator(single(Linear(Weight(dense)), (6,))).run(x)["y"])


CONVOLUTIONS = [
    ((3, 8), (4, 3, 3), {}),
    ((3, 9), (4, 3, 2), {"stride": (2,), "padding": (1,), "dilation": (3,)}),
    ((2, 7, 6), (3, 2, 3, 2), {"padding": (1, 0), "stride": (2, 1)}),
    ((4, 6, 6), (6, 2, 3, 3), {"padding": (1, 2), "dilation": (1, 2), "groups": 2}),
    ((4, 5, 5), (4, 1, 3, 3), {"padding": (2, 2), "groups": 4, "stride": (3, 2)}),
]


@pytest.mark.torch
@pytest.mark.needs("torch")
@pytest.mark.parametrize(("shape", "kernel", "fields"), CONVOLUTIONS)
def test_convolutions_are_torchs(shape: Any, kernel: Any, fields: dict[str, Any]) -> None:
    """In float64, where the order of the sum does not show; and float32 is close to it."""
    import torch

    rng = np.random.default_rng(2)
    weight = rng.normal(0, 1, kernel).astype(np.float32)
    bias = rng.normal(0, 1, kernel[0]).astype(np.float32)
    x = rng.normal(0, 1, (2, *shape)).astype(np.float32)
    graph = single(Conv(Weight(weight), bias, **fields), shape)
    function = getattr(torch.nn.functional, f"conv{len(shape) - 1}d")
    want = function(
        torch.tensor(x).double(),
        torch.tensor(weight).double(),
        torch.tensor(bias).double(),
        **fields,
    ).numpy()
    exact = Simulator(graph, dtype=np.float64).run(x)["y"]
    np.testing.assert_allclose(exact, want, atol=1e-12)
    np.testing.assert_allclose(Simulator(graph).run(x)["y"], want, atol=1e-5)


def test_padding_may_lie_on_one_side() -> None:
    """Padding in front alone makes a causal convolution."""
    conv = Conv(Weight(np.float32([[[1, 10, 100]]])), padding=(2, 0))
    x = np.float32([[[1, 2, 3]]])
    assert Simulator(single(conv, (1, 3))).run(x)["y"][0].tolist() == [[100, 210, 321]]


@pytest.mark.torch
@pytest.mark.needs("torch")
@pytest.mark.parametrize("fields", [((2,), (), (0,)), ((3, 2), (2, 1), (1, 0)), ((3,), (2,), (1,))])
def test_pools_are_torchs(fields: Any) -> None:
    """Maximum without padding, averages that count it, sums."""
    import torch

    kernel, stride, padding = fields
    axes = len(kernel)
    shape = (3, 9, 8)[: axes + 1]
    x = np.random.default_rng(3).normal(0, 1, (2, *shape)).astype(np.float32) - 1
    given = {"kernel_size": kernel, "stride": stride or None, "padding": padding}
    want = {
        MaxPool: getattr(torch.nn.functional, f"max_pool{axes}d"),
        AvgPool: getattr(torch.nn.functional, f"avg_pool{axes}d"),
    }
    results = {
        kind: Simulator(single(kind(kernel, stride, padding), shape)).run(x)["y"]
        for kind in (MaxPool, AvgPool, SumPool)
    }
    for kind, function in want.items():
        np.testing.assert_allclose(results[kind], function(torch.tensor(x), **given), atol=1e-6)
    np.testing.assert_allclose(results[SumPool], results[AvgPool] * np.prod(kernel), atol=1e-5)


def test_a_delayed_edge_gives_the_step_before() -> None:
    """A recurrent population against its equations, written out."""
    graph = recurrent_graph()
    window = random_window(graph, STEPS)["x"]
    nodes: Any = graph.nodes
    spikes, membrane = np.zeros(10, np.float32), np.zeros(10, np.float32)
    seen = observed(graph, window, dtype=np.float64)
    for step, x in enumerate(window):
        current = nodes["w"].weight.values @ x + nodes["w"].bias
        current += nodes["v"].weight.values @ spikes + nodes["v"].bias
        lif = nodes["lif"]
        membrane = lif.beta * membrane + current - lif.threshold * (membrane > lif.threshold)
        spikes = membrane > lif.threshold
        np.testing.assert_allclose(seen["lif.membrane"][step], membrane, atol=1e-4)
        assert np.array_equal(seen["lif"][step], spikes)
    assert 0.1 < seen["lif"].mean() < 0.9


def test_scales_and_two_inputs() -> None:
    """The delayed spikes of `lif`, halved, are added to `y`; nothing in the first step."""
    graph = scaled_graph()
    window = random_window(graph, STEPS)
    result = Simulator(graph).run(window)
    before = np.concatenate([np.zeros((1, 4), np.float32), result["spikes"][:-1]])
    assert np.array_equal(result["mean"], window["y"] + np.float32(0.5) * before)


def test_delayed_edges_may_go_forward() -> None:
    """What was computed in this step already is still read as of the step before."""
    graph = late_graph()
    window = random_window(graph, STEPS)
    seen, result = observed(graph, window), Simulator(graph).run(window)
    before = {
        name: np.concatenate([np.zeros_like(seen[name][:1]), seen[name][:-1]])
        for name in ("x", "lif")
    }
    assert np.array_equal(result["late"], before["lif"])
    assert np.array_equal(result["change"], seen["lif"] + before["x"])
    assert seen["lif"].any()


def test_counts_add_up_since_the_reset() -> None:
    """Count of spikes is their sum so far."""
    graph = l2mu_graph()
    seen = observed(graph, random_window(graph, STEPS))
    assert np.array_equal(seen["scores"], np.cumsum(seen["s_o"], axis=0))
    assert seen["scores"][-1].sum() > 0


@pytest.mark.parametrize("name", GRAPHS)
def test_steps_windows_and_batches_agree(name: str) -> None:
    """One sample at a time, a window, and windows side by side: the same bits."""
    graph = GRAPHS[name]
    windows = [random_window(graph, 20, seed=seed) for seed in range(3)]
    simulator = Simulator(graph)
    wholes = [simulator.run(window) for window in windows]
    simulator.reset()
    for step in range(20):
        got = simulator.step({key: array[step] for key, array in windows[-1].items()})
        assert all(np.array_equal(got[key], wholes[-1][key][step]) for key in got)
    stacked = {key: np.stack([w[key] for w in windows], axis=1) for key in windows[0]}
    together = Simulator(graph, batch=3).run(stacked)
    for index, whole in enumerate(wholes):
        assert all(np.array_equal(together[key][:, index], whole[key]) for key in whole)


@pytest.mark.parametrize("name", ["l2mu-synaptic", "conv2-max"])
def test_state_is_carried_reset_and_restored(name: str) -> None:
    """Two halves with carry are one whole; a state that was saved goes on as before."""
    graph = GRAPHS[name]
    window = random_window(graph, 20)
    halves = [
        {key: array[part] for key, array in window.items()} for part in (slice(10), slice(10, 20))
    ]
    simulator = Simulator(graph)
    whole = simulator.run(window)["scores"]
    first = simulator.run(halves[0])["scores"]
    saved = simulator.state
    second = simulator.run(halves[1], carry=True)["scores"]
    assert np.array_equal(np.concatenate([first, second]), whole)
    assert not np.array_equal(simulator.run(halves[1])["scores"], second)
    simulator.restore(saved)
    assert np.array_equal(simulator.run(halves[1], carry=True)["scores"], second)
    assert any(array.any() for array in saved.values())


def test_float64_drifts_from_float32_by_rounding_alone() -> None:
    """Before the first spike that differs, membranes differ by less than 1e-5."""
    graph = GRAPHS["l2mu"]
    window = random_window(graph, STEPS)
    narrow, wide = (observed(graph, window, dtype=dtype) for dtype in (np.float32, np.float64))
    names = [f"{name}.membrane" for name in graph.populations()]
    assert all(np.array_equal(narrow[key[:-9]], wide[key[:-9]]) for key in names)
    gaps = [np.abs(narrow[key] - wide[key]).max() for key in names]
    assert 0 < max(gaps) < 1e-5


def test_observers_get_copies() -> None:
    """What an observer does to an array changes no result."""
    graph = GRAPHS["l2mu"]
    window = random_window(graph, 20)

    def spoil(name: str, array: np.ndarray) -> None:
        array[...] = np.nan

    want = Simulator(graph).run(window)["scores"]
    assert np.array_equal(Simulator(graph, observe=spoil).run(window)["scores"], want)


STEP_ERRORS: dict[str, tuple[Any, str]] = {
    "other length": (np.zeros(5), "has the shape [5], must be [6] in one step"),
    "batch": (np.zeros((1, 6)), "has the shape [1, 6]"),
    "nan": (np.array([0, 0, np.nan, 0, 0, 0]), "at [2] is nan, samples must be finite"),
    "text": (np.array(["a"] * 6), "must be numbers"),
    "other name": ({"x": np.zeros(6)}, "inputs ['x'] given, must be ['samples']"),
    "nothing": ({}, "inputs [] given"),
}


@pytest.mark.parametrize("case", STEP_ERRORS)
def test_step_refuses_and_keeps_its_state(case: str) -> None:
    """A sample that is none changes nothing."""
    given, message = STEP_ERRORS[case]
    simulator = Simulator(GRAPHS["l2mu"])
    simulator.step(np.ones(6))
    before = simulator.state
    with pytest.raises(InvalidDataError) as error:
        simulator.step(given)
    assert message in str(error.value)
    assert all(np.array_equal(before[name], array) for name, array in simulator.state.items())


WINDOW_ERRORS: dict[str, tuple[Any, str]] = {
    "time last": (np.zeros((6, 40)), "time is the first axis, here it seems to be axis 1"),
    "time behind batch": (np.zeros((1, 40, 6)), "must be [steps, 6]"),
    "no steps": (np.zeros((0, 6)), "has no steps"),
    "a gap": (
        np.where(np.arange(240).reshape(40, 6) == 62, np.nan, 0),
        "at [2] of step 10 is nan, samples must be finite in float32; fill or cut the gap before",
    ),
    "infinity": (np.full((40, 6), -np.inf), "at [0] of step 0 is -inf"),
    "beyond float32": (np.full((40, 6), 1e39), "at [0] of step 0 is 1e+39"),
}


@pytest.mark.parametrize("case", WINDOW_ERRORS)
def test_run_refuses(case: str) -> None:
    """Windows of another shape, and streams with holes."""
    given, message = WINDOW_ERRORS[case]
    with pytest.raises(InvalidDataError) as error:
        Simulator(GRAPHS["l2mu"]).run(given)
    assert message in str(error.value)


def test_several_inputs_must_be_named_and_equally_long() -> None:
    """No guessing which array is which."""
    simulator = Simulator(scaled_graph())
    with pytest.raises(InvalidDataError, match="one array given for the inputs x, y"):
        simulator.run(np.zeros((5, 4)))
    with pytest.raises(InvalidDataError, match="several numbers of steps"):
        simulator.run({"x": np.zeros((5, 4)), "y": np.zeros((6, 4))})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"s_h.membrane": np.zeros(21)}, r"'s_h.membrane' is float64\[21\], must be float32\[20\]"),
        ({"s_h.membrane": np.full(20, np.nan)}, "has NaN or infinity"),
        ({"ghost": np.zeros(1)}, "the state has"),
    ],
)
def test_restore_refuses_a_foreign_state(change: dict[str, Any], message: str) -> None:
    """Wrong sizes, names and numbers; the state stays."""
    simulator = Simulator(GRAPHS["l2mu"])
    simulator.step(np.ones(6))
    before = simulator.state
    with pytest.raises(InvalidDataError, match=message):
        simulator.restore({**before, **change})
    assert all(np.array_equal(before[name], array) for name, array in simulator.state.items())


def test_an_invalid_graph_is_not_simulated() -> None:
    """The constructor validates."""
    graph = SpikingGraph("g", {"x": Input((1,)), "n": Count()}, chain("x", "n"))
    with pytest.raises(InvalidModelError, match="no Output"):
        Simulator(graph)
