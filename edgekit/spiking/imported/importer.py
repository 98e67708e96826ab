"""From a module to a graph, and the check that both do the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.errors import UnsupportedError, VerificationError
from edgekit.spiking.arrays import Array, Float32
from edgekit.spiking.drift import ROUNDING, Drift, Trace, compare_traces
from edgekit.spiking.graph import SpikingGraph
from edgekit.spiking.imported.build import Builder
from edgekit.spiking.imported.expressions import INPUT
from edgekit.spiking.imported.layers import numpy
from edgekit.spiking.imported.recorder import observed
from edgekit.spiking.imported.rolling import Result, kinds
from edgekit.spiking.imported.running import Recording, record
from edgekit.spiking.nodes import Input, Leaky, Synaptic, spread_over
from edgekit.spiking.simulate import Simulator


def from_snntorch(
    module: nn.Module,
    sample: Tensor,
    *,
    num_steps: int | None = None,
    time_axis: int | None = None,
    membranes: bool | None = None,
    clamp: bool = False,
    check: bool = True,
) -> SpikingGraph:
    """One time step of a network of snnTorch neurons as a graph.

    The module is run on the sample, in evaluation mode and from zero states, and what it does is
    recorded; every step must do the same. Its parameters, states and modes are left as they were.
    ``forward`` may

    - hold the loop over time, whose steps read slices of the sample along one axis, or the whole
      sample every time;
    - be one step that carries its states: in neurons with ``init_hidden=True``, in attributes, or
      as arguments behind the first that it also returns.

    Layers are Linear, Conv1d, Conv2d, MaxPool, AvgPool, Flatten; Dropout and Identity are nothing,
    BatchNorm and constant factors and shifts go into the weights next to them. Neurons are Leaky,
    Synaptic, RLeaky, RSynaptic and Lapicque with any of snnTorch's resets, learned parameters or
    fixed ones; what they become: :mod:`edgekit.spiking.imported.neurons`.

    What forward returns become Output nodes: spikes as they are (a stack over time is the Output
    of every step), their sum or mean over time as running counts named ``scores``, membranes and
    synaptic currents through integrators that follow them.

    Args:
        module: in float32.
        sample: what forward takes first: one sample or a batch of them, with batch axis, and with
            time axis where forward steps along it.
        num_steps: how many steps forward is meant to run, checked; passed on where forward has an
            argument of this name. Of a network whose forward is one step: how many steps to check.
        time_axis: axis of the sample that is time. Of a forward with a loop it is found, and this
            is checked; where forward is one step, its slices are what forward gets.
        membranes: True: membranes and currents that forward returns are Outputs; False: they are
            not; None: where forward returns nothing made of spikes.
        clamp: take decays outside [0, 1] as snnTorch does, which clamps them as it runs.
        check: compare graph and module on the sample, see :func:`check_drift`.

    Returns:
        A valid graph. Populations are called by the paths of their modules.

    Raises:
        InvalidDataError: a sample that forward does not take, or with time in the wrong place.
        InvalidModelError: a decay outside [0, 1], NaN, no neuron at all.
        UnsupportedError: a neuron, an option of one, or an operation that is not supported.
        VerificationError: the graph does something else than the module.
        UsageError: arguments that make no sense.
    """
    recording = record(module, sample, num_steps=num_steps, time_axis=time_axis, clamp=clamp)
    results = _wanted(recording, membranes)
    graph, outputs = _built(module, recording, results)
    if check:
        drift, values = _compared(graph, recording)
        drift.raise_if()
        if not drift.differing:
            _check_results(recording, results, outputs, values)
    return graph


def check_drift(
    graph: SpikingGraph,
    module: nn.Module,
    samples: Tensor,
    *,
    num_steps: int | None = None,
    time_axis: int | None = None,
    clamp: bool = False,
) -> Drift:
    """How far a graph is from the module that it was imported from, on some samples.

    Args:
        graph: made by :func:`from_snntorch`, perhaps changed since (quantised).
        module: the source.
        samples: as the sample of :func:`from_snntorch`; windows are what its batch axis counts.
        num_steps: as there.
        time_axis: as there.
        clamp: as there.

    Returns:
        Populations that graph and module both have are compared, spike by spike.

    Raises:
        VerificationError: the graph lacks populations, or has others of these names.
        EdgekitError: as :func:`from_snntorch`.
    """
    recording = record(module, samples, num_steps=num_steps, time_axis=time_axis, clamp=clamp)
    return _compared(graph, recording)[0]


def _wanted(recording: Recording, membranes: bool | None) -> list[Result]:
    """Results that become Outputs.

    Raises:
        UnsupportedError: none.
    """
    fired = [r for r in recording.results if "spikes" in kinds(r.value)]
    if membranes is False or (membranes is None and fired):
        results = fired
    else:
        results = list(recording.results)
    if not results:
        raise UnsupportedError(
            "forward returns no spikes and no sums of them"
            + ("" if membranes is None else f" (membranes={membranes})")
        )
    return results


def _built(
    module: nn.Module, recording: Recording, results: list[Result]
) -> tuple[SpikingGraph, Mapping[int, str]]:
    return Builder(
        type(module).__name__,
        recording.recorder.populations,
        recording.currents,
        results,
        recording.step_shape,
    ).build()


def _compared(graph: SpikingGraph, recording: Recording) -> tuple[Drift, dict[str, Array]]:
    """The drift, and what the graph gives: [T,N,...] by Output."""
    seen: dict[str, list[Array]] = {}
    windows = int(recording.window.shape[1])
    simulator = Simulator(
        graph,
        batch=windows,
        observe=lambda name, value: seen.setdefault(name, []).append(value),
    )
    shape = graph.nodes[INPUT]
    assert isinstance(shape, Input)
    window = numpy(recording.window).reshape(recording.steps, windows, *shape.shape)
    values = simulator.run({INPUT: window.astype(np.float32)})
    reference, ours, thresholds = {}, {}, {}
    for name in graph.order():
        population, node = recording.recorder.populations.get(name), graph.nodes[name]
        if population is None or not isinstance(node, Leaky | Synaptic):
            continue
        spikes, membrane = observed(population)
        followed = np.stack(seen[f"{name}.membrane"], axis=1)
        reference[name] = Trace(membrane, spikes if node.spiking else None)
        ours[name] = Trace(followed, np.stack(seen[name], axis=1) != 0 if node.spiking else None)
        thresholds[name] = spread_over(node.threshold, population.shape)
    return compare_traces(reference, ours, thresholds), values


def _check_results(
    recording: Recording,
    results: list[Result],
    outputs: Mapping[int, str],
    values: Mapping[str, Array],
) -> None:
    """That Outputs are what forward returns, where all spikes agree.

    Raises:
        VerificationError: they are not.
    """
    for result in results:
        theirs = _returned(recording, result)
        ours: Float32 = values[outputs[result.place]]
        if result.how == "last" and not recording.streaming:
            ours = ours[-1:]
        allowed = ROUNDING * max(1.0, float(np.abs(theirs).max(initial=0.0)))
        apart = (
            float(np.abs(ours - theirs).max(initial=0.0)) if ours.shape == theirs.shape else None
        )
        if apart is None or not apart <= allowed:
            how = f"up to {apart:.3g} apart" if apart is not None else f"of the shape {ours.shape}"
            raise VerificationError(
                f"the Output {outputs[result.place]!r} is not what forward returns as its result "
                f"{result.place}: {how}, although all spikes agree"
            )


def _returned(recording: Recording, result: Result) -> Array:
    """What forward returned, [T,N,...], or [1,N,...] of the last step."""
    found = [row[result.place] for row in recording.values]
    first = found[0]
    if recording.streaming:
        return np.stack([numpy(value) for value in found if isinstance(value, Tensor)])
    if isinstance(first, list):
        return np.stack([numpy(value) for value in first])
    assert isinstance(first, torch.Tensor)
    value = numpy(first)
    return np.moveaxis(value, result.axis, 0) if result.how == "steps" else value[None]
