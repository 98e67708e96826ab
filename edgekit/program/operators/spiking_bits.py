"""Bit sets: how a Program holds the spikes of a population.

A population of n neurons is int32 [N, ceil(n / 32)]: bit ``i % 32`` of word ``i // 32``, the lowest
first, says whether neuron i spikes. Neurons of a spatial population are numbered in NHWC order.
Operators write 0 into the bits behind the last neuron and never read them.
"""

from __future__ import annotations

import numpy as np

from edgekit.program.ir import Array, DType, TensorType
from edgekit.program.operators.base import require, require_dtype, require_rank

WORD_BITS = 32
"""Neurons that share a word."""


def words_of(neurons: int) -> int:
    """Words of a bit set.

    >>> words_of(32), words_of(33)
    (1, 2)
    """
    return -(-neurons // WORD_BITS)


def bit_set(batch: int, neurons: int) -> TensorType:
    """Type of a bit set.

    >>> bit_set(1, 180)
    TensorType(shape=(1, 6), dtype=<DType.INT32: 'int32'>)
    """
    return TensorType((batch, words_of(neurons)), DType.INT32)


def require_bit_set(s: TensorType, neurons: int) -> int:
    """Refuse anything but a bit set of so many neurons.

    Returns:
        The batch N.

    Raises:
        OperatorError: another rank, dtype or number of words, or no neurons.
    """
    require_dtype(s, "s", DType.INT32)
    require_rank(s, "s", 2)
    require(neurons >= 1, f"neurons is {neurons}, must be positive")
    require(
        s.shape[0] >= 1 and s.shape[1] == words_of(neurons),
        f"s has shape {list(s.shape)}, must be [N, {words_of(neurons)}] for {neurons} neurons",
    )
    return s.shape[0]


def pack_spikes(spikes: Array) -> Array:
    """Bit sets int32 [N, ceil(n / 32)] of truth values [N, n].

    >>> pack_spikes(np.array([[1, 0, 1] + 30 * [0] + [1]], bool)).tolist()
    [[5, 2]]
    """
    batch, neurons = spikes.shape
    padded = np.zeros((batch, words_of(neurons) * WORD_BITS), bool)
    padded[:, :neurons] = spikes
    octets = np.packbits(padded, axis=1, bitorder="little")
    return octets.view("<i4").astype(np.int32)


def unpack_spikes(s: Array, neurons: int) -> Array:
    """Truth values [N, neurons] of bit sets; the inverse of :func:`pack_spikes`.

    >>> unpack_spikes(np.int32([[5]]), 4).tolist()
    [[True, False, True, False]]
    """
    octets = np.ascontiguousarray(s, "<i4").view(np.uint8)
    return np.unpackbits(octets, axis=1, count=neurons, bitorder="little").astype(bool)
