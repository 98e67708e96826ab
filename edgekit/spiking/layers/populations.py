"""Populations: snnTorch neurons with learned decays and thresholds, run step by step or at once."""

from __future__ import annotations

import math
from typing import Literal, cast

import snntorch
import torch
from torch import Tensor, nn

from edgekit.errors import InvalidDataError, UsageError
from edgekit.spiking import nodes
from edgekit.spiking.layers.scan import Neurons, scan

NeuronKind = Literal["leaky", "synaptic"]

NEURON_KINDS: tuple[NeuronKind, ...] = ("leaky", "synaptic")

State = tuple[Tensor, ...]
"""Membrane of leaky neurons; synaptic current and membrane of synaptic ones."""


class Population(nn.Module):
    """Neurons that each have one input current: :class:`snntorch.Leaky` or ``Synaptic``.

    Reset is by subtraction, decided by the membrane of the step before: ``U_t = β U_{t-1} + I_t −
    ϑ·1[U_{t-1} > ϑ]``, ``S_t = 1[U_t > ϑ]``; for synaptic neurons ``I_t`` is ``I^s_t = α I^s_{t-1}
    + I_t``. A step is the unit of time: decays are per step, whatever a step lasts.

    Args:
        size: neurons.
        kind: ``leaky`` or ``synaptic`` (a current that decays by `alpha`).
        beta: decay of the membrane, 0 to 1.
        threshold: ϑ, positive.
        alpha: decay of the synaptic current, 0 to 1; only for ``synaptic``.
        spread: standard deviation, over the neurons, of the logit of `beta`: neurons of different
            memory from the start learn better (Perez-Nieves et al. 2021); 0 for all the same.
        learn: whether decays and threshold are trained, each neuron its own; else they are fixed.

    Attributes:
        neuron: the snnTorch neuron, which holds the parameters.

    Raises:
        UsageError: an unknown kind or values out of range.
    """

    def __init__(
        self,
        size: int,
        kind: NeuronKind = "leaky",
        *,
        beta: float = 0.8,
        threshold: float = 1.0,
        alpha: float = 0.5,
        spread: float = 0.0,
        learn: bool = True,
    ) -> None:
        super().__init__()
        if kind not in NEURON_KINDS:
            raise UsageError(f"no neuron {kind!r}; there are {', '.join(NEURON_KINDS)}")
        for name, decay in (("beta", beta), ("alpha", alpha)):
            if not 0 <= decay <= 1:
                raise UsageError(f"{name} is {decay}, must be from 0 to 1")
        if not (threshold > 0 and math.isfinite(threshold)):
            raise UsageError(f"threshold is {threshold}, must be positive and finite")
        self.size, self.kind = size, kind
        decays = {"beta": torch.full((size,), beta)}
        if spread:
            decays["beta"] = torch.sigmoid(torch.logit(decays["beta"]) + spread * torch.randn(size))
        if kind == "synaptic":
            decays["alpha"] = torch.full((size,), alpha)
        learned = {f"learn_{name}": learn for name in (*decays, "threshold")}
        make = snntorch.Leaky if kind == "leaky" else snntorch.Synaptic
        self.neuron = make(threshold=torch.full((size,), threshold), **decays, **learned)

    @property
    def neurons(self) -> Neurons:
        """The parameters as the fused functions take them."""
        alpha = self.neuron.alpha if self.kind == "synaptic" else None
        return Neurons(self.neuron.beta, self.neuron.threshold, alpha)

    def forward(self, currents: Tensor) -> Tensor:
        """Spikes float32[T,N,size] of currents float32[T,N,size], from a state of zeros.

        Raises:
            InvalidDataError: another number of dimensions or neurons.
        """
        if currents.ndim != 3 or currents.shape[-1] != self.size:
            raise InvalidDataError(
                f"currents are {list(currents.shape)}, must be [steps, batch, {self.size}]"
            )
        return scan(currents, self.neurons)

    def start(self, batch: int) -> State:
        """The state before the first step, of zeros [batch, size]."""
        like = self.neuron.threshold
        count = 1 if self.kind == "leaky" else 2
        return tuple(like.new_zeros(batch, self.size) for _ in range(count))

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        """One step by snnTorch's own code: spikes [N,size] and the next state."""
        spikes, *following = self.neuron(current, *state)
        return cast(Tensor, spikes), tuple(following)

    @torch.no_grad()
    def node(self) -> nodes.Leaky | nodes.Synaptic:
        """The population in a spiking graph; decays are limited to 0…1, as in use."""
        beta, threshold = (
            t.detach().cpu().numpy() for t in (self.neuron.beta.clamp(0, 1), self.neuron.threshold)
        )
        if self.kind == "leaky":
            return nodes.Leaky(beta, threshold)
        return nodes.Synaptic(self.neuron.alpha.clamp(0, 1).cpu().numpy(), beta, threshold)

    def extra_repr(self) -> str:
        """See :class:`torch.nn.Module`."""
        return f"{self.size}, {self.kind!r}"
