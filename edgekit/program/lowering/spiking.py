"""Spiking networks: neurons, their state, counts, and who else reads spikes.

The step of a network is a Model whose state is declared (:func:`edgekit.spiking.to_model` says how,
and which output becomes which input)::

    step = to_model(graph)
    lowered = lower_noted(
        step.model,
        state=step.state,
        spiking=SpikingOptions(
            input_scale={"samples": int16_scale(-20.0, 20.0)}, activity={"hidden": 0.05}
        ),
    )
    lowered.membranes["hidden"].proof

Spikes are bit sets (:mod:`~edgekit.program.lowering.spiking_sets`); what a population reads is one
running total (:mod:`~edgekit.program.lowering.spiking_sums`,
:mod:`~edgekit.program.lowering.spiking_terms`). Where its weights are quantised, currents,
membranes and thresholds are integers in a format with a proof
(:mod:`~edgekit.program.lowering.spiking_format`); then inputs are int16 in steps of the scale that
the caller gives, counts are int32, and spikes that leave are int8. Membranes that leave are int32;
``lowered.membranes`` says what a step of each means. Membranes of integrators that neurons read, as
they are or through weights, stay integers too (:mod:`~edgekit.program.lowering.spiking_membranes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx_ir

from edgekit.errors import UnsupportedError, UsageError
from edgekit.model.nodes import (
    get_input,
    is_op,
    name_of,
)
from edgekit.program.ir import DType
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.spiking_sets import RESHAPING
from edgekit.program.lowering.spiking_sums import Sum, read_sum
from edgekit.program.lowering.value import Value
from edgekit.program.operators.movement import Concat
from edgekit.program.operators.spiking_bits import words_of


def prepare(low: Lowerer) -> None:
    """Find out who spikes, what populations read, and which declared state they keep.

    Raises:
        UsageError: options for inputs or populations that are not there.
        UnsupportedError: every population whose current cannot be told apart.
    """
    _check_options(low)
    problems = []
    for node in low.sets.populations:
        try:
            found = read_sum(node, low.sets, quantised=low.is_quantised)
            if found.is_integer and _reads_real_membranes(low, found):
                found = read_sum(node, low.sets, quantised=False)
            low.sums[node] = found
        except UnsupportedError as error:
            problems.append(str(error))
    if problems:
        raise UnsupportedError("not supported:\n  " + "\n  ".join(problems))
    low.absorbed.update(_absorbable(low.sums))
    kept, carried = set(low.declared.inputs), dict(low.declared.carried)
    for read, write in low.declared.pairs:
        numbering = None if read in kept else low.sets.arrangement(read)
        if numbering is not None:
            shape = (1, words_of(numbering.gather(range(len(numbering.shape))).size))
            tensor = low.state_tensor(name_of(read), shape, DType.INT32)
            low.spikes[read] = Value(tensor, numbering)
            low.spike_states.append((read, write))
            kept.add(read)
        elif read not in kept and _counts(low, read, write):
            kept.add(read)
            carried[read] = name_of(read)
    low.declared = replace(low.declared, inputs=frozenset(kept), carried=carried)


def _absorbable(sums: dict[onnx_ir.Node, Sum]) -> Iterator[onnx_ir.Node]:
    """Nodes that nobody but these populations reads, which are not lowered on their own.

    Args:
        sums: the currents, by population.
    """
    inside = {node for found in sums.values() for node in found.nodes}
    readers: set[onnx_ir.Node] = inside | set(sums)
    kept: set[onnx_ir.Node] = set()
    pending = [n for n in inside if any(o.is_graph_output() for o in n.outputs)]
    pending += [
        n for n in inside if any(u.node not in readers for o in n.outputs for u in o.uses())
    ]
    while pending:
        node = pending.pop()
        if node in kept:
            continue
        kept.add(node)
        # What a node that stays reads must stay too.
        sources = (v.producer() for v in node.inputs if v is not None)
        pending.extend(s for s in sources if s is not None and s in inside)
    yield from inside - kept


def _reads_real_membranes(low: Lowerer, found: Sum) -> bool:
    """Whether a current holds membranes of neurons that stay in float32."""
    for term in found.leaves():
        value = term.source
        node = value.producer()
        while node is not None and is_op(node, *RESHAPING):
            value = get_input(node, 0)
            node = value.producer()
        behind = low.sums.get(node) if node is not None else None
        if behind is not None and not behind.is_integer and low.sets.arrangement(value) is None:
            return True
    return False


def _check_options(low: Lowerer) -> None:
    inputs = {name_of(v) for v in low.graph.inputs} - {name_of(r) for r, _ in low.declared.pairs}
    populations = {node.name for node in low.sets.populations}
    for what, given, known in (
        ("input_scale", low.options.input_scale, inputs),
        ("activity", low.options.activity, populations),
    ):
        unknown = sorted(given.keys() - known)
        if unknown:
            raise UsageError(
                f"{what} of {', '.join(map(repr, unknown))}, which the model has not; it has "
                f"{', '.join(sorted(map(repr, known))) or 'none'}"
            )


def _counts(low: Lowerer, read: onnx_ir.Value, write: onnx_ir.Value) -> bool:
    """Whether a state counts spikes: its next value is itself and the spikes of a step."""
    node = write.producer()
    if node is None or not is_op(node, "Add") or [u.node for u in read.uses()] != [node]:
        return False
    spikes = next((v for v in node.inputs if v is not read), None)
    return spikes is not None and low.sets.arrangement(spikes) is not None


def carry_spikes(low: Lowerer) -> None:
    """Say what the bit sets that are state become."""
    written = {state.read for state in low.state} | {
        low.spikes[read].tensor for read, _ in low.spike_states
    }
    for read, write in low.spike_states:
        name, tensor = name_of(read), low.spikes[write].tensor
        if tensor in written:
            # Bits that are state already, or become another one too.
            tensor = low.emit(name, Concat(0), tensor, name=name)
        written.add(tensor)
        low.carry(low.spikes[read].tensor, tensor)


def read_values(low: Lowerer, node: onnx_ir.Node) -> list[onnx_ir.Value]:
    """What must be there before a node can be lowered: of neurons, what their terms read."""
    found = low.sums.get(node)
    if found is None:
        return [v for v in node.inputs if v is not None]
    terms = (term.source for term in found.leaves())
    return [*terms, *(v for v in node.inputs[1:] if v is not None)]
