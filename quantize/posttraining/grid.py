"""The grid that a row's weights are rounded to, with its scales decided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.model.nodes import Array

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """Levels times steps.

    Attributes:
        levels: distinct integers in ascending order.
        step: float64 [R, K], positive: what the integer 1 means for a weight; 0 where a whole
            group is zero.
    """

    levels: NDArray[np.int64]
    step: Float64

    def positions(self, weights: Array) -> Float64:
        """Weights in units of the step; 0 where the step is 0."""
        safe = np.where(self.step > 0, self.step, 1.0)
        return np.asarray(np.where(self.step > 0, weights.astype(np.float64) / safe, 0.0))

    def neighbours(self, weights: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The levels below and above every weight; equal where it saturates or meets the last.

        >>> grid = Grid(np.array([-2, -1, 0, 1, 2, 4]), np.ones((1, 4)))
        >>> [side.tolist() for side in grid.neighbours(np.array([[-1.5, 1.0, 3.9, 9.0]]))]
        [[[-2, 1, 2, 4]], [[-1, 2, 4, 4]]]
        """
        last = self.levels.size - 1
        index = np.searchsorted(self.levels, self.positions(weights), side="right") - 1
        # Below the smallest level nothing is left to choose either.
        low = np.clip(index, 0, last)
        high = np.where(index < 0, 0, np.minimum(low + 1, last))
        return self.levels[low], self.levels[high]

    def nearest(self, weights: Array) -> NDArray[np.int64]:
        """Nearest levels, saturated; of two that are equally near, the lower."""
        below, above = self.neighbours(weights)
        position = self.positions(weights)
        return np.where(position - below <= above - position, below, above)

    def real(self, integers: Array) -> Float64:
        """What integers mean."""
        return np.asarray(integers * self.step)
