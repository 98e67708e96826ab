"""Rules that choose scales, in torch; :mod:`edgekit.formats.scales` says what they are.

``absmax`` and ``median`` give NumPy's bits. ``mean`` adds up in float32 in torch's order, while
NumPy's reference adds integers: they differ in the last bits, and the scale that training saw is
the one that is frozen and deployed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from edgekit.formats import Element
from edgekit.formats.scales import SMALLEST_MEAN, SMALLEST_SCALE
from edgekit.quantize.training.eager import plain_numbers

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
    return torch.threshold(step, 0.0, nothing).clamp_(min=_LEAST)


def median_scale(w: Tensor, element: Element) -> Tensor:
    """Rule ``median``; torch's median is the lower one."""
    del element
    magnitudes = w.abs()
    if plain_numbers(w):
        return _lower_median(magnitudes).clamp_(min=float(SMALLEST_MEAN))
    return magnitudes.median(-1).values.clamp_(min=float(SMALLEST_MEAN))


def _lower_median(w: Tensor) -> Tensor:
    """What ``median(-1).values`` gives, by NumPy's partition, which runs on vectors.

    NaN counts as the largest number; a weight that is NaN stays so at any scale.
    """
    middle = (w.shape[-1] - 1) // 2
    return torch.from_numpy(np.partition(w.numpy(), middle)[..., middle])


def mean_scale(w: Tensor, element: Element) -> Tensor:
    """Rule ``mean``."""
    del element
    return w.abs().mean(-1).clamp_(min=float(SMALLEST_MEAN))


RULES: dict[str, Rule] = {"absmax": absmax_scale, "median": median_scale, "mean": mean_scale}
"""Rules that are cheap enough for every step of a training."""
