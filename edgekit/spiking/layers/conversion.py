"""The encoding-free input: raw sensor values become spikes in trained populations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekit.errors import InvalidDataError
from edgekit.spiking.layers.populations import NeuronKind, Population, State
from edgekit.spiking.layers.synapses import PerChannel, SequenceNorm, Synapses


class InputConversion(nn.Module):
    """Raw samples in, spikes out, without an encoding in between.

    Every channel drives a population of its own, ``PerChannel`` weights and neurons; their spikes,
    side by side, may go through further dense layers with neurons (the stacked form; without
    `layers` the single one). Within a step a sample passes all of them. Neurons, their reset and
    their unit of time are those of :class:`Population`. Source: Fra et al. 2024, arXiv 2407.04076.

    Args:
        channels: of a sample.
        per_channel: neurons of every channel.
        layers: neurons of each dense layer behind.
        kind: of all neurons.
        norm: whether currents are normalised over a batch in training; :meth:`fold` takes the
            normalisation into the weights.
        beta: decay of all membranes at the start.
        learn: whether decays and thresholds are trained.

    Attributes:
        outputs: neurons of the last population.
    """

    def __init__(
        self,
        channels: int,
        per_channel: int,
        layers: Sequence[int] = (),
        *,
        kind: NeuronKind = "leaky",
        norm: bool = False,
        beta: float = 0.8,
        learn: bool = True,
    ) -> None:
        super().__init__()
        sizes = [channels * per_channel, *layers]
        self.channels, self.outputs = channels, sizes[-1]
        dense = (
            Synapses({"x": inputs}, outputs, bias=True)
            for inputs, outputs in itertools.pairwise(sizes)
        )
        self.weights = nn.ModuleList([PerChannel(channels, per_channel), *dense])
        self.norms = nn.ModuleList(SequenceNorm(n) if norm else nn.Identity() for n in sizes)
        self.populations = nn.ModuleList(Population(n, kind, beta=beta, learn=learn) for n in sizes)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Spikes of every population, float32[T,N,·], the last one's the result.

        Args:
            x: samples float32[T,N,channels].

        Raises:
            InvalidDataError: another number of dimensions or channels.
        """
        if x.ndim != 3 or x.shape[-1] != self.channels:
            raise InvalidDataError(
                f"samples are {list(x.shape)}, must be [steps, batch, {self.channels}]"
            )
        found = []
        for weights, norm, population in zip(
            self.weights, self.norms, self.populations, strict=True
        ):
            x = population(norm(weights(x)))
            found.append(x)
        return tuple(found)

    def start(self, batch: int) -> tuple[State, ...]:
        """The state before the first step."""
        return tuple(p.start(batch) for p in self._populations())

    def step(self, x: Tensor, state: tuple[State, ...]) -> tuple[Tensor, tuple[State, ...]]:
        """One step by snnTorch's own code: spikes [N,outputs] of a sample [N,channels]."""
        following = []
        for weights, norm, population, before in zip(
            self.weights, self.norms, self._populations(), state, strict=True
        ):
            x, after = population.step(norm(weights(x)[None])[0], before)
            following.append(after)
        return x, tuple(following)

    def _populations(self) -> list[Population]:
        return [p for p in self.populations if isinstance(p, Population)]

    @torch.no_grad()
    def fold(self) -> None:
        """Take normalisations into weights and biases, in place; eval mode computes the same."""
        for index, (weights, norm) in enumerate(zip(self.weights, self.norms, strict=True)):
            if not isinstance(norm, SequenceNorm):
                continue
            assert isinstance(weights, Synapses | PerChannel) and weights.bias is not None
            factor, offset = norm.affine_form()
            weights.weight.copy_(weights.weight.double() * factor[:, None])
            weights.bias.copy_(weights.bias.double() * factor + offset)
            self.norms[index] = nn.Identity()
