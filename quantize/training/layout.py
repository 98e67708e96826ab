"""How the weight of a torch module becomes rows, one per output channel.

=======================  =============================  ===================  ====================
module                   weight                         row                  columns of a row
=======================  =============================  ===================  ====================
Linear                   ``[O, I]``                     output               ``I``
Conv1d, 2d, 3d           ``[O, I/g, *K]``               output channel       ``*K, I/g``
ConvTranspose1d, 2d, 3d  ``[I, O/g, *K]``               output channel       ``*K, I/g``
Embedding                ``[V, D]``                     entry                ``D``
LSTM, GRU, RNN           ``[gates * H, I or H]``        gate and unit        ``I`` or ``H``
any other                ``[R, …]``                     first index          the others, in order
any other, one index     ``[N]``                        the only one         ``N``
=======================  =============================  ===================  ====================

Rows of convolutions have the input channels last, which is the order in which kernels read them and
in which groups of weights share a scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


@dataclass(frozen=True)
class RowLayout:
    """The way between a weight and its rows.

    Attributes:
        shape: of the weight.
        kind: ``plain``: the first index is the row; ``convolution`` and ``transposed`` as the
            module's table says.
        groups: of a transposed convolution.
    """

    shape: tuple[int, ...]
    kind: Literal["plain", "convolution", "transposed"] = "plain"
    groups: int = 1

    @property
    def row_count(self) -> int:
        """Number of rows."""
        if self.kind == "transposed":
            return self.shape[1] * self.groups
        return self.shape[0] if len(self.shape) > 1 else 1

    @property
    def columns(self) -> int:
        """Weights of a row."""
        return math.prod(self.shape) // max(1, self.row_count)

    @property
    def channel_axis(self) -> int | None:
        """Axis of the weight that counts its rows; None where none does."""
        if self.kind == "transposed":
            return 1 if self.groups == 1 else None
        return 0 if len(self.shape) > 1 else None

    def rows(self, weight: Tensor) -> Tensor:
        """The weight as ``[R, K]``; a view where the order is the same.

        >>> import torch
        >>> layout = RowLayout((1, 2, 3), "convolution")
        >>> layout.rows(torch.arange(6).reshape(1, 2, 3))
        tensor([[0, 3, 1, 4, 2, 5]])
        """
        if self.kind == "plain":
            return weight.reshape(self.row_count, self.columns)
        if self.kind == "convolution":
            return weight.movedim(1, -1).reshape(self.row_count, self.columns)
        inputs, outputs, *kernel = self.shape
        split = weight.reshape(self.groups, inputs // self.groups, outputs, *kernel)
        return split.movedim(1, -1).reshape(self.row_count, self.columns)

    def weight(self, rows: Tensor) -> Tensor:
        """The inverse of :meth:`rows`."""
        if self.kind == "plain":
            return rows.reshape(self.shape)
        first, second, *kernel = self.shape
        if self.kind == "convolution":
            return rows.reshape(first, *kernel, second).movedim(-1, 1)
        split = rows.reshape(self.groups, second, *kernel, first // self.groups)
        return split.movedim(-1, 1).reshape(self.shape)


def row_layout(module: nn.Module, weight: Tensor) -> RowLayout:
    """The layout of a module's weight.

    Args:
        module: that has the weight.
        weight: any of its parameters; only a convolution's kernel, which has as many axes as
            the convolution needs, is turned.
    """
    shape = tuple(weight.shape)
    if isinstance(module, _ConvNd) and len(shape) == len(module.kernel_size) + 2:
        if isinstance(module, _ConvTransposeNd):
            return RowLayout(shape, "transposed", module.groups)
        return RowLayout(shape, "convolution")
    return RowLayout(shape)
