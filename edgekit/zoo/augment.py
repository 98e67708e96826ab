"""Changes to training samples in NumPy, drawn from one generator in a fixed order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import UsageError
from edgekit.zoo.recipe import Augmentation

Array = NDArray[Any]

INERTIAL_CHANNELS = 6
"""Acceleration x, y, z, then angular rate x, y, z."""


def check_augmentation(augmentation: Augmentation, shape: tuple[int, ...]) -> None:
    """Refuse changes that samples of this shape cannot have.

    Args:
        augmentation: what is wanted.
        shape: of one sample: (channels, time) or (channels, height, width).

    Raises:
        UsageError: a rotation of anything but six inertial channels, a stretch of what has no
            single time axis, a shift or flip of what is no image.
    """
    windows = len(shape) == 2
    if augmentation.rotate_degrees and not (windows and shape[0] == INERTIAL_CHANNELS):
        raise UsageError(
            f"augmentation.rotate_degrees: samples are {list(shape)}, must be "
            f"[{INERTIAL_CHANNELS}, time]"
        )
    if augmentation.stretch and not windows:
        raise UsageError(
            f"augmentation.stretch: samples are {list(shape)}, must be [channels, time]"
        )
    if (augmentation.shift or augmentation.flip) and len(shape) != 3:
        raise UsageError(
            f"augmentation.shift and flip: samples are {list(shape)}, must be "
            "[channels, height, width]"
        )


def augmented(x: Array, augmentation: Augmentation, rng: np.random.Generator) -> Array:
    """Samples in physical units, changed; what is 0 draws nothing.

    Args:
        x: float32[N, ...]; not changed.
        augmentation: what to do; noise and mixup come later.
        rng: where every draw comes from.
    """
    count = len(x)
    if augmentation.rotate_degrees:
        turn = rotations(np.deg2rad(augmentation.rotate_degrees), count, rng)
        x = np.concatenate([turn @ x[:, :3], turn @ x[:, 3:]], axis=1)
    if augmentation.gain:
        gain = np.exp(augmentation.gain * rng.standard_normal(count, np.float32))
        x = x * gain.reshape(-1, *(1,) * (x.ndim - 1))
    if augmentation.stretch:
        factor = np.exp(augmentation.stretch * rng.standard_normal(count, np.float32))
        x = stretched(x, factor)
    if augmentation.shift:
        x = shifted(x, rng.integers(-augmentation.shift, augmentation.shift + 1, (count, 2)))
    if augmentation.flip:
        mirror = rng.random(count) < augmentation.flip
        x = np.where(mirror[:, None, None, None], x[..., ::-1], x)
    return x


def rotations(deviation: float, count: int, rng: np.random.Generator) -> Array:
    """Rotation matrices float32[count, 3, 3] about random axes, by Rodrigues' formula.

    Args:
        deviation: standard deviation of the angle in radians.
        count: how many.
        rng: where the draws come from.
    """
    axis = rng.standard_normal((count, 3), np.float32)
    axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-6)
    angle = (deviation * rng.standard_normal(count, np.float32))[:, None, None]
    cross = np.zeros((count, 3, 3), np.float32)
    cross[:, (2, 0, 1), (1, 2, 0)] = axis
    cross[:, (1, 2, 0), (2, 0, 1)] = -axis
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    found: Array = turn.astype(np.float32)
    return found


def stretched(x: Array, factor: Array) -> Array:
    """Windows with time running `factor` times as fast about their middle; edges repeat.

    Args:
        x: float32[N, channels, time].
        factor: float32[N].

    >>> stretched(np.array([[[0.0, 1.0, 2.0, 3.0]]], np.float32), np.array([2.0])).tolist()
    [[[0.0, 0.5, 2.5, 3.0]]]
    """
    time = x.shape[2]
    middle = (time - 1) / 2
    at = np.clip(middle + (np.arange(time) - middle) * factor[:, None], 0, time - 1)
    before = np.minimum(at.astype(np.int64), time - 2)
    share = (at - before).astype(np.float32)[:, None]
    first = np.take_along_axis(x, before[:, None], axis=2)
    second = np.take_along_axis(x, before[:, None] + 1, axis=2)
    between: Array = first * (1 - share) + second * share
    return between


def shifted(x: Array, by: Array) -> Array:
    """Images moved by whole pixels; what comes in repeats the edge.

    Args:
        x: [N, channels, height, width].
        by: int[N, 2], down and right.

    >>> shifted(np.array([[[[1, 2, 3]]]]), np.array([[0, 1]])).tolist()
    [[[[1, 1, 2]]]]
    """
    height, width = x.shape[2:]
    rows = np.clip(np.arange(height) - by[:, :1], 0, height - 1)
    columns = np.clip(np.arange(width) - by[:, 1:], 0, width - 1)
    each = np.arange(len(x))[:, None, None]
    moved: Array = x[each, :, rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2)
    return moved
