"""Shared objects for tests: the hand-written library and probes, each built once per test run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest

from edgekit.targets.arm_cpu.cpus import CPUS
from edgekit.targets.arm_cpu.shared import SharedObject, build_shared
from edgekit.targets.arm_cpu.toolchain import NATIVE_GCC, find_cross
from edgekit.targets.compiler import ZIGLANG
from edgekit.targets.library import Layer, Library
from edgekit.targets.machine import Machine
from tests.support.images import fresh_folder
from tests.support.tiny_library import tiny_library

EMULATED = ("aarch64", "armv7", "cortex-a53", "cortex-a72", "cortex-a76")

INTACT = """
int tiny_weights_intact(const tiny_context *ctx);
int tiny_weights_intact(const tiny_context *ctx) { return ctx != 0; }
"""


def whole_tiny_library() -> Library:
    """The hand-written library with every function of the interface."""
    library = tiny_library()
    source = library.files["tiny.c"]
    assert isinstance(source, str)
    return replace(library, files={**library.files, "tiny.c": source + INTACT})


def with_probes(source: str, *functions: str) -> Library:
    """The hand-written library with a further C file, of which `functions` can be called."""
    library = whole_tiny_library()
    kept = tuple(Layer(name, name, "probe") for name in functions)
    return replace(
        library, files={**library.files, "probe.c": source}, layers=library.layers + kept
    )


def builds(*cpus: str) -> list[object]:
    """Parameters (cpu, toolchain) for the compilers of some processors, marked by their need."""
    found = []
    for cpu in cpus:
        gcc = CPUS[cpu].platform.gcc
        # The host's own processors have the host's own compiler.
        tools = ((NATIVE_GCC, "cc") if cpu == "x86-64" else (gcc, gcc), (ZIGLANG, ZIGLANG))
        for name, need in tools:
            mark = pytest.mark.needs(need)
            found.append(pytest.param(cpu, name, marks=mark, id=f"{cpu}-{name}"))
    return found


@cache
def tiny_shared(cpu: str, toolchain: str) -> SharedObject:
    """The hand-written library for a processor."""
    return shared_of(whole_tiny_library(), cpu, toolchain)


def shared_of(library: Library, cpu: str, toolchain: str | None = None) -> SharedObject:
    """A library for a processor."""
    found = find_cross(CPUS[cpu], toolchain)
    return build_shared(library, CPUS[cpu], folder=fresh_folder(), toolchain=found)


def run_tiny(machine: Machine, inputs: Sequence[bytes], run: str = "run") -> list[bytes]:
    """Feed, run and read the hand-written library."""
    library = tiny_library()
    for port, data in zip(library.inputs, inputs, strict=True):
        machine.write(port.offset, data)
    getattr(machine, run)()
    return [machine.read(port.offset, port.bytes) for port in library.outputs]
