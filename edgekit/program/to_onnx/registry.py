"""The table of operators that can be said in ONNX."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.program.operators.base import Operator
from edgekit.program.to_onnx.node import Node

OperatorWriter = Callable[[Node], None]

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
