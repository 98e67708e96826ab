"""What a rule for TensorRT models is, and the table of all rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx_ir

from edgekit.model.nodes import Array, const, find_input, is_op, label, name_of
from edgekit.targets.jetson.modules import Module

QUANTIZING = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Violation:
    """Something that TensorRT would refuse, or silently not run as it looks.

    Attributes:
        rule: name of the rule.
        where: the node, value or opset that is wrong.
        problem: what is wrong.
        remedy: what would be right.
    """

    rule: str
    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.remedy} [{self.rule}]"


@dataclass(frozen=True, eq=False)
class Scene:
    """What a rule looks at.

    Attributes:
        graph: without local functions; constants are initializers.
        opset: of ONNX's own operators.
        types: element type of every value whose type follows from the graph.
        tensorrt: major version of TensorRT.
        module: what the model is for; None leaves out what depends on it.
    """

    graph: onnx_ir.Graph
    opset: int
    types: Mapping[onnx_ir.Value, onnx_ir.DataType]
    tensorrt: int
    module: Module | None

    def nodes(self, *op_types: str) -> Iterator[onnx_ir.Node]:
        """The nodes of these operators."""
        return (node for node in self.graph if is_op(node, *op_types))


Finding = tuple[onnx_ir.Node | str, str, str]
"""Where, what is wrong, what would be right."""

Check = Callable[[Scene], Iterator[Finding]]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: as messages give it.
        since: first major version of TensorRT that it holds for.
        text: what it demands, one line.
        check: finds what breaks it.
    """

    name: str
    since: int
    text: str
    check: Check

    def violations(self, scene: Scene) -> Iterator[Violation]:
        """What breaks the rule, in the order of the graph."""
        for where, problem, remedy in self.check(scene):
            place = where if isinstance(where, str) else label(where)
            yield Violation(self.name, place, problem, remedy)


_rules: dict[str, Rule] = {}

RULES: Mapping[str, Rule] = MappingProxyType(_rules)
"""Every rule by name."""


def rule(name: str, *, since: int = 10) -> Callable[[Check], Check]:
    """Put a function into the table of rules; the first line of its docstring is the rule's text.

    Args:
        name: of the rule.
        since: first major version of TensorRT that it holds for.
    """

    def register(check: Check) -> Check:
        assert name not in _rules, f"rule {name!r} exists already"
        assert check.__doc__, f"rule {name!r} needs a docstring"
        _rules[name] = Rule(name, since, check.__doc__.strip().splitlines()[0], check)
        return check

    return register


def dequantized(value: onnx_ir.Value | None) -> onnx_ir.Node | None:
    """The DequantizeLinear that computes a value, None for anything else."""
    producer = None if value is None else value.producer()
    return producer if is_op(producer, "DequantizeLinear") else None


def stored(value: onnx_ir.Value | None) -> onnx_ir.Value | None:
    """The constant that a QuantizeLinear or DequantizeLinear gets, through both; None for none."""
    while value is not None:
        if const(value) is not None:
            return value
        producer = value.producer()
        if not is_op(producer, *QUANTIZING):
            return None
        assert producer is not None
        value = find_input(producer, 0)
    return None


def scale_of(node: onnx_ir.Node) -> Array | None:
    """The constant scale of a QuantizeLinear or DequantizeLinear, None where it is computed."""
    return const(find_input(node, 1))


def named(value: onnx_ir.Value) -> str:
    """What messages call a value."""
    return f"tensor {name_of(value)!r}"
