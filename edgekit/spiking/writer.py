"""Writes the nodes of a spiking graph as ONNX; :mod:`edgekit.spiking.to_model` says which form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir

from edgekit.formats import Coded, Format
from edgekit.model.coded import replace_weights
from edgekit.model.domain import DOMAIN, RESETS, VERSION
from edgekit.model.nodes import add_constant, name_of
from edgekit.spiking.arrays import Array, Shape
from edgekit.spiking.graph import SpikingGraph
from edgekit.spiking.nodes import (
    AvgPool,
    Conv,
    Count,
    Flatten,
    Input,
    Leaky,
    Linear,
    MaxPool,
    Neuron,
    Pool,
    Scale,
    SumPool,
    Synaptic,
    Weighted,
    spread_over,
)
from edgekit.spiking.state import delayed_part, state_slots

OPSET = 21
"""Opset of what is written: the one that all of edgekit's passes know."""

FLOAT = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)


class StepWriter:
    """One ONNX graph that computes one step.

    Args:
        graph: valid.

    Attributes:
        onnx: the ONNX graph; complete behind :meth:`write`.
    """

    def __init__(self, graph: SpikingGraph) -> None:
        self.graph = graph
        self.onnx = onnx_ir.Graph(
            [], [], nodes=[], opset_imports={"": OPSET, DOMAIN: VERSION}, name=graph.name
        )
        self._values: dict[str, onnx_ir.Value] = {}
        self._state: dict[str, onnx_ir.Value] = {}

    def write(self) -> None:
        """Write every node, then the outputs: those of the network, then the next state."""
        graph, shapes = self.graph, self.graph.shapes()
        for name in graph.inputs():
            self._values[name] = self._feed(name, shapes[name])
        slots = state_slots(graph)
        for slot in slots:
            self._state[slot.name] = self._feed(slot.name, slot.shape)
        following: dict[str, onnx_ir.Value] = {}
        for name in graph.order():
            node = graph.nodes[name]
            if not isinstance(node, Input):
                self._values[name] = self._write_node(name, self._sum(name), following)
        self.onnx.outputs.extend(self._values[name] for name in graph.outputs())
        for slot in slots:
            if slot.name not in following:
                # A delayed edge: the value of this step is read in the next one.
                following[slot.name] = self.emit(
                    "Identity", [self._values[slot.node]], f"{slot.name}.next", slot.shape
                )
            self.onnx.outputs.append(following[slot.name])

    def emit(
        self,
        op_type: str,
        inputs: Sequence[onnx_ir.Value | None],
        name: str,
        shape: Shape,
        **attributes: Any,
    ) -> onnx_ir.Value:
        """Append a standard node; it and its output have this name.

        Args:
            op_type: operator.
            inputs: values.
            name: of the node and its output.
            shape: of the output, without batch.
            attributes: of the node.
        """
        output = _value(name, (1, *shape))
        self.onnx.append(onnx_ir.node(op_type, inputs, attributes, outputs=[output], name=name))
        return output

    def constant(self, name: str, array: Array) -> onnx_ir.Value:
        """An initializer."""
        return add_constant(self.onnx, name, array)

    def _feed(self, name: str, shape: Shape) -> onnx_ir.Value:
        value = _value(name, (1, *shape))
        self.onnx.inputs.append(value)
        return value

    def _sum(self, name: str) -> onnx_ir.Value:
        """What a node reads: its edges added from left to right."""
        graph, shapes = self.graph, self.graph.shapes()
        spikes = graph.spikes()
        values = [
            self._state[f"{edge.source}.{delayed_part(edge.source in spikes)}"]
            if edge.delay
            else self._values[edge.source]
            for edge in graph.incoming(name)
        ]
        total, shape = values[0], shapes[graph.incoming(name)[0].source]
        for index, value in enumerate(values[1:], 1):
            total = self.emit("Add", [total, value], f"{name}.sum{index}", shape)
        return total

    def _write_node(
        self, name: str, x: onnx_ir.Value, following: dict[str, onnx_ir.Value]
    ) -> onnx_ir.Value:
        """Write one node.

        Args:
            name: of the node; its value has it, too.
            x: what it reads.
            following: the next state by name of the slot, to which neurons and counts add theirs.
        """
        node, shape = self.graph.nodes[name], self.graph.shapes()[name]
        match node:
            case Linear(groups=1):
                return self._weighted(name, node, "Gemm", x, shape, transB=1)
            case Linear():
                return self._grouped_linear(name, node, x)
            case Conv():
                return self._weighted(
                    name,
                    node,
                    "Conv",
                    x,
                    shape,
                    kernel_shape=node.kernel,
                    strides=node.stride,
                    pads=node.padding,
                    dilations=node.dilation,
                    group=node.groups,
                )
            case MaxPool():
                return self.emit("MaxPool", [x], name, shape, **_window(node))
            case AvgPool():
                return self.emit(
                    "AveragePool", [x], name, shape, count_include_pad=1, **_window(node)
                )
            case SumPool():
                ones = np.ones((shape[0], 1, *node.kernel), np.float32)
                weight = self.constant(f"{name}.ones", ones)
                return self.emit("Conv", [x, weight], name, shape, group=shape[0], **_window(node))
            case Flatten():
                return self.emit("Flatten", [x], name, shape, axis=1)
            case Scale():
                one = node.factor.size == 1
                factor = self.constant(
                    f"{name}.factor", node.factor.reshape(1) if one else node.factor
                )
                return self.emit("Mul", [x, factor], name, shape)
            case Count():
                slot = f"{name}.count"
                following[slot] = self.emit("Add", [self._state[slot], x], f"{slot}.next", shape)
                return following[slot]
            case Leaky() | Synaptic():
                return self._neuron(name, node, x, following)
        # An Output: the only kind that is left, whose name its value has to have.
        return self.emit("Identity", [x], name, shape)

    def _neuron(
        self, name: str, node: Neuron, x: onnx_ir.Value, following: dict[str, onnx_ir.Value]
    ) -> onnx_ir.Value:
        """A population as the domain's operator; see :meth:`_write_node`."""
        shape = self.graph.shapes()[name]
        synaptic = isinstance(node, Synaptic)
        parts = ("synaptic", "membrane") if synaptic else ("membrane",)
        decays = {"alpha": node.alpha} if isinstance(node, Synaptic) else {}
        threshold = node.threshold if node.spiking else np.full(1, np.inf, np.float32)
        constants: Mapping[str, Array] = {**decays, "beta": node.beta, "threshold": threshold}
        inputs = [x, *(self._state[f"{name}.{part}"] for part in parts)]
        for part, values in constants.items():
            inputs.append(self.constant(f"{name}.{part}", spread_over(values, shape)))
        value = _value(name if node.spiking else f"{name}.spikes", (1, *shape))
        for part in parts:
            following[f"{name}.{part}"] = _value(f"{name}.{part}.next", (1, *shape))
        self.onnx.append(
            onnx_ir.node(
                "Synaptic" if synaptic else "Leaky",
                inputs,
                {"reset": RESETS.index(node.reset if node.spiking else "none")},
                domain=DOMAIN,
                outputs=[value, *(following[f"{name}.{part}"] for part in parts)],
                name=name,
            )
        )
        return value if node.spiking else following[f"{name}.membrane"]

    def _weighted(
        self,
        name: str,
        node: Weighted,
        op_type: str,
        x: onnx_ir.Value,
        shape: Shape,
        **attributes: Any,
    ) -> onnx_ir.Value:
        """A node with weights of ONNX's own layout, and the bias as third input."""
        return self._with_weights(name, node, op_type, x, node.weight.values, shape, attributes)

    def _grouped_linear(self, name: str, node: Linear, x: onnx_ir.Value) -> onnx_ir.Value:
        """A Linear of several groups: a convolution of kernel 1 over one place."""
        outputs, columns = node.weight.shape
        channels = columns * node.groups
        apart = self.constant(f"{name}.apart.shape", np.array([1, channels, 1], np.int64))
        flat = self.constant(f"{name}.shape", np.array([1, outputs], np.int64))
        standing = self.emit("Reshape", [x, apart], f"{name}.apart", (channels, 1))
        values = node.weight.values[:, :, None]
        attributes = {"kernel_shape": (1,), "group": node.groups}
        result = self._with_weights(
            f"{name}.groups", node, "Conv", standing, values, (outputs, 1), attributes
        )
        return self.emit("Reshape", [result, flat], name, (outputs,))

    def _with_weights(
        self,
        name: str,
        node: Weighted,
        op_type: str,
        x: onnx_ir.Value,
        values: Array,
        shape: Shape,
        attributes: Mapping[str, Any],
    ) -> onnx_ir.Value:
        weight = self.constant(f"{name}.weight", values)
        inputs = [x, weight]
        if node.bias is not None:
            inputs.append(self.constant(f"{name}.bias", node.bias))
        result = self.emit(op_type, inputs, name, shape, **attributes)
        written = result.producer()
        assert written is not None
        if node.weight.quantized:
            assert node.weight.scale is not None and node.weight.codes is not None
            codes = node.weight.codes.reshape(values.shape)
            rows = np.moveaxis(codes, 1, -1) if op_type == "Conv" else codes
            coded = Coded(np.ascontiguousarray(rows.reshape(len(rows), -1)), node.weight.scale)
            replace_weights(written, coded, Format(node.weight.format))
            del self.onnx.initializers[name_of(weight)]
        return result


def _value(name: str, shape: Shape) -> onnx_ir.Value:
    return onnx_ir.Value(name=name, shape=onnx_ir.Shape(shape), type=FLOAT)


def _window(node: Pool) -> dict[str, Any]:
    return {"kernel_shape": node.kernel, "strides": node.stride, "pads": node.padding}
