"""A spiking network as a graph: one time step, in NumPy arrays, with explicit delays.

Importers build it, the simulator runs it, :mod:`edgekit.spiking.to_model` turns it into ONNX. It
knows no torch and no file format.

>>> from edgekit.spiking.nodes import Count, Input, Leaky, Linear, Output
>>> from edgekit.spiking.weight import Weight
>>> import numpy as np
>>> graph = SpikingGraph(
...     "tiny",
...     {
...         "x": Input((3,)),
...         "w": Linear(Weight(np.ones((2, 3), np.float32))),
...         "lif": Leaky(0.9),
...         "back": Linear(Weight(-np.eye(2, dtype=np.float32))),
...         "scores": Output(),
...     },
...     (Edge("x", "w"), Edge("w", "lif"), Edge("lif", "back", delay=1), Edge("back", "lif"),
...      Edge("lif", "scores")),
... )
>>> graph.validate()
>>> graph.order(), graph.shapes()["lif"]
(('x', 'w', 'back', 'lif', 'scores'), (2,))
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from edgekit.errors import InvalidModelError
from edgekit.spiking.arrays import Shape
from edgekit.spiking.checks import (
    check_edges,
    check_names,
    check_shapes,
    find_cycle,
    infer_shapes,
)
from edgekit.spiking.nodes import (
    Flatten,
    Input,
    Leaky,
    MaxPool,
    Node,
    Output,
    Synaptic,
)


@dataclass(frozen=True)
class Edge:
    """What a node reads.

    Attributes:
        source, target: names of nodes.
        delay: 0: the value of this step; 1: of the step before, 0 in the first.
    """

    source: str
    target: str
    delay: int = 0


@dataclass(frozen=True, eq=False)
class SpikingGraph:
    """One time step of a spiking network.

    Attributes:
        name: of the network; an identifier.
        nodes: by name, which is an identifier; the order breaks ties of :meth:`order`.
        edges: a node with several incoming ones reads their sum, added in this order; two between
            the same nodes count twice. Every cycle holds a delay.
        dt_seconds: duration of a step, None where it is not known. Decays are per step: nothing
            is computed from it.

    Nothing is checked before :meth:`validate`; the methods assume a valid graph.
    """

    name: str
    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    dt_seconds: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", MappingProxyType(dict(self.nodes)))
        object.__setattr__(self, "edges", tuple(self.edges))

    def validate(self) -> None:
        """Check everything that one node alone cannot know.

        Raises:
            InvalidModelError: names, edges, a cycle without delay, a node without input, shapes
                that do not fit, no input or no output.
        """
        check_names(self)
        check_edges(self)
        check_shapes(self)
        self.order()

    def order(self) -> tuple[str, ...]:
        """Names such that a node comes behind everything whose value of this step it reads.

        Raises:
            InvalidModelError: a cycle without delay; its nodes are named.
        """
        return self._order

    def shapes(self) -> Mapping[str, Shape]:
        """Shape of the value of every node, without batch.

        Raises:
            InvalidModelError: shapes that do not fit, or a cycle without delay.
        """
        return self._shapes

    def incoming(self, name: str) -> tuple[Edge, ...]:
        """What a node reads, in the order in which it is added."""
        return self._incoming.get(name, ())

    def outgoing(self, name: str) -> tuple[Edge, ...]:
        """Who reads a node."""
        return self._outgoing.get(name, ())

    def inputs(self) -> tuple[str, ...]:
        """Names of the Input nodes."""
        return tuple(name for name, node in self.nodes.items() if isinstance(node, Input))

    def outputs(self) -> tuple[str, ...]:
        """Names of the Output nodes."""
        return tuple(name for name, node in self.nodes.items() if isinstance(node, Output))

    def populations(self) -> tuple[str, ...]:
        """Names of the neurons that spike, in the order of :meth:`order`."""
        return tuple(
            name
            for name in self.order()
            if isinstance(node := self.nodes[name], Leaky | Synaptic) and node.spiking
        )

    def spikes(self) -> frozenset[str]:
        """Names of all nodes whose value is 0 or 1 everywhere.

        Populations, and what only moves their spikes: Flatten, MaxPool and Output with one edge.
        """
        return self._spikes

    def delayed(self) -> tuple[str, ...]:
        """Names of nodes whose value of the step before somebody reads, in order of `nodes`."""
        sources = {edge.source for edge in self.edges if edge.delay}
        return tuple(name for name in self.nodes if name in sources)

    def with_nodes(self, changed: Mapping[str, Node]) -> SpikingGraph:
        """The same graph with other nodes under some names."""
        return replace(self, nodes={**self.nodes, **changed})

    @cached_property
    def _incoming(self) -> dict[str, tuple[Edge, ...]]:
        found: dict[str, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.target, []).append(edge)
        return {name: tuple(edges) for name, edges in found.items()}

    @cached_property
    def _outgoing(self) -> dict[str, tuple[Edge, ...]]:
        found: dict[str, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.source, []).append(edge)
        return {name: tuple(edges) for name, edges in found.items()}

    @cached_property
    def _order(self) -> tuple[str, ...]:
        names = tuple(self.nodes)
        place = {name: index for index, name in enumerate(names)}
        waiting = {name: sum(not edge.delay for edge in self.incoming(name)) for name in names}
        # Of what is ready, the first in `nodes`: the same order for the same graph.
        ready = [place[name] for name, count in waiting.items() if count == 0]
        done: list[str] = []
        while ready:
            done.append(names[heapq.heappop(ready)])
            for edge in self.outgoing(done[-1]):
                waiting[edge.target] -= not edge.delay
                if not edge.delay and waiting[edge.target] == 0:
                    heapq.heappush(ready, place[edge.target])
        if len(done) < len(names):
            cycle = " -> ".join(find_cycle(self, set(done)))
            raise InvalidModelError(
                f"{self.name}: a cycle without delay: {cycle}; one of its edges must have delay 1"
            )
        return tuple(done)

    @cached_property
    def _shapes(self) -> Mapping[str, Shape]:
        return MappingProxyType(infer_shapes(self))

    @cached_property
    def _spikes(self) -> frozenset[str]:
        found = set(self.populations())
        for name in self.order():
            edges = self.incoming(name)
            if isinstance(self.nodes[name], Flatten | MaxPool | Output) and len(edges) == 1:
                found |= {name} if edges[0].source in found else set()
        return frozenset(found)


def identifier(text: str, taken: Collection[str]) -> str:
    """A name for a node that some other file or framework calls `text`.

    Args:
        text: anything.
        taken: names that are in use.

    >>> identifier("layers.0", ()), identifier("lif", {"lif"})
    ('layers_0', 'lif_2')
    """
    base = re.sub(r"[^A-Za-z0-9_]+", "_", text)[:100] or "node"
    base = f"n{base}" if base[0].isdigit() else base
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    return name
