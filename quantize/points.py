"""Where a float Model is quantised: which activations, and which of them share a scale.

Source: "TensorFlow Lite 8-bit quantization specification", restrictions per operator.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir

from edgekit.model.nodes import const, dtype_of, find_input, is_op
from edgekit.program.ir import DType, Quantization
from edgekit.program.lowering.fusion import tail_of
from edgekit.program.operators.normalization import SOFTMAX_OUTPUT

COMPUTING = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Relu", "Clip", "LeakyRelu"),
    *("HardSwish", "Sigmoid", "Tanh", "Softmax", "LayerNormalization", "GlobalAveragePool"),
    "ReduceMean",
)
"""Operators with an integer form whose result has a scale of its own."""

SAME_SCALE = (
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Slice", "Split"),
    *("MaxPool", "GlobalMaxPool", "AveragePool", "Pad", "Resize"),
)
"""Operators whose results have the scale of their first input."""

FIXED = {
    "Softmax": SOFTMAX_OUTPUT[DType.INT8],
    "Sigmoid": Quantization.per_tensor(1 / 256, -128),
    "Tanh": Quantization.per_tensor(1 / 128, 0),
}
"""Results whose quantisation the specification prescribes."""


@dataclass
class Points:
    """The activations to quantise.

    Attributes:
        values: in topological order; a dictionary for its fast membership test.
        fixed: prescribed quantisations by representative of a group.
    """

    values: dict[onnx_ir.Value, None] = field(default_factory=dict)
    fixed: dict[onnx_ir.Value, Quantization] = field(default_factory=dict)
    _parent: dict[onnx_ir.Value, onnx_ir.Value] = field(default_factory=dict)

    def add(self, *values: onnx_ir.Value) -> None:
        """Choose values."""
        self.values.update(dict.fromkeys(values))

    def group(self, value: onnx_ir.Value) -> onnx_ir.Value:
        """The representative of the values that share a scale with `value`."""
        while value in self._parent:
            value = self._parent[value]
        return value

    def join(self, a: onnx_ir.Value, b: onnx_ir.Value) -> None:
        """Let two values share a scale; a prescribed one wins."""
        a, b = self.group(a), self.group(b)
        if a is not b:
            self._parent[b] = a
            if b in self.fixed:
                self.fixed.setdefault(a, self.fixed[b])

    def prescribed(self, value: onnx_ir.Value) -> Quantization | None:
        """The quantisation that the specification prescribes, None for none."""
        return self.fixed.get(self.group(value))

    def groups(self) -> dict[onnx_ir.Value, list[onnx_ir.Value]]:
        """Values by the representative of their group, both in topological order."""
        found: dict[onnx_ir.Value, list[onnx_ir.Value]] = {}
        for value in self.values:
            found.setdefault(self.group(value), []).append(value)
        return found


def find_points(graph: onnx_ir.Graph) -> Points:
    """Choose the activations of an optimised float graph.

    Rules:

    1. The result of an operator with an integer form, fused clamp and bias included, is quantised.
    2. A float input, or the result of any other operator, is quantised where an operator with an
       integer form reads it.
    3. Movement and pools share the scale of their input; Concat shares one with all its inputs,
       except those whose scale is prescribed.
    """
    points = Points()
    absorbed: set[onnx_ir.Node] = set()
    feeding = _feeding(graph)
    points.add(*(v for v in graph.inputs if v in feeding and _is_float(v)))
    for node in graph:
        if node in absorbed:
            continue
        if is_op(node, *COMPUTING):
            tail = tail_of(node)
            absorbed.update(tail.absorbed)
            if _is_float(tail.value):
                points.add(tail.value)
                if node.op_type in FIXED:
                    points.fixed[tail.value] = FIXED[node.op_type]
            continue
        source = find_input(node, 0)
        outputs = [o for o in node.outputs if o.uses() or o.is_graph_output()]
        if is_op(node, "Concat"):
            _add_concat(points, node)
        elif is_op(node, *SAME_SCALE) and source in points.values:
            assert source is not None
            points.add(*outputs)
            for output in outputs:
                points.join(source, output)
        else:
            points.add(*(o for o in outputs if o in feeding and _is_float(o)))
    return points


def _add_concat(points: Points, node: onnx_ir.Node) -> None:
    output = node.outputs[0]
    points.add(output)
    for value in node.inputs:
        if value is not None and const(value) is None and points.prescribed(value) is None:
            points.join(output, value)


def _feeding(graph: onnx_ir.Graph) -> set[onnx_ir.Value]:
    """Values that an operator with an integer form reads."""
    feeding: set[onnx_ir.Value] = set()
    for node in graph:
        if is_op(node, *COMPUTING, *SAME_SCALE, "Concat", "ArgMax"):
            feeding.update(v for v in node.inputs if v is not None and const(v) is None)
    return feeding


def _is_float(value: onnx_ir.Value) -> bool:
    return dtype_of(value) in (None, onnx_ir.DataType.FLOAT)
