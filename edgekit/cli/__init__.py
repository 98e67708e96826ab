"""The command line: one file per verb, thin over the Python interface."""

from __future__ import annotations

import sys

from edgekit.errors import ToolchainMissingError


def main() -> None:
    """Run the command line; a missing package is one line that names it."""
    try:
        from edgekit.cli.app import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "edgekit":
            raise
        sys.stderr.write(f"edgekit: package {error.name} is missing: pip install edgekit\n")
        sys.exit(ToolchainMissingError.exit_code)
    run()
