"""What torch's functions do to labels: dispatch.

The table itself is in three parts: :mod:`~edgekit.spiking.imported.calls` has the layers of one
step, :mod:`~edgekit.spiking.imported.arithmetic_calls` its sums and products,
:mod:`~edgekit.spiking.imported.time_calls` what takes windows apart into steps and puts steps
together. An entry takes the recorder, the result and the function's own
arguments, and returns the label of the result; None leaves it without, a tuple labels several.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from edgekit.errors import InvalidDataError, UnsupportedError
from edgekit.spiking.arrays import Shape
from edgekit.spiking.imported import layers
from edgekit.spiking.imported.affine import Affine
from edgekit.spiking.imported.expressions import (
    INPUT,
    Apply,
    Expression,
    Joined,
    Label,
    Opaque,
    Series,
    Signal,
    Window,
)
from edgekit.spiking.imported.layers import UnknownError

if TYPE_CHECKING:
    from edgekit.spiking.imported.recorder import Recorder

Handler = Callable[..., "Label | tuple[Label, ...] | None"]

HANDLERS: dict[object, Handler] = {}
"""By torch function, as a ``TorchFunctionMode`` meets it."""

CHECKS: dict[object, Callable[..., None]] = {}
"""What is looked at before the function runs, because it may fail or change control flow."""

SUPPORTED = (
    "supported between neurons: Linear, Conv1d, Conv2d, MaxPool, AvgPool, Flatten, Dropout, "
    "BatchNorm, Identity, sums, and factors and shifts that are constant"
)


def handles(*called: object) -> Callable[[Handler], Handler]:
    """Enter a handler for some functions."""

    def enter(handler: Handler) -> Handler:
        for function in called:
            HANDLERS[function] = handler
        return handler

    return enter


def before(
    recorder: Recorder, func: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Look at a call before it runs.

    Raises:
        EdgekitError: the call cannot be followed.
    """
    check = CHECKS.get(_key(func))
    if check is not None:
        check(recorder, *args, **kwargs)


def after(
    recorder: Recorder,
    func: object,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    result: object,
) -> None:
    """Label what a call returned."""
    handler = HANDLERS.get(_key(func))
    known = [label for t in tensors((*args, *kwargs.values())) if (label := recorder.label(t))]
    if not known and not getattr(handler, "of_constants", False):
        return
    name = getattr(func, "__name__", str(func)).strip("_")
    opaque = next((label for label in known if isinstance(label, Opaque)), None)
    labels: Label | tuple[Label, ...] | None
    try:
        if opaque is not None:
            labels = opaque
        elif handler is None:
            raise UnknownError(f"torch's {name}")
        else:
            named = {_NUMPYS_NAMES.get(key, key): value for key, value in kwargs.items()}
            # torch calls the first argument of its functions input, of its methods self.
            first = [named.pop(n) for n in ("input", "self") if n in named]
            try:
                call = _signature(handler).bind(recorder, result, *first, *args, **named)
            except TypeError as error:
                raise UnknownError(f"torch's {name}: {error}") from None
            labels = handler(*call.args, **call.kwargs)
    except UnknownError as error:
        labels = Opaque(str(error))
    if func is Tensor.__setitem__:
        result = args[0]
    results = tuple(tensors((result,)))
    several = labels if isinstance(labels, tuple) else (labels,) * len(results)
    for tensor, label in zip(results, several, strict=True):
        if label is not None:
            recorder.set_label(tensor, label)


def tensors(values: object) -> Iterator[Tensor]:
    """All tensors in arguments or results."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors(value)
    elif isinstance(values, Mapping):
        yield from tensors(tuple(values.values()))


def expression(recorder: Recorder, tensor: Tensor) -> Expression:
    """One step's value.

    Raises:
        UnknownError: the tensor is none.
    """
    label = recorder.label(tensor)
    if isinstance(label, Window):
        return constant_input(recorder, label)
    if isinstance(label, Expression):
        return label
    if label is None:
        return recorder.value(tensor, "a layer")
    raise UnknownError(describe(label))


def constant_input(recorder: Recorder, window: Window) -> Expression:
    """The whole input as what every step reads.

    Raises:
        UnknownError: its axes were exchanged, or samples mixed.
    """
    kept = [axis for axis in window.axes if axis is not None and axis >= 0]
    if kept != list(range(len(kept))) or None in window.axes[:1]:
        raise UnknownError("a permutation of the input that takes no step out of it")
    return one_step(recorder, window, Signal(INPUT, "input", None), recorder.sample_shape)


def one_step(recorder: Recorder, window: Window, signal: Expression, shape: Shape) -> Expression:
    """What was done to the whole input, done to one step of it.

    Args:
        recorder: with the layers so far.
        window: whose axes and shape are those that the step has.
        signal: the step.
        shape: that it has in the sample, with batch.

    Raises:
        UnknownError: it cannot be.
    """
    value = layers.reshape(recorder.layers, signal, shape, window.shape)
    now = window.shape[1:]
    for layer in window.layers:
        if isinstance(layer, Affine):
            made = layers.affine(
                *(recorder.layers, value, now), factor=layer.factor, shift=layer.shift
            )
            value = made
        elif len(now) == 1:
            value, now = Apply(layer, value), layer.shape
        else:
            raise UnknownError(f"{layer.name} on an input of the shape {list(window.shape)}")
    return value


def describe(label: Label) -> str:
    """What a label is, for messages."""
    match label:
        case Opaque(reason):
            return f"the result of {reason}"
        case Window():
            return "the whole input"
        case Series():
            return "values of several steps at once"
        case Joined():
            return "a concatenation"
        case Signal(source, kind, step):
            return "the input" if source == INPUT else f"the {kind} of {source} in step {step}"
    return "a computed value"


def whence(label: Label | None) -> str:
    """The end of a message about a value that should be another."""
    return "" if label is None else f", but {describe(label)}"


def batch_error(path: str, x: Tensor) -> InvalidDataError:
    """For a value without batch axis."""
    return InvalidDataError(
        f"{path} reads a value of the shape {list(x.shape)}, which has no batch axis; a step must "
        "be [N,...], with N = 1 for one sample: sample.unsqueeze(...) adds the axis"
    )


def taken_out(recorder: Recorder, tensor: Tensor, *args: Any) -> None:
    """Refuse values that leave torch: what is done with them, or decided by them, is not seen.

    Raises:
        UnsupportedError: the value depends on the input.
    """
    label = recorder.label(tensor)
    if label is not None:
        raise UnsupportedError(
            f"forward takes {describe(label)} out of its tensor, perhaps to decide what to do; "
            "supported: the same operations on tensors in every step, whatever the input"
        )


CHECKS |= dict.fromkeys(
    (
        *(Tensor.__bool__, Tensor.__int__, Tensor.__float__, Tensor.__index__),
        *(Tensor.item, Tensor.tolist, Tensor.numpy),
    ),
    taken_out,
)


_signature = functools.cache(inspect.signature)

_NUMPYS_NAMES = {"axis": "dim", "keepdims": "keepdim"}
"""NumPy's names of arguments, which torch takes as well as its own."""


def _key(func: object) -> object:
    try:
        hash(func)
    except TypeError:
        return None
    return func
