"""What keeps a Program from being written in another format, told all at once."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.errors import UnsupportedError
from edgekit.program.ir import Operation, Program
from edgekit.program.operators.base import Operator

LISTED = 20
"""Most problems that a message lists."""


LARGEST_FILE = 2**31 - 2**24
"""Most bytes of constants: offsets of flatbuffers and lengths of protobuf messages have 31 bits,
and the rest of a file needs some."""


class UnwritableError(Exception):
    """A format cannot say an operation; the message says why."""


def named(operation: Operation, error: UnwritableError) -> str:
    """A problem with the name of its operation."""
    return f"{operation.name} ({operation.operator.name}): {error}"


def unknown(writers: Iterable[type[Operator]]) -> UnwritableError:
    """The problem of an operator that is not among those with a writer."""
    known = ", ".join(sorted(kind.name for kind in writers))
    return UnwritableError(f"has no form there; those that have are {known}")


def require_size(program: Program, target: str) -> None:
    """Refuse a Program whose constants do not fit one file; see :func:`refuse`."""
    total = sum(tensor.bytes for tensor in program.tensors.values() if tensor.is_constant)
    if total > LARGEST_FILE:
        refuse(program, target, [f"it has {total:,} bytes of constants, at most {LARGEST_FILE:,}"])


def refuse(program: Program, target: str, problems: list[str]) -> None:
    """Refuse a Program where there are problems.

    Args:
        program: what was to be written.
        target: as what, in words.
        problems: one line each.

    Raises:
        UnsupportedError: lists the problems.
    """
    if not problems:
        return
    listed = problems[:LISTED]
    if len(problems) > LISTED:
        listed.append(f"and {len(problems) - LISTED} more")
    raise UnsupportedError(
        f"{program.name}: cannot be written as {target}:\n  " + "\n  ".join(listed)
    )
