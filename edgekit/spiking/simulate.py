"""Run a spiking graph step by step in NumPy: the reference that everything else is compared with.

What neurons read is a sum in a stated order, the order of a Program's float32 operators: the total
starts at 0; in order of the edges, a Linear or Conv that only these neurons read *continues* it
product by product, anything else is added as one number; then the biases of the continuing nodes,
which were added up in the same order, are added once. All other nodes add their edges from left to
right.

Products of a Linear come in ascending order of its inputs; behind a Flatten of a spatial population
in the order of its neurons in a Program, position by position with the channels of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgekit.errors import InvalidDataError
from edgekit.spiking.arrays import Array, Shape
from edgekit.spiking.compute import add_products, neuron, pool, window_size
from edgekit.spiking.graph import Edge, SpikingGraph
from edgekit.spiking.inputs import checked_step, checked_window
from edgekit.spiking.nodes import (
    AvgPool,
    Conv,
    Count,
    Flatten,
    Input,
    Leaky,
    Linear,
    MaxPool,
    Scale,
    SumPool,
    Synaptic,
    Weighted,
)
from edgekit.spiking.state import delayed_part, state_slots

Observer = Callable[[str, Array], None]


class Simulator:
    """A running network.

    Args:
        graph: valid or not; it is validated.
        dtype: float32: to the bit what a Program in float32 computes. float64: the same equations
            on the same float32 parameters, to measure what rounding does; sums in any order.
        batch: networks that run side by side. All arrays then have an axis of that extent in
            front (behind time); None: no such axis.
        observe: called in every step with a name and an array (a copy of its own), in the order
            of computation: ``N`` the value of node N, ``N.current`` what neurons N read,
            ``N.membrane`` and ``N.synaptic`` after the step. Linear and Conv that continue a sum
            have no value of their own and are not reported.

    Raises:
        InvalidModelError: the graph is not valid.

    Values are of `dtype` everywhere: spikes are 0 and 1, counts whole numbers (exact in float32
    below 2**24).
    """

    def __init__(
        self,
        graph: SpikingGraph,
        *,
        dtype: type[np.float32] | type[np.float64] = np.float32,
        batch: int | None = None,
        observe: Observer | None = None,
    ) -> None:
        graph.validate()
        self.graph = graph
        self._dtype = dtype
        self._batch = batch
        self._observe = observe
        self._slots = state_slots(graph)
        self._state: dict[str, Array] = {}
        self.reset()

    @property
    def state(self) -> dict[str, Array]:
        """A copy of the state, by the names of :mod:`edgekit.spiking.state`."""
        return {name: self._outward(array).copy() for name, array in self._state.items()}

    def reset(self) -> None:
        """Forget everything: the state is 0."""
        rows = 1 if self._batch is None else self._batch
        self._state = {
            slot.name: np.zeros((rows, *slot.shape), self._dtype) for slot in self._slots
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Continue from a state that :attr:`state` gave.

        Raises:
            InvalidDataError: a missing or unknown name, an array of another size, NaN.
        """
        if set(state) != set(self._state):
            raise InvalidDataError(
                f"{self.graph.name}: the state has {sorted(state)}, must have {sorted(self._state)}"
            )
        restored = {}
        for name, old in self._state.items():
            array = np.asarray(state[name])
            wanted = self._outward(old).shape
            if array.dtype.kind not in "fiu" or array.shape != wanted:
                raise InvalidDataError(
                    f"{self.graph.name}: state {name!r} is {array.dtype}{list(array.shape)}, must "
                    f"be {self._dtype.__name__}{list(wanted)}"
                )
            if not np.isfinite(array).all():
                raise InvalidDataError(f"{self.graph.name}: state {name!r} has NaN or infinity")
            restored[name] = array.reshape(old.shape).astype(self._dtype)
        self._state = restored

    def step(self, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
        """One time step.

        Args:
            inputs: an array of the node's shape for every Input (with `batch` in front); the
                array alone where there is one Input.

        Returns:
            By name of the Output nodes.

        Raises:
            InvalidDataError: names or shapes that do not fit, NaN or infinity. The state is as
                before.
        """
        return self._advance(checked_step(self.graph, inputs, batch=self._batch))

    def run(self, window: Mapping[str, Array] | Array, *, carry: bool = False) -> dict[str, Array]:
        """A whole window: what :meth:`step` gives for one sample after the other.

        Args:
            window: [T,...] for every Input: time first, then `batch`, then the node's shape.
            carry: continue from the state of before; else from a reset.

        Returns:
            [T,...] by name of the Output nodes.

        Raises:
            InvalidDataError: as :meth:`step`; no step at all; inputs of several lengths.
        """
        arrays = checked_window(self.graph, window, batch=self._batch)
        if not carry:
            self.reset()
        steps = len(next(iter(arrays.values())))
        results = [
            self._advance({name: array[t] for name, array in arrays.items()}) for t in range(steps)
        ]
        return {name: np.stack([result[name] for result in results]) for name in results[0]}

    def _advance(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        # Overflow to infinity is a value like any other, as in a Program.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._step(inputs)

    def _step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        graph, values = self.graph, {}
        following: dict[str, Array] = {}
        for name in graph.order():
            node = graph.nodes[name]
            if isinstance(node, Input):
                rows = 1 if self._batch is None else self._batch
                values[name] = inputs[name].reshape(rows, *node.shape).astype(self._dtype)
            elif isinstance(node, Leaky | Synaptic):
                current = self._current(name, values)
                self._report(f"{name}.current", current)
                old = {
                    part: self._state[f"{name}.{part}"]
                    for part in ("membrane", "synaptic")
                    if f"{name}.{part}" in self._state
                }
                values[name], new = neuron(node, current, old)
                for part, array in new.items():
                    following[f"{name}.{part}"] = array
                    self._report(f"{name}.{part}", array)
            elif continues(graph, name):
                # Its products are added where the neurons sum up; what it reads is kept for that.
                values[name] = self._sum(name, values)
                continue
            else:
                values[name] = self._value(name, self._sum(name, values), following)
            self._report(name, values[name])
        spikes = graph.spikes()
        for name in graph.delayed():
            following[f"{name}.{delayed_part(name in spikes)}"] = values[name]
        self._state = following
        return {name: self._outward(values[name]).copy() for name in graph.outputs()}

    def _value(self, name: str, x: Array, following: dict[str, Array]) -> Array:
        """The value of a node that is neither Input nor neuron nor continues a sum.

        Args:
            name: of the node.
            x: the sum that it reads.
            following: the next state, to which a Count adds its own.
        """
        node, shape = self.graph.nodes[name], self.graph.shapes()[name]
        match node:
            case Linear() | Conv():
                total = np.zeros((x.shape[0], *shape), self._dtype)
                add_products(total, x, node, self._flattened(name))
                return total if node.bias is None else total + _bias(node, shape, self._dtype)
            case MaxPool() | SumPool():
                return pool(x, node, shape)
            case AvgPool():
                return pool(x, node, shape) / self._dtype(window_size(node))
            case Flatten():
                return x.reshape(x.shape[0], -1)
            case Scale():
                factor = node.factor if node.factor.size > 1 else node.factor.reshape(1)
                return np.asarray(x * factor.astype(self._dtype))
            case Count():
                following[f"{name}.count"] = self._state[f"{name}.count"] + x
                return following[f"{name}.count"]
        return x

    def _read(self, edge: Edge, values: Mapping[str, Array]) -> Array:
        """What comes along an edge."""
        if not edge.delay:
            return values[edge.source]
        part = delayed_part(edge.source in self.graph.spikes())
        return self._state[f"{edge.source}.{part}"]

    def _sum(self, name: str, values: Mapping[str, Array]) -> Array:
        """What a node reads that is no population."""
        first, *others = self.graph.incoming(name)
        total = self._read(first, values)
        for edge in others:
            total = total + self._read(edge, values)
        return total

    def _current(self, name: str, values: Mapping[str, Array]) -> Array:
        """What neurons read, in the order of the module's first paragraph."""
        graph, shape = self.graph, self.graph.shapes()[name]
        rows = 1 if self._batch is None else self._batch
        total = np.zeros((rows, *shape), self._dtype)
        bias: Any = None
        for edge in graph.incoming(name):
            node = graph.nodes[edge.source]
            if not continues(graph, edge.source):
                total += self._read(edge, values)
                continue
            assert isinstance(node, Weighted)
            add_products(total, values[edge.source], node, self._flattened(edge.source))
            if node.bias is not None:
                own = _bias(node, shape, self._dtype)
                bias = own if bias is None else bias + own
        return total if bias is None else np.asarray(total + bias)

    def _flattened(self, name: str) -> Shape | None:
        """The shape of what a node reads, before the Flatten that is its only source."""
        graph = self.graph
        (source, *others) = (edge.source for edge in graph.incoming(name))
        if others or not isinstance(graph.nodes[source], Flatten):
            return None
        return graph.shapes()[graph.incoming(source)[0].source]

    def _outward(self, array: Array) -> Array:
        return array[0] if self._batch is None else array

    def _report(self, name: str, array: Array) -> None:
        if self._observe is not None:
            self._observe(name, self._outward(array).copy())


def continues(graph: SpikingGraph, name: str) -> bool:
    """Whether a node is a Linear or Conv that only one population reads, once, without delay.

    Its products continue the running total of those neurons.
    """
    edges = graph.outgoing(name)
    return (
        isinstance(graph.nodes[name], Linear | Conv)
        and len(edges) == 1
        and edges[0].delay == 0
        and isinstance(graph.nodes[edges[0].target], Leaky | Synaptic)
    )


def _bias(node: Weighted, shape: Shape, dtype: Any) -> Array:
    """A bias that broadcasts against [N,O,...]."""
    assert node.bias is not None
    return node.bias.reshape(-1, *[1] * (len(shape) - 1)).astype(dtype)
