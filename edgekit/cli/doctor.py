"""``edgekit doctor``: what works here, what is missing, and the command that mends it."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata
from typing import Annotated, Any

import typer

from edgekit.cli.render import Format, rows_as, show
from edgekit.errors import EdgekitError
from edgekit.targets.arm_cpu.cpus import ARCHITECTURES
from edgekit.targets.compiler import installed_version
from edgekit.targets.cycles.aarch64.llvm_mca import newest_mca
from edgekit.targets.toolchain import TOOLCHAINS
from edgekit.version import edgekit_version, library_versions

MENDING = {
    "arm-none-eabi-gcc": "apt install gcc-arm-none-eabi",
    "ziglang": "pip install ziglang",
    "qemu-system-arm": "apt install qemu-system-arm",
    "qemu-aarch64": "apt install qemu-user",
    "qemu-arm": "apt install qemu-user",
    "aarch64-linux-gnu-gcc": "apt install gcc-aarch64-linux-gnu",
    "arm-linux-gnueabihf-gcc": "apt install gcc-arm-linux-gnueabihf",
    "x86_64-linux-gnu-gcc": "apt install gcc-x86-64-linux-gnu",
    "cc": "apt install gcc",
    "llvm-mca": "apt install llvm-19",
}


OPTIONAL = {
    "torch": "capturing modules, training",
    "onnxscript": "capturing modules",
    "safetensors": "weights of modules, training",
    "scikit-learn": "the digits data set, the demo",
    "onnxruntime": "back end onnxruntime, Jetson models here",
    "ai-edge-litert": "back end litert",
}
"""Python packages that some verbs need."""


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
    return rows + [_row(name, what_for, _installed(name)) for name, what_for in OPTIONAL.items()]


def _installed(package: str) -> str | None:
    """Version of a Python package, None where it is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _compilers() -> list[dict[str, Any]]:
    uses = dict.fromkeys(TOOLCHAINS, "building for Cortex-M")
    uses["ziglang"] = "building for Cortex-M and ARM CPUs"
    uses |= {
        entry.gcc: f"building for {entry.name} under Linux" for entry in ARCHITECTURES.values()
    }
    return [_row(name, what_for, _version(name)) for name, what_for in uses.items()]


def _version(compiler: str) -> str | None:
    """What a compiler says about itself; None where it is absent, or there and broken."""
    try:
        return installed_version(compiler)
    except EdgekitError:
        return None


def _programs() -> list[dict[str, Any]]:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    return [
        _row("cc", "device local", compiler),
        _row("qemu-system-arm", "device qemu of Cortex-M", shutil.which("qemu-system-arm")),
        *(
            _row(entry.qemu, f"device qemu of {entry.name}", shutil.which(entry.qemu))
            for entry in ARCHITECTURES.values()
            if entry.qemu is not None
        ),
        _row("llvm-mca", "modelled cycles of Cortex-A", newest_mca()),
    ]
