"""Weights of one layer: from rows and a format to integers, by a method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.errors import InvalidDataError
from edgekit.formats import RULES, Coded, Format
from edgekit.formats.group_scales import GROUP_SCALES
from edgekit.formats.groups import spread
from edgekit.model.nodes import Array
from edgekit.quantize.constants import BIAS_LIMIT, DEAD_ROW_BIAS
from edgekit.quantize.posttraining.adaround import Progress, RoundingSettings, adaround
from edgekit.quantize.posttraining.gptq import gptq
from edgekit.quantize.posttraining.grid import Grid
from edgekit.quantize.posttraining.method import Method
from edgekit.quantize.posttraining.objective import Objective


def nearest(
    rows: Array,
    fmt: Format,
    method: Method,
    *,
    bias: Array | None = None,
    x_scale: float | None = None,
) -> Coded:
    """Weights with the scales that the method chooses, every one rounded to nearest.

    Args:
        rows: float32 [R, K].
        fmt: the format.
        method: its scales count here. They choose between steps where the format leaves a choice:
            by ``absmax``, of its own kind of scale. Others keep their rule.
        bias: float32 [R] that the layer adds, or None.
        x_scale: of the input, which with the weights' gives the step of an integer bias; None for
            a bias that stays real. Scales are raised where the bias would not fit otherwise.

    Raises:
        InvalidDataError: weights that are not finite.
    """
    if not np.isfinite(rows).all():
        raise InvalidDataError("its weights hold NaN or infinity")
    chosen = fmt
    rules = GROUP_SCALES[fmt.factors].rules if fmt.granularity == "group" else tuple(RULES)
    searchable = fmt.rule == "absmax" and "mse" in rules
    if method.scales == "mse" and searchable:
        chosen = replace(fmt, rule="mse")
    source = rows
    if method.scales == "percentile" and searchable:
        limit = np.percentile(np.abs(rows), method.percentile, axis=1, keepdims=True)
        source = np.clip(rows, -limit, limit).astype(np.float32)
    coded = chosen.quantize(source)
    if bias is None or x_scale is None:
        return coded
    return _with_room(coded, source, chosen, np.abs(bias.astype(np.float64)) / x_scale)


def _with_room(coded: Coded, rows: Array, fmt: Format, offset: Array) -> Coded:
    """Scales under which biases are int32 and precise.

    Args:
        coded: what the format chose.
        rows: of which it was made.
        fmt: the format.
        offset: magnitude of every row's bias over the scale of the input, float64 [R].
    """
    per_row = coded.scale.shape == offset.shape
    dead = ~coded.integers.any(axis=1)
    if coded.factors is not None:
        dead |= ~coded.factors.any(axis=1)
    steps = coded.scale.astype(np.float64)
    if per_row:
        steps = np.where(dead & (offset > 0), offset / DEAD_ROW_BIAS, steps)
        steps = np.maximum(steps, offset / BIAS_LIMIT)
    else:
        steps = np.maximum(steps, offset.max(initial=0) / BIAS_LIMIT)
    scale = steps.astype(np.float32)
    if np.array_equal(scale, coded.scale):
        return coded
    return fmt.quantize(rows, scale=scale, factors=coded.factors)


def step_sizes(coded: Coded, fmt: Format) -> Array:
    """What the integer 1 means for every weight, float64, [R, K] or broadcast to it."""
    scale = coded.scale.astype(np.float64).reshape(-1, 1)
    if coded.factors is None:
        return scale
    columns = coded.integers.shape[1]
    return spread(coded.factors, group=fmt.group, columns=columns) * scale


def grid_of(coded: Coded, fmt: Format) -> Grid:
    """The grid of a layer whose scales are decided."""
    levels = np.array(fmt.element.levels, np.int64)
    step = np.broadcast_to(step_sizes(coded, fmt), coded.integers.shape)
    return Grid(levels[levels >= fmt.element.minimum], step)


def rounded(
    coded: Coded,
    rows: Array,
    fmt: Format,
    method: Method,
    objective: Objective,
    *,
    settings: RoundingSettings | None = None,
    progress: Progress | None = None,
) -> Coded:
    """The same scales with integers that are chosen for the layer's output.

    Rows that come out worse than nearest rounding keep that.
    """
    if method.rounding == "rtn":
        return coded
    grid = grid_of(coded, fmt)
    if method.rounding == "adaround":
        integers = adaround(rows, grid, objective, settings=settings, progress=progress)
    else:
        integers = gptq(rows, grid, objective)
    before = objective.error(grid.real(coded.integers))
    worse = objective.error(grid.real(integers)) > before
    chosen = np.where(worse[:, None], coded.integers, integers)
    return Coded(chosen.astype(coded.integers.dtype), coded.scale, coded.factors)
