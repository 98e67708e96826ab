"""Quantisers of activations: what trains them, and the constants that they end as.

Every quantiser rounds in float and lets the gradient pass straight through where the value lies
inside its range (Jacob et al. 2018, arXiv 1712.05877). Statistics change in training only; they are
buffers, so checkpoints resume and distributed training gives all processes those of the first.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.model.capture.coded import binarize, dynamic_quantize_dequantize
from edgekit.model.capture.symbolic import quantize_dequantize
from edgekit.quantize.observers import affine_quantization
from edgekit.quantize.training.eager import plain_numbers

LOW, HIGH = -128, 127
"""Codes of an int8 activation."""

MOMENTUM = 0.02
"""Share of a new batch in moving averages; the first batches count alike."""

Observing = Literal["training", "always", "never"]
"""When a quantiser's statistics change."""

_SMALLEST_SCALE = torch.finfo(torch.float32).tiny


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """``(clamp(round(x / scale) + zero_point, -128, 127) - zero_point) * scale``, halves to even.

    The gradient passes where x lies between what the outermost codes mean.

    Args:
        x: float32 of any shape.
        scale: float32 without axes, positive.
        zero_point: integer without axes, -128 to 127.

    >>> fake_quantize(torch.tensor([0.26, -9.0]), torch.tensor(0.1), torch.tensor(0)).tolist()
    [0.30000001192092896, -9.0]
    """
    if plain_numbers(x):
        return _rounded(x, scale.item(), int(zero_point.item()))
    low, high = (LOW - zero_point) * scale, (HIGH - zero_point) * scale
    inside = torch.minimum(torch.maximum(x, low), high)
    return inside + (torch.round(inside / scale) * scale - inside).detach()


def _rounded(x: Tensor, scale: float, zero_point: int) -> Tensor:
    """:func:`fake_quantize` with numbers: few passes over x, no Python in backward.

    The gradient is that of the clamp, which reads x; so its result may be rounded in place.
    """
    inside = functional.hardtanh(x, (LOW - zero_point) * scale, (HIGH - zero_point) * scale)
    inside.detach().div_(scale).round_().mul_(scale)
    return inside


class ActivationQuantizer(nn.Module):
    """What all quantisers of activations have.

    Attributes:
        observing: when statistics change.
        blend: λ of ``x + λ * (q(x) - x)`` in training, as weights have it; float32 without axes.
    """

    blend: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.observing: Observing = "training"
        self._blending = False
        self.register_buffer("blend", torch.ones(()))

    @property
    def observes(self) -> bool:
        """Whether statistics change with the next batch."""
        return self.observing == "always" or (self.observing == "training" and self.training)

    @torch.no_grad()
    def set_blend(self, value: float) -> None:
        """Let training see this share of the quantisation, 0 to 1; eval mode sees all of it."""
        self.blend.fill_(value)
        self._blending = value < 1

    def frozen(self) -> nn.Module:
        """The same with everything decided."""
        raise NotImplementedError

    def start_over(self) -> None:
        """Forget how many batches the statistics hold: the next one replaces them."""

    def blended(self, x: Tensor, quantized: Tensor) -> Tensor:
        """Between the value and its quantised form, as λ says."""
        if self._blending and self.training:
            return torch.lerp(x, quantized, self.blend)
        return quantized

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._blending = bool(self.blend < 1)


