"""What an artifact costs on the devices that are here; the figures are :mod:`edgekit.bench`'s."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bench.bench import MismatchError, Way
from edgekit.bench.boundary import BoundaryError
from edgekit.bench.fields import ReportError
from edgekit.bench.main import baseline_precision
from edgekit.bench.runners import RUNTIMES, open_model
from edgekit.bench.runners.base import Runner, RunnerError, RuntimeMissingError
from edgekit.bench.samples import seeded
from edgekit.bench.subject import Subject
from edgekit.deploy.layout import IMAGE
from edgekit.deploy.manifest import FILE_NAME, Manifest
from edgekit.deploy.ondevice import ports_of, subject_of
from edgekit.deploy.runner import SessionRunner
from edgekit.deploy.session import Session
from edgekit.errors import (
    DeviceMissingError,
    InvalidDataError,
    OutputError,
    UnsupportedError,
    UsageError,
    VerificationError,
)
from edgekit.program.ir import Array, Program
from edgekit.program.plan import MemoryPlan, allocate
from edgekit.targets.c.emit import bind, scratch_bytes
from edgekit.targets.elf import Elf
from edgekit.targets.machine import Build
from edgekit.targets.target import Target

if TYPE_CHECKING:
    from edgekit.deploy.artifact import Artifact


def ways_of(
    artifact: Artifact,
    subject: Subject,
    *,
    devices: Sequence[str],
    backends: Sequence[str],
    baselines: Sequence[str],
    threads: int,
) -> list[Way]:
    """Generated C on every device, other runtimes on this machine, then the baselines.

    Args:
        artifact: what is run.
        subject: what it says of itself.
        devices: of generated C; none for the target's own.
        backends: none for the artifact's first.
        baselines: precisions, ``fp32`` and ``int8``.
        threads: that a runtime may use.

    Raises:
        UnsupportedError: the artifact has no such device, back end or baseline.
    """
    ways = []
    for backend in backends or artifact.backends[:1]:
        if backend == "c":
            names = devices or artifact.devices[:1]
            ways += [_generated(artifact, subject, device) for device in names]
        else:
            ways.append(_runtime(artifact, subject, backend, subject.identity.precision, threads))
    for name in baselines:
        way = _runtime(artifact, subject, None, baseline_precision(name), threads)
        ways.append(replace(way, role="baseline"))
    return ways


def _generated(artifact: Artifact, subject: Subject, device: str) -> Way:
    """Its own code on a device."""

    def opened() -> SessionRunner:
        session = artifact.open(device, backend="c")
        assert isinstance(session, Session)
        notes = _foreign(artifact.manifest, artifact.target, device, session.build)
        untimed = _untimed(artifact)
        return SessionRunner(session, subject, artifact.target, notes=notes, untimed=untimed)

    return Way(opened)


def _untimed(artifact: Artifact) -> tuple[str, ...]:
    """Fields of the board that say nothing of the wait states of memories in use."""
    path = artifact.folder / IMAGE
    if artifact.target.board is None or not path.is_file():
        return ()
    used = [section.address for section in Elf.read(path).sections]
    return tuple(
        f"memory[{index}].wait_states ({memory.name})"
        for index, memory in enumerate(artifact.target.memories)
        if memory.wait_states is None and any(memory.origin <= a < memory.end for a in used)
    )


def _foreign(manifest: Manifest, target: Target, device: str, build: Build | None) -> Iterator[str]:
    """Where what ran is not what was deployed; `build` is None where none of ours ran."""
    if device not in target.devices:
        yield f"{device} is not {target.name}: time, compiler and flags are this machine's"
        return
    own = manifest.build
    if own is not None and build is not None and build != Build(**asdict(own)):
        yield (
            f"{device} ran another build than the artifact's: "
            f"{build.version} instead of {own.version}"
        )


def _runtime(
    artifact: Artifact, subject: Subject, backend: str | None, precision: str, threads: int
) -> Way:
    """A model file on this machine; None for the first runtime that has one.

    Raises:
        UnsupportedError: the artifact holds no such file.
    """
    held = [(artifact.runtime_of(model), model) for model in artifact.manifest.models]
    for runtime, model in held:
        if backend in (None, runtime) and model.precision == precision and runtime in RUNTIMES:
            opened = partial(
                _opened, artifact, subject, runtime, file=model.file, precision=precision
            )
            return Way(partial(opened, threads=threads))
    there = ", ".join(f"{runtime} {model.precision}" for runtime, model in held)
    raise UnsupportedError(
        f"{artifact.folder}: no file for {backend or 'a runtime'} in {precision}; "
        f"it holds {there or 'none for other runtimes'}"
    )


def _opened(
    artifact: Artifact, subject: Subject, runtime: str, *, file: str, precision: str, threads: int
) -> Runner:
    """A model file in its runtime on this machine."""
    runner = open_model(
        runtime,
        artifact.folder / file,
        subject.inputs,
        subject.outputs,
        precision=precision,
        threads=threads,
    )
    runner.on_target = runner.device in artifact.target.devices
    foreign = _foreign(artifact.manifest, artifact.target, runner.device, None)
    runner.notes = (*runner.notes, *foreign)
    return runner


def subject_for(artifact: Artifact) -> Subject:
    """What the artifact says of itself, with the hash of its manifest and the map of its arena."""
    manifest, program = artifact.manifest, artifact.program
    plan = _plan(manifest, program, artifact.target.features)
    subject = subject_of(manifest, program, plan=plan)
    digest = hashlib.sha256((artifact.folder / FILE_NAME).read_bytes()).hexdigest()
    return replace(subject, identity=replace(subject.identity, artifact_sha256=digest))


def _plan(manifest: Manifest, program: Program, features: frozenset[str]) -> MemoryPlan | None:
    """The plan behind the artifact's offsets; None where this edgekit would place otherwise."""
    if manifest.interface is None:
        return None
    try:
        calls = bind(program, features)
    except UnsupportedError:
        return None
    plan = allocate(program, {name: scratch_bytes(call) for name, (_, call) in calls.items()})
    placed = {tensor: b.offset for b in plan.buffers for tensor in b.tensors}
    arena = manifest.interface.arena_bytes
    same = plan.arena_bytes == arena and all(
        offset >= arena if tensor in plan.in_state else placed.get(tensor, offset) == offset
        for layer in manifest.layers
        for tensor, offset in zip(layer.outputs, layer.offsets, strict=True)
    )
    return plan if same else None


