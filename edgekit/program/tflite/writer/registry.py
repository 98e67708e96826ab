"""The table of operators that TFLite has builtin operators for."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.program.operators.base import Operator
from edgekit.program.tflite.writer.file import Writing

OperatorWriter = Callable[[Writing], None]

WRITERS: dict[type[Operator], OperatorWriter] = {}
"""The function that writes each operator."""


def writes(*kinds: type[Operator]) -> Callable[[OperatorWriter], OperatorWriter]:
    """Register the writer of some operators."""

    def register(write: OperatorWriter) -> OperatorWriter:
        for kind in kinds:
            assert kind not in WRITERS
            WRITERS[kind] = write
        return write

    return register
