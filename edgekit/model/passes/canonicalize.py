"""Say in fewer operators what has several spellings."""

from __future__ import annotations

import numpy as np
import onnx_ir

from edgekit.model.geometry import axis_of, check
from edgekit.model.nodes import (
    add_constant,
    const,
    const_scalar,
    dtype_of,
    find_input,
    get_float,
    get_input,
    graph_of,
    insert,
    is_op,
    remove,
    shape_of,
    take_over,
)


def canonicalize(model: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
    """Rewrite operators that have no form of their own in Programs.

    Rules:

    1. Div of a computed float32 by a constant becomes Mul with the reciprocal, which is computed in
       float64 and rounded.
    2. HardSigmoid becomes ``Clip(alpha · x + beta, 0, 1)``.
    3. Max or Min of float32 with one constant number becomes Clip.
    4. PRelu with one constant slope becomes LeakyRelu.
    5. Gather of one constant index, or of consecutive ones, becomes Slice, with Squeeze behind it
       where the index is a number.
    """
    modified = False
    for node in model.graph:
        if is_op(node, "Div"):
            modified |= _reciprocal(node)
        elif is_op(node, "HardSigmoid"):
            modified |= _spell_hard_sigmoid(node)
        elif is_op(node, "Max", "Min"):
            modified |= _clip_from_extremum(node)
        elif is_op(node, "PRelu"):
            modified |= _leaky_relu(node)
        elif is_op(node, "Gather"):
            modified |= _slice_of_gather(node)
    return model, modified


def _reciprocal(node: onnx_ir.Node) -> bool:
    x, divisor = get_input(node, 0), const(find_input(node, 1))
    if divisor is None or divisor.dtype != np.float32 or const(x) is not None:
        return False
    check(bool(divisor.all()), node, "divides by zero")
    with np.errstate(over="ignore"):
        array = (1 / divisor.astype(np.float64)).astype(np.float32)
    if not np.isfinite(array).all():
        return False
    factor = add_constant(graph_of(node), f"{node.name}.reciprocal", array)
    product = insert(node, "Mul", [x, factor], name=f"{node.name}.mul")
    take_over(node.outputs[0], product)
    remove(node)
    return True


def _spell_hard_sigmoid(node: onnx_ir.Node) -> bool:
    graph, x = graph_of(node), get_input(node, 0)
    scalars = (
        ("alpha", get_float(node, "alpha", 0.2)),
        ("beta", get_float(node, "beta", 0.5)),
        ("low", 0.0),
        ("high", 1.0),
    )
    alpha, beta, low, high = (
        add_constant(graph, f"{node.name}.{name}", np.array(value, np.float32))
        for name, value in scalars
    )
    scaled = insert(node, "Mul", [x, alpha], name=f"{node.name}.mul")
    shifted = insert(node, "Add", [scaled, beta], name=f"{node.name}.add")
    clipped = insert(node, "Clip", [shifted, low, high], name=f"{node.name}.clip")
    for value in (scaled, shifted):
        value.shape, value.type = x.shape, x.type
    take_over(node.outputs[0], clipped)
    remove(node)
    return True


def _clip_from_extremum(node: onnx_ir.Node) -> bool:
    if len(node.inputs) != 2 or dtype_of(node.inputs[0]) != onnx_ir.DataType.FLOAT:
        return False
    for i, bound in enumerate(node.inputs):
        x, array = node.inputs[1 - i], const(bound)
        if array is None or array.size != 1 or x is None or const(x) is not None:
            continue
        rank = 0 if x.shape is None else x.shape.rank()
        if array.ndim > rank:
            return False
        scalar = add_constant(graph_of(node), f"{node.name}.bound", array.reshape(()))
        bounds = [scalar, None] if is_op(node, "Max") else [None, scalar]
        clipped = insert(node, "Clip", [x, *bounds], name=f"{node.name}.clip")
        take_over(node.outputs[0], clipped)
        remove(node)
        return True
    return False


def _leaky_relu(node: onnx_ir.Node) -> bool:
    slope = const_scalar(find_input(node, 1))
    if slope is None:
        return False
    x = get_input(node, 0)
    result = insert(node, "LeakyRelu", [x], {"alpha": slope}, name=f"{node.name}.leaky_relu")
    take_over(node.outputs[0], result)
    remove(node)
    return True


def _slice_of_gather(node: onnx_ir.Node) -> bool:
    x, indices = get_input(node, 0), const(find_input(node, 1))
    shape = shape_of(x)
    if shape is None or indices is None or indices.ndim > 1 or indices.size == 0:
        return False
    if indices.dtype.kind not in "iu" or const(x) is not None:
        return False
    axis = axis_of(node, len(shape), 0)
    extent = shape[axis]
    wanted = [int(i) for i in indices.reshape(-1)]
    check(
        all(-extent <= i < extent for i in wanted),
        node,
        f"indices {wanted} are outside axis {axis} of {list(shape)}",
    )
    wanted = [i % extent for i in wanted]
    if wanted != list(range(wanted[0], wanted[0] + len(wanted))):
        return False
    graph = graph_of(node)

    def number(name: str, value: int) -> onnx_ir.Value:
        return add_constant(graph, f"{node.name}.{name}", np.array([value], np.int64))

    bounds = [number("begin", wanted[0]), number("end", wanted[-1] + 1), number("axis", axis)]
    result = insert(node, "Slice", [x, *bounds], name=f"{node.name}.slice")
    result.type = x.type
    result.shape = onnx_ir.Shape((*shape[:axis], len(wanted), *shape[axis + 1 :]))
    if indices.ndim == 0:
        result = insert(node, "Squeeze", [result, bounds[2]], name=f"{node.name}.squeeze")
    take_over(node.outputs[0], result)
    remove(node)
    return True
