"""Coded weights on their way to a Program: which scale each has, and rows that kernels stream.

A Model says coded weights with the functions of the ``edgekit`` domain, or with DequantizeLinear of
a type narrower than int8, or in blocks. Movement may stand behind either. What a weight is worth is
tracked by *blocks*: runs of weights that share a scale. Once the weights lie in rows [O,K] in the
order of the Program's sum, the blocks become what the Program's operators have: one float32 scale
per row, and integer factors of groups of consecutive weights
(:mod:`edgekit.program.operators.coding`).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray
from onnx_ir import DataType

from edgekit.errors import UnsupportedError
from edgekit.formats import ELEMENTS, FactorName
from edgekit.formats.group_scales import GROUP_SCALES
from edgekit.formats.groups import reduce_groups, spread
from edgekit.model.coded import is_dequantizer, read_coded
from edgekit.model.constants import moved, moves_behind, stored_behind
from edgekit.model.geometry import axis_of, check
from edgekit.model.nodes import Array, const, find_input, get_input, get_int, label
from edgekit.program.ir import Quantization
from edgekit.program.lowering.value import Blocks, Weights

NARROW = {
    DataType.INT8: ("int8", 0),
    DataType.UINT8: ("int8", 128),
    DataType.INT4: ("int4", 0),
    DataType.UINT4: ("int4", 8),
    DataType.INT2: ("int2", 0),
    DataType.UINT2: ("int2", 2),
}
"""The element of a stored ONNX type, and the zero point at which it means that element."""

PACKED = "Conv, Gemm and MatMul"
"""The operators that run coded weights."""

LARGEST_MOVE = 0.05
"""How far a weight may move, as a share of the largest of its group, where factors take the place
of real scales. Below it int4 and narrower keep their integers."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Coded weights as the Program's operators take them.

    Attributes:
        integers: [O,K] in the order of the sum.
        scale: of the rows, per tensor or along axis 0.
        element: name of the number format.
        group: consecutive weights that share a factor, 0 without.
        kind: how factors are stored.
        factors: int32[O,G], None without.
        note: how values changed on the way, empty where they did not.
    """

    integers: Array
    scale: Quantization
    element: str
    group: int = 0
    kind: FactorName = "none"
    factors: NDArray[np.int32] | None = None
    note: str = ""


# Reading


def read(value: onnx_ir.Value) -> Weights | None:
    """Quantised weights behind a value.

    Returns:
        Coded ones; plain ones for int8 with one scale per tensor or channel; float32 with the
        problem where a zero point forbids both. None where nothing is stored behind the value,
        or DequantizeLinear of bytes is itself.

    Raises:
        InvalidModelError: they are not what they say.
        UnsupportedError: scales that are not float32.
    """
    node = stored_behind(value)
    if node is None:
        return None
    if is_dequantizer(node):
        found = _of_function(node)
    elif get_input(node, 0).dtype not in NARROW or _is_plain(node, value):
        return None
    else:
        found = _of_linear(node)
    for move in moves_behind(value):
        found = found.rearranged(functools.partial(moved, move))
    plain = None
    if found.blocks is not None and found.blocks.element == "int8":
        plain = as_int8(found)
    return plain or found


def _is_plain(node: onnx_ir.Node, value: onnx_ir.Value) -> bool:
    """Whether DequantizeLinear itself gives a value, of bytes that are not in blocks."""
    is_byte = get_input(node, 0).dtype in (DataType.INT8, DataType.UINT8)
    return is_byte and node.outputs[0] is value and not get_int(node, "block_size", 0)


def _of_function(node: onnx_ir.Node) -> Weights:
    """Weights behind a function of our domain: blocks are the groups of the rows."""
    found = read_coded(node)
    rows, columns = found.coded.integers.shape
    group = found.group or columns
    groups = -(-columns // group)
    numbers = np.arange(rows * groups, dtype=np.int32).reshape(rows, groups)
    factors = found.coded.factors
    blocks = Blocks(
        found.element.name,
        np.repeat(numbers, group, axis=1)[:, :columns],
        np.repeat(np.broadcast_to(found.coded.scale, (rows,)), groups),
        None if factors is None else factors.reshape(-1),
        found.factors,
    )
    return Weights(found.coded.integers, blocks=blocks)


def _of_linear(node: onnx_ir.Node) -> Weights:
    """Weights behind DequantizeLinear: blocks are what shares a scale."""
    source = get_input(node, 0)
    data, scale = const(source), const(get_input(node, 1))
    assert data is not None
    assert scale is not None
    size = get_int(node, "block_size", 0)
    if scale.dtype != np.float32:
        raise UnsupportedError(f"{label(node)}: scale is {scale.dtype.name}, must be float32")
    check(data.size >= 1, node, "its constant is empty")
    check(bool((np.isfinite(scale) & (scale > 0)).all()), node, "scales must be positive")
    numbers = _numbers(node, data.shape, scale.shape, size)
    assert source.dtype is not None
    element, middle = NARROW[source.dtype]
    integers = (data.astype(np.int16) - middle).astype(np.int8)
    zero_point = const(find_input(node, 2))
    if zero_point is None:
        points = np.zeros(1, np.int16)
    else:
        points = zero_point.astype(np.int16).reshape(-1)
        check(points.size in (1, scale.size), node, "counts of scales and zero points differ")
    blocks = Blocks(element, numbers, scale.reshape(-1))
    if (points == middle).all():
        return Weights(integers, blocks=blocks)
    shifted = data.astype(np.int16) - np.broadcast_to(points, scale.size)[numbers]
    return Weights(
        shifted.astype(np.float32) * blocks.scale[numbers],
        problem=f"its weights have zero points that are not {middle}",
    )


def _numbers(
    node: onnx_ir.Node, shape: tuple[int, ...], scales: tuple[int, ...], size: int
) -> NDArray[np.int32]:
    """For every element the number of its scale: per tensor, along an axis, or in blocks."""
    count = math.prod(scales)
    numbers = np.arange(count, dtype=np.int32)
    if count == 1 and size == 0:
        return np.zeros(shape, np.int32)
    axis = axis_of(node, len(shape), 1)
    if size == 0:
        check(
            len(scales) == 1 and scales[0] == shape[axis],
            node,
            f"scales {list(scales)} do not fit axis {axis} of {list(shape)}",
        )
        along = [1] * len(shape)
        along[axis] = -1
        return np.ascontiguousarray(np.broadcast_to(numbers.reshape(along), shape))
    check(size >= 1, node, f"block_size is {size}, must be positive")
    wanted = tuple(-(-d // size) if i == axis else d for i, d in enumerate(shape))
    check(
        scales == wanted,
        node,
        f"scales are {list(scales)}, must be {list(wanted)} for blocks of {size} of {list(shape)}",
    )
    spread = np.repeat(numbers.reshape(scales), size, axis=axis)
    return np.take(spread, np.arange(shape[axis]), axis=axis)


# Using


def as_int8(weights: Weights) -> Weights | None:
    """Coded weights as plain int8 with one scale per tensor or index of an axis.

    None where the integers exceed int8, or groups have scales of their own.
    """
    blocks = weights.blocks
    assert blocks is not None
    if weights.data.dtype != np.int8 or blocks.factor is not None:
        return None
    index = blocks.index
    if blocks.scale.size == 1 or (index == index.flat[0]).all():
        return Weights(weights.data, Quantization.per_tensor(blocks.scale[index.flat[0]]))
    for axis in range(index.ndim):
        first = index[tuple(slice(None) if a == axis else slice(1) for a in range(index.ndim))]
        if (index == first).all():
            scale = tuple(float(s) for s in blocks.scale[first.reshape(-1)])
            return Weights(weights.data, Quantization(scale, (0,) * len(scale), axis))
    return None


def rows_of(weights: Weights) -> Rows:
    """Coded weights in rows.

    Scales of blocks that are no factors already become ones of 0…255, as the weight formats have
    them; the note says how far that moved weights.

    Args:
        weights: coded, [O,K] in the order of the sum.

    Raises:
        UnsupportedError: scales of a row that have factors differ, or are too different for
            factors to stand for them.
    """
    blocks = weights.blocks
    assert blocks is not None
    index, columns = blocks.index, weights.data.shape[1]
    borders = np.flatnonzero((index[:, 1:] != index[:, :-1]).any(axis=0)) + 1
    group = math.gcd(*(int(b) for b in borders)) if borders.size else columns
    starts = index[:, ::group]
    scale = blocks.scale[starts]
    even = bool((scale == scale[:, :1]).all())
    if blocks.factor is None:
        if even:
            return _plain(weights, blocks, scale[:, 0])
        return _with_factors(weights.data, blocks, scale, group)
    if not even:
        raise UnsupportedError(
            f"the scales of its {blocks.element} weights change within the sum of one output, "
            "must be one for each output beside the factors of groups: the groups run along "
            "another axis than the sum"
        )
    plain = _plain(weights, blocks, scale[:, 0])
    factors: Any = blocks.factor[starts]
    return Rows(plain.integers, plain.scale, blocks.element, group, blocks.kind, factors)


def _with_factors(stored: Array, blocks: Blocks, scale: Array, group: int) -> Rows:
    """Rows whose groups have real scales, with factors instead; integers round to their steps.

    Args:
        stored: integers [O,K].
        blocks: of the weights.
        scale: float32[O,G] of the groups.
        group: weights of each; the last one may have fewer.

    Raises:
        UnsupportedError: a weight moves by more than a small share of its group's largest.
    """
    name, columns = blocks.element, stored.shape[1]
    row_scale, factors = GROUP_SCALES["uint8"].encode(scale)
    step = factors.astype(np.float64) * row_scale.astype(np.float64)[:, np.newaxis]
    steps = spread(step, group=group, columns=columns)
    real = stored * spread(scale.astype(np.float64), group=group, columns=columns)
    integers = ELEMENTS[name].nearest_integers(real / steps)
    moved, largest = (
        reduce_groups(np.abs(values), group, lambda part: part.max(axis=-1))
        for values in (integers * steps - real, real)
    )
    # Groups that are all zero do not move.
    worst = float((moved / np.where(largest > 0, largest, 1)).max())
    if worst > LARGEST_MOVE:
        ratio = float((scale.max(axis=1).astype(np.float64) / scale.min(axis=1)).max())
        raise UnsupportedError(
            f"the scales of groups of its {name} weights, up to {ratio:.4g} to 1 within one "
            f"output, would become factors of 1…255, and weights move by up to {worst:.1%} of "
            f"their group's largest, must be {LARGEST_MOVE:.0%} at most: scales within 20 to 1, "
            "one for each output, or weights quantised by edgekit would do"
        )
    plain = _plain(Weights(integers), blocks, row_scale)
    # One rounding of the product is float32's own.
    note = (
        ""
        if worst < 2.0**-22
        else (
            "scales of groups became multiples of 1/255 of the largest of their channel; weights "
            f"moved by up to {worst:.2%} of their group's largest"
        )
    )
    return Rows(plain.integers, plain.scale, name, group, "uint8", factors, note)


def _plain(weights: Weights, blocks: Blocks, scale: Array) -> Rows:
    """Rows without factors; one scale where all rows share it."""
    numbers = tuple(float(s) for s in scale)
    one = len(set(numbers)) == 1
    meaning = Quantization.per_tensor(numbers[0])
    if not one:
        meaning = Quantization(numbers, (0,) * len(numbers), 0)
    return Rows(np.ascontiguousarray(weights.data), meaning, blocks.element)
