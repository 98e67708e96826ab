"""The table's third part: taking steps out of the input, and putting steps together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from edgekit.errors import InvalidDataError
from edgekit.spiking.imported import layers
from edgekit.spiking.imported.expressions import (
    INPUT,
    Expression,
    Joined,
    Label,
    Series,
    Signal,
    Window,
    Zero,
    add,
)
from edgekit.spiking.imported.functions import (
    CHECKS,
    constant_input,
    expression,
    handles,
    one_step,
)
from edgekit.spiking.imported.layers import UnknownError

if TYPE_CHECKING:
    from edgekit.spiking.imported.recorder import Recorder


def _step(recorder: Recorder, tensor: Tensor, window: Window, axis: int, index: int) -> Expression:
    """One step of the input.

    Raises:
        InvalidDataError: forward steps along two axes.
        UnknownError: what is left has other axes than a step, or in another order.
    """
    origin = window.axes[axis]
    rest = replace(
        window,
        axes=(*window.axes[:axis], *window.axes[axis + 1 :]),
        shape=(*window.shape[:axis], *window.shape[axis + 1 :]),
    )
    if origin is None:
        return constant_input(recorder, rest)
    if origin < 0:
        raise UnknownError("a step along an axis that merges several")
    if recorder.time_axis not in (None, origin):
        raise InvalidDataError(
            f"forward takes steps along axis {recorder.time_axis} of the sample and along axis "
            f"{origin}; time must be one axis"
        )
    recorder.time_axis = origin
    kept = [a for a in rest.axes if a is not None and a >= 0]
    if kept != sorted(kept) or (rest.axes and rest.axes[0] is None):
        raise UnknownError("a step of the input with its other axes exchanged")
    shape = recorder.sample_shape
    step_shape = (*shape[:origin], *shape[origin + 1 :])
    return one_step(recorder, rest, Signal(INPUT, "input", index), step_shape)


def _position(index: object, ndim: int) -> tuple[int, int] | None:
    """Axis and number of the one integer in an index; None where the index takes everything.

    Raises:
        UnknownError: anything else is in it.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in [p for p in parts if not isinstance(p, Tensor)]:
        place = next(i for i, p in enumerate(parts) if p is Ellipsis)
        parts[place : place + 1] = [slice(None)] * (ndim - len(parts) + 1)
    found: tuple[int, int] | None = None
    for axis, part in enumerate(parts):
        if isinstance(part, slice) and part == slice(None):
            continue
        if isinstance(part, Tensor) and part.ndim == 0 and not part.is_floating_point():
            part = int(part)
        if isinstance(part, bool) or not isinstance(part, int) or found is not None:
            raise UnknownError("indexing with more than one step")
        found = (axis, part)
    return found


def check_index(recorder: Recorder, tensor: Tensor, index: object) -> None:
    """Say what an index beyond the sample means, before torch fails on it.

    Raises:
        InvalidDataError: forward steps along an axis of the sample that is too short.
    """
    window = recorder.label(tensor)
    if not isinstance(window, Window):
        return
    try:
        position = _position(index, tensor.ndim)
    except UnknownError:
        return
    if position is not None and position[0] < tensor.ndim:
        _check_extent(recorder, window, tensor, *position)


def check_select(recorder: Recorder, tensor: Tensor, dim: int, index: int) -> None:
    """As :func:`check_index`."""
    window = recorder.label(tensor)
    if isinstance(window, Window):
        _check_extent(recorder, window, tensor, dim % tensor.ndim, int(index))


def _check_extent(
    recorder: Recorder, window: Window, tensor: Tensor, axis: int, index: int
) -> None:
    extent, origin = tensor.shape[axis], window.axes[axis]
    if not -extent <= index < extent and origin is not None:
        raise InvalidDataError(
            f"forward reads step {index} along axis {origin} of the sample, which has "
            f"{extent} there: {list(recorder.sample_shape)}; the time axis is in the wrong place, "
            "or the sample is too short"
        )


CHECKS[Tensor.__getitem__] = check_index
CHECKS[torch.select] = check_select
CHECKS[Tensor.select] = check_select


@handles(Tensor.__getitem__)
def item(recorder: Recorder, out: Tensor, x: Tensor, index: object) -> Label:
    """One step of the input, or of values put together before."""
    position = _position(index, x.ndim)
    label = recorder.label(x)
    assert label is not None
    return label if position is None else _selected(recorder, out, x, *position)


