"""Recognise activations that exporters spell as several nodes.

Clamps behind a convolution or another weighted sum need no rule here: ONNX has no node for the
pair, and the lowering takes both together.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir

from edgekit.model.nodes import (
    add_constant,
    const_scalar,
    find_input,
    get_float,
    get_input,
    graph_of,
    insert,
    is_op,
    only_use,
    remove,
    take_over,
)

_SIXTH = float(np.float32(1 / 6))


def fuse_activations(model: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
    """Rewrite activations to their shortest form.

    Rules:

    1. ``x · HardSigmoid(x)`` with alpha 1/6 and beta 1/2 becomes HardSwish.
    2. ``x · Clip(x + 3, 0, 6) / 6``, divided (or multiplied by 1/6) at any place, becomes
       HardSwish.
    3. Clip or Relu whose only reader is a Clip or Relu becomes one with it.
    """
    modified = False
    for node in model.graph:
        if is_op(node, "Mul", "Div"):
            modified |= _hard_swish(node)
    for node in model.graph:
        if is_op(node, "Clip", "Relu"):
            modified |= _merge_clamps(node)
    return model, modified


def clamp_bounds(node: onnx_ir.Node) -> tuple[float, float] | None:
    """Bounds of a Relu or of a Clip with constant bounds; None for anything else."""
    if is_op(node, "Relu"):
        return 0.0, math.inf
    if not is_op(node, "Clip"):
        return None
    bounds = []
    for index, default in ((1, -math.inf), (2, math.inf)):
        value = find_input(node, index)
        bound = default if value is None else const_scalar(value)
        if bound is None:
            return None
        bounds.append(bound)
    return bounds[0], bounds[1]


def _other(node: onnx_ir.Node, value: onnx_ir.Value) -> onnx_ir.Value | None:
    """The other operand of a binary node that reads `value`."""
    if len(node.inputs) != 2 or value not in node.inputs:
        return None
    return node.inputs[1 if node.inputs[0] is value else 0]


def _sixth_of(value: onnx_ir.Value | None) -> onnx_ir.Value | None:
    """What is divided by 6, where `value` is such a quotient that only one node reads."""
    node = None if value is None else value.producer()
    if node is None or len(node.inputs) != 2:
        return None
    if is_op(node, "Div") and const_scalar(node.inputs[1]) == 6:
        return node.inputs[0]
    if is_op(node, "Mul"):
        for i, factor in enumerate(node.inputs):
            if const_scalar(factor) == _SIXTH:
                return node.inputs[1 - i]
    return None


def _is_shifted_relu6(value: onnx_ir.Value | None, x: onnx_ir.Value) -> bool:
    """Whether `value` is ``Clip(x + 3, 0, 6)``."""
    node = None if value is None else value.producer()
    if node is None or clamp_bounds(node) != (0.0, 6.0):
        return False
    shifted = get_input(node, 0).producer()
    if not is_op(shifted, "Add"):
        return False
    assert shifted is not None
    return const_scalar(_other(shifted, x)) == 3


def _is_hard_sigmoid(value: onnx_ir.Value | None, x: onnx_ir.Value) -> bool:
    """Whether `value` is ``HardSigmoid(x; 1/6, 1/2)`` in any spelling."""
    node = None if value is None else value.producer()
    if is_op(node, "HardSigmoid"):
        assert node is not None
        alpha, beta = get_float(node, "alpha", 0.2), get_float(node, "beta", 0.5)
        return node.inputs[0] is x and float(np.float32(alpha)) == _SIXTH and beta == 0.5
    return _is_shifted_relu6(_sixth_of(value), x)


def _hard_swish(node: onnx_ir.Node) -> bool:
    """Rules 1 and 2, for the node that gives the product."""
    x = _hard_swish_source(node)
    if x is None:
        return False
    result = insert(node, "HardSwish", [x], name=f"{node.name}.hard_swish")
    take_over(node.outputs[0], result)
    remove(node)
    return True


def _hard_swish_source(node: onnx_ir.Node) -> onnx_ir.Value | None:
    if is_op(node, "Mul") and len(node.inputs) == 2:
        for i, x in enumerate(node.inputs):
            if x is not None and _is_hard_sigmoid(node.inputs[1 - i], x):
                return x
    product = _sixth_of(node.outputs[0])
    inner = None if product is None else product.producer()
    if product is None or inner is None or only_use(product) is not node:
        return None
    if is_op(inner, "Mul") and len(inner.inputs) == 2:
        for i, x in enumerate(inner.inputs):
            if x is not None and _is_shifted_relu6(inner.inputs[1 - i], x):
                return x
    return None


def _merge_clamps(node: onnx_ir.Node) -> bool:
    """Rule 3, for the second clamp of a pair."""
    outer, first = clamp_bounds(node), get_input(node, 0).producer()
    inner = None if first is None else clamp_bounds(first)
    if outer is None or inner is None or first is None or only_use(first.outputs[0]) is not node:
        return False
    low = min(max(inner[0], outer[0]), outer[1])
    high = max(min(inner[1], outer[1]), low)
    graph = graph_of(node)
    bounds = [
        None
        if math.isinf(bound)
        else add_constant(graph, f"{node.name}.{name}", np.array(bound, np.float32))
        for name, bound in (("low", low), ("high", high))
    ]
    source = get_input(first, 0)
    op_type, extra = ("Relu", []) if (low, high) == (0.0, math.inf) else ("Clip", bounds)
    merged = insert(node, op_type, [source, *extra], name=f"{node.name}.clip")
    take_over(node.outputs[0], merged)
    remove(node)
    return True
