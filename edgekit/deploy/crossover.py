"""Event-driven against dense, counted on the emulated core: the same network both ways.

What spikes do not drive, the neurons above all, is the same either way, and is taken from the real
windows that were counted for the report. The spike-driven operations are built twice more, each
with a bit set of its own: event-driven, and dense, and run at activities that are set, with the
neurons that fire spread evenly: what an event-driven operation takes depends on how many fire,
hardly on which. Dense has the fastest kernel that there is for the core: narrow weights are int8
there, which takes more flash and no unpacking; the levels are the same, and so is every bit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.bench.report import Run
from edgekit.bench.spiking import Crossover, Schedule, SweepPoint, crossing_of
from edgekit.deploy.rebuild import Opener, opener
from edgekit.deploy.session import Session
from edgekit.deploy.spikes import Driven, Spikes, bit_sets, driven
from edgekit.program.fuse import fuse_residual
from edgekit.program.ir import Array, Boundary, Operation, Program, Tensor
from edgekit.program.operators.spiking_bits import pack_spikes
from edgekit.program.verify import verify
from edgekit.targets.c.emit import Emission, emit
from edgekit.version import edgekit_version

if TYPE_CHECKING:
    from edgekit.deploy.artifact import Artifact

ACTIVITIES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0)
"""Shares of the inputs that are made to fire."""

METHOD = (
    "activities beside that of real windows are set, spread evenly over the inputs of the "
    "spike-driven operations; the rest of the step is that of real windows; dense has every weight "
    "as int8, by the fastest kernel for the core"
)


def measure_crossover(artifact: Artifact, run: Run, spikes: Spikes) -> Crossover | None:
    """Count both schedules; None where the network has nothing that spikes drive.

    Args:
        artifact: of a spiking network.
        run: of real windows, with the cycles of its layers.
        spikes: counted over real windows: the activity of every operation.

    Raises:
        ToolchainMissingError: no compiler for the target.
        UnsupportedError: the operations do not fit with one of the schedules.
    """
    if not spikes.synapses or run.step is None or run.cycles is None:
        return None
    program, opened = artifact.program, opener(artifact, run.device)
    layers = {layer.operation: (layer.cycles or 0.0) / run.step.steps for layer in run.layers}
    driven_names = [operation.name for operation, _ in driven(program)]
    rest = sum(cycles for name, cycles in layers.items() if name not in driven_names)
    own = {synapses.operation: synapses.activity for synapses in spikes.synapses}
    settings = [own, *(dict.fromkeys(own, activity) for activity in ACTIVITIES)]
    swept: dict[Schedule, list[dict[str, float]]] = {}
    schedules: tuple[Schedule, Schedule] = ("event", "dense")
    for schedule in schedules:
        with tempfile.TemporaryDirectory() as folder:
            probe = _emitted(artifact, probe_of(program, schedule))
            swept[schedule] = _sweep(probe, opened, Path(folder), run.device, settings)
    totals = {
        schedule: [rest + sum(setting.values()) for setting in found]
        for schedule, found in swept.items()
    }
    # Where an operation was deployed just so, real windows have counted it.
    event = rest + sum(
        layers[operation.name]
        if operator.schedule == "event"
        else swept["event"][0][operation.name]
        for operation, operator in driven(program)
    )
    points = tuple(
        SweepPoint(activity, totals["event"][number], totals["dense"][number])
        for number, activity in enumerate(ACTIVITIES, 1)
    )
    met = sum(s.synaptic_ops for s in spikes.synapses)
    return Crossover(
        device=run.device,
        provenance=run.provenance.cycles,
        activity=met / sum(s.dense_ops for s in spikes.synapses),
        event_cycles=event,
        dense_cycles=totals["dense"][0],
        points=points,
        crossing=crossing_of(points),
        method=METHOD,
    )


def scheduled(operator: Driven, schedule: Schedule) -> Driven:
    """An operator with one schedule; dense ones read int8, which any narrower level is as well."""
    coding = operator.coding if schedule == "event" else None
    return replace(operator, schedule=schedule, coding=coding)


def probe_of(program: Program, schedule: Schedule) -> Program:
    """Only the spike-driven operations, each with a bit set of its own as input.

    Currents that they continue become inputs as well.
    """
    tensors: dict[str, Tensor] = {}
    operations: list[Operation] = []
    inputs: list[Boundary] = []
    outputs: list[Boundary] = []
    for number, (operation, operator) in enumerate(driven(program)):
        names: list[str | None] = []
        for name in operation.inputs:
            if name is None:
                names.append(None)
                continue
            tensor = program.tensors[name]
            own = f"{number}.{len(names)}"
            tensors[own] = replace(tensor, name=own)
            names.append(own)
            if not tensor.is_constant:
                inputs.append(Boundary(own, own, tensor.shape))
        result = f"{number}.y"
        tensors[result] = replace(program.tensors[operation.outputs[0]], name=result)
        outputs.append(Boundary(result, result, tensors[result].shape))
        operations.append(
            Operation(operation.name, scheduled(operator, schedule), tuple(names), (result,))
        )
    made = Program(
        name=program.name,
        tensors=tensors,
        operations=tuple(operations),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )
    return verify(made, stage="crossover")


def spread(neurons: int, activity: float) -> Array:
    """The bit set int32[1, words] of a population of which a share fires, evenly spread.

    >>> spread(8, 0.25).tolist()
    [[136]]
    """
    places = np.arange(neurons + 1) * round(activity * neurons) // neurons
    return pack_spikes((np.diff(places) > 0)[np.newaxis])


def _emitted(artifact: Artifact, program: Program) -> Emission:
    fused, _ = fuse_residual(program)
    return emit(fused, features=artifact.target.features, version=edgekit_version())


def _sweep(
    emission: Emission,
    opened: Opener,
    folder: Path,
    device: str,
    settings: Sequence[Mapping[str, float]],
) -> list[dict[str, float]]:
    """Cycles of every spike-driven operation, for each setting of their activities."""
    program = emission.program
    machine = opened(emission.library, folder)
    found = []
    with Session(program, emission.library, emission.layers, machine, device) as session:
        for setting in settings:
            counts = session.count_layers(_set_inputs(program, setting))
            cycles = {
                layer.operation: count.cycles
                for layer, count in zip(emission.layers, counts, strict=True)
            }
            assert None not in cycles.values(), "the device counted cycles of the network"
            found.append({name: value for name, value in cycles.items() if value is not None})
    return found


def _set_inputs(program: Program, setting: Mapping[str, float]) -> Mapping[str, Array]:
    """Bit sets of the operations' activities, and currents of nought."""
    inputs: dict[str, Array] = {
        b.name: np.zeros(b.source_shape, program.tensors[b.tensor].dtype.numpy)
        for b in program.inputs
    }
    for operation, operator in driven(program):
        for name, neurons in bit_sets(operation, operator):
            inputs[name] = spread(neurons, setting[operation.name])
    return inputs
