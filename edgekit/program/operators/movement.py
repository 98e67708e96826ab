"""Operators that move elements and compute nothing.

Shape rules and meaning are independent of the dtype: every element is copied as it is, so these
operators are exact for all dtypes. Quantisation is that of the input; a reader that finds another
one at the output inserts a ``requantize``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekit.program.ir import Array, TensorType
from edgekit.program.operators.base import Operator, operator, require, require_rank
from edgekit.program.operators.rules import given, require_axis

MAX_RANK = 6
"""Highest rank that the movement operators accept; the C kernels' parameter arrays have it."""

Pairs = tuple[tuple[int, int], ...]
T = TypeVar("T")


def _require_movable(x: TensorType, entries: int, field: str) -> None:
    """Refuse a rank that is too high or differs from the number of `entries` in a field."""
    rank = len(x.shape)
    require(rank <= MAX_RANK, f"x has rank {rank}, must have at most {MAX_RANK}")
    require(entries == rank, f"{field} has {entries} entries, must have one per axis of x, {rank}")


@operator("concat", inputs="x*")
@dataclass(frozen=True)
class Concat(Operator):
    """Join tensors of one dtype along an axis.

    Attributes:
        axis: counted from the front; the other dimensions of all inputs are equal.

    >>> Concat(axis=1).reference(np.zeros((1, 1)), np.ones((1, 2)))[0].tolist()
    [[0.0, 1.0, 1.0]]
    """

    axis: int

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """Shape with the sum of the sizes along `axis`."""
        require(len(inputs) >= 1, "concat needs at least one input")
        first = given(inputs[0])
        require_axis(self.axis, len(first.shape))
        total = 0
        for i, maybe in enumerate(inputs):
            x = given(maybe)
            require(x.dtype == first.dtype, f"input {i} is {x.dtype}, input 0 is {first.dtype}")
            require_rank(x, f"input {i}", len(first.shape))
            rest, expected = list(x.shape), list(first.shape)
            total += rest.pop(self.axis)
            expected.pop(self.axis)
            require(
                rest == expected,
                f"input {i} has shape {list(x.shape)}, must equal {list(first.shape)} "
                f"but for axis {self.axis}",
            )
        shape = (*first.shape[: self.axis], total, *first.shape[self.axis + 1 :])
        return (TensorType(shape, first.dtype),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The joined array."""
        return (np.concatenate([given(x) for x in inputs], self.axis),)


@operator("split", inputs="x", outputs="y*")
@dataclass(frozen=True)
class Split(Operator):
    """Cut a tensor along an axis.

    Attributes:
        axis: counted from the front.
        sizes: size of each output along `axis`; their sum is the size of the input.

    >>> [y.tolist() for y in Split(axis=0, sizes=(1, 2)).reference(np.arange(3))]
    [[0], [1, 2]]
    """

    axis: int
    sizes: tuple[int, ...]

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """One shape per entry of `sizes`."""
        x = given(inputs[0])
        require_axis(self.axis, len(x.shape))
        require(
            len(self.sizes) >= 1 and min(self.sizes) >= 1,
            f"sizes {list(self.sizes)} must be one or more positive numbers",
        )
        require(
            sum(self.sizes) == x.shape[self.axis],
            f"sizes {list(self.sizes)} must add up to {x.shape[self.axis]}, "
            f"the size of axis {self.axis}",
        )
        before, after = x.shape[: self.axis], x.shape[self.axis + 1 :]
        return tuple(TensorType((*before, size, *after), x.dtype) for size in self.sizes)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The pieces."""
        borders = np.cumsum(self.sizes)[:-1]
        return tuple(
            np.ascontiguousarray(part) for part in np.split(given(inputs[0]), borders, self.axis)
        )


@operator("slice", inputs="x")
@dataclass(frozen=True)
class Slice(Operator):
    """Every `strides`-th element of a box.

    Attributes:
        begin: first index per axis.
        end: bound per axis, not reached: above `begin` for a positive stride, below it for a
            negative one, where -1 means "through element 0" (not Python's last element).
        strides: step per axis, not zero.

    >>> Slice((3,), (-1,), (-2,)).reference(np.arange(4))[0].tolist()
    [3, 1]
    """

    begin: tuple[int, ...]
    end: tuple[int, ...]
    strides: tuple[int, ...]

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """``ceil((end - begin) / stride)`` along every axis, at least one."""
        x = given(inputs[0])
        for field in ("begin", "end", "strides"):
            _require_movable(x, len(getattr(self, field)), field)
        require(0 not in self.strides, f"strides {list(self.strides)} must not contain 0")
        shape = tuple(
            -((begin - end) // stride)
            for begin, end, stride in zip(self.begin, self.end, self.strides, strict=True)
        )
        for axis, (count, begin, stride) in enumerate(
            zip(shape, self.begin, self.strides, strict=True)
        ):
            last = begin + (count - 1) * stride
            require(
                count >= 1 and 0 <= begin < x.shape[axis] and 0 <= last < x.shape[axis],
                f"axis {axis}: begin {begin}, end {self.end[axis]}, stride {stride} must select "
                f"at least one element, all within 0…{x.shape[axis] - 1}",
            )
        return (TensorType(shape, x.dtype),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The selected elements."""
        window = tuple(
            slice(begin, None if end < 0 else end, stride)
            for begin, end, stride in zip(self.begin, self.end, self.strides, strict=True)
        )
        return (np.ascontiguousarray(given(inputs[0])[window]),)


@operator("pad", inputs="x")
@dataclass(frozen=True)
class Pad(Operator):
    """Surround a tensor with a constant.

    Attributes:
        padding: elements before and after, per axis.
        value: the constant in units of the tensor (the zero point, for a quantised zero).

    >>> Pad(((1, 0),), -128).reference(np.array([5], np.int8))[0].tolist()
    [-128, 5]
    """

    padding: Pairs
    value: int | float = 0

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """Every dimension grows by its padding."""
        x = given(inputs[0])
        _require_movable(x, len(self.padding), "padding")
        require(
            all(before >= 0 and after >= 0 for before, after in self.padding),
            f"padding {[list(p) for p in self.padding]} must not be negative",
        )
        if x.dtype.is_integer:
            low, high = x.dtype.limits
            require(
                float(self.value).is_integer() and low <= self.value <= high,
                f"value {self.value} does not fit {x.dtype}",
            )
        grown = (d + sum(pair) for d, pair in zip(x.shape, self.padding, strict=True))
        return (TensorType(tuple(grown), x.dtype),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The surrounded array."""
        x = given(inputs[0])
        fill = x.dtype.type(self.value)
        return (np.pad(x, self.padding, constant_values=fill),)


@operator("reshape", inputs="x", alias=True)
@dataclass(frozen=True)
class Reshape(Operator):
    """The same elements in row-major order under another shape.

    Attributes:
        shape: every dimension, none of them open.

    >>> Reshape((2, 2)).reference(np.arange(4))[0].tolist()
    [[0, 1], [2, 3]]
    """

    shape: tuple[int, ...]

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """`shape`, which must have as many elements as the input."""
        x = given(inputs[0])
        require(
            math.prod(self.shape) == x.size and all(d >= 0 for d in self.shape),
            f"x has shape {list(x.shape)} and {x.size} elements, "
            f"which shape {list(self.shape)} does not hold",
        )
        return (TensorType(self.shape, x.dtype),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The reshaped array."""
        return (given(inputs[0]).reshape(self.shape),)


@operator("transpose", inputs="x")
@dataclass(frozen=True)
class Transpose(Operator):
    """Reorder axes: axis k of the output is axis ``permutation[k]`` of the input.

    >>> Transpose((1, 0)).reference(np.zeros((2, 3)))[0].shape
    (3, 2)
    """

    permutation: tuple[int, ...]

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The permuted shape."""
        x = given(inputs[0])
        _require_movable(x, len(self.permutation), "permutation")
        require(
            sorted(self.permutation) == list(range(len(x.shape))),
            f"permutation {list(self.permutation)} must hold each of 0…{len(x.shape) - 1} once",
        )
        return (TensorType(tuple(x.shape[k] for k in self.permutation), x.dtype),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The permuted array."""
        return (np.ascontiguousarray(given(inputs[0]).transpose(self.permutation)),)


@operator("resize_nearest", inputs="x")
@dataclass(frozen=True)
class ResizeNearest(Operator):
    """Enlarge or shrink rows and columns of x[N,H,W,C] by repeating or dropping them.

    Attributes:
        size: new height and width.
        align_corners: map the last row to the last row; the source index is rounded, not floored.
        half_pixel_centers: measure from the centres of pixels.

    >>> ResizeNearest((1, 4)).reference(np.array([[[[1], [2]]]]))[0].ravel().tolist()
    [1, 1, 2, 2]
    """

    size: tuple[int, int]
    align_corners: bool = False
    half_pixel_centers: bool = False

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """[N, size[0], size[1], C]."""
        x = given(inputs[0])
        require_rank(x, "x", 4)
        require(min(self.size) >= 1, f"size {list(self.size)} must be positive")
        return (TensorType((x.shape[0], *self.size, x.shape[3]), x.dtype),)

    def indices(self, source: int, target: int) -> NDArray[np.int32]:
        """Source index of each of `target` rows (or columns), computed in float32 as TFLite does.

        >>> ResizeNearest((1, 1), half_pixel_centers=True).indices(4, 2).tolist()
        [1, 3]
        """
        one = np.float32(1)
        if self.align_corners and target > 1:
            scale = np.float32(source - 1) / np.float32(target - 1)
        else:
            scale = np.float32(source) / np.float32(target)
        offset = one / 2 if self.half_pixel_centers else np.float32(0)
        position = (np.arange(target, dtype=np.float32) + offset) * scale
        if self.align_corners:
            # Half away from zero. The float64 sum is exact, so no second rounding occurs.
            position = np.floor(position.astype(np.float64) + 0.5)
        return np.asarray(np.minimum(np.floor(position), source - 1), np.int32)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The resized array."""
        x = given(inputs[0])
        rows = self.indices(x.shape[1], self.size[0])
        columns = self.indices(x.shape[2], self.size[1])
        return (x[:, rows[:, None], columns[None, :], :],)
