"""A graph from what every population reads and what forward returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.spiking.arrays import Float32, Shape
from edgekit.spiking.graph import Edge, SpikingGraph, identifier
from edgekit.spiking.imported.affine import Affine, Reshape
from edgekit.spiking.imported.expressions import (
    INPUT,
    Apply,
    Expression,
    Kind,
    Signal,
    Sum,
    Total,
    Zero,
    layers,
    signals,
)
from edgekit.spiking.imported.fold import Folder, gained, one_to_one
from edgekit.spiking.imported.recorder import Population
from edgekit.spiking.imported.rolling import Result, kinds
from edgekit.spiking.nodes import (
    Count,
    Flatten,
    Input,
    Leaky,
    MaxPool,
    Node,
    Output,
    Scale,
    Synaptic,
    spread_over,
)

Source = tuple[str, int]
"""A node and the delay with which it is read."""

OUTPUT_NAMES: Mapping[Kind, str] = {
    "spikes": "spikes",
    "membrane": "membranes",
    "synaptic": "currents",
    "input": "values",
}
"""What Output nodes are called by what they pass on; totals are ``scores``."""

ONE = np.ones(1, np.float32)


class Builder:
    """Makes nodes and edges, each once.

    Args:
        name: of the graph.
        populations: by name; those that no result depends on are left out.
        currents: what they read, with relative steps.
        results: that become Output nodes.
        step_shape: of one step of the input, without batch.
    """

    def __init__(
        self,
        name: str,
        populations: Mapping[str, Population],
        currents: Mapping[str, Expression],
        results: Sequence[Result],
        step_shape: Shape,
    ) -> None:
        self._name = identifier(name, ())
        folder = Folder()
        self._values = [folder.fold(result.value) for result in results]
        self._currents = _reached(populations, currents, self._values, folder)
        self._populations = {n: p for n, p in populations.items() if n in self._currents}
        self._nodes: dict[str, Node] = {}
        self._edges: list[Edge] = []
        self._made: dict[Expression, list[Source]] = {}
        everything = [*self._currents.values(), *self._values]
        self._read = {(s.source, s.kind) for value in everything for s in signals(value)}
        self._shape = _input_shape(everything, step_shape)
        self._results = results

    def build(self) -> tuple[SpikingGraph, dict[int, str]]:
        """The graph, and the Output node of every result by its place.

        Raises:
            UnsupportedError: a value that no node gives.
            InvalidModelError: what :meth:`SpikingGraph.validate` finds.
        """
        self._nodes[INPUT] = Input(self._shape)
        # Names of populations first: layers get out of their way, and other layers may read them.
        for name, population in self._populations.items():
            self._nodes[name] = self._neuron(population)
        for name, current in self._currents.items():
            self._connect(current, name)
        for name in self._populations:
            for kind in ("synaptic", "membrane"):
                if (name, kind) in self._read and not self._reads_out(name, kind):
                    self._twin(name, kind)
        outputs: dict[int, str] = {}
        made: dict[Expression, str] = {}
        for result, value in zip(self._results, self._values, strict=True):
            if value not in made:
                made[value] = self._output(value)
            outputs[result.place] = made[value]
        graph = SpikingGraph(self._name, self._nodes, tuple(self._edges))
        graph.validate()
        return graph, outputs

    def _neuron(self, population: Population) -> Leaky | Synaptic:
        """A population's node: an integrator where spikes are neither read nor reset it."""
        node = population.cell.node
        if not self._reads_out(population.name, "membrane"):
            return node
        if isinstance(node, Leaky):
            return Leaky(node.beta, spiking=False)
        return Synaptic(node.alpha, node.beta, spiking=False)

    def _reads_out(self, name: str, kind: Kind) -> bool:
        """Whether the population's own node has a value of this kind."""
        population = self._populations[name]
        silent = (name, "spikes") not in self._read and population.cell.node.reset == "none"
        return silent and kind == "membrane" and (name, kind) in self._read

    def _twin(self, name: str, kind: Kind) -> str:
        """Integrators with the membrane, or the synaptic current, of neurons whose node has spikes.

        ``u' = beta u + x - threshold s`` is an integrator that reads x and, one step later, the
        neurons' spikes times -threshold.

        Raises:
            UnsupportedError: reset to zero: it is no sum.
        """
        made = self._twin_name(name, kind)
        if made in self._nodes:
            return made
        population = self._populations[name]
        node = population.cell.node
        if kind == "synaptic":
            assert isinstance(node, Synaptic)
            self._nodes[made] = Leaky(node.alpha, spiking=False)
            self._connect(self._currents[name], made)
            return made
        if node.reset == "zero" or population.cell.immediate:
            raise UnsupportedError(
                f"the membrane of {population.path} is read, which resets to zero; supported: its "
                "spikes, or membranes with reset 'subtract' or 'none'"
            )
        if node.reset == "none" and isinstance(node, Synaptic):
            self._nodes[made] = Synaptic(node.alpha, node.beta, spiking=False)
            self._connect(self._currents[name], made)
            return made
        self._nodes[made] = Leaky(node.beta, spiking=False)
        if isinstance(node, Synaptic):
            self._edges.append(Edge(self._twin(name, "synaptic"), made))
        else:
            self._connect(self._currents[name], made)
        if node.reset == "subtract":
            factor = -spread_over(node.threshold, population.shape).astype(np.float64)
            back = self._add(f"{name}_reset", self._factor(Affine(factor), population.shape))
            self._edges += [Edge(name, back, delay=1), Edge(back, made)]
        return made

    def _twin_name(self, name: str, kind: Kind) -> str:
        return f"{name}_{'membrane' if kind == 'membrane' else 'current'}"

    def _output(self, value: Expression) -> str:
        """An Output node."""
        found = sorted(kinds(value) - {"input"})
        totals = _has_total(value)
        text = "scores" if totals else OUTPUT_NAMES[found[0]] if len(found) == 1 else "values"
        if not totals and any(True for _ in layers(value)):
            text = "values"
        name = self._add(text, Output())
        self._connect(value, name)
        return name

    def _connect(self, value: Expression, target: str) -> None:
        """Edges from all that a value adds up."""
        sources = self._sources(value)
        if not sources:
            raise UnsupportedError(f"{target} reads nothing but zeros")
        self._edges += [Edge(source, target, delay) for source, delay in sources]

    def _sources(self, value: Expression) -> list[Source]:
        """Nodes whose sum a value is."""
        if value not in self._made:
            self._made[value] = self._make(value)
        return self._made[value]

    def _make(self, value: Expression) -> list[Source]:
        match value:
            case Zero():
                return []
            case Sum(terms):
                return [source for term in terms for source in self._sources(term)]
            case Signal(source, kind, step):
                delay = -(step or 0)
                if kind in ("input", "spikes") or self._reads_out(source, kind):
                    return [(source, delay)]
                return [(self._twin(source, kind), delay)]
            case Total(operand):
                return [(self._total(operand), 0)]
            case Apply(layer, operand):
                return self._layer(layer.name, layer.node, operand, layer.shape)
        raise AssertionError(value)

    def _layer(
        self, name: str, operation: object, operand: Expression, shape: Shape
    ) -> list[Source]:
        if isinstance(operation, Reshape):
            if isinstance(operand, Signal) and operand.kind == "input":
                return self._sources(operand)
            raise UnsupportedError(
                f"a view of the shape {list(shape)} behind the network's input; supported: views "
                "of the input, and Flatten"
            )
        node: Node
        if isinstance(operation, Affine):
            node = (
                Scale(operation.factor.astype(np.float32))
                if operation.shift is None and _has_total(operand)
                else self._factor(operation, shape)
            )
        else:
            assert isinstance(operation, Node)
            node = operation
        if isinstance(node, Flatten) and self._is_flat(operand, shape):
            return self._sources(operand)
        # What it reads first: nodes are listed in the order in which they run.
        self._sources(operand)
        made = self._add(name, node)
        self._connect(operand, made)
        return [(made, 0)]

    def _is_flat(self, operand: Expression, shape: Shape) -> bool:
        """Whether a Flatten reads the input, which a view has already made flat."""
        return isinstance(operand, Signal) and operand.kind == "input" and self._shape == shape

    def _factor(self, affine: Affine, shape: Shape) -> Node:
        """A factor and a shift that no rule folds."""
        node = one_to_one(affine, shape)
        if node is not None:
            return node
        if affine.shift is None:
            return Scale(affine.factor.astype(np.float32))
        raise UnsupportedError(
            f"a constant that differs within the channels of {list(shape)} is added; supported: "
            "one per channel"
        )

    def _total(self, operand: Expression) -> str:
        """A running sum: a count of spikes, an integrator without decay of anything else."""
        moved = all(isinstance(layer.node, Flatten | MaxPool) for layer in layers(operand))
        counts = moved and kinds(operand) == {"spikes"} and not isinstance(operand, Sum)
        source = next(iter(signals(operand)), None)
        name = f"{source.source}_{'count' if counts else 'sum'}" if source else "sum"
        made = self._add(name, Count() if counts else Leaky(_copy(ONE), spiking=False))
        self._connect(operand, made)
        return made

    def _add(self, text: str, node: Node) -> str:
        name = identifier(text, self._nodes)
        self._nodes[name] = node
        return name


