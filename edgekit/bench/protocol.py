"""How the time of one inference is measured, and what is kept of it.

The first run stands apart, since it pays for caches, page faults and lazy set-up. Warm-up runs
follow, outside of everything counted. Then real inputs are cycled until there are enough runs *and*
enough time has passed; cost may depend on the data. Every sample is kept.
"""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from edgekit.bench.fields import Count, Quantity, Real

Provenance = Literal["measured", "modelled", "estimated", "counted"]
"""How a figure came about: a clock or sensor, a model of the hardware, a guess with a method, or
counting."""

MODELLED: tuple[Provenance, ...] = ("modelled", "estimated")
"""What rests on a model, whose version and known error belong beside the figure."""

UNSTABLE_COV = 0.025
"""Coefficient of variation above which TensorRT's tools call a measurement unstable."""

UNSTABLE_DRIFT = 0.05
"""Change of the median from the first half of the samples to the second that is worth a warning."""

SAME_LATENCY = 1e-6
"""How far a modelled latency may be from cycles over clock, relatively: both are rounded."""

MAX_SAMPLES = 100_000
"""Timed runs at most; a network of microseconds reaches this before the least time."""

T = TypeVar("T")


@dataclass(frozen=True)
class Protocol:
    """How real execution is measured.

    Attributes:
        warmup: runs that are not counted, after the first.
        iterations: counted runs at least.
        min_seconds: counted time at least, or :data:`MAX_SAMPLES` runs.
        percentiles: of the counted runs, in percent, beside p50, p90 and p99.
        threads: that a back end may use; the generated C uses one.

    Raises:
        ValueError: impossible numbers.
    """

    warmup: Count = 10
    iterations: Count = 50
    min_seconds: Quantity = 0.5
    percentiles: tuple[Quantity, ...] = ()
    threads: Count = 1

    def __post_init__(self) -> None:
        if not 0 <= self.warmup <= MAX_SAMPLES:
            raise ValueError(f"warmup is {self.warmup}, must be in 0…{MAX_SAMPLES}")
        if not 1 <= self.iterations <= MAX_SAMPLES:
            raise ValueError(f"iterations is {self.iterations}, must be in 1…{MAX_SAMPLES}")
        if not 0 <= self.min_seconds <= 86_400:
            raise ValueError(f"min_seconds is {self.min_seconds}, must be in 0…86400")
        if not all(0 <= p <= 100 for p in self.percentiles):
            raise ValueError(f"percentiles are {self.percentiles}, must be in 0…100")
        if not 1 <= self.threads <= 1024:
            raise ValueError(f"threads is {self.threads}, must be in 1…1024")


@dataclass(frozen=True)
class Percentile:
    """A percentile that was asked for: percent, and milliseconds."""

    percent: Quantity
    value: Quantity


