"""Spiking graphs with random weights, of every structure that importers and lowerings meet.

Weights are scaled so that populations spike in some, not all steps: a graph that is silent or
saturated would hide mistakes. All are valid and the same for the same arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.spiking.graph import Edge, SpikingGraph
from edgekit.spiking.nodes import (
    AvgPool,
    Conv,
    Count,
    Flatten,
    Input,
    Leaky,
    Linear,
    MaxPool,
    Neuron,
    Node,
    Output,
    Reset,
    Scale,
    SumPool,
    Synaptic,
)
from edgekit.spiking.weight import Weight

Array = NDArray[Any]
Population = Literal["leaky", "synaptic"]


class Maker:
    """Random nodes of one seed."""

    def __init__(self, seed: int, population: Population, reset: Reset) -> None:
        self.rng = np.random.default_rng(seed)
        self.population = population
        self.reset = reset

    def linear(
        self, outputs: int, inputs: int, gain: float, *, bias: float = 0, groups: int = 1
    ) -> Linear:
        """Normal weights whose sum over all inputs of a group has the deviation `gain`."""
        columns = inputs // groups
        weight = self.rng.normal(0, gain / np.sqrt(columns), (outputs, columns))
        return Linear(Weight(weight), self._bias(outputs, bias), groups)

    def conv(
        self, outputs: int, inputs: int, kernel: tuple[int, ...], gain: float, **fields: Any
    ) -> Conv:
        """As :meth:`linear`; `fields` are Conv's."""
        columns = inputs // fields.get("groups", 1)
        deviation = gain / np.sqrt(columns * np.prod(kernel))
        weight = self.rng.normal(0, deviation, (outputs, columns, *kernel))
        return Conv(Weight(weight), self._bias(outputs, 0.1), **fields)

    def neuron(self, count: int, *, spiking: bool = True) -> Neuron:
        """A population with a decay and a threshold per neuron (or channel); 1: shared."""
        beta = self.rng.uniform(0.3, 0.95, count)
        threshold = self.rng.uniform(0.4, 0.9, count)
        if self.population == "leaky":
            return Leaky(beta, threshold, self.reset, spiking)
        alpha = self.rng.uniform(0.1, 0.6, count)
        return Synaptic(alpha, beta, threshold, self.reset, spiking)

    def _bias(self, outputs: int, deviation: float) -> Array | None:
        return self.rng.normal(0, deviation, outputs) if deviation else None


def chain(*names: str) -> tuple[Edge, ...]:
    """Edges from every name to the next."""
    return tuple(Edge(a, b) for a, b in pairwise(names))


def feedforward_graph(
    *, seed: int = 0, population: Population = "leaky", reset: Reset = "subtract"
) -> SpikingGraph:
    """5 samples, 12 neurons, 3 neurons that are counted; the second layer has a bias.

    Outputs: ``scores`` (counts) and ``spikes``.
    """
    make = Maker(seed, population, reset)
    nodes: dict[str, Node] = {
        "x": Input((5,)),
        "fc1": make.linear(12, 5, 0.8),
        "lif1": make.neuron(12),
        "fc2": make.linear(3, 12, 0.9, bias=0.1),
        "lif2": make.neuron(1),
        "count": Count(),
        "scores": Output(),
        "spikes": Output(),
    }
    edges = (*chain("x", "fc1", "lif1", "fc2", "lif2", "count", "scores"), Edge("lif2", "spikes"))
    return SpikingGraph(f"feedforward_{population}_{reset}", nodes, edges)


def recurrent_graph(
    *, seed: int = 0, population: Population = "leaky", reset: Reset = "subtract"
) -> SpikingGraph:
    """RLeaky as a graph: 4 samples, 10 neurons that read their own spikes, a readout membrane.

    Output: ``membrane`` of 3 integrators, which do not spike.
    """
    make = Maker(seed, population, reset)
    nodes: dict[str, Node] = {
        "x": Input((4,)),
        "w": make.linear(10, 4, 0.8, bias=0.05),
        "lif": make.neuron(10),
        "v": make.linear(10, 10, 0.5, bias=0.05),
        "readout": make.linear(3, 10, 0.5),
        "li": make.neuron(3, spiking=False),
        "membrane": Output(),
    }
    edges = (
        *chain("x", "w", "lif", "readout", "li", "membrane"),
        Edge("lif", "v", delay=1),
        Edge("v", "lif"),
    )
    return SpikingGraph(f"recurrent_{population}_{reset}", nodes, edges)


