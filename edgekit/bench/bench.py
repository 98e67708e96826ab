"""Run an artifact in every way that was asked for, and say what came of it.

Each way is opened twice: once to run the test vectors, where generated C must be exact to the bit,
and afresh for the figures, so that the first run is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.environment import read_environment
from edgekit.bench.protocol import Protocol
from edgekit.bench.report import (
    SCHEMA,
    Accuracy,
    Agreement,
    Preprocessing,
    Report,
    Role,
    Run,
    now,
)
from edgekit.bench.runners.base import Runner
from edgekit.bench.samples import Samples
from edgekit.bench.subject import Port, Subject

Array = NDArray[Any]


class MismatchError(Exception):
    """Generated C computed other bits than its reference."""


SIMULATED_SAMPLES = 100
"""Inputs that accuracy is counted over in an emulator unless told otherwise."""


@dataclass(frozen=True)
class Way:
    """One way of executing an artifact.

    Attributes:
        open: makes the runner; may be called twice.
        role: the deployed network, or a baseline to hold it against.
    """

    open: Callable[[], AbstractContextManager[Runner]]
    role: Role = "subject"


def bench(
    subject: Subject,
    ways: Sequence[Way],
    samples: Samples,
    protocol: Protocol,
    *,
    command: str,
    vectors: Mapping[str, Array],
    limit: int | None = None,
    preprocessing: Preprocessing | None = None,
) -> Report:
    """Measure one artifact.

    Args:
        subject: what the artifact says of itself.
        ways: of executing it, in order.
        samples: real inputs that are cycled, from reset each; with labels, accuracy is counted
            over them, of sequences by their last steps.
        protocol: how real execution is measured.
        command: that is running, for the report.
        vectors: test vectors, ``input/NAME`` and ``output/NAME``, the first axis counts.
        limit: samples that accuracy is counted over; None for all, in an emulator for the first
            :data:`SIMULATED_SAMPLES`.
        preprocessing: timed beforehand.

    Raises:
        MismatchError: generated C is not exact on the test vectors.
        BoundaryError: samples do not fit.
        RunnerError: a runtime refuses its file.
    """
    before = read_environment()
    runs = [_run(subject, way, samples, protocol, vectors=vectors, limit=limit) for way in ways]
    after = read_environment()
    # A clock that sinks under load shows only afterwards; counting does not mind.
    timed = any(run.protocol is not None for run in runs)
    warnings = dict.fromkeys((*before.warnings, *after.clock_warnings) if timed else ())
    return Report(
        schema=SCHEMA,
        edgekit=subject.edgekit,
        command=command,
        created=now(),
        artifact=subject.identity,
        environment=before,
        memory=subject.memory,
        files=subject.files,
        preprocessing=preprocessing,
        runs=with_float_accuracy(runs),
        warnings=tuple(warnings),
    )


def _run(
    subject: Subject,
    way: Way,
    samples: Samples,
    protocol: Protocol,
    *,
    vectors: Mapping[str, Array],
    limit: int | None,
) -> Run:
    agreement = _checked(subject, way, vectors)
    with way.open() as runner:
        cost = runner.cost(_fed(runner, samples), protocol)
        if limit is None and runner.is_simulated:
            limit = max(1, SIMULATED_SAMPLES // (samples.steps or 1))
        accuracy = count_right(runner, samples.first(limit))
        latency = cost.latency_ms
        timed = latency is not None and latency.provenance == "measured"
        own = runner.precision == subject.identity.precision
        layers = sum(layer.macs or 0 for layer in cost.layers)
        return Run(
            backend=runner.name,
            backend_version=runner.version,
            kernels=runner.kernels,
            role=way.role,
            precision=runner.precision,
            device=runner.device,
            on_target=runner.on_target,
            input=samples.origin
            if cost.samples == len(samples.inputs)
            else _part(cost.samples, samples),
            samples=cost.samples,
            file=runner.file,
            protocol=replace(protocol, threads=runner.threads) if timed else None,
            macs=layers or (subject.macs if own else None),
            instructions=cost.instructions,
            cycles=cost.cycles,
            clock_hz=cost.clock_hz,
            latency_ms=latency,
            stack_bytes=cost.stack_bytes,
            layers=cost.layers,
            accuracy=accuracy,
            agreement=agreement,
            toolchain=runner.toolchain,
            toolchain_version=runner.toolchain_version,
            flags=runner.flags,
            provenance=cost.provenance,
            warnings=(*runner.notes, *cost.warnings),
        )


def _checked(subject: Subject, way: Way, vectors: Mapping[str, Array]) -> Agreement | None:
    """The test vectors on a runner of their own.

    None where no reference says the outputs, where another precision computes something else, and
    in an emulator: its runs are slow, and export checked them.

    Raises:
        MismatchError: generated C is not exact.
    """
    if not all(f"output/{port.name}" in vectors for port in subject.outputs):
        return None
    with way.open() as runner:
        if runner.is_simulated or runner.precision != subject.identity.precision:
            return None
        agreement = compare(runner, vectors)
        if runner.is_exact and agreement.mismatches:
            raise MismatchError(
                f"{runner.name} on {runner.device}: {agreement.mismatches} of "
                f"{agreement.elements} elements of the test vectors differ from the exact reference"
            )
        return agreement


def _part(count: int, samples: Samples) -> str:
    """Which inputs were run, where not all of them were."""
    one = "sample" if samples.steps is None else "one"
    return f"first {one if count == 1 else count} of {samples.origin}"


def _fed(runner: Runner, samples: Samples) -> Sequence[Mapping[str, Array]]:
    return samples.real if runner.wants_real else samples.inputs


def compare(runner: Runner, vectors: Mapping[str, Array]) -> Agreement:
    """Run the test vectors and count what differs from the reference's outputs."""
    count = len(vectors[f"input/{runner.inputs[0].name}"])
    elements = mismatches = changes = 0
    largest = None
    for number in range(count):
        inputs = {p.name: vectors[f"input/{p.name}"][number] for p in runner.inputs}
        results = runner.run(inputs)
        changed = False
        for port in runner.outputs:
            want, got = vectors[f"output/{port.name}"][number], results[port.name]
            elements += want.size
            mismatches += _differing(port, want, got)
            if port.is_integer:
                step = np.abs(want.astype(np.int64) - got.astype(np.int64)).max(initial=0)
                largest = max(largest or 0, int(step))
            changed = changed or _top1(want) != _top1(got)
        changes += changed
    return Agreement(count, elements, mismatches, largest, changes)


