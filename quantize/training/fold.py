"""Batch normalisation folded into the scales of a coded layer, never into its integers.

``γ·(s·Σ q·x + b - μ)/σ + β`` has the same integers with the row scale ``|γ|/σ·s``; where γ is
negative, the integers of the row change sign, which symmetric levels hold exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.errors import UnsupportedError
from edgekit.formats import Coded, Format
from edgekit.formats.scales import SMALLEST_SCALE
from edgekit.quantize.constants import BIAS_LIMIT, DEAD_ROW_BIAS, WIDE_BIAS_LIMIT


@dataclass(frozen=True, eq=False)
class Affine:
    """``y = scale · x + shift`` per channel, float64.

    Attributes:
        scale: ``[R]``.
        shift: ``[R]``.
    """

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


def affine_of(norm: nn.Module) -> Affine:
    """What a batch normalisation computes in eval mode.

    Raises:
        UnsupportedError: it keeps no running statistics.
    """
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    if norm.running_mean is None or norm.running_var is None:
        raise UnsupportedError(
            f"{type(norm).__name__} has no running statistics to fold; "
            "make it with track_running_stats=True"
        )
    deviation = np.sqrt(_double(norm.running_var) + norm.eps)
    scale = 1 / deviation if norm.weight is None else _double(norm.weight) / deviation
    shift = -_double(norm.running_mean) * scale
    return Affine(scale, shift if norm.bias is None else shift + _double(norm.bias))


def fold(coded: Coded, fmt: Format, bias: Tensor | None, affine: Affine) -> tuple[Coded, Tensor]:
    """A layer's rows and bias with an affine map behind it folded in.

    Args:
        coded: rows of the weight.
        fmt: the format that made them.
        bias: of the layer, None for none.
        affine: behind the layer.

    Raises:
        UnsupportedError: a negative factor for a row whose integers have no opposites.
    """
    rows = coded.integers.shape[0]
    negative = affine.scale < 0
    integers = np.where(negative[:, np.newaxis], -coded.integers, coded.integers)
    if not np.isin(integers[negative], fmt.element.levels).all():
        raise UnsupportedError(
            f"a batch normalisation has a negative weight behind {fmt} weights, whose levels are "
            "not symmetric; prepare() keeps such weights positive"
        )
    exact = np.broadcast_to(coded.scale, (rows,)).astype(np.float64) * np.abs(affine.scale)
    # A factor of 0 leaves nothing of a row; its scale must stay positive.
    scale = np.maximum(exact, float(SMALLEST_SCALE)).astype(np.float32)
    start = np.zeros(rows) if bias is None else _double(bias)
    shifted = (start * affine.scale + affine.shift).astype(np.float32)
    folded = replace(coded, integers=integers.astype(coded.integers.dtype), scale=scale)
    return folded, torch.from_numpy(shifted)


def fit_bias(coded: Coded, fmt: Format, bias: Tensor | None, x_scale: float) -> Coded:
    """Rows whose bias fits the accumulator, in steps of both scales.

    A row that its bias exceeds by so much that no accumulator holds it adds nothing to it: its
    scale is raised, and its integers become 0 where the format has one. A row of zeros takes its
    scale from the bias.

    Args:
        coded: rows of a weight.
        fmt: the format that made them.
        bias: one per row, None for none.
        x_scale: of the layer's input.
    """
    if bias is None:
        return coded
    rows = coded.integers.shape[0]
    scale = np.broadcast_to(coded.scale, (rows,)).astype(np.float64)
    magnitude = np.abs(_double(bias))
    dead = ~coded.integers.any(axis=1)
    wide = coded.factors is not None or fmt.element.dtype != np.int8
    most = WIDE_BIAS_LIMIT if wide else BIAS_LIMIT
    drowned = ~dead & (magnitude > scale * x_scale * most)
    if not (drowned | (dead & (magnitude > 0))).any():
        return coded
    empty = dead | (drowned & (0 in fmt.element.levels))
    limit = np.where(empty, DEAD_ROW_BIAS, most)
    needed = np.maximum(magnitude / (x_scale * limit), float(SMALLEST_SCALE))
    changed = drowned | (dead & (magnitude > 0))
    return replace(
        coded,
        integers=np.where(empty[:, np.newaxis], 0, coded.integers).astype(coded.integers.dtype),
        scale=np.where(changed, needed, scale).astype(np.float32),
    )


class Magnitude(nn.Module):
    """A parametrisation that keeps the weights of a batch normalisation from being negative."""

    def forward(self, weight: Tensor) -> Tensor:
        """The magnitudes."""
        return weight.abs()


@torch.no_grad()
def make_positive(layer: nn.Module, norm: nn.Module) -> None:
    """Turn rows of a layer so that the normalisation behind it has no negative weight.

    What both compute together stays the same to the bit.

    Args:
        layer: Linear or a convolution, in float.
        norm: batch normalisation behind it.
    """
    assert isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    if not norm.affine:
        return
    negative = norm.weight < 0
    turned = [layer.weight, layer.bias, norm.weight, norm.running_mean]
    for tensor in turned:
        if tensor is not None:
            tensor[negative] = -tensor[negative]


def _double(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().cpu().numpy().astype(np.float64)
