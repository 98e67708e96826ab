"""AdaRound and GPTQ against brute force, the papers' formulas and a textbook form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import InvalidDataError, UsageError
from edgekit.formats import ELEMENTS, Format
from edgekit.quantize.posttraining.adaround import GAMMA, ZETA, RoundingSettings, adaround
from edgekit.quantize.posttraining.coding import grid_of, nearest, rounded
from edgekit.quantize.posttraining.gptq import DAMPING, gptq
from edgekit.quantize.posttraining.grid import Grid
from edgekit.quantize.posttraining.method import Method
from edgekit.quantize.posttraining.objective import MAX_COLUMNS, Moments, Objective

FORMATS = ("int4", "int4-g8", "int2", "ternary", "shift3", "binary", "fp4-e2m1-g8", "fp8-e4m3")
FORMATS += ("mxfp4", "nvfp4", "fp4-e3m0", "int3-t")


def correlated(count: int, columns: int, seed: int) -> np.ndarray:
    """Inputs that hang together and have a mean, as those behind a ReLU."""
    rng = np.random.default_rng(seed)
    few = rng.standard_normal((count, max(2, columns // 3)))
    mixed = few @ rng.standard_normal((few.shape[1], columns))
    return np.maximum(mixed + 0.3 * rng.standard_normal((count, columns)), 0)


def output_error(rows: np.ndarray, other: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Mean of ((other − rows) x)² per row, computed from the inputs themselves."""
    return np.square((other - rows) @ x.T).mean(axis=1)


@pytest.mark.parametrize("method", ["adaround", "gptq"])
@pytest.mark.parametrize("name", FORMATS)
def test_never_worse_than_nearest_and_often_better(name: str, method: str) -> None:
    fmt = Format.parse(name)
    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((9, 32)) * 0.2).astype(np.float32)
    x = correlated(300, 32, 4)
    objective = Objective.symmetric(rows, x)
    first = nearest(rows, fmt, Method())
    found = rounded(first, rows, fmt, Method.parse(method), objective)
    assert set(np.unique(found.integers)) <= set(fmt.element.levels)
    np.testing.assert_array_equal(found.scale, first.scale)
    before, after = (output_error(rows, fmt.dequantize(c), x) for c in (first, found))
    assert (after <= before * (1 + 1e-4) + 1e-12).all()
    assert after.sum() < 0.9 * before.sum()


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["int3", "fp4-e2m1-g4", "ternary"]))
@settings(deadline=None, max_examples=8)
def test_near_the_optimum_of_brute_force(seed: int, kind: str) -> None:
    fmt = Format.parse(kind)
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((24, 8)).astype(np.float32)
    x = correlated(100, 8, seed)
    objective = Objective.symmetric(rows, x)
    grid = grid_of(nearest(rows, fmt, Method()), fmt)
    below, above = grid.neighbours(rows)
    best = np.full(24, np.inf)
    for sides in itertools.product([False, True], repeat=8):
        tried = np.where(np.array(sides), above, below)
        best = np.minimum(best, objective.error(grid.real(tried)))
    found = adaround(rows, grid, objective)
    assert ((found == below) | (found == above)).all()
    error = objective.error(grid.real(found))
    # No single weight can change sides for the better.
    for column in range(8):
        flipped = found.copy()
        flipped[:, column] = np.where(found == below, above, below)[:, column]
        worse = objective.error(grid.real(flipped)) >= error * (1 - 1e-6)
        fixed = (error >= objective.error(grid.real(grid.nearest(rows)))).astype(bool)
        assert (worse | fixed).all()
    assert error.sum() <= 1.8 * best.sum() + 1e-9


def test_the_start_is_the_weight_itself() -> None:
    """The papers' h starts as the fraction, so that before the first step nothing is rounded."""
    grid = Grid(np.array(ELEMENTS["fp4-e2m1"].levels), np.full((1, 4), 0.25))
    rows = np.array([[0.3, -0.7, 2.2, 1.1]])
    below, above = grid.neighbours(rows)
    step = grid.real(above - below)
    assert len(set(step.ravel())) > 1
    ratio = (rows - grid.real(below)) / step
    v = -step * np.log((ZETA - GAMMA) / (ratio - GAMMA) - 1)
    h = np.clip(1 / (1 + np.exp(-v / step)) * (ZETA - GAMMA) + GAMMA, 0, 1)
    np.testing.assert_allclose(grid.real(below) + h * step, rows, rtol=1e-12)


