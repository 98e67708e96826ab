"""``edgekit bench``: what one inference costs."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.render import Format, facts_as, rows_as, show
from edgekit.deploy.artifact import load
from edgekit.deploy.benchmark import BenchReport, Protocol

log = logging.getLogger("edgekit")


def bench(
    artifact: Annotated[Path, typer.Argument(help="A folder made by export.")],
    device: Annotated[str | None, typer.Option(help="emulator, qemu or local.")] = None,
    data: Annotated[
        Path | None, typer.Option("--input", help="Samples (.npz); the first is run.")
    ] = None,
    warmup: Annotated[int, typer.Option(min=0, help="Runs before counting.")] = 10,
    iters: Annotated[int, typer.Option(min=1, help="Counted runs at least.")] = 50,
    min_seconds: Annotated[float, typer.Option(min=0, help="Counted time at least.")] = 0.5,
    style: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Latency, instructions, memory and stack of one inference, per layer.

    Every figure says whether it was measured, counted or modelled.
    """
    protocol = Protocol(warmup=warmup, iterations=iters, min_seconds=min_seconds)
    report = load(artifact).bench(data, device=device, protocol=protocol)
    for warning in report.warnings:
        log.warning("warning: %s", warning)
    if style is Format.JSON:
        show(facts_as(report.to_json(), style))
        return
    if style is Format.TABLE:
        show(facts_as(summary(report), style) + "\n")
    show(rows_as(layer_rows(report), style))


def summary(report: BenchReport) -> dict[str, Any]:
    """The totals, each with its provenance."""
    facts: dict[str, Any] = {
        "target": report.target,
        "device": report.device,
        "input": report.input,
        "macs": report.macs,
    }
    if report.instructions is not None:
        facts["instructions"] = f"{report.instructions:,} (counted)"
        facts["cycles"] = None if report.cycles is None else f"{report.cycles:,.0f} (modelled)"
        facts["stack_bytes"] = report.stack_bytes
    latency = report.latency_ms
    if latency is None:
        facts["latency_ms"] = None
    elif latency.provenance == "modelled":
        clock = f" at {report.clock_hz / 1e6:g} MHz" if report.clock_hz else ""
        facts["latency_ms"] = f"{latency.p50:.3f} (modelled{clock})"
    else:
        facts["latency_ms"] = (
            f"p50 {latency.p50:.4f}, p90 {latency.p90:.4f}, p99 {latency.p99:.4f}, "
            f"first {latency.first:.4f} ({latency.provenance}, {len(latency.samples)} runs)"
        )
    facts |= {
        "energy_uj": report.energy_uj,
        "ram_bytes": report.ram_bytes,
        "flash_bytes": report.flash_bytes,
    }
    if report.toolchain:
        facts["toolchain"] = report.toolchain_version
        facts["flags"] = " ".join(report.flags)
    return facts


def layer_rows(report: BenchReport) -> list[dict[str, Any]]:
    """One row a layer, without the columns that this device has no figures for."""
    rows = []
    for layer in report.layers:
        row = {k: v for k, v in asdict(layer).items() if v is not None}
        if layer.instructions is not None:
            row["per_mac"] = layer.instructions / layer.macs if layer.macs else None
        rows.append(row)
    keys = list(dict.fromkeys(k for row in rows for k in row))
    return [{k: row.get(k) for k in keys} for row in rows]
