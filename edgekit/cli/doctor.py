"""``edgekit doctor``: what works here, what is missing, and the command that mends it."""

from __future__ import annotations

import platform
import shutil
from contextlib import suppress
from importlib import metadata
from typing import Annotated, Any

import typer

from edgekit.cli.render import Format, rows_as, show
from edgekit.errors import EdgekitError
from edgekit.targets.arm_cpu.cpus import ARCHITECTURES
from edgekit.targets.compiler import installed_version
from edgekit.targets.cycles.aarch64.llvm_mca import find_mca
from edgekit.targets.cycles.aarch64.processors import PROCESSORS
from edgekit.targets.cycles.trace.native_recorder import load_recorder
from edgekit.targets.host import host_compiler
from edgekit.targets.qemu import qemu_version, tracing_plugin
from edgekit.targets.toolchain import TOOLCHAINS
from edgekit.version import edgekit_version, library_versions

RECORDER = "recorder in C"
PLUGIN = "plugin of qemu-system-arm"

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
    RECORDER: "apt install gcc libc6-dev",
    PLUGIN: "apt install qemu-system-arm gcc libc6-dev",
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
    rows = [*_python(), *_compilers(), *_programs(), *_cycles()]
    show(rows_as(rows, style))
    builders = [r for r in rows if r["part"] in TOOLCHAINS and r["status"] == "works"]
    if not builders:
        raise typer.Exit(4)


def _row(part: str, what_for: str, found: str | None, mend: str | None = None) -> dict[str, Any]:
    return {
        "part": part,
        "for": what_for,
        "status": "works" if found else "missing",
        "version": found,
        "mend": None if found else mend or MENDING.get(part, f"pip install {part}"),
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
    ]


def _cycles() -> list[dict[str, Any]]:
    """What cycles are modelled with; each is tried."""
    return [_recorder(), _plugin(), _models()]


def _recorder() -> dict[str, Any]:
    found = mend = None
    try:
        load_recorder()
        found = host_compiler().version
    except EdgekitError:
        pass
    except OSError:
        mend = "export TMPDIR=FOLDER, with a folder that programs may be run from"
    return _row(RECORDER, "modelled cycles of Cortex-M, fast", found, mend)


def _plugin() -> dict[str, Any]:
    found = None
    with suppress(EdgekitError):
        tracing_plugin()
        found = qemu_version().removeprefix("QEMU emulator version ")
    return _row(PLUGIN, "modelled cycles of the Cortex-M55", found)


def _models() -> dict[str, Any]:
    found = None
    with suppress(EdgekitError):
        versions = {find_mca(processor).version for processor in PROCESSORS.values()}
        found = ", ".join(sorted(versions))
    return _row("llvm-mca", "modelled cycles of Cortex-A", found)
