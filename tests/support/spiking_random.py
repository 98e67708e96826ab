"""Random spiking graphs: structures that nobody thought of, small enough to run by the dozen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgekit.model.domain import RESETS
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
    Scale,
    SumPool,
    Synaptic,
)
from edgekit.spiking.weight import Weight


@dataclass
class _Draft:
    """A graph under construction."""

    rng: np.random.Generator
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    populations: list[str] = field(default_factory=list)

    def maybe(self, share: float = 0.5) -> bool:
        return bool(self.rng.random() < share)

    def add(self, kind: str, node: Node, *sources: str | Edge) -> str:
        """Add a node behind others; returns its name."""
        name = f"{kind}{len(self.nodes)}"
        self.nodes[name] = node
        shape: tuple[int, ...] = ()
        for source in sources:
            edge = source if isinstance(source, Edge) else Edge(source, name)
            self.edges.append(Edge(edge.source, name, edge.delay))
            shape = self.shapes[edge.source]
        self.shapes[name] = node.output_shape(shape)
        return name

    def bias(self, count: int) -> np.ndarray | None:
        return self.rng.normal(0, 0.15, count) if self.maybe() else None

    def linear(self, source: str, outputs: int, *, delay: int = 0) -> str:
        """A Linear behind a flat value, sometimes in groups."""
        inputs = self.shapes[source][0]
        common = [g for g in (2, 3, inputs) if inputs % g == 0 and outputs % g == 0]
        groups = int(self.rng.choice(common)) if common and self.maybe(0.3) else 1
        columns = inputs // groups
        weights = self.rng.normal(0, 1.2 / np.sqrt(columns), (outputs, columns))
        node = Linear(Weight(weights), self.bias(outputs), groups)
        return self.add("fc", node, Edge(source, "", delay))

    def conv(self, source: str) -> str:
        """A Conv behind a spatial value."""
        channels, *extents = self.shapes[source]
        groups = channels if self.maybe(0.3) else 1
        outputs = groups * int(self.rng.integers(1, 4))
        kernel = tuple(int(self.rng.integers(1, min(3, e) + 1)) for e in extents)
        dilation = tuple(
            int(self.rng.integers(1, 3)) if k * 2 <= e else 1
            for k, e in zip(kernel, extents, strict=True)
        )
        columns = channels // groups
        deviation = 1.4 / np.sqrt(columns * np.prod(kernel))
        node = Conv(
            Weight(self.rng.normal(0, deviation, (outputs, columns, *kernel))),
            self.bias(outputs),
            stride=tuple(int(self.rng.integers(1, 3)) for _ in kernel),
            padding=int(self.rng.integers(0, 2)),
            dilation=dilation,
            groups=groups,
        )
        return self.add("conv", node, source)

    def parameter(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        """One number, one per neuron or channel, or one per element."""
        sizes = [(1,), shape[:1], shape]
        return self.rng.uniform(low, high, sizes[int(self.rng.integers(3))])

    def neuron(self, *sources: str, spiking: bool = True) -> str:
        """A population of either kind with any reset."""
        shape = self.shapes[sources[0]]
        reset = RESETS[int(self.rng.integers(3))]
        beta = self.parameter(shape, 0.1, 0.97)
        threshold = self.parameter(shape, 0.3, 1.0)
        node: Neuron = Leaky(beta, threshold, reset, spiking)
        if self.maybe():
            alpha = self.parameter(shape, 0.0, 0.7)
            node = Synaptic(alpha, beta, threshold, reset, spiking)
        name = self.add("lif", node, *sources)
        if spiking:
            self.populations.append(name)
        return name

    def recur(self, name: str) -> None:
        """Let a flat population read delayed spikes of a flat one, often its own."""
        flat = [p for p in self.populations if len(self.shapes[p]) == 1]
        source = name if self.maybe() else flat[int(self.rng.integers(len(flat)))]
        back = self.linear(source, self.shapes[name][0], delay=1)
        self.edges.append(Edge(back, name))


def random_graph(seed: int) -> SpikingGraph:
    """A valid graph: input ``x``, outputs ``scores``, ``membrane`` and ``spikes_N`` of every N.

    Spatial graphs have convolutions and pools before they are flat; flat populations may read the
    step before, their own or another's, and what came two layers before.
    """
    draft = _Draft(np.random.default_rng(seed))
    rng = draft.rng
    axes = int(rng.integers(0, 3))
    sizes = (int(rng.integers(2, 7)),) if axes == 0 else (int(rng.integers(1, 4)),)
    shape = (*sizes, *(int(rng.integers(4, 8)) for _ in range(axes)))
    draft.nodes["x"] = Input(shape)
    draft.shapes["x"] = shape
    last = "x"
    if axes:
        for _ in range(int(rng.integers(1, 3))):
            last = draft.neuron(draft.conv(last))
            if draft.maybe() and min(draft.shapes[last][1:]) >= 2:
                kind = (MaxPool, SumPool, AvgPool)[int(rng.integers(3))]
                last = draft.add("pool", kind((2,) * axes, stride=int(rng.integers(1, 3))), last)
        last = draft.add("flat", Flatten(), last)
    for _ in range(int(rng.integers(1, 3))):
        width = int(rng.integers(2, 36))
        terms = [draft.linear(last, width)]
        flat = [p for p in draft.populations if len(draft.shapes[p]) == 1]
        if flat and draft.maybe():
            terms.append(draft.linear(flat[0], width))
        elif draft.maybe(0.3):
            gain = draft.parameter((width,), 0.5, 2.0)
            terms = [draft.add("gain", Scale(gain), terms[0])]
        last = draft.neuron(*terms)
        if draft.maybe() and len(terms) == 1 and terms[0].startswith("fc"):
            draft.recur(last)
    count = draft.add("count", Count(), last)
    readout = draft.neuron(draft.linear(last, 2), spiking=False)
    results = {"scores": count, "membrane": readout}
    results |= {f"spikes_{name}": name for name in draft.populations}
    for name, source in results.items():
        draft.nodes[name] = Output()
        draft.edges.append(Edge(source, name))
    graph = SpikingGraph(f"random{seed}", draft.nodes, tuple(draft.edges))
    graph.validate()
    return graph
