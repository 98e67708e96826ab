"""Layers that hold integer codes: what trained layers become when they are frozen.

Their forward is written with operators that stay whole on the way to a Model, so the codes and
scales reach the Program as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.errors import UnsupportedError
from edgekit.formats import Coded, Format
from edgekit.model.capture.coded import dequantize_weights
from edgekit.model.capture.symbolic import quantize_dequantize
from edgekit.model.coded import coded_attributes, coded_initializers, kind_of_factors
from edgekit.quantize.training.layout import RowLayout, row_layout


class CodedWeight(nn.Module):
    """A weight as packed codes; calling it gives reals.

    Args:
        coded: its rows.
        fmt: the format that made them.
        layout: of the weight.
    """

    packed: Tensor
    levels: Tensor
    scale: Tensor
    factor_codes: Tensor
    factor_levels: Tensor

    def __init__(self, coded: Coded, fmt: Format, layout: RowLayout) -> None:
        super().__init__()
        for name, array in coded_initializers(coded, fmt).items():
            self.register_buffer(name, torch.from_numpy(np.array(array)))
        self.format, self.layout = fmt, layout
        factors = kind_of_factors(coded, fmt)
        group = 0 if coded.factors is None else fmt.group
        found = coded_attributes(fmt.element, factors, layout.columns, group)
        self.attributes = {k: found[k] for k in ("element", "factors", "columns", "group")}

    def forward(self) -> Tensor:
        """The weight, float32 in the shape that the layer had."""
        rows = dequantize_weights(
            self.packed,
            self.levels,
            self.scale,
            self.factor_codes,
            self.factor_levels,
            **self.attributes,
        )
        return self.layout.weight(rows)

    def extra_repr(self) -> str:
        """See :class:`torch.nn.Module`."""
        return f"{self.format}, {list(self.layout.shape)}"


class Int8Weight(nn.Module):
    """A weight as int8 codes with one scale per tensor or channel; calling it gives reals.

    Args:
        coded: its rows, of int8 without groups.
        layout: of the weight; an axis of it must count its rows.
    """

    real: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, coded: Coded, layout: RowLayout) -> None:
        super().__init__()
        self.axis = layout.channel_axis or 0
        rows = coded.integers.astype(np.float32) * coded.scale[:, np.newaxis]
        # A code times its scale, divided by the scale again, rounds to the same code.
        self.register_buffer("real", layout.weight(torch.from_numpy(rows)).contiguous())
        self.register_buffer("scale", torch.from_numpy(np.array(coded.scale)))
        self.register_buffer("zero_point", torch.zeros(len(coded.scale), dtype=torch.int8))

    def forward(self) -> Tensor:
        """The weight, float32 in the shape that the layer had."""
        return quantize_dequantize(
            self.real, self.scale, self.zero_point, low=-128, high=127, axis=self.axis
        )

    def extra_repr(self) -> str:
        """See :class:`torch.nn.Module`."""
        return f"int8, {list(self.real.shape)}"


class CodedLayer(nn.Module):
    """What coded layers share.

    Args:
        layer: what it takes the place of; only its settings are read.
        coded: rows of the weight.
        fmt: the format that made them.
        bias: float32, one per output; None for none.
    """

    bias: Tensor | None

    def __init__(self, layer: Any, coded: Coded, fmt: Format, bias: Tensor | None) -> None:
        super().__init__()
        layout = row_layout(layer, layer.weight)
        plain = fmt.element.name == "int8" and coded.factors is None
        if plain and (len(coded.scale) == 1 or layout.channel_axis is not None):
            self.weight: nn.Module = Int8Weight(coded, layout)
        else:
            self.weight = CodedWeight(coded, fmt, layout)
        self.register_buffer("bias", None if bias is None else bias.detach().float().clone())


class CodedLinear(CodedLayer):
    """:class:`torch.nn.Linear` with a coded weight."""

    def forward(self, x: Tensor) -> Tensor:
        """float32 ``[..., I]`` to ``[..., O]``."""
        return functional.linear(x, self.weight(), self.bias)


class _CodedConvolution(CodedLayer):
    """Settings of a convolution with a coded weight."""

    def __init__(self, layer: Any, coded: Coded, fmt: Format, bias: Tensor | None) -> None:
        super().__init__(layer, coded, fmt, bias)
        if layer.padding_mode != "zeros":
            raise UnsupportedError(
                f"{type(layer).__name__} pads by {layer.padding_mode!r}; supported: 'zeros'"
            )
        self.stride, self.padding = layer.stride, layer.padding
        self.dilation, self.groups = layer.dilation, layer.groups


class CodedConv1d(_CodedConvolution):
    """:class:`torch.nn.Conv1d` with a coded weight."""

    def forward(self, x: Tensor) -> Tensor:
        """float32 ``[N, I, L]`` to ``[N, O, L']``."""
        return functional.conv1d(
            x, self.weight(), self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class CodedConv2d(_CodedConvolution):
    """:class:`torch.nn.Conv2d` with a coded weight."""

    def forward(self, x: Tensor) -> Tensor:
        """float32 ``[N, I, H, W]`` to ``[N, O, H', W']``."""
        return functional.conv2d(
            x, self.weight(), self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class _CodedTransposed(_CodedConvolution):
    """Settings of a transposed convolution with a coded weight."""

    def __init__(self, layer: Any, coded: Coded, fmt: Format, bias: Tensor | None) -> None:
        super().__init__(layer, coded, fmt, bias)
        self.output_padding = layer.output_padding


class CodedConvTranspose1d(_CodedTransposed):
    """:class:`torch.nn.ConvTranspose1d` with a coded weight."""

    def forward(self, x: Tensor) -> Tensor:
        """float32 ``[N, I, L]`` to ``[N, O, L']``."""
        return functional.conv_transpose1d(
            x,
            self.weight(),
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class CodedConvTranspose2d(_CodedTransposed):
    """:class:`torch.nn.ConvTranspose2d` with a coded weight."""

    def forward(self, x: Tensor) -> Tensor:
        """float32 ``[N, I, H, W]`` to ``[N, O, H', W']``."""
        return functional.conv_transpose2d(
            x,
            self.weight(),
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


CODED: dict[type[nn.Module], type[CodedLayer]] = {
    nn.Linear: CodedLinear,
    nn.Conv1d: CodedConv1d,
    nn.Conv2d: CodedConv2d,
    nn.ConvTranspose1d: CodedConvTranspose1d,
    nn.ConvTranspose2d: CodedConvTranspose2d,
}
"""Coded layers by the layer that they take the place of."""


def coded_layer(layer: nn.Module, coded: Coded, fmt: Format, bias: Tensor | None) -> CodedLayer:
    """The coded layer in the place of a trained one.

    Args:
        layer: an instance of a key of :data:`CODED`.
        coded: rows of its weight.
        fmt: the format that made them.
        bias: float32, one per output; None for none.

    Raises:
        UnsupportedError: no layer of that kind, or a padding other than zeros.
    """
    for kind, made in CODED.items():
        if isinstance(layer, kind):
            return made(layer, coded, fmt, bias)
    known = ", ".join(kind.__name__ for kind in CODED)
    raise UnsupportedError(f"{type(layer).__name__} has no coded form; these have: {known}")
