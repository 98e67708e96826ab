"""A report as plain text, for a terminal without anything installed."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.bench.protocol import Latency
from edgekit.bench.report import Report, Run

COLUMNS = (
    "backend",
    "version",
    "precision",
    "role",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "first ms",
    "CoV",
    "differing",
    "accuracy",
)


def summary(report: Report) -> str:
    """One line a run, under what was run on what."""
    machine = report.environment
    words = (machine.board, machine.cpu, machine.machine, machine.system)
    facts = {
        "artifact": f"{report.artifact.name} for {report.artifact.target}",
        "machine": " ".join(word for word in words if word),
        "power mode": machine.power_mode or "-",
    }
    if report.preprocessing is not None and report.preprocessing.latency_ms is not None:
        facts["preprocessing"] = f"p50 {report.preprocessing.latency_ms.p50:.4f} ms (measured)"
    head = "".join(f"{key:<14}{printable(value)}\n" for key, value in facts.items())
    return head + "\n" + table(COLUMNS, [_row(run) for run in report.runs])


def _row(run: Run) -> tuple[str, ...]:
    agreement, accuracy = run.agreement, run.accuracy
    return (
        run.backend,
        run.backend_version,
        run.precision,
        run.role,
        *_times(run.latency_ms),
        "-" if agreement is None else f"{agreement.rate:.2%}",
        "-" if accuracy is None else f"{accuracy.value:.4f} of {accuracy.samples}",
    )


def _times(latency: Latency | None) -> tuple[str, ...]:
    if latency is None:
        return ("-",) * 5
    values = (latency.p50, latency.p90, latency.p99, latency.first)
    return (
        *("-" if value is None else f"{value:.4f}" for value in values),
        "-" if latency.cov is None else f"{latency.cov:.1%}",
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be.

    >>> print(table(("a", "bc"), [("x", "y")]), end="")
    a  bc
    x  y
    """
    lines = [tuple(columns), *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    text = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "".join(f"{line}\n" for line in text)


def printable(text: str) -> str:
    """Control characters made visible: a name may not move the cursor."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
