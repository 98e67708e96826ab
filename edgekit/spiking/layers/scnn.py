"""A spiking convolutional network over windows: the feed-forward opponent of recurrent ones."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.errors import InvalidDataError
from edgekit.spiking import nodes
from edgekit.spiking.graph import Edge, SpikingGraph
from edgekit.spiking.layers.populations import Population
from edgekit.spiking.layers.scan import scan
from edgekit.spiking.layers.synapses import Synapses
from edgekit.spiking.layers.weights import graph_weight


class SpikingConv1d(nn.Module):
    """A convolution along the window and neurons, one decay and threshold per channel.

    Neurons are leaky ones of :class:`Population`: reset by subtraction, decays per step.

    Args:
        inputs: channels that come in.
        outputs: channels of neurons.
        kernel: taps.
        stride: between them.
        norm: batch normalisation of the currents in training; :meth:`fold` removes it.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, norm: bool = True
    ) -> None:
        super().__init__()
        self.weights = nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
        self.norm = nn.BatchNorm1d(outputs) if norm else nn.Identity()
        self.population = Population(outputs, beta=0.7)

    def currents(self, x: Tensor) -> Tensor:
        """Currents [M,outputs,L'] of values [M,inputs,L]."""
        return cast(Tensor, self.norm(self.weights(x)))

    def spikes(self, currents: Tensor) -> Tensor:
        """Spikes [T,N,outputs,L'] of currents of that shape."""
        steps, batch, channels, length = currents.shape
        flat = currents.transpose(2, 3).reshape(steps, batch * length, channels)
        found = scan(flat, self.population.neurons)
        return found.view(steps, batch, length, channels).transpose(2, 3)

    @torch.no_grad()
    def fold(self) -> None:
        """Take the normalisation into weights and bias, in place."""
        if not isinstance(self.norm, nn.BatchNorm1d):
            return
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None and variance is not None and self.weights.bias is not None
        factor = self.norm.weight.double() / torch.sqrt(variance.double() + self.norm.eps)
        self.weights.weight.copy_(self.weights.weight.double() * factor[:, None, None])
        shifted = (self.weights.bias.double() - mean.double()) * factor
        self.weights.bias.copy_(shifted + self.norm.bias.double())
        self.norm = nn.Identity()

    def node(self) -> nodes.Leaky:
        """The population in a graph, with one parameter per channel."""
        node = self.population.node()
        assert isinstance(node, nodes.Leaky)
        return node


class SpikingCNN(nn.Module):
    """A window, shown again in each of a few steps, through spiking convolutions.

    The first convolution's currents are the same in every step (direct coding); everything behind
    works on spikes: ``S_k = LIF_k(conv_k(S_{k-1}) + b_k)``, then ``S_o = LIF_o(W_o S + b_o)``, all
    within the step. Scores are spike counts of one neuron per class. A step has no duration of its
    own: the window is there as a whole before the first.

    Args:
        channels: sensor axes.
        classes: scores that come out.
        length: samples of a window.
        widths: channels of the convolutions.
        steps: how often the window is shown.
        dropout: share of the last convolution's neurons that a training sample leaves out.
        norm: batch normalisation in training; :meth:`fold` removes it.

    Attributes:
        rates: mean spikes per neuron and step of every population in the last call, by name;
            differentiable.
    """

    def __init__(
        self,
        channels: int = 6,
        classes: int = 7,
        *,
        length: int = 40,
        widths: tuple[int, ...] = (24, 32, 48),
        steps: int = 8,
        dropout: float = 0.0,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.length, self.steps = channels, length, steps
        sizes = zip((channels, *widths), widths, strict=False)
        self.layers = nn.ModuleList(
            SpikingConv1d(a, b, kernel=5, stride=2, norm=norm) for a, b in sizes
        )
        left = length
        for _ in widths:
            left = (left - 1) // 2 + 1
        self.output = Synapses({"c": widths[-1] * left}, classes, bias=True)
        self.neurons_o = Population(classes, beta=0.9)
        self.dropout = nn.Dropout(dropout)
        self.rates: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Spike counts float32[N,classes] of windows float32[N,channels,length].

        Raises:
            InvalidDataError: windows of another shape.
        """
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.channels, self.length):
            raise InvalidDataError(
                f"windows are {list(x.shape)}, must be [batch, {self.channels}, {self.length}]"
            )
        self.rates = {}
        values = x
        for index, layer in enumerate(self._convolutions()):
            currents = layer.currents(values)
            if index == 0:
                currents = currents.expand(self.steps, *currents.shape)
            else:
                currents = currents.view(self.steps, len(x), *currents.shape[1:])
            spikes = layer.spikes(currents)
            self.rates[f"c{index}"] = spikes.mean()
            values = spikes.flatten(0, 1)
        flat = spikes.flatten(2)
        if self.training and self.dropout.p:
            flat = flat * self.dropout(torch.ones_like(flat[:1]))
        s_o = self.neurons_o(self.output(flat))
        self.rates["o"] = s_o.mean()
        return cast(Tensor, s_o.sum(0))

    def _convolutions(self) -> list[SpikingConv1d]:
        return [layer for layer in self.layers if isinstance(layer, SpikingConv1d)]

    def fold(self) -> SpikingCNN:
        """Take all normalisation into weights, in place; returns the network itself."""
        for layer in self._convolutions():
            layer.fold()
        return self

    def windows(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Windows [N,channels,length] as a device takes them, over and over: [N,steps,…]."""
        return np.repeat(x[:, None], self.steps, axis=1)

    def samples(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inverse of :meth:`windows`."""
        return np.ascontiguousarray(windows[:, 0])

    @property
    def has_norms(self) -> bool:
        """Whether there is normalisation that :meth:`fold` would take into weights."""
        return any(isinstance(module, nn.BatchNorm1d) for module in self.modules())

    def weighted(self) -> Iterator[tuple[str, nn.Module]]:
        """Modules whose ``weight`` a deployment stores, by name: what quantisation is for."""
        for index, layer in enumerate(self._convolutions()):
            yield f"layers.{index}.weights", layer.weights
        yield "output", self.output

    @torch.no_grad()
    def graph(self, name: str = "scnn") -> SpikingGraph:
        """The network, folded, as a graph of one step, whose input is the whole window."""
        if self.has_norms:
            self.rates = {}  # tensors of a graph of gradients cannot be copied
            return copy.deepcopy(self).fold().graph(name)
        made: dict[str, nodes.Node] = {"x": nodes.Input((self.channels, self.length))}
        edges: list[Edge] = []
        before = "x"
        for index, layer in enumerate(self._convolutions()):
            weights = layer.weights
            assert weights.bias is not None
            made[f"w_c{index}"] = nodes.Conv(
                graph_weight(weights),
                weights.bias.cpu().numpy(),
                (weights.stride[0],),
                (weights.kernel_size[0] // 2,),
            )
            made[f"c{index}"] = layer.node()
            edges += [Edge(before, f"w_c{index}"), Edge(f"w_c{index}", f"c{index}")]
            before = f"c{index}"
        made["flat"] = nodes.Flatten()
        bias = self.output.bias.cpu().numpy()
        made["w_o"] = nodes.Linear(graph_weight(self.output), bias)
        made["o"] = self.neurons_o.node()
        made["count"], made["scores"] = nodes.Count(), nodes.Output()
        chain = (before, "flat", "w_o", "o", "count", "scores")
        edges += [Edge(a, b) for a, b in itertools.pairwise(chain)]
        graph = SpikingGraph(name, made, tuple(edges))
        graph.validate()
        return graph
