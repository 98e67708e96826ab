"""Torch operators of coded weights, dynamic activations and binary activations.

They mean to the bit what the functions of :mod:`edgekit.model.domain` and the Program's operators
mean, on any device. Each becomes one node in ONNX; :mod:`edgekit.model.capture.symbolic` holds the
table.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgekit.errors import UsageError
from edgekit.formats import ELEMENTS
from edgekit.formats.packing import TRITS
from edgekit.model.coded import coded_attributes, operator_of
from edgekit.model.domain import DOMAIN, VERSION

DYNAMIC_FLOOR = 1e-5
"""Smallest magnitude that a dynamic scale is made for: BitNet's epsilon (arXiv 2402.17764)."""


def dequantize_weights(
    packed: Tensor,
    levels: Tensor,
    scale: Tensor,
    factor_codes: Tensor,
    factor_levels: Tensor,
    *,
    element: str,
    factors: str,
    columns: int,
    group: int,
) -> Tensor:
    """Packed weights as reals; stays packed when the module is deployed.

    ``(levels[code] * factor_levels[factor_code]) * scale``: the first product is exact, the second
    rounds once. :func:`edgekit.model.coded.coded_initializers` makes the tensors; there is no
    gradient.

    Args:
        packed: uint8[R,B], rows as :mod:`edgekit.formats` packs them.
        levels: float32, the integer that each code means.
        scale: float32[R] or [1].
        factor_codes: uint8[R,G], one per group; zeros [R,1] without factors.
        factor_levels: float32, the integer that each factor's code means; [1.0] without factors.
        element: name of the number format, of :data:`edgekit.formats.ELEMENTS`.
        factors: kind of factors, ``none`` without.
        columns: K, weights of a row.
        group: weights that share a factor; `columns` without factors.

    Returns:
        float32[R,K].

    Raises:
        UsageError: an unknown element, or tensors whose shapes do not fit each other.

    >>> packed = torch.tensor([[0x7F]], dtype=torch.uint8)
    >>> levels = torch.tensor([float(c if c < 8 else c - 16) for c in range(16)])
    >>> no_factors = torch.zeros(1, 1, dtype=torch.uint8), torch.ones(1)
    >>> dequantize_weights(packed, levels, torch.tensor([0.5]), *no_factors, element="int4",
    ...     factors="none", columns=2, group=2).tolist()
    [[-0.5, 3.5]]
    """
    if element not in ELEMENTS:
        raise UsageError(f"element {element!r} is unknown, must be one of {', '.join(ELEMENTS)}")
    rows, needed = packed.shape[0], ELEMENTS[element].row_bytes(columns)
    groups = -(-columns // group) if columns >= 1 and group >= 1 else 0
    if (
        packed.shape != (rows, needed)
        or scale.shape not in ((rows,), (1,))
        or factor_codes.shape != (rows, groups)
        or levels.ndim != 1
        or factor_levels.ndim != 1
    ):
        raise UsageError(
            f"{element} of {columns} columns in groups of {group}: packed {list(packed.shape)}, "
            f"scale {list(scale.shape)} and factor codes {list(factor_codes.shape)} do not fit, "
            f"must be [R,{needed}], [R] or [1], and [R,{groups}]"
        )
    result: Tensor = _dequantize(
        packed, levels, scale, factor_codes, factor_levels, element, factors, columns, group
    )
    return result


@torch.library.custom_op("edgekit::dequantize_weights", mutates_args=())
def _dequantize(
    packed: Tensor,
    levels: Tensor,
    scale: Tensor,
    factor_codes: Tensor,
    factor_levels: Tensor,
    element: str,
    factors: str,
    columns: int,
    group: int,
) -> Tensor:
    codes = _codes(packed, element, columns)
    factor = factor_levels[factor_codes.long()].repeat_interleave(group, 1)[:, :columns]
    return (levels[codes] * factor) * scale[:, None]


def _codes(packed: Tensor, element: str, columns: int) -> Tensor:
    """int64[R,K] from uint8[R,B]."""
    known, rows = ELEMENTS[element], packed.shape[0]
    stored = packed.long()[:, :, None]
    if known.packing == "trits":
        powers = 3 ** torch.arange(TRITS, device=packed.device)
        digits = stored.div(powers, rounding_mode="floor") % 3
        return digits.reshape(rows, -1)[:, :columns]
    string = (stored >> torch.arange(8, device=packed.device)) & 1
    meaning = string.reshape(rows, -1)[:, : columns * known.bits].reshape(rows, columns, known.bits)
    return (meaning << torch.arange(known.bits, device=packed.device)).sum(2)


@_dequantize.register_fake
def _(packed: Tensor, levels: Tensor, *others: Any) -> Tensor:
    columns: int = others[-2]
    return levels.new_empty((packed.shape[0], columns))


def dequantize_symbol(*arguments: Any) -> Tensor:
    """The ONNX node of :func:`dequantize_weights`, with its arguments in order."""
    *tensors, element, factors, columns, group = arguments
    known = ELEMENTS[element]
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{operator_of(known)}",
        tensors,
        coded_attributes(known, factors, columns, group),
        dtype=torch.float32,
        shape=(tensors[0].shape[0], columns),
        version=VERSION,
    )


