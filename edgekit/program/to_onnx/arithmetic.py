"""Writers of operators that compute element by element or along one axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from edgekit.program.ir import DType, Quantization, Tensor
from edgekit.program.operators.activation import Clip, HardSwish, LeakyRelu, Sigmoid, Tanh
from edgekit.program.operators.base import Operator
from edgekit.program.operators.elementwise import Add, Mul, Sub
from edgekit.program.operators.normalization import (
    LAYERNORM_FRACTION_BITS,
    ArgMax,
    LayerNorm,
    Softmax,
)
from edgekit.program.operators.quantization import (
    Binarize,
    Dequantize,
    DynamicQuantize,
    Quantize,
    Requantize,
)
from edgekit.program.to_onnx.graph import ELEMENT_TYPES
from edgekit.program.to_onnx.node import Node
from edgekit.program.to_onnx.registry import writes
from edgekit.program.to_onnx.values import Order, per_tensor, plain

PAIRS: dict[type[Operator], str] = {Add: "Add", Sub: "Sub", Mul: "Mul"}
"""Names in ONNX of operators of two operands."""

UNARY: dict[type[Operator], str] = {Sigmoid: "Sigmoid", Tanh: "Tanh", HardSwish: "HardSwish"}
"""Names in ONNX of functions of one element."""


@writes(*PAIRS)
def pair(node: Node) -> None:
    """a, b; operands of lower rank broadcast from the right, also where channels come first."""
    order, operator = node.shared_order(), node.operator
    operands = [_broadcastable(node, node.input(i), order) for i in (0, 1)]
    quant = getattr(operator, "quant", None)
    clamp = operator.clamp if quant is None else quant.clamp
    node.finish(node.add(PAIRS[type(operator)], *operands), order, clamp)


def _broadcastable(node: Node, tensor: Tensor, order: Order) -> str:
    """An operand as reals, with one axis per axis of the result where their order is another."""
    rank = len(tensor.shape)
    if rank == len(order):
        return node.values.real(tensor, order)
    if order == plain(len(order)):
        return node.values.real(tensor, plain(rank))
    shape = (*(1,) * (len(order) - rank), *tensor.shape)
    if tensor.data is not None:
        data = np.ascontiguousarray(tensor.data.reshape(shape).transpose(order))
        value = node.graph.constant(data, tensor.name)
    else:
        value = node.values.reshaped(node.values.raw(tensor, plain(rank)), shape, tensor.name)
        value = node.add("Transpose", value, perm=order)
    if not tensor.dtype.is_integer:
        return value
    return node.values.dequantized(value, tensor.dtype, per_tensor(tensor), f"{tensor.name}.real")


def _unary(node: Node, kind: str, **attributes: Any) -> None:
    order = node.shared_order()
    value = node.add(kind, node.values.real(node.input(0), order), **attributes)
    node.finish(value, order, getattr(node.operator, "clamp", None))


@writes(*UNARY)
def unary(node: Node) -> None:
    """Functions without parameters."""
    _unary(node, UNARY[type(node.operator)])


@writes(LeakyRelu)
def leaky_relu(node: Node) -> None:
    """Slope ``alpha`` below zero."""
    _unary(node, "LeakyRelu", alpha=node.operator.alpha)


@writes(Clip)
def clip(node: Node) -> None:
    """Clamps reals, then quantises."""
    order, clamp = node.shared_order(), node.operator.clamp
    y = node.output
    value = node.values.real(node.input(0), order)
    if y.dtype.is_integer:
        clamp = node.real_clamp(clamp, per_tensor(y))
    node.finish(node.clamped(value, clamp), order, None)


@writes(Softmax)
def softmax(node: Node) -> None:
    """Along the Program's last axis, of ``beta`` times the input."""
    order = node.shared_order()
    value = node.values.real(node.input(0), order)
    if node.operator.beta != 1.0:
        value = node.add("Mul", value, node.floats(node.operator.beta, "beta"))
    value = node.add("Softmax", value, axis=order.index(len(order) - 1))
    node.finish(value, order, None)


