"""Write quantisations into an ONNX graph as QuantizeLinear and DequantizeLinear nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from edgekit.quantize.observers import symmetric_quantization
from edgekit.quantize.points import COMPUTING, Points
from edgekit.quantize.recurrent import RECURRENT, recurrent_weights
from edgekit.quantize.scheme import TFLITE, Scheme

_ELEMENTWISE = ("Add", "Sub", "Mul", "MatMul")

Writer = Callable[[onnx_ir.Node, Tail, Mapping[str, Quantization]], None]
"""Quantises the constant operands of a node and of what fuses with it."""


def insert_quantization(
    graph: onnx_ir.Graph,
    points: Points,
    quantizations: Mapping[str, Quantization],
    scheme: Scheme = TFLITE,
    *,
    writers: Mapping[onnx_ir.Node, Writer] | None = None,
) -> None:
    """Quantise weights, biases, constant operands and the chosen activations, in place.

    Args:
        graph: an optimised float graph.
        points: the chosen activations.
        quantizations: of the chosen activations, by name.
        scheme: says whether biases and constant operands are quantised.
        writers: of nodes whose constants are quantised in another way.
    """
    writers = writers or {}
    constants: Writer = _constants if scheme.integer_bias else _weights
    absorbed: set[onnx_ir.Node] = set()
    for node in list(graph):
        if node in absorbed:
            continue
        if is_op(node, *COMPUTING):
            tail = tail_of(node)
            absorbed.update(tail.absorbed)
            writers.get(node, constants)(node, tail, quantizations)
        elif is_op(node, *RECURRENT):
            found = recurrent_weights(node, quantizations) if scheme.integer_bias else None
            for index, weights in enumerate(found or (), start=1):
                replace_weights(node, weights, index)
        elif is_op(node, "Concat"):
            shared = _joined(node, points, quantizations)
            for index, value in enumerate(node.inputs):
                array = const(value)
                if array is not None and shared is not None:
                    _dequantized(node, index, encode(array, shared), shared)
    first = graph[0]
    for value in points.values:
        _activation(first, value, quantizations[name_of(value)], points.readers.get(value))
    graph.sort()


def _joined(
    node: onnx_ir.Node, points: Points, quantizations: Mapping[str, Quantization]
) -> Quantization | None:
    """What a Concat's operands and result share; None where it stays in float."""
    result = quantizations.get(name_of(node.outputs[0]))
    for index, value in enumerate(node.inputs):
        if value is not None and (node, index) in points.readers.get(value, ()):
            return quantizations[name_of(value)]
    return result


def _constants(node: onnx_ir.Node, tail: Tail, quantizations: Mapping[str, Quantization]) -> None:
    """Quantise the constant operands of a computing node."""
    weights = const(find_input(node, 1))
    if is_op(node, "Conv", "ConvTranspose", "Gemm") and weights is not None:
        x_scale = quantizations[name_of(get_input(node, 0))].scalar_scale
        groups = get_int(node, "group", 1) if is_op(node, "ConvTranspose") else 1
        weights, bias = gemm_constants(node) if is_op(node, "Gemm") else _conv_constants(node)
        found = quantize_weights(weights, output_axis(node), x_scale, bias, groups=groups)
        replace_weights(node, found)
        if found.bias is not None:
            node.resize_inputs(3)
            node.replace_input_with(2, bias_value(node, found))
    elif is_op(node, "MatMul") and weights is not None and weights.ndim <= 2:
        x_scale = quantizations[name_of(get_input(node, 0))].scalar_scale
        bias = const(tail.bias)
        row = None if bias is None else bias.reshape(-1)
        found = _quantized_matrix(weights, x_scale, row)
        replace_weights(node, found)
        if found.bias is not None:
            adding = tail.absorbed[0]
            index = 0 if adding.inputs[0] is tail.bias else 1
            adding.replace_input_with(index, bias_value(adding, found))
    elif is_op(node, *_ELEMENTWISE):
        for index, value in enumerate(node.inputs):
            array = const(value)
            if array is not None:
                _dequantized(node, index, *quantize_constant(array))