def dynamic_quantize_dequantize(x: Tensor, *, floor: float = DYNAMIC_FLOOR) -> Tensor:
    """Symmetric int8 quantisation with a scale of its own per row, and back.

    Rows run along the last axis. The codes and scales are those of the Program's
    ``dynamic_quantize``; the gradient passes unchanged (straight-through), the scale is no part of
    it.

    Args:
        x: float32 of at least one axis.
        floor: smallest magnitude that a row's scale is made for, positive.

    Raises:
        UsageError: `x` has no last axis, or `floor` is not in 1e-30…1e30.

    >>> dynamic_quantize_dequantize(torch.tensor([[127.0, -2.2, 0.0]])).tolist()
    [[127.0, -2.0, 0.0]]
    """
    if x.ndim < 1 or x.shape[-1] < 1:
        raise UsageError(f"x has shape {list(x.shape)}, must have a last axis that is not empty")
    if not 1e-30 <= floor <= 1e30:
        raise UsageError(f"floor is {floor}, must be in 1e-30…1e30")
    result: Tensor = _dynamic(x, floor)
    return result


@torch.library.custom_op("edgekit::dynamic_quantize_dequantize", mutates_args=())
def _dynamic(x: Tensor, floor: float) -> Tensor:
    # One-element tensors, not numbers: CUDA divides by a number through its reciprocal.
    limit = torch.full((1,), 127.0, dtype=x.dtype, device=x.device)
    least = torch.full((1,), floor, dtype=x.dtype, device=x.device)
    absmax = torch.maximum(x.abs().amax(-1, keepdim=True), least)
    codes = torch.round(torch.clamp(x * (limit / absmax), -127, 127))
    return codes * (absmax / limit)


@_dynamic.register_fake
def _(x: Tensor, floor: float) -> Tensor:
    return torch.empty_like(x)


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del ctx, inputs, output


def _dynamic_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return grad, None


_dynamic.register_autograd(_dynamic_backward, setup_context=_keep_nothing)


def dynamic_symbol(x: Tensor, floor: float) -> Tensor:
    """The ONNX node of :func:`dynamic_quantize_dequantize`."""
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::DynamicQuantizeDequantize",
        (x,),
        {"floor": floor},
        dtype=x.dtype,
        shape=x.shape,
        version=VERSION,
    )


def binarize(x: Tensor, scale: Tensor) -> Tensor:
    """``scale`` where x >= 0, ``-scale`` elsewhere.

    The gradient is that of ``clamp(x, -scale, scale)`` for `x` (straight-through inside the
    levels), and of the result itself for `scale`.

    Args:
        x: float32 of any shape.
        scale: float32, positive, one element.

    Raises:
        UsageError: several scales.

    >>> binarize(torch.tensor([-0.1, 0.0, 3.0]), torch.tensor(0.5)).tolist()
    [-0.5, 0.5, 0.5]
    """
    if scale.numel() != 1:
        raise UsageError(f"scale has {scale.numel()} elements, must have one")
    result: Tensor = _binarize(x, scale)
    return result


@torch.library.custom_op("edgekit::binarize", mutates_args=())
def _binarize(x: Tensor, scale: Tensor) -> Tensor:
    level = scale.reshape(())
    return torch.where(x >= 0, level, -level)


@_binarize.register_fake
def _(x: Tensor, scale: Tensor) -> Tensor:
    return torch.empty_like(x)


def _keep_operands(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _binarize_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, scale = ctx.saved_tensors
    sign = torch.where(x >= 0, grad, -grad)
    return grad * (x.abs() <= scale.reshape(())), sign.sum().reshape(scale.shape)


_binarize.register_autograd(_binarize_backward, setup_context=_keep_operands)


def binarize_symbol(x: Tensor, scale: Tensor) -> Tensor:
    """The ONNX node of :func:`binarize`."""
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::Binarize", (x, scale), dtype=x.dtype, shape=x.shape, version=VERSION
    )
