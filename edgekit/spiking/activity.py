"""How active a spiking network is on real windows, and what that activity costs.

A *synaptic operation* is one weight that one spike meets. Only nodes that read spikes as they are
(one edge, from a node of :meth:`~edgekit.spiking.graph.SpikingGraph.spikes`) are driven by events;
all others multiply every input, whatever its value. A product with padding is no operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgekit.spiking.arrays import Array, Shape
from edgekit.spiking.compute import windows as taps
from edgekit.spiking.graph import SpikingGraph
from edgekit.spiking.inputs import checked_windows
from edgekit.spiking.nodes import Conv, Linear, Weighted
from edgekit.spiking.simulate import Simulator

_FLOAT_BITS = 32

BATCH = 64
"""Windows that are simulated side by side."""


@dataclass(frozen=True)
class PopulationActivity:
    """Neurons of one population.

    Attributes:
        neurons: how many.
        rate: spikes per neuron and step, 0...1, mean over all windows and steps.
    """

    neurons: int
    rate: float


@dataclass(frozen=True)
class SynapseActivity:
    """Weights of one Linear or Conv node.

    Attributes:
        source: the node whose spikes it reads; None where its input is no spikes.
        inputs: values that it reads in a step.
        weights: how many are stored.
        bits: stored bits of a weight, without scales; 32 of float32.
        activity: share of the inputs that fired, mean over all windows and steps; 1 without spikes.
        synaptic_ops: weights that a spike met, mean per step; 0 without spikes.
        dense_ops: multiply-accumulates of a step in which every input counts.
    """

    source: str | None
    inputs: int
    weights: int
    bits: float
    activity: float
    synaptic_ops: float
    dense_ops: int

    @property
    def event_driven(self) -> bool:
        """Whether it reads spikes."""
        return self.source is not None

    @property
    def bytes_touched(self) -> float:
        """Bytes of weights that a step reads, mean; only those of active inputs where possible."""
        return (self.synaptic_ops if self.event_driven else self.dense_ops) * self.bits / 8

    @property
    def bytes_dense(self) -> float:
        """Bytes of weights that a step reads in which every input counts."""
        return self.dense_ops * self.bits / 8


@dataclass(frozen=True)
class Activity:
    """What :func:`measure` found. Figures are per step; times `steps` they are per window.

    Attributes:
        windows: how many.
        steps: of a window.
        populations: by name, in the order of computation.
        synapses: by name of the Linear or Conv node, in the same order.
    """

    windows: int
    steps: int
    populations: Mapping[str, PopulationActivity]
    synapses: Mapping[str, SynapseActivity]

    @property
    def rates(self) -> dict[str, float]:
        """Spikes per neuron and step by population."""
        return {name: population.rate for name, population in self.populations.items()}

    @property
    def rate(self) -> float:
        """Spikes per neuron and step over all populations; 0 without neurons."""
        neurons = sum(population.neurons for population in self.populations.values())
        spikes = sum(p.rate * p.neurons for p in self.populations.values())
        return spikes / neurons if neurons else 0.0

    @property
    def synaptic_ops(self) -> float:
        """Synaptic operations of a step, mean."""
        return sum(synapse.synaptic_ops for synapse in self.synapses.values())

    @property
    def event_driven_ops(self) -> int:
        """Multiply-accumulates of a step of the nodes that read spikes, did every input count."""
        return sum(s.dense_ops for s in self.synapses.values() if s.event_driven)

    @property
    def analog_ops(self) -> int:
        """Multiply-accumulates of a step of the nodes that read anything but spikes."""
        return sum(s.dense_ops for s in self.synapses.values() if not s.event_driven)

    @property
    def dense_ops(self) -> int:
        """Multiply-accumulates of a step in which every input of every node counts."""
        return self.event_driven_ops + self.analog_ops

    @property
    def bytes_touched(self) -> float:
        """Bytes of weights that an event-driven step reads, mean."""
        return sum(synapse.bytes_touched for synapse in self.synapses.values())

    @property
    def bytes_dense(self) -> float:
        """Bytes of weights that a dense step reads."""
        return sum(synapse.bytes_dense for synapse in self.synapses.values())


def measure(graph: SpikingGraph, windows: Mapping[str, Array] | Array) -> Activity:
    """Run windows, each from a reset, and count spikes.

    Args:
        graph: validated here.
        windows: [N,T,...] by name of the Input nodes, or the array of the only one.

    Raises:
        InvalidModelError: the graph is not valid.
        InvalidDataError: no window, no step, names or shapes that do not fit, NaN.
    """
    graph.validate()
    arrays = checked_windows(graph, windows)
    number = len(next(iter(arrays.values())))
    fired = {name: np.zeros(graph.shapes()[name]) for name in graph.spikes()}
    # Spikes of a window's last step, which a delayed edge never delivers.
    lost = {name: np.zeros(graph.shapes()[name]) for name in graph.spikes()}
    steps = 0
    for begin in range(0, number, BATCH):
        part = {n: np.moveaxis(array[begin : begin + BATCH], 0, 1) for n, array in arrays.items()}
        steps = _count(graph, part, fired, lost)
    shares = number * steps
    populations = {
        name: PopulationActivity(fired[name].size, float(fired[name].mean() / shares))
        for name in graph.populations()
    }
    synapses = {}
    for name in graph.order():
        node = graph.nodes[name]
        if isinstance(node, Linear | Conv):
            edges = graph.incoming(name)
            source = edges[0].source if len(edges) == 1 and edges[0].source in fired else None
            arriving = None
            if source is not None:
                arriving = fired[source] - (lost[source] if edges[0].delay else 0)
            shape = graph.shapes()[edges[0].source]
            synapses[name] = _synapse(node, shape, source, arriving, shares)
    return Activity(number, steps, MappingProxyType(populations), MappingProxyType(synapses))


def fan_out(node: Weighted, shape: Shape) -> NDArray[np.int64]:
    """How many weights every input of a node meets in one step: int64 of the input's shape.

    Args:
        node: Linear or Conv.
        shape: of its input, without batch.

    >>> from edgekit.spiking.weight import Weight
    >>> conv = Conv(Weight(np.ones((5, 1, 3), np.float32)), padding=1)
    >>> fan_out(conv, (1, 4)).tolist()
    [[10, 15, 15, 10]]
    """
    per_tap = node.weight.shape[0] // node.groups
    if isinstance(node, Linear):
        return np.full(shape, per_tap, np.int64)
    axes = len(node.kernel)
    before, behind = node.padding[:axes], node.padding[axes:]
    extents = shape[1:]
    reached = np.zeros([e + b + a for e, b, a in zip(extents, before, behind, strict=True)], int)
    results = node.output_shape(shape)[1:]
    for box in taps(node.kernel, results, stride=node.stride, dilation=node.dilation):
        reached[box] += per_tap
    inside = tuple(slice(b, b + e) for b, e in zip(before, extents, strict=True))
    return np.broadcast_to(reached[inside], shape).astype(np.int64)


def _count(
    graph: SpikingGraph,
    window: Mapping[str, Array],
    fired: Mapping[str, Array],
    lost: Mapping[str, Array],
) -> int:
    """Run some windows side by side, add their spikes; returns the number of steps."""
    latest: dict[str, Array] = {}

    def observe(name: str, array: Array) -> None:
        if name in fired:
            latest[name] = array.sum(axis=0)
            fired[name][...] += latest[name]

    steps, batch = next(iter(window.values())).shape[:2]
    Simulator(graph, batch=batch, observe=observe).run(window)
    for name, array in latest.items():
        lost[name][...] += array
    return int(steps)


def _synapse(
    node: Weighted, shape: Shape, source: str | None, arriving: Array | None, shares: int
) -> SynapseActivity:
    """The figures of one node.

    Args:
        node: Linear or Conv.
        shape: of its input.
        source: whose spikes it reads, None without.
        arriving: spikes that arrived at every input over all windows and steps; None without.
        shares: windows times steps.
    """
    reach = fan_out(node, shape)
    weight = node.weight
    return SynapseActivity(
        source=source,
        inputs=reach.size,
        weights=weight.values.size,
        bits=weight.format.bits_per_weight if weight.quantized else _FLOAT_BITS,
        activity=1.0 if arriving is None else float(arriving.mean() / shares),
        synaptic_ops=0.0 if arriving is None else float((arriving * reach).sum() / shares),
        dense_ops=int(reach.sum()),
    )