def test_scale_aware_counts_where_steps_differ() -> None:
    """On a uniform grid both forms are one; on a minifloat's they are not."""
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((16, 24)).astype(np.float32)
    objective = Objective.symmetric(rows, correlated(200, 24, 6))
    results = {}
    for name in ("int4", "fp4-e3m0"):
        fmt = Format.parse(name)
        grid = grid_of(nearest(rows, fmt, Method()), fmt)
        pair = [
            adaround(
                rows,
                grid,
                objective,
                settings=RoundingSettings(scale_aware=aware, finish=False, iterations=300),
            )
            for aware in (False, True)
        ]
        results[name] = [objective.error(grid.real(p)).sum() for p in pair]
    assert results["int4"][0] == pytest.approx(results["int4"][1], rel=0.05)
    assert results["fp4-e3m0"][0] != pytest.approx(results["fp4-e3m0"][1], rel=1e-3)


def test_groups_are_independent() -> None:
    """Rows of a grouped layer are rounded as if each group were a layer of its own."""
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((6, 9)).astype(np.float32)
    inputs = np.stack([correlated(150, 9, seed) for seed in (1, 2)], axis=1)
    fmt = Format.parse("int3")
    grid = grid_of(nearest(rows, fmt, Method()), fmt)
    whole = Objective.symmetric(rows, inputs)
    halves = []
    for group in (0, 1):
        part = slice(3 * group, 3 * group + 3)
        own = Objective.symmetric(rows[part], inputs[:, group])
        halves.append(gptq(rows[part], Grid(grid.levels, grid.step[part]), own))
        np.testing.assert_allclose(
            whole.error(grid.real(grid.nearest(rows)))[part],
            own.error(grid.real(grid.nearest(rows))[part]),
        )
    np.testing.assert_array_equal(gptq(rows, grid, whole), np.concatenate(halves))


def textbook_gptq(w: np.ndarray, x: np.ndarray, grid: Grid) -> np.ndarray:
    """One column after the other, the inverse of the rest computed anew each time: OBQ's rule."""
    columns = w.shape[1]
    hessian = x.T @ x / len(x)
    hessian += DAMPING * np.diag(hessian).mean() * np.eye(columns)
    work, result = w.astype(np.float64).copy(), np.zeros(w.shape, np.int64)
    for k in range(columns):
        inverse = np.linalg.inv(hessian[k:, k:])
        own = Grid(grid.levels, grid.step[:, k : k + 1])
        result[:, k : k + 1] = own.nearest(work[:, k : k + 1])
        error = (work[:, k] - own.real(result[:, k : k + 1])[:, 0]) / inverse[0, 0]
        work[:, k:] -= np.outer(error, inverse[0])
    return result


@pytest.mark.parametrize("name", ["int4", "int3-g8", "fp4-e2m1-g8", "ternary"])
@pytest.mark.parametrize("columns", [8, 150])
def test_gptq_is_the_textbooks(name: str, columns: int) -> None:
    """150 columns cross the border of a block."""
    rng = np.random.default_rng(8)
    rows = rng.standard_normal((4, columns)).astype(np.float32)
    x = correlated(400, columns, 9)
    fmt = Format.parse(name)
    grid = grid_of(nearest(rows, fmt, Method()), fmt)
    objective = Objective.symmetric(rows, x)
    wanted = textbook_gptq(rows, x, grid)
    better = objective.error(grid.real(wanted)) < objective.error(grid.real(grid.nearest(rows)))
    assert better.any()
    found = gptq(rows, grid, objective, order="natural")
    np.testing.assert_array_equal(found[better], wanted[better])


@pytest.mark.parametrize("method", ["adaround", "gptq"])
def test_singular_inputs(method: str) -> None:
    """Constant, dead and repeated inputs, and rows of zeros, are no trouble."""
    rng = np.random.default_rng(10)
    x = np.zeros((50, 12))
    x[:, 1], x[:, 2:4], x[:, 4:] = 3.0, rng.standard_normal((50, 1)), rng.standard_normal(8)
    rows = rng.standard_normal((4, 12)).astype(np.float32)
    rows[2] = 0
    fmt = Format.parse("int4-g4")
    first = nearest(rows, fmt, Method())
    objective = Objective.symmetric(rows, x)
    found = rounded(first, rows, fmt, Method.parse(method), objective)
    assert not found.integers[2].any()
    errors = [objective.error(fmt.dequantize(c)).sum() for c in (first, found)]
    assert errors[1] < errors[0]
    # An input that is always 0 tells nothing: its weight rounds to nearest.
    if method == "gptq":
        np.testing.assert_array_equal(found.integers[:, 0], first.integers[:, 0])