@handles(torch.select, Tensor.select)
def select(recorder: Recorder, out: Tensor, x: Tensor, dim: int, index: int) -> Label:
    """As :func:`item`."""
    return _selected(recorder, out, x, dim % x.ndim, int(index))


@handles(torch.unbind, Tensor.unbind)
def unbind(recorder: Recorder, out: Sequence[Tensor], x: Tensor, dim: int = 0) -> tuple[Label, ...]:
    """All steps; ``for x in window`` comes here too."""
    axis = dim % x.ndim
    return tuple(_selected(recorder, part, x, axis, i) for i, part in enumerate(out))


def _selected(recorder: Recorder, out: Tensor, given: Tensor, axis: int, index: int) -> Label:
    label = recorder.label(given)
    index %= given.shape[axis]
    if isinstance(label, Window):
        return _step(recorder, out, label, axis, index)
    if isinstance(label, Series) and axis == label.axis:
        return label.values[index]
    raise UnknownError("a part of a population")


@handles(Tensor.__setitem__)
def set_item(recorder: Recorder, out: None, x: Tensor, index: Any, value: Any) -> Label | None:
    """A step's value put into a tensor of zeros that has one place for every step."""
    position = _position(index, x.ndim)
    if not isinstance(value, Tensor) or position is None:
        raise UnknownError("an assignment to more than one step")
    axis, place = position
    label = recorder.label(x)
    extent = x.shape[axis]
    if label is None:
        # The value is in it already; all other places must still be empty.
        others = torch.cat(
            (
                x.narrow(axis, 0, place % extent),
                x.narrow(axis, place % extent + 1, extent - place % extent - 1),
            ),
            axis,
        )
        if others.any():
            raise UnknownError("an assignment into a constant")
        label = Series((Zero(),) * extent, axis)
    if not isinstance(label, Series) or label.axis != axis or value.shape != x[index].shape:
        raise UnknownError("an assignment to a part of a population")
    values = list(label.values)
    values[place % extent] = expression(recorder, value)
    return Series(tuple(values), axis)


