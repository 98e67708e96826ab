"""Fixed point of integer neurons: the format of a membrane and the proof that it fits int32.

A membrane u counts in units of ``current unit * 2**-fraction``, where the current unit of a neuron
is what one of its integer currents x is worth. One step is::

    decayed(u) = (decay * u + 2**14) >> 15          decay = round(beta * 2**15)
    u' = decayed(u) + (x << fraction) + bias - threshold·[u > threshold]

Whatever the inputs, x is between the sum of a neuron's negative weights and that of its positive
ones (times the largest code of an analog input). ``decayed`` is monotone, so that one step takes an
interval of membranes to an interval, exactly. An interval that holds 0, where membranes start, and
that a step maps into itself therefore holds every membrane that there can ever be. Candidates come
from closed forms, ``current / (1 - beta)`` above all; what counts is that they are checked with the
step's own integers, and then made smaller by taking further steps. Where no interval is found
(beta = 1 with currents that never turn back) membranes saturate at a stated limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import UnsupportedError
from edgekit.program.operators.spiking_neurons import DECAY_BITS, MAX_FRACTION

Int64 = NDArray[np.int64]

ONE = 1 << DECAY_BITS

LARGEST = 2**31 - 1

NEVER = LARGEST
"""Threshold of neurons that do not spike: no membrane is above it."""

STEPS_TO_LIMIT = 4096
"""Steps of the largest current that a membrane without a bound can add up, at least, before it
saturates; where this many do not fit with the largest fraction, the fraction gets smaller."""

_ROUNDS = 64
"""Steps that make a proved interval smaller: each takes it closer by the factor of the decay."""


@dataclass(frozen=True, eq=False)
class MembraneFormat:
    """How an integer population holds its membranes.

    Attributes:
        population: its name.
        fraction: bits of a membrane below the unit of its currents.
        step: what a membrane of 1 is worth, float64[n], one per neuron in the order of the
            flattened population in the Model.
        current: largest magnitude of a current with its bias, in membrane steps.
        bound: largest magnitude that a membrane or synaptic current can have, proved; None where
            there is no bound.
        limit: where membranes saturate; None where a bound is proved.
    """

    population: str
    fraction: int
    step: NDArray[np.float64]
    current: int
    bound: int | None
    limit: int | None

    @property
    def unit(self) -> tuple[float, float]:
        """Smallest and largest step among the neurons."""
        return float(self.step.min()), float(self.step.max())

    @property
    def proof(self) -> str:
        """What is proved, in a sentence."""
        if self.bound is not None:
            bits = self.bound.bit_length() + 1
            return f"|membrane| <= {self.bound}, {bits} of 32 bits, whatever the inputs"
        return f"no bound exists; membranes saturate at ±{self.limit}"


@dataclass(frozen=True, eq=False)
class Population:
    """What a format is chosen for; reals are float64. Neurons with the same numbers are one.

    Attributes:
        name: of the population.
        unit: value of an integer current of 1.
        low, high: int64, range of the integer currents.
        bias: real, added to the current.
        threshold: real; infinity for neurons that do not spike.
        beta: int64 decay of the membrane, see :data:`DECAY_BITS`.
        alpha: of the synaptic current; None for neurons without.
        reset: ``subtract``, ``zero`` or ``none``.
    """

    name: str
    unit: NDArray[np.float64]
    low: Int64
    high: Int64
    bias: NDArray[np.float64]
    threshold: NDArray[np.float64]
    beta: Int64
    alpha: Int64 | None
    reset: str


@dataclass(frozen=True, eq=False)
class Fixed:
    """A population in integers.

    Attributes:
        format: of the membranes; its steps are those of the population asked about.
        bias, threshold: int32, in steps of the membrane.
    """

    format: MembraneFormat
    bias: NDArray[np.int32]
    threshold: NDArray[np.int32]


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


def choose(population: Population) -> Fixed:
    """The format with the most bits behind the point that int32 holds.

    Args:
        population: to choose for.

    Raises:
        UnsupportedError: not even currents without a fraction fit.
    """
    for fraction in range(MAX_FRACTION, -1, -1):
        found = _proved(population, fraction)
        if found is not None:
            return found
    for least in (STEPS_TO_LIMIT, 1):
        for fraction in range(MAX_FRACTION, -1, -1):
            found = _saturating(population, fraction, least)
            if found is not None:
                return found
    raise UnsupportedError(
        f"the currents of {population.name!r}, up to "
        f"{int(np.maximum(-population.low, population.high).max())} steps of their weights, and "
        "its threshold do not fit int32: fewer inputs for a neuron, or larger weight scales"
    )


@dataclass(frozen=True, eq=False)
class _At:
    """A population with some number of bits behind the point.

    Attributes:
        fraction: the bits.
        drive: currents with their bias.
        spread: largest magnitude of current and bias apart, added.
        bias, threshold: int64.
    """

    fraction: int
    drive: Interval
    spread: Int64
    bias: Int64
    threshold: Int64

    def fixed(self, population: Population, bound: int | None, limit: int | None) -> Fixed:
        step = population.unit * 2.0**-self.fraction
        return Fixed(
            MembraneFormat(
                population.name,
                self.fraction,
                step,
                int(self.drive.magnitude.max()),
                bound,
                limit,
            ),
            self.bias.astype(np.int32),
            self.threshold.astype(np.int32),
        )


def _at(population: Population, fraction: int) -> _At | None:
    """Integers of a population; None where constants or currents alone exceed int32."""
    step = population.unit * 2.0**-fraction
    bias = np.rint(population.bias / step)
    threshold = np.rint(population.threshold / step)
    if np.abs(bias).max() > LARGEST or (threshold < -LARGEST).any():
        return None
    whole = bias.astype(np.int64)
    # A threshold that int32 does not hold is never crossed by a membrane that int32 holds.
    crossed = np.where(threshold < LARGEST, threshold, NEVER).astype(np.int64)
    low, high = population.low << fraction, population.high << fraction
    spread = np.maximum(np.abs(low), np.abs(high)) + np.abs(whole)
    if spread.max() > LARGEST:
        return None
    return _At(fraction, Interval(low + whole, high + whole), spread, whole, crossed)


def _proved(population: Population, fraction: int) -> Fixed | None:
    """The population with a proof that no sum of a step exceeds int32, None without."""
    at = _at(population, fraction)
    if at is None:
        return None
    never = np.full_like(at.threshold, NEVER)
    drive, spread, reset = at.drive, at.spread, population.reset
    bound = 0
    if population.alpha is not None:
        drive, proved = Dynamics(population.alpha, at.drive, never, "none").bounds()
        if not proved.all() or (drive.magnitude + spread).max() > LARGEST:
            return None
        bound, spread = int(drive.magnitude.max()), drive.magnitude
        reset = "clear" if reset == "zero" else reset
    held, proved = Dynamics(population.beta, drive, at.threshold, reset).bounds()
    if not proved.all():
        return None
    # Threshold and reset only where a neuron can fire and reads the threshold as a number.
    fires = (held.high > at.threshold) & (reset == "subtract")
    total = held.magnitude + spread + np.where(fires, np.abs(at.threshold), 0)
    if total.max() > LARGEST:
        return None
    return at.fixed(population, max(bound, int(held.magnitude.max())), None)


def _saturating(population: Population, fraction: int, least: int) -> Fixed | None:
    """The population with a limit, None where fewer than `least` steps reach it."""
    at = _at(population, fraction)
    if at is None:
        return None
    subtracts = population.reset == "subtract"
    crossed = np.where(at.threshold == NEVER, 0, np.abs(at.threshold))
    room = LARGEST - int((at.spread + (crossed if subtracts else 0)).max())
    # A membrane adds a synaptic current that is as large as the limit.
    limit = room if population.alpha is None else room // 2
    if limit < max(least * int(at.drive.magnitude.max()), 2 * int(crossed.max()), 1):
        return None
    return at.fixed(population, None, limit)
