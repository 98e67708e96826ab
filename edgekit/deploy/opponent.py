"""A network that does not spike, beside one that does: same device, same windows, both counted.

A spiking network is easily said to be cheap beside nothing. What is fair is a network for the same
task, with weights as wide, and about as large; how far the one that was given is from that is
stated, figure by figure, not left to the reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.bench.protocol import Protocol
from edgekit.bench.report import Report, Run
from edgekit.bench.spiking import Opponent, Spiking
from edgekit.deploy.data import Samples
from edgekit.errors import InvalidDataError, UsageError
from edgekit.program.ir import Array, Program

if TYPE_CHECKING:
    from edgekit.deploy.artifact import Artifact

SAME_SIZE = 0.25
"""How far constants may differ, relatively, before a report says so."""


def measure_opponent(
    opponent: Artifact,
    windows: Samples,
    device: str,
    *,
    protocol: Protocol,
    limit: int | None,
    source: str,
) -> Report:
    """The opponent's own report over the same windows.

    Args:
        opponent: artifact of the network that does not spike.
        windows: of the spiking network: real numbers [N, T, ...] and labels.
        device: that both run on.
        protocol: how real execution is measured.
        limit: windows that accuracy is counted over.
        source: where they came from, in words.

    Raises:
        InvalidDataError: it takes windows of another shape.
    """
    data = as_samples(windows, opponent.program)
    return opponent.bench(
        data, device=device, backend="c", protocol=protocol, limit=limit, command=source
    )


def check_opponent(artifact: Artifact, opponent: Artifact) -> None:
    """Refuse an opponent that cannot be compared with a network.

    Args:
        artifact: of the spiking network.
        opponent: of the other one.

    Raises:
        UsageError: the one does not spike, the other does, or they are for two targets.
        InvalidDataError: they declare different pre-processing.
    """
    if artifact.manifest.spiking is None:
        raise UsageError(
            f"{artifact.folder}: does not spike; an opponent is for spiking networks, others are "
            "compared by `edgekit compare`"
        )
    here, there = artifact.manifest.configuration, opponent.manifest.configuration
    if opponent.manifest.spiking is not None:
        raise UsageError(f"{opponent.folder}: spikes as well; an opponent does not")
    if here.target != there.target:
        raise UsageError(
            f"{opponent.folder}: is for {there.target}, the spiking network for {here.target}: "
            "costs of two targets cannot be compared"
        )
    if artifact.preprocessing.steps != opponent.preprocessing.steps:
        raise InvalidDataError(
            f"{opponent.folder}: declares other pre-processing than {artifact.folder}, so that the "
            "same windows are not the same to both; train both on one"
        )


def as_samples(windows: Samples, program: Program) -> dict[str, Array]:
    """Windows [N, T, ...] as one input each, time last where the network has it there.

    Raises:
        InvalidDataError: several inputs, or another shape.
    """
    values = next(iter(windows.real.values()))
    wanted = program.inputs[0].source_shape
    arrays: dict[str, Array] = {} if windows.labels is None else {"labels": windows.labels}
    for moved in (np.moveaxis(values, 1, -1), values):
        if len(program.inputs) == 1 and _extents(moved.shape[1:]) == _extents(wanted):
            shaped: Array = moved.reshape(len(moved), *wanted[1:])
            return {**arrays, program.inputs[0].name: shaped}
    raise InvalidDataError(
        f"{program.name}: its input has shape {list(wanted)}, windows have {list(values.shape[1:])}"
        ": an opponent takes the same windows, with time first or last"
    )


def _extents(shape: tuple[int, ...]) -> list[int]:
    return [extent for extent in shape if extent != 1]


def opponent_of(spiking: Spiking, report: Report, program: Program, own_bytes: int) -> Opponent:
    """What a report says of the opponent, and in what it differs from the spiking network.

    Args:
        spiking: the network that spikes.
        report: of the opponent.
        program: of the opponent.
        own_bytes: constants of the spiking network.
    """
    run, memory = report.subject, report.memory
    assert memory is not None
    element = weights_element(program)
    made = Opponent(
        name=report.artifact.name,
        model_file=report.artifact.model_file,
        artifact_sha256=report.artifact.artifact_sha256 or "",
        device=run.device,
        element=element,
        parameters=parameters(program),
        memory=replace(memory, blocks=()),
        macs=run.macs,
        cycles=run.cycles,
        latency_ms=None if run.latency_ms is None else replace(run.latency_ms, samples=()),
        energy_uj=run.energy_uj,
        accuracy=None if run.accuracy is None else run.accuracy.value,
        notes=(),
    )
    return replace(made, notes=tuple(_notes(spiking, made, run, own_bytes)))


def _notes(spiking: Spiking, opponent: Opponent, run: Run, own_bytes: int) -> Iterator[str]:
    if spiking.element == opponent.element:
        yield f"weights of both are {opponent.element}"
    else:
        yield f"weights differ: {spiking.element} here, {opponent.element} there"
    ratio = opponent.memory.weights_bytes / max(own_bytes, 1)
    how = "about as large" if abs(ratio - 1) <= SAME_SIZE else f"{ratio:.3g} times as large"
    yield f"its constants are {how}"
    yield "it decides once for a window, after its last sample; a spiking network works at each"
    yield "what it costs does not depend on what the window holds"
    yield f"run on {run.input}"


def weights_element(program: Program) -> str:
    """What most of a network's weights are: ``int8``, ``float32`` or the element of a coding."""
    found: dict[str, int] = {}
    for operation in program.operations:
        operator: Any = operation.operator
        tensor = _weights(program, operation.inputs, operator.inputs)
        if tensor is None:
            continue
        coding = getattr(operator, "coding", None)
        element = program.tensors[tensor].dtype.value if coding is None else str(coding.element)
        found[element] = found.get(element, 0) + program.tensors[tensor].type.size
    return max(found, key=lambda element: found[element], default="none")


def parameters(program: Program) -> int:
    """Weights and biases."""
    total = 0
    for operation in program.operations:
        ports = dict(zip(operation.operator.inputs, operation.inputs, strict=False))
        named: Mapping[str, str | None] = {port.rstrip("?*"): n for port, n in ports.items()}
        for port in ("w", "bias"):
            name = named.get(port)
            if name is not None and program.tensors[name].is_constant:
                total += program.tensors[name].type.size
    return total


def _weights(
    program: Program, inputs: tuple[str | None, ...], ports: tuple[str, ...]
) -> str | None:
    """The constant at the port ``w``; None without one."""
    for port, name in zip(ports, inputs, strict=False):
        if port.rstrip("?*") == "w" and name is not None and program.tensors[name].is_constant:
            return name
    return None
