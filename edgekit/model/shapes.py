"""Static shapes and element types of computed values.

ONNX's own inference is native code that a hostile file can crash, so the rules are written here,
for the operators that edgekit lowers or folds. A value whose shape no rule gives keeps what the
file declares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx_ir
from onnx_ir import DataType

from edgekit.model import geometry
from edgekit.model.domain import DEQUANTIZERS, DOMAIN, NEURONS
from edgekit.model.geometry import check, check_supported
from edgekit.model.model import MAX_ELEMENTS
from edgekit.model.nodes import (
    Shape,
    const_ints,
    dtype_of,
    find_input,
    get_input,
    get_int,
    label,
    shape_of,
)

Rule = Callable[[onnx_ir.Node, Sequence[Shape]], Sequence[Shape] | None]

_RULES: dict[tuple[str, str], Rule] = {}


def _rule(*op_types: str, domain: str = "") -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(((domain, op_type) for op_type in op_types), rule))
        return rule

    return register


def infer_shapes(node: onnx_ir.Node) -> None:
    """Set the shape and type of a node's outputs, where a rule and the inputs' shapes give them.

    Raises:
        InvalidModelError: the inputs' shapes do not fit the operator.
    """
    _infer_types(node)
    rule = _RULES.get((node.domain, node.op_type))
    if rule is None:
        return
    # Rules index the shapes they need: data inputs first, whose shapes must all be known.
    shapes = []
    for value in node.inputs:
        shape = shape_of(value)
        if shape is None and value is not None:
            return
        shapes.append(() if shape is None else shape)
    check(bool(shapes) or node.op_type == "Constant", node, "has no input")
    results = rule(node, shapes)
    for value, shape in zip(node.outputs, results or (), strict=False):
        check_supported(
            math.prod(shape) <= MAX_ELEMENTS, node, f"its result {list(shape)} is too large"
        )
        value.shape = onnx_ir.Shape(shape)


def quantized_type(node: onnx_ir.Node) -> DataType:
    """Type that a QuantizeLinear without a zero point gives: ``output_dtype``, default uint8."""
    number = get_int(node, "output_dtype", 0) or int(DataType.UINT8)
    check(number in {int(d) for d in DataType}, node, f"output_dtype {number} is unknown")
    return DataType(number)


_BOOLEAN = frozenset({"Equal", "Less", "Greater", "Not", "And", "Or"})


def _infer_types(node: onnx_ir.Node) -> None:
    if node.domain not in ("", DOMAIN) or not node.outputs:
        return
    source = dtype_of(find_input(node, 0)) if node.domain == "" else DataType.FLOAT
    match node.op_type:
        case "Cast":
            number = get_int(node, "to", 0)
            check(number in {int(d) for d in DataType}, node, f"casts to unknown type {number}")
            source = DataType(number)
        case "Shape" | "Size" | "ArgMax":
            source = DataType.INT64
        case "QuantizeLinear":
            zero_point = find_input(node, 2)
            source = quantized_type(node) if zero_point is None else dtype_of(zero_point)
        case "DequantizeLinear":
            source = dtype_of(find_input(node, 1))
        case "Where":
            source = dtype_of(find_input(node, 1))
        case op_type if op_type in _BOOLEAN:
            source = DataType.BOOL
    if source is not None and (node.domain, node.op_type) in _RULES:
        for value in node.outputs:
            value.type = onnx_ir.TensorType(source)


@_rule(
    *("Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Softmax"),
    *("Identity", "Dropout", "Cast", "BatchNormalization", "LayerNormalization"),
    *("QuantizeLinear", "DequantizeLinear", "Neg", "Sqrt", "Floor", "Ceil", "Not", "Abs", "PRelu"),
)
def _same(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    return [shapes[0]]


@_rule("QuantizeDequantize", "DynamicQuantizeDequantize", "Binarize", domain=DOMAIN)
def _same_float(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    return [shapes[0]]


@_rule(*NEURONS, domain=DOMAIN)
def _neurons(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    """Currents, states and spikes have one shape; decays and thresholds broadcast to it."""
    current, count = shapes[0], 3 if node.op_type == "Synaptic" else 2
    check(
        (len(node.inputs), len(node.outputs)) == (2 * count, count),
        node,
        f"has {len(node.inputs)} inputs and {len(node.outputs)} outputs, must have {2 * count} "
        f"and {count}",
    )
    for shape in shapes[1:count]:
        check(shape == current, node, f"a state is {list(shape)}, its current {list(current)}")
    for shape in shapes[count:]:
        check(
            geometry.broadcast(node, current, shape) == current,
            node,
            f"a decay or threshold is {list(shape)}, must broadcast to {list(current)}",
        )
    return [current] * count


@_rule(*DEQUANTIZERS, domain=DOMAIN)
def _dequantized(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    columns = get_int(node, "columns", 0)
    check(
        len(shapes[0]) == 2 and columns >= 1,
        node,
        f"gives {columns} columns of packed {list(shapes[0])}, must be one or more of two axes",
    )
    return [(shapes[0][0], columns)]


@_rule("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Equal", "Less", "Greater", "Where")
def _broadcast(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    return [geometry.broadcast(node, *shapes)]


def _spatial(node: onnx_ir.Node, shape: Shape) -> Shape:
    check(len(shape) >= 3, node, f"input {list(shape)} has no spatial axes")
    return shape[2:]


@_rule("Conv")
def _conv(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    x, w = shapes[0], _second(node, shapes)
    extents = _spatial(node, x)
    check(len(w) == len(x), node, f"weights {list(w)} do not fit input {list(x)}")
    window = geometry.window(node, extents, geometry.conv_kernel(node, w))
    groups = get_int(node, "group", 1)
    check(
        groups >= 1 and w[1] * groups == x[1] and w[0] % groups == 0,
        node,
        f"weights {list(w)} with {groups} groups do not fit input {list(x)}",
    )
    return [(x[0], w[0], *window.output)]


@_rule("ConvTranspose")
def _conv_transpose(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    x, w = shapes[0], _second(node, shapes)
    extents = _spatial(node, x)
    check(len(w) == len(x), node, f"weights {list(w)} do not fit input {list(x)}")
    window = geometry.transposed_window(node, extents, geometry.conv_kernel(node, w))
    groups = get_int(node, "group", 1)
    check(
        groups >= 1 and w[0] == x[1] and w[0] % groups == 0,
        node,
        f"weights {list(w)} with {groups} groups do not fit input {list(x)}",
    )
    return [(x[0], w[1] * groups, *window.output)]


def _second(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Shape:
    get_input(node, 1)
    return shapes[1]


@_rule("AveragePool", "MaxPool")
def _pool(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    x = shapes[0]
    extents = _spatial(node, x)
    window = geometry.window(node, extents, geometry.kernel_of(node, len(extents)))
    return [(*x[:2], *window.output)]


@_rule("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    extents = _spatial(node, shapes[0])
    return [(*shapes[0][:2], *(1 for _ in extents))]


@_rule("Gemm")
def _gemm(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    rows, _, columns = geometry.gemm_extents(node, shapes[0], _second(node, shapes))
    return [(rows, columns)]


@_rule("MatMul")
def _matmul(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    return [geometry.matmul_shape(node, shapes[0], _second(node, shapes))]


@_rule("ReduceMean", "ReduceProd", "ReduceSum", "ReduceMax")
def _reduce(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape] | None:
    x = shapes[0]
    axes = geometry.reduced_axes(node, len(x))
    if axes is None:
        return None
    return [_without(x, axes, keep=get_int(node, "keepdims", 1) == 1)]


@_rule("ArgMax")
def _arg_max(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    axis = geometry.axis_of(node, len(shapes[0]), 0)
    return [_without(shapes[0], (axis,), keep=get_int(node, "keepdims", 1) == 1)]


def _without(shape: Shape, axes: Shape, *, keep: bool) -> Shape:
    if keep:
        return tuple(1 if i in axes else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in axes)


@_rule("Concat")
def _concat(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    first = shapes[0]
    axis = geometry.axis_of(node, len(first), 0)
    for shape in shapes:
        check(
            len(shape) == len(first)
            and all(a == b for i, (a, b) in enumerate(zip(shape, first, strict=True)) if i != axis),
            node,
            f"inputs {[list(s) for s in shapes]} do not join along axis {axis}",
        )
    return [(*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])]


@_rule("Split")
def _split(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape] | None:
    x = shapes[0]
    axis = geometry.axis_of(node, len(x), 0)
    sizes = geometry.split_sizes(node, x[axis])
    if sizes is None:
        return None
    return [(*x[:axis], size, *x[axis + 1 :]) for size in sizes]


@_rule("Slice")
def _slice(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape] | None:
    box = geometry.box_of(node, shapes[0])
    return None if box is None else [box.count]


@_rule("Pad")
def _pad(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape] | None:
    pairs = geometry.pad_pairs(node, len(shapes[0]))
    return pairs and [tuple(d + a + b for d, (a, b) in zip(shapes[0], pairs, strict=True))]


@_rule("Reshape")
def _reshape(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape] | None:
    wanted = const_ints(node, 1)
    return None if wanted is None else [geometry.reshape_target(node, shapes[0], wanted)]


@_rule("Flatten")
def _flatten(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    axis = geometry.axis_of(node, len(shapes[0]), 1, end=1)
    return [(math.prod(shapes[0][:axis]), math.prod(shapes[0][axis:]))]


@_rule("Squeeze")
def _squeeze(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape] | None:
    x, axes = shapes[0], const_ints(node, 1)
    if axes is None:
        if find_input(node, 1) is not None:
            return None
        return [tuple(d for d in x if d != 1)]
    axes = geometry.axes_of(node, axes, len(x))
    check(all(x[a] == 1 for a in axes), node, f"squeezes axes {list(axes)} of {list(x)}")
    return [_without(x, axes, keep=False)]


@_rule("Unsqueeze")
def _unsqueeze(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape] | None:
    axes = const_ints(node, 1)
    if axes is None:
        return None
    rank = len(shapes[0]) + len(axes)
    axes, rest = geometry.axes_of(node, axes, rank), iter(shapes[0])
    return [tuple(1 if i in axes else next(rest) for i in range(rank))]


@_rule("Transpose")
def _transpose(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    return [tuple(shapes[0][a] for a in geometry.permutation_of(node, len(shapes[0])))]


@_rule("Resize")
def _resize(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape] | None:
    resolved = geometry.resize_extents(node, shapes[0])
    return None if resolved is None else [resolved[0]]


@_rule("Gather")
def _gather(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    x, indices = shapes[0], _second(node, shapes)
    axis = geometry.axis_of(node, len(x), 0)
    return [(*x[:axis], *indices, *x[axis + 1 :])]


@_rule("Expand")
def _expand(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape] | None:
    wanted = const_ints(node, 1)
    return None if wanted is None else [geometry.broadcast(node, shapes[0], wanted)]


@_rule("ConstantOfShape")
def _constant_of_shape(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape] | None:
    wanted = const_ints(node, 0)
    if wanted is None:
        return None
    check(all(d >= 0 for d in wanted), node, f"shape {list(wanted)} is negative")
    return [wanted]


@_rule("Shape")
def _shape(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    rank = len(shapes[0])
    start, stop = get_int(node, "start", 0), get_int(node, "end", rank)
    return [(len(range(rank)[start:stop]),)]


@_rule("LSTM", "GRU")
def _recurrent(node: onnx_ir.Node, shapes: Sequence[Shape]) -> Sequence[Shape]:
    get_input(node, 2)
    found = geometry.recurrent_extents(node, *shapes[:3])
    return [found.sequence, found.state, found.state]


def require_shape(node: onnx_ir.Node, value: onnx_ir.Value) -> Shape:
    """A static shape that must be known by now."""
    shape = shape_of(value)
    check(shape is not None, node, f"the shape of {value.name!r} is unknown")
    assert shape is not None, label(node)
    return shape
