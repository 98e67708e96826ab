"""Run an artifact in every way that was asked for, and say what came of it.

The figures come first, so that nothing has run in a way before its first run is timed, then the
test vectors, where generated C must be exact to the bit: without that there is no report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.boundary import BoundaryError
from edgekit.bench.dataset import spread, spread_source
from edgekit.bench.environment import read_environment
from edgekit.bench.protocol import Protocol
from edgekit.bench.report import (
    SCHEMA,
    Accuracy,
    Agreement,
    Preprocessing,
    Provenances,
    Report,
    Role,
    Run,
    now,
)
from edgekit.bench.runners.base import Cost, Runner
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
        open: makes the runner.
        role: the deployed network, or a baseline to hold it against.
    """

    open: Callable[[], AbstractContextManager[Runner]]
    role: Role = "subject"


@dataclass(frozen=True, eq=False)
class Answers:
    """Which labels a run named.

    Attributes:
        samples: indices of those it was asked for, int64[N], ascending.
        right: bool[N].
    """

    samples: Array
    right: Array

    def on(self, samples: Array) -> Array | None:
        """The answers for some samples; None where it was not asked for all of them."""
        if not np.isin(samples, self.samples).all():
            return None
        chosen: Array = self.right[np.searchsorted(self.samples, samples)]
        return chosen


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
        samples: real inputs that are cycled, from reset each, or the steps of real windows where
            an inference is one; with labels, accuracy is counted
            over them, of sequences by their last steps.
        protocol: how real execution is measured.
        command: that is running, for the report.
        vectors: test vectors, ``input/NAME`` and ``output/NAME``, the first axis counts.
        limit: samples that accuracy is counted over, evenly spread; None for all, in an emulator
            for :data:`SIMULATED_SAMPLES`.
        preprocessing: timed beforehand.

    Raises:
        MismatchError: generated C is not exact on the test vectors.
        BoundaryError: samples or test vectors do not fit.
        RunnerError: a runtime refuses its file.
    """
    check_vectors(subject, vectors)
    before = read_environment()
    answered = [_run(subject, way, samples, protocol, vectors=vectors, limit=limit) for way in ways]
    after = read_environment()
    runs = with_float_accuracy(answered)
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
        runs=runs,
        warnings=tuple(warnings),
    )


def check_vectors(subject: Subject, vectors: Mapping[str, Array]) -> None:
    """Refuse test vectors of another network; without any outputs there is nothing to compare.

    Raises:
        BoundaryError: an array is missing, or has another dtype, shape or count.
    """
    if not any(f"output/{port.name}" in vectors for port in subject.outputs):
        return
    named = [(f"input/{port.name}", port) for port in subject.inputs]
    named += [(f"output/{port.name}", port) for port in subject.outputs]
    counts = set()
    time = () if subject.steps is None else (subject.steps,)
    for key, port in named:
        if key not in vectors:
            raise BoundaryError(f"the test vectors lack {key!r}, they have {sorted(vectors)}")
        values = vectors[key]
        shape = (*time, *port.source_shape)
        fits = values.ndim > 0 and values.shape[1:] == shape
        if not fits or values.dtype != np.dtype(port.dtype):
            raise BoundaryError(
                f"test vectors {key!r} are {values.dtype}{list(values.shape)}, must be "
                f"{port.dtype}[N, {', '.join(map(str, shape))}]"
            )
        counts.add(len(values))
    if len(counts) != 1 or counts == {0}:
        raise BoundaryError(f"there are {sorted(counts)} test vectors, must be as many of each")


def _run(
    subject: Subject,
    way: Way,
    samples: Samples,
    protocol: Protocol,
    *,
    vectors: Mapping[str, Array],
    limit: int | None,
) -> tuple[Run, Answers | None]:
    """The figures of one way, and which labels it got right; None where none were counted."""
    with way.open() as runner:
        cost = runner.cost(_fed(runner, samples), protocol)
        agreement = _agreement(subject, runner, vectors)
        if limit is None and runner.is_simulated:
            steps = 1 if subject.steps is not None else samples.steps or 1
            limit = max(1, SIMULATED_SAMPLES // steps)
        available = len(samples)
        chosen = spread(available, available if limit is None else limit)
        right = answers(runner, samples.at(chosen))
        latency = cost.latency_ms
        timed = latency is not None and latency.provenance == "measured"
        own = runner.precision == subject.identity.precision
        layers = sum(layer.macs or 0 for layer in cost.layers)
        known = None if subject.macs is None else subject.macs * (subject.steps or 1)
        units = len(samples) if subject.steps is not None else len(samples.inputs)
        run = Run(
            backend=runner.name,
            backend_version=runner.version,
            kernels=runner.kernels,
            role=way.role,
            precision=runner.precision,
            device=runner.device,
            on_target=runner.on_target,
            input=_part(cost.samples, units, samples, windows=subject.steps is not None),
            samples=cost.samples,
            file=runner.file,
            protocol=replace(protocol, threads=runner.threads) if timed else None,
            macs=layers or (known if own else None),
            instructions=cost.instructions,
            cycles=cost.cycles,
            causes=cost.causes,
            cycle_model=cost.cycle_model,
            clock_hz=cost.clock_hz,
            latency_ms=latency,
            energy_uj=cost.energy_uj,
            stack_bytes=cost.stack_bytes,
            layers=cost.layers,
            accuracy=None
            if right is None
            else Accuracy(
                float(right.mean()),
                len(right),
                spread_source(samples.source, available, len(right)),
            ),
            agreement=agreement,
            toolchain=runner.toolchain,
            toolchain_version=runner.toolchain_version,
            flags=runner.flags,
            provenance=_provenances(cost),
            warnings=(*runner.notes, *cost.warnings),
            step=cost.step,
        )
        return run, None if right is None else Answers(chosen, right)


def _provenances(cost: Cost) -> Provenances:
    """How the figures came about; times of layers, where there are any, by a clock."""
    timed = any(layer.latency_ms is not None for layer in cost.layers)
    return replace(cost.provenance, layers_latency_ms="measured" if timed else None)


def _agreement(subject: Subject, runner: Runner, vectors: Mapping[str, Array]) -> Agreement | None:
    """The test vectors on a runner.

    None where no reference says the outputs, where another precision computes something else, and
    in an emulator: its runs are slow, and export checked them.

    Raises:
        MismatchError: generated C is not exact.
    """
    known = f"output/{subject.outputs[0].name}" in vectors
    if not known or runner.is_simulated or runner.precision != subject.identity.precision:
        return None
    agreement = compare(runner, vectors)
    if runner.is_exact and agreement.mismatches:
        raise MismatchError(
            f"{runner.name} on {runner.device}: {agreement.mismatches} of "
            f"{agreement.elements} elements of the test vectors differ from the exact reference"
        )
    return agreement


def _part(count: int, units: int, samples: Samples, *, windows: bool) -> str:
    """Which inputs or windows were run."""
    origin = f"{units} windows of {samples.source}" if windows else samples.origin
    if count == units:
        return origin
    if windows:
        return f"{count} of {origin}"
    one = "sample" if samples.steps is None else "one"
    return f"first {one if count == 1 else count} of {origin}"


def _fed(runner: Runner, samples: Samples) -> Sequence[Mapping[str, Array]]:
    return samples.real if runner.wants_real else samples.inputs


def compare(runner: Runner, vectors: Mapping[str, Array]) -> Agreement:
    """Run the test vectors and count what differs from the reference's outputs."""
    count = len(vectors[f"input/{runner.inputs[0].name}"])
    elements = mismatches = changes = 0
    largest = None
    for number in range(count):
        inputs = {p.name: vectors[f"input/{p.name}"][number] for p in runner.inputs}
        results = runner.run(inputs) if runner.steps is None else runner.run_window(inputs)
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


