"""Microcontrollers: generated C, linked into an image that fits the board."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgekit.deploy.comparison import coded_layers
from edgekit.deploy.families import library
from edgekit.deploy.families.family import Family, Job, Parts
from edgekit.deploy.layout import IMAGE
from edgekit.deploy.machines import open_library
from edgekit.deploy.manifest import BuildRecord, Configuration, MemoryRecord
from edgekit.targets.c.emit import Emission
from edgekit.targets.image import Image, build_image
from edgekit.targets.library import Library
from edgekit.targets.machine import Machine
from edgekit.targets.qemu import QEMU
from edgekit.targets.target import Target
from edgekit.targets.toolchain import Toolchain, find_toolchain


def _find_tools(target: Target, configuration: Configuration) -> Toolchain:
    return find_toolchain(configuration.toolchain or None)


def _build(job: Job) -> Parts:
    """Emit, link, refuse what does not fit, run the vectors on the emulated core."""
    emission = library.emit_library(job)
    image = _linked(job, emission.library, job.stage / "work")
    image.require_fit()
    arrays = library.write_library(job, emission)
    (job.stage / IMAGE).write_bytes(image.path.read_bytes())
    check, stack = library.unchecked(arrays), None
    coded, notes = coded_layers(emission.program), tuple[str, ...]()
    device = job.target.devices[0] if job.target.devices else None
    if device is not None and (device != "qemu" or shutil.which(QEMU) is not None):

        def opened(other: Library, folder: Path) -> Machine:
            twin = _linked(job, other, folder)
            twin.require_fit()
            return open_library(other, job.target, device, twin.linked)

        own = partial(open_library, emission.library, job.target, device, image.linked)
        check, stack = library.check_vectors(emission, own(), device, arrays)
        coded, notes = library.count_coded(job, emission, device, own, opened)
    shutil.rmtree(image.folder)
    build = image.build
    return Parts(
        check=check,
        memory=_memory(emission, image, job.target, stack),
        interface=library.interface_of(emission),
        layers=emission.layers,
        coded=coded,
        build=BuildRecord(build.toolchain, build.version, build.flags),
        notes=notes,
    )


def _linked(job: Job, made: Library, folder: Path) -> Image:
    return build_image(
        made,
        job.target,
        folder=folder,
        toolchain=job.tools,
        stack_bytes=job.configuration.stack_bytes,
    )


def _memory(emission: Emission, image: Image, target: Target, stack: int | None) -> MemoryRecord:
    sizes = image.sizes
    return replace(
        library.memory_of(emission),
        activations=sizes.arena,
        state=sizes.state,
        weights=sizes.weights,
        stack=stack,
        stack_reserved=sizes.stack,
        code=sizes.code + sizes.rodata,
        runtime=sizes.runtime,
        ram=sizes.arena + sizes.state + sizes.stack,
        flash=sizes.model_flash_bytes,
        ram_available=target.data_bytes,
        flash_available=target.program_bytes,
    )


FAMILY = Family(_find_tools, _build)
