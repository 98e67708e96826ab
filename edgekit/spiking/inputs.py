"""Samples for a spiking graph, checked: names, shapes with time first, no NaN."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.errors import InvalidDataError
from edgekit.spiking.arrays import Array, Shape
from edgekit.spiking.graph import SpikingGraph


def checked_step(
    graph: SpikingGraph, inputs: Mapping[str, Array] | Array, *, batch: int | None = None
) -> dict[str, Array]:
    """The inputs of one step, by name.

    Args:
        graph: valid.
        inputs: by name of the Input nodes, or the array of the only one.
        batch: extent of the axis in front of the nodes' shapes; None: there is none.

    Raises:
        InvalidDataError: missing or unknown names, other shapes, no numbers, NaN or infinity.
    """
    arrays = _by_name(graph, inputs)
    for name, array in arrays.items():
        wanted = _shape(graph, name, batch)
        if array.shape != wanted:
            raise InvalidDataError(
                f"{graph.name}: input {name!r} has the shape {list(array.shape)}, must be "
                f"{list(wanted)} in one step"
            )
        wrong = _unfit(array)
        if wrong.any():
            place = [int(index) for index in np.argwhere(wrong)[0]]
            raise InvalidDataError(
                f"{graph.name}: input {name!r} at {place} is {array[tuple(place)]}, samples must "
                "be finite in float32"
            )
    return arrays


def checked_window(
    graph: SpikingGraph, window: Mapping[str, Array] | Array, *, batch: int | None = None
) -> dict[str, Array]:
    """The inputs of all steps of a window, by name, time first.

    Args:
        graph: valid.
        window: [T,...] by name of the Input nodes, or the array of the only one.
        batch: extent of the axis behind time; None: there is none.

    Raises:
        InvalidDataError: as :func:`checked_step`; a time axis in another place; no steps; inputs
            with several numbers of steps.
    """
    arrays = _by_name(graph, window)
    for name, array in arrays.items():
        wanted = _shape(graph, name, batch)
        if array.shape[1:] != wanted or array.ndim != len(wanted) + 1:
            raise InvalidDataError(
                f"{graph.name}: input {name!r} has the shape {list(array.shape)}, must be "
                f"{_listed(wanted)}: time is the first axis{_hint(array.shape, wanted)}"
            )
        if len(array) == 0:
            raise InvalidDataError(f"{graph.name}: input {name!r} has no steps")
        wrong = _unfit(array)
        if wrong.any():
            step, *place = (int(index) for index in np.argwhere(wrong)[0])
            raise InvalidDataError(
                f"{graph.name}: input {name!r} at {place} of step {step} is "
                f"{array[(step, *place)]}, samples must be finite in "
                "float32; fill or cut the gap before"
            )
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidDataError(f"{graph.name}: inputs have several numbers of steps: {lengths}")
    return arrays


def checked_windows(graph: SpikingGraph, windows: Mapping[str, Array] | Array) -> dict[str, Array]:
    """Many windows of every input, by name, windows first and time second.

    What is in them is not looked at: :func:`checked_window` does.

    Args:
        graph: valid.
        windows: [N,T,...] by name of the Input nodes, or the array of the only one.

    Raises:
        InvalidDataError: missing or unknown names, other shapes, no window, inputs with several
            numbers of windows.
    """
    arrays = _by_name(graph, windows)
    for name, array in arrays.items():
        wanted = graph.shapes()[name]
        if array.shape[2:] != wanted or array.ndim != len(wanted) + 2 or len(array) == 0:
            raise InvalidDataError(
                f"{graph.name}: input {name!r} has the shape {list(array.shape)}, must be "
                f"[windows, {_listed(wanted)[1:]} with at least one window"
            )
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise InvalidDataError(f"{graph.name}: inputs have several numbers of windows: {counts}")
    return arrays


def _by_name(graph: SpikingGraph, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
    names = graph.inputs()
    if not isinstance(inputs, Mapping):
        if len(names) > 1:
            raise InvalidDataError(
                f"{graph.name}: one array given for the inputs {', '.join(names)}; give them by "
                "name"
            )
        inputs = {names[0]: inputs}
    if set(inputs) != set(names):
        raise InvalidDataError(
            f"{graph.name}: inputs {sorted(map(str, inputs))} given, must be {sorted(names)}"
        )
    arrays = {name: np.asarray(inputs[name]) for name in names}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise InvalidDataError(
                f"{graph.name}: input {name!r} is {array.dtype}, must be numbers"
            )
    return arrays


def _unfit(array: Array) -> Array:
    """Where samples are NaN, infinite, or beyond float32."""
    return np.asarray(~(np.abs(array) <= np.finfo(np.float32).max))


def _shape(graph: SpikingGraph, name: str, batch: int | None) -> Shape:
    shape = graph.shapes()[name]
    return shape if batch is None else (batch, *shape)


def _listed(wanted: Shape) -> str:
    return f"[steps, {', '.join(map(str, wanted))}]"


def _hint(given: Shape, wanted: Shape) -> str:
    """What another order of axes suggests."""
    for axis in range(1, len(given)):
        if (*given[:axis], *given[axis + 1 :]) == wanted:
            return f", here it seems to be axis {axis}; move it to the front"
    return ""
