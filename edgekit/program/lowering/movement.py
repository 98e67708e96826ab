"""Operators that move elements: they work on reals, on integers, and on integers meant as reals."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model import geometry
from edgekit.model.geometry import check, check_supported
from edgekit.model.nodes import (
    const_scalar,
    dtype_of,
    find_input,
    get_input,
    get_string,
    label,
    name_of,
)
from edgekit.model.shapes import require_shape
from edgekit.program.ir import DType, Quantization
from edgekit.program.lowering.arrangement import CHANNELS_LAST, Arrangement
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.table import lowering
from edgekit.program.lowering.value import Value
from edgekit.program.operators.base import Operator
from edgekit.program.operators.movement import Concat, Pad, ResizeNearest, Slice, Split


@lowering("Identity", "Dropout")
def identity(low: Lowerer, node: onnx_ir.Node) -> None:
    """Nothing; those that could not be removed stand between an input and an output."""
    training = find_input(node, 2)
    check_supported(training is None or const_scalar(training) == 0, node, "training_mode is set")
    check_supported(geometry.unused_outputs(node, 1), node, "the mask is used")
    low.define(node.outputs[0], low.value(get_input(node, 0)))


@lowering("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(low: Lowerer, node: onnx_ir.Node) -> None:
    """Another shape; elements move only if axes that lie apart are joined."""
    x, result = low.value(get_input(node, 0)), node.outputs[0]
    shape = _resolved_shape(node, x)
    arrangement = x.arrangement.reshaped(shape)
    if arrangement is None:
        x = low.plain(node, x)
        arrangement = Arrangement.plain(shape)
    low.define(result, x.arranged(arrangement))


def _resolved_shape(node: onnx_ir.Node, x: Value) -> tuple[int, ...]:
    shape = require_shape(node, node.outputs[0])
    check(
        math.prod(shape) == math.prod(x.shape), node, f"{list(x.shape)} does not fit {list(shape)}"
    )
    return shape


@lowering("Transpose")
def transpose(low: Lowerer, node: onnx_ir.Node) -> None:
    """Another order of axes; no element moves yet."""
    x = low.value(get_input(node, 0))
    permutation = geometry.permutation_of(node, len(x.shape))
    low.define(node.outputs[0], x.arranged(x.arrangement.transposed(permutation)))


def _moved(
    low: Lowerer,
    node: onnx_ir.Node,
    x: Value,
    operator: Operator,
    axes: tuple[int, ...],
    shape: tuple[int, ...],
) -> None:
    """Emit an operator on x, arranged along `axes`, that gives the source shape `shape`."""
    result = node.outputs[0]
    quantization = low.tensors[x.tensor].quantization
    tensor = low.emit(node, operator, x.tensor, name=name_of(result), quantization=quantization)
    low.define(result, Value(tensor, Arrangement.permuted(shape, axes), x.quantization))


@lowering("Slice")
def slice_(low: Lowerer, node: onnx_ir.Node) -> None:
    """A box with steps."""
    x = low.value(get_input(node, 0))
    box = geometry.box_of(node, x.shape)
    check_supported(box is not None, node, "starts, ends, axes and steps must be constant")
    assert box is not None
    axes = low.axes_of(x)
    operator = Slice(
        tuple(box.begin[a] for a in axes),
        tuple(box.end[a] for a in axes),
        tuple(box.step[a] for a in axes),
    )
    _moved(low, node, low.arrange(node, x, axes), operator, axes, box.count)


@lowering("Pad")
def pad(low: Lowerer, node: onnx_ir.Node) -> None:
    """A border of one constant."""
    x = low.value(get_input(node, 0))
    mode = get_string(node, "mode", "constant")
    check_supported(mode == "constant", node, f"mode is {mode!r}, supported: 'constant'")
    pairs = geometry.pad_pairs(node, len(x.shape))
    check_supported(pairs is not None, node, "pads must be constant")
    assert pairs is not None
    fill = find_input(node, 2)
    value = 0.0 if fill is None else const_scalar(fill)
    check_supported(value is not None, node, "the padding value must be a constant number")
    assert value is not None
    if x.quantization is not None:
        code = value / x.quantization.scalar_scale + x.quantization.scalar_zero_point
        if low.target(node.outputs[0]) == x.quantization:
            # The reader would round and saturate the padding likewise.
            code = float(np.clip(np.rint(code), *DType.INT8.limits))
        if code.is_integer() and -128 <= code <= 127:
            value = code
        else:
            low.stay_real(node, f"padding value {value:g} is no multiple of a step in range")
            x = low.real(node, x)
    elif dtype_of(get_input(node, 0)) == onnx_ir.DataType.UINT8:
        value -= 128
    if low.tensors[x.tensor].dtype.is_integer:
        value = int(value)
    check_supported(math.isfinite(value), node, f"the padding value is {value}")
    axes = low.axes_of(x)
    operator = Pad(tuple(pairs[a] for a in axes), value)
    shape = tuple(d + a + b for d, (a, b) in zip(x.shape, pairs, strict=True))
    _moved(low, node, low.arrange(node, x, axes), operator, axes, shape)


@lowering("Split")
def split(low: Lowerer, node: onnx_ir.Node) -> None:
    """Pieces along an axis."""
    x = low.value(get_input(node, 0))
    axis = geometry.axis_of(node, len(x.shape), 0)
    sizes = geometry.split_sizes(node, x.shape[axis])
    check_supported(sizes is not None, node, "sizes must be constant")
    assert sizes is not None
    axes = low.axes_of(x)
    x = low.arrange(node, x, axes)
    names = [o.name or f"{node.name}.{i}" for i, o in enumerate(node.outputs)]
    names += [f"{node.name}.{i}" for i in range(len(names), len(sizes))]
    tensors = low.emit_all(
        node,
        Split(axes.index(axis), sizes),
        x.tensor,
        names=names,
        quantization=low.tensors[x.tensor].quantization,
    )
    for value, tensor, size in zip(node.outputs, tensors, sizes, strict=False):
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        low.define(value, Value(tensor, Arrangement.permuted(shape, axes), x.quantization))


@lowering("Concat")
def concat(low: Lowerer, node: onnx_ir.Node) -> None:
    """Tensors joined along an axis; integers are brought to the result's quantisation first."""
    values = [low.value(v) for v in node.inputs]
    first = values[0]
    axis = geometry.axis_of(node, len(first.shape), 0)
    values, quantization = _of_one_kind(low, node, values)
    sizes = [math.prod(v.shape) for v in values]
    axes = low.axes_of(values[int(np.argmax(sizes))])
    arranged = [low.arrange(node, v, axes) for v in values]
    result = node.outputs[0]
    tensor = low.emit(
        node,
        Concat(axes.index(axis)),
        *(v.tensor for v in arranged),
        name=name_of(result),
        quantization=quantization,
    )
    extent = sum(v.shape[axis] for v in values)
    shape = (*first.shape[:axis], extent, *first.shape[axis + 1 :])
    low.define(result, Value(tensor, Arrangement.permuted(shape, axes), quantization))


