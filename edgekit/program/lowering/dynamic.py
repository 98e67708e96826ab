"""Matrix products whose input is quantised row by row while the network runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.nodes import get_input, name_of
from edgekit.program.ir import Array, Quantization
from edgekit.program.lowering import affine
from edgekit.program.lowering.fusion import Tail
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.value import Weights
from edgekit.program.lowering.weighted import factors_tensor, noted_rows, oriented
from edgekit.program.operators.activation import Clip
from edgekit.program.operators.base import OperatorError
from edgekit.program.operators.coding import Coding, accumulator_for
from edgekit.program.operators.linear import DynamicFullyConnected


def fully_connected(
    low: Lowerer,
    node: onnx_ir.Node,
    tail: Tail,
    weights: Weights,
    bias: Weights | None,
    flips: bool,
) -> bool:
    """Emit dynamic_fully_connected where the node's input is quantised dynamically.

    Args:
        low: the lowering.
        node: Gemm or MatMul.
        tail: what fuses.
        weights: int8 or coded.
        bias: one number per output, or None.
        flips: whether the columns of the weights are the outputs.

    Returns:
        Whether it did; else the node is an ordinary one, and where its weights forbid it, the
        reason is noted for the report.
    """
    quantised = low.dynamic.get(get_input(node, 0))
    if quantised is None:
        return False
    problem, found = _problem(weights, flips), None
    if not problem:
        try:
            plain = weights.blocks is None
            found = _int8(weights, flips) if plain else _coded(low, node, weights, flips)
        except UnsupportedError as error:
            problem = str(error)
    if found is None:
        low.stay_real(node, problem)
        return False
    matrix, name, result = get_input(node, 1), name_of(get_input(node, 1)), name_of(tail.value)
    inputs = [
        quantised.codes,
        quantised.scale,
        low.constant(found.integers, name, found.scale),
        low.constant(np.array(found.scale.scale, np.float32), f"{name}.scale"),
        _bias(low, node, bias),
        found.factors,
    ]
    while inputs[-1] is None:
        inputs.pop()
    tensor = low.emit(node, DynamicFullyConnected(coding=found.coding), *inputs, name=result)
    if tail.clamp is not None:
        tensor = low.emit(node, Clip(tail.clamp), tensor, name=result)
    if matrix.shape is not None and matrix.shape.rank() == 1:
        tensor = low.view(node, tensor, low.tensors[quantised.codes].shape[:-1])
    low.define_plain(tail.value, tensor)
    return True


@dataclass(frozen=True, eq=False)
class _Matrix:
    """Weights of a product.

    Attributes:
        integers: [O,K].
        scale: per tensor, or along axis 0.
        coding: of coded weights, None for int8.
        factors: name of their factors, None for none.
    """

    integers: Array
    scale: Quantization
    coding: Coding | None = None
    factors: str | None = None


def _int8(weights: Weights, flips: bool) -> _Matrix:
    plain = oriented(weights, flips)
    assert plain.quantization is not None
    return _Matrix(plain.data, plain.quantization)


def _coded(low: Lowerer, node: onnx_ir.Node, weights: Weights, flips: bool) -> _Matrix:
    rows = noted_rows(low, node, oriented(weights, flips))
    try:
        accumulator = accumulator_for(
            rows.element, rows.integers, group=rows.group, factors=rows.factors
        )
    except OperatorError as error:
        raise UnsupportedError(str(error)) from error
    coding = Coding(rows.element, rows.group, rows.kind, accumulator)
    return _Matrix(rows.integers, rows.scale, coding, factors_tensor(low, node, rows))


def _bias(low: Lowerer, node: onnx_ir.Node, bias: Weights | None) -> str | None:
    """The bias as a float32 row, None for none."""
    if bias is None:
        return None
    return low.constant(affine.real_data(bias).reshape(-1), f"{node.name}.bias")


def _problem(weights: Weights, flips: bool) -> str:
    """Why weights cannot be multiplied with int8, empty where they can."""
    if weights.problem or weights.blocks is not None:
        return weights.problem
    scales = weights.quantization
    if scales is None or weights.data.dtype != np.int8:
        return "its weights are not quantised"
    if any(scales.zero_point):
        return "its weights have zero points that are not 0 (128 for uint8)"
    if scales.axis is not None and scales.axis != (1 if flips else 0):
        return "its weights are not quantised per output"
    return ""
