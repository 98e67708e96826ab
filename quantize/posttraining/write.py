"""Write quantised weights into the graph, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir

from edgekit.formats import Coded, Format
from edgekit.model.coded import replace_weights as replace_coded_weights
from edgekit.model.domain import DOMAIN, VERSION
from edgekit.model.nodes import (
    Array,
    add_constant,
    get_input,
    graph_of,
    is_op,
    name_of,
    unique_name,
)
from edgekit.program.ir import Quantization
from edgekit.program.lowering.fusion import Tail
from edgekit.quantize.constants import QuantizedWeights
from edgekit.quantize.insert import Writer, bias_value, output_axis, replace_weights
from edgekit.quantize.posttraining.layers import Layer, Tie


@dataclass(frozen=True, eq=False)
class LayerConstants:
    """What becomes of a layer.

    Attributes:
        layer: as it was.
        fmt: of its weights.
        coded: its weights.
        bias: float32 [R], or None.
        per_token: whether what it reads is quantised anew for every token.
    """

    layer: Layer
    fmt: Format
    coded: Coded
    bias: Array | None
    per_token: bool


@dataclass
class Writers:
    """Writers of layers that share constants where the source shares them.

    Attributes:
        written: the value that stands for weights, by what the layer's rows are made of.
    """

    written: dict[Tie, onnx_ir.Value] = field(default_factory=dict)

    def of(self, constants: LayerConstants) -> Writer:
        """The function that writes a layer."""

        def write(
            node: onnx_ir.Node, tail: Tail, quantizations: Mapping[str, Quantization]
        ) -> None:
            x = quantizations.get(name_of(get_input(node, 0)))
            if constants.per_token:
                _quantize_tokens(node)
                x = None
            self._weights(node, tail, constants, x)

        return write

    def _weights(
        self,
        node: onnx_ir.Node,
        tail: Tail,
        constants: LayerConstants,
        x: Quantization | None,
    ) -> None:
        layer, coded, bias = constants.layer, constants.coded, constants.bias
        plain = constants.fmt.element.name == "int8" and coded.factors is None
        found = _standard(layer, coded, bias, x) if plain else None
        shared = self.written.get(layer.tied)
        # The layer's own bias is read above all changes of the node.
        for name in ("alpha", "beta"):
            node.attributes.pop(name, None)
        if shared is not None:
            node.replace_input_with(1, shared)
        elif found is not None:
            replace_weights(node, found)
        else:
            replace_coded_weights(node, coded, constants.fmt)
        self.written[layer.tied] = get_input(node, 1)
        if bias is None:
            return
        integer = found is not None and found.bias is not None
        adding = tail.absorbed[0] if is_op(node, "MatMul") else node
        index = 2
        if is_op(node, "MatMul"):
            index = 0 if adding.inputs[0] is tail.bias else 1
        else:
            node.resize_inputs(3)
        assert found is not None or not integer
        value = (
            bias_value(adding, found)
            if integer and found is not None
            else add_constant(graph_of(node), f"{node.name}.bias", bias.astype(np.float32))
        )
        adding.replace_input_with(index, value)


def _standard(
    layer: Layer, coded: Coded, bias: Array | None, x: Quantization | None
) -> QuantizedWeights:
    """int8 weights as the standard operator has them, with an int32 bias where x is int8."""
    data = layer.weights_of(coded.integers)
    steps = coded.scale.astype(np.float64)
    exact = steps * (1.0 if x is None else x.scalar_scale)
    integers = None
    if bias is not None and x is not None:
        integers = np.rint(bias.astype(np.float64) / exact).astype(np.int32)
    product = np.broadcast_to(exact, (layer.rows.shape[0],)).astype(np.float32)
    return QuantizedWeights(data, coded.scale, _axis(layer.node), integers, product)


def _axis(node: onnx_ir.Node) -> int:
    if is_op(node, "MatMul"):
        shape = get_input(node, 1).shape
        return 0 if shape is not None and shape.rank() == 1 else 1
    return output_axis(node)


def _quantize_tokens(node: onnx_ir.Node) -> None:
    """Let a node read its input quantised vector by vector."""
    graph, x = graph_of(node), get_input(node, 0)
    name = unique_name(graph, f"{node.name}.tokens")
    value = onnx_ir.Value(name=name, shape=x.shape, type=x.type)
    quantizing = onnx_ir.node(
        "DynamicQuantizeDequantize", [x], {}, domain=DOMAIN, outputs=[value], name=name
    )
    graph.insert_before(node, quantizing)
    graph.opset_imports[DOMAIN] = VERSION
    node.replace_input_with(0, value)


def leave(node: onnx_ir.Node, tail: Tail, quantizations: Mapping[str, Quantization]) -> None:
    """The writer of a layer that stays in float."""
    del node, tail, quantizations
