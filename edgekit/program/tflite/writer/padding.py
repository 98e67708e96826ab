"""Explicit padding in TFLite's words, SAME and VALID; the inverse of the reader's windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgekit.program.operators.convolution import TransposeConv2D
from edgekit.program.tflite.windows import Pair, same


def is_same(
    padding: Sequence[int],
    extents: Sequence[int],
    kernel: Sequence[int],
    stride: Pair,
    dilation: Pair,
) -> bool:
    """Whether top, left, bottom, right are what SAME gives.

    >>> is_same((0, 0, 1, 1), (4, 4), (3, 3), (2, 2), (1, 1))
    True
    """
    (top, bottom), (left, right) = (
        same(size, (k - 1) * d + 1, s)
        for size, k, s, d in zip(extents, kernel, stride, dilation, strict=True)
    )
    return tuple(padding) == (top, left, bottom, right)


def transposed_padding(
    operator: TransposeConv2D, extents: Sequence[int], result: Sequence[int], kernel: Sequence[int]
) -> Literal["same", "valid"] | None:
    """How TFLite calls the padding of a transposed convolution; None where it has no word for it.

    The file holds the size of the result. What is cut off in front follows from the word, what is
    cut off or added behind from the size, so that it cannot be both. LiteRT also wants the
    convolution from the result back to have as many windows as the input has elements.

    Args:
        operator: with padding and output padding.
        extents: height and width of the input.
        result: height and width of the result.
        kernel: height and width of the weights.
    """
    top, left, bottom, right = operator.padding
    sides = ((top, bottom), (left, right))

    def fits(k: int, *, is_same: bool) -> bool:
        size, target, reach, stride = extents[k], result[k], kernel[k], operator.stride[k]
        windows = -(-(target if is_same else target - reach + 1) // stride)
        cut = same(target, reach, stride)[0] if is_same else 0
        behind = (size - 1) * stride + reach - cut - target
        wanted = (cut, max(behind, 0), max(-behind, 0))
        return windows == size and (*sides[k], operator.output_padding[k]) == wanted

    if all(fits(k, is_same=False) for k in (0, 1)):
        return "valid"
    return "same" if all(fits(k, is_same=True) for k in (0, 1)) else None
