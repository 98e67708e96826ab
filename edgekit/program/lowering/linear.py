"""Gemm and MatMul."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.geometry import check_supported, gemm_extents, matmul_shape
from edgekit.model.nodes import find_input, get_float, get_input, get_int, label, name_of
from edgekit.program.ir import DType, Quantization
from edgekit.program.lowering import affine, coded, dynamic
from edgekit.program.lowering.arrangement import Arrangement
from edgekit.program.lowering.fusion import Tail
from edgekit.program.lowering.lowerer import Lowerer, integer_clamp
from edgekit.program.lowering.table import lowering
from edgekit.program.lowering.value import Value, Weights
from edgekit.program.lowering.weighted import (
    bias_tensor,
    coded_plan,
    coded_sum,
    integer_plan,
    oriented,
    real_weights,
)
from edgekit.program.operators.linear import BatchMatMul, FullyConnected


@lowering("Gemm")
def gemm(low: Lowerer, node: onnx_ir.Node) -> None:
    """``alpha·A·B + beta·C`` with constant B and a constant row C: one fully_connected."""
    x, c = low.value(get_input(node, 0)), find_input(node, 2)
    weights = low.weights(node, get_input(node, 1), packed=True)
    bias = None if c is None else low.weights(node, c)
    check_supported(
        weights is not None and (c is None or bias is not None), node, "B and C must be constant"
    )
    assert weights is not None
    _, _, outputs = gemm_extents(node, x.shape, weights.data.shape)
    if get_int(node, "transA", 0):
        x = x.arranged(x.arrangement.transposed((1, 0)))
    tail = low.tail(node)
    alpha, beta = get_float(node, "alpha", 1.0), get_float(node, "beta", 1.0)
    plan: Plan = (None, None)
    flips = not get_int(node, "transB", 0)
    if (alpha, beta) == (1.0, 1.0):
        if not get_int(node, "transA", 0) and dynamic.fully_connected(
            low, node, tail, weights, None if bias is None else _row(node, bias, outputs), flips
        ):
            return
        plan = _plan(low, node, x, weights, tail, flips)
    elif x.quantization is not None or weights.blocks is not None:
        low.stay_real(node, "alpha and beta must be 1")
    weights, (rows, y) = oriented(weights, flips), plan
    if y is None:
        x, weights = low.real(node, x), real_weights(low, node, weights)
        weights = Weights(weights.data * np.float32(alpha))
    if bias is not None:
        bias = _row(node, bias, outputs)
        if beta != 1.0:
            bias = Weights(affine.real_data(bias) * np.float32(beta))
    _fully_connected(low, node, x, weights, bias, tail, y, rows=rows)


Plan = tuple[coded.Rows | None, Quantization | None]
"""Rows of coded weights, None for others; quantisation of the result, None for float32."""


def _plan(
    low: Lowerer, node: onnx_ir.Node, x: Value, weights: Weights, tail: Tail, flips: bool
) -> Plan:
    """Whether the node can become an integer operation."""
    if weights.blocks is None:
        return None, integer_plan(low, node, x, weights, tail)
    return coded_plan(low, node, x, oriented(weights, flips), tail) or (None, None)


def _row(node: onnx_ir.Node, c: Weights, outputs: int) -> Weights:
    """C as one number per output."""
    if c.data.shape in ((outputs,), (1, outputs)):
        return c.moved(c.data.reshape(outputs), axis=0)
    check_supported(
        c.data.size == 1, node, f"C has shape {list(c.data.shape)}, must be one row of {outputs}"
    )
    return Weights(np.full(outputs, affine.real_data(c).reshape(()), np.float32))


@lowering("MatMul")
def matmul(low: Lowerer, node: onnx_ir.Node) -> None:
    """fully_connected where the right operand is a constant matrix, else batch_matmul."""
    right = get_input(node, 1)
    weights = low.weights(node, right, packed=True)
    if weights is None or weights.data.ndim > 2:
        _batch_matmul(low, node)
        return
    x = low.value(get_input(node, 0))
    matmul_shape(node, x.shape, weights.data.shape)
    tail = low.tail(node)
    bias = None if tail.bias is None else low.weights(node, tail.bias)
    if bias is not None:
        bias = bias.moved(bias.data.reshape(-1), axis=0)
    if dynamic.fully_connected(low, node, tail, weights, bias, flips=True):
        return
    rows, y = _plan(low, node, x, weights, tail, flips=True)
    weights = oriented(weights, flips=True)
    if y is None:
        x, weights = low.real(node, x), real_weights(low, node, weights)
    _fully_connected(
        low,
        node,
        x,
        weights,
        bias,
        tail,
        y,
        rows=rows,
        vector=right.shape is not None and right.shape.rank() == 1,
    )


def _fully_connected(
    low: Lowerer,
    node: onnx_ir.Node,
    x: Value,
    weights: Weights,
    bias: Weights | None,
    tail: Tail,
    y: Quantization | None,
    *,
    rows: coded.Rows | None = None,
    vector: bool = False,
) -> None:
    """Emit ``x · weightsᵀ + bias``.

    Args:
        low: the lowering.
        node: the node.
        x: [..., K], its leading axes in any order.
        weights: [O, K] in the order of the source; permuted here to how x lies, unless groups of
            them share factors: then x is brought into their order.
        bias: [O] or None.
        tail: what fuses.
        y: quantisation of the result, None for float32.
        rows: the weights where they are coded.
        vector: O is 1 and the result has no axis for it.
    """
    last = len(x.shape) - 1
    if not x.arrangement.together([last]) or (
        rows is not None and rows.factors is not None and _permutes(x.arrangement, last)
    ):
        x = low.plain(node, x)
    arrangement, (outputs, inner) = x.arrangement, weights.data.shape
    if rows is not None:
        weights = Weights(rows.integers, rows.scale)
    weights = weights.moved(weights.data[:, arrangement.gather([last])], axis=0)
    operator = FullyConnected(clamp=tail.clamp)
    summed = None if rows is None else coded_sum(low, node, rows, bias, x)
    if y is not None:
        assert x.quantization is not None
        assert weights.quantization is not None
        operator = FullyConnected.quantized(
            x=x.quantization,
            w=weights.quantization,
            y=y,
            coding=None if summed is None else summed.coding,
        )
        operator = replace(operator, clamp=integer_clamp(tail, y))
    if summed is None:
        extra = [bias_tensor(low, node, bias, x, weights, outputs)]
    else:
        extra = [summed.bias] if summed.factors is None else [summed.bias, summed.factors]
    columns = set(arrangement.groups[last])
    lead_order = [a for a in arrangement.order if a not in columns]
    lead = tuple(arrangement.atoms[a] for a in lead_order)
    tensor = low.emit(
        node,
        operator,
        low.view(node, x.tensor, (*lead, inner)),
        low.constant(weights.data, name_of(get_input(node, 1)), weights.quantization),
        *extra,
        name=name_of(tail.value),
        quantization=y,
    )
    # Atoms of the leading axes are numbered from 0 in source order; the outputs follow.
    extents = tuple(arrangement.atoms[a] for a in sorted(lead_order))
    place = {a: k for k, a in enumerate(sorted(lead_order))}
    shape, order = x.shape[:-1], tuple(place[a] for a in lead_order)
    if not vector:
        shape, extents, order = (*shape, outputs), (*extents, outputs), (*order, len(order))
    result = Arrangement(shape, extents, order)
    low.define(tail.value, Value(low.view(node, tensor, result.stored), result, y))


def _permutes(arrangement: Arrangement, axis: int) -> bool:
    """Whether the elements along an axis lie in another order than the source's."""
    order = arrangement.gather([axis])
    return not np.array_equal(order, np.arange(order.size))


def _batch_matmul(low: Lowerer, node: onnx_ir.Node) -> None:
    a, b = (low.value(get_input(node, i)) for i in (0, 1))
    check_supported(
        min(len(a.shape), len(b.shape)) >= 2, node, "operands must have two axes at least"
    )
    matmul_shape(node, a.shape, b.shape)
    result = node.outputs[0]
    y = low.target(result)
    if a.quantization is None or b.quantization is None or y is None:
        if a.quantization or b.quantization or y:
            low.stay_real(node, "its inputs and its result must all be quantised")
        a, b, y = low.real(node, a), low.real(node, b), None
        operator = BatchMatMul()
    else:
        operator = BatchMatMul.quantized(a=a.quantization, b=b.quantization, y=y)
    for value in (a, b):
        if low.tensors[value.tensor].dtype not in (DType.FLOAT32, DType.INT8):
            raise UnsupportedError(f"{label(node)}: operands must be float32 or quantised int8")
    tensor = low.emit(
        node,
        operator,
        low.plain(node, a).tensor,
        low.plain(node, b).tensor,
        name=name_of(result),
        quantization=y,
    )
    low.define_plain(result, tensor, y)
