"""The table of lowering functions, one per ONNX operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_ir

if TYPE_CHECKING:
    from edgekit.program.lowering.lowerer import Lowerer

Lowering = Callable[["Lowerer", onnx_ir.Node], None]

LOWERINGS: dict[tuple[str, str], Lowering] = {}
"""Lowering functions by domain ("" is ONNX's own) and operator."""

REWRITTEN = {
    "BatchNormalization": "with constant parameters",
    "Cast": "of constants, or to the type that the input has",
    "Constant": "as long as it is no output",
    "Div": "by a float32 constant",
    "Gather": "of one constant index, or of consecutive ones",
    "HardSigmoid": "of float32",
    "Max": "of a float32 value and one constant number",
    "Min": "of a float32 value and one constant number",
    "PRelu": "with one constant slope",
    "Shape": "of a value with a static shape",
    "Upsample": "with constant scales",
}
"""Operators without a lowering that the Model's passes remove, with the form they must have."""


def lowering(*op_types: str, domain: str = "") -> Callable[[Lowering], Lowering]:
    """Register the lowering of ONNX operators; decorates ``function(lowerer, node)``.

    The function reads values with :meth:`Lowerer.value`, adds operations with
    :meth:`Lowerer.emit` and gives every output with :meth:`Lowerer.define` or
    :meth:`Lowerer.define_plain`. It raises UnsupportedError for forms that it cannot lower.
    Operators of other domains register the same way::

        @lowering("FFT", domain="acme")
        def fft(low: Lowerer, node: onnx_ir.Node) -> None:
            x = low.plain(node, low.real(node, low.value(node.inputs[0])))
            y = low.emit(node, AcmeFFT(), x.tensor, name=node.outputs[0].name)
            low.define_plain(node.outputs[0], y)

    Args:
        op_types: operators that the function lowers.
        domain: their domain.

    Raises:
        ValueError: an operator has a lowering already.
    """

    def register(function: Lowering) -> Lowering:
        for op_type in op_types:
            if (domain, op_type) in LOWERINGS:
                raise ValueError(f"{domain or 'ONNX'} operator {op_type!r} has a lowering already")
            LOWERINGS[domain, op_type] = function
        return function

    return register


def supported() -> list[str]:
    """Names of all operators that can be lowered, sorted, with their domain where it is not ONNX.

    >>> import edgekit.program.lowering
    >>> "Conv" in supported()
    True
    """
    names = [f"{domain}.{op_type}" if domain else op_type for domain, op_type in LOWERINGS]
    return sorted([*names, *REWRITTEN])
