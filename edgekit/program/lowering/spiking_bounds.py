"""Where the values of a decaying quantity can lie, proved with the integers of its own steps.

``decayed(u) = (decay * u + 2**14) >> 15`` is monotone, so that one step takes an interval of values
to an interval, exactly. An interval that holds 0, where membranes start, and that a step maps into
itself therefore holds every value that there can ever be. Candidates come from closed forms,
``current / (1 - beta)`` above all; what counts is that they are checked with the step's own
integers, and then made smaller by taking further steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.program.operators.spiking_neurons import DECAY_BITS

Int64 = NDArray[np.int64]

ONE = 1 << DECAY_BITS
"""The decay that keeps everything."""

LARGEST = 2**31 - 1

NEVER = LARGEST
"""Threshold of neurons that do not spike: no membrane is above it."""

_ROUNDS = 64
"""Steps that make a proved interval smaller: each takes it closer by the factor of the decay."""


@dataclass(frozen=True, eq=False)
class Interval:
    """Integers from `low` to `high`, one interval per neuron."""

    low: Int64
    high: Int64

    def holds(self, other: Interval) -> NDArray[np.bool_]:
        """Per neuron, whether another interval is inside."""
        return (self.low <= other.low) & (other.high <= self.high)

    def where(self, condition: NDArray[np.bool_], other: Interval) -> Interval:
        """This interval where a condition holds, else another."""
        return Interval(
            np.where(condition, self.low, other.low), np.where(condition, self.high, other.high)
        )

    @property
    def magnitude(self) -> Int64:
        """Largest absolute value per neuron."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


@dataclass(frozen=True, eq=False)
class Dynamics:
    """One decaying quantity in integers.

    Attributes:
        decay: int64 of 2**-15.
        drive: what is added in a step, bias included.
        threshold: int64.
        reset: ``subtract``; ``zero``, which clears the old membrane; ``clear``, which clears the
            new one; ``none``.
    """

    decay: Int64
    drive: Interval
    threshold: Int64
    reset: str

    def step(self, held: Interval) -> Interval:
        """Everything that one step makes of an interval, and 0."""
        below = self._moved(held.low, np.minimum(held.high, self.threshold))
        above = self._moved(np.maximum(held.low, self.threshold + 1), held.high)
        if self.reset == "subtract":
            above = Interval(above.low - self.threshold, above.high - self.threshold)
        elif self.reset == "zero":
            above = self.drive
        elif self.reset == "clear":
            above = Interval(np.zeros_like(above.low), np.zeros_like(above.high))
        nothing = Interval(np.zeros_like(held.low), np.zeros_like(held.high))
        result = nothing
        for part, there in (
            (below, held.low <= self.threshold),
            (above, held.high > self.threshold),
        ):
            joined = Interval(np.minimum(result.low, part.low), np.maximum(result.high, part.high))
            result = joined.where(there, result)
        return result

    def _moved(self, low: Int64, high: Int64) -> Interval:
        return Interval(
            decayed(self.decay, low) + self.drive.low, decayed(self.decay, high) + self.drive.high
        )

    def bounds(self) -> tuple[Interval, NDArray[np.bool_]]:
        """An interval that holds every value there can be, and for which neurons it is proved."""
        zero = np.zeros_like(self.decay)
        found, proved = Interval(zero, zero), np.zeros(self.decay.shape, bool)
        for candidate in self._candidates():
            holds = candidate.holds(self.step(candidate)) & ~proved
            found, proved = candidate.where(holds, found), proved | holds
        for _ in range(_ROUNDS):
            found = self.step(found).where(proved, found)
        return found, proved

    def _candidates(self) -> list[Interval]:
        """Intervals to check: a reset keeps membranes near the threshold, or decay alone does."""
        up, down = np.maximum(self.drive.high, 0), np.maximum(-self.drive.low, 0)
        reach = np.where(self.threshold == NEVER, 0, np.abs(self.threshold))
        # A quarter of the room of int64 behind a product with a decay: nothing overflows.
        left = np.maximum(ONE - self.decay, 0)
        stays = left > 0
        huge = np.full_like(up, 2**44)
        with np.errstate(divide="ignore"):
            grown = [
                np.where(stays, np.minimum(-(-ONE * (n + 1) // np.maximum(left, 1)), huge), huge)
                for n in (up, down)
            ]
        near_up, far_up = reach + up + 1, grown[0] + reach
        near_down, far_down = reach + down + 1, grown[1] + reach
        return [
            Interval(-lower, upper)
            for upper in (np.minimum(near_up, far_up), far_up)
            for lower in (np.minimum(near_down, far_down), far_down)
        ]


def decayed(decay: Int64, value: Int64) -> Int64:
    """``decay * value`` of 2**-15, to nearest, halves up: what the kernels do."""
    return (decay * value + (1 << (DECAY_BITS - 1))) >> DECAY_BITS


def decay_codes(decays: NDArray[np.float32]) -> Int64:
    """Decays of 0…1 in units of 2**-15: 0 to 32768.

    >>> decay_codes(np.float32([0, 0.5, 1])).tolist()
    [0, 16384, 32768]
    """
    return np.rint(decays.astype(np.float64) * ONE).astype(np.int64)