@handles(torch.stack)
def stack(recorder: Recorder, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Label:
    """Steps along a new axis."""
    return Series(tuple(expression(recorder, t) for t in tensors), dim % out.ndim)


@handles(torch.cat, torch.concat, torch.concatenate)
def cat(recorder: Recorder, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> Label:
    """Flat values one behind the other, or series of steps."""
    axis = dim % out.ndim
    found = [recorder.label(t) for t in tensors]
    if all(isinstance(label, Series) and label.axis == axis for label in found):
        return Series(tuple(v for s in found if isinstance(s, Series) for v in s.values), axis)
    if axis != 1 or out.ndim != 2:
        raise UnknownError("a concatenation of other than flat values of one step")
    parts: list[tuple[Expression, int]] = []
    for tensor, label in zip(tensors, found, strict=True):
        width = int(tensor.shape[1])
        parts.extend(
            label.parts if isinstance(label, Joined) else [(expression(recorder, tensor), width)]
        )
    return Joined(tuple(parts))


@handles(torch.sum, Tensor.sum)
def total(
    recorder: Recorder,
    out: Tensor,
    x: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    **kwargs: Any,
) -> Label:
    """Over all steps; with `keepdim` a series of this one value."""
    series = _over_time(recorder, x, dim, kwargs, "sum")
    value = add(series.values)
    return Series((value,), series.axis) if keepdim else value


@handles(torch.mean, Tensor.mean)
def mean(
    recorder: Recorder,
    out: Tensor,
    x: Tensor,
    dim: Any = None,
    keepdim: bool = False,
    **kwargs: Any,
) -> Label:
    """Over all steps; with `keepdim` a series of this one value."""
    series = _over_time(recorder, x, dim, kwargs, "mean")
    shape = tuple((out.select(series.axis, 0) if keepdim else out).shape[1:])
    share = 1.0 / len(series.values)
    value = layers.affine(recorder.layers, add(series.values), shape, factor=share, what="mean")
    return Series((value,), series.axis) if keepdim else value


def _over_time(
    recorder: Recorder, tensor: Tensor, dim: Any, rest: dict[str, Any], what: str
) -> Series:
    label = recorder.label(tensor)
    axes = {d % tensor.ndim for d in ((dim,) if isinstance(dim, int) else dim or ())}
    if not isinstance(label, Series) or axes != {label.axis} or any(rest.values()):
        raise UnknownError(f"a {what} over other axes than the steps")
    return label


@handles(torch.permute, Tensor.permute)
def permute(recorder: Recorder, out: Tensor, x: Tensor, *dims: Any) -> Label:
    """Of the input's axes, or of the axis of steps among others."""
    order = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
    return _permuted(recorder, x, [d % x.ndim for d in order])


@handles(torch.transpose, Tensor.transpose, torch.swapaxes, Tensor.swapaxes, torch.swapdims)
def transpose(recorder: Recorder, out: Tensor, x: Tensor, dim0: int, dim1: int) -> Label:
    """As :func:`permute`."""
    order = list(range(x.ndim))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permuted(recorder, x, order)


@handles(torch.movedim, Tensor.movedim, torch.moveaxis)
def movedim(recorder: Recorder, out: Tensor, x: Tensor, source: int, destination: int) -> Label:
    """As :func:`permute`."""
    if not isinstance(source, int) or not isinstance(destination, int):
        raise UnknownError("movedim of several axes")
    order = [axis for axis in range(x.ndim) if axis != source % x.ndim]
    order.insert(destination % x.ndim, source % x.ndim)
    return _permuted(recorder, x, order)


def _permuted(recorder: Recorder, given: Tensor, order: Iterable[int]) -> Label:
    label, axes = recorder.label(given), list(order)
    if isinstance(label, Window) and not label.layers:
        return Window(
            tuple(label.axes[axis] for axis in axes), tuple(label.shape[axis] for axis in axes)
        )
    if isinstance(label, Series):
        others = [axis for axis in axes if axis != label.axis]
        if others == sorted(others):
            return Series(label.values, axes.index(label.axis))
    raise UnknownError("a permutation of a population's axes")


@handles(torch.unsqueeze, Tensor.unsqueeze)
def unsqueeze(recorder: Recorder, out: Tensor, x: Tensor, dim: int) -> Label:
    """An axis in front to stack steps along, or a new axis of a step's own."""
    label, axis = recorder.label(x), dim % out.ndim
    if isinstance(label, Window) and not label.layers:
        axes = (*label.axes[:axis], None, *label.axes[axis:])
        return Window(axes, tuple(out.shape))
    if isinstance(label, Window | Series | Joined):
        raise UnknownError("a new axis of a whole window")
    value = expression(recorder, x)
    if axis == 0:
        return Series((value,), 0)
    return layers.reshape(recorder.layers, value, tuple(x.shape), out.shape)


@handles(Tensor.repeat, Tensor.expand)
def repeat(recorder: Recorder, out: Tensor, x: Tensor, *sizes: Any) -> Label:
    """The same input for every step: only axes that were inserted grow."""
    label = recorder.label(x)
    if isinstance(label, Window) and not label.layers and out.ndim == x.ndim:
        grown = [a for a in range(out.ndim) if out.shape[a] != x.shape[a]]
        if all(label.axes[axis] is None for axis in grown):
            return Window(label.axes, tuple(out.shape))
    raise UnknownError("a repetition of values")


@handles(
    *(torch.flatten, Tensor.flatten, torch.reshape, Tensor.reshape, Tensor.view, Tensor.view_as),
    *(torch.squeeze, Tensor.squeeze, Tensor.unflatten, torch.unflatten, Tensor.reshape_as),
)
def reshape(recorder: Recorder, out: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Label:
    """Another shape of every sample, or of every step of the input."""
    label = recorder.label(x)
    given, wanted = tuple(x.shape), tuple(out.shape)
    if given == wanted:
        assert label is not None
        return label
    if isinstance(label, Window):
        if label.layers:
            raise UnknownError("a view of the whole input behind other operations")
        same = 0
        while same < min(len(given), len(wanted)) and given[same] == wanted[same]:
            same += 1
        axes = (*label.axes[:same], *(-1 for _ in wanted[same:]))
        return Window(axes, wanted)
    if isinstance(label, Series):
        if len(label.values) > 1:
            raise UnknownError("a view of several steps")
        step = tuple(x.select(label.axis, 0).shape)
        return layers.reshape(recorder.layers, label.values[0], step, wanted)
    return layers.reshape(recorder.layers, expression(recorder, x), given, wanted)
