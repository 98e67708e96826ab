"""How far a spiking network has drifted from the one it was made of, spike by spike.

Two float implementations of one network add the same products in different orders, so membranes
differ in their last bits. Where such a membrane lies within those bits of its threshold, one fires
and the other does not; from that spike on the two run apart, and rightly so. What has to hold is
therefore a statement about the *first* difference of every window: its membrane was as good as on
the threshold. :func:`compare_traces` finds it, :meth:`Drift.raise_if` insists.

NumPy only; the reference may be any framework, and the network anything that can be observed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from edgekit.errors import VerificationError

AMBIGUOUS = 1e-5
"""|membrane - threshold| up to which float rounding may decide whether a neuron fires."""

ROUNDING = 1e-4
"""How far a membrane may be off before any spike differs, in units of the largest membrane (or of 1
where membranes are smaller): rounding of long sums stays below, another network does not."""


@dataclass(frozen=True)
class Trace:
    """What one population did.

    Attributes:
        membrane: float[windows, steps, ...neurons], after the step and before the next one's reset.
            NaN where it is not known; such values are not compared.
        spikes: bool[windows, steps, ...neurons]; None for neurons that never fire.
    """

    membrane: np.ndarray
    spikes: np.ndarray | None = None


@dataclass(frozen=True)
class Difference:
    """The first neuron of a window that fires on one side alone.

    Attributes:
        window: number of the window, from 0.
        step: number of the step, from 0.
        population: its name.
        neuron: number within the population, in the order of its flattened shape.
        membrane: of the reference.
        threshold: of this neuron.
        distance: |membrane - threshold|, inf where the membrane is not known.
    """

    window: int
    step: int
    population: str
    neuron: int
    membrane: float
    threshold: float
    distance: float


@dataclass(frozen=True)
class Drift:
    """What the comparison of two runs found.

    Attributes:
        windows: how many were compared.
        steps: of each window.
        neurons: that were compared in every step.
        spikes: that the reference fired, in all windows.
        differing: spikes on one side only, in all windows; most of them follow from a first one.
        differing_windows: windows in which at least one spike differs.
        first: the windows' first differing neuron; of several windows the one farthest from its
            threshold. None where all spikes agree.
        membrane_difference: largest |difference| of a membrane before its window's first differing
            spike.
        largest_membrane: largest |membrane| of the reference over the same steps.
    """

    windows: int
    steps: int
    neurons: int
    spikes: int
    differing: int
    differing_windows: int
    first: Difference | None
    membrane_difference: float
    largest_membrane: float

    def to_json(self) -> dict[str, object]:
        """Everything above as plain values; numbers that JSON lacks become None."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    def raise_if(self, *, farther: float = AMBIGUOUS, rounding: float = ROUNDING) -> None:
        """Insist that only rounding tells the two apart.

        Args:
            farther: largest |membrane - threshold| that a window's first differing neuron may have.
            rounding: largest difference of membranes before it, relative to the largest membrane
                (to 1 where that is smaller).

        Raises:
            VerificationError: says which neuron differs, or by how much the membranes do.
        """
        first = self.first
        if first is not None and not first.distance <= farther:
            raise VerificationError(
                f"the networks differ: neuron {first.neuron} of {first.population} fires on one "
                f"side only in step {first.step} of window {first.window}, where its membrane is "
                f"{first.membrane:.9g} and its threshold {first.threshold:.9g} "
                f"({first.distance:.3g} apart; rounding explains up to {farther:g}); "
                f"{self.differing} of {self.spikes} spikes differ"
            )
        allowed = rounding * max(1.0, self.largest_membrane)
        if not self.membrane_difference <= allowed:
            raise VerificationError(
                f"the networks differ: before any spike does, membranes are up to "
                f"{self.membrane_difference:.3g} apart (rounding explains up to {allowed:.3g})"
            )


