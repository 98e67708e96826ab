"""The L2MU: fused, step by step through snnTorch, folded, as a graph, and with coded weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekit.errors import InvalidDataError, UnsupportedError, UsageError
from edgekit.spiking.drift import Trace, compare_traces
from edgekit.spiking.nodes import Linear

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch", "sklearn")]  # with snnTorch's extra

KINDS = ("leaky", "synaptic")
STEPS, WINDOWS = 30, 24

SMALL: dict[str, Any] = {
    "per_channel": 5,
    "layers": (14,),
    "hidden": 24,
    "memories": 2,
    "order": 4,
    "theta": 9.0,
}


def windows(count: int = WINDOWS, *, seed: int = 5, channels: int = 6) -> Tensor:
    """Motions made up: slow waves with noise, float32[N,C,T]."""
    import torch

    rng = np.random.default_rng(seed)
    time = np.arange(STEPS)
    speed, phase = rng.uniform(0.1, 0.9, (2, count, channels, 1))
    waves = np.sin(speed * time + 6 * phase) + rng.normal(0, 0.4, (count, channels, STEPS))
    return torch.from_numpy(1.5 * waves.astype(np.float32))


def network(kind: str = "leaky", *, seed: int = 0, **options: Any) -> Any:
    """An L2MU in eval mode as training leaves one: statistics, and no weight at 0."""
    import torch

    from edgekit.spiking.layers.l2mu_network import L2MU

    torch.manual_seed(seed)
    model = L2MU(**(SMALL | {"kind": kind} | options)).train()
    with torch.no_grad():
        model.cell.u.part("m").normal_(0, 0.3)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.weight.uniform_(0.6, 1.4)
                module.bias.normal_(0.2, 0.3)
        model.output.weight.mul_(3)
        for batch in range(4):
            model(windows(seed=100 + batch))
    return model.eval()


def populations(model: Any) -> dict[str, Any]:
    """Every population by its name in rates and graphs."""
    inputs = {f"x{i}": p for i, p in enumerate(model.conversion.populations)}
    cell = model.cell
    return inputs | {
        "u": cell.neurons_u,
        "m": cell.neurons_m,
        "h": cell.neurons_h,
        "o": model.neurons_o,
    }


def thresholds(model: Any) -> dict[str, Any]:
    """Of every population."""
    return {n: p.neuron.threshold.detach().numpy() for n, p in populations(model).items()}


def fused(model: Any, x: Tensor) -> dict[str, Tensor]:
    """Spikes [T,N,n] of every population, as ``forward`` computes them."""
    *earlier, s_x = model.conversion(x.permute(2, 0, 1))
    s_u, s_m, s_h = model.cell(s_x)
    s_o = model.neurons_o(model.output(s_h))
    return dict(zip(populations(model), [*earlier, s_x, s_u, s_m, s_h, s_o], strict=True))


def stepped(model: Any, x: Tensor) -> tuple[Tensor, dict[str, Trace]]:
    """Scores, and spikes and membranes of every population, by ``step``: snnTorch's own code."""
    import torch

    record: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in populations(model)}

    def observe(name: str) -> Any:
        def hook(_: Any, __: Any, result: tuple[Tensor, ...]) -> None:
            record[name].append((result[0], result[-1]))

        return hook

    hooks = [
        population.neuron.register_forward_hook(observe(name))
        for name, population in populations(model).items()
    ]
    with torch.no_grad():
        state = model.start(len(x))
        for sample in x.unbind(2):
            scores, state = model.step(sample, state)
    for hook in hooks:
        hook.remove()
    traces = {
        name: Trace(
            membrane=torch.stack([m for _, m in rows], 1).numpy(),
            spikes=torch.stack([s for s, _ in rows], 1).numpy().astype(bool),
        )
        for name, rows in record.items()
    }
    return scores, traces


