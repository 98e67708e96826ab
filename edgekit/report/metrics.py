"""The figures that reports are compared by: one table, for gates, tables and charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgekit.bench.costs import CAUSES
from edgekit.bench.energy import Energy
from edgekit.bench.memory import Memory
from edgekit.bench.protocol import Latency, Provenance
from edgekit.bench.report import Report, Run
from edgekit.bench.spiking import Spiking
from edgekit.report.conditions import cycle_model, energy_model


@dataclass(frozen=True)
class Figure:
    """A number and how it came about."""

    value: float
    provenance: Provenance


@dataclass(frozen=True)
class Metric:
    """A figure of a run, or of the artifact that was run.

    Attributes:
        name: as gates spell it, unit included.
        words: what it is.
        higher_is_better: the good direction.
        find: the figure; None where the run has none.
        is_time: whether it is the time of runs, which depends on how they were made.
        model: what gives it where nothing measured it, in words by name; None where nothing does.
        otherwise: metric that a gate on this one looks at where more reports have that; or empty.
    """

    name: str
    words: str
    higher_is_better: bool
    find: Callable[[Report, Run], Figure | None]
    is_time: bool = False
    model: Callable[[Run], Mapping[str, str | None]] | None = None
    otherwise: str = ""


def _latency(pick: Callable[[Latency], float | None]) -> Callable[[Report, Run], Figure | None]:
    def find(report: Report, run: Run) -> Figure | None:
        latency = run.latency_ms
        value = None if latency is None else pick(latency)
        return None if latency is None or value is None else Figure(value, latency.provenance)

    return find


def _percentile(pick: Callable[[Latency], float | None]) -> Callable[[Report, Run], Figure | None]:
    """Of measured latencies only: a modelled one is a single figure."""
    return _latency(lambda v: pick(v) if v.provenance == "measured" else None)


def _memory(pick: Callable[[Memory], int | None]) -> Callable[[Report, Run], Figure | None]:
    def find(report: Report, run: Run) -> Figure | None:
        # The memory of generated C says nothing about another runtime.
        if report.memory is None or run.backend != "c":
            return None
        value = pick(report.memory)
        return None if value is None else Figure(value, run.provenance.memory)

    return find


def _counted(
    pick: Callable[[Run], float | None], provenance: Callable[[Run], Provenance]
) -> Callable[[Report, Run], Figure | None]:
    def find(report: Report, run: Run) -> Figure | None:
        value = pick(run)
        return None if value is None else Figure(value, provenance(run))

    return find


def _energy(pick: Callable[[Energy], float | None]) -> Callable[[Report, Run], Figure | None]:
    def find(report: Report, run: Run) -> Figure | None:
        energy = run.energy_uj
        value = None if energy is None else pick(energy)
        return None if energy is None or value is None else Figure(value, energy.provenance)

    return find


def _cause(name: str) -> Metric:
    return Metric(
        f"cycles_{name}",
        f"cycles by cause: {name}",
        False,
        _counted(
            lambda r: None if r.causes is None else getattr(r.causes, name),
            lambda r: r.provenance.cycles,
        ),
        model=cycle_model,
    )


def _preprocessing(report: Report, run: Run) -> Figure | None:
    chain = report.preprocessing
    if chain is None or chain.latency_ms is None:
        return None
    return Figure(chain.latency_ms.p50, chain.latency_ms.provenance)


def _spiking(pick: Callable[[Spiking], float | None]) -> Callable[[Report, Run], Figure | None]:
    """Of the network over real windows, whatever ran it: spikes are the same everywhere."""

    def find(report: Report, run: Run) -> Figure | None:
        value = None if report.spiking is None else pick(report.spiking)
        return None if value is None else Figure(value, "counted")

    return find


def _step_latency(report: Report, run: Run) -> Figure | None:
    value = None if run.step is None else run.step.latency_ms
    latency = run.latency_ms
    return None if value is None or latency is None else Figure(value, latency.provenance)


_TABLE = (
    Metric(
        "latency_ms",
        "latency, the median where it was measured",
        False,
        _latency(lambda v: v.p50),
        True,
        cycle_model,
    ),
    Metric("latency_ms_p90", "its 90th percentile", False, _percentile(lambda v: v.p90), True),
    Metric("latency_ms_p99", "its 99th percentile", False, _percentile(lambda v: v.p99), True),
    Metric("latency_ms_first", "first run", False, _latency(lambda v: v.first), True),
    Metric("preprocessing_ms", "median of pre-processing", False, _preprocessing),
    Metric(
        "instructions",
        "issued instructions",
        False,
        _counted(lambda r: r.instructions, lambda r: r.provenance.instructions),
    ),
    Metric(
        "cycles",
        "cycles",
        False,
        _counted(lambda r: r.cycles, lambda r: r.provenance.cycles),
        model=cycle_model,
    ),
    Metric(
        "step_cycles",
        "cycles of a step, mean of a window",
        False,
        _counted(
            lambda r: None if r.step is None else r.step.cycles, lambda r: r.provenance.cycles
        ),
        model=cycle_model,
    ),
    Metric(
        "step_latency_ms",
        "latency of a step, mean of a window",
        False,
        _step_latency,
        True,
        cycle_model,
    ),
    *map(_cause, CAUSES),
    Metric(
        "energy_uj",
        "energy above idle",
        False,
        _energy(lambda e: e.net_uj),
        model=energy_model,
        otherwise="energy_uj_gross",
    ),
    Metric(
        "energy_uj_gross",
        "energy with idle",
        False,
        _energy(lambda e: e.gross_uj),
        model=energy_model,
    ),
    Metric(
        "accuracy",
        "fraction of right answers",
        True,
        _counted(
            lambda r: None if r.accuracy is None else r.accuracy.value,
            lambda r: r.provenance.accuracy,
        ),
    ),
    Metric(
        "mismatch_rate",
        "fraction of elements unlike the exact reference",
        False,
        _counted(
            lambda r: None if r.agreement is None else r.agreement.rate,
            lambda r: r.provenance.agreement,
        ),
    ),
    Metric(
        "macs",
        "multiply-accumulates",
        False,
        _counted(lambda r: r.macs, lambda r: r.provenance.macs),
    ),
    Metric(
        "stack_bytes",
        "stack at its deepest",
        False,
        _counted(lambda r: r.stack_bytes, lambda r: r.provenance.stack_bytes),
    ),
    Metric(
        "spike_rate",
        "spikes for each neuron and step",
        False,
        _spiking(lambda s: s.spike_rate),
    ),
    Metric(
        "synaptic_ops",
        "synaptic operations of a window",
        False,
        _spiking(lambda s: s.synaptic_ops),
    ),
    Metric("ram_bytes", "RAM of the image", False, _memory(lambda m: m.ram_bytes)),
    Metric("flash_bytes", "flash of the image", False, _memory(lambda m: m.flash_bytes)),
    Metric("activations_bytes", "arena", False, _memory(lambda m: m.activations_bytes)),
    Metric("state_bytes", "state between steps", False, _memory(lambda m: m.state_bytes)),
    Metric("weights_bytes", "constants", False, _memory(lambda m: m.weights_bytes)),
    Metric("code_bytes", "machine code", False, _memory(lambda m: m.code_bytes)),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _TABLE})
"""Every metric by name, in the order that tables show them."""
