"""Recordings with times: what is no recording at the declared rate is refused, by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.data.preprocessing import Window
from edgekit.data.streams import check_stream, windows_of_stream
from edgekit.errors import InvalidDataError

WINDOW = Window(length=4, stride=2, sampling_hz=20.0)


def stream(samples: int = 12) -> tuple[Any, Any]:
    return np.arange(samples) / 20, np.arange(2.0 * samples).reshape(samples, 2)


def test_windows_overlap_as_declared() -> None:
    seconds, values = stream()
    windows = windows_of_stream(seconds, values, WINDOW)
    assert windows.shape == (5, 4, 2)
    assert (windows[1] == values[2:6]).all()


@pytest.mark.parametrize("shift", [0.0, 1e9])
def test_jitter_is_no_gap(shift: float) -> None:
    """Sensors are not exact, and clocks need not start at nought."""
    seconds, values = stream()
    seconds = shift + seconds + np.random.default_rng(0).uniform(-0.01, 0.01, len(seconds))
    check_stream(seconds, values, 20.0)


def test_a_sample_that_is_missing() -> None:
    seconds, values = stream()
    for lost, words in (([5], "1 sample is missing"), ([5, 6], "2 samples are missing")):
        kept = np.delete(np.arange(12), lost)
        with pytest.raises(InvalidDataError, match=f"between samples 4 and 5.*{words}"):
            check_stream(seconds[kept], values[kept], 20.0)


def test_a_surplus_and_a_drift() -> None:
    seconds, values = stream()
    seconds[6:] -= 0.03
    with pytest.raises(InvalidDataError, match="a surplus or a jump"):
        check_stream(seconds, values, 20.0)
    seconds, values = stream(60)
    with pytest.raises(InvalidDataError, match="has 20 samples a second, must have 21"):
        check_stream(seconds, values, 21.0)


@pytest.mark.parametrize(
    ("place", "bad", "message"),
    [
        ("values", np.nan, "value of sample 3 is NaN"),
        ("values", np.inf, "value of sample 3 is NaN or infinite"),
        ("seconds", np.nan, "time of sample 3"),
        ("seconds", 0.1, "sample 3 is not later than sample 2"),
    ],
)
def test_samples_that_are_none(place: str, bad: float, message: str) -> None:
    seconds, values = stream()
    {"seconds": seconds, "values": values}[place][3] = bad
    with pytest.raises(InvalidDataError, match=message):
        check_stream(seconds, values, 20.0, where="test")


def test_shapes_and_lengths() -> None:
    seconds, values = stream()
    with pytest.raises(InvalidDataError, match="must be"):
        check_stream(seconds[:-1], values, 20.0)
    with pytest.raises(InvalidDataError, match="has no samples"):
        check_stream(seconds[:0], values[:0], 20.0)
    with pytest.raises(InvalidDataError, match="has 3 samples, a window has 4"):
        windows_of_stream(seconds[:3], values[:3], WINDOW)
