"""Scales for Programs whose operators were made from some but whose tensors carry none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from edgekit.program.ir import DType, Program, Quantization
from edgekit.program.operators.base import OPERATORS, Operator
from edgekit.program.operators.movement import (
    Concat,
    Pad,
    Reshape,
    ResizeNearest,
    Slice,
    Split,
    Transpose,
)
from edgekit.program.operators.pooling import AvgPool2D, MaxPool2D

SCALELESS = (
    *(AvgPool2D, MaxPool2D),
    *(Concat, Pad, Reshape, ResizeNearest, Slice, Split, Transpose),
)
"""Operators whose results have the scale of their inputs."""


class Scales:
    """The quantisations that operators were made from, by operator and port."""

    def __init__(self) -> None:
        self._ports: dict[Operator, dict[str, Quantization]] = {}

    def note(self, operator: Operator, arguments: dict[str, Any]) -> None:
        """Remember the arguments of a constructor that are quantisations."""
        given = {k: v for k, v in arguments.items() if isinstance(v, Quantization)}
        self._ports.setdefault(operator, given)

    def annotated(self, program: Program) -> Program:
        """The Program with scales at its int8 and int16 tensors.

        Those of the operations where they are known. An operator of which none are known, because
        it only moves elements, has one for all.
        """
        tensors = dict(program.tensors)
        if all(isinstance(op.operator, SCALELESS) for op in program.operations):
            for name, tensor in tensors.items():
                if tensor.dtype in (DType.INT8, DType.INT16):
                    tensors[name] = replace(tensor, quantization=Quantization.per_tensor(0.05))
        for operation in program.operations:
            operator = operation.operator
            ports = [*zip(operator.inputs, operation.inputs, strict=False)]
            ports += zip(operator.outputs, operation.outputs, strict=False)
            for port, name in ports:
                quantization = self._ports.get(operator, {}).get(port.rstrip("?*"))
                if name is not None and quantization is not None:
                    tensors[name] = replace(tensors[name], quantization=quantization)
        return program.replace(tensors=tensors)


@contextmanager
def recorded_scales() -> Iterator[Scales]:
    """Note what the operators' ``quantized`` is called with while the context is open."""
    scales = Scales()
    with ExitStack() as stack:
        for kind in OPERATORS.values():
            if hasattr(kind, "quantized"):
                stack.enter_context(patch.object(kind, "quantized", _noting(scales, kind)))
        yield scales


def _noting(scales: Scales, kind: Any) -> Any:
    original = kind.quantized

    def quantized(**arguments: Any) -> Operator:
        operator: Operator = original(**arguments)
        scales.note(operator, arguments)
        return operator

    return quantized
