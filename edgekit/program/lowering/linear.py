"""Gemm and MatMul."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.geometry import check, gemm_extents, matmul_shape
from edgekit.model.nodes import (
    const,
    find_input,
    get_float,
    get_input,
    get_int,
    label,
    name_of,
)
from edgekit.program.ir import DType, Quantization
from edgekit.program.lowering import affine
from edgekit.program.lowering.arrangement import Arrangement
from edgekit.program.lowering.elementwise import add_real
from edgekit.program.lowering.fusion import Tail
from edgekit.program.lowering.lowerer import Lowerer, integer_clamp
from edgekit.program.lowering.table import lowering
from edgekit.program.lowering.value import Value, Weights
from edgekit.program.lowering.weighted import bias_tensor, integer_plan, real_weights
from edgekit.program.operators.linear import BatchMatMul, FullyConnected


@lowering("Gemm")
def gemm(low: Lowerer, node: onnx_ir.Node) -> None:
    """``alpha·A·B + beta·C``; with constant B and a constant row C one fully_connected."""
    x, c = low.value(get_input(node, 0)), find_input(node, 2)
    if get_int(node, "transA", 0):
        x = x.arranged(x.arrangement.transposed((1, 0)))
    weights = low.weights(node, get_input(node, 1))
    if weights is None:
        _computed_gemm(low, node, x)
        return
    transposed = get_int(node, "transB", 0) != 0
    b = weights.data.shape
    check(len(x.shape) == 2 and len(b) == 2, node, "A and B must have two axes")
    outputs = b[0] if transposed else b[1]
    tail = low.tail(node)
    alpha, beta = get_float(node, "alpha", 1.0), get_float(node, "beta", 1.0)
    y = integer_plan(low, node, x, weights, tail) if (alpha, beta) == (1.0, 1.0) else None
    if not transposed:
        weights = weights.moved(weights.data.T, axis=0)
    if y is None:
        x, weights = low.real(node, x), real_weights(low, node, weights)
        weights = Weights(weights.data * np.float32(alpha))
    row = None if c is None else _row(low, node, c, outputs)
    if c is not None and row is None:
        # C varies along rows, or is computed: an addition of its own.
        y = None
        x, weights = low.real(node, x), real_weights(low, node, weights)
        product = _fully_connected(low, node, x, weights, None, None, Tail(tail.value), None)
        add_real(low, node, product, low.real(node, low.value(c)), beta, tail)
        return
    bias = None
    if row is not None:
        scaled = row if beta == 1.0 else Weights(affine.real_data(row) * np.float32(beta))
        bias = scaled
    result = _fully_connected(low, node, x, weights, bias, c, tail, y)
    low.define(tail.value, result)


def _row(low: Lowerer, node: onnx_ir.Node, c: onnx_ir.Value, outputs: int) -> Weights | None:
    """C as one number per output, None where it is not constant or varies along rows."""
    weights = low.weights(node, c)
    if weights is None:
        return None
    shape = weights.data.shape
    if shape in ((outputs,), (1, outputs)):
        axis = None if weights.quantization is None else weights.quantization.axis
        return weights.moved(weights.data.reshape(outputs), axis=axis and 0)
    if weights.data.size == 1:
        return Weights(np.full(outputs, affine.real_data(weights).reshape(())[()], np.float32))
    return None
