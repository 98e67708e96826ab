"""A classifier of sensor windows: input conversion, L2MU cell, spiking readout."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.errors import InvalidDataError
from edgekit.spiking import nodes
from edgekit.spiking.graph import Edge, SpikingGraph
from edgekit.spiking.layers.conversion import InputConversion
from edgekit.spiking.layers.l2mu import CellState, L2MUCell
from edgekit.spiking.layers.legendre import Discretization
from edgekit.spiking.layers.populations import NeuronKind, Population, State
from edgekit.spiking.layers.synapses import Synapses
from edgekit.spiking.layers.weights import columns, graph_weight
from edgekit.spiking.weight import Weight


@dataclass(frozen=True)
class NetworkState:
    """An L2MU network between two steps.

    Attributes:
        conversion: of the input's populations.
        cell: of the recurrent part.
        output: of the readout's population.
        scores: output spikes so far, [N, classes].
    """

    conversion: tuple[State, ...]
    cell: CellState
    output: State
    scores: Tensor


class L2MU(nn.Module):
    """Windows of raw sensor samples in, spike counts per class out.

    In every step the sample goes through :class:`InputConversion` and :class:`L2MUCell`, whose
    hidden spikes drive one neuron per class: ``S_o = LIF_o(W_o S_h + b_o)``. The scores of a window
    are ``Σ_t S_o(t)``; the class is the first largest. Neurons, their reset and their unit of time
    are those of :class:`Population`. Source: Fra et al. 2024, arXiv 2407.04076.

    Args:
        channels: sensor axes.
        classes: scores that come out.
        per_channel: input neurons of every channel.
        layers: neurons of the dense layers of the input conversion, none for the single form.
        hidden: n_h.
        memories: n_m.
        order: d.
        theta: window of the memory in steps.
        kind: of all neurons.
        dropout: share of the input's and the hidden neurons that a training sample leaves out.
        norm: batch normalisation in training; :meth:`fold` removes it.
        learn: whether decays and thresholds of all neurons are trained, or stay as they are.
        discretization, transposed, memory_gradient, spread: see :class:`L2MUCell`.
        neurons: β and ϑ of the populations ``u``, ``m``, ``h`` and ``o``, see :class:`L2MUCell`.
        dt_seconds: what a step lasts, for graphs; nothing is computed from it.

    Attributes:
        rates: mean spikes per neuron and step of every population in the last call, by name;
            differentiable.
    """

    def __init__(
        self,
        channels: int = 6,
        classes: int = 7,
        *,
        per_channel: int = 8,
        layers: Sequence[int] = (64,),
        hidden: int = 180,
        memories: int = 4,
        order: int = 8,
        theta: float = 20.0,
        kind: NeuronKind = "leaky",
        dropout: float = 0.0,
        norm: bool = True,
        learn: bool = True,
        discretization: Discretization = "zoh",
        transposed: bool = False,
        memory_gradient: float = 0.0,
        neurons: Mapping[str, tuple[float, float]] | None = None,
        spread: float = 1.0,
        dt_seconds: float | None = None,
    ) -> None:
        super().__init__()
        self.dt_seconds = dt_seconds
        values = {"o": (0.9, 1.0)} | dict(neurons or {})
        self.conversion = InputConversion(
            channels, per_channel, layers, kind=kind, norm=norm, learn=learn
        )
        self.cell = L2MUCell(
            self.conversion.outputs,
            hidden,
            memories=memories,
            order=order,
            theta=theta,
            kind=kind,
            norm=norm,
            learn=learn,
            discretization=discretization,
            transposed=transposed,
            memory_gradient=memory_gradient,
            neurons={name: value for name, value in values.items() if name != "o"},
            spread=spread,
        )
        self.output = Synapses({"h": hidden}, classes, bias=True)
        beta, threshold = values["o"]
        self.neurons_o = Population(classes, kind, beta=beta, threshold=threshold, learn=learn)
        self.dropout = nn.Dropout(dropout)
        self.rates: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Spike counts float32[N,classes] of windows float32[N,channels,T].

        Raises:
            InvalidDataError: another number of dimensions or channels; a time axis in the place of
                the channels is one.
        """
        channels = self.conversion.channels
        if x.ndim != 3 or x.shape[1] != channels:
            swapped = x.ndim == 3 and x.shape[2] == channels
            hint = "; time is the last axis, not the second" if swapped else ""
            raise InvalidDataError(
                f"windows are {list(x.shape)}, must be [batch, {channels}, steps]{hint}"
            )
        samples = x.permute(2, 0, 1)
        *earlier, s_x = self.conversion(samples)
        s_u, s_m, s_h = self.cell(self._thinned(s_x))
        s_o = self.neurons_o(self.output(self._thinned(s_h)))
        names = [*self._input_names(), "u", "m", "h", "o"]
        spikes = [*earlier, s_x, s_u, s_m, s_h, s_o]
        self.rates = {name: s.mean() for name, s in zip(names, spikes, strict=True)}
        return cast(Tensor, s_o.sum(0))

    def _thinned(self, spikes: Tensor) -> Tensor:
        """Without the neurons that dropout takes out, the same in every step of a sample."""
        if not self.training or self.dropout.p == 0:
            return spikes
        return cast(Tensor, spikes * self.dropout(torch.ones_like(spikes[:1])))

    def start(self, batch: int) -> NetworkState:
        """The state before the first step."""
        scores = self.cell.memory.new_zeros(batch, self.output.out_features)
        return NetworkState(
            self.conversion.start(batch),
            self.cell.start(batch),
            self.neurons_o.start(batch),
            scores,
        )

    def step(self, x: Tensor, state: NetworkState) -> tuple[Tensor, NetworkState]:
        """One step by snnTorch's own code, in eval mode.

        Args:
            x: samples float32[N,channels].
            state: of the step before, or :meth:`start`.

        Returns:
            Spike counts so far, [N,classes], and the next state.
        """
        s_x, conversion = self.conversion.step(x, state.conversion)
        s_h, cell = self.cell.step(s_x, state.cell)
        s_o, output = self.neurons_o.step(self.output(s_h), state.output)
        scores = state.scores + s_o
        return scores, NetworkState(conversion, cell, output, scores)

    def fold(self) -> L2MU:
        """Take all normalisation into weights, in place; returns the network itself."""
        self.conversion.fold()
        self.cell.fold()
        return self

    def windows(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Windows [N,channels,T] as a device takes them: one sample a step, [N,T,channels]."""
        return np.ascontiguousarray(x.transpose(0, 2, 1))

    def samples(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inverse of :meth:`windows`."""
        return np.ascontiguousarray(windows.transpose(0, 2, 1))

    @property
    def has_norms(self) -> bool:
        """Whether there is normalisation that :meth:`fold` would take into weights."""
        return any(isinstance(module, nn.BatchNorm1d) for module in self.modules())

    def weighted(self) -> Iterator[tuple[str, nn.Module]]:
        """Modules whose ``weight`` a deployment stores, by name: what quantisation is for."""
        for index, module in enumerate(self.conversion.weights):
            yield f"conversion.weights.{index}", module
        yield "cell.u", self.cell.u
        yield "cell.h", self.cell.h
        yield "output", self.output

    def _input_names(self) -> list[str]:
        return [f"x{index}" for index in range(len(self.conversion.weights))]

    @torch.no_grad()
    def graph(self, name: str = "l2mu") -> SpikingGraph:
        """The network, folded, as a spiking graph: populations x0…, u, m, h, o, output ``scores``.

        Args:
            name: of the graph.
        """
        if self.has_norms:
            self.rates = {}  # tensors of a graph of gradients cannot be copied
            return copy.deepcopy(self).fold().graph(name)
        made: dict[str, nodes.Node] = {"x": nodes.Input((self.conversion.channels,))}
        edges: list[Edge] = []

        def linear(
            label: str,
            weight: Weight,
            source: str,
            target: str,
            *,
            delay: int = 0,
            bias: Tensor | None = None,
            groups: int = 1,
        ) -> None:
            values = None if bias is None else bias.detach().cpu().numpy()
            made[label] = nodes.Linear(weight, values, groups)
            edges.extend((Edge(source, label, delay), Edge(label, target)))

        before = "x"
        for label, weights, population in zip(
            self._input_names(), self.conversion.weights, self.conversion.populations, strict=True
        ):
            groups = 1 if isinstance(weights, Synapses) else self.conversion.channels
            bias = cast(Tensor | None, weights.bias)
            linear(f"w_{label}", graph_weight(weights), before, label, bias=bias, groups=groups)
            made[label] = cast(Population, population).node()
            before = label
        cell = self.cell
        into_u, into_h = graph_weight(cell.u), graph_weight(cell.h)
        for source, origin in (("x", before), ("h", "h"), ("m", "m")):
            part, delay = columns(into_u, cell.u.columns[source]), int(source != "x")
            linear(f"e_{source}", part, origin, "u", delay=delay)
        made["u"] = cell.neurons_u.node()
        a, b = self._memory_weights()
        linear("a", a, "m", "m", delay=1, groups=cell.memories)
        linear("b", b, "u", "m", groups=cell.memories)
        made["m"] = cell.neurons_m.node()
        for source, origin in (("x", before), ("h", "h"), ("m", "m")):
            part = columns(into_h, cell.h.columns[source])
            bias = cell.h.bias if source == "x" else None
            linear(f"w_{source}", part, origin, "h", delay=int(source == "h"), bias=bias)
        made["h"] = cell.neurons_h.node()
        linear("w_o", graph_weight(self.output), "h", "o", bias=self.output.bias)
        made["o"] = self.neurons_o.node()
        made["count"], made["scores"] = nodes.Count(), nodes.Output()
        edges += [Edge("o", "count"), Edge("count", "scores")]
        graph = SpikingGraph(name, made, tuple(edges), self.dt_seconds)
        graph.validate()
        return graph

    def _memory_weights(self) -> tuple[Weight, Weight]:
        """Ā and B̄ of every memory, as grouped weights [n_m·d, d] and [n_m·d, 1]."""
        whole = self.cell.memory_weight()
        return columns(whole, slice(None, -1)), columns(whole, slice(-1, None))
