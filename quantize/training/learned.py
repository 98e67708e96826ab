"""Quantisers whose scales are parameters.

Two gradients of ``q = scale * integer(w / scale)``, both with the straight-through estimator for
the integer, which saturates at ``low`` and ``high``:

========= ============================ ==================================== =====================
method    d q / d w                    d q / d scale                        levels
========= ============================ ==================================== =====================
lsq       1 inside, 0 where saturated  integer - w / scale inside,          consecutive integers
                                       integer where saturated
points    1                            integer                              every element
========= ============================ ==================================== =====================

``lsq``: Esser et al. 2019, "Learned Step Size Quantization", arXiv 1902.08153; the scale's gradient
is divided by ``sqrt(n * high)`` with n weights under the scale, and it begins at ``2 * mean(abs(w))
/ sqrt(high)``.

``points``: the differentiable quantisation of Polino, Pascanu, Alistarh 2018, "Model compression
via distillation and quantization", arXiv 1802.05668, in which the gradient of a quantisation point
is the sum of the gradients of the weights assigned to it. Free points would need a table of floats
for every layer, which no packed kernel here reads. So the points of a row are tied to the levels of
the element, ``point_j = scale * level_j``, and learn through their common scale: the gradients of
all points, each times its level. The assignment is learned too, since the weights go on training.
What is deployed is the format as it is, with the learned scales. The scale begins where the
format's own rule puts it. Its gradient is divided as that of ``lsq``, which the paper does not.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from edgekit.formats import Format
from edgekit.formats.scales import SMALLEST_SCALE
from edgekit.quantize.training.direct import DirectQuantizer, initial_scale
from edgekit.quantize.training.layout import RowLayout

_LEAST = float(SMALLEST_SCALE)


class _Learned(torch.autograd.Function):
    """`value` forward; backward the table of the module."""

    @staticmethod
    def forward(
        ctx: Any,
        latent: Tensor,
        step: Tensor,
        value: Tensor,
        integers: Tensor,
        quotient: Tensor | None,
        limits: tuple[float, float, float],
    ) -> Tensor:
        """See the class.

        Args:
            ctx: of the function.
            latent: of any shape.
            step: the parameter; its magnitude is the scale.
            value: of the shape of the latent.
            integers: likewise.
            quotient: ``latent / scale`` for ``lsq``, None for ``points``.
            limits: low, high and what the step's gradient is multiplied by.
        """
        ctx.limits = limits
        ctx.save_for_backward(integers, step, *(() if quotient is None else (quotient,)))
        return value + 0.0  # makes 0 of a -0 that rounding may have left

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Any) -> Any:
        """See the class."""
        (gradient,) = gradients
        integers, step, *rest = ctx.saved_tensors  # type: ignore[attr-defined]
        low, high, factor = ctx.limits  # type: ignore[attr-defined]
        if rest:
            (quotient,) = rest
            # The gradient where low < quotient < high, else 0.
            passed = torch.ops.aten.hardtanh_backward(gradient, quotient, low, high)
            along = gradient * integers - passed * quotient
        else:
            passed, along = gradient, gradient * integers
        total = along.sum_to_size(step.shape)
        return passed, total * step.sign() * factor, None, None, None, None


class LearnedScale(DirectQuantizer):
    """The scale of the tensor or of every row is a parameter.

    Args:
        fmt: what the weight becomes.
        layout: of the weight.
        weight: that training begins with; the scale is trained if it is.
        method: which gradient; see the module.

    Attributes:
        step: the parameter; its magnitude, at least 2**-126, is the scale.
    """

    def __init__(
        self, fmt: Format, layout: RowLayout, weight: Tensor, *, method: Literal["lsq", "points"]
    ) -> None:
        super().__init__(fmt, layout)
        self._method = method
        self.step = nn.Parameter(
            self.spread(self._first_step(weight)).clone(), requires_grad=weight.requires_grad
        )
        count = math.prod(layout.shape) / max(1, self.step.numel())
        high = float(fmt.element.maximum)
        self._limits = (float(fmt.element.minimum), high, 1 / math.sqrt(max(1.0, count * high)))

    def _first_step(self, weight: Tensor) -> Tensor:
        if self._method == "points":
            return initial_scale(self.format, self.layout, weight)
        rows = self.layout.rows(weight.detach().float())
        shared = rows if self._per_row else rows.reshape(1, -1)
        high = self.format.element.maximum
        step = shared.abs().mean(-1) * (2 / math.sqrt(high))
        return torch.where(step > 0, step, 1.0)

    def scale(self, opened: Tensor) -> Tensor:
        """See :class:`DirectQuantizer`."""
        del opened
        return self.step.abs().clamp(min=_LEAST)

    def attach(self, latent: Tensor, value: Tensor, integers: Tensor, scale: Tensor) -> Tensor:
        """See :class:`WeightQuantizer`."""
        opened = self.open(latent)
        quotient = opened.detach() / scale if self._method == "lsq" else None
        result = _Learned.apply(  # type: ignore[no-untyped-call]
            opened, self.step, self.open(value), integers, quotient, self._limits
        )
        return self.close(result)
