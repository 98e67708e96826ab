"""ONNX Runtime as an oracle: build small ONNX models and run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


class OnnxBuilder:
    """An ONNX model, one node at a time; values are their names.

    >>> b = OnnxBuilder()
    >>> x = b.input("x", (1, 3))
    >>> b.output(b.node("Add", x, b.constant(np.ones(3, np.float32))))
    >>> run_onnx(b.build(), {"x": np.zeros((1, 3), np.float32)})["add_0"].tolist()
    [[1.0, 1.0, 1.0]]
    """

    def __init__(self, opset: int = 21) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.domains: set[str] = set()

    def input(
        self, name: str, shape: Sequence[int | str | None] | None, dtype: str = "float32"
    ) -> str:
        """Declare an input."""
        self.inputs.append(helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], shape))
        return name

    def output(self, name: str, dtype: str = "float32") -> None:
        """Declare an output of unknown shape."""
        self.outputs.append(helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], None))

    def constant(self, array: Any, name: str | None = None) -> str:
        """Add an initializer."""
        name = name or f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(
        self,
        op_type: str,
        *inputs: str,
        name: str | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Add a node with one output; returns the output, which has the node's name."""
        return self.node_all(op_type, *inputs, outputs=1, name=name, domain=domain, **attributes)[0]

    def node_all(
        self,
        op_type: str,
        *inputs: str,
        outputs: int,
        name: str | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Add a node with several outputs."""
        name = name or f"{op_type.lower()}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.domains.add(domain)
        self.nodes.append(
            helper.make_node(op_type, inputs, names, name=name, domain=domain, **attributes)
        )
        return names

    def quantize(self, x: str, scale: float, zero_point: int, dtype: str = "int8") -> str:
        """QuantizeLinear and DequantizeLinear of an activation."""
        parameters = (self.constant(np.float32(scale)), self.constant(np.array(zero_point, dtype)))
        return self.node(
            "DequantizeLinear", self.node("QuantizeLinear", x, *parameters), *parameters
        )

    def dequantized(self, integers: Any, scale: Any, axis: int = 0, zero_point: Any = 0) -> str:
        """A constant behind DequantizeLinear."""
        integers, scale = np.asarray(integers), np.asarray(scale, np.float32)
        point = np.broadcast_to(np.asarray(zero_point, integers.dtype), scale.shape)
        return self.node(
            "DequantizeLinear",
            self.constant(integers),
            self.constant(scale),
            self.constant(point),
            axis=axis,
        )

    def proto(self) -> onnx.ModelProto:
        """The model."""
        graph = helper.make_graph(
            self.nodes, "net", self.inputs, self.outputs, initializer=self.initializers
        )
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(d, 1) for d in sorted(self.domains - {""})]
        ir_version = 10 if self.opset >= 15 else 7
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=ir_version, functions=self.functions
        )

    def build(self) -> bytes:
        """The model's bytes."""
        return self.proto().SerializeToString()


def run_onnx(
    model: bytes, feeds: Mapping[str, np.ndarray], *, optimized: bool = False
) -> dict[str, np.ndarray]:
    """Outputs by name from ONNX Runtime on one CPU thread, graph rewrites off unless asked for."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))
