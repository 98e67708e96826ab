"""Images of the hand-written library, each built once per test run, and code to probe with."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from edgekit.targets.cores import CORES
from edgekit.targets.emulated import EmulatedMachine
from edgekit.targets.emulator import Emulator
from edgekit.targets.image import Image, build_image
from edgekit.targets.library import Layer, Library
from edgekit.targets.target import target
from edgekit.targets.toolchain import find_toolchain
from tests.support.tiny_library import tiny_library

GCC = "arm-none-eabi-gcc"
ZIG = "ziglang"
TOOLCHAINS = [pytest.param(name, marks=pytest.mark.needs(name), id=name) for name in (GCC, ZIG)]
EMULATED = [name for name, core in CORES.items() if core.unicorn_model is not None]

_folder = tempfile.TemporaryDirectory(prefix="edgekit-tests-")


def fresh_folder() -> Path:
    """A new folder that lives as long as the test run."""
    return Path(tempfile.mkdtemp(dir=_folder.name))


@cache
def tiny_image(toolchain: str, target_name: str) -> Image:
    """The hand-written library built for a target."""
    return build_image(
        tiny_library(),
        target(target_name),
        folder=fresh_folder(),
        toolchain=find_toolchain(toolchain),
    )


def machine_of(image: Image) -> EmulatedMachine:
    """An image's library on its emulated core."""
    return EmulatedMachine(image.library, image.target, image.elf)


def with_code(source: str, *functions: str) -> Library:
    """The hand-written library with a further C file, of which `functions` can be called."""
    library = tiny_library()
    kept = tuple(Layer(name, name, "probe") for name in functions)
    return replace(
        library,
        files={**library.files, "probe.c": source},
        layers=library.layers + kept,
    )


def probe(source: str, *functions: str, core: str, toolchain: str = GCC) -> Image:
    """An image that holds `functions` of a C file beside the hand-written library."""
    return build_image(
        with_code(source, *functions),
        target(core),
        folder=fresh_folder(),
        toolchain=find_toolchain(toolchain),
    )


def emulator_of(image: Image, **options: float) -> Emulator:
    """An image on its emulated core."""
    return Emulator(image.target, image.elf, **options)  # type: ignore[arg-type]
