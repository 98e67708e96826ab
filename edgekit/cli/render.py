"""Results as tables or data; one structure, four formats."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"


Row = Mapping[str, Any]

LONGEST = 52
"""Characters of one cell of a table for people; the other formats have everything."""

UNLIMITED = 400
"""Columns of a table that does not go to a terminal."""


def cell(value: Any) -> str:
    """A value for people: thousands apart, nothing as a dash.

    >>> cell(1234567), cell(0.25), cell(None), cell(True), cell(("a", "b"))
    ('1,234,567', '0.25', '-', 'yes', 'a, b')
    >>> cell(608888.0), cell(1234.56)
    ('608,888', '1,234.6')
    """
    if value is None or value == "" or value == ():
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        large = abs(value) >= 1000
        return f"{value:,.1f}".removesuffix(".0") if large else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(str(v) for v in value)
    return str(value)


def rows_as(rows: Sequence[Row], style: Format) -> str:
    """Rows with the same keys as text.

    >>> print(rows_as([{"layer": "conv", "macs": 1200}], Format.MD), end="")
    | layer | macs |
    |---|---|
    | conv | 1,200 |
    """
    if style is Format.JSON:
        return json.dumps(list(rows), indent=2) + "\n"
    columns = list(rows[0]) if rows else []
    if style is Format.CSV:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_field(v) for v in row.values()] for row in rows)
        return stream.getvalue()
    if style is Format.MD:
        lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        lines += [f"| {' | '.join(cell(v) for v in row.values())} |" for row in rows]
        return "\n".join(lines) + "\n"
    return _table(rows, columns)


def filled(rows: Sequence[Row]) -> list[Row]:
    """Rows with the same keys, without the columns that hold nothing.

    >>> filled([{"layer": "conv", "per_mac": None}, {"layer": "dense", "per_mac": None}])
    [{'layer': 'conv'}, {'layer': 'dense'}]
    """
    held = {key for row in rows for key, value in row.items() if value is not None}
    return [{key: value for key, value in row.items() if key in held} for row in rows]


def _field(value: Any) -> Any:
    """A value in a CSV file: nothing as nothing, several joined by blanks."""
    if isinstance(value, list | tuple):
        return " ".join(str(v) for v in value)
    return "" if value is None else value


def _table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numeric = any(isinstance(r[column], int | float) for r in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        # Text from models is data, never markup; its end tells more than its beginning.
        table.add_row(*(shortened(plain(cell(v))) for v in row.values()))
    stream = io.StringIO()
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else UNLIMITED
    console = Console(file=stream, width=width, markup=False, highlight=False, emoji=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()).strip("\n") + "\n"


def plain(text: str) -> str:
    """Control characters made visible: a name may not move the cursor."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def shortened(text: str, limit: int = LONGEST) -> str:
    """The end of a text that is too long for a column.

    >>> shortened("functional_1/conv2d_4/BiasAdd;functional_1/conv2d_4/Conv2D1", 20)
    '…_1/conv2d_4/Conv2D1'
    """
    return text if len(text) <= limit else "…" + text[1 - limit :]


def facts_as(facts: Row, style: Format) -> str:
    """Named values, one a line for people."""
    if style is Format.JSON:
        return json.dumps(dict(facts), indent=2) + "\n"
    if style is Format.TABLE:
        width = max(len(k) for k in facts)
        return "".join(f"{k:<{width}}  {plain(cell(v))}\n" for k, v in facts.items())
    return rows_as([{"name": k, "value": v} for k, v in facts.items()], style)


def show(text: str) -> None:
    """Print to stdout as it is."""
    typer.echo(text, nl=False)
