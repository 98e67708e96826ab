"""Who reads spikes as they are: movement, pools, products of their own, and counts."""

from __future__ import annotations

import math

import onnx_ir

from edgekit.model import geometry
from edgekit.model.nodes import (
    const,
    get_input,
    get_int,
    is_op,
    name_of,
    shape_of,
)
from edgekit.program.ir import DType, Quantization
from edgekit.program.lowering.arrangement import CHANNELS_LAST, Arrangement, image_pair
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.spiking_membranes import held_by, refuse_reader
from edgekit.program.lowering.spiking_sets import MOVING, is_neuron
from edgekit.program.lowering.spiking_sums import (
    Sum,
    Term,
    own_bias,
    spread_channels,
    weighs,
)
from edgekit.program.lowering.spiking_terms import Accumulation
from edgekit.program.lowering.spiking_weights import pool_window
from edgekit.program.lowering.table import Lowering
from edgekit.program.lowering.value import Value
from edgekit.program.operators.elementwise import Add
from edgekit.program.operators.spiking_values import (
    SpikeCount,
    SpikeMaxPool2D,
    SpikeSumPool2D,
)


def reading(low: Lowerer, node: onnx_ir.Node) -> Lowering | None:
    """The lowering of a node that can read a bit set as it is; None where it wants numbers."""
    if any(v in low.declared.carried for v in node.inputs) and is_op(node, "Add"):
        return count
    if not is_op(node, *MOVING) and not is_neuron(node) and _reads_membranes(low, node):
        return refuse_reader
    source = node.inputs[0] if node.inputs else None
    if source not in low.spikes:
        return None
    known = low.sets.arrangement(node.outputs[0]) is not None
    if is_op(node, *MOVING):
        return move if known else None
    if is_op(node, "MaxPool"):
        return max_pool if known else None
    if low.is_quantised:
        return count_pool if _is_count_pool(low, node) else None
    return real_product if is_op(node, "MatMul", "Gemm", "Conv") and _is_plain(node) else None


def _reads_membranes(low: Lowerer, node: onnx_ir.Node) -> bool:
    return any(v is not None and held_by(low, v) is not None for v in node.inputs)


def move(low: Lowerer, node: onnx_ir.Node) -> None:
    """The same bits under other indices."""
    numbering = low.sets.arrangement(node.outputs[0])
    assert numbering is not None
    low.spikes[node.outputs[0]] = Value(low.spikes[get_input(node, 0)].tensor, numbering)


def max_pool(low: Lowerer, node: onnx_ir.Node) -> None:
    """Whether any neuron of a window spikes."""
    source, numbering = low.spikes[get_input(node, 0)], low.sets.arrangement(node.outputs[0])
    assert numbering is not None
    shape = source.shape
    window = geometry.window(node, shape[2:], geometry.kernel_of(node, len(shape) - 2))
    operator = SpikeMaxPool2D(
        input_shape=(*image_pair(shape[2:], 1), shape[1]),
        kernel=image_pair(window.kernel, 1),
        stride=image_pair(window.stride, 1),
        padding=(*image_pair(window.before, 0), *image_pair(window.after, 0)),
    )
    tensor = low.emit(node, operator, source.tensor, name=name_of(node.outputs[0]))
    low.spikes[node.outputs[0]] = Value(tensor, numbering)


def _is_count_pool(low: Lowerer, node: onnx_ir.Node) -> bool:
    """Whether a node counts, or averages, the spikes of windows of every channel."""
    shape = low.spikes[get_input(node, 0)].shape
    if len(shape) not in CHANNELS_LAST or not low.spikes[get_input(node, 0)].arrangement.lies_as(
        CHANNELS_LAST[len(shape)]
    ):
        return False
    if is_op(node, "AveragePool"):
        return True
    weights = const(get_input(node, 1)) if is_op(node, "Conv") else None
    if weights is None or len(node.inputs) > 2:
        return False
    once = get_int(node, "group", 1) == shape[1] == len(weights)
    window = geometry.window(node, shape[2:], geometry.conv_kernel(node, weights.shape))
    return once and bool((weights == 1).all()) and set(window.dilation) == {1}


def count_pool(low: Lowerer, node: onnx_ir.Node) -> None:
    """Counts of windows in int8, worth 1, or the share of one place in a mean."""
    source, result = low.spikes[get_input(node, 0)], node.outputs[0]
    shape = source.shape
    if is_op(node, "AveragePool"):
        window, _ = pool_window(node)
        worth = 1 / math.prod(window.kernel)
    else:
        kernel = geometry.conv_kernel(node, shape_of(get_input(node, 1)) or ())
        window, worth = geometry.window(node, shape[2:], kernel), 1.0
    operator = SpikeSumPool2D(
        input_shape=(*image_pair(shape[2:], 1), shape[1]),
        kernel=image_pair(window.kernel, 1),
        stride=image_pair(window.stride, 1),
        padding=(*image_pair(window.before, 0), *image_pair(window.after, 0)),
        dtype=DType.INT8,
    )
    meaning = Quantization.per_tensor(worth)
    tensor = low.emit(node, operator, source.tensor, name=name_of(result), quantization=meaning)
    axes = CHANNELS_LAST[len(shape)]
    numbering = Arrangement.permuted((*shape[:2], *window.output), axes)
    low.define(result, Value(low.view(node, tensor, numbering.stored), numbering, meaning))


def _is_plain(node: onnx_ir.Node) -> bool:
    """Whether a product of its own is nothing but its products, and a constant row."""
    return weighs(node) and shape_of(node.outputs[0]) is not None


def real_product(low: Lowerer, node: onnx_ir.Node) -> None:
    """A float product of spikes that is no population's alone."""
    result = node.outputs[0]
    shape = shape_of(result)
    assert shape is not None
    axes = CHANNELS_LAST.get(len(shape)) if is_op(node, "Conv") else None
    numbering = Arrangement.plain(shape) if axes is None else Arrangement.permuted(shape, axes)
    terms = (Term(result, node),)
    summed = Accumulation(low, node, numbering, is_integer=False)
    tensor = summed.add(Sum(terms, (), frozenset({node}), is_integer=False)).tensor
    bias = own_bias(node)
    if bias is not None:
        row = low.constant(spread_channels(bias, result)[summed.order], f"{node.name}.bias")
        stored = low.tensors[tensor].shape
        tensor = low.emit(node, Add(), tensor, low.view(node, row, stored), name=name_of(result))
    low.define(result, Value(low.view(node, tensor, numbering.stored), numbering))


def count(low: Lowerer, node: onnx_ir.Node) -> None:
    """The running count of a population's spikes, which is state."""
    read = next(v for v in node.inputs if v in low.declared.carried)
    spikes = next(v for v in node.inputs if v is not read)
    assert read is not None
    assert spikes is not None
    found = low.spikes[spikes]
    neurons = math.prod(found.shape)
    dtype = DType.INT32 if low.is_quantised else DType.FLOAT32
    state = low.state_tensor(name_of(read), (1, neurons), dtype)
    operator = SpikeCount(neurons=neurons)
    tensor = low.emit(node, operator, found.tensor, state, name=name_of(node.outputs[0]))
    low.carry(state, tensor)
    stored = low.view(node, tensor, found.arrangement.stored)
    low.define(node.outputs[0], Value(stored, found.arrangement))
