"""AdaRound: learn for every weight whether it rounds down or up.

Sources: Nagel et al. 2020, "Up or Down?", arXiv 2004.10568; the scale-aware form for grids whose
steps grow with the magnitude: "FP4DiT", 2025, arXiv 2503.15465.

This is layer-wise: every layer for itself, in execution order, NumPy only. Blocks of layers are
reconstructed together, through their activations, by
:mod:`edgekit.quantize.training.reconstruct`, which needs torch.

The objective differs from the papers' in this:

1. The error is that of the layer's sums, in front of its activation function; Nagel et al. apply
   the function to both sides, FP4DiT takes a block's outputs. So it is quadratic, and given by the
   inputs' second moments.
2. It is over all calibration samples in every step, where the papers draw batches.
3. The regulariser counts every weight by the error that it adds when rounded at random, where the
   papers have one constant.
4. After learning single weights change sides while that lowers the error; the papers round only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import UsageError
from edgekit.model.nodes import Array
from edgekit.quantize.posttraining.grid import Grid
from edgekit.quantize.posttraining.objective import Float64, Objective

GAMMA, ZETA = -0.1, 1.1
"""How far the sigmoid is stretched beyond 0 and 1, so that both can be reached."""

_ADAM = 0.9, 0.999, 1e-12

_SIDES = 4
"""Times that a weight changes sides at most, on average; each lowers the error."""

Integers = NDArray[np.int64]

Progress = Callable[[int, int], None]
"""Called with steps done and steps in all."""


@dataclass(frozen=True, kw_only=True)
class RoundingSettings:
    """How rounding is learned.

    Attributes:
        iterations: steps of Adam.
        rate: Adam's learning rate, in typical steps of the grid.
        weight: of the regulariser that drives every h to 0 or 1. Both terms count in the error
            that the weight adds when it is rounded at random, so that the same number serves all
            layers.
        warm_up: share of the iterations without regulariser.
        first, last: its exponent, annealed linearly from one to the other.
        scale_aware: whether a weight's variable is divided by its own step (FP4DiT) or by its
            row's typical one; the same for uniform grids.
        finish: whether single weights change sides at the end while that lowers the error.
    """

    iterations: int = 1000
    rate: float = 0.02
    weight: float = 2.0
    warm_up: float = 0.2
    first: float = 20.0
    last: float = 2.0
    scale_aware: bool = True
    finish: bool = True

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise UsageError(f"AdaRound's iterations are {self.iterations}, must be at least 1")
        if not (self.rate > 0 and self.weight >= 0 and 0 <= self.warm_up < 1):
            raise UsageError(
                "AdaRound's rate must be positive, its weight not negative and its warm-up a "
                f"share below 1; they are {self.rate}, {self.weight}, {self.warm_up}"
            )


def adaround(
    weights: Array,
    grid: Grid,
    objective: Objective,
    *,
    settings: RoundingSettings | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Round weights to the levels next to them so that the layer's error is small.

    With s the distance between the level below a weight, f, and the one above, r = (w − f)/s, and
    h = clip(σ(V/s)·(ζ − γ) + γ, 0, 1), Adam minimises::

        error(f + h·s) + weight · Σ e·(1 − |2h − 1|^b)

    over V, from V = −s·ln((ζ − γ)/(r − γ) − 1), where f + h·s = w; then h = 1[V ≥ 0]. Here e is the
    error that the weight adds when it is rounded at random, s²·H_kk/12, where the papers have a
    constant that must be chosen anew for every network. Dividing by s makes the gradient with
    respect to V independent of s, which on a minifloat's grid differs from weight to weight.

    In the end single weights change sides, in every row the one that gains
    most, until none gains: the result is a local optimum, which the papers' last step is not.

    Rows are independent and all are optimised at once. A row that ends worse than nearest rounding
    is rounded to nearest: the result is never worse. Nothing is drawn: the same input gives the
    same result, up to the last bits of BLAS's matrix products.

    Args:
        weights: [R, K].
        grid: of the same shape.
        objective: what is minimised.
        settings: None for the defaults.
        progress: told of steps.

    Returns:
        Levels, int64 [R, K].
    """
    settings = settings or RoundingSettings()
    below, above = grid.neighbours(weights)
    nearest = grid.nearest(weights)
    low, distance = grid.real(below), grid.real(above - below)
    free = distance > 0
    if not free.any():
        return nearest
    ratio = np.where(free, (weights - low) / np.where(free, distance, 1.0), 0.0)
    typical = _typical(distance, free)
    unit = np.where(free, distance, 1.0) if settings.scale_aware else typical
    start = -unit * np.log((ZETA - GAMMA) / (np.clip(ratio, 0.0, 1.0) - GAMMA) - 1)
    # The error that a weight adds when it is rounded at random: s²·H_kk/12.
    random = np.square(distance) * objective.diagonal / 12
    mean = random.sum(axis=1, keepdims=True) / np.maximum(free.sum(axis=1, keepdims=True), 1)
    share = np.where(mean > 0, 1 / np.where(mean > 0, mean, 1.0), 0.0)
    worth = random * share
    v = _optimised(
        start.astype(np.float32),
        _Layer(
            low=low.astype(np.float32),
            distance=distance.astype(np.float32),
            unit=unit.astype(np.float32),
            rate=(settings.rate * typical).astype(np.float32),
            gram=objective.gram.astype(np.float32),
            root=None if objective.root is None else objective.root.astype(np.float32),
            linear=objective.linear.astype(np.float32),
            share=share.astype(np.float32),
            worth=worth.astype(np.float32),
        ),
        settings,
        progress,
    )
    learned = np.where(free & (v >= 0), above, below)
    if settings.finish:
        learned = _settled(learned, below, above, grid, objective)
    worse = objective.error(grid.real(learned)) >= objective.error(grid.real(nearest))
    return np.where(worse[:, None], nearest, learned)