def in_float64(model: Any) -> Any:
    """The same network in float64; snnTorch's surrogates give float32 whatever comes in."""
    model.double()
    for population in populations(model).values():
        population.neuron.spike_grad = lambda x: (x > 0).to(x.dtype)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [(), (14,), (12, 10)])
def test_forward_is_snntorch_step_by_step(kind: str, layers: tuple[int, ...]) -> None:
    """In float64: every spike of every population, with normalisation not folded yet."""
    import torch

    model = in_float64(network(kind, layers=layers))
    x = windows().double()
    scores, traces = stepped(model, x)
    with torch.no_grad():
        spikes = fused(model, x)
        assert torch.equal(model(x), scores)
    for name, found in spikes.items():
        np.testing.assert_array_equal(found.numpy().swapaxes(0, 1) > 0, traces[name].spikes)
        assert 0.005 < float(found.mean()) < 0.9, name
        assert float(model.rates[name]) == pytest.approx(float(found.mean()))
    assert torch.equal(scores, spikes["o"].sum(0))


@pytest.mark.parametrize("kind", KINDS)
def test_float32_differs_from_snntorch_by_rounding_alone(kind: str) -> None:
    """Sums in another order: a window's first differing neuron is within 1e-5 of its threshold."""
    import torch

    model = network(kind)
    x = windows(100, seed=6)
    _, traces = stepped(model, x)
    with torch.no_grad():
        spikes = {name: s.numpy().swapaxes(0, 1) > 0 for name, s in fused(model, x).items()}
    ours = {n: replace(trace, spikes=spikes[n]) for n, trace in traces.items()}
    drift = compare_traces(traces, ours, thresholds(model))
    drift.raise_if(farther=1e-5)
    assert drift.differing_windows <= 2, drift
    assert drift.spikes > 10_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [(), (14,)])
def test_folding_keeps_every_spike(kind: str, layers: tuple[int, ...]) -> None:
    """Normalisation goes into weights and biases; nothing is left of it."""
    import torch

    model = network(kind, layers=layers).double()
    x = windows().double()
    with torch.no_grad():
        before, scores = fused(model, x), model(x)
        assert model.fold() is model
        for name, spikes in fused(model, x).items():
            assert torch.equal(spikes, before[name]), name
        assert torch.equal(model(x), scores)
    assert not any("norm" in name for name in model.state_dict())
    assert not any(isinstance(m, torch.nn.BatchNorm1d) for m in model.modules())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.fold()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(spikes.any() for spikes in before.values())


def test_the_cells_equations() -> None:
    """One window by the docstring's equations, written out in NumPy, in float64."""
    import torch

    from edgekit.spiking.layers.l2mu import L2MUCell

    torch.manual_seed(3)
    d, n_m, n_h, n_x = 4, 2, 7, 5
    cell = L2MUCell(n_x, n_h, memories=n_m, order=d, theta=8.0, neurons={"m": (0.5, 0.1)}).double()
    with torch.no_grad():
        cell.u.part("m").normal_(0, 0.4)
    rng = np.random.default_rng(0)
    x = (rng.random((25, 1, n_x)) < 0.4).astype(np.float64)
    with torch.no_grad():
        found = [s[:, 0].numpy() for s in cell(torch.from_numpy(x))]
    e_x, e_h, e_m = (cell.u.part(k).detach().numpy() for k in "xhm")
    w_x, w_h, w_m = (cell.h.part(k).detach().numpy() for k in "xhm")
    a, b = cell.memory.numpy()[:, :d], cell.memory.numpy()[:, d]
    neurons = [cell.neurons_u.neuron, cell.neurons_m.neuron, cell.neurons_h.neuron]
    beta = [n.beta.detach().numpy() for n in neurons]
    theta = [n.threshold.detach().numpy() for n in neurons]
    membranes = [np.zeros(n_m), np.zeros(n_m * d), np.zeros(n_h)]

    def fire(index: int, current: Any) -> Any:
        reset = membranes[index] > theta[index]
        membranes[index] = beta[index] * membranes[index] + current - theta[index] * reset
        return (membranes[index] > theta[index]).astype(np.float64)

    s_m, s_h = np.zeros(n_m * d), np.zeros(n_h)
    for t, s_x in enumerate(x[:, 0]):
        s_u = fire(0, e_x @ s_x + e_h @ s_h + e_m @ s_m)
        s_m = fire(1, np.concatenate([a @ part for part in s_m.reshape(n_m, d)]) + np.kron(s_u, b))
        s_h = fire(2, w_x @ s_x + w_h @ s_h + w_m @ s_m)
        for given, wanted in zip(found, (s_u, s_m, s_h), strict=True):
            np.testing.assert_array_equal(given[t], wanted)
    assert all(0.02 < spikes.mean() < 0.98 for spikes in found)


