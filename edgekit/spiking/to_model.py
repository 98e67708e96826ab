"""A spiking graph as a Model: a step with explicit state, or a whole window as one Scan.

What becomes what; x has a batch axis of 1 in front, and every value the name of its node:

=================== ==================================================================
Linear              Gemm with ``transB`` (weights [O,K]), the bias as its third input
Linear, groups > 1  Reshape to [1,K,1], Conv of kernel 1 with ``group``, Reshape to [1,O]
Conv                Conv, the bias as its third input
MaxPool, AvgPool    MaxPool; AveragePool with ``count_include_pad``
SumPool             Conv with ``group`` = channels and weights that are all 1
Flatten, Scale      Flatten; Mul by a constant
Leaky, Synaptic     the operator of the domain ``edgekit``. Integrators that do not spike:
                    an infinite threshold, reset 2, and the membrane is the value
Count               Add of ``N.count`` and the input
Output              Identity, named as the node
several edges       Add from left to right: ``N.sum1``, ``N.sum2``, ...
quantised weights   a dequantising node (:mod:`edgekit.model.coded`) in front of the Gemm or
                    Conv
=================== ==================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx_ir

from edgekit.errors import UsageError
from edgekit.model.domain import DOMAIN, VERSION, attach_functions
from edgekit.model.model import Model
from edgekit.model.nodes import add_constant
from edgekit.spiking.arrays import Shape
from edgekit.spiking.graph import SpikingGraph
from edgekit.spiking.state import state_slots
from edgekit.spiking.writer import FLOAT, OPSET, StepWriter

_IR_VERSION = 10

MAX_STEPS = 2**20
"""Most steps of a window."""


@dataclass(frozen=True, eq=False)
class SpikingModel:
    """A step graph.

    Attributes:
        model: inputs: the Input nodes, then the state; outputs: the Output nodes, then the next
            state. All are float32 [1,...].
        state: which output is the next value of which input: ``N.membrane`` to
            ``N.membrane.next``, by the names of :mod:`edgekit.spiking.state`. All start at 0.
    """

    model: Model
    state: Mapping[str, str]


def to_model(graph: SpikingGraph) -> SpikingModel:
    """One time step as a Model, with the state as inputs and outputs.

    ONNX Runtime runs it as it is. Every operation but the sums of products is the simulator's.

    Args:
        graph: validated here.

    Raises:
        InvalidModelError: the graph is not valid.
    """
    graph.validate()
    writer = StepWriter(graph)
    writer.write()
    slots = (slot.name for slot in state_slots(graph))
    return SpikingModel(_finished(writer.onnx), MappingProxyType({s: f"{s}.next" for s in slots}))


def to_window_model(graph: SpikingGraph, steps: int) -> Model:
    """A whole window as a Model: one Scan over the time axis, from a state of 0.

    Inputs are float32 [T,1,...], the name of the Input. For every Output N there are two outputs:
    ``N`` [T,1,...], the values of all steps, and ``N.last`` [1,...], the one of the last step.
    Weights stay outside the Scan, so that quantised ones are unpacked once.

    Args:
        graph: validated here.
        steps: T, from 1 to 2**20.

    Raises:
        InvalidModelError: the graph is not valid.
        UsageError: a number of steps outside the range.
    """
    if not 1 <= steps <= MAX_STEPS:
        raise UsageError(f"{steps} steps asked for, must be from 1 to {MAX_STEPS}")
    graph.validate()
    writer = StepWriter(graph)
    writer.write()
    body = writer.onnx
    window = onnx_ir.Graph(
        [], [], nodes=[], opset_imports={"": OPSET, DOMAIN: VERSION}, name=graph.name
    )
    _hoist_constants(body, window)
    shapes, slots = graph.shapes(), state_slots(graph)
    feeds = [_stacked(name, steps, shapes[name]) for name in graph.inputs()]
    window.inputs.extend(feeds)
    zeros = [
        add_constant(window, f"{slot.name}.initial", np.zeros((1, *slot.shape), np.float32))
        for slot in slots
    ]
    # A Scan wants the state in front, in its inputs and in its body's inputs and outputs.
    _rotate(body.inputs, len(feeds))
    _rotate(body.outputs, len(graph.outputs()))
    body.name = f"{graph.name}_step"
    finals = [onnx_ir.Value(name=f"{slot.name}.last", type=FLOAT) for slot in slots]
    results = [_stacked(name, steps, shapes[name]) for name in graph.outputs()]
    window.append(
        onnx_ir.node(
            "Scan",
            [*zeros, *feeds],
            {"body": body, "num_scan_inputs": len(feeds)},
            outputs=[*finals, *results],
            name=f"{graph.name}_scan",
        )
    )
    # Dots: no node is called so.
    end = add_constant(window, "scan.last.step", np.array(steps - 1, np.int64))
    window.outputs.extend(results)
    for name, value in zip(graph.outputs(), results, strict=True):
        last = onnx_ir.Value(
            name=f"{name}.last", shape=onnx_ir.Shape((1, *shapes[name])), type=FLOAT
        )
        window.append(
            onnx_ir.node("Gather", [value, end], {"axis": 0}, outputs=[last], name=f"{name}.last")
        )
        window.outputs.append(last)
    return _finished(window)


def _finished(graph: onnx_ir.Graph) -> Model:
    """The graph with the functions that it calls."""
    ir = onnx_ir.Model(graph, ir_version=_IR_VERSION, producer_name="edgekit")
    attach_functions(ir)
    return Model(ir, source=f"spiking graph {graph.name}")


def _stacked(name: str, steps: int, shape: Shape) -> onnx_ir.Value:
    return onnx_ir.Value(name=name, shape=onnx_ir.Shape((steps, 1, *shape)), type=FLOAT)


def _hoist_constants(body: onnx_ir.Graph, outside: onnx_ir.Graph) -> None:
    """Move initializers, and nodes that read nothing else, out of the body of a Scan."""
    fixed: set[onnx_ir.Value] = set()
    for name, value in list(body.initializers.items()):
        del body.initializers[name]
        outside.register_initializer(value)
        fixed.add(value)
    for node in list(body):
        if node.inputs and all(value in fixed for value in node.inputs):
            body.remove(node)
            outside.append(node)
            fixed.update(node.outputs)


def _rotate(values: MutableSequence[onnx_ir.Value], count: int) -> None:
    """Bring the first `count` values to the end."""
    moved = [*values[count:], *values[:count]]
    values.clear()
    values.extend(moved)
