"""Weights into a population, from several sources, with batch normalisation that folds away."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn

from edgekit.errors import UsageError


class Synapses(nn.Linear):
    """One weight matrix over all sources of a population.

    Rows are neurons; columns are the sources' outputs side by side. One matrix, because one scale
    per neuron must serve all of them when they are quantised: then the currents of a neuron are
    integers of one step, and add up exactly.

    Args:
        sources: outputs by the name of the source, in the order of the columns.
        neurons: of the population.
        bias: whether every neuron gets a constant current.

    Attributes:
        columns: slice of the columns by source.

    Raises:
        UsageError: a source without outputs, or none at all.
    """

    def __init__(self, sources: Mapping[str, int], neurons: int, *, bias: bool = False) -> None:
        if not sources or min(sources.values()) < 1:
            raise UsageError(f"sources are {dict(sources)}, must be one with an output at least")
        super().__init__(sum(sources.values()), neurons, bias=bias)
        ends = list(accumulate(sources.values()))
        begins = [0, *ends[:-1]]
        self.columns = {
            name: slice(begin, end) for name, begin, end in zip(sources, begins, ends, strict=True)
        }

    def part(self, source: str) -> Tensor:
        """The weights [neurons, outputs] from one source."""
        return self.weight[:, self.columns[source]]


class PerChannel(nn.Module):
    """The first weights of an encoding-free input: each channel drives neurons of its own.

    ``I[c·p + k] = w[c·p + k]·x[c] + b[c·p + k]`` for p neurons a channel: as the authors' one
    ``Linear(1, p)`` per channel.

    Args:
        channels: of a sample.
        neurons: p, per channel.

    Attributes:
        weight: ``[channels·p, 1]``.
        bias: ``[channels·p]``.
    """

    def __init__(self, channels: int, neurons: int) -> None:
        super().__init__()
        if channels < 1 or neurons < 1:
            raise UsageError(f"{channels} channels of {neurons} neurons, must be 1 at least")
        self.channels, self.neurons = channels, neurons
        self.weight = nn.Parameter(torch.randn(channels * neurons, 1))
        self.bias = nn.Parameter(0.5 * torch.randn(channels * neurons))

    def forward(self, x: Tensor) -> Tensor:
        """Currents [..., channels·p] of samples [..., channels]."""
        spread = x.repeat_interleave(self.neurons, dim=-1)
        return spread * self.weight[:, 0] + self.bias

    def extra_repr(self) -> str:
        """See :class:`torch.nn.Module`."""
        return f"{self.channels}, {self.neurons}"


class SequenceNorm(nn.BatchNorm1d):
    """Batch normalisation of currents [T,N,n], over steps and batch alike.

    In eval mode it is a factor and an offset per neuron, which fold into the weights before it.
    """

    def forward(self, currents: Tensor) -> Tensor:
        """Normalised currents of the same shape."""
        steps, batch, neurons = currents.shape
        flat = super().forward(currents.reshape(steps * batch, neurons))
        return flat.view(steps, batch, neurons)

    def affine_form(self) -> tuple[Tensor, Tensor]:
        """Factor and offset [n] of eval mode, in float64."""
        mean, variance = self.running_mean, self.running_var
        assert mean is not None and variance is not None
        factor = self.weight.double() / torch.sqrt(variance.double() + self.eps)
        return factor, self.bias.double() - mean.double() * factor