def seeded_inputs(program: Program, seed: int = 0) -> Mapping[str, Array]:
    """One input drawn at random: integers over their whole range, floats of standard normal."""
    return seeded(ports_of(program)[0], seed).inputs[0]


@contextmanager
def typed_errors(folder: Path) -> Iterator[None]:
    """What measuring raises, as edgekit's own errors.

    Raises:
        DeviceMissingError: a runtime is not installed.
        UnsupportedError: a runtime refuses its file.
        InvalidDataError: samples do not fit.
        VerificationError: generated C is not exact.
        OutputError: the artifact holds something impossible.
    """
    try:
        yield
    except RuntimeMissingError as error:
        raise DeviceMissingError(str(error)) from error
    except RunnerError as error:
        raise UnsupportedError(str(error)) from error
    except BoundaryError as error:
        raise InvalidDataError(str(error)) from error
    except MismatchError as error:
        raise VerificationError(f"{folder}: {error}; please report it") from error
    except ReportError as error:
        raise OutputError(f"{folder}: {error}") from error


def names_of(text: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name, several, or a comma list.

    >>> names_of("emulator,local"), names_of(None), names_of(["c"])
    (('emulator', 'local'), (), ('c',))
    """
    parts = text.split(",") if isinstance(text, str) else (text or ())
    names = tuple(dict.fromkeys(part.strip() for part in parts))
    if "" in names:
        raise UsageError(f"{text!r} holds an empty name")
    return names
