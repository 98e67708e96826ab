"""Partitions: which samples train, validate and test."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.dataset import TEST, TRAIN, VALIDATION

Array = NDArray[Any]

SEED = 20200416
"""Of every partition that is drawn, so that figures of different runs compare."""


def random_partition(count: int, *, validation: float, test: float) -> Array:
    """int8[count]: drawn shares of validation and test.

    >>> np.bincount(random_partition(10, validation=0.2, test=0.2)).tolist()
    [6, 2, 2]
    """
    partition = np.full(count, TRAIN, np.int8)
    drawn = np.random.Generator(np.random.PCG64(SEED)).permutation(count)
    tests, validations = round(count * test), round(count * validation)
    partition[drawn[:tests]] = TEST
    partition[drawn[tests : tests + validations]] = VALIDATION
    return partition


def group_partition(groups: Array, *, validation: Collection[int], test: Collection[int]) -> Array:
    """int8[N]: whole groups, so that nobody is on two sides.

    >>> group_partition(np.array([7, 7, 8, 9]), validation=[8], test=[9]).tolist()
    [0, 0, 1, 2]
    """
    partition = np.full(len(groups), TRAIN, np.int8)
    partition[np.isin(groups, list(validation))] = VALIDATION
    partition[np.isin(groups, list(test))] = TEST
    return partition


def drawn_groups(groups: Array, *, validation: float, test: float) -> Array:
    """int8[N]: whole groups, drawn; shares are of the number of groups."""
    names = np.unique(groups)
    partition = random_partition(len(names), validation=validation, test=test)
    found: Array = partition[np.searchsorted(names, groups)]
    return found


def held_out(official: Array, *, share: float) -> Array:
    """An official partition without validation, with `share` of its training samples drawn as one.

    Args:
        official: int8[N] of 0 train and 2 test.
        share: of the training samples.
    """
    partition = official.copy()
    train = np.flatnonzero(official == TRAIN)
    inner = random_partition(len(train), validation=share, test=0)
    partition[train[inner == VALIDATION]] = VALIDATION
    return partition
