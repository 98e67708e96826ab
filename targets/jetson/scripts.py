"""The scripts that an artifact carries to the device."""

from __future__ import annotations

from importlib import resources


def device_scripts() -> dict[str, str]:
    """Text by file name, as it lies in ``ondevice/``.

    >>> sorted(device_scripts())
    ['build.py']
    """
    folder = resources.files("edgekit.targets.jetson") / "ondevice"
    return {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda e: e.name)
        if entry.name.endswith(".py") and not entry.name.startswith("_")
    }
