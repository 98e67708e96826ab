"""Quantised constants: weights per channel, biases, other operands per tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.program.ir import Array, Quantization
from edgekit.quantize.observers import affine_quantization

BIAS_LIMIT = 2.0**30
"""Largest magnitude of an int32 bias; the sum of products gets the rest."""

WIDE_BIAS_LIMIT = 2.0**52
"""The same where products are summed in int64: of integers beyond int8, and of groups."""

DEAD_ROW_BIAS = 2.0**23
"""Magnitude of the bias of a row (an output channel) of zeros: precise and far from overflow."""

_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class QuantizedWeights:
    """Symmetric int8 weights.

    Attributes:
        data: int8, of the shape of the real weights, in −127…127.
        scale: float32 per channel.
        axis: the channels' axis.
        bias: int32 per channel, in steps of ``x_scale · scale``; None for no bias.
        bias_scale: float32 product of both scales per channel.
    """

    data: NDArray[np.int8]
    scale: NDArray[np.float32]
    axis: int
    bias: NDArray[np.int32] | None
    bias_scale: NDArray[np.float32]


def quantize_weights(
    weights: Array, axis: int, x_scale: float, bias: Array | None, *, groups: int = 1
) -> QuantizedWeights:
    """Quantise weights per channel, and their bias with them.

    The scale is the largest magnitude over 127, raised where the bias would not fit int32
    otherwise. A channel of zeros takes its scale from the bias alone, and 1 without one.

    Args:
        weights: float32.
        axis: of the channels.
        x_scale: of the input.
        bias: float32 per output channel, or None.
        groups: how many output channels share each index of `axis` (transposed convolutions);
            output channel ``g · channels + c`` belongs to channel c.
    """
    channels = weights.shape[axis]
    rest = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights.astype(np.float64)).max(axis=rest)
    offset = np.zeros(channels) if bias is None else np.abs(bias.astype(np.float64))
    offset = offset.reshape(-1, channels).max(axis=0)
    limit = np.where(largest > 0, BIAS_LIMIT, DEAD_ROW_BIAS)
    needed = np.maximum(largest / 127, offset / (x_scale * limit))
    scale = np.where(needed > 0, np.maximum(needed, _SMALLEST_SCALE), 1.0).astype(np.float32)

    shape = [1] * weights.ndim
    shape[axis] = channels
    steps = scale.astype(np.float64)
    data = np.clip(np.rint(weights.astype(np.float64) / steps.reshape(shape)), -127, 127)
    bias_scale = np.tile((np.float64(x_scale) * steps).astype(np.float32), groups)
    integers = None
    if bias is not None:
        # The step is the exact product: the integer Program multiplies the two scales itself.
        exact = np.tile(np.float64(x_scale) * steps, groups)
        integers = np.rint(bias.astype(np.float64) / exact).astype(np.int32)
    return QuantizedWeights(data.astype(np.int8), scale, axis, integers, bias_scale)


def quantize_constant(array: Array) -> tuple[NDArray[np.int8], Quantization]:
    """Asymmetric int8 per tensor over the range of a float32 constant.

    >>> codes, quantization = quantize_constant(np.float32([0, 0.5, 2.55]))
    >>> codes.tolist(), quantization.zero_point
    ([-128, -78, 127], (-128,))
    """
    quantization = affine_quantization(float(array.min()), float(array.max()))
    return encode(array, quantization), quantization


def encode(array: Array, quantization: Quantization) -> NDArray[np.int8]:
    """Nearest codes of reals, halves to even, saturated."""
    codes = np.rint(array.astype(np.float64) / quantization.scalar_scale)
    moved = np.clip(codes + quantization.scalar_zero_point, -128, 127)
    return np.asarray(moved, np.int8)
