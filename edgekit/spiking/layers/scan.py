"""Spiking neurons over whole sequences, with hand-written gradients.

snnTorch's neurons run one step a call, and autograd records every one of their small operations: on
a CPU that bookkeeping takes longer than the arithmetic. The functions here compute the same values
in the same order, step by step, in place, and their backward passes are the same derivatives
written down once:

- the spike's derivative is the arctangent surrogate ``(α/2) / (1 + (π/2·α·(u − ϑ))²)`` with α = 2
  (Fang et al. 2021, arXiv 2007.05785), snnTorch's default;
- the reset is not differentiated, but by its threshold, as in snnTorch.

Sequences are ``[T,N,n]``: steps, batch, neurons. Times before the first step are 0.

A neuron with reset by subtraction (snnTorch's order of operations, ``r`` the spike of the step
before)::

    leaky:     u[t] = β u[t-1] + x[t] − ϑ r[t]
    synaptic:  i[t] = α i[t-1] + x[t];   u[t] = β u[t-1] + i[t] − ϑ r[t]
    spike:     s[t] = 1 where u[t] > ϑ
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SURROGATE_SLOPE = 2.0
"""α of the surrogate."""


@dataclass(frozen=True)
class Neurons:
    """Parameters of a population, each ``[1]`` or ``[n]``; decays are limited to 0…1 in use.

    Attributes:
        beta: decay of the membrane.
        threshold: ϑ.
        alpha: decay of the synaptic current; None where there is none.
    """

    beta: Tensor
    threshold: Tensor
    alpha: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """What an autograd function takes."""
        return self.beta, self.threshold, self.alpha


class _Population:
    """One population inside a scan: its state over all steps, forward and backward."""

    def __init__(self, currents: Tensor, neurons: Neurons) -> None:
        self.membranes = currents.clone()
        self.spikes = torch.empty_like(currents)
        self.synaptic = None if neurons.alpha is None else torch.empty_like(currents)
        self.threshold = neurons.threshold.detach()
        self.beta = neurons.beta.detach().clamp(0, 1)
        self.alpha = None if neurons.alpha is None else neurons.alpha.detach().clamp(0, 1)

    def step(self, t: int) -> None:
        """Turn the current that lies in ``membranes[t]`` into the membrane and the spikes."""
        u = self.membranes[t]
        if self.synaptic is not None and self.alpha is not None:
            if t:
                u.addcmul_(self.synaptic[t - 1], self.alpha)
            self.synaptic[t].copy_(u)
        if t:
            u.addcmul_(self.membranes[t - 1], self.beta)
            u.addcmul_(self.spikes[t - 1], self.threshold, value=-1)
        else:
            u.add_(torch.relu(-self.threshold))  # a membrane of 0 lies above a threshold below 0
        torch.sub(u, self.threshold, out=self.spikes[t]).gt_(0)

    def saved(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the backward pass needs."""
        return self.membranes, self.spikes, self.synaptic


