"""What a report says of a spiking network, beside what it says of every network.

An inference of such a network is a window: a reset, then a step for each of its samples. What a
step costs depends on which neurons fire, so that every figure here is of real windows.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

from edgekit.bench.energy import Energy
from edgekit.bench.fields import Count, Fraction, Quantity
from edgekit.bench.memory import Memory
from edgekit.bench.protocol import Latency, Provenance

ResetMode = Literal["subtract", "zero", "none"]
Schedule = Literal["event", "dense"]
NeuronKind = Literal["leaky", "synaptic"]


@dataclass(frozen=True)
class Membrane:
    """How the membranes of a population are kept.

    An integer membrane of neuron o counts in units of its weights' scale, divided by two to the
    power of `fraction`.

    Attributes:
        dtype: ``int32`` or ``float32``.
        fraction: binary digits behind the point; null for float32.
        bound: largest magnitude that the constants allow, proven before deployment, in units; null
            where there is no proof, and for float32.
        limit: magnitude that the kernel clips to, in units; null where the bound makes it needless.
        unit_low: smallest real value of one unit over the neurons; null for float32.
        unit_high: largest one.

    Raises:
        ValueError: an integer without fraction and unit, or one that is neither bounded nor
            clipped, or a bound that int32 does not hold.
    """

    dtype: Literal["int32", "float32"]
    fraction: Count | None = None
    bound: Count | None = None
    limit: Count | None = None
    unit_low: Quantity | None = None
    unit_high: Quantity | None = None

    def __post_init__(self) -> None:
        if self.dtype == "float32":
            return
        if None in (self.fraction, self.unit_low, self.unit_high):
            raise ValueError("an integer membrane has a fraction and a unit")
        held = [value for value in (self.bound, self.limit) if value is not None]
        if not held or min(held) >= 1 << 31:
            raise ValueError("an integer membrane is bounded or clipped below 2^31")

    @property
    def words(self) -> str:
        """The format and its range.

        >>> Membrane("int32", 9, 1000, None, 0.5, 0.5).words
        'int32, 9 fraction bits, proven within ±1,000'
        >>> Membrane("int32", 9, None, 4096, 0.5, 0.5).words
        'int32, 9 fraction bits, clipped at ±4,096'
        """
        if self.dtype == "float32":
            return "float32"
        clips = self.limit is not None
        ends = f"clipped at ±{self.limit:,}" if clips else f"proven within ±{self.bound:,}"
        return f"int32, {self.fraction} fraction bits, {ends}"


@dataclass(frozen=True)
class Population:
    """Neurons that are updated together.

    Attributes:
        name: of the operation that updates them.
        neuron: ``leaky``, one state, or ``synaptic``, with a second one for the current.
        neurons: how many.
        reset: what a spike does to the membrane: ``subtract`` the threshold, set it to ``zero``, or
            ``none``.
        spike_rate: spikes for each neuron and step; null where nothing reads its spikes: the
            membrane is its output.
        membrane: how it is kept.
    """

    name: str
    neuron: NeuronKind
    neurons: Count
    reset: ResetMode
    spike_rate: Fraction | None
    membrane: Membrane


@dataclass(frozen=True)
class Synapses:
    """Weights between spikes and what they reach: one operation.

    Attributes:
        operation: name.
        inputs: neurons whose spikes are read.
        outputs: values that are summed up.
        weights: how many are stored.
        element: what they are: ``int8``, ``ternary``, ``shift3``, ``float32``.
        schedule: ``event``, only weights of neurons that fired are touched, or ``dense``.
        activity: share of the inputs that fired, mean over the steps.
        synaptic_ops: weights that a spike met, mean over the steps: what an event-driven machine
            adds up.
        dense_ops: multiply-accumulates of a step where every input counts.
        bytes_touched: of weights that an event-driven step reads, mean over the steps.
        bytes_dense: of weights that a dense step reads.

    Raises:
        ValueError: more operations or bytes than the dense step has.
    """

    operation: str
    inputs: Count
    outputs: Count
    weights: Count
    element: str
    schedule: Schedule
    activity: Fraction
    synaptic_ops: Quantity
    dense_ops: Count
    bytes_touched: Quantity
    bytes_dense: Count

    def __post_init__(self) -> None:
        if self.synaptic_ops > self.dense_ops or self.bytes_touched > self.bytes_dense:
            raise ValueError(f"{self.operation}: spikes touch more than a dense step")


@dataclass(frozen=True)
class StepCost:
    """One step of a window, where the run is a whole one.

    Attributes:
        steps: of the window.
        cycles: mean over the steps; null where there is no model.
        worst_cycles: of the most expensive step: what a deadline for each sample has to hold.
        latency_ms: mean over the steps; null where neither measured nor modelled.
        worst_latency_ms: of the most expensive step; null where single steps have no time.

    Raises:
        ValueError: no steps, or a worst one that is below the mean.
    """

    steps: Count
    cycles: Quantity | None = None
    worst_cycles: Quantity | None = None
    latency_ms: Quantity | None = None
    worst_latency_ms: Quantity | None = None

    def __post_init__(self) -> None:
        if self.steps == 0:
            raise ValueError("a window has at least one step")
        pairs = ((self.cycles, self.worst_cycles), (self.latency_ms, self.worst_latency_ms))
        for mean, worst in pairs:
            if worst is not None and (mean is None or worst < mean * (1 - 1e-9)):
                raise ValueError("the most expensive step costs less than the mean")


@dataclass(frozen=True)
class SweepPoint:
    """A step at one activity, cycles of everything in it, with both schedules."""

    activity: Fraction
    event_cycles: Quantity
    dense_cycles: Quantity


@dataclass(frozen=True)
class Crossover:
    """Event-driven against dense: the same network, weights and inputs, with either schedule.

    Attributes:
        device: that counted.
        provenance: of the cycles.
        activity: share of all synapses that spikes met in real windows.
        event_cycles: of a step at that activity, every spike-driven operation event-driven; mean
            over the steps of real windows.
        dense_cycles: likewise, every one of them dense, with the fastest kernel for the core.
        points: over activities that were set, by ascending activity; the rest of the step is that
            of the real windows.
        crossing: activity where both cost the same; null where they do not meet.
        method: how activities were set, in words.

    Raises:
        ValueError: points out of order.
    """

    device: str
    provenance: Provenance
    activity: Fraction
    event_cycles: Quantity
    dense_cycles: Quantity
    points: tuple[SweepPoint, ...]
    crossing: Fraction | None
    method: str

    def __post_init__(self) -> None:
        places = [point.activity for point in self.points]
        if places != sorted(set(places)):
            raise ValueError("activities must ascend")


def crossing_of(points: tuple[SweepPoint, ...]) -> float | None:
    """Activity where event-driven begins to cost more than dense, linear between two points.

    None where one of both is cheaper at every point.

    >>> crossing_of((SweepPoint(0.0, 0.0, 4.0), SweepPoint(0.5, 8.0, 4.0)))
    0.25
    """
    for before, after in itertools.pairwise(points):
        gap = before.dense_cycles - before.event_cycles
        then = after.dense_cycles - after.event_cycles
        if gap >= 0 > then:
            share = gap / (gap - then)
            return before.activity + share * (after.activity - before.activity)
    return None


@dataclass(frozen=True)
class Opponent:
    """A network that does not spike, on the same device with the same windows.

    Attributes:
        name: of the network.
        model_file: that it came from.
        artifact_sha256: of its manifest.
        device: that both were run on.
        element: what its weights are.
        parameters: weights and biases.
        memory: of its generated library.
        macs: of a window.
        cycles: of a window; null where there is no model.
        latency_ms: of a window; null where neither measured nor modelled.
        energy_uj: of a window; null where there is no figure.
        accuracy: fraction of the same windows; null without labels, or where it was not counted.
        notes: in what it differs from the spiking network.
    """

    name: str
    model_file: str
    artifact_sha256: str
    device: str
    element: str
    parameters: Count
    memory: Memory
    macs: Count | None
    cycles: Quantity | None
    latency_ms: Latency | None
    energy_uj: Energy | None
    accuracy: Fraction | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Spiking:
    """What makes a network a spiking one.

    Attributes:
        steps: samples in a window.
        dt_seconds: between two samples; null where the network does not say.
        windows: real ones that activity was counted over.
        input: where they came from.
        element: what its weights are.
        parameters: weights and biases.
        state_bytes: that a step leaves to the next one.
        populations: in execution order.
        synapses: operations that spikes drive, in execution order.
        analog_ops: multiply-accumulates of a step with samples, which are no spikes: every step
            has them all.
        crossover: null where nothing counts cycles.
        opponent: null where none was given.

    Raises:
        ValueError: no steps or no windows.
    """

    steps: Count
    dt_seconds: Quantity | None
    windows: Count
    input: str
    element: str
    parameters: Count
    state_bytes: Count
    populations: tuple[Population, ...]
    synapses: tuple[Synapses, ...]
    analog_ops: Count
    crossover: Crossover | None = None
    opponent: Opponent | None = None

    def __post_init__(self) -> None:
        if self.steps == 0 or self.windows == 0:
            raise ValueError("figures of a spiking network are of at least one window of steps")

    @property
    def spike_rate(self) -> float | None:
        """Spikes for each neuron and step, over all populations; None where none spikes."""
        known = [(p.neurons, p.spike_rate) for p in self.populations if p.spike_rate is not None]
        neurons = sum(count for count, _ in known)
        return sum(n * rate for n, rate in known) / neurons if neurons else None

    @property
    def synaptic_ops(self) -> float:
        """Of a window."""
        return self.steps * sum(s.synaptic_ops for s in self.synapses)

    @property
    def dense_ops(self) -> int:
        """Of a window, where every input counts."""
        return self.steps * sum(s.dense_ops for s in self.synapses)

    @property
    def bytes_touched(self) -> float:
        """Of weights, in a step."""
        return sum(s.bytes_touched for s in self.synapses)

    @property
    def bytes_dense(self) -> int:
        """Of weights, in a dense step."""
        return sum(s.bytes_dense for s in self.synapses)
