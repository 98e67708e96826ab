"""Spiking networks as sources: NIR files, snnTorch networks, edgekit's own layers, graphs.

Whatever it was, it becomes a :class:`~edgekit.spiking.SpikingGraph`, and that a Program of one step
whose state is declared. The calibration windows [N, T, ...] say what no graph says of itself: how
many steps a window has, how large samples are, and how much fires, by which every layer gets its
event-driven or its dense kernel. So they are needed in float32 too; they are the test vectors as
well.

Imported where a spiking network is deployed: nothing else needs :mod:`edgekit.spiking`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.deploy.data import Samples, read_arrays, samples_for
from edgekit.deploy.manifest import (
    CalibrationUse,
    Configuration,
    Form,
    MembraneRecord,
    ModelRecord,
    SpikingRecord,
)
from edgekit.deploy.modules import Calibration
from edgekit.deploy.source import Source
from edgekit.errors import InvalidDataError, InvalidModelError, UnsupportedError, UsageError
from edgekit.program.ir import Array
from edgekit.program.lowering import Lowered, SpikingOptions, int16_scale, lower_noted
from edgekit.quantize.calibration import calibration_record, choose_samples
from edgekit.spiking.activity import measure
from edgekit.spiking.graph import SpikingGraph
from edgekit.spiking.nodes import Conv, Linear
from edgekit.spiking.quantize import quantize_weights
from edgekit.spiking.to_model import to_model
from edgekit.spiking.weight import Weight
from edgekit.targets import legality
from edgekit.targets.target import JETSON, Target

ACTIVITY_WINDOWS = 64
"""Calibration windows, drawn by the seed, that the activity is measured over."""

FLOAT32 = "float32"

NIR_OPTIONS = ("dt", "convention", "reset", "method")
"""What a user may say of a ``.nir`` file."""

NEURONS = "snntorch"
"""Package whose neurons make a torch module a spiking network."""


@dataclass(frozen=True)
class Found:
    """A spiking network, read.

    Attributes:
        graph: of one step.
        file: name for the manifest.
        sha256: of the file, else of the step as an ONNX model.
        form: what it was.
    """

    graph: SpikingGraph
    file: str
    sha256: str
    form: Form

    @property
    def record(self) -> ModelRecord:
        """For the manifest."""
        return ModelRecord(self.file, self.sha256, self.form)


def read_nir_file(path: Path, options: Mapping[str, str]) -> Found:
    """The network in a ``.nir`` file.

    Args:
        path: of the file.
        options: how it is read, as texts; see :func:`edgekit.spiking.nir.import_nir`.

    Raises:
        InvalidModelError: unreadable, or no network.
        UnsupportedError: nodes that no edgekit operator is.
        ToolchainMissingError: the package ``nir`` is missing.
        UsageError: options that are none.
    """
    unknown = sorted(options.keys() - set(NIR_OPTIONS))
    if unknown:
        raise UsageError(f"options {unknown} of a .nir file, must be of {', '.join(NIR_OPTIONS)}")
    given: dict[str, Any] = dict(options)
    if "dt" in given:
        try:
            given["dt"] = float(given["dt"])
        except ValueError:
            raise UsageError(f"dt of a .nir file is {given['dt']!r}, must be seconds") from None
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InvalidModelError(f"{path}: cannot be read: {error.strerror}") from error
    from edgekit.spiking.nir import read_nir

    return Found(read_nir(path, **given), path.name, digest, "nir")


def graph_of(
    model: object, name: str, calibration: Calibration | None, *, example: object = None
) -> Found | None:
    """An object as a spiking network; None where it is none.

    Args:
        model: a graph, a module of :mod:`edgekit.spiking.layers`, or one with snnTorch neurons.
        name: for the manifest and messages.
        calibration: windows; the first one, [T, 1, ...], is what an snnTorch network is recorded
            with where there is no example.
        example: what such a network's ``forward`` takes, a tensor or an array.

    Raises:
        InvalidModelError: a broken graph.
        UnsupportedError: layers or neurons of snnTorch that cannot be read.
        UsageError: an snnTorch network without windows.
    """
    if isinstance(model, SpikingGraph):
        return _found(model, name, "spiking")
    own = getattr(model, "graph", None)
    if callable(own) and isinstance(graph := own(), SpikingGraph):
        return _found(graph, name, "torch")
    if NEURONS not in sys.modules:
        return None
    from edgekit.spiking.imported import from_snntorch, is_spiking, tensor_of

    module: Any = model
    if not is_spiking(module):
        return None
    if example is not None:
        only = example[0] if isinstance(example, tuple) and len(example) == 1 else example
        return _found(from_snntorch(module, tensor_of(only)), name, "torch")
    if calibration is None:
        raise UsageError(_WINDOWS.format(name))
    window = tensor_of(_first_window(read_arrays(calibration), name))
    return _found(from_snntorch(module, window, time_axis=0), name, "torch")


_WINDOWS = (
    "{}: a spiking network needs windows [N, T, ...] (--calib FILE.npz, a few hundred from "
    "training): they say how many steps a window has, how large samples are and how much fires"
)


KEPT = (
    "precision auto keeps the weights of a spiking network, and with them its neurons, in float32; "
    "for integers ask for --precision int8 or narrower"
)
"""Note for those who gave no precision: calibration data alone quantise nothing here."""


def _found(graph: SpikingGraph, name: str, form: Form) -> Found:
    graph.validate()
    digest = hashlib.sha256(to_model(graph).model.to_bytes()).hexdigest()
    return Found(graph, name, digest, form)


def _first_window(arrays: Mapping[str, Array], name: str) -> Array:
    """One window float32[T, 1, ...] of the only input: time first, as snnTorch has it.

    Raises:
        UsageError: no windows.
    """
    windows = [values for values in arrays.values() if values.ndim >= 3 and values.size]
    if not windows:
        raise UsageError(_WINDOWS.format(name))
    window: Array = windows[0][0][:, np.newaxis].astype(np.float32)
    return window


def spiking_source(
    found: Found,
    target: Target,
    configuration: Configuration,
    calibration: Calibration | None,
) -> Source:
    """Quantise the weights where asked, lower the step, and fit the windows to it.

    Raises:
        UsageError: no windows, or options that do not go with spiking networks.
        InvalidDataError: windows that do not fit the network.
        UnsupportedError: a target or a precision without kernels for it.
    """
    graph, name = found.graph, found.file
    if target.family == JETSON:
        raise UnsupportedError(
            f"{name}: spiking networks are for microcontrollers, ARM CPUs and this machine; "
            f"TensorRT, which {target.name} runs, has no state"
        )
    if configuration.input_shapes or configuration.state or configuration.observer != "minmax":
        raise UsageError(
            f"{name}: a spiking network declares its inputs and its state, and its samples keep "
            "their largest value: leave input shapes, state and the observer out"
        )
    if calibration is None:
        raise UsageError(_WINDOWS.format(name))
    real = _lowered(_in_real_numbers(graph), configuration, SpikingOptions())
    windows = samples_for(real.program, calibration)
    if windows.steps is None:
        raise InvalidDataError(
            f"{name}: the calibration data are single samples, not windows of them"
        )
    activity, count = _activity(graph, windows, configuration)
    asked, element = configuration.precision, _element(graph, configuration, name)
    options = SpikingOptions(
        input_scale={} if element == FLOAT32 else _scales(windows), activity=activity
    )
    if element not in (FLOAT32, _given(graph)):
        graph = quantize_weights(graph, element)
    lowered = _lowered(graph, configuration, options)
    legality.check(lowered.program, target)
    used = calibration_record(
        windows.real, seed=configuration.seed, limit=configuration.calibration_limit
    )
    return Source(
        lowered.program,
        None if element == FLOAT32 else real.program,
        found.record,
        CalibrationUse(used.sha256, used.samples, used.observer, used.seed),
        notes=lowered.notes + ((KEPT,) if (asked, element) == ("auto", FLOAT32) else ()),
        samples=samples_for(lowered.program, _labelled(windows), window=windows.steps),
        spiking=SpikingRecord(
            steps=windows.steps,
            dt_seconds=graph.dt_seconds,
            element=element,
            parameters=_parameters(graph),
            windows=count,
            activity=tuple(activity.items()),
            membranes=_membranes(lowered),
        ),
    )


def _lowered(graph: SpikingGraph, configuration: Configuration, options: SpikingOptions) -> Lowered:
    """The Program of a step, under the network's name."""
    step = to_model(graph)
    lowered = lower_noted(step.model, state=step.state, spiking=options)
    return replace(lowered, program=lowered.program.replace(name=configuration.name))