class _Gradient:
    """The backward pass of a population, from the last step to the first.

    Args:
        saved: of :meth:`_Population.saved`.
        neurons: the parameters.
        spikes: gradient of the spikes [T,N,n] as far as it is known; callers add to it.
    """

    def __init__(
        self,
        saved: tuple[Tensor, Tensor, Tensor | None],
        neurons: Neurons,
        spikes: Tensor,
    ) -> None:
        self.membranes, self.emitted, self.synaptic = saved
        self.neurons = neurons
        self.spikes = spikes.clone()
        half = SURROGATE_SLOPE / 2
        scaled = (self.membranes - neurons.threshold).mul_(math.pi * half)
        self.membrane = scaled.mul_(scaled).add_(1).reciprocal_().mul_(half)
        self.current = self.membrane if self.synaptic is None else torch.empty_like(self.membrane)
        self.beta = neurons.beta.clamp(0, 1)
        self.alpha = None if neurons.alpha is None else neurons.alpha.clamp(0, 1)

    def step(self, t: int) -> Tensor:
        """The gradient of the current of step `t`, once that of its spikes is whole."""
        last = t == len(self.membrane) - 1
        u = self.membrane[t].mul_(self.spikes[t])
        self.spikes[t].copy_(u)  # for the threshold, without what later steps add
        if not last:
            u.addcmul_(self.membrane[t + 1], self.beta)
        if self.alpha is not None:
            self.current[t].copy_(u)
            if not last:
                self.current[t].addcmul_(self.current[t + 1], self.alpha)
        return self.current[t]

    def parameters(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Gradients of beta, threshold and alpha."""
        neurons = self.neurons
        beta = _summed(self.membrane[1:] * self.membranes[:-1], neurons.beta)
        reset = _summed(self.membrane[1:] * self.emitted[:-1], neurons.threshold)
        first = self.membrane[:1] * (neurons.threshold < 0)
        reset = reset + _summed(first, neurons.threshold)
        threshold = -_summed(self.spikes, neurons.threshold) - reset
        alpha = None
        if neurons.alpha is not None and self.synaptic is not None:
            alpha = _inside(
                _summed(self.current[1:] * self.synaptic[:-1], neurons.alpha), neurons.alpha
            )
        return _inside(beta, neurons.beta), threshold, alpha


def _summed(gradient: Tensor, like: Tensor) -> Tensor:
    """Over steps, batch and, for one value in all, neurons."""
    total = gradient.sum((0, 1))
    return total if like.numel() == total.numel() else total.sum().reshape(like.shape)


def _inside(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The derivative of a clamp to 0…1, as torch has it."""
    return gradient * ((parameter >= 0) & (parameter <= 1))


class _Scan(torch.autograd.Function):
    """A population that feeds nothing back."""

    @staticmethod
    def forward(
        ctx: Any, currents: Tensor, beta: Tensor, threshold: Tensor, alpha: Tensor | None
    ) -> Tensor:
        population = _Population(currents, Neurons(beta, threshold, alpha))
        for t in range(len(currents)):
            population.step(t)
        ctx.save_for_backward(beta, threshold, alpha, *population.saved())
        return population.spikes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        beta, threshold, alpha, *saved = ctx.saved_tensors
        gradient = _Gradient(tuple(saved), Neurons(beta, threshold, alpha), gradients[0])
        for t in reversed(range(len(gradients[0]))):
            gradient.step(t)
        return gradient.current, *gradient.parameters()


def scan(currents: Tensor, neurons: Neurons) -> Tensor:
    """Spikes of a population over a sequence.

    Args:
        currents: float32[T,N,n].
        neurons: its parameters.

    Returns:
        float32[T,N,n] of 0 and 1, differentiable by the currents and the parameters.
    """
    spikes: Tensor = _Scan.apply(currents, *neurons.tensors)  # type: ignore[no-untyped-call]
    return spikes


@dataclass(frozen=True)
class CellWeights:
    """Recurrent weights of an L2MU cell, rows first.

    Attributes:
        u_h: ``[n_m, n_h]``, from the hidden spikes of the step before.
        u_m: ``[n_m, n_m·d]``, from the memory's spikes of the step before.
        m_m: ``[n_m·d, n_m·d]``, block-diagonal Ā.
        m_u: ``[n_m·d, n_m]``, block-diagonal B̄.
        h_h: ``[n_h, n_h]``, from the hidden spikes of the step before.
        h_m: ``[n_h, n_m·d]``, from the memory's spikes of this step.
    """

    u_h: Tensor
    u_m: Tensor
    m_m: Tensor
    m_u: Tensor
    h_h: Tensor
    h_m: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """In the order of the attributes."""
        return self.u_h, self.u_m, self.m_m, self.m_u, self.h_h, self.h_m


class _Cell(torch.autograd.Function):
    """An L2MU cell over a sequence; see :func:`cell`."""

    @staticmethod
    def forward(
        ctx: Any, memory_gradient: float, from_u: Tensor, from_h: Tensor, *parameters: Tensor
    ) -> Any:
        ctx.memory_gradient = memory_gradient
        weights, (u, m, h) = CellWeights(*parameters[:6]), _three(parameters[6:])
        u_h, u_m, m_m, m_u, h_h, h_m = (w.t() for w in weights.tensors)
        populations = tuple(
            _Population(currents, neurons)
            for currents, neurons in (
                (from_u, u),
                (from_u.new_zeros(*from_u.shape[:2], len(weights.m_m)), m),
                (from_h, h),
            )
        )
        pu, pm, ph = populations
        for t in range(len(from_u)):
            if t:
                pu.membranes[t].addmm_(ph.spikes[t - 1], u_h).addmm_(pm.spikes[t - 1], u_m)
                pm.membranes[t].addmm_(pm.spikes[t - 1], m_m)
                ph.membranes[t].addmm_(ph.spikes[t - 1], h_h)
            pu.step(t)
            pm.membranes[t].addmm_(pu.spikes[t], m_u)
            pm.step(t)
            ph.membranes[t].addmm_(pm.spikes[t], h_m)
            ph.step(t)
        ctx.save_for_backward(*parameters, *(s for p in populations for s in p.saved()))
        return pu.spikes, pm.spikes, ph.spikes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        parameters, saved = ctx.saved_tensors[:15], ctx.saved_tensors[15:]
        weights, neurons = CellWeights(*parameters[:6]), _three(parameters[6:])
        gu, gm, gh = (
            _Gradient(tuple(saved[3 * k : 3 * k + 3]), n, gradients[k])
            for k, n in enumerate(neurons)
        )
        share = ctx.memory_gradient
        for t in reversed(range(len(gradients[0]))):
            h = gh.step(t)
            gm.spikes[t].addmm_(h, weights.h_m)
            m = gm.step(t)
            gu.spikes[t].addmm_(m, weights.m_u)
            u = gu.step(t)
            if t:
                gh.spikes[t - 1].addmm_(h, weights.h_h).addmm_(u, weights.u_h)
                if share:
                    gm.spikes[t - 1].addmm_(m, weights.m_m, alpha=share)
                    gm.spikes[t - 1].addmm_(u, weights.u_m, alpha=share)
        needed = ctx.needs_input_grad[3:9]
        pairs = (
            (gu.current[1:], gh.emitted[:-1]),
            (gu.current[1:], gm.emitted[:-1]),
            (gm.current[1:], gm.emitted[:-1]),
            (gm.current, gu.emitted),
            (gh.current[1:], gh.emitted[:-1]),
            (gh.current, gm.emitted),
        )
        products = (
            current.flatten(0, 1).t() @ spikes.flatten(0, 1) if wanted else None
            for (current, spikes), wanted in zip(pairs, needed, strict=True)
        )
        rest = (g for gradient in (gu, gm, gh) for g in gradient.parameters())
        return None, gu.current, gh.current, *products, *rest


def _three(parameters: tuple[Tensor, ...]) -> tuple[Neurons, Neurons, Neurons]:
    """Parameters of the populations u, m and h."""
    first, second, third = (Neurons(*parameters[k : k + 3]) for k in (0, 3, 6))
    return first, second, third


def cell(
    from_u: Tensor,
    from_h: Tensor,
    weights: CellWeights,
    *,
    u: Neurons,
    m: Neurons,
    h: Neurons,
    memory_gradient: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes of an L2MU cell over a sequence.

    ::

        u: LIF(from_u[t] + u_h S_h[t-1] + u_m S_m[t-1])
        m: LIF(            m_m S_m[t-1] + m_u S_u[t])
        h: LIF(from_h[t] + h_h S_h[t-1] + h_m S_m[t])

    Args:
        from_u: what the input gives u, float32[T,N,n_m].
        from_h: what the input gives h, float32[T,N,n_h].
        weights: recurrent weights.
        u: parameters of the population u.
        m: likewise.
        h: likewise.
        memory_gradient: share of the gradient that the memory's spikes pass to the memory of the
            step before, 1 for all of it. There a step multiplies it by ``β + σ'(u)·Ā``, and where
            that exceeds 1 it grows with the number of steps; the values do not depend on it.

    Returns:
        Spikes S_u, S_m and S_h, float32[T,N,·], differentiable by everything that goes in.
    """
    rest = (*weights.tensors, *u.tensors, *m.tensors, *h.tensors)
    spikes: tuple[Tensor, Tensor, Tensor] = _Cell.apply(  # type: ignore[no-untyped-call]
        memory_gradient, from_u, from_h, *rest
    )
    return spikes