@dataclass(frozen=True)
class Latency:
    """Time of one inference in milliseconds.

    Attributes:
        provenance: ``measured`` by a clock, ``modelled`` from counted instructions.
        p50: median; equal to the other statistics for a modelled figure.
        p90: ninth decile.
        p99: 99th percentile.
        mean: arithmetic mean.
        minimum: fastest counted run.
        maximum: slowest counted run.
        first: the first run, before the warm-up and with nothing run since the network was
            opened; null for modelled figures.
        cov: coefficient of variation, null for modelled figures.
        drift: change of the median from the first half of the samples to the second, relative;
            null for modelled figures and for fewer than four samples.
        percentiles: further ones that were asked for.
        samples: every counted run, in order; none for modelled figures.
    """

    provenance: Provenance
    p50: Quantity
    p90: Quantity
    p99: Quantity
    mean: Quantity
    minimum: Quantity
    maximum: Quantity
    first: Quantity | None = None
    cov: Quantity | None = None
    drift: Real | None = None
    percentiles: tuple[Percentile, ...] = ()
    samples: tuple[Quantity, ...] = ()

    @classmethod
    def modelled(cls, milliseconds: float) -> Latency:
        """A figure from a model of the hardware: one number, no spread."""
        return cls(
            provenance="modelled",
            p50=milliseconds,
            p90=milliseconds,
            p99=milliseconds,
            mean=milliseconds,
            minimum=milliseconds,
            maximum=milliseconds,
        )

    @classmethod
    def of_samples(
        cls,
        samples: Sequence[float],
        *,
        first: float | None = None,
        percentiles: Sequence[float] = (),
    ) -> Latency:
        """The statistics of measured runs.

        Args:
            samples: milliseconds of every counted run, in order; at least one.
            first: milliseconds of the first run.
            percentiles: further ones to report.

        >>> latency = Latency.of_samples([1.0, 2.0, 3.0, 4.0], first=9.0)
        >>> latency.p50, latency.minimum, latency.maximum, latency.drift
        (2.5, 1.0, 4.0, 0.8)
        """
        p50, p90, p99 = (float(p) for p in np.percentile(samples, [50, 90, 99]))
        mean = statistics.fmean(samples)
        drift = None
        if len(samples) >= 4 and p50 > 0:
            half = len(samples) // 2
            drift = statistics.median(samples[half:]) - statistics.median(samples[:half])
            drift /= p50
        return cls(
            provenance="measured",
            p50=p50,
            p90=p90,
            p99=p99,
            mean=mean,
            minimum=min(samples),
            maximum=max(samples),
            first=first,
            cov=statistics.pstdev(samples, mean) / mean if mean > 0 else 0.0,
            drift=drift,
            percentiles=tuple(
                Percentile(float(p), float(np.percentile(samples, p))) for p in percentiles
            ),
            samples=tuple(samples),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the figure doubtful."""
        words = []
        if self.cov is not None and self.cov > UNSTABLE_COV:
            words.append(f"unstable: the samples vary by {self.cov:.1%} (CoV)")
        if self.drift is not None and abs(self.drift) > UNSTABLE_DRIFT:
            words.append(f"unstable: the median moved by {self.drift:+.1%} while measuring")
        return tuple(words)


def require_modelled(latency: Latency | None, cycles: float | None, clock_hz: int | None) -> None:
    """Refuse a clock of 0, and a modelled latency that is not its cycles at its clock.

    Raises:
        ValueError: says which.

    >>> require_modelled(Latency.modelled(2.0), 100_000.0, 100_000_000)
    Traceback (most recent call last):
    ValueError: latency_ms.p50 is 2, 100,000 cycles at 100,000,000 Hz are 1 ms
    """
    if clock_hz == 0:
        raise ValueError("clock_hz is 0, must be null where no clock is known")
    if latency is None or latency.provenance not in MODELLED or cycles is None or clock_hz is None:
        return
    expected = 1e3 * cycles / clock_hz
    if abs(latency.p50 - expected) > SAME_LATENCY * expected:
        raise ValueError(
            f"latency_ms.p50 is {latency.p50:g}, {cycles:,.0f} cycles at {clock_hz:,} Hz are "
            f"{expected:g} ms"
        )


def measure(
    call: Callable[[T], Any],
    inputs: Sequence[T],
    protocol: Protocol,
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Latency:
    """Time a call.

    Args:
        call: one inference; takes one element of `inputs`.
        inputs: real data, cycled; at least one.
        protocol: how often and how long.
        clock: nanoseconds that never go back.

    Raises:
        ValueError: there are no inputs.
    """
    if not inputs:
        raise ValueError("there are no inputs to run")
    endless = itertools.cycle(inputs)
    collects = gc.isenabled()
    gc.disable()
    try:
        first = _timed(call, next(endless), clock)
        for value in itertools.islice(endless, protocol.warmup):
            call(value)
        samples = _samples(call, endless, protocol, clock)
    finally:
        if collects:
            gc.enable()
    return Latency.of_samples(samples, first=first, percentiles=protocol.percentiles)


def _samples(
    call: Callable[[T], Any], inputs: Iterable[T], protocol: Protocol, clock: Callable[[], int]
) -> list[float]:
    """Milliseconds of every counted run."""
    samples: list[float] = []
    end = clock() + round(protocol.min_seconds * 1e9)
    for value in inputs:
        samples.append(_timed(call, value, clock))
        enough = len(samples) >= protocol.iterations and clock() >= end
        if enough or len(samples) == MAX_SAMPLES:
            break
    return samples


def _timed(call: Callable[[T], Any], value: T, clock: Callable[[], int]) -> float:
    begin = clock()
    call(value)
    return (clock() - begin) / 1e6
