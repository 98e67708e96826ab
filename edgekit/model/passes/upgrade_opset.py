"""Bring old spellings of operators to opset 21, so that everything behind knows one form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir

from edgekit.model.geometry import check, check_supported
from edgekit.model.nodes import (
    add_constant,
    find_floats,
    find_ints,
    get_float,
    get_input,
    get_int,
    get_string,
    graph_of,
    insert,
    is_op,
    remove,
    take_over,
)

TARGET = 21
"""Opset that every Model has behind this pass, unless its own is newer."""

_TARGET_IR_VERSION = 10


def upgrade_opset(model: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
    """Rewrite nodes whose form changed before opset 21.

    Rules, with the opset that changed the form:

    1. Clip (11): attributes min and max become inputs.
    2. Pad (11): attributes pads and value become inputs.
    3. Slice (10): attributes starts, ends and axes become inputs.
    4. Squeeze, Unsqueeze (13), ReduceMean, ReduceProd, ReduceMax (18), ReduceSum (13): attribute
       axes becomes an input.
    5. Split (13): attribute split becomes an input.
    6. Upsample (9, 10) and Resize (11) become Resize of asymmetric coordinates, rounded down.
    7. Softmax (13): the old form flattened its input in front of axis, default 1; unless that is
       the last axis, it becomes Flatten, Softmax and Reshape.
    8. Dropout (12), BatchNormalization (9): attributes without meaning in inference go.
    """
    version = model.graph.opset_imports.get("", TARGET)
    if version >= TARGET:
        return model, False
    for node in model.graph:
        if node.domain == "":
            for limit, op_types, rule in _RULES:
                if version < limit and node.op_type in op_types:
                    rule(node)
                    break
    model.graph.opset_imports[""] = TARGET
    model.ir_version = max(model.ir_version, _TARGET_IR_VERSION)
    return model, True


def _take_ints(node: onnx_ir.Node, name: str) -> tuple[int, ...] | None:
    values = find_ints(node, name)
    node.attributes.pop(name, None)
    return values


def _set_input(node: onnx_ir.Node, index: int, name: str, array: Any) -> None:
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, add_constant(graph_of(node), f"{node.name}.{name}", array))


def _clip(node: onnx_ir.Node) -> None:
    for index, name in ((1, "min"), (2, "max")):
        if name in node.attributes:
            bound = np.array(get_float(node, name, 0.0), np.float32)
            node.attributes.pop(name)
            _set_input(node, index, name, bound)


def _pad(node: onnx_ir.Node) -> None:
    pads = _take_ints(node, "pads")
    check(pads is not None, node, "pads is missing")
    _set_input(node, 1, "pads", np.array(pads, np.int64))
    _set_input(node, 2, "value", np.array(get_float(node, "value", 0.0), np.float32))
    node.attributes.pop("value", None)


def _slice(node: onnx_ir.Node) -> None:
    for index, name in ((1, "starts"), (2, "ends"), (3, "axes")):
        values = _take_ints(node, name)
        check(values is not None or name == "axes", node, f"{name} is missing")
        if values is not None:
            _set_input(node, index, name, np.array(values, np.int64))


def _axes(node: onnx_ir.Node) -> None:
    axes = _take_ints(node, "axes")
    if axes is not None:
        _set_input(node, 1, "axes", np.array(axes, np.int64))


def _split(node: onnx_ir.Node) -> None:
    sizes = _take_ints(node, "split")
    if sizes is not None:
        _set_input(node, 1, "split", np.array(sizes, np.int64))


def _resize(node: onnx_ir.Node) -> None:
    scales = find_floats(node, "scales")
    if scales is not None:
        constant = add_constant(graph_of(node), f"{node.name}.scales", np.array(scales, np.float32))
    else:
        constant = get_input(node, 1)
    attributes = {
        "mode": get_string(node, "mode", "nearest"),
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    inputs = [get_input(node, 0), None, constant]
    resized = insert(node, "Resize", inputs, attributes, name=f"{node.name}.resize")
    take_over(node.outputs[0], resized)
    remove(node)


def _softmax(node: onnx_ir.Node) -> None:
    axis, source = get_int(node, "axis", 1), get_input(node, 0)
    if axis == -1:
        return
    if source.shape is not None and axis == source.shape.rank() - 1:
        node.attributes["axis"] = onnx_ir.AttrInt64("axis", -1)
        return
    name = node.name
    flat = insert(node, "Flatten", [source], {"axis": axis}, name=f"{name}.flat")
    soft = insert(node, "Softmax", [flat], {"axis": -1}, name=f"{name}.softmax")
    shape = insert(node, "Shape", [source], name=f"{name}.shape")
    result = insert(node, "Reshape", [soft, shape], name=f"{name}.reshape")
    take_over(node.outputs[0], result)
    remove(node)


def _forget(*names: str) -> Callable[[onnx_ir.Node], None]:
    def rule(node: onnx_ir.Node) -> None:
        if is_op(node, "BatchNormalization"):
            check_supported(get_int(node, "spatial", 1) == 1, node, "spatial must be 1")
        for name in names:
            node.attributes.pop(name, None)

    return rule


_RULES: tuple[tuple[int, frozenset[str], Callable[[onnx_ir.Node], None]], ...] = (
    (11, frozenset({"Clip"}), _clip),
    (11, frozenset({"Pad"}), _pad),
    (10, frozenset({"Slice"}), _slice),
    (13, frozenset({"Squeeze", "Unsqueeze", "ReduceSum"}), _axes),
    (18, frozenset({"ReduceMean", "ReduceProd", "ReduceMax"}), _axes),
    (13, frozenset({"Split"}), _split),
    (11, frozenset({"Upsample", "Resize"}), _resize),
    (13, frozenset({"Softmax"}), _softmax),
    (12, frozenset({"Dropout"}), _forget("ratio")),
    (9, frozenset({"BatchNormalization"}), _forget("spatial")),
)
