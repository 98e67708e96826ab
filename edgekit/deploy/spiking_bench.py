"""What a benchmark adds for a spiking network: its spikes, both schedules, and its opponent."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bench.bench import SIMULATED_SAMPLES
from edgekit.bench.dataset import spread_source
from edgekit.bench.protocol import Latency, Protocol
from edgekit.bench.report import Preprocessing, Report, Run
from edgekit.bench.spiking import Crossover, Spiking
from edgekit.deploy.crossover import measure_crossover
from edgekit.deploy.data import Samples
from edgekit.deploy.frontend import emit_frontend
from edgekit.deploy.opponent import measure_opponent, opponent_of
from edgekit.deploy.rebuild import opener
from edgekit.deploy.session import Session
from edgekit.deploy.spikes import Spikes, count_spikes
from edgekit.errors import ToolchainMissingError, UnsupportedError
from edgekit.program.ir import Array

if TYPE_CHECKING:
    from edgekit.deploy.artifact import Artifact


QUANTISED = "samples become the codes of the input"
"""What happens before a network of integers that declares nothing more."""


@dataclass(frozen=True)
class Asked:
    """What a benchmark was asked for, as far as spiking networks mind.

    Attributes:
        device: the first one.
        protocol: how real execution is measured.
        limit: windows that accuracy is counted over, and spikes, evenly spread; None for a hundred
            of spikes.
        opponent: a network that does not spike; None without.
    """

    device: str
    protocol: Protocol
    limit: int | None
    opponent: Artifact | None


def with_spikes(
    artifact: Artifact, report: Report, windows: Samples, source: str, asked: Asked
) -> Report:
    """The report of a spiking network with everything that only such a one has.

    Args:
        artifact: of a spiking network.
        report: of its runs.
        windows: real ones, in the dtypes of its inputs.
        source: where they came from, in words.
        asked: options.

    Raises:
        UsageError: the opponent is none.
        InvalidDataError: the windows do not fit the opponent.
        UnsupportedError: the opponent cannot run on the device.
    """
    spiking, notes = spiking_of(artifact, report.runs, windows, source, asked)
    run, before = _counted(report.runs), report.preprocessing
    if run is not None:
        sample = {name: values[0, 0] for name, values in windows.real.items()}
        try:
            before = with_frontend(artifact, before, run, sample)
        except ToolchainMissingError as error:
            notes += (f"pre-processing was not counted: {error}",)
    warnings = (*report.warnings, *notes)
    return replace(report, spiking=spiking, preprocessing=before, warnings=warnings)


def _counted(runs: Sequence[Run]) -> Run | None:
    """The first run of the network on a device that counted its cycles."""
    return next((run for run in runs if run.cycles is not None and run.role == "subject"), None)


def spiking_of(
    artifact: Artifact, runs: Sequence[Run], windows: Samples, source: str, asked: Asked
) -> tuple[Spiking, tuple[str, ...]]:
    """Everything, and why a figure is missing where one is.

    Args:
        artifact: of a spiking network.
        runs: of it, over the windows.
        windows: real ones, in the dtypes of its inputs.
        source: where they came from, in words.
        asked: options.

    Raises:
        UsageError: the opponent is none.
        InvalidDataError: the windows do not fit the opponent.
        UnsupportedError: the opponent cannot run on the device.
    """
    record, memory = artifact.manifest.spiking, artifact.manifest.memory
    assert record is not None and memory is not None
    counted = windows.spread(asked.limit or SIMULATED_SAMPLES)
    spikes = count_spikes(artifact.program, record, counted)
    crossover, notes = _crossover(artifact, runs, spikes)
    found = Spiking(
        steps=record.steps,
        dt_seconds=record.dt_seconds,
        windows=spikes.windows,
        input=spread_source(source, len(windows), spikes.windows),
        element=record.element,
        parameters=record.parameters,
        state_bytes=memory.state,
        populations=spikes.populations,
        synapses=spikes.synapses,
        analog_ops=spikes.analog_ops,
        crossover=crossover,
    )
    if asked.opponent is None:
        return found, notes
    report = measure_opponent(
        asked.opponent,
        windows,
        asked.device,
        protocol=asked.protocol,
        limit=asked.limit,
        source=source,
    )
    opponent = opponent_of(found, report, asked.opponent.program, memory.weights)
    return replace(found, opponent=opponent), notes


def with_frontend(
    artifact: Artifact, preprocessing: Preprocessing | None, run: Run, sample: Mapping[str, Array]
) -> Preprocessing | None:
    """The pre-processing with what one sample of it takes as C, on the core of a run.

    Args:
        artifact: of a spiking network.
        preprocessing: as it is known so far; None where none is declared.
        run: with cycles.
        sample: real numbers of one step, which stand for the raw ones: what the steps take hardly
            depends on them.

    Raises:
        ToolchainMissingError: no compiler for the target.
    """
    made = emit_frontend(artifact.program, artifact.preprocessing, artifact.target)
    if made is None:
        return preprocessing
    machine_of = opener(artifact, run.device)
    with tempfile.TemporaryDirectory() as folder:
        machine = machine_of(made.library, Path(folder))
        with Session(made.program, made.library, made.layers, machine, run.device) as session:
            profile = session.profile({"raw": next(iter(sample.values()))})
    clock, known = run.clock_hz, preprocessing
    timed = clock is not None and profile.cycles is not None
    return Preprocessing(
        specification=QUANTISED if known is None else known.specification,
        latency_ms=Latency.modelled(1e3 * (profile.cycles or 0.0) / clock)
        if timed and clock
        else None,
        cycles=profile.cycles,
        instructions=profile.instructions,
    )


def _crossover(
    artifact: Artifact, runs: Sequence[Run], spikes: Spikes
) -> tuple[Crossover | None, tuple[str, ...]]:
    """Both schedules on the first device that counted cycles; else why there is no such figure."""
    run = _counted(runs)
    if run is None:
        return None, ()
    try:
        return measure_crossover(artifact, run, spikes), ()
    except (ToolchainMissingError, UnsupportedError) as error:
        return None, (f"event-driven was not held against dense: {error}",)
