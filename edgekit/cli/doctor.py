"""``edgekit doctor``: what works here, what is missing, and the command that mends it."""

from __future__ import annotations

import platform
import shutil
from typing import Annotated, Any

import typer

from edgekit.cli.render import Format, rows_as, show
from edgekit.errors import EdgekitError
from edgekit.targets.toolchain import TOOLCHAINS, find_toolchain
from edgekit.version import edgekit_version, library_versions

MENDING = {
    "arm-none-eabi-gcc": "apt install gcc-arm-none-eabi",
    "ziglang": "pip install ziglang",
    "qemu-system-arm": "apt install qemu-system-arm",
    "cc": "apt install gcc",
}


def doctor(
    style: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """What works here, what is missing, and the command that mends it.

    Exit code 4 when nothing here can build for a microcontroller.
    """
    rows = [*_python(), *_compilers(), *_programs()]
    show(rows_as(rows, style))
    builders = [r for r in rows if r["part"] in TOOLCHAINS and r["status"] == "works"]
    if not builders:
        raise typer.Exit(4)


def _row(part: str, what_for: str, found: str | None) -> dict[str, Any]:
    return {
        "part": part,
        "for": what_for,
        "status": "works" if found else "missing",
        "version": found,
        "mend": None if found else MENDING.get(part, f"pip install {part}"),
    }


def _python() -> list[dict[str, Any]]:
    rows = [
        _row("python", "everything", platform.python_version()),
        _row("edgekit", "everything", edgekit_version()),
    ]
    uses = {"unicorn": "device emulator", "capstone": "counting instructions"}
    rows += [_row(n, uses.get(n, "reading models, exporting"), v) for n, v in library_versions()]
    return rows


def _compilers() -> list[dict[str, Any]]:
    rows = []
    for name in TOOLCHAINS:
        try:
            found: str | None = find_toolchain(name).version
        except EdgekitError:
            # Absent, or there and broken.
            found = None
        rows.append(_row(name, "building for Cortex-M", found))
    return rows


def _programs() -> list[dict[str, Any]]:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    return [
        _row("cc", "device local", compiler),
        _row("qemu-system-arm", "device qemu", shutil.which("qemu-system-arm")),
    ]
