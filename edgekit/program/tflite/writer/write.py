"""From a Program to a ``.tflite`` file."""

from __future__ import annotations

from collections import Counter

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.program.ir import Program
from edgekit.program.names import free_name
from edgekit.program.problems import UnwritableError, named, refuse, require_size, unknown
from edgekit.program.tflite.reader import read
from edgekit.program.tflite.writer.check import differences
from edgekit.program.tflite.writer.file import TFLiteFile, Writing
from edgekit.program.tflite.writer.legalize import legalize
from edgekit.program.tflite.writer.registry import WRITERS
from edgekit.version import edgekit_version

TARGET = ".tflite"
"""How messages call the format."""


def write(program: Program) -> bytes:
    """Write a Program as a ``.tflite`` file, and check that the file means the same.

    The file's tensors are the Program's, NHWC: an input or output that a source model had in
    another layout or shape (:class:`~edgekit.program.ir.Boundary`) is neither transposed nor
    reshaped. It is called as it was there, so who feeds the file applies the permutation.

    TFLite derives multipliers, shifts and clamps from the scales of tensors. The file is therefore
    read back, and refused unless every operation comes out with the fields it has in the Program.
    A padding that TFLite has no word for becomes an operation of its own; see
    :mod:`edgekit.program.tflite.writer.legalize`.

    Args:
        program: a verified Program without state.

    Returns:
        The file; the same Program and version of edgekit give the same bytes.

    Raises:
        UnsupportedError: lists the operations that TFLite cannot say, each with the reason.
    """
    if program.state:
        lines = [f"state {s.read!r}: TFLite files here have none" for s in program.state]
        refuse(program, TARGET, lines)
    require_size(program, TARGET)
    program = legalize(program)
    file = TFLiteFile(program, _names(program))
    inputs = [file.index(tensor) for tensor in program.input_tensors]
    problems = []
    for operation in program.operations:
        writer = WRITERS.get(type(operation.operator))
        try:
            if writer is None:
                raise unknown(WRITERS)
            writer(Writing(file, operation))
        except UnwritableError as error:
            problems.append(named(operation, error))
    if problems:
        refuse(program, TARGET, problems)
    outputs = [file.index(tensor) for tensor in program.output_tensors]
    data = file.to_bytes(inputs, outputs, f"edgekit {edgekit_version()}")
    try:
        copy = read(data, name=program.name, allow_int16=True)
    except (InvalidModelError, UnsupportedError) as error:
        refuse(program, TARGET, [str(error)])
    refuse(program, TARGET, list(differences(program, copy)))
    return data


def _names(program: Program) -> dict[str, str]:
    """How fed and computed tensors are called: as the boundary says, else as in the Program."""
    boundaries = (*program.inputs, *program.outputs)
    twice = [t for t, count in Counter(b.tensor for b in boundaries).items() if count > 1]
    if twice:
        refuse(
            program,
            TARGET,
            [f"tensor {name!r} is fed or returned more than once" for name in sorted(twice)],
        )
    names = {b.tensor: b.name for b in boundaries}
    taken = set(names.values())
    if len(taken) < len(names):
        refuse(program, TARGET, ["an input and an output have the same name"])
    for name, tensor in program.tensors.items():
        if name in names or tensor.is_constant:
            continue
        names[name] = free_name(name, taken)
        taken.add(names[name])
    return names
