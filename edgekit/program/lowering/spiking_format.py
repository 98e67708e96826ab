"""Fixed point of integer neurons: the format of a membrane and the proof that it fits int32.

A membrane u counts in units of ``current unit * 2**-fraction``, where the current unit of a neuron
is what one of its integer currents x is worth. One step is::

    decayed(u) = (decay * u + 2**14) >> 15          decay = round(beta * 2**15)
    u' = decayed(u) + (x << fraction) + bias - threshold·[u > threshold]

Whatever the inputs, x is between the sum of a neuron's negative weights and that of its positive
ones (times the largest code of an analog input); where it holds membranes of other neurons, between
the proved bounds of those. :mod:`~edgekit.program.lowering.spiking_bounds` says which membranes can
then be. Where no interval is found (beta = 1 with currents that never turn back) they saturate at a
stated limit.

Currents that hold membranes come in finer steps than those of weights, and can be too large for
neurons that add them up. They are rounded first, ``x = (x + 2**(shift-1)) >> shift``, by the
smallest `shift` that leaves room.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import UnsupportedError
from edgekit.program.lowering.spiking_bounds import (
    LARGEST,
    NEVER,
    Dynamics,
    Int64,
    Interval,
)
from edgekit.program.operators.spiking_neurons import MAX_FRACTION
from edgekit.program.operators.spiking_rescale import rescaled

STEPS_TO_LIMIT = 4096
"""Steps of the largest current that a membrane without a bound can add up, at least, before it
saturates; where this many do not fit with the largest fraction, the fraction gets smaller."""

MAX_SHIFT = 30
"""Most bits that a current is rounded by."""

_ONCE = np.ones(1, np.int64)


@dataclass(frozen=True, eq=False)
class Held:
    """Integer membranes as numbers that others may read, in the order of the flattened value.

    Attributes:
        population: whose they are.
        step: what 1 is worth, float64[n].
        span: smallest and largest integers, per neuron.
        limited: whether they saturate at the ends of the span, rather than never reach them.
    """

    population: str
    step: NDArray[np.float64]
    span: Interval
    limited: bool


@dataclass(frozen=True, eq=False)
class MembraneRead:
    """A membrane that others read as a number, in integers.

    Attributes:
        source: whose membrane it is.
        dtype: ``int32`` where it is added to a current, ``int16`` where weights multiply it.
        step: what 1 is worth, float64[n]: one per element of the membrane, flattened, or one per
            neuron that adds it.
        bound: largest magnitude of its integers, proved.
        limited: whether the bound is where the source saturates.
    """

    source: str
    dtype: str
    step: NDArray[np.float64]
    bound: int
    limited: bool

    @property
    def proof(self) -> str:
        """What is proved, in a sentence."""
        why = "as its membranes saturate" if self.limited else "whatever the inputs"
        return (
            f"reads the membrane of {self.source!r} in {self.dtype}, |code| <= {self.bound}, {why}"
        )


@dataclass(frozen=True, eq=False)
class MembraneFormat:
    """How an integer population holds its membranes.

    Attributes:
        population: its name.
        fraction: bits of a membrane below the unit of its currents, as rounded by `shift`.
        step: what a membrane of 1 is worth, float64[n], one per neuron in the order of the
            flattened population in the Model.
        current: largest magnitude of a current with its bias, in membrane steps.
        bound: largest magnitude that a membrane or synaptic current can have, proved; None where
            there is no bound.
        limit: where membranes saturate; None where a bound is proved.
        shift: bits that are rounded off the sum of its currents before the membrane adds it.
        reads: membranes of others that its currents hold.
        unbounded: neurons that have no bound, not even one that int32 does not hold.
        steps: after a reset in which nothing saturates; None with a bound, and where it is unknown.
    """

    population: str
    fraction: int
    step: NDArray[np.float64]
    current: int
    bound: int | None
    limit: int | None
    shift: int = 0
    reads: tuple[MembraneRead, ...] = ()
    unbounded: int = 0
    steps: int | None = None

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
        why = "currents decay so slowly that int32 does not hold what they can add up to"
        if self.unbounded:
            some = f"{self.unbounded} of {self.step.size} neurons"
            why = f"no bound exists, as {some} add up currents without decay (beta or alpha is 1)"
        what = "where they differ from the network in real numbers"
        if self.steps is not None:
            what = f"not before step {self.steps + 1} after a reset: shorter windows lose nothing"
        return f"{why}; membranes saturate at ±{self.limit}, {what}"


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

    def rounded(self, shift: int) -> Population:
        """The same with currents that have lost some bits."""
        return replace(
            self,
            unit=self.unit * 2.0**shift,
            low=rescaled(self.low, _ONCE, shift),
            high=rescaled(self.high, _ONCE, shift),
        )


@dataclass(frozen=True, eq=False)
class Fixed:
    """A population in integers.

    Attributes:
        format: of the membranes; its steps are those of the population asked about.
        bias, threshold: int32, in steps of the membrane.
        held: where the membranes can be: the proved interval, or up to the limit.
        unbounded: which have no bound, bool.
    """

    format: MembraneFormat
    bias: NDArray[np.int32]
    threshold: NDArray[np.int32]
    held: Interval
    unbounded: NDArray[np.bool_]


def choose(population: Population, *, rounds: bool = False) -> Fixed:
    """The format with the most bits behind the point that int32 holds.

    Args:
        population: to choose for.
        rounds: whether its currents may be rounded, being finer than those of weights.

    Raises:
        UnsupportedError: not even currents without a fraction fit.
    """
    scales = [(0, fraction) for fraction in range(MAX_FRACTION, -1, -1)]
    scales += [(shift, 0) for shift in range(1, MAX_SHIFT + 1 if rounds else 1)]
    for shift, fraction in scales:
        found = _proved(population.rounded(shift), fraction)
        if found is not None:
            return _shifted(found, shift)
    for least in (STEPS_TO_LIMIT, 1):
        for shift, fraction in scales:
            found = _saturating(population.rounded(shift), fraction, least)
            if found is not None:
                return _shifted(found, shift)
    raise UnsupportedError(
        f"the currents of {population.name!r}, up to "
        f"{int(np.maximum(-population.low, population.high).max())} steps of their weights, and "
        "its threshold do not fit int32: fewer inputs for a neuron, or larger weight scales"
    )


def _shifted(fixed: Fixed, shift: int) -> Fixed:
    return replace(fixed, format=replace(fixed.format, shift=shift))


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

    def fixed(self, population: Population, bound: int, held: Interval) -> Fixed:
        """With a proved bound."""
        return self._fixed(population, bound, None, held)

    def limited(self, population: Population, limit: int) -> Fixed:
        """With a limit in place of a bound."""
        ends = np.full_like(self.threshold, limit)
        fixed = self._fixed(population, None, limit, Interval(-ends, ends))
        fixed = replace(fixed, unbounded=_unbounded(population, self))
        # Synaptic currents add up themselves, and below 0 a threshold that is taken off adds.
        if population.alpha is not None or (self.threshold < 0).any():
            return fixed
        steps = limit // max(fixed.format.current, 1)
        return replace(fixed, format=replace(fixed.format, steps=steps))

    def _fixed(
        self, population: Population, bound: int | None, limit: int | None, held: Interval
    ) -> Fixed:
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
            held,
            np.zeros(self.bias.shape, np.bool_),
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
    return at.fixed(population, max(bound, int(held.magnitude.max())), held)


def _unbounded(population: Population, at: _At) -> NDArray[np.bool_]:
    """Which neurons no interval holds, of whatever size; see :func:`_proved`."""
    drive, reset = at.drive, population.reset
    if population.alpha is not None:
        never = np.full_like(at.threshold, NEVER)
        drive, proved = Dynamics(population.alpha, at.drive, never, "none").bounds()
        if not proved.all():
            return ~proved
        reset = "clear" if reset == "zero" else reset
    return ~Dynamics(population.beta, drive, at.threshold, reset).bounds()[1]


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
    return at.limited(population, limit)
