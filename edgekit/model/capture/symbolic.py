"""Torch operators that stay one ``edgekit``-domain node on their way to a Model.

Each is a registered torch operator with its real result, so that a module that uses it can be
trained, exported and run by anybody. Only at the border to ONNX does it become a symbol
(:func:`with_symbols`), which :mod:`edgekit.model.domain` defines in standard operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from edgekit.errors import UsageError
from edgekit.model.capture import coded, decomposed
from edgekit.model.capture.coded import (
    binarize,
    dequantize_weights,
    dynamic_quantize_dequantize,
)
from edgekit.model.domain import DOMAIN, VERSION

__all__ = [
    "SYMBOLS",
    "binarize",
    "dequantize_weights",
    "dynamic_quantize_dequantize",
    "quantize_dequantize",
    "with_symbols",
]


def quantize_dequantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    *,
    low: int,
    high: int,
    axis: int = 0,
) -> Tensor:
    """Fake quantisation that becomes int8 codes when the module is deployed.

    ``(clamp(round(x / scale) + zero_point, low, high) - zero_point) * scale``, halves to even. The
    gradient passes through rounding unchanged (straight-through): `x` gets it where the code lies
    inside the range, `scale` as in learned step size quantisation (Esser et al., arXiv 1902.08153,
    without that paper's factor).

    Args:
        x: float32 of any shape.
        scale: float32, positive; one element, or one per index of `axis`.
        zero_point: integers in `low`…`high`, as many as scales.
        low: smallest code, -128 or more.
        high: largest code, 127 or less.
        axis: that scales run along where there are several.

    Returns:
        float32 of the shape of `x`.

    Raises:
        UsageError: a range outside int8, or counts of scales and zero points that do not fit.

    >>> x = torch.tensor([0.26, -9.0])
    >>> quantize_dequantize(x, torch.tensor(0.1), torch.tensor(0), low=-8, high=7).tolist()
    [0.30000001192092896, -0.800000011920929]
    """
    if not -128 <= low < high <= 127:
        raise UsageError(f"codes {low}…{high} must be a range within -128…127")
    if scale.numel() != zero_point.numel() or (
        scale.numel() != 1 and (not -x.ndim <= axis < x.ndim or x.shape[axis] != scale.numel())
    ):
        raise UsageError(
            f"{scale.numel()} scales and {zero_point.numel()} zero points do not fit axis {axis} "
            f"of shape {list(x.shape)}"
        )
    result: Tensor = _operator(x, scale, zero_point.to(torch.int8), low, high, axis)
    return result


@torch.library.custom_op("edgekit::quantize_dequantize", mutates_args=())
def _operator(
    x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, axis: int
) -> Tensor:
    step, zero = _along(scale, x, axis), _along(zero_point, x, axis).to(x.dtype)
    codes = torch.clamp(torch.round(x / step) + zero, low, high)
    return (codes - zero) * step


@_operator.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, axis: int) -> Tensor:
    return torch.empty_like(x)


def _along(parameter: Tensor, x: Tensor, axis: int) -> Tensor:
    """A parameter in a shape that broadcasts along an axis of `x`."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    shape = [1] * x.ndim
    shape[axis] = -1
    return parameter.reshape(shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, zero_point, ctx.low, ctx.high, ctx.axis = inputs
    ctx.save_for_backward(x, scale, zero_point)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, scale, zero_point = ctx.saved_tensors
    step, zero = _along(scale, x, ctx.axis), _along(zero_point, x, ctx.axis).to(x.dtype)
    ratio = x / step
    codes = torch.round(ratio) + zero
    inside = (codes >= ctx.low) & (codes <= ctx.high)
    saturated = torch.clamp(codes, ctx.low, ctx.high) - zero
    by_scale = grad * torch.where(inside, saturated - ratio, saturated)
    if scale.numel() == 1:
        grad_scale = by_scale.sum()
    else:
        grad_scale = by_scale.sum([a for a in range(x.ndim) if a != ctx.axis % x.ndim])
    return grad * inside, grad_scale.reshape(scale.shape), None, None, None, None


_operator.register_autograd(_backward, setup_context=_keep)


def _quantizer_symbol(
    x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, axis: int
) -> Tensor:
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::QuantizeDequantize",
        (x, scale, zero_point),
        {"low": low, "high": high, "axis": axis},
        dtype=x.dtype,
        shape=x.shape,
        version=VERSION,
    )


SYMBOLS: dict[str, Callable[..., Any]] = {
    "edgekit.quantize_dequantize.default": _quantizer_symbol,
    "edgekit.dequantize_weights.default": coded.dequantize_symbol,
    "edgekit.dynamic_quantize_dequantize.default": coded.dynamic_symbol,
    "edgekit.binarize.default": coded.binarize_symbol,
    **{
        f"quantized_decomposed.{function.__name__}.{overload}": function
        for function, overloads in (
            (decomposed.quantize_per_tensor, ("default", "tensor", "tensor2")),
            (decomposed.quantize_per_channel, ("default",)),
            (decomposed.dequantize_per_tensor, ("default", "tensor", "tensor2")),
            (decomposed.dequantize_per_channel, ("default",)),
        )
        for overload in overloads
    },
}
"""What stands for torch operators in an ONNX graph, by the operators' names."""


def with_symbols(program: ExportedProgram) -> ExportedProgram:
    """The program with symbols for the operators of :data:`SYMBOLS`, which stay nodes in ONNX."""
    table: dict[Any, Callable[..., Any]] = {
        node.target: SYMBOLS[str(node.target)]
        for node in program.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload) and str(node.target) in SYMBOLS
    }
    if not table:
        return program
    symbolic: ExportedProgram = program.run_decompositions(table)
    return symbolic
