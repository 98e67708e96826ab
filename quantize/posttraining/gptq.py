"""GPTQ: round column after column, and let the columns that follow make up for the error.

Source: Frantar et al. 2022, "GPTQ", arXiv 2210.17323.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import UsageError
from edgekit.model.nodes import Array
from edgekit.quantize.posttraining.grid import Grid
from edgekit.quantize.posttraining.objective import Float64, Objective

Order = Literal["activation", "natural"]

DAMPING = 0.01
"""Share of the mean of H's diagonal that is added to it."""

BLOCK = 128
"""Columns whose error goes to the columns behind the block in one matrix product."""


def gptq(
    weights: Array,
    grid: Grid,
    objective: Objective,
    *,
    damping: float = DAMPING,
    order: Order = "activation",
) -> NDArray[np.int64]:
    """Round weights by GPTQ to a grid whose scales, per group too, are decided already.

    With U the upper Cholesky factor of H⁻¹, columns k in order: q = nearest level of w[:, k]; then
    every later column j gives way by ``(w[:, k] − q)/U[k, k] · U[k, j]``. Where the inputs of the
    quantised layer differ from the float layer's, the weights start from the least squares
    solution for them. An input that is always zero rounds to nearest.

    Args:
        weights: [R, K].
        grid: of the same shape.
        objective: gives H and the target.
        damping: share of the mean of H's diagonal that is added to it, positive.
        order: ``activation``: columns with the largest diagonal first; ``natural``: as they lie.

    Returns:
        Levels, int64 [R, K].

    Raises:
        UsageError: the damping is not positive, or an unknown order.
    """
    if not damping > 0:
        raise UsageError(f"GPTQ's damping is {damping}, must be positive")
    if order not in ("activation", "natural"):
        raise UsageError(f"GPTQ's order is {order!r}, must be 'activation' or 'natural'")
    groups = objective.mean.shape[0]
    per_group = weights.shape[0] // groups
    integers = np.empty(weights.shape, np.int64)
    for group in range(groups):
        rows = slice(group * per_group, (group + 1) * per_group)
        own = Grid(grid.levels, grid.step[rows])
        linear = objective.linear[rows]
        integers[rows] = _rounded(
            weights[rows].astype(np.float64), own, objective.gram[group], linear, damping, order
        )
    nearest = grid.nearest(weights)
    worse = objective.error(grid.real(integers)) >= objective.error(grid.real(nearest))
    return np.where(worse[:, None], nearest, integers)


def _rounded(
    weights: Float64, grid: Grid, gram: Float64, linear: Float64, damping: float, order: Order
) -> NDArray[np.int64]:
    """The rows of one group."""
    diagonal = np.diagonal(gram)
    dead = diagonal <= 0
    mean = float(diagonal.mean())
    damped = gram + np.eye(gram.shape[0]) * (damping * mean if mean > 0 else 1.0)
    damped[dead, dead] = max(mean, 1.0)
    # Towards what the float layer computes: where both inputs are the same, this adds nothing.
    shift = np.linalg.solve(damped, (linear - weights @ gram).T).T
    work = weights + shift
    columns = np.arange(gram.shape[0])
    if order == "activation":
        columns = np.argsort(-diagonal, kind="stable")
    inverse = np.linalg.inv(damped[np.ix_(columns, columns)])
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    work, ordered = work[:, columns], Grid(grid.levels, grid.step[:, columns])
    integers = np.empty(work.shape, np.int64)
    for start in range(0, columns.size, BLOCK):
        end = min(start + BLOCK, columns.size)
        errors = np.zeros((work.shape[0], end - start))
        for k in range(start, end):
            column = Grid(grid.levels, ordered.step[:, k : k + 1])
            chosen = column.nearest(work[:, k : k + 1])
            integers[:, k] = chosen[:, 0]
            error = (work[:, k] - column.real(chosen)[:, 0]) / upper[k, k]
            work[:, k:end] -= error[:, None] * upper[k, k:end]
            errors[:, k - start] = error
        work[:, end:] -= errors @ upper[start:end, end:]
    result = np.empty_like(integers)
    result[:, columns] = integers
    return result
