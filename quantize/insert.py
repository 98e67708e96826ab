"""Write quantisations into an ONNX graph as QuantizeLinear and DequantizeLinear nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir

from edgekit.model.nodes import (
    Array,
    add_constant,
    const,
    find_input,
    get_float,
    get_input,
    get_int,
    graph_of,
    insert,
    is_op,
    name_of,
    unique_name,
)
from edgekit.program.ir import Quantization
from edgekit.program.lowering.fusion import Tail, tail_of
from edgekit.quantize.constants import QuantizedWeights, encode, quantize_constant, quantize_weights
from edgekit.quantize.points import COMPUTING, Points

_ELEMENTWISE = ("Add", "Sub", "Mul", "MatMul")


def insert_quantization(
    graph: onnx_ir.Graph, points: Points, quantizations: Mapping[str, Quantization]
) -> None:
    """Quantise weights, biases, constant operands and the chosen activations, in place.

    Args:
        graph: an optimised float graph.
        points: the chosen activations.
        quantizations: of the chosen activations, by name.
    """
    absorbed: set[onnx_ir.Node] = set()
    for node in list(graph):
        if node in absorbed:
            continue
        if is_op(node, *COMPUTING):
            tail = tail_of(node)
            absorbed.update(tail.absorbed)
            _constants(node, tail, quantizations)
        elif is_op(node, "Concat"):
            shared = quantizations[name_of(node.outputs[0])]
            for index, value in enumerate(node.inputs):
                array = const(value)
                if array is not None:
                    _dequantized(node, index, encode(array, shared), shared)
    first = graph[0]
    for value in points.values:
        _activation(first, value, quantizations[name_of(value)])
    graph.sort()


def _constants(node: onnx_ir.Node, tail: Tail, quantizations: Mapping[str, Quantization]) -> None:
    """Quantise the constant operands of a computing node."""
    weights = const(find_input(node, 1))
    if is_op(node, "Conv", "ConvTranspose", "Gemm") and weights is not None:
        x_scale = quantizations[name_of(get_input(node, 0))].scalar_scale
        groups = get_int(node, "group", 1) if is_op(node, "ConvTranspose") else 1
        weights, bias = _gemm_constants(node) if is_op(node, "Gemm") else _conv_constants(node)
        found = quantize_weights(weights, _output_axis(node), x_scale, bias, groups=groups)
        _replace_weights(node, found)
        if found.bias is not None:
            node.resize_inputs(3)
            node.replace_input_with(2, _bias_value(node, found))
    elif is_op(node, "MatMul") and weights is not None and weights.ndim <= 2:
        x_scale = quantizations[name_of(get_input(node, 0))].scalar_scale
        bias = const(tail.bias)
        row = None if bias is None else bias.reshape(-1)
        # A vector is a matrix with one column.
        matrix = weights.reshape(weights.shape[0], -1)
        found = quantize_weights(matrix, 1, x_scale, row)
        if weights.ndim == 1:
            found = replace(found, data=found.data.reshape(-1), axis=0)
        _replace_weights(node, found)
        if found.bias is not None:
            adding = tail.absorbed[0]
            index = 0 if adding.inputs[0] is tail.bias else 1
            adding.replace_input_with(index, _bias_value(adding, found))
    elif is_op(node, *_ELEMENTWISE):
        for index, value in enumerate(node.inputs):
            array = const(value)
            if array is not None:
                _dequantized(node, index, *quantize_constant(array))


def _conv_constants(node: onnx_ir.Node) -> tuple[Array, Array | None]:
    weights = const(get_input(node, 1))
    assert weights is not None
    return weights, const(find_input(node, 2))


def _gemm_constants(node: onnx_ir.Node) -> tuple[Array, Array | None]:
    """B and C of Gemm with alpha and beta multiplied in, C as a row."""
    weights, bias = _conv_constants(node)
    weights = weights * np.float32(get_float(node, "alpha", 1.0))
    if bias is not None:
        outputs = weights.shape[_output_axis(node)]
        scaled = bias.reshape(-1) * np.float32(get_float(node, "beta", 1.0))
        bias = np.broadcast_to(scaled, (outputs,))
    for name in ("alpha", "beta"):
        node.attributes.pop(name, None)
    return weights, bias


def _output_axis(node: onnx_ir.Node) -> int:
    if is_op(node, "Gemm"):
        return 0 if get_int(node, "transB", 0) else 1
    return 1 if is_op(node, "ConvTranspose") else 0


def _replace_weights(node: onnx_ir.Node, found: QuantizedWeights) -> None:
    graph = graph_of(node)
    # One scale is given as a number: ONNX takes a list of one for scales per channel.
    scale = found.scale.reshape(()) if found.scale.size == 1 else found.scale
    inputs = [
        add_constant(graph, f"{node.name}.weight_quantized", found.data),
        add_constant(graph, f"{node.name}.weight_scale", scale),
        add_constant(graph, f"{node.name}.weight_zero_point", np.zeros_like(scale, np.int8)),
    ]
    attributes = {"axis": found.axis} if scale.ndim else {}
    name = f"{node.name}.weight_dequantized"
    value = insert(node, "DequantizeLinear", inputs, attributes, name=name)
    node.replace_input_with(1, value)


def _bias_value(node: onnx_ir.Node, found: QuantizedWeights) -> onnx_ir.Value:
    graph = graph_of(node)
    assert found.bias is not None
    inputs = [
        add_constant(graph, f"{node.name}.bias_quantized", found.bias),
        add_constant(graph, f"{node.name}.bias_scale", found.bias_scale),
        add_constant(graph, f"{node.name}.bias_zero_point", np.zeros_like(found.bias)),
    ]
    name = f"{node.name}.bias_dequantized"
    return insert(node, "DequantizeLinear", inputs, {"axis": 0}, name=name)


def _parameters(
    graph: onnx_ir.Graph, name: str, quantization: Quantization
) -> tuple[onnx_ir.Value, onnx_ir.Value]:
    return (
        add_constant(graph, f"{name}.scale", np.array(quantization.scalar_scale, np.float32)),
        add_constant(
            graph, f"{name}.zero_point", np.array(quantization.scalar_zero_point, np.int8)
        ),
    )


def _dequantized(node: onnx_ir.Node, index: int, codes: Array, quantization: Quantization) -> None:
    """Replace a constant input by its codes behind DequantizeLinear."""
    graph, name = graph_of(node), f"{node.name}.input_{index}"
    scale, zero_point = _parameters(graph, name, quantization)
    stored = add_constant(graph, f"{name}.quantized", codes)
    inputs = [stored, scale, zero_point]
    value = insert(node, "DequantizeLinear", inputs, name=f"{name}.dequantized")
    node.replace_input_with(index, value)


def _activation(first: onnx_ir.Node, value: onnx_ir.Value, quantization: Quantization) -> None:
    """Let every reader of a value, and the user of an output, see it quantised."""
    graph, name = graph_of(first), name_of(value)
    scale, zero_point = _parameters(graph, name, quantization)
    readers, is_output = list(value.uses()), value.is_graph_output()
    producer = value.producer()
    anchor, after = (first, False) if producer is None else (producer, True)
    quantized = insert(
        anchor, "QuantizeLinear", [value, scale, zero_point], name=f"{name}.quantized", after=after
    )
    quantize = quantized.producer()
    assert quantize is not None
    inputs = [quantized, scale, zero_point]
    result = insert(quantize, "DequantizeLinear", inputs, name=f"{name}.dequantized", after=True)
    for use in readers:
        use.node.replace_input_with(use.idx, result)
    if is_output:
        value.name = unique_name(graph, f"{name}.real")
        graph.outputs[list(graph.outputs).index(value)] = result
        result.name = name
        result.shape, result.type = value.shape, value.type