def test_the_authors_transposed_memory() -> None:
    """A flag gives Āᵀ; both discretisations, and the two really differ."""
    import torch

    from edgekit.spiking.layers.l2mu import L2MUCell
    from edgekit.spiking.layers.legendre import discrete

    methods: tuple[Any, ...] = ("zoh", "euler")
    for method in methods:
        a, b = discrete(4, 30.0, method=method)
        for transposed, wanted in ((False, a), (True, a.T)):
            cell = L2MUCell(
                *(3, 5),
                memories=2,
                order=4,
                theta=30.0,
                discretization=method,
                transposed=transposed,
            )
            system = cell.memory.numpy()
            np.testing.assert_array_equal(system, np.column_stack([wanted, b]).astype(np.float32))
            weight = cell.memory_weight().values
            np.testing.assert_array_equal(weight, np.concatenate([system, system]))
            assert "memory" not in dict(cell.named_parameters())
    straight, turned = (network(transposed=flag).eval() for flag in (False, True))
    turned.load_state_dict({**straight.state_dict(), "cell.memory": turned.cell.memory})
    with torch.no_grad():
        assert not torch.equal(straight(windows()), turned(windows()))


@pytest.mark.parametrize("layers", [(), (9,), (9, 4)])
def test_input_conversion(layers: tuple[int, ...]) -> None:
    """Each channel has a Linear(1, p) of its own, as the authors write it; then dense layers."""
    import torch

    from edgekit.spiking.layers.conversion import InputConversion

    torch.manual_seed(1)
    conversion = InputConversion(3, 4, layers)
    x = torch.randn(20, 2, 3)
    with torch.no_grad():
        found = conversion(x)
    assert [s.shape[-1] for s in found] == [12, *layers]
    assert conversion.outputs == (12, *layers)[-1]
    first: Any = conversion.weights[0]
    own = []
    for channel in range(3):
        rows = slice(4 * channel, 4 * channel + 4)
        linear = torch.nn.Linear(1, 4)
        with torch.no_grad():
            linear.weight.copy_(first.weight[rows])
            linear.bias.copy_(first.bias[rows])
            own.append(linear(x[..., channel : channel + 1]))
    with torch.no_grad():
        torch.testing.assert_close(first(x), torch.cat(own, -1))
        state = conversion.start(2)
        for t, sample in enumerate(x):
            spikes, state = conversion.step(sample, state)
            assert torch.equal(spikes, found[-1][t])


@pytest.mark.parametrize("kind", KINDS)
def test_fixed_parameters(kind: str) -> None:
    """Without learning, decays and thresholds are no parameters, and compute the same."""
    import torch

    fixed, learned = network(kind, learn=False), network(kind)
    names = {"beta", "threshold", *(["alpha"] if kind == "synaptic" else [])}
    count = len(populations(fixed)) * len(names)
    ends = [name.rpartition(".")[2] for name, _ in learned.named_parameters()]
    assert sum(end in names for end in ends) == count
    assert not any(n.rpartition(".")[2] in names for n, _ in fixed.named_parameters())
    assert fixed.state_dict().keys() == learned.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(fixed(windows()), learned(windows()))
    for model in (fixed, learned):
        model.train()(windows()).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "precision"), [((), ""), ((14,), ""), ((12, 10), "w8")])