def convolutional_graph(
    *,
    seed: int = 0,
    axes: int = 2,
    pool: type[MaxPool | SumPool | AvgPool] = MaxPool,
    population: Population = "leaky",
    reset: Reset = "subtract",
) -> SpikingGraph:
    """Two convolutions with pooling between them, a dense layer, counts.

    The first convolution is dense with padding, the second has a stride and groups. Input: ``x``
    (2,12) or (2,12,10). Output: ``scores`` of 3 classes.
    """
    make = Maker(seed, population, reset)
    extents = (12, 10)[:axes]
    kernel = (3, 3)[:axes]
    conv1 = make.conv(4, 2, kernel, 0.8, padding=1)
    conv2 = make.conv(6, 4, kernel, 1.0, stride=(2, 1)[:axes], padding=1, groups=2)
    halves = tuple(extent // 2 for extent in extents)
    flat = int(np.prod(conv2.output_shape((4, *halves))))
    nodes: dict[str, Node] = {
        "x": Input((2, *extents)),
        "conv1": conv1,
        "lif1": make.neuron(4),
        "pool": pool((2, 2)[:axes]),
        "conv2": conv2,
        "lif2": make.neuron(1),
        "flat": Flatten(),
        "fc": make.linear(3, flat, 0.9, bias=0.1),
        "lif3": make.neuron(3),
        "count": Count(),
        "scores": Output(),
    }
    edges = chain(*nodes)
    name = f"convolutional{axes}_{pool.__name__.lower()}_{population}"
    return SpikingGraph(name, nodes, edges)


def l2mu_graph(
    *,
    seed: int = 0,
    population: Population = "leaky",
    reset: Reset = "subtract",
    sensors: int = 6,
    per_sensor: int = 4,
    stacked: bool = True,
    encoded: int = 16,
    hidden: int = 20,
    channels: int = 2,
    order: int = 4,
    theta: float = 3.0,
    classes: int = 7,
) -> SpikingGraph:
    """One step of an L2MU network with random weights.

    Populations in order: ``s_in`` [sensors*per_sensor] (and ``s_enc``, ``s_x`` [encoded] where
    `stacked`), ``s_u`` [channels], ``s_m`` [channels*order], ``s_h`` [hidden], ``s_o`` [classes].
    Inputs: ``samples`` [sensors]. Outputs: ``scores``, the counts of ``s_o``.

    Args:
        seed: of weights, decays and thresholds.
        population: kind of all neurons.
        reset: of all neurons.
        sensors: channels of the input.
        per_sensor: neurons that read one channel.
        stacked: two more layers behind those.
        encoded: neurons of each.
        hidden: neurons of h.
        channels: memory channels.
        order: of the Legendre polynomials of a channel.
        theta: steps that the memory spans.
        classes: neurons of the output.
    """
    make = Maker(seed, population, reset)
    first = sensors * per_sensor
    nodes: dict[str, Node] = {
        "samples": Input((sensors,)),
        "c_in": make.linear(first, sensors, 1.2, bias=0.2, groups=sensors),
        "s_in": make.neuron(first),
    }
    edges = [*chain("samples", "c_in", "s_in")]
    source, width = "s_in", first
    for name in ("enc", "x") if stacked else ():
        nodes |= {
            f"c_{name}": make.linear(encoded, width, 2.0, bias=0.1),
            f"s_{name}": make.neuron(encoded),
        }
        edges += chain(source, f"c_{name}", f"s_{name}")
        source, width = f"s_{name}", encoded
    memory = channels * order
    a, b = legendre(order, theta)
    terms: Mapping[str, tuple[str, str, int, Linear]] = {
        "e_x": (source, "s_u", 0, make.linear(channels, width, 3.0)),
        "e_h": ("s_h", "s_u", 1, make.linear(channels, hidden, 0.5)),
        "e_m": ("s_m", "s_u", 1, make.linear(channels, memory, 0.3)),
        "a": ("s_m", "s_m", 1, Linear(Weight(np.tile(a, (channels, 1))), None, channels)),
        "b": ("s_u", "s_m", 0, Linear(Weight(np.tile(b, (channels, 1))), None, channels)),
        "w_x": (source, "s_h", 0, make.linear(hidden, width, 2.0)),
        "w_h": ("s_h", "s_h", 1, make.linear(hidden, hidden, 0.5)),
        "w_m": ("s_m", "s_h", 0, make.linear(hidden, memory, 0.7)),
        "w_o": ("s_h", "s_o", 0, make.linear(classes, hidden, 2.0, bias=0.1)),
    }
    counts = {"s_u": channels, "s_m": memory, "s_h": hidden, "s_o": classes}
    for name, (before, behind, delay, linear) in terms.items():
        nodes[name] = linear
        edges += [Edge(before, name, delay), Edge(name, behind)]
    nodes |= {name: make.neuron(count) for name, count in counts.items()}
    nodes |= {"count": Count(), "scores": Output()}
    edges += chain("s_o", "count", "scores")
    return SpikingGraph(f"l2mu_{population}", nodes, tuple(edges), dt_seconds=0.05)


def legendre(order: int, theta: float) -> tuple[Array, Array]:
    """The memory's matrices by Euler's rule with steps of 1: float64 [d,d] and [d,1].

    Source: Voelker, Kajic, Eliasmith 2019, "Legendre Memory Units", equations 1 and 2.
    """
    i, j = np.indices((order, order))
    a = (2 * i + 1) * np.where(i < j, -1.0, (-1.0) ** (i - j + 1))
    b = (2 * i[:, :1] + 1) * (-1.0) ** i[:, :1]
    return np.eye(order) + a / theta, b / theta


def scaled_graph() -> SpikingGraph:
    """Every node that the others lack: Scale, an output of spikes beside one of a sum, two inputs.

    ``mean`` adds the input ``y`` and the spikes of the step before, scaled.
    """
    make = Maker(3, "leaky", "zero")
    nodes: dict[str, Node] = {
        "x": Input((4,)),
        "y": Input((4,)),
        "gain": Scale(make.rng.uniform(0.2, 1.5, 4)),
        "lif": make.neuron(4),
        "back": Scale(np.float32([0.5])),
        "mean": Output(),
        "spikes": Output(),
    }
    edges = (
        *chain("x", "gain", "lif", "spikes"),
        Edge("lif", "back", delay=1),
        Edge("back", "lif"),
        Edge("y", "mean"),
        Edge("back", "mean"),
    )
    return SpikingGraph("scaled", nodes, edges)


def late_graph() -> SpikingGraph:
    """Delayed edges that go forward: to nodes that come behind their source anyway.

    ``change`` adds the spikes and the input of the step before, ``late`` is those spikes a step
    later.
    """
    nodes: dict[str, Node] = {
        "x": Input((3,)),
        "lif": Maker(6, "leaky", "subtract").neuron(3),
        "change": Output(),
        "late": Output(),
    }
    edges = (*chain("x", "lif", "change"), Edge("x", "change", delay=1))
    return SpikingGraph("late", nodes, (*edges, Edge("lif", "late", delay=1)))


def padded_graph(axes: int = 2) -> SpikingGraph:
    """Padding on one side, dilation, pools that overlap and pad; two terms of unlike convolutions.

    Input: ``x`` (2,9) or (2,9,8). Output: ``membrane`` of 5 integrators.
    """
    make = Maker(9, "leaky", "subtract")
    extents = (9, 8)[:axes]
    before = (2, 1, 0, 1) if axes == 2 else (2, 0)
    nodes: dict[str, Node] = {
        "x": Input((2, *extents)),
        "causal": make.conv(4, 2, (3,) * axes, 0.7, padding=before),
        "lif1": make.neuron(4),
        "max": MaxPool((3,) * axes, stride=(1,), padding=(1,)),
        "wide": make.conv(4, 4, (2,) * axes, 0.6, dilation=(2,), padding=(1,), groups=4),
        "point": make.conv(4, 4, (1,) * axes, 0.5),
        "lif2": make.neuron(1),
        "avg": AvgPool((3,) * axes, stride=(2,), padding=(1,)),
        "flat": Flatten(),
    }
    edges = [*chain("x", "causal", "lif1", "max", "wide", "lif2", "avg", "flat", "fc", "li")]
    edges += [*chain("lif1", "point", "lif2"), Edge("li", "membrane")]
    columns = 4 * int(np.prod([(extent + 1) // 2 for extent in extents]))
    nodes |= {
        "fc": make.linear(5, columns, 1.0, bias=0.1),
        "li": make.neuron(5, spiking=False),
        "membrane": Output(),
    }
    return SpikingGraph(f"padded{axes}", nodes, tuple(edges))


def all_graphs() -> dict[str, SpikingGraph]:
    """Graphs of every structure, by what is particular about them."""
    return {
        "feedforward": feedforward_graph(),
        "feedforward-zero": feedforward_graph(seed=1, reset="zero"),
        "feedforward-none": feedforward_graph(seed=2, reset="none"),
        "feedforward-synaptic-zero": feedforward_graph(seed=3, population="synaptic", reset="zero"),
        "recurrent": recurrent_graph(),
        "recurrent-synaptic": recurrent_graph(seed=1, population="synaptic"),
        "conv1-max": convolutional_graph(axes=1),
        "conv2-max": convolutional_graph(seed=1),
        "conv2-sum": convolutional_graph(seed=2, pool=SumPool),
        "conv2-avg-synaptic": convolutional_graph(seed=3, pool=AvgPool, population="synaptic"),
        "l2mu": l2mu_graph(),
        "l2mu-synaptic": l2mu_graph(seed=1, population="synaptic"),
        "l2mu-plain-zero": l2mu_graph(seed=4, reset="zero", stacked=False, channels=3),
        "scaled": scaled_graph(),
        "late": late_graph(),
        "padded1": padded_graph(1),
        "padded2": padded_graph(2),
    }


def random_window(graph: SpikingGraph, steps: int, *, seed: int = 0) -> dict[str, Array]:
    """A slowly varying window float32[steps,...] for every input, of magnitude about 1."""
    rng = np.random.default_rng(seed)
    shapes = graph.shapes()
    window = {}
    for name in graph.inputs():
        steady = rng.normal(0, 1, shapes[name])
        noise = rng.normal(0, 0.7, (steps, *shapes[name]))
        window[name] = (steady + noise).astype(np.float32)
    return window