class StaticQuantizer(ActivationQuantizer):
    """int8 with one scale per tensor; reals 0 are exact.

    The range is a moving average of the extremes of batches. Values that share a scale are its
    *members*: each has extremes of its own, and the range holds all of them.

    Args:
        members: how many values are observed.
        learned: whether training learns the step, as in LSQ (Esser et al. 2019, arXiv 1902.08153),
            as a factor on the step that the averages give: so one learning rate suits every layer,
            and the factor starts from the averages. The averages then stop after `settle` batches.
        settle: number of those batches.

    Attributes:
        extremes: float32 ``[members, 2]``, averages of the smallest and the largest value.
        seen: float32 ``[members]``, batches that the averages hold.
        scale: float32 without axes.
        zero_point: int32 without axes.
        factor: the learned factor, None where nothing is learned.
    """

    extremes: Tensor
    seen: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, members: int = 1, *, learned: bool = False, settle: int = 100) -> None:
        super().__init__()
        self.register_buffer("extremes", torch.zeros(members, 2))
        self.register_buffer("seen", torch.zeros(members))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))
        self.factor = nn.Parameter(torch.ones(())) if learned else None
        self.settle = float(settle) if learned else math.inf

    def forward(self, x: Tensor, member: int | None = None) -> Tensor:
        """Quantise a value.

        Args:
            x: float of any shape; float32 comes out.
            member: which value this is; None for one whose range the others give.
        """
        x = x.float()
        observed = None
        if member is not None and self.observes and x.numel():
            observed = self._observe(x.detach(), member)
        if self.factor is None:
            if observed is None:
                quantized = fake_quantize(x, self.scale, self.zero_point)
            else:
                quantized = _rounded(x, *observed)
        else:
            # The gradient of a step grows with the number of values that it scales.
            share = 1 / math.sqrt(max(1, x.numel()) * HIGH)
            factor = self.factor * share + (self.factor * (1 - share)).detach()
            step = (self.scale.clone() * factor.abs()).clamp_min(_SMALLEST_SCALE)
            quantized = quantize_dequantize(x, step, self.zero_point.clone(), low=LOW, high=HIGH)
        return self.blended(x, quantized)

    def _observe(self, x: Tensor, member: int) -> tuple[float, int] | None:
        """Take a batch into account; one with infinity or NaN must not stay for good.

        Args:
            x: without gradient.
            member: which value it is.

        Returns:
            Scale and zero point where they are known as numbers.
        """
        low, high = x.amin(), x.amax()
        if plain_numbers(x):
            return self._observe_numbers(low.item(), high.item(), member)
        self._observe_tensors(torch.stack((low, high)), member)
        return None

    @torch.no_grad()
    def _observe_tensors(self, found: Tensor, member: int) -> None:
        average, seen = self.extremes[member], self.seen[member]
        counts = found.isfinite().all() & (seen < self.settle)
        share = torch.where(counts, (1 / (seen + 1)).clamp_min(MOMENTUM), 0.0)
        average.lerp_(found.nan_to_num(0.0, 0.0, 0.0), share)
        seen.add_(counts)
        low, high = self.extremes[:, 0].amin().clamp_max(0), self.extremes[:, 1].amax().clamp_min(0)
        span = (high - low) / (HIGH - LOW)
        self.scale.copy_(torch.where(span > 0, span.clamp_min(_SMALLEST_SCALE), 1.0))
        self.zero_point.copy_((LOW - low / self.scale).round().clamp(LOW, HIGH))

    def _observe_numbers(self, low: float, high: float, member: int) -> tuple[float, int] | None:
        """The same with numbers; the arrays are the memory of the buffers."""
        extremes, seen = self.extremes.numpy(), self.seen.numpy()
        count = float(seen[member])
        if not (math.isfinite(low) and math.isfinite(high)) or count >= self.settle:
            return None
        share = max(1 / (count + 1), MOMENTUM)
        lows, highs = extremes[:, 0].tolist(), extremes[:, 1].tolist()
        lows[member] += (low - lows[member]) * share
        highs[member] += (high - highs[member]) * share
        extremes[member] = lows[member], highs[member]
        seen[member] = count + 1
        chosen = affine_quantization(min(lows), max(highs))
        scale, zero_point = chosen.scalar_scale, chosen.scalar_zero_point
        self.scale.numpy()[...] = scale
        self.zero_point.numpy()[...] = zero_point
        return scale, zero_point

    def start_over(self) -> None:
        """See :class:`ActivationQuantizer`."""
        self.seen.zero_()

    def frozen(self) -> ConstantQuantizer:
        """The same with everything decided."""
        scale = self.scale if self.factor is None else self.scale * self.factor.abs()
        return ConstantQuantizer(scale.clamp_min(_SMALLEST_SCALE), self.zero_point)