def test_the_graph_computes_the_network(kind: str, layers: tuple[int, ...], precision: str) -> None:
    """Every spike of every population, in float64, of float and of quantised networks."""
    import torch

    from edgekit.spiking.simulate import Simulator
    from edgekit.zoo.quantized import quantized

    model, x = network(kind, layers=layers), windows()
    model = quantized(model, precision, x) if precision else model.fold()
    model.dt_seconds = 0.05
    graph = model.graph("net")
    assert (graph.name, graph.dt_seconds) == ("net", 0.05)
    coded = [node.weight.quantized for node in graph.nodes.values() if hasattr(node, "weight")]
    assert coded == [bool(precision)] * (len(layers) + 10)
    observed: dict[str, list[Any]] = {name: [] for name in populations(model)}

    def observe(name: str, value: Any) -> None:
        if name in observed:
            observed[name].append(value > 0)

    simulator = Simulator(graph, dtype=np.float64, batch=len(x), observe=observe)
    found = simulator.run(x.permute(2, 0, 1).numpy())["scores"][-1]
    if precision:  # decoded in float32, as they are stored; else they round in float64 anew
        for name, module in model.weighted():
            torch.nn.utils.parametrize.remove_parametrizations(module, "weight")
            assert module.weight.dtype == torch.float32, name
    model.double()
    with torch.no_grad():
        spikes, scores = fused(model, x.double()), model(x.double())
    for name, rows in observed.items():
        np.testing.assert_array_equal(np.stack(rows), spikes[name].numpy() > 0, err_msg=name)
    np.testing.assert_array_equal(found, scores.numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["", "w8", "w158", "shift3"])
def test_the_graph_in_float32(kind: str, precision: str) -> None:
    """Against snnTorch in float32: few windows differ, and first on the threshold.

    A wrong weight, delay or reset would differ in every window.
    """
    from edgekit.spiking.simulate import Simulator
    from edgekit.zoo.quantized import quantized

    model, x = network(kind, seed=1), windows(seed=7)
    model = quantized(model, precision, x) if precision else model.fold()
    scores, traces = stepped(model.eval(), x)
    observed: dict[str, list[Any]] = {}
    simulator = Simulator(
        model.graph(),
        batch=len(x),
        observe=lambda name, value: observed.setdefault(name, []).append(value),
    )
    found = simulator.run(x.permute(2, 0, 1).numpy())["scores"][-1]
    ours = {
        name: Trace(np.stack(observed[f"{name}.membrane"], 1), np.stack(observed[name], 1) > 0)
        for name in traces
    }
    drift = compare_traces(traces, ours, thresholds(model))
    drift.raise_if(farther=1e-5)
    assert drift.differing_windows <= 2, drift
    same = (found == scores.numpy()).all(1).sum()
    assert same >= len(x) - drift.differing_windows
    assert 0.01 < np.mean([t.spikes.mean() for t in traces.values() if t.spikes is not None]) < 0.6


@pytest.mark.parametrize("precision", ["w8", "w4", "w158", "shift2", "shift3", "w1"])
def test_codes_of_a_quantised_network(precision: str) -> None:
    """Weights of a graph are those that torch computes with; rows into a neuron share a scale."""
    import torch

    from edgekit.zoo.quantized import quantized

    model = quantized(network(), precision, windows())
    element = {"w8": "int8", "w4": "int4", "w158": "ternary", "w1": "binary"}.get(
        precision, precision
    )
    nodes: dict[str, Any] = dict(model.graph().nodes)
    for name in ("a", "b"):
        assert nodes[name].weight.element == "int8"
    with torch.no_grad():
        for source in "xhm":
            into_u, into_h = nodes[f"e_{source}"].weight, nodes[f"w_{source}"].weight
            np.testing.assert_array_equal(into_u.values, model.cell.u.part(source).numpy())
            np.testing.assert_array_equal(into_h.values, model.cell.h.part(source).numpy())
            assert into_u.element == into_h.element == element
            np.testing.assert_array_equal(into_h.scale, nodes["w_h"].weight.scale)
        np.testing.assert_array_equal(nodes["w_o"].weight.values, model.output.weight.numpy())
        memory = np.concatenate([nodes["a"].weight.values, nodes["b"].weight.values], 1)
        repeated = np.tile(model.cell.memory.numpy(), (2, 1))
        np.testing.assert_array_equal(memory, repeated)


