"""Fused populations and cells: values and gradients of snnTorch's neurons under autograd.

Both run in float64, so that what differs is a mistake and not rounding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch", "sklearn")]  # with snnTorch's extra

BATCH = 3
KINDS = ("leaky", "synaptic")


def arctangent(x: Tensor) -> Tensor:
    """Spikes whose derivative is that of ``atan(pi x) / pi``: the surrogate, by its primitive."""
    import torch

    smooth = torch.atan(math.pi * x) / math.pi
    return (x > 0).to(x.dtype) + (smooth - smooth.detach())


def test_the_surrogate_is_snntorchs_default() -> None:
    """By which neurons of a :class:`Population` run when they are called one by one."""
    import torch
    from snntorch import surrogate

    gradients = []
    for function in (arctangent, surrogate.atan(alpha=2.0), surrogate.atan()):
        x = torch.linspace(-3, 3, 101, requires_grad=True)
        gradients.append(torch.autograd.grad(function(x).sum(), x)[0])
    torch.testing.assert_close(gradients[1], gradients[2], rtol=0, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1])


def drawn(n: int, kind: str, *, each: bool, beyond: bool = False) -> Any:
    """Random parameters of `n` neurons, as leaves.

    Args:
        n: neurons.
        kind: of neurons.
        each: whether every neuron has its own.
        beyond: whether some decays lie at and beyond the limits.
    """
    import torch

    from edgekit.spiking.layers.scan import Neurons

    size = n if each else 1
    beta = torch.rand(size, dtype=torch.float64)
    alpha = torch.rand(size, dtype=torch.float64)
    if beyond:
        edges = torch.tensor([-0.2, 0.0, 1.0, 1.3], dtype=torch.float64)
        beta, alpha = beta.clone(), alpha.clone()
        beta[:4], alpha[-4:] = edges[:size], edges[:size]
    threshold = 0.5 + torch.rand(size, dtype=torch.float64)
    return Neurons(
        beta.requires_grad_(),
        threshold.requires_grad_(),
        alpha.requires_grad_() if kind == "synaptic" else None,
    )


class Stepped:
    """The same neurons as an snnTorch module that is called step by step."""

    def __init__(self, neurons: Any) -> None:
        import snntorch

        if neurons.alpha is None:
            self.neuron: Any = snntorch.Leaky(
                neurons.beta, threshold=neurons.threshold, spike_grad=arctangent
            )
        else:
            self.neuron = snntorch.Synaptic(
                neurons.alpha, neurons.beta, threshold=neurons.threshold, spike_grad=arctangent
            )
        self.state: list[Tensor] = []

    def __call__(self, current: Tensor) -> Tensor:
        """Spikes of one step."""
        spikes, *self.state = self.neuron(current, *self.state)
        return spikes  # type: ignore[no-any-return]


def leaves(neurons: Any) -> list[Tensor]:
    """The parameters that there are."""
    return [t for t in neurons.tensors if t is not None]


def assert_same(found: Any, wanted: Any) -> None:
    """Equal up to float64 rounding."""
    import torch

    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("beyond", [True, False])
@pytest.mark.parametrize("steps", [1, 25])
def test_scan(kind: str, each: bool, beyond: bool, steps: int) -> None:
    """Spikes, and the gradients of currents, decays and thresholds."""
    import torch

    from edgekit.spiking.layers.scan import scan

    torch.manual_seed(steps)
    n = 6
    neurons = drawn(n, kind, each=each, beyond=beyond)
    currents = torch.randn(steps, BATCH, n, dtype=torch.float64).requires_grad_()
    before = currents.detach().clone()
    cotangent = torch.randn(steps, BATCH, n, dtype=torch.float64)
    inputs = [currents, *leaves(neurons)]
    stepped = Stepped(neurons)
    wanted = torch.stack([stepped(current) for current in currents])
    found = scan(currents, neurons)
    assert torch.equal(found, wanted.detach())
    assert 0 < float(found.detach().mean()) < 1
    gradients = torch.autograd.grad(found, inputs, cotangent, retain_graph=True)
    assert_same(gradients, torch.autograd.grad(wanted, inputs, cotangent))
    # Nothing that backward needs was overwritten, nor what the caller has.
    assert_same(torch.autograd.grad(found, inputs, cotangent), gradients)
    assert torch.equal(currents, before)


def test_the_limits_of_a_decay() -> None:
    """Beyond 0…1 a decay acts as the limit and gets no gradient, at the limit it gets all of it."""
    import torch

    from edgekit.spiking.layers.scan import Neurons, scan

    beta = torch.tensor([-0.5, 0.0, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    threshold = torch.tensor([3.0], dtype=torch.float64)
    currents = torch.rand(20, 2, 4, dtype=torch.float64)
    spikes = scan(currents, Neurons(beta, threshold))
    limited = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    assert torch.equal(spikes, scan(currents, Neurons(limited, threshold)))
    (gradient,) = torch.autograd.grad(spikes.sum(), beta)
    assert (gradient != 0).tolist() == [False, True, True, False]


SIZES = {"u": 2, "m": 6, "h": 5}


def problem(kinds: tuple[str, str, str], steps: int, *, each: bool = True) -> tuple[Any, ...]:
    """Currents, weights and populations of a cell, as leaves."""
    import torch

    from edgekit.spiking.layers.scan import CellWeights

    def normal(*shape: int, gain: float = 1.0) -> Tensor:
        return (gain * torch.randn(*shape, dtype=torch.float64)).requires_grad_()

    n_u, n_m, n_h = SIZES.values()
    from_u, from_h = normal(steps, BATCH, n_u), normal(steps, BATCH, n_h)
    weights = CellWeights(
        u_h=normal(n_u, n_h, gain=0.5),
        u_m=normal(n_u, n_m, gain=0.5),
        m_m=normal(n_m, n_m, gain=0.6),
        m_u=normal(n_m, n_u),
        h_h=normal(n_h, n_h, gain=0.5),
        h_m=normal(n_h, n_m, gain=0.6),
    )
    neurons = {
        name: drawn(n, kind, each=each)
        for (name, n), kind in zip(SIZES.items(), kinds, strict=True)
    }
    return from_u, from_h, weights, neurons


def reference(from_u: Tensor, from_h: Tensor, w: Any, neurons: Any, share: float) -> Any:
    """The cell by the equations of its docstring, with snnTorch's neurons, under autograd.

    Delayed spikes of the memory pass `share` of their gradient on.
    """
    import torch

    u, m, h = (Stepped(neurons[name]) for name in "umh")
    s_h = from_h.new_zeros(BATCH, SIZES["h"])
    s_m = from_h.new_zeros(BATCH, SIZES["m"])
    found: tuple[list[Tensor], ...] = ([], [], [])
    for now_u, now_h in zip(from_u, from_h, strict=True):
        before = share * s_m + (1 - share) * s_m.detach()
        s_u = u(now_u + s_h @ w.u_h.T + before @ w.u_m.T)
        s_m = m(before @ w.m_m.T + s_u @ w.m_u.T)
        s_h = h(now_h + s_h @ w.h_h.T + s_m @ w.h_m.T)
        for spikes, these in zip(found, (s_u, s_m, s_h), strict=True):
            spikes.append(these)
    return [torch.stack(spikes) for spikes in found]


@pytest.mark.parametrize(
    "kinds",
    [("leaky",) * 3, ("synaptic",) * 3, ("leaky", "synaptic", "leaky")],
    ids=["leaky", "synaptic", "mixed"],
)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("each", [True, False])
def test_cell(kinds: tuple[str, str, str], share: float, each: bool) -> None:
    """Spikes of all populations, and the gradients of everything that goes in."""
    import torch

    from edgekit.spiking.layers.scan import cell

    torch.manual_seed(1)
    from_u, from_h, weights, neurons = problem(kinds, 20, each=each)
    wanted = reference(from_u, from_h, weights, neurons, share)
    found = cell(from_u, from_h, weights, **neurons, memory_gradient=share)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)
        assert 0.02 < float(one.detach().mean()) < 0.98
    cotangents = [torch.randn_like(spikes) for spikes in wanted]
    inputs = [from_u, from_h, *weights.tensors]
    inputs += [t for name in "umh" for t in leaves(neurons[name])]
    gradients = torch.autograd.grad(found, inputs, cotangents, retain_graph=True)
    assert_same(gradients, torch.autograd.grad(wanted, inputs, cotangents))
    assert_same(torch.autograd.grad(found, inputs, cotangents), gradients)


def test_the_share_of_the_gradient_matters_to_the_gradient_alone() -> None:
    """Without it the reference above could pass by ignoring it on both sides."""
    import torch

    from edgekit.spiking.layers.scan import cell

    torch.manual_seed(2)
    from_u, from_h, weights, neurons = problem(("leaky",) * 3, 20)
    found = [cell(from_u, from_h, weights, **neurons, memory_gradient=s) for s in (0.0, 0.5, 1.0)]
    gradients = []
    for spikes in found:
        assert all(torch.equal(a, b) for a, b in zip(spikes, found[0], strict=True))
        gradients.append(torch.autograd.grad(spikes[2].sum(), from_u)[0])
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(gradients[1:], gradients, strict=False))


def test_one_step_and_constant_weights() -> None:
    """Nothing recurs in one step; weights that are not trained get no gradient."""
    import torch

    from edgekit.spiking.layers.scan import CellWeights, cell

    torch.manual_seed(3)
    from_u, from_h, weights, neurons = problem(("leaky",) * 3, 1)
    constant = CellWeights(
        **vars(weights) | {"m_m": weights.m_m.detach(), "m_u": weights.m_u.detach()}
    )
    found = cell(from_u, from_h, constant, **neurons)
    inputs = [from_u, from_h, weights.u_h, weights.h_h, weights.h_m]
    gradients = torch.autograd.grad(found[2].sum(), inputs)
    wanted = reference(from_u, from_h, constant, neurons, 1.0)
    through_m = torch.autograd.grad(wanted[2].sum(), [from_u, from_h, weights.h_m])
    assert_same([*gradients[:2], gradients[4]], through_m)
    assert not gradients[2].any() and not gradients[3].any()
    cell(from_u, from_h, constant, **neurons)[0].sum().backward()
    assert from_u.grad is not None and from_u.grad.any()
    assert weights.m_m.grad is None and weights.m_u.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_snntorchs_to_the_bit(kind: str) -> None:
    """The order of operations is that of its source: not one spike in 200 000 differs."""
    import snntorch
    import torch

    from edgekit.spiking.layers.scan import Neurons, scan

    torch.manual_seed(4)
    beta, alpha, threshold = torch.rand(50), torch.rand(50), 0.5 + torch.rand(50)
    currents = torch.randn(200, 20, 50)
    if kind == "leaky":
        neuron: Any = snntorch.Leaky(beta, threshold=threshold)
        neurons = Neurons(beta, threshold)
    else:
        neuron = snntorch.Synaptic(alpha, beta, threshold=threshold)
        neurons = Neurons(beta, threshold, alpha)
    state, wanted = (), []
    for current in currents:
        spikes, *state = neuron(current, *state)
        wanted.append(spikes)
    assert torch.equal(scan(currents, neurons), torch.stack(wanted))
