"""Small helpers over :mod:`onnx_ir`: typed attributes, constants, shapes and rewiring.

Attributes come from files that may be hostile: every getter checks the type and says which node is
wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgekit.errors import InvalidModelError

Array = NDArray[Any]
Shape = tuple[int, ...]

_NAMES = "edgekit.names"


def label(node: onnx_ir.Node) -> str:
    """What messages call a node.

    >>> label(onnx_ir.Node("acme", "FFT", [], name="f"))
    "acme.FFT node 'f'"
    """
    domain = f"{node.domain}." if node.domain else ""
    return f"{domain}{node.op_type} node {node.name!r}"


def is_op(node: onnx_ir.Node | None, *op_types: str) -> bool:
    """Whether a node is one of these operators of the standard domain."""
    return node is not None and node.domain == "" and node.op_type in op_types


def _attribute(node: onnx_ir.Node, name: str, kind: onnx_ir.AttributeType) -> Any:
    attribute = node.attributes.get(name)
    if attribute is None:
        return None
    if attribute.is_ref() or attribute.type != kind:
        raise InvalidModelError(
            f"{label(node)}: attribute {name!r} is {attribute.type.name}, must be {kind.name}"
        )
    return attribute.value


def find_int(node: onnx_ir.Node, name: str) -> int | None:
    """An integer attribute, None where absent."""
    value = _attribute(node, name, onnx_ir.AttributeType.INT)
    return None if value is None else int(value)


def get_int(node: onnx_ir.Node, name: str, default: int) -> int:
    """An integer attribute with its default."""
    value = find_int(node, name)
    return default if value is None else value


def find_ints(node: onnx_ir.Node, name: str) -> Shape | None:
    """A list-of-integers attribute, None where absent."""
    value = _attribute(node, name, onnx_ir.AttributeType.INTS)
    return None if value is None else tuple(int(v) for v in value)


def get_float(node: onnx_ir.Node, name: str, default: float) -> float:
    """A float attribute with its default."""
    value = _attribute(node, name, onnx_ir.AttributeType.FLOAT)
    return default if value is None else float(value)


def find_floats(node: onnx_ir.Node, name: str) -> tuple[float, ...] | None:
    """A list-of-floats attribute, None where absent."""
    value = _attribute(node, name, onnx_ir.AttributeType.FLOATS)
    return None if value is None else tuple(float(v) for v in value)


def get_string(node: onnx_ir.Node, name: str, default: str) -> str:
    """A text attribute with its default."""
    value = _attribute(node, name, onnx_ir.AttributeType.STRING)
    return default if value is None else str(value)


def find_input(node: onnx_ir.Node, index: int) -> onnx_ir.Value | None:
    """Input `index`, None where absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def get_input(node: onnx_ir.Node, index: int) -> onnx_ir.Value:
    """Input `index`, which the operator needs.

    Raises:
        InvalidModelError: it is absent.
    """
    value = find_input(node, index)
    if value is None:
        raise InvalidModelError(f"{label(node)}: input {index} is missing")
    return value


def get_output(node: onnx_ir.Node, index: int = 0) -> onnx_ir.Value:
    """Output `index`, which the operator has.

    Raises:
        InvalidModelError: it is absent.
    """
    if index >= len(node.outputs):
        raise InvalidModelError(f"{label(node)}: output {index} is missing")
    return node.outputs[index]


def name_of(value: onnx_ir.Value) -> str:
    """Name of a value; the loader gives every value one."""
    assert value.name is not None
    return value.name


def const(value: onnx_ir.Value | None) -> Array | None:
    """The array of an initializer; None for anything computed, fed or absent."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return np.asarray(value.const_value.numpy())


def const_ints(node: onnx_ir.Node, index: int) -> Shape | None:
    """A constant integer input as a tuple; None where absent or not constant."""
    array = const(find_input(node, index))
    if array is None:
        return None
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise InvalidModelError(f"{label(node)}: input {index} must be a list of integers")
    return tuple(int(v) for v in array.reshape(-1))


def const_scalar(value: onnx_ir.Value | None) -> float | None:
    """The only element of a constant, None where it is no constant or has more elements."""
    array = const(value)
    if array is None or array.size != 1 or array.dtype.kind not in "fiub":
        return None
    return float(array.reshape(())[()])


def shape_of(value: onnx_ir.Value | None) -> Shape | None:
    """The static shape of a value, None where any part is unknown."""
    if value is None or value.shape is None:
        return None
    dims = value.shape.dims
    if not all(isinstance(d, int) for d in dims):
        return None
    return tuple(int(d) for d in dims)  # type: ignore[arg-type]


def dtype_of(value: onnx_ir.Value | None) -> onnx_ir.DataType | None:
    """Element type of a value, None where unknown."""
    return None if value is None else value.dtype


def only_use(value: onnx_ir.Value) -> onnx_ir.Node | None:
    """The one node that reads a value once; None for a graph output or any other number."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def unique_name(graph: onnx_ir.Graph, wanted: str) -> str:
    """A name that no value or node of the graph has, remembered as taken."""
    taken: set[str] | None = graph.meta.get(_NAMES)
    if taken is None:
        values = [*graph.inputs, *(v for node in graph for v in node.outputs)]
        taken = {*graph.initializers, *(v.name for v in values if v.name is not None)}
        taken |= {node.name for node in graph if node.name is not None}
        graph.meta[_NAMES] = taken
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name


def add_constant(graph: onnx_ir.Graph, wanted: str, array: Array) -> onnx_ir.Value:
    """Add an initializer under the wanted name or one like it."""
    tensor = onnx_ir.Tensor(np.ascontiguousarray(array).reshape(array.shape))
    value = onnx_ir.Value(
        name=unique_name(graph, wanted),
        shape=onnx_ir.Shape(array.shape),
        type=onnx_ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def insert(
    anchor: onnx_ir.Node,
    op_type: str,
    inputs: Sequence[onnx_ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    name: str,
    after: bool = False,
) -> onnx_ir.Value:
    """Insert a standard node before (or after) `anchor`; its output has the node's name."""
    graph = anchor.graph
    assert isinstance(graph, onnx_ir.Graph)
    name = unique_name(graph, name)
    output = onnx_ir.Value(name=name)
    node = onnx_ir.node(op_type, inputs, dict(attributes or {}), outputs=[output], name=name)
    (graph.insert_after if after else graph.insert_before)(anchor, node)
    return output


def graph_of(node: onnx_ir.Node) -> onnx_ir.Graph:
    """The graph that a node is in."""
    assert isinstance(node.graph, onnx_ir.Graph)
    return node.graph


def take_over(old: onnx_ir.Value, new: onnx_ir.Value) -> None:
    """Let `new`, computed by a new node, replace `old` everywhere and have its name and type."""
    new.type, new.shape = old.type or new.type, old.shape or new.shape
    name, old.name = old.name, None
    new.name = name
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def bypass(node: onnx_ir.Node, source: onnx_ir.Value) -> bool:
    """Remove a node whose first output equals `source`.

    A graph output keeps its name; where that is impossible (`source` is fed, constant or a graph
    output itself) the node stays.

    Returns:
        Whether the node is gone.
    """
    result = node.outputs[0]
    if result.is_graph_output():
        if source.is_graph_input() or source.is_initializer() or source.is_graph_output():
            return False
        name, result.name = result.name, None
        source.name = name
    result.replace_all_uses_with(source, replace_graph_outputs=True)
    remove(node)
    return True


def remove(node: onnx_ir.Node) -> None:
    """Remove a node that nobody needs any more."""
    graph_of(node).remove(node, safe=True)