def test_rounding_the_memory_twice_changes_nothing() -> None:
    """What a checkpoint holds is the rounded memory, which is rounded again when it is loaded."""
    import torch

    from edgekit.spiking.layers.l2mu import L2MUCell

    for order, theta in ((1, 3.0), (8, 20.0), (18, 13.4), (5, 37.0)):
        cell = L2MUCell(3, 4, memories=1, order=order, theta=theta)
        exact = cell.memory.clone()
        cell.quantize_memory("int8")
        rounded = cell.memory.clone()
        step = exact.abs().amax(1, keepdim=True) / 127
        assert ((rounded - exact).abs() <= step * 0.5001).all() and not torch.equal(rounded, exact)
        cell.quantize_memory("int8")
        assert torch.equal(cell.memory, rounded)


@pytest.mark.parametrize("element", ["shift3", "binary"])
def test_a_memory_needs_every_integer_of_a_range(element: str) -> None:
    """Nearest integers are no levels of a format that leaves some out; nothing is changed."""
    import torch

    from edgekit.spiking.layers.l2mu import L2MUCell

    cell = L2MUCell(3, 4, memories=1, order=3, theta=5.0)
    before = cell.memory.clone()
    with pytest.raises(UnsupportedError, match=f"{element}.*supported"):
        cell.quantize_memory(element)
    assert torch.equal(cell.memory, before) and cell.memory_element is None


def test_a_window_in_parts() -> None:
    """A stream has no windows: the state goes on from step to step, and starts at zeros."""
    import torch

    model, x = network("synaptic"), windows(8)
    with torch.no_grad():
        state = model.start(8)
        assert not state.scores.any() and not state.cell.h.any()
        samples = torch.from_numpy(model.windows(x.numpy()))  # as a device takes them
        for t, sample in enumerate(samples.unbind(1), 1):
            scores, state = model.step(sample, state)
            if t in (1, 7, STEPS):
                torch.testing.assert_close(scores, model(x[:, :, :t]), rtol=0, atol=0)


def test_dropout_is_of_neurons_for_a_whole_window() -> None:
    """What a sample leaves out is left out in every step; in eval mode nothing is."""
    import torch

    model = network(dropout=0.5)
    x = windows()
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
        model.train()
        thinned = model._thinned(torch.ones(STEPS, 3, 50))
    assert torch.equal(thinned, thinned[:1].expand_as(thinned))
    assert set(thinned.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(thinned[0, 0], thinned[0, 1])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 40, 6), r"\[4, 40, 6\], must be \[batch, 6, steps\]; time is the last axis"),
        ((4, 5, 40), r"must be \[batch, 6, steps\]$"),
        ((6, 40), r"must be \[batch, 6, steps\]$"),
        ((1, 4, 6, 40), r"must be \[batch, 6, steps\]$"),
    ],
)
def test_a_time_axis_in_the_wrong_place(shape: tuple[int, ...], message: str) -> None:
    import torch

    with pytest.raises(InvalidDataError, match=message):
        network()(torch.zeros(shape))


