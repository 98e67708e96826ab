"""Quantisers whose weights share a scale along a whole row or tensor, which follows the weights.

The scale is computed anew from the weights in every step and carries no gradient, as in BitNet
b1.58 Reloaded (Nielsen, Schneider-Kamp 2024, arXiv 2407.09527): absmax for integers and minifloats,
median or mean of the magnitudes for ternary, mean for binary weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.formats import Format
from edgekit.quantize.training.layout import RowLayout
from edgekit.quantize.training.scales import RULES
from edgekit.quantize.training.weights import WeightQuantizer


class DirectQuantizer(WeightQuantizer):
    """Base of quantisers without groups: they work on the weight as it lies in memory.

    Only where no axis of the weight counts its rows does it take the form of rows first.
    """

    def __init__(self, fmt: Format, layout: RowLayout) -> None:
        super().__init__(fmt, layout)
        self._per_row = fmt.granularity == "channel"
        self._axis = layout.channel_axis
        self._as_rows = self._per_row and self._axis is None
        shape = [1] * len(layout.shape)
        if self._as_rows:
            shape = [layout.row_count, 1]
        elif self._per_row and self._axis is not None:
            shape[self._axis] = layout.row_count
        self._scale_shape = tuple(shape)

    def spread(self, scale: Tensor) -> Tensor:
        """Scales ``[R]`` or ``[1]`` in a shape that multiplies integers."""
        return scale.reshape(self._scale_shape)

    def open(self, weight: Tensor) -> Tensor:
        """The weight as it is computed with."""
        return self.layout.rows(weight) if self._as_rows else weight

    def close(self, opened: Tensor) -> Tensor:
        """The inverse of :meth:`open`."""
        return self.layout.weight(opened) if self._as_rows else opened

    def shared(self, opened: Tensor) -> Tensor:
        """``[R, n]`` or ``[1, n]``: weights that share a scale, in any order."""
        if not self._per_row:
            return opened.reshape(1, -1)
        if self._axis:
            opened = opened.movedim(self._axis, 0)
        return opened.flatten(1)

    def scale(self, opened: Tensor) -> Tensor:
        """The scale in the shape of :meth:`spread`."""
        raise NotImplementedError

    def integers(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """See :class:`WeightQuantizer`."""
        opened = self.open(latent)
        scale = self.scale(opened)
        return self._nearest(opened / scale), scale, None

    def real(self, integers: Tensor, scale: Tensor, factors: Tensor | None) -> Tensor:
        """See :class:`WeightQuantizer`."""
        del factors
        return self.close(integers * scale)

    def integer_rows(self, integers: Tensor) -> Tensor:
        """See :class:`WeightQuantizer`."""
        return integers if self._as_rows else self.rows(integers)

    def integer_mask(self, mask: Tensor) -> Tensor:
        """See :class:`WeightQuantizer`."""
        return self.close(mask)


class DynamicScale(DirectQuantizer):
    """The scale follows the weights by the format's rule; the gradient passes straight through."""

    def __init__(self, fmt: Format, layout: RowLayout) -> None:
        super().__init__(fmt, layout)
        self._rule = RULES[fmt.rule]

    def scale(self, opened: Tensor) -> Tensor:
        """See :class:`DirectQuantizer`."""
        return self.spread(self._rule(self.shared(opened), self.format.element))


class FixedScale(DirectQuantizer):
    """The scale is chosen once, from the weights that training begins with.

    For rules that search (``mse``) and for ``unit``.

    Args:
        fmt: what the weight becomes.
        layout: of the weight.
        weight: that training begins with.
    """

    fixed_scale: Tensor

    def __init__(self, fmt: Format, layout: RowLayout, weight: Tensor) -> None:
        super().__init__(fmt, layout)
        self.register_buffer("fixed_scale", self.spread(initial_scale(fmt, layout, weight)))

    def scale(self, opened: Tensor) -> Tensor:
        """See :class:`DirectQuantizer`."""
        del opened
        return self.fixed_scale


def initial_scale(fmt: Format, layout: RowLayout, weight: Tensor) -> Tensor:
    """The scale ``[R]`` or ``[1]`` that the format itself chooses for a weight."""
    rows = layout.rows(weight.detach().float()).cpu().numpy()
    return torch.from_numpy(fmt.quantize(rows).scale.copy()).to(weight.device)
