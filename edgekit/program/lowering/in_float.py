"""What of a quantised Model computes in float32, and how the user hears of it."""

from __future__ import annotations

from edgekit.model.coded import is_quantized
from edgekit.program.ir import DType, Program
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.operators.convolution import Convolution
from edgekit.program.operators.linear import BatchMatMul, FullyConnected
from edgekit.program.operators.recurrent import Recurrent

_PRODUCTS = (Convolution, FullyConnected, BatchMatMul, Recurrent)
"""Operators that multiply with weights, or two activations."""


def in_float(low: Lowerer, program: Program) -> tuple[str, ...]:
    """What a quantised Model leaves in float32, one sentence each.

    Where activations are quantised dynamically, a network is float between its matrix products by
    design; then only products are listed that were to be quantised.
    """
    if not is_quantized(low.graph):
        return ()
    lines: list[str] = []
    conversions: list[str] = []
    for operation in program.operations:
        names = (*operation.present_inputs, *operation.outputs)
        is_real = any(program.tensors[n].dtype == DType.FLOAT32 for n in names)
        if not is_real or operation.operator.alias:
            continue
        reason = low.reasons.get(low.origins[operation.name])
        if low.dynamic and not (reason and isinstance(operation.operator, _PRODUCTS)):
            continue
        line = f"{operation.name} ({operation.operator.name})" + (f": {reason}" if reason else "")
        converts = operation.operator.name in ("quantize", "dequantize")
        (conversions if converts else lines).append(line)
    # Conversions surround what stays in float; they are news only where nothing else does.
    return tuple(lines or conversions)


def notes(low: Lowerer, program: Program) -> tuple[str, ...]:
    """What the user should hear of; first, what a dynamically quantised network has in float."""
    between = {
        op.operator.name
        for op in program.operations
        if not op.operator.alias
        and all(
            program.tensors[n].dtype is DType.FLOAT32 for n in (*op.present_inputs, *op.outputs)
        )
    }
    if not low.dynamic or not between:
        return tuple(low.notes)
    return (
        "activations are quantised row by row while the network runs; between its matrix "
        f"products it computes in float32: {', '.join(sorted(between))}",
        *low.notes,
    )
