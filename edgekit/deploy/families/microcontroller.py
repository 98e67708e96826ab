"""Microcontrollers: generated C, linked into an image that fits the board."""

from __future__ import annotations

import shutil
from dataclasses import replace

from edgekit.deploy.families import library
from edgekit.deploy.families.family import Family, Job, Parts
from edgekit.deploy.layout import IMAGE
from edgekit.deploy.machines import open_library
from edgekit.deploy.manifest import BuildRecord, Configuration, MemoryRecord
from edgekit.targets.c.emit import Emission
from edgekit.targets.image import Image, build_image
from edgekit.targets.qemu import QEMU
from edgekit.targets.target import Target
from edgekit.targets.toolchain import Toolchain, find_toolchain


def _find_tools(target: Target, configuration: Configuration) -> Toolchain:
    return find_toolchain(configuration.toolchain or None)


def _build(job: Job) -> Parts:
    """Emit, link, refuse what does not fit, run the vectors on the emulated core."""
    emission = library.emit_library(job)
    image = build_image(
        emission.library,
        job.target,
        folder=job.stage / "work",
        toolchain=job.tools,
        stack_bytes=job.configuration.stack_bytes,
    )
    image.require_fit()
    arrays = library.write_library(job, emission)
    (job.stage / IMAGE).write_bytes(image.path.read_bytes())
    check, stack = library.unchecked(), None
    device = job.target.devices[0] if job.target.devices else None
    if device is not None and (device != "qemu" or shutil.which(QEMU) is not None):
        machine = open_library(emission.library, job.target, device, image.linked)
        check, stack = library.check_vectors(emission, machine, device, arrays)
    shutil.rmtree(image.folder)
    build = image.build
    return Parts(
        check=check,
        memory=_memory(emission, image, job.target, stack),
        interface=library.interface_of(emission),
        layers=emission.layers,
        build=BuildRecord(build.toolchain, build.version, build.flags),
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
