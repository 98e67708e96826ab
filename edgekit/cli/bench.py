"""``edgekit bench``: what one inference costs."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.bench.costs import CAUSES, Causes
from edgekit.bench.protocol import Latency, Protocol
from edgekit.bench.report import Report, Run, as_text, write_text
from edgekit.bench.spiking import Spiking, StepCost
from edgekit.cli.explain import explained
from edgekit.cli.render import Format, cell, facts_as, rows_as, show
from edgekit.deploy.artifact import load
from edgekit.errors import OutputError, UsageError

log = logging.getLogger("edgekit")

NESTED = ("causes", "functions")
"""Fields of a layer that are no cells of a table."""

SHOWN = (50.0, 90.0, 99.0)
"""Percentiles that are always printed."""


def bench(
    artifact: Annotated[Path, typer.Argument(help="A folder made by export.")],
    device: Annotated[
        str | None, typer.Option(help="emulator, qemu or local; a comma list runs on each.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="c, onnxruntime or litert; a comma list runs each.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Hold it against fp32, int8 or both (comma list).")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Samples or sequences (.npz), all inputs are cycled; with labels, accuracy.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Samples that accuracy and spikes are counted over, evenly spread; default 100 "
            "for spikes and in an emulator, else all.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the random input.")] = None,
    warmup: Annotated[int, typer.Option(min=0, help="Runs before counting.")] = 10,
    iters: Annotated[int, typer.Option(min=1, help="Counted runs at least.")] = 50,
    min_seconds: Annotated[float, typer.Option(min=0, help="Counted time at least.")] = 0.5,
    percentiles: Annotated[
        str, typer.Option(help="Further percentiles of the latency (comma list).")
    ] = "",
    threads: Annotated[int, typer.Option(min=1, help="That a runtime may use.")] = 1,
    opponent: Annotated[
        Path | None,
        typer.Option(
            help="An artifact whose network does not spike, for the same target: held against a "
            "spiking one over the same windows."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--explain",
            metavar="LAYER",
            help="Show where one layer's cycles go, instruction by instruction: name or index.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the report.")] = None,
    style: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Latency, instructions, memory and stack of one inference, per layer.

    Every figure says whether it was measured, counted or modelled. With --explain, only the layer
    is shown, for the first input.
    """
    if layer is not None:
        refused = {
            "--backend": backend,
            "--baseline": baseline,
            "--opponent": opponent,
            "--output": output,
        }
        _refuse_with_explain(device, [name for name, value in refused.items() if value is not None])
        found = load(artifact).explain(layer, data, device=device, seed=seed)
        show(explained(found, style))
        return
    report = load(artifact).bench(
        data,
        device=device,
        backend=backend,
        baseline=baseline,
        protocol=_protocol(warmup, iters, min_seconds, percentiles=percentiles, threads=threads),
        limit=limit,
        seed=seed,
        opponent=opponent,
    )
    for warning in warnings(report):
        log.warning("warning: %s", warning)
    if output is not None:
        save(report, output)
    if style is Format.JSON:
        show(as_text(report))
    elif len(report.runs) > 1 or style is Format.CSV:
        show(rows_as([run_row(run) for run in report.runs], style))
        if style is Format.CSV and any(run.layers for run in report.runs):
            log.info("layers: --format json or --output has them, a CSV file is one table")
    else:
        show(facts_as(summary(report), style))
        if report.runs[0].layers:
            show("\n" + rows_as(layer_rows(report.runs[0]), style))


def _refuse_with_explain(device: str | None, others: list[str]) -> None:
    """Raises UsageError for options that make no sense beside ``--explain``."""
    if others:
        raise UsageError(f"--explain prints one layer and takes no {', '.join(others)}")
    if device is not None and "," in device:
        raise UsageError(f"--explain takes one device, not {device!r}")


def _protocol(
    warmup: int, iterations: int, min_seconds: float, *, percentiles: str, threads: int
) -> Protocol:
    """The options of measurement.

    Raises:
        UsageError: numbers that make no sense together.
    """
    try:
        further = tuple(float(part) for part in percentiles.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--percentiles {percentiles!r} must be numbers with commas") from None
    try:
        return Protocol(warmup, iterations, min_seconds, further, threads)
    except ValueError as error:
        raise UsageError(f"bench: {error}") from error


def save(report: Report, output: Path) -> None:
    """Write a report whole or not at all; folders are made.

    Raises:
        OutputError: the place cannot be written.
    """
    try:
        write_text(output, as_text(report))
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror}") from error


