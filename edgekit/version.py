"""The version of edgekit and of the libraries that take part in an export."""

from __future__ import annotations

from importlib import metadata

PARTS = ("numpy", "onnx", "onnx-ir", "pyelftools", "capstone", "unicorn")
"""Libraries whose version can change a result or a figure."""


def edgekit_version() -> str:
    """The installed version."""
    return metadata.version("edgekit")


def library_versions() -> tuple[tuple[str, str], ...]:
    """Name and version of every part that is installed."""
    found = []
    for name in PARTS:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)
