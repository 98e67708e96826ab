"""Fold affine maps per channel into the convolution or matrix product before them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgekit.model import geometry
from edgekit.model.geometry import check, check_supported
from edgekit.model.nodes import (
    Array,
    add_constant,
    bypass,
    const,
    find_input,
    get_float,
    get_input,
    get_int,
    graph_of,
    insert,
    is_op,
    only_use,
    remove,
    shape_of,
    take_over,
)

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class _Affine:
    """``y = scale · x + shift`` along the channels, float64."""

    scale: Float64
    shift: Float64


def fold_batchnorm(model: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
    """Fold BatchNormalization and its remains; all arithmetic in float64, rounded once.

    An *affine map* below is BatchNormalization in inference, or Mul, Div, Add or Sub with a
    constant that has one number or one per channel. Only a map that is the sole reader folds.

    Rules:

    1. Conv, then an affine map: into the weights' axis 0 and the bias.
    2. ConvTranspose, then an affine map: into the weights' output channels and the bias.
    3. Gemm, then an affine map: into the columns of B and into C; alpha and beta become 1.
    4. BatchNormalization that none of these takes becomes Mul and Add.

    A map whose fold would exceed float32 does not fold.

    Raises:
        InvalidModelError: parameters of BatchNormalization that do not fit their channels.
        UnsupportedError: BatchNormalization in training, with computed parameters, or whose scale
            or shift exceeds float32.
    """
    modified = False
    for node in model.graph:
        if is_op(node, "Conv", "ConvTranspose", "Gemm"):
            while _fold_next(node):
                modified = True
    for node in model.graph:
        if is_op(node, "BatchNormalization"):
            modified |= _split(node)
    return model, modified


def _fold_next(node: onnx_ir.Node) -> bool:
    """Fold the reader of `node` into it, if it is an affine map."""
    output = node.outputs[0]
    follower, shape = only_use(output), shape_of(output)
    weights = const(find_input(node, 1))
    if follower is None or shape is None or weights is None or weights.dtype != np.float32:
        return False
    bias = find_input(node, 2)
    old_bias = np.zeros(1, np.float32) if bias is None else const(bias)
    if old_bias is None or old_bias.dtype != np.float32:
        return False
    affine = _affine_of(follower, output, shape)
    if affine is None:
        return False
    fold = _fold_gemm if is_op(node, "Gemm") else _fold_conv
    exact = fold(node, weights.astype(np.float64), old_bias.astype(np.float64), affine)
    folded = None if exact is None else _rounded(*exact)
    if folded is None:
        return False
    graph = graph_of(node)
    node.resize_inputs(3)
    for name in ("alpha", "beta"):  # Only Gemm has them; its fold takes them into the constants.
        node.attributes.pop(name, None)
    for index, suffix, array in ((1, "weight", folded[0]), (2, "bias", folded[1])):
        constant = add_constant(graph, f"{node.name}.{suffix}", array)
        node.replace_input_with(index, constant)
    bypass(follower, output)
    return True


def _affine_of(node: onnx_ir.Node, source: onnx_ir.Value, shape: tuple[int, ...]) -> _Affine | None:
    channels = shape[1]
    if is_op(node, "BatchNormalization"):
        return _batch_norm(node, channels)
    if not is_op(node, "Mul", "Div", "Add", "Sub") or len(node.inputs) != 2:
        return None
    left = node.inputs[0] is source
    constant = _per_channel(const(node.inputs[1 if left else 0]), shape)
    if constant is None or not (left or is_op(node, "Mul", "Add", "Sub")):
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    match node.op_type:
        case "Mul":
            return _Affine(constant, zero)
        case "Div":
            return _Affine(1 / constant, zero) if constant.all() else None
        case "Add":
            return _Affine(one, constant)
        case _:
            return _Affine(one, -constant) if left else _Affine(-one, constant)


def _per_channel(array: Array | None, shape: tuple[int, ...]) -> Float64 | None:
    """A constant as one number per channel (axis 1 of `shape`), None where it varies otherwise."""
    if array is None or array.dtype != np.float32 or array.ndim > len(shape):
        return None
    aligned = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    if any(d != 1 for axis, d in enumerate(aligned.shape) if axis != 1):
        return None
    if aligned.size not in (1, shape[1]):
        return None
    return np.broadcast_to(aligned.reshape(-1).astype(np.float64), (shape[1],))


def _batch_norm(node: onnx_ir.Node, channels: int) -> _Affine | None:
    geometry.batch_norm_channels(node)
    arrays = [const(get_input(node, i)) for i in range(1, 5)]
    parameters = []
    for array in arrays:
        if array is None:
            return None
        check(array.shape == (channels,), node, f"its parameters must have {channels} numbers")
        parameters.append(array.astype(np.float64))
    gamma, beta, mean, variance = parameters
    spread = variance + get_float(node, "epsilon", 1e-5)
    check(bool((spread > 0).all()), node, "variance + epsilon must be positive")
    scale = gamma / np.sqrt(spread)
    return _Affine(scale, beta - mean * scale)


def _rounded(*exact: Float64) -> list[NDArray[np.float32]] | None:
    """The numbers as float32; None where any of them has no finite form."""
    with np.errstate(over="ignore"):
        rounded = [array.astype(np.float32) for array in exact]
    return rounded if all(np.isfinite(array).all() for array in rounded) else None


def _fold_conv(
    node: onnx_ir.Node, weights: Float64, bias: Float64, affine: _Affine
) -> tuple[Float64, Float64]:
    if is_op(node, "Conv"):
        scaled = weights * affine.scale.reshape(-1, *(1,) * (weights.ndim - 1))
    else:
        # [I, O/groups, ...]: the rows of group g hold output channels g·O/groups and following.
        groups = get_int(node, "group", 1)
        per_group = affine.scale.reshape(groups, 1, -1)
        rows = weights.reshape(groups, -1, weights.shape[1], int(np.prod(weights.shape[2:])))
        scaled = (rows * per_group[..., None]).reshape(weights.shape)
    return scaled, bias * affine.scale + affine.shift


def _fold_gemm(
    node: onnx_ir.Node, weights: Float64, bias: Float64, affine: _Affine
) -> tuple[Float64, Float64] | None:
    columns = affine.scale.size
    if bias.size not in (1, columns) or (bias.ndim == 2 and bias.shape[0] != 1):
        return None
    transposed = get_int(node, "transB", 0) != 0
    per_column = affine.scale[:, None] if transposed else affine.scale[None, :]
    scaled = weights * get_float(node, "alpha", 1.0) * per_column
    shifted = bias.reshape(-1) * get_float(node, "beta", 1.0) * affine.scale + affine.shift
    return scaled, shifted


def _split(node: onnx_ir.Node) -> bool:
    source = get_input(node, 0)
    shape = shape_of(source)
    if shape is None:
        return False
    check(len(shape) >= 2, node, f"input {list(shape)} has no channels")
    affine = _batch_norm(node, shape[1])
    check_supported(affine is not None, node, "its parameters must be constants")
    assert affine is not None
    rounded = _rounded(affine.scale, affine.shift)
    check_supported(rounded is not None, node, "its scale or shift exceeds float32")
    assert rounded is not None
    graph, tail = graph_of(node), (1,) * (len(shape) - 2)
    constants = [
        add_constant(graph, f"{node.name}.{suffix}", array.reshape(-1, *tail))
        for suffix, array in zip(("scale", "shift"), rounded, strict=True)
    ]
    scaled = insert(node, "Mul", [source, constants[0]], name=f"{node.name}.mul")
    scaled.shape, scaled.type = source.shape, source.type
    shifted = insert(node, "Add", [scaled, constants[1]], name=f"{node.name}.add")
    take_over(node.outputs[0], shifted)
    remove(node)
    return True
