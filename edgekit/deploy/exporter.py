"""Export: a model file becomes an artifact for a target."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgekit.deploy.artifact import BOARD, IMAGE, SOURCES, Artifact, load, open_library
from edgekit.deploy.benchmark import seeded_inputs
from edgekit.deploy.manifest import (
    SCHEMA,
    BuildRecord,
    Configuration,
    Interface,
    Manifest,
    MemoryRecord,
    VectorCheck,
)
from edgekit.deploy.session import Session
from edgekit.deploy.source import Calibration, Source, read_source, refuse_module, take_program
from edgekit.deploy.staging import check_destination, staged
from edgekit.errors import UsageError, VerificationError
from edgekit.program import serialize
from edgekit.program.fuse import fuse_residual
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, Program
from edgekit.targets.c.emit import Emission, emit, library_name
from edgekit.targets.c.extras import Vector, companion_files
from edgekit.targets.host import write_files
from edgekit.targets.image import Image, build_image
from edgekit.targets.qemu import QEMU
from edgekit.targets.target import Target, target
from edgekit.targets.toolchain import find_toolchain
from edgekit.version import edgekit_version, library_versions

VECTORS = 2
"""Test vectors in an artifact."""


def export(
    model: object,
    example_inputs: object = None,
    *,
    target: str,
    calibration: Calibration | None = None,
    output: Path | str | None = None,
    name: str | None = None,
    **options: object,
) -> Artifact:
    """Turn a model into an artifact: C sources, an image for the target, vectors, a manifest.

    Args:
        model: path of a ``.tflite`` or ``.onnx`` file, or a Program.
        example_inputs: for modules; a file needs none.
        target: name of a target (``edgekit targets list``), or the path of a board's TOML file.
        calibration: representative inputs that quantise a float ``.onnx`` model: the path of an
            ``.npz`` file, arrays by input name, or one array. First axis counts samples.
        output: folder to make; default ``build/<name>-<target>``. An artifact there is replaced.
        name: of the network, prefix of every C symbol; default the file's name.
        options: further fields of :class:`~edgekit.deploy.manifest.Configuration`.

    Returns:
        The artifact, on disk whole.

    Raises:
        UsageError: wrong options, no usable model or data, an output that cannot be written.
        UnsupportedError: operators that cannot run on the target, or a model that does not fit it.
        ToolchainMissingError: no compiler for the target.
        VerificationError: the compiled code differs from its reference; a bug, please report it.
    """
    if not isinstance(model, str | Path | Program):
        refuse_module(model)
    if not isinstance(target, str):
        raise UsageError(f"target is {target!r}, must be the name of one")
    if output is not None and not isinstance(output, str | Path):
        raise UsageError(f"output is {output!r}, must be a path")
    if example_inputs is not None:
        raise UsageError("example_inputs belong to modules; a model file knows its inputs")
    where = _target(target)
    configuration = _configuration(_stem(model), where, name, options)
    folder = Path(output) if output is not None else _default_output(configuration, where)
    check_destination(folder)
    toolchain = None if where.core is None else find_toolchain(configuration.toolchain or None)
    if isinstance(model, Program):
        if calibration is not None:
            raise UsageError("calibration data is for float .onnx models")
        source = take_program(model, where, configuration)
    else:
        source = read_source(Path(str(model)), where, configuration, calibration)
    program, _ = fuse_residual(source.program)
    emission = emit(
        program,
        features=where.features,
        separate_weights=configuration.separate_weights,
        version=edgekit_version(),
    )
    with staged(folder) as stage:
        image = None
        if where.core is not None:
            image = build_image(
                emission.library,
                where,
                folder=stage / "work",
                toolchain=toolchain,
                stack_bytes=configuration.stack_bytes,
            )
            image.require_fit()
        if target.endswith(".toml"):
            shutil.copyfile(target, stage / BOARD)
        _write(stage, emission, source, configuration, where, image)
    return load(folder)


def _target(name: str) -> Target:
    return target(name)


def _stem(model: object) -> str:
    return model.name if isinstance(model, Program) else Path(str(model)).stem


def _configuration(
    stem: str, where: Target, name: str | None, options: Mapping[str, object]
) -> Configuration:
    if name is not None and not isinstance(name, str):
        raise UsageError(f"name is {name!r}, must be a text")
    network = library_name(name if name is not None else stem)
    known = Configuration.__dataclass_fields__.keys() - {"target", "name"}
    unknown = sorted(options.keys() - known)
    if unknown:
        raise UsageError(f"unknown options {unknown}; known: {sorted(known)}")
    text = serialize.encode(Configuration(where.name, network)) | dict(options)
    shapes = options.get("input_shapes", {})
    if not isinstance(shapes, Mapping):
        raise UsageError(f"input_shapes is {shapes!r}, must be a mapping of names to shapes")
    text["input_shapes"] = [
        [key, list(shape) if isinstance(shape, list | tuple) else shape]
        for key, shape in sorted(shapes.items())
    ]
    try:
        configuration: Configuration = serialize.decode_dataclass(Configuration, text, "options")
    except serialize.FieldError as error:
        raise UsageError(str(error)) from error
    if configuration.seed < 0:
        raise UsageError(f"seed is {configuration.seed}, must not be negative")
    limit = configuration.calibration_limit
    if limit is not None and limit < 1:
        raise UsageError(f"calibration_limit is {limit}, must be positive")
    if not 256 <= configuration.stack_bytes <= 1 << 20:
        raise UsageError(f"stack_bytes is {configuration.stack_bytes}, must be in 256…1048576")
    return configuration


def _default_output(configuration: Configuration, where: Target) -> Path:
    return Path("build") / f"{configuration.name}-{re.sub(r'[^a-z0-9.-]', '-', where.name)}"


def _write(
    stage: Path,
    emission: Emission,
    source: Source,
    configuration: Configuration,
    where: Target,
    image: Image | None,
) -> None:
    """Fill the staging folder and run the test vectors on what was built."""
    write_files(emission.library, stage / SOURCES)
    serialize.save(emission.program, stage)
    if source.reference is not None:
        (stage / "reference").mkdir()
        serialize.save(source.reference, stage / "reference")
    arrays, vectors = _vectors(emission, configuration.seed)
    np.savez(stage / "vectors.npz", allow_pickle=False, **arrays)
    companions = companion_files(
        emission,
        vectors,
        separate_weights=configuration.separate_weights,
        seed=configuration.seed,
        version=edgekit_version(),
    )
    for name, text in companions.items():
        path = stage / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    if image is not None:
        (stage / IMAGE).write_bytes(image.path.read_bytes())
    check, stack = _check(emission, where, image, arrays)
    if image is not None:
        shutil.rmtree(image.folder)
    manifest = Manifest(
        schema=SCHEMA,
        edgekit=edgekit_version(),
        model=source.record,
        configuration=configuration,
        family=where.family,
        versions=library_versions(),
        calibration=source.calibration,
        build=_build(image),
        interface=_interface(emission),
        layers=emission.layers,
        fallbacks=source.fallbacks,
        notes=source.notes,
        memory=_memory(emission, image, where, stack),
        check=check,
    )
    manifest.with_files(stage).write(stage)


def _vectors(emission: Emission, seed: int) -> tuple[dict[str, Array], list[Vector]]:
    """Seeded inputs and exact outputs: arrays by key for ``vectors.npz``, and bytes for C."""
    program = emission.program
    interpreter = Interpreter(program)
    arrays: dict[str, list[Array]] = {}
    vectors = []
    for number in range(VECTORS):
        inputs = seeded_inputs(program, seed + number)
        values: dict[str, Array] = {}
        results = interpreter.run(inputs, values.__setitem__)
        for name, value in inputs.items():
            arrays.setdefault(f"input/{name}", []).append(value)
        for name, value in results.items():
            arrays.setdefault(f"output/{name}", []).append(value)
        vectors.append(
            Vector.of(
                [values[b.tensor] for b in program.inputs],
                [values[b.tensor] for b in program.outputs],
            )
        )
    return {key: np.stack(parts) for key, parts in arrays.items()}, vectors


def _check(
    emission: Emission, where: Target, image: Image | None, arrays: Mapping[str, Array]
) -> tuple[VectorCheck, int | None]:
    """Run the vectors on the target's emulator, or on the host, and demand the same bits.

    Raises:
        VerificationError: names the first output that differs.
    """
    device = where.devices[0] if where.devices else None
    if device is None or (device == "qemu" and shutil.which(QEMU) is None):
        return VectorCheck(None, VECTORS, None), None
    machine = open_library(emission.library, where, device, image.linked if image else None)
    with Session(emission.program, emission.library, emission.layers, machine, device) as session:
        for number in range(VECTORS):
            inputs = {b.name: arrays[f"input/{b.name}"][number] for b in emission.program.inputs}
            for name, got in session.run_named(inputs).items():
                if got.tobytes() != arrays[f"output/{name}"][number].tobytes():
                    raise VerificationError(
                        f"output {name!r} of vector {number} differs between {device} "
                        "and the exact reference; this is a bug in edgekit, please report it"
                    )
        stack = session.stack_bytes()
    return VectorCheck(device, VECTORS, True), stack


def _build(image: Image | None) -> BuildRecord | None:
    if image is None:
        return None
    build = image.build
    return BuildRecord(build.toolchain, build.version, build.flags)


def _interface(emission: Emission) -> Interface:
    library = emission.library
    return Interface(
        prefix=library.prefix,
        arena_bytes=library.arena_bytes,
        arena_alignment=library.arena_alignment,
        state_bytes=library.state_bytes,
        weights_bytes=library.weights_bytes,
        inputs=library.inputs,
        outputs=library.outputs,
    )


def _memory(
    emission: Emission, image: Image | None, where: Target, stack: int | None
) -> MemoryRecord:
    library = emission.library
    record = MemoryRecord(
        activations=library.arena_bytes,
        peak_live=emission.plan.peak_bytes,
        state=library.state_bytes,
        weights=library.weights_bytes,
    )
    if image is None:
        return record
    sizes = image.sizes
    return replace(
        record,
        activations=sizes.arena,
        state=sizes.state,
        weights=sizes.weights,
        stack=stack,
        stack_reserved=sizes.stack,
        code=sizes.code + sizes.rodata,
        runtime=sizes.runtime,
        ram=sizes.arena + sizes.state + sizes.stack,
        flash=sizes.model_flash_bytes,
        ram_available=where.data_bytes,
        flash_available=where.program_bytes,
    )
