"""int8 weights of LSTM and GRU, which a Model has as float values on their grid."""

from __future__ import annotations

import onnx_ir

from edgekit.model.model import Model
from edgekit.model.nodes import get_input, is_op, name_of
from edgekit.model.passes import optimize
from edgekit.program.ir import Quantization
from edgekit.program.lowering import LOWERINGS
from edgekit.program.lowering.affine import (
    MOVEMENT,
    activation_quantization,
    target_quantization,
)
from edgekit.quantize.insert import replace_weights
from edgekit.quantize.recurrent import RECURRENT, recurrent_weights


def encode_recurrent_weights(model: Model) -> Model:
    """Write the weights of recurrent nodes between quantised activations as int8.

    Exporters put the gates into ONNX's order, which leaves no quantiser in front of the weights.
    They are multiples of a scale per row already, the largest 127 of it, so encoding them again
    gives the codes that were trained.

    Args:
        model: captured from a frozen network; not changed.
    """
    if not any(is_op(node, *RECURRENT) for node in model.ir.graph):
        return model
    model = optimize(model, keep=LOWERINGS)
    for node in list(model.ir.graph):
        if not is_op(node, *RECURRENT):
            continue
        x = get_input(node, 0)
        known = {x: _source_quantization(x)}
        known.update({output: target_quantization(output) for output in node.outputs[:2]})
        quantizations = {name_of(v): q for v, q in known.items() if q is not None and v.name}
        for index, weights in enumerate(recurrent_weights(node, quantizations) or (), start=1):
            replace_weights(node, weights, index)
    model.ir.graph.sort()
    return model


def _source_quantization(value: onnx_ir.Value) -> Quantization | None:
    """What a value's integers mean, behind any movement of them."""
    producer = value.producer()
    while producer is not None and is_op(producer, *MOVEMENT):
        producer = get_input(producer, 0).producer()
    if producer is None or not is_op(producer, "DequantizeLinear"):
        return None
    return activation_quantization(producer)
