"""Constants behind movement: which stored array a value is, however it was brought into shape."""

from __future__ import annotations

import onnx_ir

from edgekit.model import geometry
from edgekit.model.coded import is_dequantizer
from edgekit.model.nodes import Array, const, find_input, get_input, is_op, shape_of

MOVING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity")
"""Operators that only give elements of their first input another place."""


def stored_behind(value: onnx_ir.Value) -> onnx_ir.Node | None:
    """The node that dequantises a constant, and gives `value` directly or behind movement.

    DequantizeLinear, or the ``edgekit`` domain's; None for anything else, plain constants too.
    """
    node = value.producer()
    while node is not None and is_op(node, *MOVING) and node.inputs and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or not (is_op(node, "DequantizeLinear") or is_dequantizer(node)):
        return None
    inputs = (find_input(node, index) for index in range(len(node.inputs)))
    return node if all(const(i) is not None for i in inputs if i is not None) else None


def moves_behind(value: onnx_ir.Value) -> tuple[onnx_ir.Node, ...]:
    """The nodes that move what :func:`stored_behind` finds, in the order in which they do."""
    found: list[onnx_ir.Node] = []
    node = value.producer()
    while node is not None and is_op(node, *MOVING):
        found.append(node)
        node = get_input(node, 0).producer()
    return tuple(reversed(found))


def moved(node: onnx_ir.Node, array: Array) -> Array:
    """What a moving node makes of any array that has the shape of its input."""
    if is_op(node, "Identity"):
        return array
    if is_op(node, "Transpose"):
        return array.transpose(geometry.permutation_of(node, array.ndim))
    shape = shape_of(node.outputs[0])
    geometry.check_supported(shape is not None, node, "the shape of its result is unknown")
    assert shape is not None
    return array.reshape(shape)