def _settled(
    integers: Integers, below: Integers, above: Integers, grid: Grid, objective: Objective
) -> Integers:
    """Let in every row the weight change sides that gains most, until none gains."""
    groups, columns = objective.mean.shape
    group = np.repeat(np.arange(groups), integers.shape[0] // groups)
    residual, diagonal = objective.residual(grid.real(integers)), objective.diagonal
    change = np.where(integers == below, grid.real(above - below), grid.real(below - above))
    floor = 1e-12 * objective.error(grid.real(integers))
    rows = np.arange(integers.shape[0])
    up = integers == above
    for _ in range(_SIDES * columns):
        gain = change[rows] * (2 * residual[rows] + change[rows] * diagonal[rows])
        best = gain.argmin(axis=1)
        better = gain[np.arange(rows.size), best] < -floor[rows]
        rows, best = rows[better], best[better]
        if not rows.size:
            break
        residual[rows] += change[rows, best][:, None] * objective.gram[group[rows], best]
        change[rows, best] *= -1
        up[rows, best] ^= True
    return np.where(up, above, below)


def _typical(distance: Float64, free: NDArray[np.bool_]) -> Float64:
    """The mean step of every row, [R, 1]; 1 for a row without any."""
    counts = free.sum(axis=1, keepdims=True)
    mean = distance.sum(axis=1, keepdims=True) / np.maximum(counts, 1)
    return np.asarray(np.where(counts > 0, mean, 1.0))


@dataclass(frozen=True, eq=False)
class _Layer:
    """What the optimiser works on, float32, [R, K] or broadcast to it."""

    low: Array
    distance: Array
    unit: Array
    rate: Array
    gram: Array
    root: Array | None
    linear: Array
    share: Array
    worth: Array


def _optimised(
    v: Array, layer: _Layer, settings: RoundingSettings, progress: Progress | None
) -> Array:
    """V after all steps of Adam; gradients by hand, float32."""
    groups, columns, _ = layer.gram.shape
    first, second = np.zeros_like(v), np.zeros_like(v)
    keep_first, keep_second, epsilon = _ADAM
    begin = int(settings.warm_up * settings.iterations)
    scale = layer.distance * layer.share * 2
    inverse = 1 / layer.unit
    for step in range(settings.iterations):
        sigmoid = 1 / (1 + np.exp(-np.clip(v * inverse, -30, 30)))
        stretched = sigmoid * (ZETA - GAMMA) + GAMMA
        h = np.clip(stretched, 0, 1)
        rows = layer.low + h * layer.distance
        grouped = rows.reshape(groups, -1, columns)
        if layer.root is None:
            product = (grouped @ layer.gram).reshape(rows.shape)
        else:
            sums = grouped @ layer.root.transpose(0, 2, 1)
            product = (sums @ layer.root).reshape(rows.shape)
        # d error / dh, then through the regulariser, the clip, the sigmoid and the division.
        gradient = (product - layer.linear) * scale
        if step >= begin:
            done = (step - begin) / max(1, settings.iterations - begin)
            exponent = settings.last + (settings.first - settings.last) * (1 - done)
            centred = 2 * h - 1
            gradient -= (
                (2 * settings.weight * exponent)
                * layer.worth
                * (np.sign(centred) * np.abs(centred) ** (exponent - 1))
            )
        inside = (stretched > 0) & (stretched < 1) & (layer.distance > 0)
        gradient *= inside * sigmoid * (1 - sigmoid) * ((ZETA - GAMMA) * inverse)
        # In units of the learning rate's, so that epsilon means the same everywhere.
        gradient *= layer.rate
        first += (1 - keep_first) * (gradient - first)
        second += (1 - keep_second) * (np.square(gradient) - second)
        mean = first / (1 - keep_first ** (step + 1))
        spread = np.sqrt(second / (1 - keep_second ** (step + 1)))
        v = v - layer.rate * mean / (spread + epsilon)
        if progress is not None:
            progress(step + 1, settings.iterations)
    return v
