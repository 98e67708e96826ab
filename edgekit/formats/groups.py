"""Groups: runs of consecutive weights of a row, of which the last may be shorter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float32 = NDArray[np.float32]


def group_count(columns: int, group: int) -> int:
    """Groups of a row.

    >>> group_count(64, 32), group_count(65, 32), group_count(0, 32)
    (2, 3, 0)
    """
    return -(-columns // group)


def reduce_groups(w: Float32, group: int, rule: Callable[[Float32], Float32]) -> Float32:
    """A value for every group of every row.

    Args:
        w: [R, K].
        group: weights of a group.
        rule: [..., n] to [...].

    Returns:
        [R, G].

    >>> reduce_groups(np.float32([[1, 2, 3, 4, 5]]), 2, lambda x: x.max(axis=-1)).tolist()
    [[2.0, 4.0, 5.0]]
    """
    rows, columns = w.shape
    whole = columns // group
    parts = [rule(w[:, : whole * group].reshape(rows, whole, group))]
    if columns > whole * group:
        parts.append(rule(w[:, None, whole * group :]))
    return np.concatenate(parts, axis=1)


def spread(values: Array, *, group: int, columns: int) -> Array:
    """Values [R, G] of groups for every weight, [R, columns].

    >>> spread(np.int32([[7, 9]]), group=2, columns=3).tolist()
    [[7, 7, 9]]
    """
    return np.repeat(values, group, axis=1)[:, :columns]
