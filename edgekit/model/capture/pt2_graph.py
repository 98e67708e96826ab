"""The graph of a ``.pt2`` file, copied with every text in it checked.

Texts reach four dangerous places in torch: names become Python source of the graph's ``forward``,
expressions go through ``sympify``, which is ``eval``, targets are looked up attribute by attribute
from ``torch``, ``math`` and ``operator``, and tree specifications import modules by name. Guards
are source outright. So everything is copied by what it may be, not filtered by what it may not.
"""

from __future__ import annotations

import ast
import importlib
import json
import math
import re
from collections.abc import Callable
from typing import Any

import torch

from edgekit.errors import InvalidModelError, UnsupportedError

_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,200})?")
_PATH = re.compile(r"([A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*)?")
_OPERAND = re.compile(r"[A-Za-z0-9_,.> -]{0,200}")
_SYMBOL = re.compile(r"[a-z]{1,4}[0-9]{1,4}")
_MODULES = re.compile(r"[A-Za-z0-9_.,;<>@\[\]]{0,4000}")

_TARGET = re.compile(r"torch\.ops\.(\w+)\.(\w+)\.(\w+)")

NAMESPACES = {
    "aten": "torch",
    "edgekit": "edgekit.model.capture.symbolic",
    "quantized_decomposed": "torch.ao.quantization.fx._decomposed",
}
"""Libraries whose operators may be called, and the module that registers them."""

_PLAIN_TARGETS = frozenset(
    {f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "mod", "getitem", "neg")}
    | {f"_operator.{name}" for name in ("eq", "ne", "lt", "le", "gt", "ge", "truediv")}
    | {"torch.sym_max", "torch.sym_min", "torch.sym_not", "math.ceil", "math.floor", "math.trunc"}
    | {"torch.ops.higher_order.wrap_with_set_grad_enabled"}
)
"""Functions of numbers, and the one region that a module in inference has."""

_WITHOUT_RESULT = frozenset(
    {"_assert_tensor_metadata", "_assert_scalar", "_assert_async"}
    | {"sym_constrain_range", "sym_constrain_range_for_size"}
)
"""Operators that only check."""

_FUNCTIONS = frozenset(
    {"Integer", "Symbol", "Add", "Mul", "Max", "Min", "FloorDiv", "Mod", "PythonMod", "CleanDiv"}
    | {"CeilDiv", "ModularIndexing", "Equality", "Unequality", "Eq", "Ne", "Not", "And", "Or"}
    | {"StrictLessThan", "StrictGreaterThan", "LessThan", "GreaterThan"}
)
"""Constructors that an expression of extents may use."""

_ASSUMPTIONS = frozenset({"positive", "integer", "nonnegative"})

_FORBIDDEN = {
    "as_custom_obj": "a custom object",
    "custom_obj": "a custom object",
    "as_operator": "an operator as an argument",
    "as_complex": "a complex number",
    "token": "an effect token",
}
"""Variants that have no place in a network, and what they are."""

_LARGEST = 2**63


