"""Imported networks against snnTorch itself: every way to write one, and every kind of neuron."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import snntorch
import torch
from snntorch import utils
from torch import Tensor, nn
from torch.nn import functional

from edgekit.spiking import SpikingGraph, to_window_model
from edgekit.spiking.imported import check_drift, from_snntorch
from edgekit.spiking.simulate import Simulator

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

STEPS = 60


@dataclass(frozen=True)
class Case:
    """A network, a sample for it, and how the import is told about them."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    time_axis: int | None
    options: Mapping[str, Any]
    result: str = "steps"


CASES: dict[str, Case] = {}


def case(
    *shape: int, time_axis: int | None = 0, result: str = "steps", **options: Any
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Enter a network; the shape is the sample's."""

    def enter(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        CASES[make.__name__.strip("_")] = Case(make, shape, time_axis, options, result)
        return make

    return enter


class Loop(nn.Module):
    """A network that runs the function `step` for every step of the sample."""

    def __init__(self, axis: int = 0, result: str = "stack") -> None:
        super().__init__()
        self.axis, self.result = axis, result

    def begin(self, x: Tensor) -> list[Any]:
        """States before the first step."""
        raise NotImplementedError

    def step(self, x: Tensor, states: list[Any]) -> Tensor:
        """One step; changes the list of states."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        """All steps."""
        states, found = self.begin(x), []
        for t in range(x.shape[self.axis]):
            found.append(self.step(x.select(self.axis, t), states))
        stacked = torch.stack(found)
        return {"stack": stacked, "sum": stacked.sum(0), "mean": stacked.mean(dim=0)}[self.result]


class Dense(Loop):
    """Two layers with explicit states, of any kind of neuron."""

    def __init__(self, first: nn.Module, second: nn.Module, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fc1, self.lif1 = nn.Linear(6, 32), first
        self.fc2, self.lif2 = nn.Linear(32, 7, bias=False), second

    def begin(self, x: Tensor) -> list[Any]:
        return [_as_tuple(lif.reset_mem()) for lif in (self.lif1, self.lif2)]

    def step(self, x: Tensor, states: list[Any]) -> Tensor:
        spikes, *states[0] = _states(self.lif1, self.fc1(x), states[0])
        spikes, *states[1] = _states(self.lif2, self.fc2(spikes), states[1])
        return spikes


def _as_tuple(states: Any) -> tuple[Tensor, ...]:
    return states if isinstance(states, tuple) else (states,)


def _states(neuron: nn.Module, current: Tensor, states: Any) -> Any:
    """A call with the states of before; recurrent neurons return their spikes as one of them."""
    result = neuron(current, *states)
    recurrent = isinstance(neuron, snntorch.RLeaky | snntorch.RSynaptic)
    return (result[0], *result) if recurrent else result


BETAS = torch.linspace(0.3, 0.97, 32)
"""One decay per neuron."""


for _reset in ("subtract", "zero", "none"):
    for _name, _pair in {
        "leaky": lambda r: (
            snntorch.Leaky(beta=BETAS, reset_mechanism=r),
            snntorch.Leaky(beta=0.9, threshold=0.7, reset_mechanism=r),
        ),
        "synaptic": lambda r: (
            snntorch.Synaptic(alpha=0.7, beta=BETAS, reset_mechanism=r),
            snntorch.Synaptic(alpha=torch.rand(7), beta=0.8, reset_mechanism=r),
        ),
        "rleaky": lambda r: (
            snntorch.RLeaky(beta=0.8, linear_features=32, reset_mechanism=r),
            snntorch.RLeaky(beta=0.9, all_to_all=False, V=torch.randn(7), reset_mechanism=r),
        ),
        "rsynaptic": lambda r: (
            snntorch.RSynaptic(alpha=0.6, beta=0.8, linear_features=32, reset_mechanism=r),
            snntorch.RSynaptic(alpha=0.5, beta=0.7, all_to_all=False, V=-0.4, reset_mechanism=r),
        ),
        "lapicque": lambda r: (
            snntorch.Lapicque(R=2.0, C=3.0, time_step=1, reset_mechanism=r),
            snntorch.Lapicque(beta=0.8, threshold=0.5, reset_mechanism=r),
        ),
    }.items():
        CASES[f"{_name}_{_reset}"] = Case(
            lambda pair=_pair, reset=_reset: Dense(*pair(reset)), (STEPS, 3, 6), 0, {}
        )


@case(2, STEPS, 6, time_axis=1, result="last")
def _time_behind_batch() -> nn.Module:
    return Dense(snntorch.Leaky(beta=0.9), snntorch.Leaky(beta=0.8), axis=1, result="sum")


@case(STEPS, 2, 6, result="last")
def _mean_over_time() -> nn.Module:
    return Dense(snntorch.Leaky(beta=0.9), snntorch.Leaky(beta=0.8), result="mean")


@case(STEPS, 2, 6, time_axis=0)
def _streaming_sequential() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(6, 24), nn.Dropout(0.5), nn.Identity()),
        snntorch.Leaky(beta=0.9, init_hidden=True, learn_beta=True, learn_threshold=True),
        nn.Linear(24, 24),
        snntorch.RSynaptic(alpha=0.5, beta=0.6, linear_features=24, init_hidden=True),
        nn.Linear(24, 5),
        snntorch.Synaptic(alpha=0.9, beta=0.8, init_hidden=True, output=True),
    )


@case(STEPS, 2, 2, 12, 10, time_axis=0)
def _streaming_convolutions() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.MaxPool2d(2)),
        snntorch.Leaky(beta=torch.rand(8, 1, 1), init_hidden=True),
        *(nn.Conv2d(8, 12, (3, 2), stride=(2, 1), dilation=(1, 2), groups=4), nn.BatchNorm2d(12)),
        snntorch.Leaky(beta=0.5, threshold=0.4, init_hidden=True),
        *(nn.AvgPool2d(2, stride=1), nn.Flatten(), nn.Dropout()),
        nn.Linear(12 * 1 * 2, 5),
        snntorch.Leaky(beta=0.9, threshold=0.3, init_hidden=True, output=True),
    )


@case(STEPS, 1, 3, 40, time_axis=0)
def _streaming_1d() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv1d(3, 8, 4, padding="same"), nn.AvgPool1d(2, padding=1)),
        snntorch.Synaptic(alpha=0.5, beta=0.6, threshold=0.5, init_hidden=True),
        *(nn.MaxPool1d(3, stride=2), nn.Conv1d(8, 6, 3, stride=2), nn.BatchNorm1d(6)),
        snntorch.Lapicque(R=1.5, C=2.0, threshold=0.3, init_hidden=True),
        *(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 4)),
        snntorch.Leaky(beta=0.9, threshold=0.2, init_hidden=True),
    )


@case(STEPS, 2, 2, 8, 8, time_axis=0)
def _recurrent_convolution() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        snntorch.RLeaky(beta=0.7, conv2d_channels=4, kernel_size=3, init_hidden=True),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5)),
        snntorch.RSynaptic(alpha=0.4, beta=0.7, all_to_all=False, V=0.5, init_hidden=True),
    )


@case(STEPS, 2, 6, result="last")
def _graded_spikes() -> nn.Module:
    return Dense(
        snntorch.Leaky(beta=0.9, graded_spikes_factor=torch.rand(32) + 0.5),
        snntorch.Leaky(beta=0.8, graded_spikes_factor=1.7, learn_graded_spikes_factor=True),
        result="sum",
    )


@case(STEPS, 2, 1, 8, 8, time_axis=0)
def _graded_spikes_through_pooling() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        snntorch.Leaky(
            beta=0.6, threshold=0.5, graded_spikes_factor=torch.rand(4, 1, 1), init_hidden=True
        ),
        nn.Conv2d(4, 4, 1, groups=2),
        snntorch.Leaky(beta=0.6, threshold=0.2, graded_spikes_factor=0.6, init_hidden=True),
        *(nn.AvgPool2d(2), nn.MaxPool2d(2, stride=1), nn.Flatten(), nn.Linear(16, 3)),
        snntorch.Leaky(beta=0.9, threshold=0.1, init_hidden=True),
    )


@case(STEPS, 2, 6)
def _immediate_reset() -> nn.Module:
    return Dense(
        snntorch.Leaky(beta=0.9, reset_mechanism="zero", reset_delay=False),
        snntorch.RLeaky(
            beta=0.8, all_to_all=False, V=0.3, reset_mechanism="zero", reset_delay=False
        ),
    )


class Constant(nn.Module):
    """The same input in every step, spikes and membranes in lists."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(28, 20), snntorch.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(20, 4), snntorch.Leaky(beta=0.8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Every step reads the whole sample."""
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, membranes = [], []
        current = self.fc1(x.view(x.size(0), -1))
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(current, mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes, dim=0), torch.stack(membranes, dim=0)


@case(3, 4, 7, time_axis=None, num_steps=STEPS)
def _constant_input() -> nn.Module:
    return Constant()


@case(3, 4, 7, time_axis=None, membranes=True)
def _spikes_and_membranes() -> nn.Module:
    return Constant()


class Explicit(Loop):
    """Recurrence written out: a layer on the spikes of the step before, and a concatenation."""

    def __init__(self) -> None:
        super().__init__(result="sum")
        self.inner, self.back = nn.Linear(6, 30), nn.Linear(30, 30, bias=False)
        self.lif1 = snntorch.Leaky(beta=0.8)
        self.joint, self.lif2 = nn.Linear(30 + 5, 5), snntorch.Synaptic(alpha=0.6, beta=0.7)

    def begin(self, x: Tensor) -> list[Any]:
        n = x.shape[1]
        zeros = torch.zeros(n, 30), torch.zeros(n, 5)
        return [zeros[0], self.lif1.reset_mem(), zeros[1], *self.lif2.reset_mem()]

    def step(self, x: Tensor, states: list[Any]) -> Tensor:
        spk1, mem1, spk2, syn2, mem2 = states
        spk1, mem1 = self.lif1(self.inner(x) + self.back(spk1), mem1)
        joined = torch.cat([spk1, spk2], dim=1)
        spk2, syn2, mem2 = self.lif2(self.joint(joined), syn2, mem2)
        states[:] = spk1, mem1, spk2, syn2, mem2
        return spk2


@case(STEPS, 2, 6, result="last")
def _explicit_recurrence() -> nn.Module:
    return Explicit()


class Biased(Explicit):
    """The same with a bias on the way back, which is there in the first step too."""

    def __init__(self) -> None:
        super().__init__()
        self.back = nn.Linear(30, 30)


@case(STEPS, 2, 6, result="last")
def _explicit_recurrence_with_bias() -> nn.Module:
    return Biased()


class Functional(nn.Module):
    """Functions for modules, one neuron module for two layers, sums kept while the loop runs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 8) / 2)
        self.scale = nn.Parameter(torch.rand(16) + 0.5)
        self.out = nn.utils.parametrizations.weight_norm(nn.Linear(16, 4))
        self.lif = snntorch.Leaky(beta=0.85)

    def forward(self, x: Tensor) -> Tensor:
        """Time is the last axis."""
        mem1, mem2 = torch.zeros(x.shape[0], 16), torch.zeros(x.shape[0], 4)
        total = torch.zeros(x.shape[0], 4)
        for x_t in x.permute(2, 0, 1):
            current = functional.linear(x_t * 0.5 + 0.1, self.weight) * self.scale - 0.05
            spk1, mem1 = self.lif(current, mem1)
            spk2, mem2 = self.lif(self.out(functional.dropout(spk1, 0.5, self.training)), mem2)
            total += spk2
        return total


@case(2, 8, STEPS, time_axis=2, result="last")
def _functional() -> nn.Module:
    return Functional()


class Filled(nn.Module):
    """Results put into a tensor made before, the readout behind the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(5, 12), snntorch.Leaky(beta=0.9, learn_beta=True)
        self.fc2 = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The first layer takes all steps at once."""
        current, mem = self.fc1(x), self.lif1.init_leaky()
        out = torch.zeros(x.shape[1], x.shape[0], 12)
        for t in range(x.shape[0]):
            out[:, t], mem = self.lif1(current[t], mem)
        return out, self.fc2(out.sum(dim=1))


@case(STEPS, 2, 5, result="batch first")
def _filled() -> nn.Module:
    return Filled()


class Readout(nn.Module):
    """A last layer whose membrane is the result."""

    def __init__(self, readout: nn.Module, last: bool) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(5, 12), snntorch.Leaky(beta=0.9)
        self.fc2, self.readout, self.last = nn.Linear(12, 3), readout, last

    def forward(self, x: Tensor) -> Tensor:
        """Membranes of all steps, or of the last."""
        self.lif1.reset_mem(), self.readout.reset_mem()
        found = []
        for x_t in x.unbind(0):
            spikes, _ = self.lif1(self.fc1(x_t))
            *_, membrane = self.readout(self.fc2(spikes))
            found.append(membrane)
        return found[-1] if self.last else torch.stack(found, 1)


@case(STEPS, 2, 5, result="last")
def _integrator() -> nn.Module:
    return Readout(snntorch.Leaky(beta=0.95, reset_mechanism="none"), last=True)


@case(STEPS, 2, 5, result="batch first")
def _synaptic_integrator() -> nn.Module:
    return Readout(snntorch.Synaptic(alpha=0.9, beta=0.95, reset_mechanism="none"), last=False)


@case(STEPS, 2, 5, result="batch first")
def _membrane_with_reset() -> nn.Module:
    return Readout(snntorch.Leaky(beta=0.95, threshold=0.4), last=False)


@case(STEPS, 2, 5, result="batch first")
def _synaptic_membrane_with_reset() -> nn.Module:
    return Readout(snntorch.Synaptic(alpha=0.8, beta=0.9, threshold=torch.rand(3)), last=False)


class States(nn.Module):
    """One step, states as arguments and as results."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(6, 24), snntorch.RLeaky(beta=0.8, linear_features=24)
        self.fc2, self.lif2 = nn.Linear(24, 4), snntorch.Synaptic(alpha=0.7, beta=0.9)

    def forward(
        self, x: Tensor, spk1: Tensor, mem1: Tensor, syn2: Tensor, mem2: Tensor
    ) -> tuple[Tensor, ...]:
        """Spikes of the last layer first."""
        spk1, mem1 = self.lif1(self.fc1(x), spk1, mem1)
        spk2, syn2, mem2 = self.lif2(self.fc2(spk1), syn2, mem2)
        return spk2, spk1, mem1, syn2, mem2


@case(STEPS, 2, 6)
def _states_as_arguments() -> nn.Module:
    return States()


@pytest.mark.parametrize("name", CASES)
def test_graph_does_what_snntorch_does(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(sum(map(ord, name)))
    network = case.make().eval()
    _randomise_statistics(network)
    graph = from_snntorch(network, _sample(case), time_axis=case.time_axis, **case.options)
    samples = _sample(case)
    options = {k: v for k, v in case.options.items() if k == "num_steps"}
    drift = check_drift(graph, network, samples, time_axis=case.time_axis, **options)
    drift.raise_if()
    assert (drift.steps, drift.windows) == (STEPS, _batch(case))
    assert drift.spikes > drift.steps * drift.windows, "too quiet to compare anything"
    assert drift.differing == 0, "choose another seed: outputs cannot be compared"
    expected = _by_snntorch(network, samples, case)
    found = _by_graph(graph, samples, case)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize(
    "name", ["rsynaptic_zero", "streaming_convolutions", "explicit_recurrence_with_bias", "filled"]
)
def test_onnx_runtime_does_too(name: str) -> None:
    from tests.support.spiking_onnx import run_window

    case = CASES[name]
    torch.manual_seed(sum(map(ord, name)))
    network, sample = case.make().eval(), _sample(case)
    graph = from_snntorch(network, sample, time_axis=case.time_axis, **case.options)
    window = sample.movedim(case.time_axis or 0, 0)[:, 0].numpy()
    expected = Simulator(graph).run(window)
    found = run_window(to_window_model(graph, STEPS), {"input": window})
    for output in graph.outputs():
        np.testing.assert_allclose(found[output][:, 0], expected[output], rtol=1e-5, atol=1e-5)


def _random_neuron(rng: np.random.Generator, width: int) -> nn.Module:
    """Any kind, with any reset, and parameters shared or one per neuron."""

    def decay() -> Any:
        shared = float(rng.uniform(0.2, 1.0))
        return shared if rng.random() < 0.5 else torch.rand(width)

    reset = str(rng.choice(["subtract", "zero", "none"]))
    threshold = torch.rand(width) * 2 + 0.2 if rng.random() < 0.5 else float(rng.uniform(0.3, 1.5))
    common: dict[str, Any] = {
        "threshold": threshold,
        "reset_mechanism": reset,
        "init_hidden": True,
        "learn_threshold": bool(rng.random() < 0.5),
    }
    recurrence: dict[str, Any] = (
        {"linear_features": width}
        if rng.random() < 0.5
        else {"all_to_all": False, "V": torch.randn(width) if rng.random() < 0.5 else 0.4}
    )
    kind = int(rng.integers(5))
    if kind == 0:
        return snntorch.Leaky(beta=decay(), learn_beta=bool(rng.random() < 0.5), **common)
    if kind == 1:
        return snntorch.Synaptic(alpha=decay(), beta=decay(), **common)
    if kind == 2:
        return snntorch.RLeaky(beta=decay(), **recurrence, **common)
    if kind == 3:
        return snntorch.RSynaptic(alpha=decay(), beta=decay(), **recurrence, **common)
    return snntorch.Lapicque(R=float(rng.uniform(1, 3)), C=float(rng.uniform(1, 4)), **common)


@pytest.mark.parametrize("seed", range(16))
def test_random_networks(seed: int) -> None:
    """A neuron of any kind behind any other; the first difference must lie on the threshold."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    widths = [5, *(int(n) for n in rng.integers(1, 40, rng.integers(1, 5)))]
    layers: list[nn.Module] = []
    for before, width in pairwise(widths):
        layers.append(nn.Linear(before, width, bias=bool(rng.random() < 0.7)))
        if rng.random() < 0.4:
            layers.append(nn.BatchNorm1d(width))
        layers.append(_random_neuron(rng, width))
    network = nn.Sequential(*layers)
    _randomise_statistics(network)
    graph = from_snntorch(network, torch.randn(2, 5))
    drift = check_drift(graph, network, torch.randn(STEPS, 3, 5) * 2, time_axis=0)
    drift.raise_if()
    assert drift.neurons == sum(widths[1:])
    assert drift.differing_windows <= 1


def _sample(case: Case) -> Tensor:
    return torch.randn(case.shape) * 2 + 0.3


def _batch(case: Case) -> int:
    return next(n for axis, n in enumerate(case.shape) if axis != case.time_axis)


def _randomise_statistics(network: nn.Module) -> None:
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            for values in (part.running_mean, part.weight, part.bias):
                nn.init.normal_(values)
            nn.init.uniform_(part.running_var, 0.5, 2.0)


@torch.no_grad()
def _by_snntorch(network: nn.Module, samples: Tensor, case: Case) -> np.ndarray:
    """The first result of forward; of a streaming network that of every step, stacked."""
    utils.reset(network)
    if isinstance(network, States):
        states: tuple[Tensor, ...] = (torch.zeros(0),) * 4
        found = []
        for x in samples:
            spikes, *states = network(x, *states)
            found.append(spikes)
        return torch.stack(found).numpy()
    if isinstance(network, nn.Sequential):
        found = [network(x) for x in samples.movedim(case.time_axis or 0, 0)]
        return torch.stack([f[0] if isinstance(f, tuple) else f for f in found]).numpy()
    result = network(samples)
    return (result[0] if isinstance(result, tuple) else result).numpy()


def _by_graph(graph: SpikingGraph, samples: Tensor, case: Case) -> np.ndarray:
    """The first Output in the form in which forward returns it."""
    shape = graph.nodes["input"].shape
    window = (
        samples.expand(STEPS, *samples.shape)
        if case.time_axis is None
        else samples.movedim(case.time_axis, 0)
    ).reshape(STEPS, _batch(case), *shape)
    values = Simulator(graph, batch=_batch(case)).run(window.numpy())[graph.outputs()[0]]
    return {"steps": values, "last": values[-1], "batch first": np.moveaxis(values, 0, 1)}[
        case.result
    ]
