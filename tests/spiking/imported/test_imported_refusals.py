"""What cannot be imported is refused by name, with what is supported instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import snntorch
import torch
from snntorch import spikegen, surrogate
from torch import Tensor, nn

from edgekit.errors import InvalidDataError, InvalidModelError, UnsupportedError, UsageError
from edgekit.spiking.imported import from_snntorch

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

NEURONS = "Leaky, Lapicque, RLeaky, Synaptic, RSynaptic"
SAMPLE = torch.linspace(-1, 1, 6)[None]
WINDOW = torch.linspace(-2, 2, 20 * 6).reshape(20, 1, 6)


def stream(neuron: nn.Module) -> nn.Module:
    """One layer, one step."""
    return nn.Sequential(nn.Linear(6, 8), neuron)


def leaky(**kwargs: Any) -> nn.Module:
    return snntorch.Leaky(**{"beta": 0.9, "init_hidden": True, **kwargs})


class OtherFire(snntorch.Leaky):
    def fire(self, mem: Tensor) -> Tensor:
        return super().fire(mem)


class Custom(snntorch.SpikingNeuron):
    def forward(self, x: Tensor) -> Tensor:
        return self.fire(x)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: snntorch.Alpha(alpha=0.9, beta=0.8),
            UnsupportedError,
            f"is of class Alpha; .*{NEURONS}",
        ),
        (lambda: snntorch.SLSTM(8, 8), UnsupportedError, f"SLSTM; .*{NEURONS}"),
        (lambda: snntorch.LeakyParallel(8, 8), UnsupportedError, f"LeakyParallel; .*{NEURONS}"),
        (lambda: Custom(), UnsupportedError, f"Custom; .*{NEURONS}"),
        (
            lambda: OtherFire(beta=0.9),
            UnsupportedError,
            "OtherFire, which is Leaky with another fire",
        ),
        (lambda: leaky(inhibition=True), UnsupportedError, "inhibition"),
        (lambda: leaky(state_quant=torch.round), UnsupportedError, "state_quant"),
        (lambda: leaky(reset_delay=False), UnsupportedError, "reset_delay=False.*'subtract'"),
        (
            lambda: leaky(reset_delay=False, reset_mechanism="zero", threshold=-0.5),
            UnsupportedError,
            "at least 0",
        ),
        (lambda: leaky(spike_grad=torch.sigmoid), UnsupportedError, "spike function"),
        (lambda: leaky(spike_grad=lambda x: (x >= 0).float()), UnsupportedError, "spike function"),
        (lambda: leaky(graded_spikes_factor=0.0), UnsupportedError, "graded_spikes_factor"),
        (lambda: leaky(beta=1.2), InvalidModelError, r"beta is 1\.2.*\[0, 1\]; snnTorch clamps"),
        (lambda: leaky(beta=torch.linspace(-0.1, 1, 8)), InvalidModelError, "beta is -0.1"),
        (lambda: leaky(beta=float("nan")), InvalidModelError, "beta has NaN"),
        (
            lambda: snntorch.Synaptic(alpha=1.5, beta=0.2, init_hidden=True),
            InvalidModelError,
            "alpha is 1.5",
        ),
        (
            lambda: snntorch.Lapicque(beta=0.1, init_hidden=True),
            InvalidModelError,
            "1 - T/RC = -1.30",
        ),
    ],
)
def test_neurons(make: Callable[[], nn.Module], error: type[Exception], message: str) -> None:
    with warnings.catch_warnings():
        # snnTorch calls inhibition unstable.
        warnings.simplefilter("ignore")
        network = stream(make())
    with pytest.raises(error, match=f"module '1'.*{message}"):
        from_snntorch(network, SAMPLE)


def test_clamp_takes_decays_as_snntorch_does() -> None:
    beta = torch.linspace(-0.5, 1.5, 8)
    node = from_snntorch(stream(leaky(beta=beta)), SAMPLE, clamp=True).nodes["leaky_1"]
    assert node.beta.tolist() == beta.clamp(0, 1).tolist()


def test_surrogates_do_not_matter() -> None:
    for spike_grad in (surrogate.fast_sigmoid(), surrogate.straight_through_estimator()):
        from_snntorch(stream(leaky(spike_grad=spike_grad)), SAMPLE)
    from_snntorch(stream(leaky(spike_grad=torch.sigmoid, surrogate_disable=True)), SAMPLE)


def test_a_reset_that_is_not_the_one_that_runs() -> None:
    network = stream(leaky())
    network[1].reset_mechanism = "zero"
    with pytest.raises(InvalidModelError, match="'subtract' and runs it.*'zero'"):
        from_snntorch(network, SAMPLE)


class Loop(nn.Module):
    """One layer, and a function that runs it."""

    def __init__(self, run: Callable[[Any, Tensor], Any], **kwargs: Any) -> None:
        super().__init__()
        self.fc, self.lif, self.run = nn.Linear(6, 8), snntorch.Leaky(beta=0.9, **kwargs), run

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def loop(
    change: Callable[[Any, int, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    result: Callable[[list[Tensor], list[Tensor]], Any] = lambda spikes, _: torch.stack(spikes),
    steps: int | None = None,
    axis: int = 0,
) -> Callable[[Any, Tensor], Any]:
    """Steps along an axis; `change` has the last word on every step's current and membrane."""

    def run(self: Any, x: Tensor) -> Any:
        membrane, spikes, membranes = self.lif.reset_mem(), [], []
        for step in range(steps or x.shape[axis]):
            x_t = x[step] if axis == 0 else x[:, step]
            current = self.fc(x_t)
            if change is not None:
                current, membrane = change(self, step, current, membrane)
            spike, membrane = self.lif(current, membrane)
            spikes.append(spike)
            membranes.append(membrane)
        return result(spikes, membranes)

    return run


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (loop(lambda s, t, i, u: (torch.relu(i), u)), "torch's relu; supported.*Linear, Conv1d"),
        (loop(lambda s, t, i, u: (i * i, u)), "a product of two signals"),
        (loop(lambda s, t, i, u: (i * (1 + t), u)), "is another in step 0 than in step 19 of 20"),
        (loop(lambda s, t, i, u: (i[:, :1] + 0 * i, u)), "a part of a population|indexing"),
        (loop(lambda s, t, i, u: (i + torch.rand_like(i), u)), "is another in step"),
        (loop(lambda s, t, i, u: (i, u * 0.9)), "mem in this step is neither zero nor"),
        (loop(lambda s, t, i, u: (i, u.mul_(0.9) if t else u)), "mem in this step is neither"),
        (loop(lambda s, t, i, u: (i, torch.ones(1, 8))), "mem in this step is neither zero"),
        (loop(lambda s, t, i, u: (i, torch.zeros(1, 8))), "start from zero in every step"),
        (loop(lambda s, t, i, u: (i if i.sum() > 0 else -i, u)), "perhaps to decide what"),
        (loop(lambda s, t, i, u: (i * i.max().item(), u)), "perhaps to decide what"),
        (loop(result=lambda s, _: torch.stack(s).sum(0).softmax(-1)), "torch's softmax"),
        (loop(result=lambda s, _: torch.stack(s).amax(0)), "torch's amax"),
        (
            loop(result=lambda s, _: torch.stack(s, out=torch.empty(20, 1, 8))),
            "torch's stack: mult",
        ),
        (loop(result=lambda s, _: torch.stack(s[::-1])), "not the same value in all steps"),
        (loop(result=lambda s, _: torch.stack(s[5:])), "15 values for 20 steps"),
        (loop(result=lambda s, _: sum(s[-5:])), "adds up or returns steps 15, .* 19 of 0 to 19"),
        (loop(result=lambda s, _: s[3]), "steps 3 of 0 to 19"),
        (loop(result=lambda s, _: torch.ones(3)), "independent of the input"),
        (loop(result=lambda s, _: 3), "returns no spikes"),
    ],
)
def test_loops(run: Callable[[Any, Tensor], Any], message: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(UnsupportedError, match=message):
        from_snntorch(Loop(run), WINDOW)


def test_random_encoding() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        return loop()(self, spikegen.rate(x, num_steps=10))

    with pytest.raises(UnsupportedError, match="module 'lif' reads the result of"):
        from_snntorch(Loop(run), SAMPLE.abs())


def test_membranes_that_are_no_sum() -> None:
    network = Loop(loop(result=lambda _, m: torch.stack(m)), reset_mechanism="zero")
    with pytest.raises(UnsupportedError, match="membrane of module 'lif' .*resets to zero"):
        from_snntorch(network, WINDOW)
    with pytest.raises(UnsupportedError, match="no spikes"):
        from_snntorch(network, WINDOW, membranes=False)


@pytest.mark.parametrize(
    ("run", "shape", "options", "message"),
    [
        (loop(), (1, 20, 6), {}, r"steps along axis 0 .*\[1, 20, 6\]; is the time axis in the wro"),
        (loop(steps=20), (1, 20, 6), {}, "reads step 1 along axis 0.*time axis is in the wrong"),
        (loop(axis=1), (20, 1, 6), {}, "steps along axis 1 .*time axis in the wrong place"),
        (loop(), (20, 1, 6), {"time_axis": 1}, "time axis is in the wrong place.*axis 0"),
        (loop(), (20, 3, 6), {"num_steps": 3}, "runs 20 steps .*num_steps says 3"),
        (loop(steps=30), (20, 3, 6), {}, "reads step 20 along axis 0.*too short"),
        (loop(), (20, 1, 7), {}, "forward of Loop fails on a sample of the shape"),
        (loop(), (20, 6), {}, "has no batch axis"),
    ],
)
def test_samples(
    run: Callable[[Any, Tensor], Any], shape: tuple[int, ...], options: Any, message: str
) -> None:
    with pytest.raises(InvalidDataError, match=message):
        from_snntorch(Loop(run), torch.ones(shape), **options)


@pytest.mark.parametrize(
    ("sample", "options", "error", "message"),
    [
        (torch.ones(6), {}, InvalidDataError, "no batch axis"),
        (WINDOW, {}, UnsupportedError, "name it with time_axis"),
        (WINDOW, {"time_axis": 1}, InvalidDataError, "1 steps along its axis 1.*wrong place"),
        (WINDOW, {"time_axis": 3}, UsageError, "time_axis is 3"),
        (SAMPLE, {"num_steps": 0}, UsageError, "num_steps is 0"),
        (SAMPLE * float("nan"), {}, InvalidDataError, "NaN"),
        (SAMPLE.double(), {}, UnsupportedError, "float64"),
        (SAMPLE[:, :0], {}, InvalidDataError, "at least one value"),
        ([0.0] * 6, {}, InvalidDataError, "list"),
    ],
)
def test_samples_of_one_step(
    sample: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        from_snntorch(stream(leaky()), sample, **options)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (nn.Linear(6, 8), InvalidModelError, f"no neuron of snnTorch; .*{NEURONS}"),
        (3, UsageError, "int is no torch"),
        (stream(leaky()).double(), UnsupportedError, "float64"),
        (
            nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), leaky()),
            UnsupportedError,
            "statistics of the batch",
        ),
        (
            nn.Sequential(nn.Linear(6, 9), nn.Unflatten(1, (1, 3, 3)), nn.Conv2d(1, 2, 2), leaky()),
            UnsupportedError,
            "a view of the shape",
        ),
    ],
)
def test_modules(module: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_snntorch(module, torch.cat((SAMPLE, -SAMPLE)))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), "torch's pad"),
        (nn.ConvTranspose2d(1, 2, 3), "torch's conv_transpose2d"),
        (nn.MaxPool2d(2, dilation=2), "max_pool with dilation"),
        (nn.MaxPool2d(2, ceil_mode=True), "max_pool from"),
        (nn.AvgPool2d(2, padding=1, count_include_pad=False), "avg_pool with divisor"),
        (nn.AdaptiveAvgPool2d(2), "adaptive_avg_pool from"),
        (nn.Tanh(), "torch's tanh"),
    ],
)
def test_layers(layer: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedError, match=f"module '1' reads the result of {message}"):
        from_snntorch(nn.Sequential(layer, leaky()), torch.ones(1, 1, 5, 5))


