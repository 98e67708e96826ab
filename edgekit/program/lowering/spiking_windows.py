"""Pools in front of neurons: the windows that they take of a current.

Totals that share a scale per channel are pooled as the integers they are: the largest of a window
is that of its real values, and a mean is a sum whose steps are worth the share of one place. What a
current adds as constants is the same at all places of a channel, so that it may be added behind the
pool, where neurons add it in the finer steps of their membranes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model import geometry
from edgekit.model.nodes import Array, const, find_input, get_input, get_int, is_op, label, shape_of
from edgekit.program.lowering.arrangement import CHANNELS_LAST, image_pair
from edgekit.program.operators.base import OperatorError
from edgekit.program.operators.spiking_pools import CurrentPool2D

POOLS = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
"""Operators of ONNX."""

INSTEAD = "put the pool behind the neuron, or use float32"
"""What can be done about a pool that integer neurons do not read."""


@dataclass(frozen=True, eq=False)
class Windows:
    """A pool over one image.

    Attributes:
        node: the pool.
        operator: of the Program, on [1,H,W,C].
        shape: of what it reads: [1,C,L] or [1,C,H,W].
        result: shape of what it gives.
        share: what a sum is multiplied by: of a mean, 1 by the places of a window.
        is_even: whether that is so for every window.
    """

    node: onnx_ir.Node
    operator: CurrentPool2D
    shape: tuple[int, ...]
    result: tuple[int, ...]
    share: float
    is_even: bool

    def lying(self, flat: Array) -> Array:
        """What the pool reads, flattened, as [1,H,W,C]."""
        moved = flat.reshape(self.shape).transpose(CHANNELS_LAST[len(self.shape)])
        return moved.reshape(1, *image_pair(self.shape[2:], 1), self.shape[1])

    def flat(self, pooled: Array) -> Array:
        """What the pool gives as [1,OH,OW,C], flattened in its own order."""
        axes = CHANNELS_LAST[len(self.result)]
        stored = pooled.reshape([self.result[a] for a in axes])
        return stored.transpose(np.argsort(axes)).reshape(-1)

    def constants(self, flat: Array) -> Array:
        """Constants in front of the pool as constants behind it, both flattened."""
        real = self.lying(flat.astype(np.float64))
        return self.flat(self.operator.reduce(real)) * self.share

    def check(self, constants: Array | None) -> None:
        """Refuse what a sum or the largest of integers does not say.

        Args:
            constants: in front of the pool, flattened; None without any.

        Raises:
            UnsupportedError: means that do not divide by every place of a window, constants that
                decide which place is the largest.
        """
        if not self.is_even:
            raise UnsupportedError(
                f"{label(self.node)}: takes means of windows that do not all have the same number "
                f"of places; count_include_pad without ceil_mode would do; else {INSTEAD}"
            )
        if constants is None or self.operator.kind == "sum":
            return
        real = self.lying(constants.astype(np.float64))
        highest = np.maximum.reduce(self.operator.under(real, -np.inf))
        if (highest != np.minimum.reduce(self.operator.under(real, np.inf))).any():
            raise UnsupportedError(
                f"{label(self.node)}: takes the largest of places to which different constants are "
                f"added; one constant per channel would do; else {INSTEAD}"
            )


def windows_of(node: onnx_ir.Node | None) -> Windows | None:
    """A pool of one image without gaps in its windows; None for any other node.

    Sums of windows are convolutions of every channel with weights that are all 1.
    """
    if node is None or not is_op(node, "MaxPool", "AveragePool", "Conv"):
        return None
    shape, result = shape_of(get_input(node, 0)), shape_of(node.outputs[0])
    if shape is None or result is None or len(shape) not in CHANNELS_LAST or shape[0] != 1:
        return None
    if is_op(node, "Conv"):
        weights = const(get_input(node, 1))
        if weights is None or not _sums_channels(node, weights, shape[1]):
            return None
        kernel = geometry.conv_kernel(node, weights.shape)
    else:
        if not geometry.unused_outputs(node, 1):
            return None
        kernel = geometry.kernel_of(node, len(shape) - 2)
    window = geometry.window(node, shape[2:], kernel)
    if set(window.dilation) != {1}:
        return None
    operator = CurrentPool2D(
        kind="max" if is_op(node, "MaxPool") else "sum",
        kernel=image_pair(window.kernel, 1),
        stride=image_pair(window.stride, 1),
        padding=(*image_pair(window.before, 0), *image_pair(window.after, 0)),
    )
    try:
        operator.pooled_shape((1, *image_pair(shape[2:], 1), shape[1]))
    except OperatorError:
        # Windows of padding alone.
        return None
    averages = is_op(node, "AveragePool")
    counts = get_int(node, "count_include_pad", 0) == 1 or not any(window.padding)
    return Windows(
        node,
        operator,
        shape,
        result,
        1 / math.prod(window.kernel) if averages else 1.0,
        not averages or (counts and not any(window.overhang)),
    )


def _sums_channels(node: onnx_ir.Node, weights: Array, channels: int) -> bool:
    each = get_int(node, "group", 1) == channels == len(weights)
    return each and find_input(node, 2) is None and bool((weights == 1).all())
