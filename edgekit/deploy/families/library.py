"""What every artifact with generated C holds: sources, the Program, vectors, companions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgekit.deploy.benchmark import seeded_inputs
from edgekit.deploy.comparison import Opener, coded_layers, counted
from edgekit.deploy.data import Samples
from edgekit.deploy.families.family import Job
from edgekit.deploy.layout import REFERENCE, SOURCES, VECTORS
from edgekit.deploy.manifest import CodedLayer, Interface, MemoryRecord, VectorCheck
from edgekit.deploy.session import Session
from edgekit.errors import VerificationError
from edgekit.program import serialize
from edgekit.program.fuse import fuse_residual
from edgekit.program.interpret import Interpreter, steps_of
from edgekit.program.ir import Array, Program
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.c.extras import Vector, companion_files
from edgekit.targets.host import write_files
from edgekit.targets.machine import Machine
from edgekit.version import edgekit_version

COUNT = 2
"""Test vectors in an artifact, at most."""


def emit_library(job: Job) -> Emission:
    """The generated C of a job's Program."""
    program, _ = fuse_residual(job.source.program)
    return emit(
        program,
        features=job.target.features,
        separate_weights=job.configuration.separate_weights,
        steps=None if job.source.spiking is None else job.source.spiking.steps,
        version=edgekit_version(),
    )


def write_library(job: Job, emission: Emission) -> dict[str, Array]:
    """Fill the stage with everything that does not depend on a compiler.

    Returns:
        The test vectors by key: ``input/<name>`` and ``output/<name>``, the first axis counts. Of
        a network that decides over windows they are windows, with the outputs of every step.
    """
    stage, seed, samples = job.stage, job.configuration.seed, job.source.samples
    write_files(emission.library, stage / SOURCES)
    write_programs(stage, emission.program, job.source.reference)
    origin = f"seed {seed}"
    if job.source.spiking is None:
        arrays, vectors = _vectors(emission, seed)
    else:
        assert samples is not None, "a spiking network comes with windows"
        arrays, vectors = _window_vectors(emission, samples)
        origin = "windows of the calibration data"
    save_vectors(job, arrays)
    companions = companion_files(
        emission,
        vectors,
        separate_weights=job.configuration.separate_weights,
        origin=origin,
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


def _window_vectors(emission: Emission, samples: Samples) -> tuple[dict[str, Array], list[Vector]]:
    """The first windows and exact outputs of every step, likewise."""
    program, interpreter = emission.program, Interpreter(emission.program)
    arrays: dict[str, list[Array]] = {}
    vectors = []
    for window in samples.first(COUNT):
        interpreter.reset()
        fed: list[list[Array]] = []
        last: list[Array] = []
        found: list[dict[str, Array]] = []
        for step in steps_of(program, window):
            values: dict[str, Array] = {}
            found.append(interpreter.step(step, values.__setitem__))
            fed.append([values[b.tensor] for b in program.inputs])
            last = [values[b.tensor] for b in program.outputs]
        for name, value in window.items():
            arrays.setdefault(f"input/{name}", []).append(value)
        for boundary in program.outputs:
            steps = np.stack([results[boundary.name] for results in found])
            arrays.setdefault(f"output/{boundary.name}", []).append(steps)
        inputs = [np.stack(samples) for samples in zip(*fed, strict=True)]
        vectors.append(Vector.of(inputs, last))
    return {key: np.stack(parts) for key, parts in arrays.items()}, vectors


def check_vectors(
    emission: Emission, machine: Machine, device: str, arrays: Mapping[str, Array]
) -> tuple[VectorCheck, int | None]:
    """Run the vectors on a device and demand the same bits; the machine is closed.

    Windows are stepped through; on a device that starts anew for every run, their first steps are
    run.

    Returns:
        The outcome, and the bytes of stack used where the device sees them.

    Raises:
        VerificationError: names the first output that differs.
    """
    program, has_windows = emission.program, emission.window_steps is not None
    count = len(next(iter(arrays.values())))
    with Session(program, emission.library, emission.layers, machine, device) as session:
        only_first = has_windows and not session.carries_state
        run = session.run_sequence_named if has_windows else session.run_named
        for number in range(count):
            vector = {key: values[number] for key, values in arrays.items()}
            if only_first:
                vector, run = {key: values[0] for key, values in vector.items()}, session.run_named
            inputs = {b.name: vector[f"input/{b.name}"] for b in program.inputs}
            for name, got in run(inputs).items():
                if got.tobytes() != vector[f"output/{name}"].tobytes():
                    raise VerificationError(
                        f"output {name!r} of vector {number} differs between {device} "
                        "and the exact reference; this is a bug in edgekit, please report it"
                    )
        stack = session.stack_bytes()
    return VectorCheck(device, count, True), stack


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
    if not layers or not job.configuration.compare_int8 or job.source.spiking is not None:
        # What spikes cost depends on real windows; benchmarks hold both schedules against each
        # other over them.
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


def unchecked(arrays: Mapping[str, Array]) -> VectorCheck:
    """Nothing here runs the target."""
    return VectorCheck(None, len(next(iter(arrays.values()))), None)


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
