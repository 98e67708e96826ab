"""Quantisation and its reverse: ONNX's own operators and those of the ``edgekit`` domain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.domain import DEQUANTIZERS, DOMAIN
from edgekit.model.geometry import check, check_supported
from edgekit.model.nodes import const, get_float, get_input, label, name_of
from edgekit.program.ir import DType, Quantization
from edgekit.program.lowering import affine, coded
from edgekit.program.lowering.arrangement import Arrangement
from edgekit.program.lowering.lowerer import Dynamic, Lowerer
from edgekit.program.lowering.table import lowering
from edgekit.program.lowering.value import Value, is_byte
from edgekit.program.operators.elementwise import Mul
from edgekit.program.operators.quantization import (
    Binarize,
    Dequantize,
    DynamicQuantize,
    Quantize,
)

BINARY_LEVEL = 64
"""What a sign is in int8. The bias of the next layer is stored in steps of its input's scale times
that of its weights; binary activations have a large scale, so with ±1 those steps would be coarser
than the layer's output. A power of two divides the scale exactly."""

SMALLEST_BINARY_SCALE = 2.0**-120
"""The :data:`BINARY_LEVEL`-th part is still a normal float32."""


@lowering("QuantizeLinear")
def quantize_linear(low: Lowerer, node: onnx_ir.Node) -> None:
    """Nothing where the input has this quantisation already, else requantize or quantize."""
    x, result = low.value(get_input(node, 0)), node.outputs[0]
    target = affine.activation_quantization(node)
    if x.quantization is not None:
        x = low.requantized(node, x, target)
        low.define(result, replace(x, quantization=None))
        return
    operator = Quantize.quantized(y=target)
    tensor = low.emit(node, operator, x.tensor, name=name_of(result), quantization=target)
    low.define(result, Value(tensor, x.arrangement))


@lowering("DequantizeLinear")
def dequantize_linear(low: Lowerer, node: onnx_ir.Node) -> None:
    """Remember the quantisation; readers that need reals ask for a dequantize operation."""
    source, result = get_input(node, 0), node.outputs[0]
    if _coded_constant(low, node):
        return
    constant = affine.dequantized_constant(node)
    if constant is not None:
        quantization = constant.quantization
        assert quantization is not None
        if constant.data.dtype == np.int8 and quantization.axis is None:
            tensor = low.constant(constant.data, name_of(result), quantization)
            plain = Arrangement.plain(constant.data.shape)
            low.define(result, Value(tensor, plain, quantization))
        else:
            real = affine.real_data(constant)
            low.define(
                result,
                Value(low.constant(real, name_of(result)), Arrangement.plain(real.shape)),
            )
        return
    x = low.value(source)
    found = low.tensors[x.tensor]
    if found.dtype != DType.INT8 or not (source.dtype is None or is_byte(source.dtype)):
        raise UnsupportedError(
            f"{label(node)}: its input is {found.dtype}, supported: int8 and uint8"
        )
    assert const(source) is None
    low.define(result, replace(x, quantization=affine.activation_quantization(node)))


@lowering(*DEQUANTIZERS, domain=DOMAIN)
def dequantize_coded(low: Lowerer, node: onnx_ir.Node) -> None:
    """The reals of coded weights, for readers that do not take the integers."""
    check_supported(_coded_constant(low, node), node, "its inputs must be constant")


def _coded_constant(low: Lowerer, node: onnx_ir.Node) -> bool:
    """Define what coded weights mean; False where they are none."""
    found = coded.read(node.outputs[0])
    if found is None:
        return False
    real = affine.real_data(found)
    name = name_of(node.outputs[0])
    low.define(node.outputs[0], Value(low.constant(real, name), Arrangement.plain(real.shape)))
    return True


@lowering("Binarize", domain=DOMAIN)
def binarize(low: Lowerer, node: onnx_ir.Node) -> None:
    """The signs of quantised values, worth one scale: ±:data:`BINARY_LEVEL` of its parts."""
    x, result = low.value(get_input(node, 0)), node.outputs[0]
    scale = const(get_input(node, 1))
    check(
        scale is not None
        and scale.dtype == np.float32
        and scale.size == 1
        and bool((np.isfinite(scale) & (scale >= SMALLEST_BINARY_SCALE)).all()),
        node,
        f"the scale must be one constant of float32, {SMALLEST_BINARY_SCALE} at least",
    )
    assert scale is not None
    check_supported(x.quantization is not None, node, "its input must be quantised")
    assert x.quantization is not None
    y = Quantization.per_tensor(float(scale.reshape(())) / BINARY_LEVEL)
    operator = Binarize.quantized(x=x.quantization, level=BINARY_LEVEL)
    tensor = low.emit(node, operator, x.tensor, name=name_of(result), quantization=y)
    low.define(result, Value(tensor, x.arrangement, y))


@lowering("DynamicQuantizeDequantize", domain=DOMAIN)
def dynamic_quantize(low: Lowerer, node: onnx_ir.Node) -> None:
    """Codes and scales for matrix products; what both mean for any other reader."""
    x, result = low.value(get_input(node, 0)), node.outputs[0]
    name = name_of(result)
    plain = low.plain(node, low.real(node, x))
    check(len(plain.shape) >= 1, node, "its input has no axis")
    operator = DynamicQuantize(get_float(node, "floor", DynamicQuantize().floor))
    names = [f"{name}.codes", f"{name}.scale"]
    codes, scale = low.emit_all(node, operator, plain.tensor, names=names)
    low.dynamic[result] = Dynamic(codes, scale)
    whole = low.emit(node, Dequantize(1.0, 0), codes, name=f"{name}.integers")
    low.define_plain(result, low.emit(node, Mul(), whole, scale, name=name))
