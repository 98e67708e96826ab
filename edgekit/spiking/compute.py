"""The arithmetic of nodes in NumPy, in a stated order, for arrays [N,...] with a batch axis.

Sums of products add one product after the other, each product and each sum rounded on its own, as
the float32 operators of a Program do. A product with 0 changes no sum that starts at +0 (the sum is
never -0), so leaving out inactive inputs and padding changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgekit.spiking.arrays import Array, Shape
from edgekit.spiking.nodes import Conv, Leaky, Linear, MaxPool, Neuron, Pool, Weighted, spread_over


def add_products(total: Array, x: Array, node: Weighted, flattened: Shape | None = None) -> None:
    """Add ``W x`` to a running total, in place; the bias is not added.

    Args:
        total: [N,O] or [N,O,...], of the dtype in which to compute.
        x: what the node reads, [N,K] or [N,I,...].
        node: order of the sum: ascending k, or (kernel row, kernel column, channel of the group).
        flattened: the shape (C,...) that the input of a Linear had before it was flattened: the
            order of the sum is then (position, channel). None: ascending k.
    """
    if isinstance(node, Linear):
        _add_linear(total, x, node, flattened or (node.weight.shape[1] * node.groups,))
    else:
        _add_conv(total, x, node)


def _add_linear(total: Array, x: Array, node: Linear, flattened: Shape) -> None:
    groups = node.groups
    outputs, columns = node.weight.shape
    weights = node.weight.values.reshape(groups, outputs // groups, columns)
    sums = total.reshape(-1, groups, outputs // groups)
    parts = x.reshape(-1, groups, columns)
    if total.dtype == np.float64:
        # Nobody compares float64 to the bit: the fast product may add in its own order.
        sums += np.einsum("ngk,gok->ngo", parts, weights.astype(np.float64), optimize=True)
        return
    if len(flattened) > 1:
        order = np.moveaxis(np.arange(groups * columns).reshape(flattened), 0, -1).reshape(-1)
        # Of every group its own inputs, in that order.
        inner = order[np.argsort(order // columns, kind="stable")].reshape(groups, -1) % columns
        parts = np.take_along_axis(parts, inner[None], axis=2)
        weights = np.take_along_axis(weights, inner[:, None], axis=2)
    for k in np.flatnonzero(parts.any(axis=(0, 1))):
        sums += parts[:, :, k, None] * weights[:, :, k]


def _add_conv(total: Array, x: Array, node: Conv) -> None:
    groups = node.groups
    per_group = node.weight.shape[0] // groups
    padded = np.pad(x, ((0, 0), (0, 0), *_pairs(node.padding)))
    # [channel of the group, N, groups, ...]
    channels = np.moveaxis(padded.reshape(len(x), groups, -1, *padded.shape[2:]), 2, 0)
    sums = total.reshape(len(x), groups, per_group, *total.shape[2:])
    columns = node.weight.values.astype(x.dtype).reshape(groups, per_group, len(channels), -1)
    taps = windows(node.kernel, total.shape[2:], stride=node.stride, dilation=node.dilation)
    for tap, box in enumerate(taps):
        for channel, values in enumerate(channels):
            read = values[(slice(None), slice(None), *box)]
            if read.any():
                factor = columns[:, :, channel, tap].reshape(groups, per_group, *[1] * len(box))
                sums += read[:, :, None] * factor


def pool(x: Array, node: Pool, shape: Shape) -> Array:
    """MaxPool, SumPool or AvgPool of [N,C,...]; sums in row-major order from +0, divided once.

    Args:
        x: what the node reads.
        node: the window.
        shape: of the result without batch.
    """
    largest = isinstance(node, MaxPool)
    outside = -np.inf if largest else 0
    padded = np.pad(x, ((0, 0), (0, 0), *_pairs(node.padding)), constant_values=outside)
    result = np.full((x.shape[0], *shape), outside, x.dtype)
    ones = (1,) * len(node.kernel)
    for box in windows(node.kernel, shape[1:], stride=node.stride, dilation=ones):
        read = padded[(slice(None), slice(None), *box)]
        result = np.maximum(result, read) if largest else result + read
    return result


def window_size(node: Pool) -> int:
    """Places of a pooling window."""
    return math.prod(node.kernel)


def windows(
    kernel: Shape, extents: Shape, *, stride: Shape, dilation: Shape
) -> Iterator[tuple[slice, ...]]:
    """What every tap of a kernel, in row-major order, reads of the padded input.

    Args:
        kernel: extents of the kernel.
        extents: of the result.
        stride: steps of the window, one per axis.
        dilation: distances between taps, one per axis.

    >>> list(windows((2,), (3,), stride=(2,), dilation=(1,)))
    [(slice(0, 5, 2),), (slice(1, 6, 2),)]
    """
    for tap in np.ndindex(*kernel):
        starts = [t * d for t, d in zip(tap, dilation, strict=True)]
        yield tuple(
            slice(b, b + (n - 1) * s + 1, s)
            for b, n, s in zip(starts, extents, stride, strict=True)
        )


def neuron(node: Neuron, current: Array, state: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
    """One step of a population, as :class:`~edgekit.spiking.nodes.Leaky` and Synaptic state it.

    Args:
        node: the neurons.
        current: what they read, [N,...].
        state: ``membrane`` and, of Synaptic, ``synaptic``.

    Returns:
        The value (spikes of 0 and 1, or membranes), and the next state.
    """
    dtype: Any = current.dtype.type
    shape = current.shape[1:]
    beta, threshold = (
        spread_over(values, shape).astype(dtype) for values in (node.beta, node.threshold)
    )
    membrane = state["membrane"]
    reset = node.reset if node.spiking else "none"
    fired = (membrane > threshold).astype(dtype)
    following: dict[str, Array] = {}
    if isinstance(node, Leaky):
        held = (dtype(1) - fired) * membrane if reset == "zero" else membrane
        raised = beta * held + current
        taken = fired * threshold if reset == "subtract" else None
    else:
        alpha = spread_over(node.alpha, shape).astype(dtype)
        following["synaptic"] = alpha * state["synaptic"] + current
        raised = beta * membrane + following["synaptic"]
        taken = {"subtract": fired * threshold, "zero": raised * fired}.get(reset)
    following["membrane"] = raised if taken is None else raised - taken
    if not node.spiking:
        return following["membrane"], following
    return (following["membrane"] > threshold).astype(dtype), following


def _pairs(padding: Shape) -> list[tuple[int, int]]:
    """Before and behind, axis by axis."""
    axes = len(padding) // 2
    return list(zip(padding[:axes], padding[axes:], strict=True))
