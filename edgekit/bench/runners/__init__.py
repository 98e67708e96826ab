"""What can execute a network on a device, one file per runtime, one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgekit.bench.runners.base import Runner, RunnerError
from edgekit.bench.subject import Port, Subject

RUNTIMES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "onnxruntime": ("edgekit.bench.runners.onnxruntime", "OnnxRuntimeRunner"),
        "litert": ("edgekit.bench.runners.litert", "LiteRtRunner"),
        "tensorrt": ("edgekit.bench.runners.tensorrt", "TensorRTRunner"),
    }
)
"""Module and class of every runtime that executes a model file; loaded when it is asked for."""


def open_model(
    runtime: str,
    model: Path,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    precision: str,
    threads: int = 1,
) -> Runner:
    """A model file in its runtime.

    Args:
        runtime: key of :data:`RUNTIMES`.
        model: the file.
        inputs: of the network.
        outputs: of the network.
        precision: that the file runs in.
        threads: that the runtime may use.

    Raises:
        RuntimeMissingError: the runtime is not installed.
        RunnerError: no such runtime, or it refuses the file.
    """
    if runtime not in RUNTIMES:
        raise RunnerError(f"no back end {runtime!r}; there are {', '.join(backends())}")
    module, name = RUNTIMES[runtime]
    make: Callable[..., Any] = getattr(import_module(module), name)
    runner: Runner = make(model, inputs, outputs, precision=precision, threads=threads)
    runner.file = model.name
    return runner


def open_runner(
    folder: Path, subject: Subject, backend: str, precision: str, threads: int
) -> Runner:
    """One way of executing an artifact on this machine.

    Args:
        folder: of the artifact.
        subject: what the artifact says of itself.
        backend: ``c`` or key of :data:`RUNTIMES`.
        precision: of the file to run.
        threads: that the runtime may use.

    Raises:
        RuntimeMissingError: the runtime is not installed.
        RunnerError: the artifact holds nothing for it, or the runtime refuses the file.
    """
    if backend == "c":
        from edgekit.bench.runners.c import CRunner

        return CRunner(folder, subject)
    for model in subject.models:
        if (model.runtime, model.precision) == (backend, precision):
            return open_model(
                backend,
                folder / model.file,
                subject.inputs,
                subject.outputs,
                precision=precision,
                threads=threads,
            )
    held = [f"{m.runtime} {m.precision}" for m in subject.models]
    held += ["c"] if subject.library is not None else []
    raise RunnerError(
        f"{subject.identity.name}: nothing for {backend} {precision}; "
        f"the artifact holds {', '.join(held) or 'nothing'}"
    )


def backends() -> tuple[str, ...]:
    """Names of everything that can execute a network."""
    return ("c", *RUNTIMES)