class States(nn.Module):
    """One step with states as arguments, and a mistake."""

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self.fc, self.lif, self.run = nn.Linear(6, 6), snntorch.Leaky(beta=0.9), run

    def forward(self, x: Tensor, mem: Tensor) -> Any:
        return self.run(self, x, mem)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda s, x, m: s.lif(s.fc(x), m)[0], "takes the state 'mem' .*does not return it"),
        (lambda s, x, m: s.lif(s.fc(x)), "'mem' of forward is no state"),
        (lambda s, x, m: s.lif(s.fc(x) + s.fc(m), m), "not states that it only hands"),
        (lambda s, x, m: s.lif(s.fc(x), s.lif.reset_mem() + 0 * m.sum()), "mem"),
    ],
)
def test_states(run: Callable[..., Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        from_snntorch(States(run), SAMPLE)


def test_a_forward_that_forgets() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        self.lif.reset_mem()
        return self.lif(self.fc(x))[0]

    with pytest.raises(UnsupportedError, match="starts from zero each time"):
        from_snntorch(Loop(run), SAMPLE)


def test_a_state_that_two_layers_share() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        self.lif.reset_mem()
        found = []
        for x_t in x:
            self.lif(self.fc(x_t))
            found.append(self.lif(self.fc(-x_t))[0])
        return torch.stack(found)

    with pytest.raises(UnsupportedError, match="is another in step|steps before"):
        from_snntorch(Loop(run), WINDOW)


def test_num_steps_that_forward_wants() -> None:
    class Asking(Loop):
        def forward(self, x: Tensor, num_steps: int) -> Tensor:
            return loop(steps=num_steps)(self, x)

    assert from_snntorch(Asking(loop()), WINDOW, num_steps=20).outputs() == ("spikes",)
    with pytest.raises(UsageError, match="num_steps"):
        from_snntorch(Asking(loop()), WINDOW)