def _activity(
    graph: SpikingGraph, windows: Samples, configuration: Configuration
) -> tuple[dict[str, float], int]:
    """Share of every population that fires, over windows drawn by the seed; and how many."""
    limit = min(ACTIVITY_WINDOWS, configuration.calibration_limit or ACTIVITY_WINDOWS)
    chosen = list(choose_samples(windows.real, seed=configuration.seed, limit=limit))
    shapes = graph.shapes()
    real = {
        name: values[chosen].reshape(len(chosen), windows.steps or 1, *shapes[name])
        for name, values in windows.real.items()
    }
    return dict(measure(graph, real).rates), len(chosen)


def _scales(windows: Samples) -> dict[str, float]:
    """What a step of every input's int16 means: its largest magnitude is the largest code."""
    return {
        name: int16_scale(float(values.min()), float(values.max()))
        for name, values in windows.real.items()
    }


def _labelled(windows: Samples) -> dict[str, Array]:
    labels = {} if windows.labels is None else {"labels": windows.labels}
    return {**windows.real, **labels}


def _in_real_numbers(graph: SpikingGraph) -> SpikingGraph:
    """The same weights, without codes."""
    return graph.with_nodes(
        {
            name: replace(node, weight=Weight(node.weight.values))
            for name, node in graph.nodes.items()
            if isinstance(node, Linear | Conv)
        }
    )


