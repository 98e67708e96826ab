"""``edgekit report``: reports as one page to look at."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from edgekit.bench.report import write_text
from edgekit.errors import OutputError, UsageError
from edgekit.report.html import html_report
from edgekit.report.load import load_report

log = logging.getLogger("edgekit")

SUFFIXES = (".html", ".htm")
"""Of pages that are written."""


def report(
    reports: Annotated[list[Path], typer.Argument(help="Reports of bench (.json).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Page to write.")] = Path(
        "report.html"
    ),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "",
) -> None:
    """Write reports as one self-contained HTML file: charts, tables and where every figure is from.

    The page loads nothing from anywhere and runs no script.
    """
    if any(output.resolve() == path.resolve() for path in reports):
        raise UsageError(f"{output} is one of the reports; choose another output")
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{output}: a page is HTML, so its name must end in {' or '.join(SUFFIXES)}; "
            "edgekit bench --format md prints Markdown"
        )
    page = html_report(
        [load_report(path) for path in reports],
        title=title,
        names=[path.stem for path in reports],
    )
    try:
        write_text(output, page)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror}") from error
    log.info("wrote %s", output)
