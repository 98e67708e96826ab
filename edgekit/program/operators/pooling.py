"""Pooling over windows, and the mean over axes.

Integer averages follow the TFLite reference kernels: pools divide an exact sum once, halves away
from zero; ``mean`` multiplies the sum by a fixed-point factor that holds the division. Float
averages add in row-major order from +0 and divide once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from edgekit.program.fixed_point import Requant, quantize_multiplier
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.base import Operator, operator, require, require_dtype, require_rank
from edgekit.program.operators.movement import MAX_RANK
from edgekit.program.operators.rules import (
    Clamp,
    clamped,
    given,
    require_axis,
    require_clamp,
    require_fits,
    require_scalar_requant,
    require_zero_points,
)

MAX_WINDOW = 65535
"""Most elements in a pooling window: int16 sums of so many stay within int32."""

MAX_COUNT = {DType.INT8: (2**31 - 1) // 255, DType.INT16: MAX_WINDOW}
"""Most elements that an integer mean takes: their sum, less the zero points, fits int32."""


@dataclass(frozen=True)
class _Pool(Operator):
    """What both pools share: the window and the clamp."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    clamp: Clamp | None = None

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """``[N, (H + top + bottom - kernel) // stride + 1, likewise, C]``."""
        x = given(inputs[0])
        require_rank(x, "x", 4)
        require_dtype(x, "x", DType.INT8, DType.INT16, DType.FLOAT32)
        require_clamp(self.clamp, x.dtype)
        require(min(self.kernel) >= 1, f"kernel {list(self.kernel)} must be positive")
        require(min(self.stride) >= 1, f"stride {list(self.stride)} must be positive")
        require(min(self.padding) >= 0, f"padding {list(self.padding)} must not be negative")
        require(
            math.prod(self.kernel) <= MAX_WINDOW,
            f"kernel {list(self.kernel)} must hold at most {MAX_WINDOW} elements",
        )
        spatial = []
        for axis in (0, 1):
            size, before, after = x.shape[1 + axis], self.padding[axis], self.padding[axis + 2]
            count = (size + before + after - self.kernel[axis]) // self.stride[axis] + 1
            last = (count - 1) * self.stride[axis] - before
            require(
                count >= 1 and before < self.kernel[axis] and last < size,
                f"axis {1 + axis}: kernel {self.kernel[axis]}, stride {self.stride[axis]}, "
                f"padding {before} and {after} must give windows that each hold at least one of "
                f"the {size} elements",
            )
            spatial.append(count)
        return (TensorType((x.shape[0], *spatial, x.shape[3]), x.dtype),)

    def _windows(self, x: Array, fill: float) -> list[Array]:
        """One array of the output's shape per element of the window, in row-major order."""
        (_, height, width, _) = self.infer(TensorType(x.shape, DType(x.dtype.name)))[0].shape
        top, left, bottom, right = self.padding
        padded = np.pad(
            x,
            ((0, 0), (top, bottom), (left, right), (0, 0)),
            constant_values=x.dtype.type(fill),
        )
        rows, columns = self.stride
        return [
            padded[:, ky : ky + height * rows : rows, kx : kx + width * columns : columns][
                :, :height, :width
            ]
            for ky in range(self.kernel[0])
            for kx in range(self.kernel[1])
        ]