def _weights(node: onnx_ir.Node, tail: Tail, quantizations: Mapping[str, Quantization]) -> None:
    """Quantise the weights of a computing node whose input is quantised; its bias stays float."""
    del tail  # Nothing is added in integers.
    if is_op(node, "Conv", "ConvTranspose", "Gemm"):
        constant = const(get_input(node, 1)) is not None
        if not constant or name_of(get_input(node, 0)) not in quantizations:
            return
        weights, bias = gemm_constants(node) if is_op(node, "Gemm") else _conv_constants(node)
        if is_op(node, "Gemm") and bias is not None:
            node.replace_input_with(2, add_constant(graph_of(node), f"{node.name}.bias", bias))
        replace_weights(node, quantize_weights(weights, output_axis(node), 1.0, None))
    elif is_op(node, "MatMul"):
        for index, other in ((0, 1), (1, 0)):
            array = const(get_input(node, index))
            if array is None or name_of(get_input(node, other)) not in quantizations:
                continue
            if index == 1 and array.ndim <= 2:
                replace_weights(node, _quantized_matrix(array, 1.0, None))
            else:
                quantization = symmetric_quantization(float(array.min()), float(array.max()))
                _dequantized(node, index, encode(array, quantization), quantization)


def _quantized_matrix(weights: Array, x_scale: float, bias: Array | None) -> QuantizedWeights:
    """Weights of a product, per column; a vector is a matrix with one column."""
    matrix = weights.reshape(weights.shape[0], -1)
    found = quantize_weights(matrix, 1, x_scale, bias)
    if weights.ndim == 1:
        found = replace(found, data=found.data.reshape(-1), axis=0)
    return found


def _conv_constants(node: onnx_ir.Node) -> tuple[Array, Array | None]:
    weights = const(get_input(node, 1))
    assert weights is not None
    return weights, const(find_input(node, 2))


def gemm_constants(node: onnx_ir.Node) -> tuple[Array, Array | None]:
    """B and C of Gemm with alpha and beta multiplied in, C as a row."""
    weights, bias = _conv_constants(node)
    weights = weights * np.float32(get_float(node, "alpha", 1.0))
    if bias is not None:
        outputs = weights.shape[output_axis(node)]
        scaled = bias.reshape(-1) * np.float32(get_float(node, "beta", 1.0))
        bias = np.broadcast_to(scaled, (outputs,))
    for name in ("alpha", "beta"):
        node.attributes.pop(name, None)
    return weights, bias


def output_axis(node: onnx_ir.Node) -> int:
    """The axis of the weights that counts output channels."""
    if is_op(node, "Gemm"):
        return 0 if get_int(node, "transB", 0) else 1
    return 1 if is_op(node, "ConvTranspose") else 0


def replace_weights(node: onnx_ir.Node, found: QuantizedWeights, index: int = 1) -> None:
    """Let a node read int8 weights behind DequantizeLinear."""
    graph, label = graph_of(node), f"{node.name}.{'weight' if index == 1 else 'recurrence'}"
    # One scale is given as a number: ONNX takes a list of one for scales per channel.
    scale = found.scale.reshape(()) if found.scale.size == 1 else found.scale
    inputs = [
        add_constant(graph, f"{label}_quantized", found.data),
        add_constant(graph, f"{label}_scale", scale),
        add_constant(graph, f"{label}_zero_point", np.zeros_like(scale, np.int8)),
    ]
    attributes = {"axis": found.axis} if scale.ndim else {}
    name = f"{label}_dequantized"
    value = insert(node, "DequantizeLinear", inputs, attributes, name=name)
    node.replace_input_with(index, value)


def bias_value(node: onnx_ir.Node, found: QuantizedWeights) -> onnx_ir.Value:
    """An int32 bias behind DequantizeLinear."""
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


def _activation(
    first: onnx_ir.Node,
    value: onnx_ir.Value,
    quantization: Quantization,
    chosen: Sequence[tuple[onnx_ir.Node, int]] | None,
) -> None:
    """Let the chosen readers of a value, or all and the user of an output, see it quantised."""
    graph, name = graph_of(first), name_of(value)
    scale, zero_point = _parameters(graph, name, quantization)
    readers = list(value.uses()) if chosen is None else chosen
    is_output = value.is_graph_output() and chosen is None
    producer = value.producer()
    anchor, after = (first, False) if producer is None else (producer, True)
    quantized = insert(
        anchor, "QuantizeLinear", [value, scale, zero_point], name=f"{name}.quantized", after=after
    )
    quantize = quantized.producer()
    assert quantize is not None
    inputs = [quantized, scale, zero_point]
    result = insert(quantize, "DequantizeLinear", inputs, name=f"{name}.dequantized", after=True)
    for node, index in readers:
        node.replace_input_with(index, result)
    if is_output:
        value.name = unique_name(graph, f"{name}.real")
        graph.outputs[list(graph.outputs).index(value)] = result
        result.name = name
        result.shape, result.type = value.shape, value.type
