"""Where a float Model is quantised for a runtime that fuses by itself: what operators read.

Between a convolution or product and the activation behind it nothing is quantised, so the two
fuse; results that only float operators read, and outputs, stay float.

Source: NVIDIA TensorRT documentation, "Explicit Quantization", Q/DQ layer-placement
recommendations.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir

from edgekit.model.nodes import const, find_input, is_op, only_use
from edgekit.quantize.points import SAME_SCALE, Points, is_float
from edgekit.quantize.scheme import Scheme

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that multiply by weights."""

POOLS = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")

_MOVEMENT = tuple(op for op in SAME_SCALE if op not in POOLS)


def find_operands(graph: onnx_ir.Graph, *, scheme: Scheme) -> Points:
    """Choose the operands of an optimised float graph that are quantised.

    Rules:

    1. What a convolution or product with constant weights, a product of two activations, or a pool
       reads.
    2. The operands of an addition of two activations that the scheme names.
    3. What Concat joins, where its result is quantised.
    4. Movement and pools share the scale of their input; what Concat joins shares one with its
       result.

    Constants, and what is computed from constants alone, are no activations.
    """
    fed = _fed(graph)
    readers: dict[onnx_ir.Value, list[tuple[onnx_ir.Node, int]]] = {}
    # Values that end in a quantised operand, directly or through movement.
    wanted: set[onnx_ir.Value] = set()
    for node in reversed(graph):
        for index in _operands(node, fed, wanted, scheme):
            value = node.inputs[index]
            assert value is not None
            if is_float(value):
                readers.setdefault(value, []).append((node, index))
                wanted.add(value)
        source = find_input(node, 0)
        if is_op(node, *_MOVEMENT) and source is not None and wanted.intersection(node.outputs):
            wanted.add(source)
    points = Points()
    for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
        if value in readers:
            points.add(value)
            points.readers[value] = tuple(reversed(readers[value]))
    for node in graph:
        _join(points, node, wanted)
    return points


def _fed(graph: onnx_ir.Graph) -> set[onnx_ir.Value]:
    """Values that depend on an input."""
    fed = set(graph.inputs)
    for node in graph:
        if not fed.isdisjoint(node.inputs):
            fed.update(node.outputs)
    return fed


def _operands(
    node: onnx_ir.Node,
    fed: Collection[onnx_ir.Value],
    wanted: Collection[onnx_ir.Value],
    scheme: Scheme,
) -> Iterator[int]:
    """Indices of the operands to quantise."""
    activations = [i for i, value in enumerate(node.inputs) if value in fed]
    if is_op(node, *POOLS):
        yield 0
    elif is_op(node, "MatMul"):
        if all(i in activations or const(node.inputs[i]) is not None for i in (0, 1)):
            yield from activations
    elif is_op(node, *PRODUCTS):
        if 0 in activations and const(find_input(node, 1)) is not None:
            yield 0
    elif is_op(node, "Add") and activations == [0, 1]:
        fusing = [i for i in (0, 1) if _is_product(node.inputs[i])]
        skipped = [] if scheme.addends == "both" else fusing[:1]
        yield from (i for i in (0, 1) if i not in skipped)
    elif is_op(node, "Concat") and node.outputs[0] in wanted:
        yield from activations


def _is_product(value: onnx_ir.Value | None) -> bool:
    """Whether an addition can fuse with what computes a value."""
    return value is not None and is_op(value.producer(), *PRODUCTS) and only_use(value) is not None


def _join(points: Points, node: onnx_ir.Node, wanted: Collection[onnx_ir.Value]) -> None:
    """Rule 4."""
    source = find_input(node, 0)
    if is_op(node, *SAME_SCALE) and source is not None:
        for output in node.outputs:
            points.join(source, output)
    elif is_op(node, "Concat") and node.outputs[0] in wanted:
        for value in node.inputs:
            if value is not None and const(value) is None:
                points.join(node.outputs[0], value)