def test_makes_up_for_quantised_inputs() -> None:
    """Asymmetric: what the layer reads differs from what its target was computed from."""
    rng = np.random.default_rng(11)
    rows = rng.standard_normal((8, 16)).astype(np.float32)
    x = correlated(400, 16, 12)
    seen = np.rint(x / 2) * 2
    moments = Moments()
    for part in np.array_split(np.arange(400), 3):
        moments.update(x[part][:, None], seen[part][:, None])
    objective = moments.objective(rows)
    fmt = Format.parse("int5")
    first = nearest(rows, fmt, Method())
    target = x @ rows.T

    def error(real: np.ndarray) -> np.ndarray:
        return np.square(target - seen @ real.T).mean(axis=0)

    np.testing.assert_allclose(objective.error(fmt.dequantize(first)), error(fmt.dequantize(first)))
    for method in ("adaround", "gptq"):
        found = rounded(first, rows, fmt, Method.parse(method), objective)
        assert error(fmt.dequantize(found)).sum() < 0.95 * error(fmt.dequantize(first)).sum()


def test_few_inputs_are_used_themselves() -> None:
    """With far fewer inputs than weights products run over the inputs; the result is the same."""
    rng = np.random.default_rng(13)
    rows = rng.standard_normal((3, 60)).astype(np.float32)
    objective = Objective.symmetric(rows, rng.standard_normal((10, 60)))
    assert objective.root is not None
    np.testing.assert_allclose(
        objective.root.transpose(0, 2, 1) @ objective.root, objective.gram, atol=1e-12
    )
    assert Objective.symmetric(rows, rng.standard_normal((21, 60))).root is None


def test_deterministic() -> None:
    rng = np.random.default_rng(14)
    rows = rng.standard_normal((8, 16)).astype(np.float32)
    objective = Objective.symmetric(rows, correlated(100, 16, 15))
    fmt = Format.parse("fp4-e2m1-g8")
    grid = grid_of(nearest(rows, fmt, Method()), fmt)
    np.testing.assert_array_equal(adaround(rows, grid, objective), adaround(rows, grid, objective))


@pytest.mark.parametrize("scales", ["mse", "percentile:90"])
def test_scales(scales: str) -> None:
    """A chosen scale covers less than the extremes where these are far out."""
    rng = np.random.default_rng(16)
    rows = rng.standard_normal((4, 64)).astype(np.float32)
    rows[:, 0] = 9
    fmt = Format.parse("int4")
    plain, chosen = (nearest(rows, fmt, Method.parse(m)) for m in ("rtn", scales))
    assert (chosen.scale < plain.scale).all()
    if scales == "mse":
        errors = [np.square(rows - fmt.dequantize(c)).sum() for c in (plain, chosen)]
        assert errors[1] < errors[0]


def test_a_dead_row_keeps_a_precise_bias() -> None:
    rows = np.zeros((2, 4), np.float32)
    rows[0] = [1, -1, 0.5, 0.25]
    for name in ("int8", "int4", "int4-g2", "fp4-e2m1", "binary"):
        coded = nearest(
            rows, Format.parse(name), Method(), bias=np.float32([0.3, 0.3]), x_scale=0.02
        )
        steps = 0.3 / (0.02 * float(coded.scale[1]))
        assert 2**20 < steps < 2**31, name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adaruond", "did you mean adaround"),
        ("mse+percentile", "exclude each other"),
        ("gptq:3", "takes no argument"),
        ("percentile:120", "from 50 to 100"),
        ("", "is unknown"),
    ],
)
def test_unknown_methods(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Method.parse(text)


@pytest.mark.parametrize("text", ["rtn", "mse", "percentile:99.5+gptq", "mse+adaround"])
def test_methods_round_trip(text: str) -> None:
    assert str(Method.parse(text)) == text
    assert Method.parse(Method.parse(text)) == Method.parse(text)


def test_wrong_settings() -> None:
    for wrong in ({"iterations": 0}, {"rate": 0.0}, {"warm_up": 1.0}, {"weight": -1.0}):
        with pytest.raises(UsageError):
            RoundingSettings(**wrong)  # type: ignore[arg-type]
    grid = Grid(np.array([-1, 0, 1]), np.ones((1, 2)))
    objective = Objective.symmetric(np.ones((1, 2)), np.ones((3, 2)))
    with pytest.raises(UsageError, match="damping"):
        gptq(np.ones((1, 2)), grid, objective, damping=0)
    with pytest.raises(UsageError, match="order"):
        gptq(np.ones((1, 2)), grid, objective, order="random")  # type: ignore[arg-type]


def test_impossible_inputs() -> None:
    moments = Moments()
    with pytest.raises(InvalidDataError, match="infinite or NaN"):
        moments.update(np.full((1, 1, 2), np.nan), np.ones((1, 1, 2)))
    with pytest.raises(InvalidDataError, match="too long"):
        moments.update(*[np.ones((1, 1, MAX_COLUMNS + 1))] * 2)
    with pytest.raises(InvalidDataError, match="NaN"):
        nearest(np.float32([[np.nan]]), Format.parse("int4"), Method())
