"""What was written is read back and compared with the Program, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from edgekit.program.ir import Operation, Program
from edgekit.program.operators.base import Operator


def differences(program: Program, copy: Program) -> Iterator[str]:
    """How what the file means differs from what was to be said, one line per operation.

    Names of operations and constants may differ.

    Args:
        program: what was written, its operations those that TFLite has.
        copy: what the file reads as.
    """
    if len(program.operations) != len(copy.operations):
        yield f"{len(copy.operations)} operations for {len(program.operations)}"
        return
    standing = {b.tensor: c.tensor for b, c in zip(program.inputs, copy.inputs, strict=True)}
    for mine, other in zip(program.operations, copy.operations, strict=True):
        problems = [
            *_fields(mine.operator, other.operator),
            *_inputs(program, mine, copy, other, standing),
        ]
        if program.types(mine.outputs) != copy.types(other.outputs):
            problems.append(f"outputs {copy.types(other.outputs)}")
        standing.update(zip(mine.outputs, other.outputs, strict=False))
        if problems:
            yield f"{mine.name} ({mine.operator.name}): in TFLite it would be {'; '.join(problems)}"


def _fields(mine: Operator, other: Operator) -> Iterator[str]:
    if type(mine) is not type(other):
        yield f"{other.name}"
        return
    for field in fields(mine):
        wanted, got = getattr(mine, field.name), getattr(other, field.name)
        if wanted != got:
            yield f"{field.name}={_short(got)}, must be {_short(wanted)}"


def _inputs(
    program: Program, mine: Operation, copy: Program, other: Operation, standing: dict[str, str]
) -> Iterator[str]:
    """Inputs that are not what they were; trailing absent ones do not count."""
    count = max(len(mine.inputs), len(other.inputs))
    for index in range(count):
        wanted, got = (op.inputs[index] if index < len(op.inputs) else None for op in (mine, other))
        if wanted is None or got is None:
            same = wanted is got
        else:
            a, b = program.tensors[wanted], copy.tensors[got]
            same = a.type == b.type
            if a.data is None or b.data is None:
                same = same and standing.get(wanted) == got
            else:
                same = same and np.array_equal(a.data, b.data)
        if not same:
            yield f"another input {index}"


def _short(value: object) -> str:
    """A field's value, cut where it holds many numbers."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
