"""Where the quantisers of a traced network stand, and which values share one.

The rules are those of :mod:`edgekit.quantize.points`, said of torch's steps, so that the network
that comes out needs nothing in float; and what a mixed recipe needs beyond them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import fx, nn

from edgekit.quantize.recipe import LayerRecipe
from edgekit.quantize.training.operators import Kind, fixed_scale, kind_of, tail_of

Mode = Literal["float", "static", "token", "binary"]
"""How a layer reads: float32, int8 with a constant scale, int8 per token, or ±1."""

IS_FLOAT = "edgekit_is_float"
"""Key of a node's ``meta``: whether it gives a float tensor, or a tuple of them."""


@dataclass
class Placement:
    """Quantisers of a graph.

    Attributes:
        results: values that are quantised for all their readers.
        operands: values in float that some readers see quantised, with these readers.
        observed: values among both whose extremes count; the others follow those that they share a
            scale with.
        fixed: prescribed scale and zero point by representative of a group.
        learned: representatives of groups whose step training learns.
        tokens: layers that quantise what they read per token.
        binary: layers that read signs.
        in_float: what stays in float32 and why, one sentence each.
    """

    results: list[fx.Node] = field(default_factory=list)
    operands: dict[fx.Node, list[fx.Node]] = field(default_factory=dict)
    observed: dict[fx.Node, None] = field(default_factory=dict)
    fixed: dict[fx.Node, tuple[float, int]] = field(default_factory=dict)
    learned: set[fx.Node] = field(default_factory=set)
    tokens: list[fx.Node] = field(default_factory=list)
    binary: list[fx.Node] = field(default_factory=list)
    in_float: list[str] = field(default_factory=list)
    _parent: dict[fx.Node, fx.Node] = field(default_factory=dict)

    def group(self, value: fx.Node) -> fx.Node:
        """The representative of the values that share a scale with a quantised one."""
        while value in self._parent:
            value = self._parent[value]
        return value

    def join(self, a: fx.Node, b: fx.Node) -> None:
        """Let two quantised values share a scale."""
        a, b = self.group(a), self.group(b)
        if a is not b:
            self._parent[b] = a

    def groups(self) -> dict[fx.Node, list[fx.Node]]:
        """Quantised values by the representative of their group."""
        found: dict[fx.Node, list[fx.Node]] = {}
        for value in (*self.results, *self.operands):
            found.setdefault(self.group(value), []).append(value)
        return found


def mode_of(module: nn.Module, recipe: LayerRecipe | None) -> Mode:
    """How a layer reads what comes in; only Linear can scale per token."""
    if recipe is None or recipe.activations is None:
        return "float"
    if recipe.activations.bits == 1:
        return "binary"
    if recipe.activations.scaling == "token" and isinstance(module, nn.Linear):
        return "token"
    return "static"


def place(
    graph: fx.Graph, modules: Mapping[str, nn.Module], recipes: Mapping[str, LayerRecipe]
) -> Placement:
    """Find the places of quantisers.

    Rules:

    1. The result of a step with an integer form is quantised, behind the normalisation and the
       clamp that it takes with it.
    2. An input or a parameter is quantised where such a step reads it.
    3. Movement and max pools keep the scale of their input, windows' means are quantised with it
       again; a concatenation shares one with all that it joins, except prescribed ones.
    4. The sequence and the last state of a recurrent layer share a scale.
    5. What a layer in float, a layer that scales per token, or a step without integer form gives is
       float, and so is everything that is computed with it, up to a layer with a constant scale:
       that quantises what it reads.

    Args:
        graph: with :data:`IS_FLOAT` in every node's ``meta``.
        modules: by name.
        recipes: of the layers with weights, by name.
    """
    return _Placer(graph, modules, recipes).run()