def warnings(report: Report) -> list[str]:
    """Of the machine, then of every run; with several runs, each says whose it is."""
    several = len(report.runs) > 1
    return list(report.warnings) + [
        f"{run_name(run)}: {words}" if several else words
        for run in report.runs
        for words in run.warnings
    ]


def run_name(run: Run) -> str:
    """A run in a few words."""
    return f"{run.backend} {run.precision} on {run.device}"


def summary(report: Report) -> dict[str, Any]:
    """The totals of a single run, each with its provenance."""
    (run,) = report.runs
    facts: dict[str, Any] = {
        "target": report.artifact.target,
        "device": run.place,
        "input": run.input,
        "macs": run.macs,
    }
    if run.backend != "c":
        facts["backend"] = f"{run.backend} {run.backend_version} ({run.kernels})"
    if run.instructions is not None:
        facts["instructions"] = f"{run.instructions:,} ({run.provenance.instructions})"
        facts["cycles"] = cycles_words(run)
        if run.causes is not None:
            facts["causes"] = causes_words(run.causes)
        if run.cycle_model is not None:
            facts["cycle_model"] = run.cycle_model.sentence
        facts["stack_bytes"] = run.stack_bytes
    facts["latency_ms"] = latency_words(run)
    if run.step is not None:
        facts |= step_facts(run.step)
    if report.spiking is not None:
        facts |= spiking_facts(report.spiking)
    if report.preprocessing is not None and report.preprocessing.latency_ms is not None:
        chain = report.preprocessing.latency_ms
        facts["preprocessing_ms"] = f"p50 {chain.p50:.4f} ({chain.provenance})"
    facts["energy_uj"] = energy_words(run)
    if run.energy_uj is not None:
        facts["energy_source"] = run.energy_uj.source or run.energy_uj.sensor
    if run.accuracy is not None:
        facts["accuracy"] = (
            f"{run.accuracy.value:.4f} ({run.accuracy.samples:,} of {run.accuracy.data})"
        )
    if run.agreement is not None and run.backend != "c":
        facts["differing"] = f"{run.agreement.rate:.2%} of {run.agreement.elements:,} elements"
    if report.memory is not None:
        facts["ram_bytes"] = report.memory.ram_bytes
        facts["flash_bytes"] = report.memory.flash_bytes
    if run.toolchain:
        facts["toolchain"] = run.toolchain_version
        facts["flags"] = " ".join(run.flags)
    return facts


def step_facts(step: StepCost) -> dict[str, Any]:
    """Of a window, whose own figures stand above."""
    facts: dict[str, Any] = {"steps": step.steps}
    for name, mean, worst in (
        ("step_cycles", step.cycles, step.worst_cycles),
        ("step_latency_ms", step.latency_ms, step.worst_latency_ms),
    ):
        if mean is not None:
            facts[name] = cell(mean) + ("" if worst is None else f" (at most {cell(worst)})")
    return facts


def spiking_facts(spiking: Spiking) -> dict[str, Any]:
    """What fires, what that costs, and beside whom."""
    rate, crossover, opponent = spiking.spike_rate, spiking.crossover, spiking.opponent
    facts: dict[str, Any] = {
        "weights": spiking.element,
        "spike_rate": None
        if rate is None
        else f"{rate:.4f} ({spiking.windows:,} windows of {spiking.input})",
        "synaptic_ops": f"{spiking.synaptic_ops:,.0f} a window; dense {spiking.dense_ops:,}",
        "bytes_touched": f"{spiking.bytes_touched:,.0f} a step; dense {spiking.bytes_dense:,}",
        "state_bytes": spiking.state_bytes,
    }
    if crossover is not None:
        meets = "never" if crossover.crossing is None else f"at activity {crossover.crossing:.3f}"
        facts["step_event_cycles"] = f"{crossover.event_cycles:,.0f} ({crossover.provenance})"
        facts["step_dense_cycles"] = f"{crossover.dense_cycles:,.0f} ({crossover.provenance})"
        facts["crossover"] = f"{meets}; real windows {crossover.activity:.3f}"
    if opponent is not None:
        facts["opponent"] = f"{opponent.name}, {opponent.element}, {opponent.parameters:,} weights"
        if opponent.cycles is not None:
            facts["opponent_cycles"] = f"{opponent.cycles:,.0f} a window"
        if opponent.accuracy is not None:
            facts["opponent_accuracy"] = f"{opponent.accuracy:.4f}"
    return facts


