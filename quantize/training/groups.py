"""Quantisers whose weights share scales in groups along a row, as integer factors of one scale.

The rules are those of :mod:`edgekit.formats.group_scales`, step by step in torch: steps of groups
from the weights' absmax, made factors by ``uint8`` (integers, minifloats), ``shift`` (MXFP4) or
``e4m3`` (NVFP4), then integers against the step that the factor really has. Scales follow the
weights in every training step and carry no gradient; the gradient passes straight through.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.formats import ELEMENTS, FACTORS, Element, Format
from edgekit.formats.factors import SHIFT_REACH
from edgekit.formats.scales import SMALLEST_SCALE
from edgekit.quantize.training.layout import RowLayout
from edgekit.quantize.training.nearest import nearest
from edgekit.quantize.training.scales import RULES, absmax_step
from edgekit.quantize.training.weights import WeightQuantizer

Choose = Callable[[Tensor, Element, str], tuple[Tensor, Tensor]]
"""From weights ``[R, G, n]`` to a scale ``[R, 1]`` or ``[1, 1]`` and factors ``[R, G]``."""

_LEAST = float(SMALLEST_SCALE)
_E8M0_LEAST = -127
_nearest_e4m3 = nearest(ELEMENTS["fp8-e4m3"])


def uint8_factors(w: Tensor, element: Element, rule: str) -> tuple[Tensor, Tensor]:
    """Factors 1 to 255 of a row's scale; 0 for groups of nothing but 0."""
    if rule == "absmax":
        step = absmax_step(w, element)
        steps = torch.maximum(step, step.sign().mul_(_LEAST))
    else:
        steps = torch.where((w != 0).any(-1), RULES[rule](w, element), 0.0)
    largest = FACTORS["uint8"].maximum
    row = steps.amax(1, keepdim=True)
    # Steps are normal numbers or 0: a 255th of one is above 0.
    scale = torch.threshold(row / largest, 0.0, 1.0).clamp_(min=_LEAST)
    factors = (steps / scale).round_().clamp_(max=largest)
    return scale, torch.maximum(factors, steps.sign())


def shift_factors(w: Tensor, element: Element, rule: str) -> tuple[Tensor, Tensor]:
    """Powers of two relative to a row's largest: OCP's microscaling."""
    del rule
    unit = _exponent(element.unit)
    top_level = _exponent(element.maximum) + unit
    absmax = w.abs().amax(-1)
    present = absmax > 0
    # From the exponent's bits. Below the normal numbers it is at most the least, whatever it is.
    field = absmax.view(torch.int32).bitwise_right_shift(23)
    exponent = field.sub_(127 + top_level).clamp_(min=_E8M0_LEAST).add_(unit)
    top = exponent.amax(1, keepdim=True)
    deficit = top - exponent
    kept = present & (deficit <= SHIFT_REACH)
    deficit.mul_(kept)
    reach = deficit.amax(1, keepdim=True)
    factors = _power_of_two(reach - deficit).mul_(kept)
    some = present.any(1, keepdim=True)
    return _power_of_two((top - reach).mul_(some)), factors


def e4m3_factors(w: Tensor, element: Element, rule: str) -> tuple[Tensor, Tensor]:
    """FP8 E4M3 numbers in units of 1/512 times one scale of the tensor: NVFP4."""
    del rule
    absmax = w.abs().amax(-1)
    reach = ELEMENTS["fp8-e4m3"].maximum * element.maximum
    scale = absmax.amax().reshape(1, 1) / reach
    scale = torch.where(scale > 0, scale.clamp(min=_LEAST), 1.0)
    steps = absmax / element.maximum
    factors = _nearest_e4m3(steps / scale).clamp_(min=1)
    return scale, torch.where(steps > 0, factors, 0.0)


CHOOSE: dict[str, Choose] = {
    "uint8": uint8_factors,
    "shift": shift_factors,
    "e4m3": e4m3_factors,
}
"""Every kind of factors."""


class GroupScale(WeightQuantizer):
    """Groups of a row have factors, the row a scale; both follow the weights.

    The last group of a row may be shorter; it is filled with zeros, which change no largest
    magnitude, and cut again.
    """

    def __init__(self, fmt: Format, layout: RowLayout) -> None:
        super().__init__(fmt, layout)
        self._missing = -layout.columns % fmt.group

    def choose(self, grouped: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and factors of weights ``[R, G, group]``."""
        return CHOOSE[self.format.factors](grouped, self.format.element, self.format.rule)

    def integers(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Integers as ``[R, G, group]``."""
        rows = self.rows(latent)
        if self._missing:
            rows = functional.pad(rows, (0, self._missing))
        grouped = rows.reshape(self.layout.row_count, -1, self.format.group)
        scale, factors = self.choose(grouped)
        # Where a factor is 0 everything becomes 0, which a step of infinity does.
        step = torch.threshold(factors * scale, 0.0, torch.inf)
        return self._nearest(grouped / step.unsqueeze(-1)), scale, factors

    def real(self, integers: Tensor, scale: Tensor, factors: Tensor | None) -> Tensor:
        """See :class:`WeightQuantizer`."""
        assert factors is not None
        product = integers * factors.unsqueeze(-1)
        return self.layout.weight(self._cut(product) * scale).contiguous()

    def integer_rows(self, integers: Tensor) -> Tensor:
        """See :class:`WeightQuantizer`."""
        return self._cut(integers)

    def integer_mask(self, mask: Tensor) -> Tensor:
        """See :class:`WeightQuantizer`."""
        return self.layout.weight(self._cut(mask))

    def _cut(self, grouped: Tensor) -> Tensor:
        """``[R, G, group]`` to ``[R, K]``."""
        rows = grouped.flatten(1)
        return rows[:, : self.layout.columns] if self._missing else rows


class FixedGroups(GroupScale):
    """Factors and scales are chosen once, from the weights that training begins with.

    For rules that search (``mse``) and for ``unit``.

    Args:
        fmt: what the weight becomes.
        layout: of the weight.
        weight: that training begins with.
    """

    fixed_scale: Tensor
    fixed_factors: Tensor

    def __init__(self, fmt: Format, layout: RowLayout, weight: Tensor) -> None:
        super().__init__(fmt, layout)
        scale, factors = fmt.scales(layout.rows(weight.detach().float()).cpu().numpy())
        assert factors is not None
        self.register_buffer("fixed_scale", torch.from_numpy(scale).reshape(-1, 1))
        self.register_buffer("fixed_factors", torch.from_numpy(factors).float())

    def choose(self, grouped: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`GroupScale`."""
        del grouped
        return self.fixed_scale, self.fixed_factors


def _exponent(value: float) -> int:
    """floor(log2(value))."""
    return int(torch.frexp(torch.tensor(float(value), dtype=torch.float64)).exponent) - 1


def _power_of_two(exponent: Tensor) -> Tensor:
    """``2**exponent`` from its bits, for -126 to 127; what is above or below is not used."""
    return exponent.clamp(-126, 127).add_(127).bitwise_left_shift_(23).view(torch.float32)