def test_parts_refuse_other_shapes() -> None:
    import torch

    model = network()
    for part, wanted in ((model.conversion, 6), (model.cell, 14), (model.neurons_o, 7)):
        for shape in ((STEPS, 2, wanted + 1), (STEPS, wanted)):
            with pytest.raises(InvalidDataError, match=rf"must be \[steps, batch, {wanted}\]"):
                part(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "lapicque"}, "no neuron 'lapicque'; there are leaky, synaptic"),
        ({"beta": 1.01}, "beta is 1.01, must be from 0 to 1"),
        ({"beta": -0.1}, "beta is -0.1"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"alpha": 2.0, "kind": "synaptic"}, "alpha is 2.0"),
        ({"threshold": 0.0}, "threshold is 0.0, must be positive"),
        ({"threshold": float("inf")}, "threshold is inf"),
    ],
)
def test_impossible_populations(arguments: dict[str, Any], message: str) -> None:
    from edgekit.spiking.layers.populations import Population

    with pytest.raises(UsageError, match=message):
        Population(3, **arguments)


def test_a_populations_node_limits_decays() -> None:
    """Training may leave the limits; in use, and in a graph, they hold."""
    import torch

    from edgekit.spiking.layers.populations import Population

    population = Population(3, "synaptic")
    with torch.no_grad():
        population.neuron.beta.copy_(torch.tensor([-0.1, 0.5, 1.2]))
        population.neuron.alpha.copy_(torch.tensor([1.5, 0.25, -1.0]))
    node: Any = population.node()
    assert node.beta.tolist() == [0, 0.5, 1]
    assert node.alpha.tolist() == [1, 0.25, 0]


def test_impossible_weights() -> None:
    from edgekit.spiking.layers.synapses import PerChannel, Synapses

    for sources in ({}, {"x": 3, "h": 0}):
        with pytest.raises(UsageError, match="must be one with an output at least"):
            Synapses(sources, 4)
    for sizes in ((0, 3), (3, 0)):
        with pytest.raises(UsageError, match="must be 1 at least"):
            PerChannel(*sizes)


def test_a_graph_of_an_unfolded_network_is_that_of_the_folded_one() -> None:
    import torch

    from edgekit.spiking.layers.l2mu_network import L2MU

    torch.manual_seed(5)
    network = L2MU(per_channel=4, layers=(16,), hidden=24, memories=2, order=4)
    network.train()
    network(torch.randn(32, 6, 40))  # moves the running statistics
    network.eval()
    graph = network.graph()
    assert network.has_norms
    folded = copy.deepcopy(network).fold().graph()
    for name, node in graph.nodes.items():
        if isinstance(node, Linear):
            other = folded.nodes[name]
            assert isinstance(other, Linear)
            np.testing.assert_array_equal(node.weight.values, other.weight.values)
            np.testing.assert_array_equal(node.bias, other.bias)


def test_thresholds_below_zero_reset_from_the_first_step_on() -> None:
    import torch

    model = network()
    with torch.no_grad():
        model.neurons_o.neuron.threshold.fill_(-0.05)
        model.cell.neurons_m.neuron.threshold.fill_(-0.02)
    x = windows()
    with torch.no_grad():
        whole, state = model(x), model.start(len(x))
        for t in range(x.shape[2]):
            scores, state = model.step(x[:, :, t], state)
    assert torch.equal(whole, scores)


def test_decays_and_thresholds_can_be_chosen_and_fixed() -> None:
    model = network(
        neurons={"u": (0.4, 0.15), "h": (0.2, 0.65), "m": (0.55, 0.9), "o": (0.7, 0.75)},
        spread=0.0,
        learn=False,
    )
    for name, (beta, threshold) in {"u": (0.4, 0.15), "h": (0.2, 0.65), "o": (0.7, 0.75)}.items():
        neuron = populations(model)[name].neuron
        np.testing.assert_allclose(neuron.beta.numpy(), beta, rtol=1e-6)
        np.testing.assert_allclose(neuron.threshold.numpy(), threshold, rtol=1e-6)
        assert not neuron.beta.requires_grad
    with pytest.raises(UsageError, match="no populations q"):
        network(neurons={"q": (0.5, 1.0)})
