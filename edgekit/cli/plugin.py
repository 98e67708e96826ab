"""Operators of the user's own on the command line."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from edgekit.errors import UsageError


def load_plugin(path: Path) -> None:
    """Run a Python file that registers operators, kernels and lowerings.

    Raises:
        UsageError: no such file, or it raises; names the file and the reason.
    """
    if not path.is_file():
        raise UsageError(f"plugin {path}: no such file")
    name = f"edgekit_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"plugin {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        # Foreign code may raise anything; the user needs the place, not our stack.
        raise UsageError(f"plugin {path}: {type(error).__name__}: {error}") from error
