"""Readers of builtin operators that compute element by element or along one axis."""

from __future__ import annotations

import math
from typing import Any

from edgekit.program.fixed_point import FLOAT_ACTIVATIONS, Activation, float_activation_clamp
from edgekit.program.ir import DType, Tensor
from edgekit.program.operators.activation import Clip, HardSwish, LeakyRelu, Sigmoid, Tanh
from edgekit.program.operators.elementwise import Add, Mul, Sub
from edgekit.program.operators.normalization import ArgMax, Softmax
from edgekit.program.operators.quantization import Dequantize, Quantize, Requantize
from edgekit.program.tflite.node import Node
from edgekit.program.tflite.registry import BuiltinReader, builtin


def _pair_reader(kind: Any) -> BuiltinReader:
    """The reader of a sum, difference or product."""

    def read(node: Node) -> None:
        a, b = node.input(0), node.input(1)
        if not node.is_quantized:
            node.emit(kind(clamp=float_activation_clamp(node.activation())), a, b)
            return
        if node.output.dtype is DType.INT16 and "pot_scale_int16" in node.fields:
            _require_general_scales(node, a, b)
        operator = node.make(
            kind.quantized,
            a=node.per_tensor(a),
            b=node.per_tensor(b),
            y=node.per_tensor(node.output),
            dtype=node.output.dtype,
            activation=node.activation(),
        )
        node.emit(operator, a, b)

    return read


def _require_general_scales(node: Node, a: Tensor, b: Tensor) -> None:
    """Refuse the 16-bit scheme for scales that are powers of two, which rounds otherwise."""
    scales = [node.per_tensor(t).scalar_scale for t in (a, b, node.output)]
    if node.option("pot_scale_int16") and all(math.frexp(s)[0] == 0.5 for s in scales):
        node.unsupported("int16 with power-of-two scales and pot_scale_int16")


builtin("ADD", inputs=2, options="AddOptions")(_pair_reader(Add))
builtin("SUB", inputs=2, options="SubOptions")(_pair_reader(Sub))
builtin("MUL", inputs=2, options="MulOptions")(_pair_reader(Mul))


def _clip_reader(activation: Activation) -> BuiltinReader:
    """The reader of a ReLU with the bounds of `activation`."""
    low, high = FLOAT_ACTIVATIONS[activation]

    def read(node: Node) -> None:
        x = node.input(0)
        if not node.is_quantized:
            node.emit(Clip((low, high)), x)
            return
        operator = node.make(
            Clip.quantized,
            low=low,
            high=high,
            x=node.per_tensor(x),
            y=node.per_tensor(node.output),
            dtype=node.output.dtype,
        )
        node.emit(operator, x)

    return read


builtin("RELU")(_clip_reader("relu"))
builtin("RELU6")(_clip_reader("relu6"))
builtin("RELU_N1_TO_1")(_clip_reader("relu_n1_to_1"))


def _unary(node: Node, kind: Any, **fields: Any) -> None:
    """Emit an operator of class `kind` with one input, in its integer or float32 form."""
    x = node.input(0)
    if not node.is_quantized:
        node.emit(kind(**fields), x)
        return
    operator = node.make(
        kind.quantized,
        x=node.per_tensor(x),
        y=node.per_tensor(node.output),
        dtype=node.output.dtype,
        **fields,
    )
    node.emit(operator, x)


@builtin("LEAKY_RELU", options="LeakyReluOptions")
def leaky_relu(node: Node) -> None:
    """Slope ``alpha`` below zero."""
    _unary(node, LeakyRelu, alpha=_finite(node, "alpha"))


@builtin("HARD_SWISH")
def hard_swish(node: Node) -> None:
    """int8 and float32."""
    if node.output.dtype is DType.INT16:
        node.unsupported("int16; supported are int8, float32")
    _unary(node, HardSwish)


@builtin("LOGISTIC")
def logistic(node: Node) -> None:
    """Sigmoid."""
    _unary(node, Sigmoid)


@builtin("TANH")
def tanh(node: Node) -> None:
    """Hyperbolic tangent."""
    _unary(node, Tanh)


@builtin("SOFTMAX", options="SoftmaxOptions")
def softmax(node: Node) -> None:
    """Along the last axis."""
    _unary(node, Softmax, beta=_finite(node, "beta"))


def _finite(node: Node, option: str) -> float:
    value = float(node.option(option))
    if not math.isfinite(value):
        node.invalid(f"{option} is {value}, must be finite")
    return value


@builtin("ARG_MAX", inputs=2)
def arg_max(node: Node) -> None:
    """x, axis; the first of several largest."""
    x = node.input(0)
    axis = node.axis(node.integer(1), len(x.shape))
    node.emit(ArgMax(axis, dtype=node.output.dtype), x)


@builtin("QUANTIZE")
def quantize(node: Node) -> None:
    """From float32, or from one quantisation to another."""
    x, y = node.input(0), node.output
    if x.dtype is DType.FLOAT32:
        node.emit(Quantize.quantized(y=node.per_tensor(y), dtype=y.dtype), x)
        return
    quantizations = {"x": node.per_tensor(x), "y": node.per_tensor(y)}
    node.emit(node.make(Requantize.quantized, dtype=y.dtype, **quantizations), x)


@builtin("DEQUANTIZE")
def dequantize(node: Node) -> None:
    """To float32."""
    x = node.input(0)
    node.emit(Dequantize.quantized(x=node.per_tensor(x)), x)
