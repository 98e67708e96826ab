"""State without copies: which operations may write a state's next value over its last one.

A state is read under one name and written under another, and behind a step the written tensor's
value is what the next step reads. Where nobody needs the old value once the new one is written,
both are the same bytes, and nothing has to be copied.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.program.ir import Operation, Program


def updates_in_place(program: Program, root: Mapping[str, str]) -> dict[str, str]:
    """Tensors that are written to the bytes of a state, for the order that the Program has.

    Every operation that reads the state must have run before the tensor is written; the one that
    writes it may read the state where the operator allows it, see
    :attr:`~edgekit.program.operators.base.Operator.in_place`. An output of the Program has bytes
    of its own, as it lives where the user finds it.

    Args:
        program: a verified Program.
        root: of every tensor, see :func:`~edgekit.program.plan.aliases`.

    Returns:
        The state by its `read`, by the root of its `write`. Of two states that are written with one
        tensor the first.
    """
    step = {op.name: i for i, op in enumerate(program.operations)}
    producers = {name: op for op in program.operations for name in op.outputs}
    readers = readers_of_state(program, root)
    outputs = {root[boundary.tensor] for boundary in program.outputs}
    found: dict[str, str] = {}
    for state in program.state:
        write = root[state.write]
        producer = producers.get(write)
        if producer is None or write in found or outputs & {write, state.read}:
            continue
        others = [op for op in readers[state.read] if op is not producer]
        if all(step[op.name] < step[producer.name] for op in others) and all(
            _may_overwrite(program, producer, position, write)
            for position, name in enumerate(producer.inputs)
            if name is not None and root[name] == state.read
        ):
            found[write] = state.read
    return found


def readers_of_state(program: Program, root: Mapping[str, str]) -> dict[str, list[Operation]]:
    """Operations that read a state, under whatever shape, by its `read`; changing it is none."""
    readers: dict[str, list[Operation]] = {state.read: [] for state in program.state}
    for op in program.operations:
        for read in {root[name] for name in op.present_inputs} & readers.keys():
            if not op.operator.alias:
                readers[read].append(op)
    return readers


def _may_overwrite(program: Program, op: Operation, position: int, output: str) -> bool:
    """Whether `op` may write an output over the input at `position`."""
    allowed = op.operator.overwritten(op.outputs.index(output))
    (kind,) = program.types((op.inputs[position],))
    return position in allowed and kind == program.tensors[output].type
