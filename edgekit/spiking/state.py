"""What a spiking network remembers from one step to the next: names, shapes, initial zeros.

================== ==================================================================
``N.membrane``     membrane of the neurons N
``N.synaptic``     synaptic current of the neurons N, Synaptic only
``N.count``        sum of the Count node N
``N.spikes``       value of N in the step before, where N spikes and an edge is delayed
``N.value``        the same where N is anything else
================== ==================================================================

The simulator, the step graph and the Scan use these names alike. Everything starts at 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.spiking.arrays import Shape
from edgekit.spiking.graph import SpikingGraph
from edgekit.spiking.nodes import Count, Leaky, Synaptic


@dataclass(frozen=True)
class Slot:
    """One array of the state.

    Attributes:
        node: whose it is.
        part: ``membrane``, ``synaptic``, ``count``, ``spikes`` or ``value``.
        shape: without batch.
    """

    node: str
    part: str
    shape: Shape

    @property
    def name(self) -> str:
        """``node.part``."""
        return f"{self.node}.{self.part}"


def state_slots(graph: SpikingGraph) -> tuple[Slot, ...]:
    """The state of a valid graph, in order of its nodes."""
    shapes, spikes, delayed = graph.shapes(), graph.spikes(), set(graph.delayed())
    slots = []
    for name, node in graph.nodes.items():
        parts: list[str] = []
        if isinstance(node, Synaptic):
            parts.append("synaptic")
        if isinstance(node, Leaky | Synaptic):
            parts.append("membrane")
        if isinstance(node, Count):
            parts.append("count")
        if name in delayed:
            parts.append(delayed_part(name in spikes))
        slots += [Slot(name, part, shapes[name]) for part in parts]
    return tuple(slots)


def delayed_part(is_spikes: bool) -> str:
    """What the previous value of a node is called."""
    return "spikes" if is_spikes else "value"
