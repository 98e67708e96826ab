"""Remove nodes that pass their input on."""

from __future__ import annotations

import onnx_ir

from edgekit.model import geometry
from edgekit.model.nodes import (
    bypass,
    const_scalar,
    dtype_of,
    find_input,
    get_int,
    is_op,
    shape_of,
)

_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def remove_identity(model: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
    """Let readers of a node that does nothing read its input.

    A node between a graph input or constant and a graph output stays, so that both keep their
    names.

    Rules:

    1. Identity.
    2. Dropout in inference, its mask unused.
    3. Cast to the type that the input has.
    4. Reshape, Flatten, Squeeze, Unsqueeze and Expand to the shape that the input has.
    5. Transpose that keeps the order of axes.
    6. Pad by nothing.
    7. Slice of everything, forwards.
    8. Concat of one tensor.
    """
    modified = False
    for node in model.graph:
        source = find_input(node, 0)
        if node.domain == "" and source is not None and _does_nothing(node, source):
            modified |= bypass(node, source)
    return model, modified


def _does_nothing(node: onnx_ir.Node, source: onnx_ir.Value) -> bool:
    shape = shape_of(source)
    if is_op(node, "Identity"):
        return True
    if is_op(node, "Dropout"):
        training = find_input(node, 2)
        inference = training is None or const_scalar(training) == 0
        return inference and geometry.unused_outputs(node, 1)
    if is_op(node, "Cast"):
        known = dtype_of(source)
        return known is not None and int(known) == get_int(node, "to", 0)
    if is_op(node, "Concat"):
        return len(node.inputs) == 1
    if shape is None:
        return False
    if is_op(node, *_RESHAPING, "Expand"):
        return shape_of(node.outputs[0]) == shape
    if is_op(node, "Transpose"):
        perm = geometry.permutation_of(node, len(shape))
        return perm == tuple(range(len(shape)))
    if is_op(node, "Pad"):
        pairs = geometry.pad_pairs(node, len(shape))
        return pairs is not None and not any(a or b for a, b in pairs)
    if is_op(node, "Slice"):
        box = geometry.box_of(node, shape)
        return box is not None and box.count == shape and all(s == 1 for s in box.step)
    return False
