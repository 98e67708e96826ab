"""Weights that are quantised while they are trained: the base of every quantiser.

A quantiser is a parametrisation (:mod:`torch.nn.utils.parametrize`) of one weight. The float weight
stays the parameter that an optimiser moves; what the module reads is its quantised value, which in
eval mode is exactly what :meth:`WeightQuantizer.coded` decodes to. The gradient passes straight
through the rounding (Bengio, Léonard, Courville 2013, arXiv 1308.3432) unless a class says
otherwise.

With ``λ`` below 1 (:attr:`WeightQuantizer.blend`) training sees ``w + λ * (q(w) - w)`` and the
gradient of 1: the warm-up of Nielsen and Schneider-Kamp 2024, "BitNet b1.58 Reloaded", arXiv
2407.09527.

Everything is computed in float32, under autocast too; a weight of another dtype gets its result
rounded to that dtype. Nothing depends on data but by values, so that ``torch.compile`` makes one
graph, and buffers are functions of the weights, so that the processes of a DistributedDataParallel
agree. NaN passes through: :meth:`WeightQuantizer.coded` refuses it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.errors import InvalidModelError
from edgekit.formats import Coded, Format
from edgekit.quantize.training.freezing import Freezing
from edgekit.quantize.training.layout import RowLayout
from edgekit.quantize.training.nearest import nearest


class WeightQuantizer(nn.Module):
    """Base of the parametrisations that quantise a weight.

    Args:
        fmt: what the weight becomes.
        layout: of the weight.

    Attributes:
        format: what the weight becomes.
        layout: of the weight.
        blend: λ; a buffer, so that a state dict has it.
        freezing: what holds oscillating weights, None until :meth:`enable_freezing`.
    """

    blend: Tensor

    def __init__(self, fmt: Format, layout: RowLayout) -> None:
        super().__init__()
        self.format = fmt
        self.layout = layout
        self.freezing: Freezing | None = None
        self._nearest = nearest(fmt.element)
        self._blending = False
        self.register_buffer("blend", torch.ones(()))

    @property
    def weight_count(self) -> int:
        """Number of weights."""
        return self.layout.row_count * self.layout.columns

    def integers(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What a latent weight is quantised to; called without gradient.

        Args:
            latent: float32, what the optimiser moves.

        Returns:
            Integers as float32 in the form that :meth:`real` takes; scales that multiply them;
            factors of groups, or None.
        """
        raise NotImplementedError

    def real(self, integers: Tensor, scale: Tensor, factors: Tensor | None) -> Tensor:
        """The weight that integers stand for: one rounding, as :class:`Coded` says."""
        raise NotImplementedError

    def rows(self, weight: Tensor) -> Tensor:
        """The weight, or integers of its shape, as ``[R, K]``."""
        return self.layout.rows(weight)

    def from_rows(self, rows: Tensor) -> Tensor:
        """The inverse of :meth:`rows`."""
        return self.layout.weight(rows)

    def integer_rows(self, integers: Tensor) -> Tensor:
        """What :meth:`integers` gives, as ``[R, K]``."""
        return self.rows(integers)

    def row_scale(self, scale: Tensor) -> Tensor:
        """The scale of :meth:`integers` as one number a row, or one in all."""
        return scale.reshape(-1)

    def integer_mask(self, mask: Tensor) -> Tensor:
        """A mask over what :meth:`integers` gives, in the shape of the weight."""
        return mask

    def attach(self, latent: Tensor, value: Tensor, integers: Tensor, scale: Tensor) -> Tensor:
        """The value with the gradient that training wants: here, straight through.

        Args:
            latent: as the module has it.
            value: of the weight, without gradient.
            integers: of :meth:`integers`.
            scale: of :meth:`integers`.
        """
        del integers, scale
        return straight_through(latent, value)

    def forward(self, latent: Tensor) -> Tensor:
        """The quantised weight."""
        with torch.no_grad():
            exact = latent.float()
            integers, scale, factors = self.integers(exact)
            if self.freezing is not None:
                integers = self.freezing.hold(integers)
            value = self.real(integers, scale, factors)
            if self.training and self._blending:
                value = torch.lerp(exact, value, self.blend)
            value = value.to(latent.dtype)
        if self.freezing is not None:
            latent = torch.where(self.integer_mask(self.freezing.frozen), latent.detach(), latent)
        return self.attach(latent, value, integers, scale)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The latent weight of a weight that is assigned: itself."""
        return weight

    @torch.no_grad()
    def coded(self, latent: Tensor) -> Coded:
        """The weight as integers and scales, as it is deployed.

        Args:
            latent: ``module.parametrizations.weight.original``.

        Raises:
            InvalidModelError: NaN or infinity.
        """
        check_finite(latent)
        integers, scale, factors = self.integers(latent.float())
        if self.freezing is not None:
            integers = self.freezing.hold(integers)
        rows = self.integer_rows(integers).cpu().numpy().astype(self.format.element.dtype)
        groups = None if factors is None else factors.cpu().numpy().astype(np.int32)
        # A copy: the scale may be a parameter, whose memory the next step overwrites.
        scales = self.row_scale(scale).reshape(-1).cpu().numpy().copy()
        return Coded(np.ascontiguousarray(rows), scales, groups)

    @torch.no_grad()
    def set_blend(self, value: float) -> None:
        """Let training see this share of the quantisation, 0 to 1; eval mode sees all of it."""
        self.blend.fill_(value)
        self._blending = value < 1

    @torch.no_grad()
    def enable_freezing(self, latent: Tensor, *, momentum: float, threshold: float) -> None:
        """Watch for weights that oscillate; see :class:`~.freezing.Freezing`.

        Args:
            latent: ``module.parametrizations.weight.original``.
            momentum: share of the newest step in the averages.
            threshold: frequency above which a weight is frozen.
        """
        integers, *_ = self.integers(latent.float())
        self.freezing = Freezing(integers, momentum=momentum, threshold=threshold)

    @torch.no_grad()
    def observe(self, latent: Tensor) -> None:
        """Take an optimiser's step into account; does nothing before :meth:`enable_freezing`."""
        if self.freezing is not None:
            integers, *_ = self.integers(latent.float())
            self.freezing.update(integers, self._nearest)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A state with frozen weights makes the module that holds them; one without removes it."""
        frozen = state_dict.get(f"{prefix}freezing.frozen")
        if frozen is None and f"{prefix}blend" in state_dict:
            self.freezing = None
        elif frozen is not None and self.freezing is None:
            empty = torch.zeros(frozen.shape, device=self.blend.device)
            self.freezing = Freezing(empty, momentum=0.0, threshold=1.0)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._blending = bool(self.blend < 1)

    def extra_repr(self) -> str:
        """See :class:`torch.nn.Module`."""
        return str(self.format)


def straight_through(latent: Tensor, value: Tensor) -> Tensor:
    """`value`, with the gradient of `latent`.

    The difference is exactly 0, and adding it makes 0 of a -0 that rounding may have left.
    """
    return value + (latent - latent.detach())


def check_finite(weight: Tensor, where: str = "weight") -> None:
    """Refuse NaN and infinity.

    Raises:
        InvalidModelError: says where the first one is.
    """
    wrong = ~torch.isfinite(weight)
    if bool(wrong.any()):
        place = tuple(int(i) for i in wrong.nonzero()[0])
        raise InvalidModelError(
            f"{where}: {float(weight.detach()[place])} at {list(place)}; weights must be finite"
        )
