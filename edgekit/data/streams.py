"""Recordings as a sensor delivers them: samples with times, checked before anything is cut of them.

A window is only what a network was trained on if its samples follow each other at the declared
rate. So a stream is refused where a value is no finite number, where its times do not ascend, or
where one sample is missing: a gap is not closed by joining its ends, nor are values made up for it.
What lies between two gaps may be cut apart from it by whoever knows that it is a recording of its
own.

>>> seconds = np.arange(5) / 20
>>> window = Window(length=2, stride=2, sampling_hz=20.0)
>>> windows_of_stream(seconds, np.arange(5.0).reshape(5, 1), window)[..., 0].tolist()
[[0.0, 1.0], [2.0, 3.0]]
>>> windows_of_stream(seconds[[0, 1, 3, 4]], np.zeros((4, 1)), window)
Traceback (most recent call last):
edgekit.errors.InvalidDataError: stream: 0.1 s between samples 1 and 2, must be 0.05 s at 20 Hz: \
1 sample is missing
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.preprocessing import Window
from edgekit.data.windows import sliding_windows
from edgekit.errors import InvalidDataError

Array = NDArray[Any]

JITTER = 0.5
"""How far a sample may be from its time, in sampling intervals: any further, and it could be its
neighbour."""

DRIFT = 0.02
"""How far the mean rate of a stream may be from the declared one: what clocks of sensors differ."""


def check_stream(
    seconds: Array, values: Array, sampling_hz: float, *, where: str = "stream"
) -> None:
    """Refuse a stream that is not one recording at the declared rate.

    Args:
        seconds: float[time], when each sample was taken.
        values: float[time, channels].
        sampling_hz: samples a second.
        where: what it is, for messages.

    Raises:
        InvalidDataError: shapes that do not fit, values or times that are NaN or infinite, times
            that do not ascend, a gap or a surplus of samples, another mean rate; names the sample.
    """
    if values.ndim != 2 or seconds.shape != values.shape[:1]:
        raise InvalidDataError(
            f"{where}: times have shape {list(seconds.shape)} and values {list(values.shape)}, "
            "must be [time] and [time, channels]"
        )
    if not len(seconds):
        raise InvalidDataError(f"{where}: has no samples")
    for what, wrong in (
        ("time", ~np.isfinite(seconds)),
        ("value", ~np.isfinite(values).all(axis=1)),
    ):
        if wrong.any():
            index = int(wrong.argmax())
            raise InvalidDataError(f"{where}: the {what} of sample {index} is NaN or infinite")
    _check_times(seconds.astype(np.float64), 1 / sampling_hz, where)


def _check_times(seconds: Array, interval: float, where: str) -> None:
    rate = 1 / interval
    steps = np.diff(seconds)
    if (steps <= 0).any():
        index = int((steps <= 0).argmax())
        raise InvalidDataError(f"{where}: sample {index + 1} is not later than sample {index}")
    wrong = np.abs(steps - interval) > JITTER * interval
    if wrong.any():
        index = int(wrong.argmax())
        missing = round(float(steps[index]) / interval) - 1
        lacking = f"{missing} sample{'s are' if missing > 1 else ' is'} missing"
        raise InvalidDataError(
            f"{where}: {steps[index]:.6g} s between samples {index} and {index + 1}, must be "
            f"{interval:g} s at {rate:g} Hz: {lacking if missing > 0 else 'a surplus or a jump'}"
        )
    intervals = float(seconds[-1] - seconds[0]) * rate
    # Of a short stream the jitter of its ends is more than any drift.
    if abs(intervals - len(steps)) > DRIFT * len(steps) + JITTER:
        raise InvalidDataError(
            f"{where}: has {rate * len(steps) / intervals:.4g} samples a second, must have {rate:g}"
        )


def windows_of_stream(
    seconds: Array, values: Array, window: Window, *, where: str = "stream"
) -> Array:
    """Whole windows of a checked stream; what is left at its end is dropped.

    Args:
        seconds: float[time].
        values: float[time, channels].
        window: length, stride and rate.
        where: what it is, for messages.

    Returns:
        [windows, length, channels], at least one.

    Raises:
        InvalidDataError: see :func:`check_stream`, or it is shorter than a window.
    """
    seconds, values = np.asarray(seconds), np.asarray(values)
    check_stream(seconds, values, window.sampling_hz, where=where)
    windows = sliding_windows(values, length=window.length, stride=window.stride)
    if not len(windows):
        raise InvalidDataError(f"{where}: has {len(values)} samples, a window has {window.length}")
    return windows
