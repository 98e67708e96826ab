"""A Brevitas layer with weights, after it is read and before it is a layer again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import UnsupportedError
from edgekit.formats import Coded, Format
from edgekit.quantize.training.brevitas.weights import read_weights
from edgekit.quantize.training.coded_layers import CodedLayer, coded_layer
from edgekit.quantize.training.fold import affine_of, fit_bias, fold


class Product(nn.Module):
    """A convolution or matrix product with coded weights, which normalisation can still change.

    Args:
        where: name of the layer, with its class.
        like: the Brevitas layer, for its geometry.
        coded: the weights.
        fmt: of the weights.
        bias: float32 [O], None without.
        rank: axes of its result.
    """

    def __init__(
        self,
        where: str,
        like: nn.Module,
        *,
        coded: Coded,
        fmt: Format,
        bias: Tensor | None,
        rank: int,
    ) -> None:
        super().__init__()
        # In a tuple the Brevitas layer is no part of this module.
        self.where, self._like = where, (like,)
        self._coded, self._format, self._bias, self._rank = coded, fmt, bias, rank

    def __deepcopy__(self, memo: dict[int, Any]) -> Product:
        # Networks are copied to put something in its place; what stays is read only.
        return self

    def folds(self, norm: nn.Module) -> bool:
        """Whether a module normalises what this one has output channels along."""
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            return False
        return not isinstance(self._like[0], nn.Linear) or self._rank == 2

    def fold(self, norm: nn.Module) -> None:
        """Take a batch normalisation into scales and bias.

        Raises:
            UnsupportedError: it has no statistics, or negates integers that have no opposites.
        """
        try:
            self._coded, self._bias = fold(self._coded, self._format, self._bias, affine_of(norm))
        except UnsupportedError as error:
            raise UnsupportedError(
                f"{self.where}: {error}; in Brevitas: narrow_range=True weights"
            ) from error

    def finished(self, x_scale: float | None) -> CodedLayer:
        """The layer.

        Args:
            x_scale: of what it reads, None where that is float.
        """
        coded = self._coded
        if x_scale is not None:
            coded = fit_bias(coded, self._format, self._bias, x_scale)
        return coded_layer(self._like[0], coded, self._format, self._bias)


def read_product(where: str, layer: nn.Module, *, weight: Any, bias: Any, rank: int) -> Product:
    """Read a layer that ran.

    Args:
        where: name of the layer, with its class.
        layer: QuantLinear, QuantConv1d or QuantConv2d.
        weight: what its ``weight_quant`` gave.
        bias: what its ``bias_quant`` gave, None without a bias.
        rank: axes of its result.

    Raises:
        UnsupportedError: weights or padding that cannot be deployed.
    """
    coded, fmt = read_weights(where, layer, weight)
    if getattr(layer, "is_same_padded_strided", False):
        raise UnsupportedError(
            f"{where}: padding 'same' with a stride depends on the input; give it as numbers"
        )
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        raise UnsupportedError(f"{where}: pads by {layer.padding_mode!r}, must be 'zeros'")
    row: Tensor | None = None
    if bias is not None:
        value: Tensor = bias if isinstance(bias, torch.Tensor) else bias.value
        row = value.detach().float().cpu().reshape(-1)
    return Product(where, layer, coded=coded, fmt=fmt, bias=row, rank=rank)
