"""How results are kept: ``results/<name>.json``, written by a script, never by hand."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from edgekit.version import edgekit_version, library_versions

ROOT = Path(__file__).resolve().parents[1]


def arguments(description: str, name: str) -> argparse.ArgumentParser:
    """The options that every script has: where the data lies and where the result goes."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    data = os.environ.get("EDGEKIT_DATA")
    parser.add_argument("--data", type=Path, default=data, required=data is None)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / f"{name}.json")
    return parser


def write(
    path: Path,
    rows: Sequence[dict[str, Any]],
    *,
    command: str,
    seed: int,
    libraries: Sequence[str] = (),
    **facts: Any,
) -> None:
    """Write a results file.

    Args:
        path: the file; its folder is made.
        rows: one per run, snake_case keys with their unit in the name.
        command: that makes the file again.
        seed: of everything drawn.
        libraries: packages whose versions matter beside edgekit's own.
        facts: what else holds for all rows.
    """
    versions = {"edgekit": edgekit_version(), **dict(library_versions())}
    versions |= {name: metadata.version(name) for name in libraries}
    document = {
        "schema": 1,
        "command": command,
        "versions": versions,
        "seed": seed,
        **facts,
        "rows": list(rows),
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