def answers(runner: Runner, samples: Samples) -> Array | None:
    """Which labels the largest element of the first output names, bool[N].

    None without labels, and for sequences where the runner carries no state.
    """
    first = runner.outputs[0]
    if samples.labels is None or np.prod(first.source_shape) < 2:
        return None
    right = np.zeros(len(samples), np.bool_)
    fed, steps = _fed(runner, samples), samples.steps
    for number, label in enumerate(samples.labels):
        results: dict[str, Array] | None
        if steps is None:
            results = runner.results(runner.invoke(runner.prepare(fed[number])))
        else:
            results = runner.end_of(fed[number * steps : (number + 1) * steps])
        if results is None:
            return None
        right[number] = _top1(results[first.name]) == int(label)
    return right


def with_float_accuracy(answered: Sequence[tuple[Run, Answers | None]]) -> tuple[Run, ...]:
    """Every accuracy beside that of the float network on the same samples.

    Args:
        answered: runs over one data set, each with its answers; an emulator may have been asked
            for fewer than others.
    """
    floats = [own for run, own in answered if run.precision == "float32" and own is not None]
    return tuple(_beside(run, own, floats) for run, own in answered)


def _beside(run: Run, own: Answers | None, floats: Sequence[Answers]) -> Run:
    """The run with the float accuracy over its samples, where a float run had all of them."""
    if run.accuracy is None or own is None or run.precision == "float32":
        return run
    for other in floats:
        right = other.on(own.samples)
        if right is not None:
            accuracy = replace(run.accuracy, float_value=float(right.mean()))
            return replace(run, accuracy=accuracy)
    return run
