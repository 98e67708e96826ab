"""Binary weights with the rectified straight-through estimator.

ReSTE: Wu et al. 2023, "Estimator Meets Equilibrium Perspective: A Rectified Straight Through
Estimator for Binary Neural Networks Training", arXiv 2308.06689. Forward is the sign; backward is
the derivative of ``sign(z) * abs(z)**(1 / o)``, which goes from the identity (o = 1) towards the
sign as o grows during training::

    (1/o) * abs(z)**((1 - o) / o)     0.1 < abs(z) < 1.5
    0.1**(1/o) / 0.1                  abs(z) <= 0.1
    0                                 abs(z) >= 1.5

Here z is the weight over the scale of its row, the mean magnitude, so that the borders mean the
same in every layer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from edgekit.formats import Format
from edgekit.quantize.training.direct import DynamicScale
from edgekit.quantize.training.layout import RowLayout

NEAR, FAR = 0.1, 1.5
"""Borders of the estimator: its derivative is constant below the one, and 0 above the other."""

LAST_EXPONENT = 3.0
"""o at the end of a training."""


def reste_exponent(progress: float, last: float = LAST_EXPONENT) -> float:
    """``o = 1 + (1 - cos(π e / 2E)) * (last - 1)`` at the share e/E of a training.

    >>> reste_exponent(0.0), round(reste_exponent(1.0), 12)
    (1.0, 3.0)
    """
    return 1 + (1 - math.cos(math.pi * min(max(progress, 0.0), 1.0) / 2)) * (last - 1)


def reste_gradient(z: Tensor, exponent: Tensor) -> Tensor:
    """The estimator's derivative; see the module.

    Args:
        z: what the sign is taken of, any shape.
        exponent: o, without axes, at least 1.

    >>> reste_gradient(torch.tensor([0.0, -0.5, 2.0]), torch.tensor(1.0)).tolist()
    [1.0, 1.0, 0.0]
    """
    magnitude = z.abs()
    inverse = 1 / exponent
    middle = inverse * magnitude.clamp(min=NEAR).pow_(inverse - 1)
    near = NEAR**inverse / NEAR
    # Two selections that torch runs on vectors: x > NEAR or 0; inside ±FAR or 0.
    slope = torch.ops.aten.threshold_backward(middle - near, magnitude, NEAR) + near
    found: Tensor = torch.ops.aten.hardtanh_backward(slope, magnitude, -FAR, FAR)
    return found


class Reste(torch.autograd.Function):
    """`value` forward; backward the estimator's derivative at ``latent / scale``."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, latent: Tensor, value: Tensor, scale: Tensor, exponent: Tensor
    ) -> Tensor:
        """See the class."""
        ctx.save_for_backward(latent, scale, exponent)
        return value + 0.0  # makes 0 of a -0 that rounding may have left

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """See the class."""
        latent, scale, exponent = ctx.saved_tensors
        return gradients[0] * reste_gradient(latent / scale, exponent), None, None, None


class ResteBinary(DynamicScale):
    """Binary weights whose gradient follows :func:`reste_gradient`.

    Attributes:
        exponent: o, a buffer; :class:`~.schedule.QuantizationSchedule` moves it.
    """

    exponent: Tensor

    def __init__(self, fmt: Format, layout: RowLayout) -> None:
        super().__init__(fmt, layout)
        self.register_buffer("exponent", torch.ones(()))

    @torch.no_grad()
    def set_progress(self, progress: float) -> None:
        """Move the exponent to a share of the training, 0 to 1."""
        self.exponent.fill_(reste_exponent(progress))

    def attach(self, latent: Tensor, value: Tensor, integers: Tensor, scale: Tensor) -> Tensor:
        """See :class:`WeightQuantizer`."""
        del integers
        opened = Reste.apply(  # type: ignore[no-untyped-call]
            self.open(latent), self.open(value), scale, self.exponent
        )
        return self.close(opened)