class FixedQuantizer(ActivationQuantizer):
    """int8 with a scale that the specification prescribes.

    Args:
        scale: the step.
        zero_point: code of 0.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: float, zero_point: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("zero_point", torch.tensor(zero_point, dtype=torch.int32))

    def forward(self, x: Tensor, member: int | None = None) -> Tensor:
        """Quantise a value; there is nothing to observe."""
        del member
        x = x.float()
        return self.blended(x, fake_quantize(x, self.scale, self.zero_point))

    def frozen(self) -> ConstantQuantizer:
        """The same with everything decided."""
        return ConstantQuantizer(self.scale, self.zero_point)


class ConstantQuantizer(nn.Module):
    """int8 with a constant scale, in the form that capture recognises.

    Args:
        scale: float32 without axes.
        zero_point: int32 without axes.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: Tensor, zero_point: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.detach().clone().cpu())
        self.register_buffer("zero_point", zero_point.detach().to(torch.int8).cpu())

    def forward(self, x: Tensor, member: int | None = None) -> Tensor:
        """Quantise a value."""
        del member
        return quantize_dequantize(x, self.scale, self.zero_point, low=LOW, high=HIGH)


class TokenQuantizer(ActivationQuantizer):
    """Symmetric int8 with a scale of every token's own, behind a normalisation without parameters.

    ``x̂ = LayerNorm(x)``, the scale is ``max(max|x̂|, ε) / 127`` along the last axis. That is what a
    BitLinear layer does to its input (Nielsen and Schneider-Kamp 2024, arXiv 2407.09527; Wang et
    al. 2023, arXiv 2310.11453).

    Args:
        features: extent of the last axis.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and quantise float ``[..., features]``; float32 comes out."""
        normal = functional.layer_norm(x.float(), (self.features,))
        return self.blended(normal, dynamic_quantize_dequantize(normal))

    def frozen(self) -> ConstantTokenQuantizer:
        """The same without training."""
        return ConstantTokenQuantizer(self.features)


class ConstantTokenQuantizer(nn.Module):
    """What :class:`TokenQuantizer` computes, in the form that capture recognises.

    Args:
        features: extent of the last axis.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and quantise float32 ``[..., features]``."""
        normal = functional.layer_norm(x, (self.features,))
        return dynamic_quantize_dequantize(normal)


class BinaryQuantizer(ActivationQuantizer):
    """±scale by the sign; 0 counts as positive.

    The scale is a moving average of the mean magnitude (Rastegari et al. 2016, arXiv 1603.05279).
    The gradient passes where the magnitude is at most the root mean square that a normal
    distribution of that mean magnitude has: the hard tanh of Hubara et al. 2016 (arXiv 1602.02830)
    for inputs that are not normalised to 1.

    Attributes:
        scale: float32 without axes.
        seen: float32 without axes, batches that the average holds.
    """

    scale: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Float of any shape to ±scale, float32."""
        x = x.float()
        if self.observes and x.numel():
            self._observe(x.detach())
        signs: Tensor = _Sign.apply(x, self.scale)  # type: ignore[no-untyped-call]
        return self.blended(x, signs)

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        found = x.abs().mean()
        counts = found.isfinite() & (found > 0)
        share = torch.where(counts, (1 / (self.seen + 1)).clamp_min(MOMENTUM), 0.0)
        self.scale.lerp_(found.nan_to_num(0.0, 0.0, 0.0), share)
        self.seen.add_(counts)

    def start_over(self) -> None:
        """See :class:`ActivationQuantizer`."""
        self.seen.zero_()

    def frozen(self) -> ConstantBinaryQuantizer:
        """The same with everything decided."""
        return ConstantBinaryQuantizer(self.scale)


class ConstantBinaryQuantizer(nn.Module):
    """±scale with a constant scale, in the form that capture recognises.

    Args:
        scale: float32 without axes.
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.detach().clone().cpu())

    def forward(self, x: Tensor) -> Tensor:
        """float32 of any shape to ±scale."""
        return binarize(x, self.scale)


_RMS_OF_MEAN_MAGNITUDE = math.sqrt(math.pi / 2)


class _Sign(torch.autograd.Function):
    """±scale, with the gradient of a hard tanh."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        """See :class:`BinaryQuantizer`."""
        ctx.save_for_backward(x.abs() <= scale * _RMS_OF_MEAN_MAGNITUDE)
        return torch.where(x >= 0, scale, -scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The gradient of x; the scale is an average and gets none."""
        (inside,) = ctx.saved_tensors
        return grad * inside, None


Quantizer = StaticQuantizer | FixedQuantizer | TokenQuantizer | BinaryQuantizer
"""Quantisers that train."""


def quantizers_of(network: nn.Module) -> list[ActivationQuantizer]:
    """All quantisers of activations in a network, each once."""
    return [part for part in network.modules() if isinstance(part, ActivationQuantizer)]
