"""Processors under an operating system: generated C beside files for the usual runtimes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgekit.deploy.comparison import coded_layers
from edgekit.deploy.families import library
from edgekit.deploy.families.family import Family, Job, Parts
from edgekit.deploy.layout import SOURCES
from edgekit.deploy.machines import open_library
from edgekit.deploy.manifest import BuildRecord, Configuration, ModelFile
from edgekit.deploy.ondevice import OnDevice
from edgekit.deploy.readme import processor_section
from edgekit.errors import UnsupportedError
from edgekit.program import tflite
from edgekit.program.to_onnx import to_onnx
from edgekit.targets.arm_cpu.shared import build_shared
from edgekit.targets.arm_cpu.toolchain import CrossToolchain, find_cross
from edgekit.targets.library import Library
from edgekit.targets.machine import Machine
from edgekit.targets.target import Target

ONNX, TFLITE, FLOAT = "model.onnx", "model.tflite", "float.onnx"


def _find_cross(target: Target, configuration: Configuration) -> CrossToolchain:
    assert target.cpu is not None
    return find_cross(target.cpu, configuration.toolchain or None)


def _native(job: Job) -> Parts:
    """This machine: the sources are compiled whenever they are run."""
    emission = library.emit_library(job)
    arrays = library.write_library(job, emission)
    machine = open_library(emission.library, job.target, "local", None)
    check, _ = library.check_vectors(emission, machine, "local", arrays)
    models, notes = _models(job)
    return Parts(
        check=check,
        memory=library.memory_of(emission),
        interface=library.interface_of(emission),
        layers=emission.layers,
        coded=coded_layers(emission.program),
        models=models,
        notes=notes,
    )


def _cross(job: Job) -> Parts:
    """Another machine: a shared object that needs no C library, run here by an emulator."""
    assert job.target.cpu is not None
    cpu = job.target.cpu
    emission = library.emit_library(job)
    work = job.stage / "work"
    built = build_shared(emission.library, cpu, folder=work, toolchain=job.tools)
    arrays = library.write_library(job, emission)
    (job.stage / built.path.name).write_bytes(built.path.read_bytes())
    device = job.target.devices[0]

    def opened(other: Library, folder: Path) -> Machine:
        twin = build_shared(other, cpu, folder=folder, toolchain=job.tools)
        return open_library(other, job.target, device, twin)

    own = partial(open_library, emission.library, job.target, device, built)
    check, stack = library.check_vectors(emission, own(), device, arrays)
    coded, uncounted = library.count_coded(job, emission, device, own, opened)
    shutil.rmtree(work)
    assert built.build is not None
    models, notes = _models(job)
    notes += uncounted
    with (job.stage / "README.md").open("a", encoding="utf-8", newline="\n") as readme:
        readme.write(
            processor_section(job.target, library=built.path.name, models=models, notes=notes)
        )
    blob = f"{SOURCES}/{emission.library.blob_file}"
    return Parts(
        check=check,
        memory=replace(
            library.memory_of(emission),
            stack=stack,
            code=built.sizes.code + built.sizes.rodata,
        ),
        interface=library.interface_of(emission),
        layers=emission.layers,
        coded=coded,
        build=BuildRecord(built.build.toolchain, built.build.version, built.build.flags),
        models=models,
        notes=notes,
        ondevice=OnDevice(
            emission.program,
            library_file=built.path.name,
            weights_file=None if emission.library.blob is None else blob,
            plan=emission.plan,
        ),
    )


def _models(job: Job) -> tuple[tuple[ModelFile, ...], tuple[str, ...]]:
    """The same Program for ONNX Runtime and LiteRT, and the float model as a baseline.

    Returns:
        The files, and why one is missing where a format cannot say the Program.
    """
    program = job.source.program
    if job.source.spiking is not None:
        # Neither format has state; edgekit.spiking.to_window_model makes a Scan of a window.
        return (), ()
    precision = "int8" if any(t.dtype.is_integer for t in program.tensors.values()) else "float32"
    files: list[ModelFile] = []
    notes: list[str] = []
    for name, runtime, write in ((ONNX, "onnxruntime", to_onnx), (TFLITE, "litert", tflite.write)):
        try:
            content = write(program)
        except UnsupportedError as error:
            notes.append(f"no {name}: {error}")
            continue
        (job.stage / name).write_bytes(content)
        files.append(ModelFile(runtime, name, precision))  # type: ignore[arg-type]
    if job.source.reference is not None:
        try:
            (job.stage / FLOAT).write_bytes(to_onnx(job.source.reference))
            files.append(ModelFile("onnxruntime", FLOAT, "float32"))
        except UnsupportedError as error:
            notes.append(f"no {FLOAT}: {error}")
    return tuple(files), tuple(notes)


NATIVE = Family(lambda target, configuration: None, _native)
CROSS = Family(_find_cross, _cross)