@writes(LayerNorm)
def layer_norm(node: Node) -> None:
    """Along the last axis; integer gamma and beta become float32."""
    x, operator = node.input(0), node.operator
    order = plain(len(x.shape))
    gamma = np.ones(x.shape[-1]) if node.optional(1) is None else node.input(1).data
    beta = None if node.optional(2) is None else node.input(2).data
    if gamma is None or (beta is None and node.optional(2) is not None):
        node.refuse("gamma and beta must be constant")
    if operator.requant is not None:
        # The factor holds the scale of gamma: gamma.scale * 2**-10 / y.scale.
        (multiplier,), (shift,) = operator.requant.multiplier, operator.requant.shift
        fine = multiplier * 2.0 ** (shift - 31) * per_tensor(node.output).scalar_scale
        gamma = gamma * (fine * 2.0**LAYERNORM_FRACTION_BITS)
        beta = None if beta is None else beta * fine
    parameters = [node.floats(gamma, "gamma")]
    if beta is not None:
        parameters.append(node.floats(beta, "beta"))
    value = node.values.real(x, order)
    value = node.add("LayerNormalization", value, *parameters, axis=-1, epsilon=operator.epsilon)
    node.finish(value, order, operator.clamp)


@writes(ArgMax)
def arg_max(node: Node) -> None:
    """Of the integers, which are in the order of the reals."""
    x, axis = node.input(0), node.operator.axis
    value = node.values.raw(x, plain(len(x.shape)))
    value = node.add("ArgMax", value, axis=axis, keepdims=0)
    if node.operator.dtype is not DType.INT64:
        value = node.add("Cast", value, to=ELEMENT_TYPES[node.operator.dtype])
    node.define(value, plain(len(node.output.shape)))


@writes(Quantize, Requantize)
def quantize(node: Node) -> None:
    """Reals, given or meant, to another quantisation; halves go to even numbers."""
    order = node.shared_order()
    node.finish(node.values.real(node.input(0), order), order, None)


@writes(Dequantize)
def dequantize(node: Node) -> None:
    """The reals that the input means."""
    order, x, operator = node.shared_order(), node.input(0), node.operator
    quantization = Quantization.per_tensor(operator.scale, operator.zero_point)
    raw = node.values.raw(x, order)
    node.define(node.values.dequantized(raw, x.dtype, quantization, node.output.name), order)


@writes(Binarize)
def binarize(node: Node) -> None:
    """The function of the ``edgekit`` domain, on the reals that the input means.

    What the level means rounds to float32 where it is no power of two; quantised, it is the level.
    """
    order = node.shared_order()
    level = np.float64(per_tensor(node.output).scalar_scale) * node.operator.level
    if not level <= np.finfo(np.float32).max:
        node.refuse("its level times the scale of its output exceeds float32")
    scale = node.floats(float(np.float32(level)), "scale")
    real = node.values.real(node.input(0), order)
    value = node.graph.call("Binarize", real, scale, name=f"{node.name}.binarize")
    node.finish(value, order, None)


@writes(DynamicQuantize)
def dynamic_quantize(node: Node) -> None:
    """The steps of the operator, one node each, so that codes and scales are its own."""
    x = node.input(0)
    order = plain(len(x.shape))
    real, limit = node.values.real(x, order), node.floats(127.0, "limit")
    lowest, least = node.floats(-127.0, "lowest"), node.floats(node.operator.floor, "floor")
    largest = node.add("ReduceMax", node.add("Abs", real), node.integers([-1], "axes"))
    absmax = node.add("Max", largest, least)
    scaled = node.add("Mul", real, node.add("Div", limit, absmax))
    inside = node.add("Clip", scaled, lowest, limit)
    codes = node.add("Cast", node.add("Round", inside), to=TensorProto.INT8)
    node.define(codes, order)
    node.define(node.add("Div", absmax, limit), order, 1)
