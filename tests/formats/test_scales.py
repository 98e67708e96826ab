"""The rules that choose scales, each against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.formats import ELEMENTS, RULES, mean_magnitude
from edgekit.formats.scales import SMALLEST_SCALE, absmax_scale, mse_scale, squared_error


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * np.float32(0.1)


@pytest.mark.parametrize("name", ["int4", "int8", "shift4", "fp4-e2m1", "fp8-e5m2", "ternary"])
def test_absmax_puts_the_largest_weight_on_the_largest_level(name: str) -> None:
    element = ELEMENTS[name]
    w = weights(7, 50)
    largest = np.abs(w).max(axis=1)
    np.testing.assert_array_equal(absmax_scale(w, element), largest / np.float32(element.maximum))


def test_absmax_of_int2_uses_the_level_that_has_no_opposite() -> None:
    scale = absmax_scale(np.float32([[-2, 0.5], [-0.5, 2], [-3, 2]]), ELEMENTS["int2"])
    assert scale.tolist() == [1, 2, 2]


def test_median_is_the_lower_one() -> None:
    w = np.float32([[3, -1, 4, -2], [9, 9, -7, 0]])
    assert RULES["median"](w, ELEMENTS["ternary"]).tolist() == [2, 7]
    w = weights(5, 31)
    expected = np.sort(np.abs(w), axis=1)[:, 15]
    np.testing.assert_array_equal(RULES["median"](w, ELEMENTS["ternary"]), expected)


@pytest.mark.parametrize("rule", ["median", "mean"])
def test_median_and_mean_have_a_floor(rule: str) -> None:
    for w in (np.zeros((2, 3), np.float32), np.full((2, 3), 1e-7, np.float32)):
        assert RULES[rule](w, ELEMENTS["ternary"]).tolist() == [np.float32(1e-5)] * 2


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
@pytest.mark.parametrize("count", [1, 2, 1000, 100_003])
def test_mean_is_right_and_no_order_matters(scale: float, count: int) -> None:
    rng = np.random.default_rng(count)
    w = (rng.standard_normal(count) * np.exp(rng.uniform(-9, 0, count)) * scale).astype(np.float32)
    exact = math.fsum(np.abs(w).astype(float).tolist()) / count
    mean = mean_magnitude(w)
    assert abs(float(mean) - exact) <= 0.5001 * float(np.spacing(np.float32(exact)))
    assert mean == mean_magnitude(rng.permutation(w)) == mean_magnitude(-w[::-1])


def test_mean_of_nothing_is_zero() -> None:
    assert mean_magnitude(np.zeros((2, 0), np.float32)).tolist() == [0, 0]


def test_unit_is_one() -> None:
    assert RULES["unit"](weights(3, 4), ELEMENTS["shift3"]).tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["int2", "int4", "ternary", "shift2", "shift3", "fp4-e2m1"])
def test_mse_is_the_best_of_its_grid(name: str) -> None:
    element = ELEMENTS[name]
    w = weights(6, 200)
    largest = absmax_scale(w, element)
    grid = [largest * np.float32(step / 64) for step in range(64, 11, -1)]
    levels = np.array([level for level in element.levels if level >= element.minimum], float)
    errors = []
    for scale in grid:
        candidates = levels[:, None] * scale.astype(float)
        distance = np.abs(w.astype(float)[:, None, :] - candidates.T[:, :, None])
        errors.append((distance.min(axis=1) ** 2).sum(axis=1))
    expected = np.array(grid)[np.argmin(errors, axis=0), np.arange(6)]
    scale = mse_scale(w, element)
    np.testing.assert_allclose(scale, expected, rtol=1e-6)
    assert (squared_error(w, scale, element) <= squared_error(w, largest, element)).all()
    assert (scale < largest).any()


def test_mse_keeps_the_largest_of_equals() -> None:
    """One weight fits at every scale that has it as a level; 1 is tried first."""
    assert mse_scale(np.float32([[0.7]]), ELEMENTS["int4"]) == np.float32(0.7) / np.float32(7)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ELEMENTS)
def test_zeros_and_nothing_have_a_scale(rule: str, name: str) -> None:
    element = ELEMENTS[name]
    for w in (np.zeros((3, 4), np.float32), np.zeros((3, 0), np.float32)):
        scale = RULES[rule](w, element)
        assert scale.dtype == np.float32
        assert scale.shape == (3,)
        if rule in ("absmax", "mse"):
            assert scale.tolist() == [1 if 0 in element.levels else SMALLEST_SCALE] * 3
        assert (scale >= SMALLEST_SCALE).all()
    assert RULES[rule](np.zeros((0, 4), np.float32), element).shape == (0,)


def test_no_scale_is_subnormal() -> None:
    tiny = np.float32([[1e-44, -2e-42]])
    for name, element in ELEMENTS.items():
        assert absmax_scale(tiny, element) == SMALLEST_SCALE, name