def _given(graph: SpikingGraph) -> str:
    """The element that most of a graph's own weights have; float32 where none is coded.

    Constant matrices, such as those of a Legendre memory, may keep more bits than what is trained.

    Raises:
        UnsupportedError: some weights are coded, others real.
    """
    held: dict[str, int] = {}
    for node in graph.nodes.values():
        if isinstance(node, Linear | Conv):
            element = node.weight.element or FLOAT32
            held[element] = held.get(element, 0) + node.weight.values.size
    if FLOAT32 in held and len(held) > 1:
        raise UnsupportedError(
            f"{graph.name}: some weights are {' or '.join(sorted(held.keys() - {FLOAT32}))}, "
            "others real numbers; code all of them or none"
        )
    return max(held, key=lambda element: held[element], default=FLOAT32)


def _element(graph: SpikingGraph, configuration: Configuration, name: str) -> str:
    """What the deployed weights are.

    Raises:
        UsageError: float32 of quantised weights, or another element than they have.
    """
    own, asked = _given(graph), configuration.precision
    if asked == "auto":
        return own
    if asked == "float16":
        raise UsageError(f"{name}: float16 is a precision of Jetsons")
    if own not in (FLOAT32, asked):
        raise UsageError(f"{name}: its weights are {own}; {asked} cannot be had from it")
    return asked


def _parameters(graph: SpikingGraph) -> int:
    """Weights and biases."""
    nodes = [n for n in graph.nodes.values() if isinstance(n, Linear | Conv)]
    return sum(n.weight.values.size + (0 if n.bias is None else n.bias.size) for n in nodes)


def _membranes(lowered: Lowered) -> tuple[MembraneRecord, ...]:
    return tuple(
        MembraneRecord(
            operation=kept.population,
            fraction=kept.fraction,
            bound=kept.bound,
            limit=kept.limit,
            unit_low=kept.unit[0],
            unit_high=kept.unit[1],
        )
        for kept in lowered.membranes.values()
    )