def checked_program(document: Any, where: str) -> dict[str, Any]:
    """A copy of an exported program in which every text is what its place allows.

    Guards, source places and versions are left out; the copy loads without them.

    Raises:
        InvalidModelError: it is malformed, or a text is not of the form that its place has.
        UnsupportedError: operators, objects or expressions that are not on the list.
    """
    checker = _Checker(where)
    module = checker.field(document, "graph_module", dict)
    entries = [
        checker.call_entry(entry)
        for entry in checker.field(module, "module_call_graph", list)
        if isinstance(entry, dict) and entry.get("fqn") == ""
    ]
    verifiers = document.get("verifiers", [])
    if not isinstance(verifiers, list) or not set(map(str, verifiers)) <= {"TRAINING", "ATEN", ""}:
        raise UnsupportedError(f"{where}: dialect {verifiers!r} is not known")
    return {
        "graph_module": {
            "graph": checker.copy(checker.field(module, "graph", dict), "graph"),
            "signature": checker.copy(checker.field(module, "signature", dict), "signature"),
            "module_call_graph": entries,
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": checker.copy(checker.field(document, "opset_version", dict), ""),
        "range_constraints": checker.ranges(checker.field(document, "range_constraints", dict)),
        "schema_version": checker.copy(checker.field(document, "schema_version", dict), ""),
        "verifiers": verifiers,
        "torch_version": torch.__version__,
        "guards_code": [],
    }


class _Checker:
    """Copies JSON; every text is checked by the key that it stands under."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.by_key: dict[str, Callable[[str], str]] = {
            "target": self.target,
            "expr_str": self.expression,
            "as_string": lambda text: self.matched(_OPERAND, text, "text"),
            "as_strings": lambda text: self.matched(_OPERAND, text, "text"),
            "as_float": self.special_float,
            "as_floats": self.special_float,
            "type": self.device,
            "parameter_name": lambda text: self.matched(_PATH, text, "parameter"),
            "buffer_name": lambda text: self.matched(_PATH, text, "buffer"),
            "tensor_constant_name": lambda text: self.matched(_PATH, text, "constant"),
            "nn_module_stack": lambda text: text,
        }

    def field(self, document: Any, key: str, kind: type) -> Any:
        """A part of an object.

        Raises:
            InvalidModelError: it is missing or of another kind.
        """
        value = document.get(key) if isinstance(document, dict) else None
        if not isinstance(value, kind):
            raise InvalidModelError(f"{self.where} is no exported program: {key} is malformed")
        return value

    def matched(self, pattern: re.Pattern[str], text: str, what: str) -> str:
        """The text, if it has the form.

        Raises:
            InvalidModelError: it has not.
        """
        if not pattern.fullmatch(text):
            raise InvalidModelError(f"{self.where}: {text[:80]!r} is no name of a {what}")
        return text

    def copy(self, value: Any, key: str) -> Any:
        """A deep copy of JSON that stands under `key`."""
        if isinstance(value, dict):
            return {
                self.matched(_PATH, name, "field"): self.copy(item, name)
                for name, item in value.items()
                if not self._is_left_out(name, item)
            }
        if isinstance(value, list):
            return [self.copy(item, key) for item in value]
        if isinstance(value, str):
            check = self.by_key.get(key)
            return self.matched(_NAME, value, "value") if check is None else check(value)
        if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
            raise InvalidModelError(f"{self.where}: a number has {value.bit_length()} bits")
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidModelError(f"{self.where}: {value} is no number of JSON")
        return value

    def _is_left_out(self, name: str, item: Any) -> bool:
        if name in _FORBIDDEN:
            raise UnsupportedError(f"{self.where}: the graph holds {_FORBIDDEN[name]}")
        if name == "custom_obj_values" and item:
            raise UnsupportedError(f"{self.where}: the graph holds custom objects")
        # Places in source files and the like: torch reads them, nobody here needs them.
        text = isinstance(item, str)
        if name == "nn_module_stack":
            return not (text and _MODULES.fullmatch(item))
        return text and name in (
            "stack_trace",
            "torch_fn",
            "from_node",
            "source_fn_stack",
            "custom",
        )

    def target(self, text: str) -> str:
        """An operator that computes tensors from tensors and numbers.

        Raises:
            UnsupportedError: it is not on the list.
        """
        if text in _PLAIN_TARGETS:
            return text
        parts = _TARGET.fullmatch(text)
        if parts is None or parts[1] not in NAMESPACES:
            raise UnsupportedError(
                f"{self.where}: {text[:200]!r} is no operator of {', '.join(sorted(NAMESPACES))}"
            )
        importlib.import_module(NAMESPACES[parts[1]])
        packet = getattr(getattr(torch.ops, parts[1]), parts[2], None)
        operator = getattr(packet, parts[3], None)
        if not isinstance(operator, torch._ops.OpOverload):
            raise UnsupportedError(f"{self.where}: this torch has no operator {text!r}")
        schema = operator._schema
        results = {str(result.type) for result in schema.returns}
        only_checks = not results and parts[2] in _WITHOUT_RESULT
        computes = bool(results) and results <= {"Tensor", "List[Tensor]", "int", "bool", "float"}
        if any(a.name == "filename" for a in schema.arguments) or not (computes or only_checks):
            raise UnsupportedError(f"{self.where}: operator {text!r} does more than compute")
        return text

    def expression(self, text: str) -> str:
        """An expression of integers and symbols.

        Raises:
            UnsupportedError: it is anything else.
        """
        if len(text) > 2000 or not _is_arithmetic(text):
            raise UnsupportedError(
                f"{self.where}: the extent {text[:80]!r} is no simple expression of integers and "
                "symbols; export the module with static shapes"
            )
        return text

    def special_float(self, text: str) -> str:
        """A number that JSON cannot write."""
        if text not in ("Infinity", "-Infinity", "NaN"):
            raise InvalidModelError(f"{self.where}: {text[:80]!r} is no number")
        return text

    def device(self, text: str) -> str:
        """The only device that is exported from."""
        if text != "cpu":
            raise UnsupportedError(
                f"{self.where}: it was exported on {text[:80]!r}; export the module on the CPU"
            )
        return text

    def ranges(self, ranges: dict[str, Any]) -> Any:
        """Bounds by symbol."""
        for name in ranges:
            self.matched(_SYMBOL, name, "symbol")
        return self.copy(ranges, "")

    def call_entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        """How the whole program is called: trees of arguments and results."""
        signature = self.field(entry, "signature", dict)
        names = signature.get("forward_arg_names")
        return {
            "fqn": "",
            "signature": {
                "inputs": [],
                "outputs": [],
                "in_spec": self.tree(signature.get("in_spec")),
                "out_spec": self.tree(signature.get("out_spec")),
                "forward_arg_names": None if names is None else self.copy(names, ""),
            },
        }

    def tree(self, text: Any) -> str:
        """A tree of tuples, lists and dicts; anything else would be looked up or imported."""
        try:
            version, node = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidModelError(f"{self.where}: a tree of arguments is malformed") from error
        return json.dumps([self.copy(version, ""), self._tree_node(node)])

    def _tree_node(self, node: Any) -> dict[str, Any]:
        kind = node.get("type") if isinstance(node, dict) else ""
        if kind not in (None, "builtins.tuple", "builtins.list", "builtins.dict"):
            raise UnsupportedError(
                f"{self.where}: arguments or results of type {kind!r} cannot be read without "
                "trust; let forward take and return tensors, tuples, lists and dicts"
            )
        context: Any = node.get("context")
        if kind == "builtins.dict":
            keys = self.field({"keys": _json(context)}, "keys", list)
            context = json.dumps([self.copy(key, "") for key in keys])
        elif context not in (None, "null"):
            raise InvalidModelError(f"{self.where}: a tree of arguments is malformed")
        children = self.field(node, "children_spec", list)
        return {
            "type": kind,
            "context": context,
            "children_spec": [self._tree_node(child) for child in children],
        }


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None


def _is_arithmetic(text: str) -> bool:
    """Whether a text is an expression of :data:`_FUNCTIONS`, integers and symbols.

    >>> _is_arithmetic("Mul(Integer(2), Symbol('s0', positive=True, integer=True))")
    True
    >>> _is_arithmetic("__import__('os').system('true')"), _is_arithmetic("9**9**9")
    (False, False)
    """
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return _is_term(tree.body)


def _is_term(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=bool()):
            return True
        case ast.Constant(value=int(number)):
            return number < 2**40
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _is_term(operand)
        case ast.Name(id=name):
            return _SYMBOL.fullmatch(name) is not None
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))]):
            return _SYMBOL.fullmatch(name) is not None and all(
                keyword.arg in _ASSUMPTIONS
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value is True
                for keyword in node.keywords
            )
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name != "Symbol":
            return name in _FUNCTIONS and all(_is_term(argument) for argument in node.args)
    return False