def cycles_words(run: Run) -> str | None:
    """Cycles with the tag of their model."""
    if run.cycles is None:
        return None
    return f"{run.cycles:,.0f} ({run.origin(run.provenance.cycles)})"


def causes_words(causes: Causes) -> str:
    """Shares of the cycles by cause.

    >>> causes_words(Causes(issue=6, load=3, branch=1))
    'issue 60.0 %, arithmetic 0.0 %, load 30.0 %, fetch 0.0 %, branch 10.0 %'
    """
    whole = causes.total or 1.0
    return ", ".join(f"{cause} {100 * getattr(causes, cause) / whole:.1f} %" for cause in CAUSES)


def energy_words(run: Run) -> str | None:
    """An energy with what it includes, its spread, and how it came about."""
    energy = run.energy_uj
    if energy is None:
        return None
    has_spread = energy.low_uj is not None and energy.high_uj is not None
    note = f" {run.spread_note}" if run.spread_note else ""
    spread = f"{cell(energy.low_uj)}…{cell(energy.high_uj)}{note}; " if has_spread else ""
    return f"{cell(energy.value_uj)} {energy.kind} ({spread}{run.origin(energy.provenance)})"


def latency_words(run: Run) -> str | None:
    """A latency with its spread and provenance."""
    latency: Latency | None = run.latency_ms
    if latency is None:
        return None
    if latency.provenance != "measured":
        clock = f" at {run.clock_hz / 1e6:g} MHz" if run.clock_hz else ""
        return f"{cell(latency.p50)}{clock} ({run.origin(latency.provenance)})"
    further = "".join(
        f"p{p.percent:g} {p.value:.4f}, " for p in latency.percentiles if p.percent not in SHOWN
    )
    return (
        f"p50 {latency.p50:.4f}, p90 {latency.p90:.4f}, p99 {latency.p99:.4f}, {further}"
        f"first {latency.first:.4f} ({latency.provenance}, {len(latency.samples)} runs)"
    )


def run_row(run: Run) -> dict[str, Any]:
    """One line of a sweep."""
    latency, energy = run.latency_ms, run.energy_uj
    return {
        "backend": run.backend,
        "precision": run.precision,
        "role": run.role,
        "device": run.device,
        "stands_for_target": run.on_target,
        "kernels": run.kernels,
        "instructions": run.instructions,
        "cycles": run.cycles,
        "latency_ms": latency and latency.p50,
        "latency_ms_p99": latency.p99 if latency and latency.provenance == "measured" else None,
        "latency_ms_first": latency and latency.first,
        "cov": latency and latency.cov,
        "provenance": latency and latency.provenance,
        "energy_uj": energy and energy.value_uj,
        "energy_low_uj": energy and energy.low_uj,
        "energy_high_uj": energy and energy.high_uj,
        "energy_spread": run.spread_note or None,
        "energy_provenance": energy and f"{energy.provenance}, {energy.kind}",
        "cycle_model": run.cycle_model and run.cycle_model.words,
        "stack_bytes": run.stack_bytes,
        "differing": run.agreement and run.agreement.rate,
        "accuracy": run.accuracy and run.accuracy.value,
    }


def layer_rows(run: Run) -> list[dict[str, Any]]:
    """One row a layer, without the columns that this device has no figures for."""
    rows: list[dict[str, Any]] = []
    for index, layer in enumerate(run.layers):
        row = {"#": index} | {
            k: v for k, v in asdict(layer).items() if v is not None and k not in NESTED
        }
        if layer.causes is not None:
            row |= asdict(layer.causes)
        if layer.instructions is not None:
            row["per_mac"] = layer.instructions / layer.macs if layer.macs else None
        rows.append(row)
    keys = list(dict.fromkeys(k for row in rows for k in row))
    return [{k: row.get(k) for k in keys} for row in rows]
