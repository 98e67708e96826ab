"""The command line: one file per verb, thin over the Python interface."""

from edgekit.cli.app import main

__all__ = ["main"]
