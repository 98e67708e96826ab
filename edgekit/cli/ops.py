"""``edgekit ops``: operator × format on a target."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.render import Format, rows_as, show
from edgekit.targets.legality import FORMATS, legality
from edgekit.targets.target import target


def ops(
    name: Annotated[str, typer.Option("--target", "-t", help="A target.")] = "host",
    style: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Which operator runs in which format on a target.

    ``view`` costs nothing, ``soft-float`` runs without an FPU, ``-`` cannot run.
    """
    rows = [
        {"operator": row.operator, **{str(f): row.word(f) for f in FORMATS}}
        for row in legality(target(name))
    ]
    show(rows_as(rows, style))