def _of_one_kind(
    low: Lowerer, node: onnx_ir.Node, values: list[Value]
) -> tuple[list[Value], Quantization | None]:
    """Operands of one quantisation, or all real."""
    given = {v.quantization for v in values}
    if given == {None}:
        return values, None
    y = low.target(node.outputs[0])
    if None not in given:
        if y is None and len(given) == 1:
            y = values[0].quantization
        if y is not None:
            return [low.requantized(node, v, y) for v in values], y
    low.stay_real(node, "its inputs and its result must all be quantised")
    return [low.real(node, v) for v in values], None


@lowering("Resize")
def resize(low: Lowerer, node: onnx_ir.Node) -> None:
    """Nearest neighbours of rows and columns, where a rule of the Program gives the same ones."""
    x = low.value(get_input(node, 0))
    mode = get_string(node, "mode", "nearest")
    check_supported(mode == "nearest", node, f"mode is {mode!r}, supported: 'nearest'")
    check_supported(len(x.shape) in (3, 4), node, f"has {len(x.shape)} axes, supported: 3 and 4")
    resolved = geometry.resize_extents(node, x.shape)
    check_supported(resolved is not None, node, "sizes or scales must be constant")
    assert resolved is not None
    output, scales = resolved
    check_supported(output[:2] == x.shape[:2], node, "resizes batch or channels")
    size = output[2:] if len(output) == 4 else (1, output[2])
    source = x.shape[2:] if len(output) == 4 else (1, x.shape[2])
    wanted = [
        _nearest(node, old, new, scale)
        for old, new, scale in zip(source, size, (1.0, *scales)[-2:], strict=True)
    ]
    for corners, centers in ((False, False), (False, True), (True, False), (True, True)):
        operator = ResizeNearest((size[0], size[1]), corners, centers)
        found = [operator.indices(old, new).tolist() for old, new in zip(source, size, strict=True)]
        if found == wanted:
            break
    else:
        raise UnsupportedError(
            f"{label(node)}: its coordinates match no rule of resize_nearest; "
            "supported: asymmetric with floor, half_pixel, align_corners"
        )
    axes = CHANNELS_LAST[len(x.shape)]
    x = low.arrange(node, x, axes)
    quantization = low.tensors[x.tensor].quantization
    image = low.view(node, x.tensor, (x.shape[0], *source, x.shape[1]))
    result = node.outputs[0]
    tensor = low.emit(node, operator, image, name=name_of(result), quantization=quantization)
    arrangement = Arrangement.permuted(output, axes)
    viewed = low.view(node, tensor, arrangement.stored)
    low.define(result, Value(viewed, arrangement, x.quantization))


def _nearest(node: onnx_ir.Node, source: int, target: int, scale: float) -> list[int]:
    """Source index of every target index, as ONNX defines Resize, in float32."""
    one, number = np.float32(1), np.arange(target, dtype=np.float32)
    factor = np.float32(scale)
    transform = get_string(node, "coordinate_transformation_mode", "half_pixel")
    if transform == "asymmetric":
        position = number / factor
    elif transform == "align_corners":
        step = np.float32(source - 1) / np.float32(max(1, target - 1))
        position = number * (step if target > 1 else np.float32(0))
    elif transform in ("half_pixel", "pytorch_half_pixel"):
        position = (number + one / 2) / factor - one / 2
        if transform == "pytorch_half_pixel" and target == 1:
            position = np.zeros(1, np.float32)
    else:
        raise UnsupportedError(
            f"{label(node)}: coordinate_transformation_mode {transform!r}; supported: "
            "asymmetric, align_corners, half_pixel, pytorch_half_pixel"
        )
    rounding = get_string(node, "nearest_mode", "round_prefer_floor")
    half = np.float32(0.5)
    rounded = {
        "round_prefer_floor": np.ceil(position - half),
        "round_prefer_ceil": np.floor(position + half),
        "floor": np.floor(position),
        "ceil": np.ceil(position),
    }
    check_supported(rounding in rounded, node, f"nearest_mode {rounding!r}")
    return [int(i) for i in np.clip(rounded[rounding], 0, source - 1)]
