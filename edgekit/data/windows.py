"""Recordings become windows: resampling, alignment, cutting."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def sliding_windows(recording: Array, *, length: int, stride: int) -> Array:
    """Whole windows of a recording; what is left at its end is dropped.

    Args:
        recording: [time, channels].
        length: samples in a window.
        stride: samples from one start to the next.

    Returns:
        [windows, length, channels], a copy.

    >>> sliding_windows(np.arange(5).reshape(5, 1), length=2, stride=2)[..., 0].tolist()
    [[0, 1], [2, 3]]
    """
    count = max(0, (len(recording) - length) // stride + 1)
    starts = np.arange(count)[:, None] * stride
    windows: Array = recording[starts + np.arange(length)]
    return windows


def sampling_rate(seconds: Array) -> float:
    """Mean samples a second of ascending times; 0 where they do not advance.

    >>> sampling_rate(np.array([0.0, 0.05, 0.1]))
    20.0
    """
    span = float(seconds[-1] - seconds[0]) if len(seconds) > 1 else 0.0
    return (len(seconds) - 1) / span if span > 0 else 0.0


def resampled(seconds: Array, values: Array, *, rate: float) -> Array:
    """Linear interpolation at `rate` from the first time on.

    Args:
        seconds: [time], ascending.
        values: [time, channels].
        rate: samples a second of the result.

    Returns:
        float64[time', channels].
    """
    count = int((seconds[-1] - seconds[0]) * rate + 1e-6) + 1
    at = seconds[0] + np.arange(count) / rate
    return np.stack([np.interp(at, seconds, values[:, c]) for c in range(values.shape[1])], axis=1)
