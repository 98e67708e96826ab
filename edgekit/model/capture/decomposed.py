"""Quantisation operators of PT2E and FX exports as ONNX's QuantizeLinear and DequantizeLinear.

torch's own translation knows some of their forms only, and clips codes where the compiler looks for
clipped reals. These forms are the ones that :mod:`edgekit.program.lowering` reads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.uint16)
"""What QuantizeLinear gives."""


def quantize_per_tensor(
    x: Tensor, scale: Any, zero_point: Any, low: int, high: int, dtype: torch.dtype, **_: Any
) -> Any:
    """``quantized_decomposed.quantize_per_tensor``, its parameters numbers or tensors."""
    return _quantize(x, _scalar(scale), _scalar(zero_point), 0, (low, high), dtype)


def quantize_per_channel(
    x: Tensor,
    scales: Tensor,
    zero_points: Tensor,
    axis: int,
    low: int,
    high: int,
    dtype: torch.dtype,
) -> Any:
    """``quantized_decomposed.quantize_per_channel``."""
    return _quantize(x, scales, zero_points, axis, (low, high), dtype)


def dequantize_per_tensor(
    x: Tensor, scale: Any, zero_point: Any, low: int, high: int, dtype: torch.dtype, **_: Any
) -> Any:
    """``quantized_decomposed.dequantize_per_tensor``; codes that are there are in their range."""
    return _dequantize(x, _scalar(scale), _scalar(zero_point), 0)


def dequantize_per_channel(
    x: Tensor,
    scales: Tensor,
    zero_points: Tensor | None,
    axis: int,
    low: int,
    high: int,
    dtype: torch.dtype,
    **_: Any,
) -> Any:
    """``quantized_decomposed.dequantize_per_channel``."""
    if zero_points is None:
        zero_points = torch.zeros_like(scales, dtype=torch.int64)
    return _dequantize(x, scales, zero_points, axis)


def _scalar(parameter: Any) -> Tensor:
    """A number as a tensor; a tensor of one element without axes."""
    if isinstance(parameter, Tensor):
        return parameter.reshape(())
    dtype = torch.float32 if isinstance(parameter, float) else torch.int64
    return torch.full((), parameter, dtype=dtype)


def _quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    axis: int,
    codes: tuple[int, int],
    dtype: torch.dtype,
) -> Any:
    if dtype not in _INTEGERS:
        return NotImplemented
    scale = scale.to(torch.float32)
    info = torch.iinfo(dtype)
    if codes != (info.min, info.max):
        # QuantizeLinear saturates to the whole type. The reals that the outermost codes mean round
        # to these codes again, so clipping those is the same.
        low, high = (_along((c - zero_point).to(torch.float32) * scale, x, axis) for c in codes)
        x = torch.clamp(x, low, high)
    return torch.onnx.ops.symbolic(
        "QuantizeLinear",
        (x, scale, zero_point.to(dtype)),
        {"axis": axis} if scale.ndim else {},
        dtype=dtype,
        shape=x.shape,
        version=_OPSET,
    )


def _dequantize(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Any:
    return torch.onnx.ops.symbolic(
        "DequantizeLinear",
        (x, scale.to(torch.float32), zero_point.to(x.dtype)),
        {"axis": axis} if scale.ndim else {},
        dtype=torch.float32,
        shape=x.shape,
        version=_OPSET,
    )


_OPSET = 18
"""Of the symbols; QuantizeLinear has had this form since 13."""


def _along(parameter: Tensor, x: Tensor, axis: int) -> Tensor:
    if not parameter.ndim:
        return parameter
    shape = [1] * x.ndim
    shape[axis] = -1
    return parameter.reshape(shape)
