"""Explicit padding from SAME and VALID.

Source: the TensorFlow documentation of ``tf.nn``, "Notes on padding".
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.program.tflite.node import Node

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


def strides(node: Node) -> Pair:
    """The option strides, rows first, which must be positive."""
    return positive_pair(node, "stride_h", "stride_w")


def positive_pair(node: Node, rows: str, columns: str) -> Pair:
    """Two options that must be positive."""
    pair = (int(node.option(rows)), int(node.option(columns)))
    if min(pair) < 1:
        node.invalid(f"{rows} and {columns} are {list(pair)}, must be positive")
    return pair


def same(size: int, reach: int, stride: int) -> Pair:
    """Padding before and after `size` elements so that windows start at every `stride`-th one.

    Args:
        size: of the input.
        reach: elements from the first to the last of a window, both included.
        stride: step of the window.

    >>> same(49, 10, 2), same(10, 4, 2), same(4, 1, 2)
    ((4, 5), (1, 1), (0, 0))
    """
    count = -(-size // stride)
    total = max((count - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def padding(
    node: Node, extents: Sequence[int], kernel: Sequence[int], stride: Pair, dilation: Pair
) -> Padding:
    """Top, left, bottom, right of a window that slides over an image of `extents`."""
    if not node.same_padding():
        return (0, 0, 0, 0)
    (top, bottom), (left, right) = (
        same(size, (k - 1) * d + 1, s)
        for size, k, s, d in zip(extents, kernel, stride, dilation, strict=True)
    )
    return (top, left, bottom, right)
