"""What convolutions and matrix products share: choosing the integer form, weights and bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.geometry import check
from edgekit.model.nodes import Array, get_int, is_op, label
from edgekit.program.fixed_point import Requant
from edgekit.program.ir import Quantization
from edgekit.program.lowering import affine, coded
from edgekit.program.lowering.fusion import Tail
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.value import Value, Weights
from edgekit.program.operators.accumulator import weight_factors
from edgekit.program.operators.base import OperatorError
from edgekit.program.operators.coding import Coding, accumulator_for

_INT32 = (-(2**31), 2**31 - 1)

_INT53 = (-(2**53), 2**53)
"""Integers that totals in int64 may reach."""


@dataclass(frozen=True, eq=False)
class CodedSum:
    """What a weighted operator with coded weights needs beside its geometry.

    Attributes:
        coding: field of the operator.
        bias: name of the integer bias, None for none.
        factors: name of the factors, None for none.
    """

    coding: Coding
    bias: str | None
    factors: str | None


def integer_plan(
    low: Lowerer, node: onnx_ir.Node, x: Value, weights: Weights, tail: Tail
) -> Quantization | None:
    """The output's quantisation if the node can become an integer operation, else None.

    The reason is noted for the report.
    """
    y = low.target(tail.value)
    quantised = weights.quantization is not None or weights.problem
    if x.quantization is None and not quantised and y is None:
        return None
    axis = output_axis(node)
    scales = weights.quantization
    if x.quantization is None:
        reason = "its input is not quantised"
    elif weights.problem:
        reason = weights.problem
    elif scales is None or weights.data.dtype != np.int8:
        reason = "its weights are not int8"
    elif any(scales.zero_point):
        reason = "its weights have zero points that are not 0 (128 for uint8)"
    elif scales.axis not in (None, axis):
        reason = f"its weights are quantised along axis {scales.axis}, must be {axis}"
    elif y is None:
        reason = "its result is not quantised, or differently for several readers"
    else:
        return y
    low.stay_real(node, reason)
    return None


def coded_plan(
    low: Lowerer, node: onnx_ir.Node, x: Value, weights: Weights, tail: Tail
) -> tuple[coded.Rows, Quantization] | None:
    """Rows and the output's quantisation where coded weights can run packed, else None.

    The reason is noted for the report.

    Args:
        low: the lowering.
        node: the node.
        x: its input.
        weights: coded, [O,K] in the order of the Program's sum.
        tail: what fuses.
    """
    y = low.target(tail.value)
    if x.quantization is None:
        reason = "its input is not quantised"
    elif y is None:
        reason = "its result is not quantised, or differently for several readers"
    else:
        try:
            return noted_rows(low, node, weights), y
        except UnsupportedError as error:
            reason = str(error)
    low.stay_real(node, reason)
    return None


def noted_rows(low: Lowerer, node: onnx_ir.Node, weights: Weights) -> coded.Rows:
    """Coded weights [O,K] as rows; what changed on the way is noted."""
    rows = coded.rows_of(weights)
    if rows.note:
        low.notes[f"{label(node)}: {rows.note}"] = None
    return rows


def coded_sum(
    low: Lowerer,
    node: onnx_ir.Node,
    rows: coded.Rows,
    bias: Weights | None,
    x: Value,
    *,
    single: Quantization | None = None,
) -> CodedSum:
    """The accumulator that no total overflows, and the bias in it.

    Args:
        low: the lowering.
        node: the node.
        rows: the weights.
        bias: float32, or quantised integers; None for no bias.
        x: the input, quantised.
        single: quantisation of the result where totals in int32 are rounded ``single``, which must
            not wrap; None where another rounding saturates.

    Raises:
        UnsupportedError: not even int64 holds every total.
    """
    outputs, integers, step = rows.integers.shape[0], None, None
    assert x.quantization is not None
    if bias is not None:
        _check_bias(node, bias, outputs)
        step = x.quantization.scalar_scale * np.array(rows.scale.scale, np.float64)
        integers = integer_bias(bias, np.broadcast_to(step, (outputs,)), _INT53)
    try:
        accumulator = accumulator_for(
            rows.element,
            rows.integers,
            group=rows.group,
            factors=rows.factors,
            bias=integers,
            requant=None
            if single is None
            else Requant.from_real(weight_factors(x.quantization, rows.scale, single), "single"),
        )
    except OperatorError as error:
        raise UnsupportedError(f"{label(node)}: {error}") from error
    name = None
    if integers is not None and step is not None:
        stored = integers.astype(accumulator.numpy)
        name = low.constant(stored, f"{node.name}.bias", _symmetric(step))
    return CodedSum(
        Coding(rows.element, rows.group, rows.kind, accumulator),
        name,
        factors_tensor(low, node, rows),
    )


def factors_tensor(low: Lowerer, node: onnx_ir.Node, rows: coded.Rows) -> str | None:
    """The factors as a constant tensor, None for none."""
    if rows.factors is None:
        return None
    return low.constant(rows.factors, f"{node.name}.factors")


def _symmetric(step: Array) -> Quantization:
    """One scale, or one per output, without zero points."""
    scale = tuple(float(np.float32(s)) for s in step)
    return Quantization(scale, (0,) * len(scale), None if len(scale) == 1 else 0)


def _check_bias(node: onnx_ir.Node, bias: Weights, outputs: int) -> None:
    check(
        bias.data.size == outputs,
        node,
        f"the bias has shape {list(bias.data.shape)}, must be [{outputs}]",
    )


def oriented(weights: Weights, flips: bool) -> Weights:
    """A matrix as rows [O,K]; a vector is one row.

    Args:
        weights: a matrix, or a vector.
        flips: whether its columns are the outputs.
    """
    if weights.blocks is not None:
        return weights.rearranged(lambda a: np.atleast_2d(a.T if flips else a))
    return weights.moved(np.atleast_2d(weights.data.T if flips else weights.data), axis=0)


def output_axis(node: onnx_ir.Node) -> int:
    """The axis of the weights that output channels run along."""
    if is_op(node, "Conv"):
        return 0
    if is_op(node, "Gemm"):
        return 0 if get_int(node, "transB", 0) else 1
    return 1


def real_weights(low: Lowerer, node: onnx_ir.Node, weights: Weights) -> Weights:
    """The weights as float32."""
    data = affine.real_data(weights)
    if data.dtype != np.float32:
        raise UnsupportedError(f"{label(node)}: weights are {data.dtype.name}, must be float32")
    return Weights(data)


def bias_tensor(
    low: Lowerer,
    node: onnx_ir.Node,
    bias: Weights | None,
    x: Value,
    weights: Weights,
    outputs: int,
) -> str | None:
    """The bias as a constant tensor: float32, or int32 in steps of ``x.scale * w.scale``.

    Args:
        low: the lowering.
        node: the node whose bias it is.
        bias: float32, or quantised integers; None for no bias.
        x: input of the operator.
        weights: its weights.
        outputs: number of output channels.
    """
    if bias is None:
        return None
    _check_bias(node, bias, outputs)
    name = f"{node.name}.bias"
    if weights.quantization is None:
        return low.constant(affine.real_data(bias).reshape(outputs), name)
    assert x.quantization is not None
    step = x.quantization.scalar_scale * np.array(weights.quantization.scale, np.float64)
    integers = integer_bias(bias, np.broadcast_to(step, (outputs,)))
    return low.constant(integers, name, _symmetric(step))


def integer_bias(bias: Weights, step: Array, limits: tuple[int, int] = _INT32) -> Array:
    """Integers nearest to the bias in units of `step`, float64 arithmetic, halves to even.

    Args:
        bias: float32, or quantised integers.
        step: one per element.
        limits: what saturates; the result is int32 where it is int32's, else int64.
    """
    data, quantization = bias.data.reshape(-1), bias.quantization
    if quantization is not None:
        scale = np.broadcast_to(np.array(quantization.scale, np.float64), data.shape)
        same_scale = np.allclose(scale, step, rtol=1e-5, atol=0.0)
        if data.dtype == np.int32 and same_scale and not any(quantization.zero_point):
            return data
        zero_point = np.broadcast_to(np.array(quantization.zero_point, np.float64), data.shape)
        data = (data.astype(np.float64) - zero_point) * scale
    dtype = np.int32 if limits == _INT32 else np.int64
    return np.clip(np.rint(data / step), *limits).astype(dtype)
