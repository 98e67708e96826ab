"""Ranges from values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import UsageError
from edgekit.quantize.observers import (
    Histogram,
    MeanSquaredError,
    MinMax,
    Observer,
    Percentile,
    affine_quantization,
    make_observer,
)

RNG = np.random.default_rng(3)


def seen(observer: Observer, *batches: np.ndarray) -> tuple[float, float]:
    for batch in batches:
        observer.update(batch.astype(np.float32))
    return observer.range()


@pytest.mark.parametrize("name", ["minmax", "mse", "percentile", "percentile:90"])
class TestEveryObserver:
    """What holds for all."""

    def test_batches_do_not_matter(self, name: str) -> None:
        values = (RNG.standard_normal(5000) * np.geomspace(1e-3, 40, 5000)).astype(np.float32)
        create = make_observer(name)
        at_once = seen(create(), values)
        assert seen(create(), *np.split(values, 10)) == at_once
        assert seen(create(), *np.split(values[::-1], 10)) == at_once

    def test_the_range_lies_within_the_extremes(self, name: str) -> None:
        values = RNG.standard_normal(3000).astype(np.float32)
        low, high = seen(make_observer(name)(), values)
        assert values.min() <= low < high <= values.max()

    @pytest.mark.parametrize("value", [0.0, 2.5, -3.0, 1e-30, 3e38])
    def test_constants(self, name: str, value: float) -> None:
        low, high = seen(make_observer(name)(), np.full(100, value))
        assert low <= np.float32(value) <= high
        assert max(abs(low), abs(high)) <= 1.001 * abs(np.float32(value))

    def test_nothing_seen(self, name: str) -> None:
        assert make_observer(name)().range() == (0.0, 0.0)


def test_minmax_is_exact() -> None:
    assert seen(MinMax(), np.array([[0.1, -0.3]]), np.array([0.2])) == (
        float(np.float32(-0.3)),
        float(np.float32(0.2)),
    )


def test_percentile_drops_outliers_to_a_bin() -> None:
    values = np.concatenate([np.linspace(-1, 1, 9998), [50.0, -70.0]])
    low, high = seen(Percentile(99.98), values)
    width = 2 * 128 / 4096
    assert low == pytest.approx(-1, abs=width)
    assert high == pytest.approx(1, abs=width)
    assert seen(Percentile(100), values) == (-70.0, 50.0)


def test_mse_prefers_fine_steps_to_rare_outliers() -> None:
    values = np.concatenate([RNG.standard_normal(100_000), [40.0]])
    low, high = seen(MeanSquaredError(), values)
    assert high < 40

    def error(bounds: tuple[float, float]) -> float:
        q = affine_quantization(*bounds)
        codes = np.clip(np.rint(values / q.scalar_scale) + q.scalar_zero_point, -128, 127)
        return float(np.mean(((codes - q.scalar_zero_point) * q.scalar_scale - values) ** 2))

    extremes = float(values.min()), float(values.max())
    best = min(error((extremes[0] * k / 100, extremes[1] * k / 100)) for k in range(20, 101))
    # The histogram's bins are 1/64 wide here.
    assert error((low, high)) <= 1.02 * best
    assert error((low, high)) < error(extremes)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    st.lists(
        st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=9),
        min_size=1,
        max_size=6,
    )
)
def test_histogram_counts_every_value_where_it_belongs(batches: list[list[float]]) -> None:
    histogram = Histogram(bins=64)
    for batch in batches:
        histogram.update(np.float32(batch))
    values = np.float64(np.float32([v for batch in batches for v in batch]))
    assert histogram.counts.sum() == values.size
    assert np.abs(values).max() < histogram.reach
    expected, _ = np.histogram(values, histogram.edges())
    np.testing.assert_array_equal(histogram.counts, expected)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("median", "there are minmax, mse, percentile"),
        ("percentile:x", "a number from 50 to 100"),
        ("percentile:101", "a number from 50 to 100"),
        ("percentile:nan", "a number from 50 to 100"),
        ("mse:3", "unknown"),
    ],
)
def test_unknown_names(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_observer(name)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30))
def test_affine_quantisation(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    q = affine_quantization(low, high)
    scale, zero_point = q.scalar_scale, q.scalar_zero_point
    assert np.isfinite(scale)
    assert scale > 0
    assert scale == np.float32(scale)
    # Zero is exact, and both ends are within a step of what can be represented.
    assert -128 <= zero_point <= 127
    assert (-128 - zero_point) * scale <= min(low, 0) + scale
    assert (127 - zero_point) * scale >= max(high, 0) - scale