@operator("max_pool_2d", inputs="x")
@dataclass(frozen=True)
class MaxPool2D(_Pool):
    """Largest element of each window of x[N,H,W,C]; padding never wins.

    Attributes:
        kernel: height and width of the window.
        stride: step down and right.
        padding: top, left, bottom, right; smaller than the window.
        clamp: bounds of the result in units of the tensor; integers need it.

    >>> pool = MaxPool2D((1, 2), (1, 2), clamp=(-128, 127))
    >>> pool.reference(np.array([[[[3], [-7]]]], np.int8))[0].ravel().tolist()
    [3]
    """

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The clamped maxima. float32 starts from the lowest finite number and passes NaN over."""
        x = given(inputs[0])
        limits = np.finfo(x.dtype) if x.dtype.kind == "f" else np.iinfo(x.dtype)
        best: Array | None = None
        for window in self._windows(x, limits.min):
            start = np.full_like(window, limits.min) if best is None else best
            best = np.where(window > start, window, start)
        return (clamped(given(best), self.clamp),)


@operator("avg_pool_2d", inputs="x")
@dataclass(frozen=True)
class AvgPool2D(_Pool):
    """Mean of each window of x[N,H,W,C].

    Attributes:
        kernel: height and width of the window, at most 65,535 elements.
        stride: step down and right.
        padding: top, left, bottom, right; smaller than the window.
        clamp: bounds of the result in units of the tensor; integers need it.
        count_include_pad: divide by the whole window, padding counting as `x_zero_point`;
            else by the number of elements that are there.
        x_zero_point: what an integer zero is.

    Integers: sum in int32, divided once, halves away from zero. float32: sum in row-major order,
    one division.

    >>> pool = AvgPool2D((1, 2), (1, 2), clamp=(-128, 127))
    >>> pool.reference(np.array([[[[-2], [-1]]]], np.int8))[0].ravel().tolist()
    [-2]
    """

    count_include_pad: bool = False
    x_zero_point: int = 0

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """``[N, (H + top + bottom - kernel) // stride + 1, likewise, C]``."""
        (y,) = super().infer(*inputs)
        if y.dtype.is_integer:
            require_fits(self.x_zero_point, "x_zero_point", y.dtype)
        return (y,)

    def _counts(self, x: Array) -> Array:
        """Divisors, int64, of a shape that broadcasts to the output's."""
        if self.count_include_pad:
            return np.array(math.prod(self.kernel), np.int64)
        there = self._windows(np.ones((1, *x.shape[1:3], 1), x.dtype), 0)
        return np.asarray(np.sum(np.stack(there), axis=0, dtype=np.int64))

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The clamped means."""
        x = given(inputs[0])
        count = self._counts(x)
        if x.dtype.kind == "f":
            # float32 zeros in the padding leave the running sum as it is.
            total: Array = np.float32(0) + self._windows(x, 0)[0]
            for window in self._windows(x, 0)[1:]:
                total = total + window
            return (clamped(total / count.astype(np.float32), self.clamp),)
        fill = self.x_zero_point if self.count_include_pad else 0
        acc = np.sum(np.stack(self._windows(x, fill)), axis=0, dtype=np.int64)
        magnitude = (np.abs(acc) + count // 2) // count
        return (clamped(np.sign(acc) * magnitude, self.clamp).astype(x.dtype),)


@operator("mean", inputs="x")
@dataclass(frozen=True)
class Mean(Operator):
    """Mean over axes.

    Attributes:
        axes: increasing, counted from the front.
        keep_dims: leave the axes with size 1 instead of removing them.
        requant: factor from the sum of ``x - x_zero_point`` to the output, division included;
            None for float32.
        x_zero_point, y_zero_point: of input and output.
        clamp: bounds of the result in units of the output; integers need it.

    Integers: the exact sum, rescaled once. float32: sum in row-major order, one division by the
    count.

    >>> Mean((1,), False).reference(np.array([[1, 2]], np.float32))[0].tolist()
    [1.5]
    """

    axes: tuple[int, ...]
    keep_dims: bool
    requant: Requant | None = None
    x_zero_point: int = 0
    y_zero_point: int = 0
    clamp: Clamp | None = None

    @classmethod
    def quantized(
        cls,
        *,
        axes: tuple[int, ...],
        keep_dims: bool,
        count: int,
        x: Quantization,
        y: Quantization,
        dtype: DType = DType.INT8,
    ) -> Self:
        """The integer form.

        Args:
            axes: see the class.
            keep_dims: see the class.
            count: number of elements that are averaged.
            x: per-tensor quantisation of the input.
            y: per-tensor quantisation of the output.
            dtype: of both; gives the clamp.

        >>> half = Quantization.per_tensor(0.5)
        >>> Mean.quantized(axes=(1,), keep_dims=False, count=2, x=half, y=half).requant
        Requant(multiplier=(1073741824,), shift=(0,), rounding='double')
        """
        multiplier, shift = quantize_multiplier(x.scalar_scale / y.scalar_scale)
        # The division by `count` goes into the factor: 2**fold <= count keeps the multiplier's
        # precision; the second bound keeps the final shift at -31 or above.
        fold = min(count.bit_length() - 1, 32, 31 + shift)
        return cls(
            axes=axes,
            keep_dims=keep_dims,
            requant=Requant(((multiplier << fold) // count,), (shift - fold,), "double"),
            x_zero_point=x.scalar_zero_point,
            y_zero_point=y.scalar_zero_point,
            clamp=dtype.limits,
        )

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """Reduced axes have size 1 or are gone."""
        x = given(inputs[0])
        rank = len(x.shape)
        require_dtype(x, "x", DType.INT8, DType.INT16, DType.FLOAT32)
        require_clamp(self.clamp, x.dtype)
        require(rank <= MAX_RANK, f"x has rank {rank}, must have at most {MAX_RANK}")
        require(x.size >= 1, f"x has shape {list(x.shape)}, must not be empty")
        for axis in self.axes:
            require_axis(axis, rank)
        require(
            self.axes == tuple(sorted(set(self.axes))) and len(self.axes) >= 1,
            f"axes {list(self.axes)} must be one or more, increasing",
        )
        require(
            (self.requant is not None) == x.dtype.is_integer,
            f"{x.dtype} {'needs' if x.dtype.is_integer else 'takes no'} requant",
        )
        require_scalar_requant(self.requant)
        require_zero_points(x.dtype, x_zero_point=self.x_zero_point, y_zero_point=self.y_zero_point)
        count = self.count(x)
        require(
            count <= MAX_COUNT.get(x.dtype, count),
            f"the mean of {count} elements may overflow int32, must be of "
            f"{MAX_COUNT.get(x.dtype)} at most",
        )
        if self.keep_dims:
            shape = tuple(1 if k in self.axes else d for k, d in enumerate(x.shape))
        else:
            shape = tuple(d for k, d in enumerate(x.shape) if k not in self.axes)
        return (TensorType(shape, x.dtype),)

    def count(self, x: TensorType) -> int:
        """How many elements are averaged."""
        return math.prod(x.shape[axis] for axis in self.axes)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The means."""
        x = given(inputs[0])
        type_ = TensorType(x.shape, DType(x.dtype.name))
        shape, count = self.infer(type_)[0].shape, self.count(type_)
        kept = [k for k in range(x.ndim) if k not in self.axes]
        rows = x.transpose(*kept, *self.axes).reshape(-1, count)
        if self.requant is None:
            # accumulate() is strictly sequential, unlike sum(); + 0 turns -0 into +0.
            total = np.add.accumulate(rows, axis=1, dtype=np.float32)[:, -1] + np.float32(0)
            return (clamped(total / np.float32(count), self.clamp).reshape(shape),)
        acc = rows.sum(axis=1, dtype=np.int64) - self.x_zero_point * count
        y = self.requant.apply(acc) + self.y_zero_point
        return (clamped(y, self.clamp).astype(x.dtype).reshape(shape),)