def compare_traces(
    reference: Mapping[str, Trace],
    ours: Mapping[str, Trace],
    thresholds: Mapping[str, np.ndarray],
) -> Drift:
    """Compare two runs of one network on the same windows.

    Args:
        reference: traces by population, in the order in which a step computes them: where two
            populations differ in the same step, the earlier one is the first.
        ours: traces of the same shapes, one for every population of the reference at least.
        thresholds: of every population that spikes, broadcastable to its neurons' shape.

    Raises:
        VerificationError: the runs cannot be compared: populations, windows, steps or neurons are
            not the same, or the threshold of a population is missing.
    """
    windows, steps = _counts(reference, ours)
    lacking = [n for n, t in reference.items() if t.spikes is not None and n not in thresholds]
    if lacking:
        raise VerificationError(f"no threshold is given for {', '.join(lacking)}")
    differing = {
        name: trace.spikes != ours[name].spikes
        for name, trace in reference.items()
        if trace.spikes is not None
    }
    ends = np.full(windows, steps)
    for differs in differing.values():
        some = differs.reshape(windows, steps, -1).any(axis=2)
        ends = np.minimum(ends, np.where(some.any(axis=1), some.argmax(axis=1), steps))
    firsts = [
        _first(int(window), int(ends[window]), reference, ours, differing, thresholds)
        for window in np.flatnonzero(ends < steps)
    ]
    before = np.arange(steps)[None, :] < ends[:, None]
    error, largest = _membranes(reference, ours, before)
    return Drift(
        windows=windows,
        steps=steps,
        neurons=sum(math.prod(t.membrane.shape[2:]) for t in reference.values()),
        spikes=sum(int(t.spikes.sum()) for t in reference.values() if t.spikes is not None),
        differing=sum(int(d.sum()) for d in differing.values()),
        differing_windows=len(firsts),
        first=max(firsts, key=lambda f: f.distance, default=None),
        membrane_difference=error,
        largest_membrane=largest,
    )


def _counts(reference: Mapping[str, Trace], ours: Mapping[str, Trace]) -> tuple[int, int]:
    """Windows and steps, equal everywhere."""
    shapes = {name: trace.membrane.shape for name, trace in reference.items()}
    if not shapes:
        raise VerificationError("there is no population to compare")
    for name, shape in shapes.items():
        other = ours.get(name)
        if other is None:
            raise VerificationError(f"population {name!r} is in the reference only")
        if other.membrane.shape != shape or (other.spikes is None) != (
            reference[name].spikes is None
        ):
            raise VerificationError(
                f"population {name!r} cannot be compared: the reference has {_words(shape)} "
                f"{'with' if reference[name].spikes is not None else 'without'} spikes, ours "
                f"{_words(other.membrane.shape)} "
                f"{'with' if other.spikes is not None else 'without'} spikes"
            )
        for side, trace in (("the reference", reference[name]), ("ours", other)):
            spikes = shape if trace.spikes is None else trace.spikes.shape
            if len(shape) < 2 or spikes != shape:
                raise VerificationError(
                    f"population {name!r} cannot be compared: {side} has membranes {list(shape)} "
                    f"and spikes {list(spikes)}, must both have [windows, steps, ...neurons]"
                )
    heads = {shape[:2] for shape in shapes.values()}
    if len(heads) != 1:
        raise VerificationError(f"populations differ in windows and steps: {sorted(heads)}")
    windows, steps = heads.pop()
    return windows, steps


def _first(
    window: int,
    step: int,
    reference: Mapping[str, Trace],
    ours: Mapping[str, Trace],
    differing: Mapping[str, np.ndarray],
    thresholds: Mapping[str, np.ndarray],
) -> Difference:
    """The neuron that differs first.

    Neurons of one population do not see each other within a step: of several that differ at once
    the one farthest from its threshold is told.
    """
    name, differs = next((n, d) for n, d in differing.items() if d[window, step].any())
    known = reference[name].membrane[window, step]
    membrane = np.where(np.isnan(known), ours[name].membrane[window, step], known)
    membrane = membrane.astype(np.float64)
    threshold = np.broadcast_to(np.asarray(thresholds[name], np.float64), membrane.shape)
    distances = np.nan_to_num(np.abs(membrane - threshold), nan=np.inf)
    neuron = int(np.where(differs[window, step], distances, -1.0).argmax())
    return Difference(
        window=window,
        step=step,
        population=name,
        neuron=neuron,
        membrane=float(membrane.flat[neuron]),
        threshold=float(threshold.flat[neuron]),
        distance=float(distances.flat[neuron]),
    )


def _membranes(
    reference: Mapping[str, Trace], ours: Mapping[str, Trace], before: np.ndarray
) -> tuple[float, float]:
    """Largest difference and largest magnitude of membranes where ``before`` [windows, steps]."""
    error = largest = 0.0
    for name, trace in reference.items():
        theirs = trace.membrane[before].astype(np.float64)
        known = ~np.isnan(theirs)
        distances = np.abs(ours[name].membrane[before].astype(np.float64) - theirs)[known]
        # A NaN of ours beside a known membrane is a difference, not a value to leave out.
        error = max(error, float(np.nan_to_num(distances, nan=np.inf).max(initial=0.0)))
        largest = max(largest, float(np.abs(theirs[known]).max(initial=0.0)))
    return error, largest


def _words(shape: tuple[int, ...]) -> str:
    windows, steps, *neurons = (*shape, 0, 0)[: max(2, len(shape))]
    return f"{windows} windows of {steps} steps and neurons {neurons}"


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
