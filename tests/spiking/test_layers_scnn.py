"""The spiking CNN: against snnTorch step by step, folded, as a graph, and with coded weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekit.errors import InvalidDataError
from edgekit.spiking.drift import Trace, compare_traces

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch", "sklearn")]  # with snnTorch's extra


def windows(count: int = 12, *, seed: int = 3) -> Tensor:
    """Motions made up, float32[N,6,T]."""
    import torch

    rng = np.random.default_rng(seed)
    speed, phase = rng.uniform(0.1, 0.9, (2, count, 6, 1))
    waves = np.sin(speed * np.arange(21) + 6 * phase) + rng.normal(0, 0.4, (count, 6, 21))
    return torch.from_numpy(1.5 * waves.astype(np.float32))


def network(**options: Any) -> Any:
    """A small network in eval mode, with statistics."""
    import torch

    from edgekit.spiking.layers.scnn import SpikingCNN

    torch.manual_seed(0)
    model = SpikingCNN(**({"length": 21, "widths": (8, 10), "steps": 5} | options)).train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.weight.uniform_(0.8, 1.6)
                module.bias.normal_(0.3, 0.3)
        model.output.weight.mul_(4)
        for batch in range(4):
            model(windows(seed=10 + batch))
    return model.eval()


def populations(model: Any) -> dict[str, Any]:
    """Every population by its name."""
    found = {f"c{i}": layer.population for i, layer in enumerate(model.layers)}
    return found | {"o": model.neurons_o}


def stepped(model: Any, x: Tensor) -> tuple[Tensor, dict[str, Trace]]:
    """Scores and traces by modules of torch and snnTorch, one step after the other."""
    import torch

    states: dict[str, tuple[Tensor, ...]] = dict.fromkeys(populations(model), ())
    record: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in states}
    scores = 0

    def fire(name: str, current: Tensor) -> Tensor:
        """Channels last: parameters are one a channel."""
        last = current.transpose(1, -1)
        spikes, *state = populations(model)[name].neuron(last, *states[name])
        states[name] = tuple(state)
        spikes, membrane = (t.transpose(1, -1) for t in (spikes, state[-1]))
        record[name].append((spikes, membrane))
        return spikes  # type: ignore[no-any-return]

    with torch.no_grad():
        for _ in range(model.steps):
            values = x
            for index, layer in enumerate(model.layers):
                values = fire(f"c{index}", layer.norm(layer.weights(values)))
            scores = scores + fire("o", model.output(values.flatten(1)))
    return torch.as_tensor(scores), {
        name: Trace(
            membrane=torch.stack([m for _, m in rows], 1).numpy(),
            spikes=torch.stack([s for s, _ in rows], 1).numpy().astype(bool),
        )
        for name, rows in record.items()
    }


def thresholds(model: Any) -> dict[str, Any]:
    """Of every population, one a channel."""
    found = {n: p.neuron.threshold.detach().numpy() for n, p in populations(model).items()}
    return {name: t if name == "o" else t[:, None] for name, t in found.items()}


def test_forward_is_snntorch_step_by_step() -> None:
    """In float64, with normalisation: all scores, and the rate of every population."""
    import torch

    model = network().double()
    for population in populations(model).values():
        population.neuron.spike_grad = lambda x: (x > 0).to(x.dtype)
    x = windows().double()
    scores, traces = stepped(model, x)
    with torch.no_grad():
        assert torch.equal(model(x), scores)
    for name, trace in traces.items():
        assert trace.spikes is not None
        assert float(model.rates[name]) == pytest.approx(trace.spikes.mean())
        assert 0.02 < trace.spikes.mean() < 0.9
    assert len(scores.unique()) > 3


def test_folding_keeps_the_scores() -> None:
    import torch

    model = network().double()
    x = windows().double()
    with torch.no_grad():
        before = model(x)
        assert model.fold() is model
        assert torch.equal(model(x), before)
        model.fold()
        assert torch.equal(model(x), before)
    assert not any("norm" in name for name in model.state_dict())


@pytest.mark.parametrize("precision", ["", "w8", "w158", "shift3"])
def test_the_graph_computes_the_network(precision: str) -> None:
    """Against snnTorch in float32: few windows differ, and first on the threshold.

    The step's input is the whole window, the same in every step.
    """
    import torch

    from edgekit.spiking.simulate import Simulator
    from edgekit.zoo.quantized import quantized

    model, x = network(), windows()
    model = quantized(model, precision, x) if precision else model.fold()
    model.eval()
    scores, traces = stepped(model, x)
    with torch.no_grad():
        direct = model(x)
    graph = model.graph("net")
    coded = [node.weight.quantized for node in graph.nodes.values() if hasattr(node, "weight")]
    assert coded == [bool(precision)] * 3
    observed: dict[str, list[Any]] = {}
    simulator = Simulator(
        graph,
        batch=len(x),
        observe=lambda name, value: observed.setdefault(name, []).append(value),
    )
    repeated = np.broadcast_to(x.numpy(), (model.steps, *x.shape))
    found = simulator.run(repeated)["scores"][-1]
    ours = {
        name: Trace(np.stack(observed[f"{name}.membrane"], 1), np.stack(observed[name], 1) > 0)
        for name in traces
    }
    drift = compare_traces(traces, ours, thresholds(model))
    drift.raise_if(farther=1e-5)
    assert drift.differing_windows <= 1, drift
    assert (found == scores.numpy()).all(1).sum() >= len(x) - drift.differing_windows
    assert (found == direct.numpy()).all(1).sum() >= len(x) - 1
    assert scores.any()


def test_training_reaches_every_parameter() -> None:
    model = network(dropout=0.2).train()
    model(windows()).square().sum().backward()
    missing = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # A bias in front of a normalisation over the batch moves nothing.
    assert missing <= {f"layers.{index}.weights.bias" for index in range(2)}


@pytest.mark.parametrize("shape", [(4, 21, 6), (4, 6, 20), (6, 21), (1, 4, 6, 21)])
def test_windows_of_another_shape(shape: tuple[int, ...]) -> None:
    import torch

    with pytest.raises(InvalidDataError, match=r"must be \[batch, 6, 21\]"):
        network()(torch.zeros(shape))