class _Placer:
    """The state of one search.

    Attributes:
        real: values that are float and stay so.
        roots: the value that another moves.
    """

    def __init__(
        self, graph: fx.Graph, modules: Mapping[str, nn.Module], recipes: Mapping[str, LayerRecipe]
    ) -> None:
        self.graph, self.modules, self.recipes = graph, modules, recipes
        self.found = Placement()
        self.real: set[fx.Node] = set()
        self.quantized: set[fx.Node] = set()
        self.roots: dict[fx.Node, fx.Node] = {}
        self.absorbed: set[fx.Node] = set()
        self.integer = any(self._mode(n) in ("static", "binary") for n in graph.nodes)

    def run(self) -> Placement:
        for node in self.graph.nodes:
            if node not in self.absorbed and node.meta[IS_FLOAT] and node.op != "output":
                self._visit(node)
        return self.found

    def _mode(self, node: fx.Node) -> Mode | None:
        """How a layer reads; None for what is no layer with an integer form."""
        if kind_of(node, self.modules) not in (Kind.PRODUCT, Kind.RECURRENT):
            return None
        if node.op != "call_module":
            return "float"
        return mode_of(self.modules[str(node.target)], self.recipes.get(str(node.target)))

    def _visit(self, node: fx.Node) -> None:
        if node.op in ("placeholder", "get_attr"):
            return
        operands, kind = _operands(node), kind_of(node, self.modules)
        if kind in (Kind.PRODUCT, Kind.RECURRENT):
            self._layer(node, operands)
        elif kind in (Kind.SAME, Kind.DROPOUT) and operands:
            self.roots[node] = self._root(operands[0])
        elif kind in (Kind.OTHER, Kind.NORM):
            self.real.add(node)
            why = "has no integer form"
            if kind is Kind.NORM:
                why = "no convolution or product in front of it takes it along"
            if operands and self.integer:
                self.found.in_float.append(f"{_name(node)}: {why}")
        elif not self.integer or any(self._root(v) in self.real for v in operands):
            self.real.add(node)
        else:
            for value in operands:
                self._demand(value, node)
            self._step(node, operands, kind)

    def _layer(self, node: fx.Node, operands: Sequence[fx.Node]) -> None:
        mode = self._mode(node)
        if mode in ("static", "binary"):
            for value in operands:
                place = self._demand(value, node)
                recipe = self.recipes[str(node.target)].activations
                if recipe is not None and recipe.learned:
                    self.found.learned.add(place)
            if mode == "binary":
                self.found.binary.append(node)
            if kind_of(node, self.modules) is Kind.RECURRENT:
                self._sequence(node)
            else:
                self._result(node)
            return
        self.real.add(node)
        if mode == "token":
            self.found.tokens.append(node)
        else:
            self.found.in_float.append(f"{_name(node)}: its recipe says so")

    def _step(self, node: fx.Node, operands: Sequence[fx.Node], kind: Kind) -> None:
        """A step without weights, all of whose operands are quantised."""
        if kind is Kind.MEAN:
            self._quantize(node, observe=False)
            self.found.join(self._root(operands[0]), node)
        elif kind is Kind.JOIN:
            free = [
                v for v in map(self._root, operands) if self.found.group(v) not in self.found.fixed
            ]
            self._quantize(node, observe=not free)
            for value in free:
                self.found.join(value, node)
        else:
            value = self._result(node)
            if kind is Kind.FIXED:
                self.found.fixed[value] = fixed_scale(node, self.modules)

    def _result(self, node: fx.Node) -> fx.Node:
        """Quantise what a step gives together with what it takes along."""
        tail = tail_of(node, self.modules)
        self.absorbed.update(tail[1:])
        self._quantize(tail[-1])
        return tail[-1]

    def _sequence(self, node: fx.Node) -> None:
        """Quantise the results of a recurrent layer that anybody reads."""
        sequence, states = _items(node, 0), _items(node, 1)
        hidden, cells = states, list[fx.Node]()
        if isinstance(self.modules[str(node.target)], nn.LSTM):
            hidden = [item for state in states for item in _items(state, 0)]
            cells = [item for state in states for item in _items(state, 1)]
        self.absorbed.update((*sequence, *states, *hidden, *cells))
        for shared in ([*sequence, *hidden], cells):
            for value in shared:
                self._quantize(value)
                self.found.join(shared[0], value)

    def _quantize(self, value: fx.Node, *, observe: bool = True) -> None:
        self.found.results.append(value)
        self.quantized.add(value)
        if observe:
            self.found.observed[value] = None

    def _demand(self, value: fx.Node, reader: fx.Node) -> fx.Node:
        """Let a reader see a value quantised; the value that the quantiser stands behind."""
        root = self._root(value)
        if root in self.real:
            readers = self.found.operands.setdefault(value, [])
            readers.append(reader)
            self.found.observed[value] = None
            return value
        if root not in self.quantized:
            self._quantize(root)
        return root

    def _root(self, value: fx.Node) -> fx.Node:
        return self.roots.get(value, value)


def _operands(node: fx.Node) -> list[fx.Node]:
    """The float tensors that a node reads."""
    return [value for value in node.all_input_nodes if value.meta[IS_FLOAT]]


def _items(node: fx.Node, index: int) -> list[fx.Node]:
    """Nodes that pick an element of what a node gives."""
    return [u for u in node.users if u.args == (node, index) and kind_of(u, {}) is Kind.SAME]


def _name(node: fx.Node) -> str:
    target = node.target
    text = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    return f"{node.name} ({text})" if text != node.name else node.name


def binary_clamps(
    graph: fx.Graph, modules: Mapping[str, nn.Module], binary: Iterable[str]
) -> tuple[list[tuple[fx.Node, tuple[str, ...]]], list[str]]:
    """Clamps at 0 in front of layers that read signs.

    The sign of what such a clamp gives is always positive.

    Args:
        graph: the graph.
        modules: by name.
        binary: names of the layers that read signs.

    Returns:
        Clamps that only such layers read, directly or behind movement, pools and dropout: the sign
        takes their place; each with these layers' names. And names of layers whose clamp others
        read too.
    """
    wanted, lone, torn = set(binary), list[tuple[fx.Node, tuple[str, ...]]](), list[str]()
    for node in graph.nodes:
        if kind_of(node, modules) is not Kind.CLAMP or not _starts_at_zero(node, modules):
            continue
        readers = _readers(node, modules)
        reading = [r for r in readers if r.op == "call_module" and r.target in wanted]
        if reading and len(reading) == len(readers):
            lone.append((node, tuple(str(r.target) for r in reading)))
        else:
            torn += [str(r.target) for r in reading]
    return lone, torn


def _readers(node: fx.Node, modules: Mapping[str, nn.Module]) -> list[fx.Node]:
    found: list[fx.Node] = []
    for user in node.users:
        if kind_of(user, modules) in (Kind.SAME, Kind.MEAN, Kind.DROPOUT):
            found += _readers(user, modules)
        else:
            found.append(user)
    return found


def _starts_at_zero(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a clamp gives nothing below 0."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        low = module.min_val if isinstance(module, nn.Hardtanh) else 0.0
        return float(low) >= 0
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if "relu" in name:
        return True
    if name == "clamp_max":
        return False
    bound = (
        node.args[1] if len(node.args) > 1 else node.kwargs.get("min", node.kwargs.get("min_val"))
    )
    return isinstance(bound, int | float) and bound >= 0