def _differing(port: Port, want: Array, got: Array) -> int:
    """Elements that differ in any bit."""
    dtype = np.dtype(port.dtype)
    bits = np.dtype(f"u{dtype.itemsize}")
    a, b = (np.ascontiguousarray(v, dtype).view(bits) for v in (want, got))
    return int(np.count_nonzero(a.reshape(-1) != b.reshape(-1)))


def _top1(values: Array) -> int:
    return int(values.argmax())


def count_right(runner: Runner, samples: Samples) -> Accuracy | None:
    """How many labels the largest element of the first output names.

    None without labels, and for sequences where the runner carries no state.
    """
    first = runner.outputs[0]
    if samples.labels is None or np.prod(first.source_shape) < 2:
        return None
    right = 0
    fed, steps = _fed(runner, samples), samples.steps
    for number, label in enumerate(samples.labels):
        results: dict[str, Array] | None
        if steps is None:
            results = runner.results(runner.invoke(runner.prepare(fed[number])))
        else:
            results = runner.end_of(fed[number * steps : (number + 1) * steps])
        if results is None:
            return None
        right += _top1(results[first.name]) == int(label)
    return Accuracy(right / len(samples), len(samples), samples.source)


def with_float_accuracy(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Every accuracy beside that of the float baseline on the same samples."""
    floats = [r.accuracy for r in runs if r.precision == "float32" and r.accuracy is not None]
    if not floats:
        return tuple(runs)
    value = floats[0].value
    return tuple(
        run
        if run.accuracy is None or run.precision == "float32"
        else replace(run, accuracy=replace(run.accuracy, float_value=value))
        for run in runs
    )
