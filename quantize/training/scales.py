"""Rules that choose scales, in torch; :mod:`edgekit.formats.scales` says what they are.

``absmax`` and ``median`` give NumPy's bits. ``mean`` adds up in float32 in torch's order, while
NumPy's reference adds integers: they differ in the last bits, and the scale that training saw is
the one that is frozen and deployed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgekit.formats import Element
from edgekit.formats.scales import SMALLEST_MEAN, SMALLEST_SCALE

Rule = Callable[[Tensor, Element], Tensor]
"""From weights ``[..., n]`` that share a scale to ``[...]``."""

_LEAST = float(SMALLEST_SCALE)


def absmax_step(w: Tensor, element: Element) -> Tensor:
    """The smallest step at which nothing saturates; 0 where there is nothing but 0."""
    if element.minimum == -element.maximum:
        return w.abs().amax(-1).div_(element.maximum)
    low, high = w.aminmax(dim=-1)
    return torch.maximum(high / element.maximum, low / element.minimum)


def absmax_scale(w: Tensor, element: Element) -> Tensor:
    """Rule ``absmax``."""
    step = absmax_step(w, element)
    nothing = 1.0 if 0 in element.levels else _LEAST
    return torch.where(step == 0, nothing, step.clamp(min=_LEAST))


def median_scale(w: Tensor, element: Element) -> Tensor:
    """Rule ``median``; torch's median is the lower one."""
    del element
    return w.abs().median(-1).values.clamp_(min=float(SMALLEST_MEAN))


def mean_scale(w: Tensor, element: Element) -> Tensor:
    """Rule ``mean``."""
    del element
    return w.abs().mean(-1).clamp_(min=float(SMALLEST_MEAN))


RULES: dict[str, Rule] = {"absmax": absmax_scale, "median": median_scale, "mean": mean_scale}
"""Rules that are cheap enough for every step of a training."""
