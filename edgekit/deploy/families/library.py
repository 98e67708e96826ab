"""What every artifact with generated C holds: sources, the Program, vectors, companions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgekit.deploy.benchmark import seeded_inputs
from edgekit.deploy.comparison import Opener, coded_layers, counted
from edgekit.deploy.families.family import Job
from edgekit.deploy.layout import REFERENCE, SOURCES, VECTORS
from edgekit.deploy.manifest import CodedLayer, Interface, MemoryRecord, VectorCheck
from edgekit.deploy.session import Session
from edgekit.errors import VerificationError
from edgekit.program import serialize
from edgekit.program.fuse import fuse_residual
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, Program
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.c.extras import Vector, companion_files
from edgekit.targets.host import write_files
from edgekit.targets.machine import Machine
from edgekit.version import edgekit_version

COUNT = 2
"""Test vectors in an artifact."""


def emit_library(job: Job) -> Emission:
    """The generated C of a job's Program."""
    program, _ = fuse_residual(job.source.program)
    return emit(
        program,
        features=job.target.features,
        separate_weights=job.configuration.separate_weights,
        version=edgekit_version(),
    )


def write_library(job: Job, emission: Emission) -> dict[str, Array]:
    """Fill the stage with everything that does not depend on a compiler.

    Returns:
        The test vectors by key: ``input/<name>`` and ``output/<name>``, the first axis counts.
    """
    stage, seed = job.stage, job.configuration.seed
    write_files(emission.library, stage / SOURCES)
    write_programs(stage, emission.program, job.source.reference)
    arrays, vectors = _vectors(emission, seed)
    save_vectors(job, arrays)
    companions = companion_files(
        emission,
        vectors,
        separate_weights=job.configuration.separate_weights,
        seed=seed,
        version=edgekit_version(),
    )
    for name, text in companions.items():
        path = stage / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    return arrays


def write_programs(stage: Path, program: Program, reference: Program | None = None) -> None:
    """The Program that runs, and the float one that it was quantised from."""
    serialize.save(program, stage)
    if reference is not None:
        (stage / REFERENCE).mkdir()
        serialize.save(reference, stage / REFERENCE)


def save_vectors(job: Job, arrays: Mapping[str, Array]) -> None:
    """The test vectors as ``vectors.npz``, the same bytes for the same arrays."""
    np.savez(job.stage / VECTORS, allow_pickle=False, **arrays)


def _vectors(emission: Emission, seed: int) -> tuple[dict[str, Array], list[Vector]]:
    """Seeded inputs and exact outputs: arrays by key for ``vectors.npz``, and bytes for C."""
    program = emission.program
    interpreter = Interpreter(program)
    arrays: dict[str, list[Array]] = {}
    vectors = []
    for number in range(COUNT):
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


def check_vectors(
    emission: Emission, machine: Machine, device: str, arrays: Mapping[str, Array]
) -> tuple[VectorCheck, int | None]:
    """Run the vectors on a device and demand the same bits; the machine is closed.

    Returns:
        The outcome, and the bytes of stack used where the device sees them.

    Raises:
        VerificationError: names the first output that differs.
    """
    program = emission.program
    with Session(program, emission.library, emission.layers, machine, device) as session:
        for number in range(COUNT):
            inputs = {b.name: arrays[f"input/{b.name}"][number] for b in program.inputs}
            for name, got in session.run_named(inputs).items():
                if got.tobytes() != arrays[f"output/{name}"][number].tobytes():
                    raise VerificationError(
                        f"output {name!r} of vector {number} differs between {device} "
                        "and the exact reference; this is a bug in edgekit, please report it"
                    )
        stack = session.stack_bytes()
    return VectorCheck(device, COUNT, True), stack


def count_coded(
    job: Job, emission: Emission, device: str, own: Callable[[], Machine], opened: Opener
) -> tuple[tuple[CodedLayer, ...], tuple[str, ...]]:
    """The layers with packed weights, beside int8 where that is wanted.

    Args:
        job: the export.
        emission: the generated code.
        device: where it is counted.
        own: opens the generated code there.
        opened: builds another library for the same target and opens it there.

    Returns:
        The layers, and what the user should hear of.
    """
    layers = coded_layers(emission.program)
    if not layers or not job.configuration.compare_int8:
        return layers, ()
    folder = job.stage / "int8"
    try:
        return counted(
            emission,
            own(),
            opened,
            folder,
            device=device,
            features=job.target.features,
            seed=job.configuration.seed,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unchecked() -> VectorCheck:
    """Nothing here runs the target."""
    return VectorCheck(None, COUNT, None)


def interface_of(emission: Emission) -> Interface:
    """The generated library's interface, for the manifest."""
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


def memory_of(emission: Emission) -> MemoryRecord:
    """What the library needs, whoever compiles it."""
    library = emission.library
    return MemoryRecord(
        activations=library.arena_bytes,
        peak_live=emission.plan.peak_bytes,
        state=library.state_bytes,
        weights=library.weights_bytes,
    )
