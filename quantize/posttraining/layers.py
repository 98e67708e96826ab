"""The layers of a graph whose weights a recipe decides: what they are called and how rows lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir

from edgekit.model.nodes import (
    Array,
    const,
    find_input,
    get_float,
    get_input,
    get_int,
    is_op,
    label,
    name_of,
    only_use,
)
from edgekit.program.lowering.fusion import tail_of
from edgekit.quantize.recipe import Position

_CONVOLUTIONS = {3: "Conv1d", 4: "Conv2d", 5: "Conv3d"}
"""What recipes call a convolution with weights of so many axes."""

_CARRYING = ("Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze", "Flatten")
"""Operators that an exporter puts between a weight and its layer."""

Tie: TypeAlias = tuple[str, bool, float]
"""See :attr:`Layer.tied`."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A node with constant weights, seen as rows: one per output channel.

    The weights of a row lie as kernels read them: (kernel row, kernel column, input channel) for a
    convolution, inputs in order for a product.

    Attributes:
        name: of the module: the weights' name in the source model without ``.weight``, or the
            bias's without ``.bias``.
        kind: ``Conv1d``, ``Conv2d``, ``Conv3d`` or ``Linear``, as in torch.
        node: of the optimised graph.
        rows: float32 [R, K], alpha of Gemm multiplied in.
        bias: float32 [R], beta of Gemm multiplied in; None for none.
        groups: how many groups of rows read different inputs.
        position: among the layers.
        tied: what the rows are made of: name of the value of the weights, whether rows are its
            columns, and the factor. Layers with the same share their weights.
    """

    name: str
    kind: str
    node: onnx_ir.Node
    rows: Array
    bias: Array | None
    groups: int
    position: Position
    tied: Tie

    @property
    def is_linear(self) -> bool:
        """Whether the layer is a product with a matrix, whose inputs are tokens."""
        return self.kind == "Linear"

    def weights_of(self, rows: Array) -> Array:
        """Rows in the shape of the node's weights; the inverse of how `rows` came about."""
        weights = const(get_input(self.node, 1))
        assert weights is not None
        if is_op(self.node, "Conv"):
            outputs, depth, *kernel = weights.shape
            shaped = rows.reshape(outputs, *kernel, depth)
            return np.ascontiguousarray(np.moveaxis(shaped, -1, 1))
        if is_op(self.node, "Gemm") and get_int(self.node, "transB", 0):
            return rows
        return np.ascontiguousarray(rows.T).reshape(weights.shape)


def find_layers(graph: onnx_ir.Graph, source: onnx_ir.Graph) -> tuple[Layer, ...]:
    """The Conv, Gemm and MatMul nodes with constant float weights, in execution order.

    Args:
        graph: optimised.
        source: the graph before that, for the names that weights have there.
    """
    names = _source_names(source)
    nodes = [node for node in graph if _has_rows(node)]
    positions: list[Position] = ["inner"] * len(nodes)
    positions[-1:] = ["last"] * bool(nodes)
    positions[:1] = ["first"] * bool(nodes)
    return tuple(
        _layer(node, names, position) for node, position in zip(nodes, positions, strict=True)
    )


def _has_rows(node: onnx_ir.Node) -> bool:
    if not is_op(node, "Conv", "Gemm", "MatMul"):
        return False
    weights = const(find_input(node, 1))
    if weights is None or weights.dtype != np.float32 or weights.size == 0:
        return False
    if const(get_input(node, 0)) is not None:
        return False
    bias = find_input(node, 2)
    if is_op(node, "Conv", "Gemm") and bias is not None and const(bias) is None:
        return False
    return weights.ndim <= 2 if is_op(node, "MatMul") else weights.ndim >= 2


def _layer(node: onnx_ir.Node, names: Mapping[str, str], position: Position) -> Layer:
    value = get_input(node, 1)
    weights = const(value)
    assert weights is not None
    kind, groups, turned, factor = "Linear", 1, False, 1.0
    bias = const(find_input(node, 2))
    if is_op(node, "Conv"):
        kind, groups = _CONVOLUTIONS.get(weights.ndim, "Conv"), get_int(node, "group", 1)
        rows = np.moveaxis(weights, 1, -1).reshape(weights.shape[0], -1)
    elif is_op(node, "Gemm"):
        turned, factor = not get_int(node, "transB", 0), get_float(node, "alpha", 1.0)
        rows = (weights.T if turned else weights) * np.float32(factor)
        if bias is not None:
            scaled = bias.reshape(-1) * np.float32(get_float(node, "beta", 1.0))
            bias = np.broadcast_to(scaled, (rows.shape[0],))
    else:
        turned, rows = True, weights.reshape(weights.shape[0], -1).T
        added = const(tail_of(node).bias)
        bias = None if added is None else added.reshape(-1)
    return Layer(
        name=names.get(node.name or "", node.name or label(node)),
        kind=kind,
        node=node,
        rows=np.ascontiguousarray(rows),
        bias=bias,
        groups=groups,
        position=position,
        tied=(name_of(value), turned, factor),
    )


def _source_names(source: onnx_ir.Graph) -> dict[str, str]:
    """What the layers are called, by the node's name: as their weights, or else their bias.

    An exporter that transposes weights itself gives them a name of its own. A layer whose weights
    an earlier one has is another module with a bias of its own, and the same module without.
    """
    found, known = dict[str, str](), set[str]()
    for node in source:
        if not is_op(node, "Conv", "Gemm", "MatMul"):
            continue
        bias = _added(node) if is_op(node, "MatMul") else find_input(node, 2)
        weights = _stored(find_input(node, 1))
        given = [(weights, ".weight"), (_stored(bias), ".bias")]
        if weights in known:
            given.reverse()
        known.update({weights} if weights else ())
        modules = [name.removesuffix(end) for name, end in given if name and name.endswith(end)]
        others = [name for name, _ in given if name]
        if node.name and (modules or others):
            found[node.name] = (modules + others)[0]
    return found


def _added(node: onnx_ir.Node) -> onnx_ir.Value | None:
    """What is added to a node's result; the source may know no shapes yet."""
    adding = only_use(node.outputs[0])
    if adding is None or not is_op(adding, "Add"):
        return None
    return adding.inputs[1 if adding.inputs[0] is node.outputs[0] else 0]


def _stored(value: onnx_ir.Value | None) -> str | None:
    """Name of the constant that a value is, or is a rearrangement of."""
    while value is not None and const(value) is None:
        producer = value.producer()
        carried = producer is not None and is_op(producer, *_CARRYING)
        value = find_input(producer, 0) if carried and producer is not None else None
    return None if value is None else value.name
