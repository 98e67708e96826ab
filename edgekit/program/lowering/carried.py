"""Declared state: graph inputs whose next value is a graph output.

Most such inputs become a tensor of the Program like any other. Those that go straight into a
recurrent layer or a population of neurons, and come straight out of it, never exist as a value of
the graph: the layer keeps them in whatever type it computes with (an LSTM's int8 form has an int16
cell, integer neurons an int32 membrane). Several layers may
share one input, which is sliced along its first axis and concatenated again, as PyTorch exports
them. The quantiser asks the same questions: there is nothing to quantise on such a path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir

from edgekit.errors import UsageError
from edgekit.model.domain import DOMAIN, NEURONS
from edgekit.model.geometry import RECURRENT_GATES, axis_of, box_of
from edgekit.model.nodes import dtype_of, find_input, is_op, name_of, shape_of

INITIAL_STATES = {5: 1, 6: 2}
"""Inputs of LSTM and GRU that hold an initial state, and the outputs that hold the last one."""

NEURON_STATES = {1: 1, 2: 2}
"""The same of neurons: their inputs behind the current are states where they have such outputs."""


@dataclass(frozen=True)
class Declared:
    """Declared state of a graph.

    Attributes:
        pairs: inputs with the outputs that become their next values, all of them.
        carried: the initial states of recurrent layers on a straight path, each with its name.
        inputs: inputs that are on straight paths only.
        nodes: the Slice and Concat nodes of straight paths.
    """

    pairs: tuple[tuple[onnx_ir.Value, onnx_ir.Value], ...] = ()
    carried: Mapping[onnx_ir.Value, str] = field(default_factory=dict)
    inputs: frozenset[onnx_ir.Value] = frozenset()
    nodes: frozenset[onnx_ir.Node] = frozenset()

    @property
    def outputs(self) -> frozenset[onnx_ir.Value]:
        """Outputs that are next values."""
        return frozenset(output for _, output in self.pairs)

    def is_read(self, value: onnx_ir.Value) -> bool:
        """Whether a value goes anywhere but into state on a straight path."""
        carried = {o for i, o in self.pairs if i in self.inputs}
        if value.is_graph_output() and value not in carried:
            return True
        return any(use.node not in self.nodes for use in value.uses())


def declared_state(graph: onnx_ir.Graph, state: Mapping[str, str] | None) -> Declared:
    """Find declared state in a graph.

    Args:
        graph: an optimised graph.
        state: name of an input to name of the output that becomes its next value.

    Raises:
        UsageError: no such input or output, one named twice, types that differ, or no output left.
    """
    if not state:
        return Declared()
    pairs = _pairs(graph, state)
    carried: dict[onnx_ir.Value, str] = {}
    inputs, nodes = set(), set()
    for source, sink in pairs:
        found = _straight(source, sink)
        if found is not None:
            carried.update(found[0])
            nodes.update(found[1])
            inputs.add(source)
    return Declared(pairs, carried, frozenset(inputs), frozenset(nodes))


def _pairs(
    graph: onnx_ir.Graph, state: Mapping[str, str]
) -> tuple[tuple[onnx_ir.Value, onnx_ir.Value], ...]:
    inputs = {name_of(v): v for v in graph.inputs}
    outputs = {name_of(v): v for v in graph.outputs}
    seen: set[str] = set()
    pairs = []
    for read, write in state.items():
        for name, kind, known in ((read, "input", inputs), (write, "output", outputs)):
            if name not in known:
                raise UsageError(
                    f"state {read!r}: the model has no {kind} {name!r}; "
                    f"its {kind}s are {sorted(known)}"
                )
        if write in seen:
            raise UsageError(f"state {read!r}: output {write!r} is the next value of another state")
        seen.add(write)
        source, sink = inputs[read], outputs[write]
        kinds = [(dtype_of(v), shape_of(v)) for v in (source, sink)]
        if kinds[0] != kinds[1] and None not in (*kinds[0], *kinds[1]):
            (a, a_shape), (b, b_shape) = kinds
            raise UsageError(
                f"state {read!r} is {a and a.name}{list(a_shape or ())}, its next value "
                f"{write!r} {b and b.name}{list(b_shape or ())}; they must be the same"
            )
        pairs.append((source, sink))
    if len(seen) == len(outputs):
        raise UsageError("every output of the model is the next value of a state; one must be left")
    return tuple(pairs)


Rows = tuple[int, int]


def _straight(
    source: onnx_ir.Value, sink: onnx_ir.Value
) -> tuple[dict[onnx_ir.Value, str], set[onnx_ir.Node]] | None:
    """The initial states that an input consists of, and the nodes between; None if it has uses."""
    parts, nodes = _parts(sink)
    initial: dict[onnx_ir.Value, str] = {}
    for use in source.uses():
        if not is_op(use.node, "Slice"):
            rows, part = (0, _rows(source)), source
            readers = [(use.node, use.idx)]
        else:
            found = _slice_rows(use.node, source) if use.idx == 0 else None
            part = use.node.outputs[0]
            if found is None or part.is_graph_output():
                return None
            nodes.add(use.node)
            rows, readers = found, [(u.node, u.idx) for u in part.uses()]
        update = parts.pop(rows, None)
        if len(readers) != 1 or update is None or not _returns(*readers[0], update):
            return None
        whole = rows == (0, _rows(source))
        initial[part] = name_of(source) + ("" if whole else f"[{rows[0]}]")
    return None if parts or not initial else (initial, nodes)


def _rows(value: onnx_ir.Value) -> int:
    shape = shape_of(value)
    return shape[0] if shape else 0


def _parts(sink: onnx_ir.Value) -> tuple[dict[Rows, onnx_ir.Value], set[onnx_ir.Node]]:
    """What an output consists of, by rows of the first axis, and the node that joins it."""
    producer = sink.producer()
    shape = shape_of(sink)
    joined = producer is not None and is_op(producer, "Concat") and not sink.uses()
    if producer is None or shape is None or not joined or axis_of(producer, len(shape), 0) != 0:
        return {(0, _rows(sink)): sink}, set()
    parts, begin = {}, 0
    for value in producer.inputs:
        assert value is not None
        end = begin + _rows(value)
        parts[begin, end] = value
        begin = end
    return parts, {producer}


def _slice_rows(node: onnx_ir.Node, source: onnx_ir.Value) -> Rows | None:
    """The rows of the first axis that a Slice takes, None where it takes something else."""
    shape = shape_of(source)
    box = None if shape is None else box_of(node, shape)
    if shape is None or box is None or box.count[1:] != shape[1:] or any(s != 1 for s in box.step):
        return None
    return box.begin[0], box.begin[0] + box.count[0]


def _returns(node: onnx_ir.Node, index: int, update: onnx_ir.Value) -> bool:
    """Whether a node's input is a layer's or neurons' state and `update` what it becomes."""
    neurons = node.domain == DOMAIN and node.op_type in NEURONS
    output = (NEURON_STATES if neurons else INITIAL_STATES).get(index)
    if not (neurons or is_op(node, *RECURRENT_GATES)) or output is None:
        return False
    return output < len(node.outputs) and node.outputs[output] is update


def initial_states(node: onnx_ir.Node) -> Iterator[tuple[int, onnx_ir.Value | None]]:
    """Inputs of an LSTM or GRU node that hold an initial state, by index; None where absent."""
    for index in (5, 6) if is_op(node, "LSTM") else (5,):
        yield index, find_input(node, index)
