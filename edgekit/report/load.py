"""Reports from files, with errors for people."""

from __future__ import annotations

from pathlib import Path

from edgekit.bench.fields import ReportError
from edgekit.bench.report import Report, read_report
from edgekit.errors import UsageError


def load_report(path: Path | str) -> Report:
    """A report that ``edgekit bench`` or a board wrote.

    Raises:
        UsageError: unreadable, no report, or one of another schema version; says what is wrong.
    """
    try:
        return read_report(Path(path))
    except ReportError as error:
        raise UsageError(str(error)) from error
