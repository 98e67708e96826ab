"""Where a float Model is quantised: which activations, and which of them share a scale.

Source: "TensorFlow Lite 8-bit quantization specification", restrictions per operator.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import onnx_ir

from edgekit.model.geometry import RECURRENT_GATES
from edgekit.model.nodes import const, dtype_of, find_input, is_op
from edgekit.program.ir import DType, Quantization
from edgekit.program.lowering.carried import Declared
from edgekit.program.lowering.fusion import is_constant, tail_of
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
        readers: which uses of a value see it quantised; where a value has no entry, every reader
            and the user of an output do.
    """

    values: dict[onnx_ir.Value, None] = field(default_factory=dict)
    fixed: dict[onnx_ir.Value, Quantization] = field(default_factory=dict)
    readers: dict[onnx_ir.Value, tuple[tuple[onnx_ir.Node, int], ...]] = field(default_factory=dict)
    _parent: dict[onnx_ir.Value, onnx_ir.Value] = field(default_factory=dict)

    def add(self, *values: onnx_ir.Value) -> None:
        """Choose values."""
        self.values.update(dict.fromkeys(values))

    def drop(self, values: Iterable[onnx_ir.Value]) -> None:
        """Do not choose values after all."""
        for value in values:
            self.values.pop(value, None)
            self.readers.pop(value, None)

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


def find_points(
    graph: onnx_ir.Graph,
    declared: Declared | None = None,
    *,
    apart: Collection[onnx_ir.Node] = (),
) -> Points:
    """Choose the activations of an optimised float graph.

    Args:
        graph: the graph.
        declared: its declared state.
        apart: nodes without an integer form of this kind, whatever their operator: those that
            stay in float or scale what they read by themselves.

    Rules:

    1. The result of an operator with an integer form, fused clamp and bias included, is quantised.
    2. A float input, or the result of any other operator, is quantised where an operator with an
       integer form reads it.
    3. Movement and pools share the scale of their input; Concat shares one with all its inputs,
       except those whose scale is prescribed.
    4. The sequence and the last state of a recurrent layer share a scale. State that goes straight
       from one to the other is the layer's own.
    5. Other declared state shares the scale of its next value.
    """
    points, declared = Points(), declared or Declared()
    absorbed: set[onnx_ir.Node] = set(declared.nodes)
    feeding = _feeding(graph, apart) - declared.inputs
    points.add(*(v for v in graph.inputs if v in feeding and is_float(v)))
    for node in graph:
        if node in absorbed:
            continue
        if is_op(node, *COMPUTING):
            tail = tail_of(node)
            absorbed.update(tail.absorbed)
            wanted = node not in apart or tail.value in feeding
            if is_float(tail.value) and wanted:
                points.add(tail.value)
                if node.op_type in FIXED:
                    points.fixed[tail.value] = FIXED[node.op_type]
            continue
        source = find_input(node, 0)
        outputs = [o for o in node.outputs if o.uses() or o.is_graph_output()]
        if is_op(node, *RECURRENT_GATES):
            _add_recurrent(points, node, declared)
        elif is_op(node, "Concat"):
            _add_concat(points, node)
        elif is_op(node, *SAME_SCALE) and source in points.values:
            assert source is not None
            points.add(*outputs)
            for output in outputs:
                points.join(source, output)
        else:
            points.add(*(o for o in outputs if o in feeding and is_float(o)))
    for read, write in declared.pairs:
        if read in points.values and const(write) is None:
            points.add(write)
            points.join(read, write)
    return points


def _add_recurrent(points: Points, node: onnx_ir.Node, declared: Declared) -> None:
    read = [o for o in node.outputs if declared.is_read(o) and is_float(o)]
    points.add(*read)
    hidden = [o for o in node.outputs[:2] if o in read]
    if len(hidden) == 2:
        points.join(*hidden)


def _add_concat(points: Points, node: onnx_ir.Node) -> None:
    output = node.outputs[0]
    points.add(output)
    for value in node.inputs:
        if value is not None and const(value) is None and points.prescribed(value) is None:
            points.join(output, value)


def _feeding(graph: onnx_ir.Graph, apart: Collection[onnx_ir.Node]) -> set[onnx_ir.Value]:
    """Values that an operator with an integer form reads."""
    feeding: set[onnx_ir.Value] = set()
    fused = {behind for node in apart for behind in tail_of(node).absorbed}
    for node in reversed(graph):
        if node in apart or node in fused:
            continue
        if apart and is_op(node, *SAME_SCALE) and feeding.isdisjoint(node.outputs):
            # It moves what only nodes apart read.
            continue
        if is_op(node, *COMPUTING, *SAME_SCALE, *RECURRENT_GATES, "Concat", "ArgMax"):
            feeding.update(v for v in node.inputs if v is not None and not is_constant(v))
    return feeding


def is_float(value: onnx_ir.Value) -> bool:
    """Whether a value may be float32: only a known other type says no."""
    return dtype_of(value) in (None, onnx_ir.DataType.FLOAT)
