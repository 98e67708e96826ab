"""Operations that a recording has and a graph has not: they are folded into its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.spiking.arrays import Array, Float32, Shape


@dataclass(frozen=True, eq=False)
class Affine:
    """``x * factor + shift``: BatchNorm in evaluation, constants multiplied and added.

    Attributes:
        factor: float64, see :func:`compact`.
        shift: likewise; None adds nothing.
    """

    factor: Array
    shift: Array | None = None

    def output_shape(self, shape: Shape) -> Shape:
        """The same."""
        return shape


@dataclass(frozen=True)
class Reshape:
    """Another shape of as many values, in the same order."""

    shape: Shape

    def output_shape(self, shape: Shape) -> Shape:
        """The new one."""
        return self.shape


def compact(values: Array, shape: Shape) -> Array:
    """The smallest of ``[1]``, ``[C,1,...]`` and `shape` that broadcasts to the same values.

    Args:
        values: broadcastable to `shape`.
        shape: of a population, without batch.

    >>> compact(np.ones((3, 1, 4)), (3, 2, 4)).shape, compact(np.arange(3.0), (3,)).shape
    ((1,), (3,))
    """
    full = np.broadcast_to(values, shape)
    if (full == full.flat[0]).all():
        return np.array([full.flat[0]])
    channels = full.reshape(shape[0], -1)
    if (channels == channels[:, :1]).all():
        return np.array(channels[:, 0]).reshape(-1, *[1] * (len(shape) - 1))
    return np.array(full)


def without_batch(values: Array, shape: Shape, what: str) -> Array:
    """A parameter as it applies to one sample: torch broadcasts it against ``[N,*shape]``.

    Args:
        values: of the source network.
        shape: of the population, without batch.
        what: named in the message.

    Raises:
        UnsupportedError: it differs between the samples of a batch, or does not broadcast.
    """
    if values.ndim == len(shape) + 1 and values.shape[0] == 1:
        values = values[0]
    try:
        return compact(values, shape)
    except ValueError:
        raise UnsupportedError(
            f"{what} has the shape {list(values.shape)}; supported: one number, or what "
            f"broadcasts to {list(shape)}, one for all samples of a batch"
        ) from None


def per_neuron(values: Array) -> Float32:
    """A compact array as a neuron's parameter: one axis where it is one number per channel."""
    flat = values.reshape(-1) if values.size in (1, values.shape[0]) else values
    return flat.astype(np.float32)
