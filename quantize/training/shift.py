"""DenseShift: weights ±2**s by sign-scale decomposition.

Li et al. 2023, "DenseShift: Towards Accurate and Efficient Low-Bit Power-of-Two Quantization",
arXiv 2208.09708. For n bits a weight has one sign latent and ``S = 2**(n - 1) - 1`` scale latents,
and never becomes 0::

    b_k = 1 where latent_k > 0, else 0       k = 1 … S
    s_1 = b_1,  s_k = (s_(k-1) + 1) * b_k    s = s_S: how many of the last b are 1 without a gap
    σ = 1 where the sign latent >= 0, else -1
    weight = σ * 2**s * scale

Backward is the identity through every binariser, without clipping, and ``2**s`` takes the gradient
of ``sqrt(s + 1)``::

    d weight / d latent_k = σ * (s_(k-1) + 1) * b_(k+1) * … * b_S / (2 * sqrt(s + 1))
    d weight / d sign latent = 2**s

The paper has no scale: a batch normalisation behind the layer absorbs it. Here every row (or the
tensor) has one, so that trained weights can be where a training begins. It stands in neither
gradient: a binariser sees its latent over the scale, which changes no sign, and the two cancel. So
latents are in the units of the weight, and the learning rates of float weights suit them.

A weight that is given becomes latents by value: the sign latent is the weight, and the latent that
decides whether the exponent reaches j is ``abs(weight) - middle of levels j-1 and j``, in the last
but j place. So the code is the nearest, and what lies near a threshold changes first, as with a
straight-through estimator. From scratch the paper draws all latents from N(0, 1e-3²), see
:func:`reset_low_variance`; no level is far for anyone then, and of 3 bits half the weights begin
with exponent 0, a quarter with 1, an eighth each with 2 and 3.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from edgekit.formats import Format
from edgekit.formats.scales import SMALLEST_SCALE
from edgekit.quantize.training.direct import DirectQuantizer, initial_scale
from edgekit.quantize.training.layout import RowLayout

LOW_DEVIATION = 1e-3
"""Standard deviation of latents that begin from scratch."""


def _bits(latent: Tensor) -> Tensor:
    """``b_1`` … ``b_S`` of latents ``[1 + S, …]``, as int32.

    A float32 is positive where its bits are, and torch's integer minimum runs on vectors, which its
    comparisons do not.
    """
    return latent[1:].view(torch.int32).clamp(0, 1)


class _SignScale(torch.autograd.Function):
    """`value` forward; backward the gradients of the module."""

    @staticmethod
    def forward(
        ctx: Any, latent: Tensor, scale: Tensor, value: Tensor, integers: Tensor, factor: float
    ) -> Tensor:
        """See the class.

        Args:
            ctx: of the function.
            latent: ``[1 + S, …]``.
            scale: that multiplies integers.
            value: of the weight.
            integers: ±2**s, of the weight's shape.
            factor: what the scale's gradient is multiplied by.
        """
        ctx.factor = factor
        ctx.save_for_backward(latent, scale, integers)
        return value + 0.0

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """See the class."""
        (gradient,) = gradients
        latent, scale, integers = ctx.saved_tensors
        bits = list(_bits(latent.float()).to(gradient.dtype))
        # One more than s_1 … s_S; s_0 is 0.
        counts = [bits[0] + 1]
        for bit in bits[1:]:
            counts.append((counts[-1] * bit).add_(1))
        # σ / (2 * sqrt(s + 1)) times the gradient, then every bit's effect on s, last bit first.
        slope = counts[-1].rsqrt().mul_(0.5).copysign_(integers).mul_(gradient)
        effects = []
        for bit, count in zip(bits[:0:-1], counts[-2::-1], strict=True):
            effects.append(count.mul_(slope))
            slope.mul_(bit)
        effects.append(slope)
        result = torch.stack([gradient * integers.abs(), *reversed(effects)])
        along = None
        if ctx.needs_input_grad[1]:
            along = (gradient * integers).sum_to_size(scale.shape) * ctx.factor
        return result.to(latent.dtype), along, None, None, None


class DenseShift(DirectQuantizer):
    """Weights ±2**s, trained through the latents of the module.

    The parameter of a parametrised module is ``[1 + S, *shape of the weight]``: the sign latent,
    then latent 1 … S. λ has no meaning here, since there is no float weight to begin from:
    :meth:`set_blend` changes nothing.

    Args:
        fmt: what the weight becomes; its rule chooses the scale, once.
        layout: of the weight.
        weight: that training begins with.
        learned: whether the scale is a parameter, with the gradient of
            :class:`~.learned.LearnedScale`'s ``points``.
    """

    step: Tensor

    def __init__(
        self, fmt: Format, layout: RowLayout, weight: Tensor, *, learned: bool = False
    ) -> None:
        super().__init__(fmt, layout)
        step = self.spread(initial_scale(fmt, layout, weight)).clone()
        if learned:
            self.step = nn.Parameter(step, requires_grad=weight.requires_grad)
        else:
            self.register_buffer("step", step)
        self.latents = 2 ** (fmt.element.bits - 1) - 1
        count = math.prod(layout.shape) / max(1, step.numel())
        self._factor = 1 / math.sqrt(max(1.0, count * fmt.element.maximum))

    def scale(self, opened: Tensor) -> Tensor:
        """A scale that multiplies the weight as it lies in memory."""
        del opened
        scale = self.step.abs().clamp(min=float(SMALLEST_SCALE))
        if self._as_rows:
            scale = self.layout.weight(scale.expand(-1, self.layout.columns))
        return scale

    def integers(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """See :class:`WeightQuantizer`; the scale has an entry for every row, or one."""
        bits = _bits(latent)
        exponent = bits[0]
        for bit in bits[1:]:
            exponent = (exponent + 1).mul_(bit)
        # The exponent field of a float32: exactly 2**s.
        magnitude = (exponent + 127).bitwise_left_shift_(23).view(torch.float32)
        return torch.copysign(magnitude, latent[0] + 0.0), self.scale(latent), None

    def real(self, integers: Tensor, scale: Tensor, factors: Tensor | None) -> Tensor:
        """See :class:`WeightQuantizer`."""
        del factors
        return integers * scale

    def integer_rows(self, integers: Tensor) -> Tensor:
        """See :class:`WeightQuantizer`."""
        return self.rows(integers)

    def integer_mask(self, mask: Tensor) -> Tensor:
        """See :class:`WeightQuantizer`."""
        return mask

    def row_scale(self, scale: Tensor) -> Tensor:
        """See :class:`WeightQuantizer`."""
        return self.step.abs().clamp(min=float(SMALLEST_SCALE))

    def attach(self, latent: Tensor, value: Tensor, integers: Tensor, scale: Tensor) -> Tensor:
        """See :class:`WeightQuantizer`."""
        if self.step.requires_grad:
            # Anew: the one that is given has no gradient.
            scale = self.scale(latent)
        result: Tensor = _SignScale.apply(  # type: ignore[no-untyped-call]
            latent, scale, value, integers, self._factor
        )
        return result

    def set_blend(self, value: float) -> None:
        """Changes nothing: there is no float weight to blend with."""

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Latents whose code is the nearest to a weight, by value; see the module."""
        exact = weight.float()
        scale = self.scale(exact)
        magnitude = (exact / scale).abs()
        # Latent k decides whether the exponent reaches S + 1 - k, above 1.5 * 2**(S - k).
        latents = [
            (magnitude - 1.5 * 2.0 ** (self.latents - k)) * scale
            for k in range(1, self.latents + 1)
        ]
        return torch.stack([exact, *latents]).to(weight.dtype)


@torch.no_grad()
def reset_low_variance(
    model: nn.Module, *, deviation: float = LOW_DEVIATION, generator: torch.Generator | None = None
) -> int:
    """Draw all latents of DenseShift layers from ``N(0, deviation²)``: for training from scratch.

    Scales stay as they are.

    Args:
        model: prepared for training.
        deviation: of every latent.
        generator: of random numbers.

    Returns:
        Number of weights that were reset.
    """
    found = 0
    for module in model.modules():
        if isinstance(module, ParametrizationList) and isinstance(module[0], DenseShift):
            module.original.normal_(0.0, deviation, generator=generator)
            found += 1
    return found