def _reached(
    populations: Mapping[str, Population],
    currents: Mapping[str, Expression],
    values: Iterable[Expression],
    folder: Folder,
) -> dict[str, Expression]:
    """Folded inputs of the populations that results depend on, in the order of the source."""
    found: dict[str, Expression] = {}
    waiting = list(values)
    while waiting:
        for signal in signals(waiting.pop()):
            if signal.source == INPUT or signal.source in found:
                continue
            population, value = populations[signal.source], currents[signal.source]
            gain = population.cell.gain
            if gain is not None:
                value = gained(gain, value, population.shape, f"{signal.source}_gain")
            found[signal.source] = folder.fold(value)
            waiting.append(found[signal.source])
    return {name: found[name] for name in populations if name in found}


def _input_shape(values: Iterable[Expression], shape: Shape) -> Shape:
    """The shape of the Input: that of the sample, or of the one view that everything reads.

    Raises:
        UnsupportedError: several views, or a shape that no layer reads.
    """
    views: set[Shape] = set()
    plain = False
    waiting = list(values)
    while waiting:
        match waiting.pop():
            case Apply(layer, Signal(source=source)) if source == INPUT:
                if isinstance(layer.node, Reshape):
                    views.add(layer.node.shape)
                elif not isinstance(layer.node, Flatten):
                    plain = True
            case Signal(source=source) if source == INPUT:
                plain = True
            case Apply(_, operand) | Total(operand):
                waiting.append(operand)
            case Sum(terms):
                waiting.extend(terms)
    if len(views) + plain > 1:
        raise UnsupportedError(
            f"the input is read as {sorted(views)}{' and as it is' if plain else ''}; supported: "
            "one shape"
        )
    found = views.pop() if views else shape
    if not 1 <= len(found) <= 3 and not plain:
        found = (int(np.prod(found)),)
    return found


def _has_total(value: Expression) -> bool:
    """Whether a value is read after the last step."""
    match value:
        case Total():
            return True
        case Apply(_, operand):
            return _has_total(operand)
        case Sum(terms):
            return any(_has_total(term) for term in terms)
    return False


def _copy(values: Float32) -> Float32:
    return np.array(values)
