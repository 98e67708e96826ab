"""Pools of currents: windows over integer totals, before neurons read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.program.fixed_point import wrap_int32
from edgekit.program.ir import Array, DType, TensorType
from edgekit.program.operators.base import Operator, operator, require, require_dtype, require_rank
from edgekit.program.operators.convolution import Padding, Pair
from edgekit.program.operators.pooling import MaxPool2D
from edgekit.program.operators.rules import given

PoolKind = Literal["max", "sum"]

POOL_KINDS: tuple[PoolKind, ...] = ("max", "sum")
"""What becomes of a window: its largest element, or the sum of all."""


@operator("current_pool_2d", inputs="x")
@dataclass(frozen=True, kw_only=True)
class CurrentPool2D(Operator):
    """Largest element, or sum, of each window of x[N,H,W,C], int32.

    Padding is never the largest and adds nothing to a sum; every window holds at least one element
    that is there. Sums wrap in two's complement; whoever makes a Program sees to it that they fit.
    A mean is a sum in steps that are worth less.

    Attributes:
        kind: ``max`` or ``sum``.
        kernel: height and width of the window, at most 65,535 elements.
        stride: step down and right.
        padding: top, left, bottom, right; smaller than the window.

    >>> pool = CurrentPool2D(kind="max", kernel=(1, 2), stride=(1, 2), padding=(0, 1, 0, 0))
    >>> pool.reference(np.int32([-70000, 5, 90000]).reshape(1, 1, 3, 1))[0].ravel().tolist()
    [-70000, 90000]
    """

    kind: PoolKind
    kernel: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """``[N, (H + top + bottom - kernel) // stride + 1, likewise, C]``."""
        x = given(inputs[0])
        require_rank(x, "x", 4)
        require_dtype(x, "x", DType.INT32)
        require(
            self.kind in POOL_KINDS, f"kind is {self.kind!r}, must be {' or '.join(POOL_KINDS)}"
        )
        return (TensorType(self.pooled_shape(x.shape), DType.INT32),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The largest elements, or the sums."""
        x = given(inputs[0]).astype(np.int64)
        return (wrap_int32(self.reduce(x)).astype(np.int32),)

    def reduce(self, x: Array) -> Array:
        """The same of int64 or float64 [N,H,W,C], without wrapping."""
        if self.kind == "sum":
            return np.asarray(np.add.reduce(self.under(x, 0)))
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        return np.asarray(np.maximum.reduce(self.under(x, lowest)))

    def under(self, x: Array, fill: float) -> list[Array]:
        """Of x[N,H,W,C], one array of the result's shape per element of a window.

        Args:
            x: of any dtype.
            fill: what padding holds.
        """
        (_, height, width, _) = self.pooled_shape(x.shape)
        (top, left, bottom, right), (rows, columns) = self.padding, self.stride
        ends = ((0, 0), (top, bottom), (left, right), (0, 0))
        padded = np.pad(x, ends, constant_values=fill)
        return [
            padded[:, ky : ky + height * rows : rows, kx : kx + width * columns : columns][
                :, :height, :width
            ]
            for ky in range(self.kernel[0])
            for kx in range(self.kernel[1])
        ]

    def pooled_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the result of [N,H,W,C].

        Raises:
            OperatorError: windows that do not fit, or of padding alone.
        """
        # That of the same pool over int8.
        windows = MaxPool2D(self.kernel, self.stride, self.padding, DType.INT8.limits)
        return windows.infer(TensorType(shape, DType.INT8))[0].shape
