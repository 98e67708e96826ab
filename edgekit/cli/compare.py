"""``edgekit compare``: what changed between two reports, and whether that is too much."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.render import Format, facts_as, plain, rows_as, show
from edgekit.report.compare import Change
from edgekit.report.compare import compare as compared
from edgekit.report.gate import parse_gate
from edgekit.report.load import load_report

log = logging.getLogger("edgekit")


def compare(
    before: Annotated[Path, typer.Argument(help="Report of bench.")],
    after: Annotated[Path, typer.Argument(help="Later report to hold against it.")],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit code 1 when so: 'latency_ms>+5%', 'accuracy<-0.01', 'flash_bytes>65536'."
        ),
    ] = None,
    style: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Compare two reports, run by run and metric by metric.

    Modelled and measured values are never subtracted from each other, and changes of a time that
    was taken with other threads, other inputs or only once on the target decide no --fail-if: exit
    code 2. Exit code 1 when a --fail-if condition holds.
    """
    gates = [parse_gate(text) for text in fail_if or []]
    result = compared(load_report(before), load_report(after), gates)
    for note in result.notes:
        log.warning("note: %s", plain(note))
    for key in result.only_before:
        log.warning("note: only before: %s", plain(key))
    for key in result.only_after:
        log.warning("note: only after: %s", plain(key))
    if style is Format.JSON:
        show(facts_as(result.to_json(), style))
    else:
        show(rows_as([row(change) for change in result.changes], style))
    if style is Format.TABLE and result.models:
        show("\n" + "".join(f"{plain(words)}\n" for words in result.models))
    for change in result.failed:
        for gate in change.failed:
            log.error("failed: %s: %s", gate, plain(change.run))
    if result.failed:
        raise typer.Exit(1)


def row(change: Change) -> dict[str, Any]:
    """One line for people."""
    share = None if change.relative is None else f"{change.relative:+.2%}"
    return {
        "run": change.run,
        "metric": change.metric,
        "before": change.before,
        "after": change.after,
        "difference": change.difference,
        "relative": share,
        "direction": change.direction,
        "provenance": change.provenance,
        "failed": ", ".join(change.failed),
        "note": change.note,
    }
