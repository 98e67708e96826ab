"""Writers of operators that compute element by element or along one axis."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.program.fixed_point import Activation
from edgekit.program.ir import DType
from edgekit.program.operators.activation import Clip, HardSwish, LeakyRelu, Sigmoid, Tanh
from edgekit.program.operators.elementwise import Add, Mul, Sub
from edgekit.program.operators.normalization import ArgMax, Softmax
from edgekit.program.operators.quantization import Dequantize, Quantize, Requantize
from edgekit.program.tflite.schema import TENSOR_TYPES
from edgekit.program.tflite.writer.file import Inputs, Writing
from edgekit.program.tflite.writer.registry import writes

RELUS: dict[str, Activation] = {
    "RELU": "relu",
    "RELU6": "relu6",
    "RELU_N1_TO_1": "relu_n1_to_1",
}
"""Builtin operators that only clamp."""

LOWEST_EXPONENT = -15
"""Of the factors of hard swish."""

BROADCAST_RANK = 4
"""Highest rank that differences broadcast in since their first version."""


@writes(Add)
def add(node: Writing) -> None:
    """a, b; the general 16-bit scheme, not the one for powers of two."""
    _sum(node, "ADD", since=1)


@writes(Sub)
def sub(node: Writing) -> None:
    """a, b; the general 16-bit scheme, not the one for powers of two."""
    a, b = node.input(0), node.input(1)
    wide = a.shape != b.shape and max(len(a.shape), len(b.shape)) > BROADCAST_RANK
    _sum(node, "SUB", since=3 if wide else 1)


def _sum(node: Writing, builtin: str, *, since: int) -> None:
    node.need_scales()
    quant = node.operator.quant
    options = {
        "fused_activation": node.activation(node.operator.clamp if quant is None else quant.clamp),
        "pot_scale_int16": False,
    }
    inputs: Inputs = [node.input(0), node.input(1)]
    node.emit(builtin, inputs, (f"{builtin.capitalize()}Options", options), since=since)


@writes(Mul)
def mul(node: Writing) -> None:
    """a, b."""
    node.need_scales()
    requant = node.operator.requant
    # A factor of 1 or more has a shift above 0.
    since = 3 if requant is not None and requant.shift[0] > 0 else 1
    options = {"fused_activation": node.activation(node.operator.clamp)}
    node.emit("MUL", [node.input(0), node.input(1)], ("MulOptions", options), since=since)


@writes(Clip)
def clip(node: Writing) -> None:
    """One of the ReLUs."""
    node.need_scales()
    clamp = node.operator.clamp
    for builtin, activation in RELUS.items():
        if clamp == node.clamp_of(activation):
            node.emit(builtin, [node.input(0)])
            return
    node.refuse(f"its clamp {list(clamp)} is no {', '.join(RELUS)}")


def _unary(*builtin: str) -> Callable[[Writing], None]:
    """The writer of an operator of one input without options."""
    (name,) = builtin

    def write(node: Writing) -> None:
        node.need_scales()
        node.emit(name, [node.input(0)])

    return write


writes(Sigmoid)(_unary("LOGISTIC"))
writes(Tanh)(_unary("TANH"))
writes(Dequantize)(_unary("DEQUANTIZE"))


@writes(HardSwish)
def hard_swish(node: Writing) -> None:
    """int8 and float32."""
    node.need_scales()
    exponents = (node.operator.output_exponent, node.operator.reluish_exponent)
    if min(exponents) < LOWEST_EXPONENT:
        node.refuse(
            f"its factors have exponents {list(exponents)}; TFLite's kernel shifts 16 bits, by "
            f"{-LOWEST_EXPONENT} at most"
        )
    node.emit("HARD_SWISH", [node.input(0)])


@writes(LeakyRelu)
def leaky_relu(node: Writing) -> None:
    """Slope ``alpha`` below zero."""
    node.need_scales()
    node.emit("LEAKY_RELU", [node.input(0)], ("LeakyReluOptions", {"alpha": node.operator.alpha}))


@writes(Softmax)
def softmax(node: Writing) -> None:
    """Along the last axis."""
    node.need_scales()
    node.emit("SOFTMAX", [node.input(0)], ("SoftmaxOptions", {"beta": node.operator.beta}))


@writes(ArgMax)
def arg_max(node: Writing) -> None:
    """x, axis."""
    axis = node.integers([node.operator.axis], "axis", scalar=True)
    options = {"output_type": TENSOR_TYPES.index(node.operator.dtype)}
    node.emit("ARG_MAX", [node.input(0), axis], ("ArgMaxOptions", options))


@writes(Quantize, Requantize)
def quantize(node: Writing) -> None:
    """From float32, or from one quantisation to another."""
    for tensor in (node.input(0), node.outputs[0]):
        if tensor.dtype.is_integer:
            node.per_tensor(tensor)
    since = 2 if node.outputs[0].dtype is DType.INT16 else 1
    node.emit("QUANTIZE", [node.input(0)], since=since)
