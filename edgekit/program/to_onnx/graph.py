"""An ONNX graph under construction; values are their names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.model.domain import DOMAIN, VERSION, function
from edgekit.program.ir import Array, DType
from edgekit.program.names import free_name
from edgekit.version import edgekit_version

OPSET = 21
"""The first whose QuantizeLinear and DequantizeLinear take int16."""

IR_VERSION = 10
"""Of the ONNX format that goes with the opset."""

ELEMENT_TYPES: dict[DType, int] = {
    DType.INT8: TensorProto.INT8,
    DType.INT16: TensorProto.INT16,
    DType.INT32: TensorProto.INT32,
    DType.INT64: TensorProto.INT64,
    DType.FLOAT32: TensorProto.FLOAT,
}


class Graph:
    """Nodes and initializers in the order in which they are added.

    Args:
        reserved: names that only :meth:`input` and :meth:`output` may give.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self._taken = set(reserved)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._computed: set[str] = set()
        self._functions: set[str] = set()

    def _free(self, wanted: str) -> str:
        name = free_name(wanted, self._taken)
        self._taken.add(name)
        return name

    def input(self, name: str, dtype: DType, shape: tuple[int, ...]) -> str:
        """Declare an input."""
        self._inputs.append(helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], shape))
        return name

    def output(self, name: str, value: str, dtype: DType, shape: tuple[int, ...]) -> str:
        """Declare an output; returns what its value is called from now on.

        A value that is fed or returned under another name already is copied.
        """
        if value in self._computed:
            self._rename(value, name)
        else:
            self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], shape))
        return name

    def _rename(self, old: str, new: str) -> None:
        self._computed.remove(old)
        for node in self._nodes:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == old:
                        names[index] = new

    def constant(self, array: Array, name: str) -> str:
        """Add an initializer; returns its name, `name` or one like it."""
        free = self._free(name)
        self._initializers.append(numpy_helper.from_array(array, free))
        return free

    def node(self, kind: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Add a node of one output; returns it, `name` or one like it."""
        return self.nodes(kind, *inputs, names=[name], **attributes)[0]

    def nodes(self, kind: str, *inputs: str, names: list[str], **attributes: Any) -> list[str]:
        """Add a node of several outputs; returns them."""
        outputs = [self._free(name) for name in names]
        self._computed.update(outputs)
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))
        return outputs

    def call(self, kind: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Add a call of a function of the ``edgekit`` domain, whose definition comes along."""
        self._functions.add(kind)
        return self.node(kind, *inputs, name=name, domain=DOMAIN, **attributes)

    def to_bytes(self, name: str) -> bytes:
        """The finished model; the same calls give the same bytes."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializer=self._initializers
        )
        imports = [helper.make_opsetid("", OPSET)]
        if self._functions:
            imports.append(helper.make_opsetid(DOMAIN, VERSION))
        model = helper.make_model(
            graph,
            opset_imports=imports,
            functions=[function(kind, OPSET) for kind in sorted(self._functions)],
            ir_version=IR_VERSION,
            producer_name="edgekit",
            producer_version=edgekit_version(),
        )
        return bytes(model.SerializeToString(deterministic=True))
