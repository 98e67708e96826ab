"""QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.nodes import const, get_input, label, name_of
from edgekit.program.ir import DType
from edgekit.program.lowering import affine
from edgekit.program.lowering.arrangement import Arrangement
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.table import lowering
from edgekit.program.lowering.value import Value, is_byte
from edgekit.program.operators.quantization import Quantize


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
