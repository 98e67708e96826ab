"""The table of builtin operators that the reader understands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgekit.program.tflite.flatbuffer import Fields
from edgekit.program.tflite.node import Node
from edgekit.program.tflite.schema import BUILTINS, OPTIONS

BuiltinReader = Callable[[Node], None]


@dataclass(frozen=True)
class Builtin:
    """How one builtin operator is read.

    Attributes:
        read: checks the node and emits operations.
        inputs: fewest and most inputs.
        outputs: fewest and most outputs.
        options_type: number of its option table in the union, 0 where it needs none.
        options: declaration of its option table.
    """

    read: BuiltinReader
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    options_type: int
    options: Fields


READERS: dict[str, Builtin] = {}
"""Every builtin operator that can be read, by its name in the schema."""

MANY = 1 << 16
"""No bound on a number of inputs or outputs."""


def builtin(
    name: str,
    *,
    inputs: int | tuple[int, int] = 1,
    outputs: int | tuple[int, int] = 1,
    options: str | None = None,
) -> Callable[[BuiltinReader], BuiltinReader]:
    """Register the reader of a builtin operator; stack it where one function reads several.

    Args:
        name: in the schema.
        inputs: how many it takes, or fewest and most.
        outputs: likewise.
        options: name of its option table in :data:`edgekit.program.tflite.schema.OPTIONS`.
    """

    def register(read: BuiltinReader) -> BuiltinReader:
        assert name in BUILTINS
        assert name not in READERS
        number, fields = OPTIONS[options] if options else (0, {})
        READERS[name] = Builtin(
            read,
            (inputs, inputs) if isinstance(inputs, int) else inputs,
            (outputs, outputs) if isinstance(outputs, int) else outputs,
            number,
            fields,
        )
        return read

    return register
