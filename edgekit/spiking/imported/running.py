"""Runs a module for the recorder: once, where forward holds the loop, or step by step."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import (
    EdgekitError,
    InvalidDataError,
    InvalidModelError,
    UnsupportedError,
    UsageError,
)
from edgekit.spiking.arrays import Shape
from edgekit.spiking.imported.expressions import Expression, Signal
from edgekit.spiking.imported.layers import check_float32
from edgekit.spiking.imported.neurons import SUPPORTED, is_spiking
from edgekit.spiking.imported.recorder import KINDS, Recorder
from edgekit.spiking.imported.rolling import (
    Result,
    count_steps,
    kinds,
    parts_of,
    read_results,
    roll_up,
)

STREAM_STEPS = 25
"""Steps that a streaming network is run for where neither the sample nor the caller says."""

LEAST_STEPS = 3
"""Steps that a streaming network is run for at least: the first two differ by the zero state."""


@dataclass(frozen=True)
class Recording:
    """What a module did.

    Attributes:
        recorder: with all populations.
        steps: how many.
        currents: what every population reads in a step.
        results: what forward returns.
        values: the tensors that it returned, by place; of a streaming network by step.
        streaming: forward is one step.
        window: the input of every step, [T,N,...].
    """

    recorder: Recorder
    steps: int
    currents: Mapping[str, Expression]
    results: Sequence[Result]
    values: Sequence[Sequence[object]]
    streaming: bool
    window: Tensor

    @property
    def step_shape(self) -> Shape:
        """Of one step of one sample."""
        return tuple(self.window.shape[2:])


def record(
    module: nn.Module,
    sample: Tensor,
    *,
    num_steps: int | None,
    time_axis: int | None,
    clamp: bool,
) -> Recording:
    """Run a module on a sample and find out what one step of it is.

    Arguments and errors as :func:`~edgekit.spiking.imported.from_snntorch`.
    """
    _check(module, sample, num_steps, time_axis)
    axis = None if time_axis is None else time_axis % sample.ndim
    extra = _extra(module)
    if extra.get("num_steps") and num_steps is None:
        raise UsageError("forward has the argument num_steps: say how many steps it shall run")
    if not any(required for name, required in extra.items() if name != "num_steps"):
        recorder = Recorder(module, clamp=clamp)
        try:
            found = _whole(recorder, sample, num_steps if "num_steps" in extra else None)
        except (InvalidDataError, UnsupportedError):
            # Where time has been named, a sample that does not fit as a whole may fit by steps.
            if axis is None or recorder.time_axis is not None:
                raise
            found = None
        if found is not None:
            _check_axis(found, sample, axis)
            _check_steps(found, sample, num_steps)
            return found
    states = tuple(name for name in extra if name != "num_steps")
    return _stream(module, sample, num_steps, axis, clamp, states)


def _check(module: object, sample: object, num_steps: int | None, time_axis: int | None) -> None:
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise UsageError(f"{type(module).__name__} is no torch.nn.Module that can be recorded")
    if not is_spiking(module):
        raise InvalidModelError(
            f"{type(module).__name__} holds no neuron of snnTorch; supported: {SUPPORTED}"
        )
    if not isinstance(sample, Tensor) or sample.ndim < 1 or sample.numel() == 0:
        what = list(sample.shape) if isinstance(sample, Tensor) else type(sample).__name__
        raise InvalidDataError(f"the sample is {what}, must be a tensor with at least one value")
    if not torch.isfinite(sample).all():
        raise InvalidDataError("the sample has NaN or infinity")
    check_float32(sample, "the sample")
    for path, tensor in (*module.named_parameters(), *module.named_buffers()):
        check_float32(tensor, path)
    if num_steps is not None and (isinstance(num_steps, bool) or num_steps < 1):
        raise UsageError(f"num_steps is {num_steps!r}, must be at least 1")
    if time_axis is not None and not -sample.ndim <= time_axis < sample.ndim:
        raise UsageError(f"time_axis is {time_axis}, the sample has {sample.ndim} axes")


def _extra(module: nn.Module) -> dict[str, bool]:
    """Arguments of forward behind the first that may be states, and whether they are required."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [p for p in parameters if p.kind in plain]
    return {
        p.name: p.default is inspect.Parameter.empty
        for p in named[1:]
        if p.default in (inspect.Parameter.empty, None) or p.name == "num_steps"
    }


def _called(module: nn.Module, sample: Tensor, arguments: Mapping[str, Any]) -> object:
    """Run forward.

    Raises:
        InvalidDataError: it raises anything.
    """
    try:
        return module(sample, **arguments)
    except EdgekitError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise InvalidDataError(
            f"forward of {type(module).__name__} fails on a sample of the shape "
            f"{list(sample.shape)}: {type(error).__name__}: {text}; a sample must be what forward "
            "takes, with a batch axis; where forward is one step and the sample has a time axis, "
            "name it with time_axis"
        ) from error


def _whole(recorder: Recorder, sample: Tensor, num_steps: int | None) -> Recording | None:
    """Forward once, with `num_steps` if that is given; None where it is a step along no axis."""
    with recorder.recording():
        whole = sample.clone()
        recorder.feed(whole, step=None)
        arguments = {} if num_steps is None else {"num_steps": num_steps}
        returned = parts_of(_called(recorder.module, whole, arguments))
    steps = count_steps(recorder.populations)
    axis = recorder.time_axis
    if steps == 1 and axis is None:
        return None
    if steps == 1 and sample.shape[axis or 0] > 1:
        raise UnsupportedError(
            f"neurons start from zero in every step that forward takes along axis {axis} of the "
            "sample; supported: states of the step before"
        )
    if steps == 1:
        raise InvalidDataError(
            f"forward takes one step only: it steps along axis {axis} of the sample, whose shape "
            f"is {list(sample.shape)}; is the time axis in the wrong place? At least 2 steps are "
            "needed to see what a step hands to the next"
        )
    window = (
        sample.expand(steps, *sample.shape) if axis is None else sample.movedim(axis, 0)[:steps]
    )
    return Recording(
        recorder=recorder,
        steps=steps,
        currents=roll_up(recorder.populations),
        results=read_results(recorder, returned, steps),
        values=[returned],
        streaming=False,
        window=window,
    )


def _check_axis(found: Recording, sample: Tensor, axis: int | None) -> None:
    """That forward steps along the axis that the caller calls time.

    Raises:
        InvalidDataError: it does not.
    """
    along = found.recorder.time_axis
    if axis is None or along == axis:
        return
    does = (
        "reads the whole sample in every step"
        if along is None
        else f"steps along axis {along} of the sample"
    )
    raise InvalidDataError(
        f"the time axis is in the wrong place: forward {does}, time_axis says {axis}, and the "
        f"sample is {list(sample.shape)}"
    )


def _check_steps(found: Recording, sample: Tensor, num_steps: int | None) -> None:
    """That forward runs as many steps as the caller says.

    Raises:
        InvalidDataError: it does not.
    """
    if num_steps is not None and num_steps != found.steps:
        along = found.recorder.time_axis
        way = "without stepping along the sample" if along is None else f"along its axis {along}"
        raise InvalidDataError(
            f"forward runs {found.steps} steps on a sample of the shape {list(sample.shape)}, "
            f"{way}; num_steps says {num_steps}; is the time axis in the wrong place?"
        )


def _stream(
    module: nn.Module,
    sample: Tensor,
    num_steps: int | None,
    axis: int | None,
    clamp: bool,
    states: Sequence[str],
) -> Recording:
    """Forward once per step, with the states that it returned before."""
    if axis is None:
        steps = max(LEAST_STEPS, num_steps or STREAM_STEPS)
        window = sample.expand(steps, *sample.shape)
    else:
        window = sample.movedim(axis, 0)[:num_steps]
        if len(window) < LEAST_STEPS:
            raise InvalidDataError(
                f"the sample has {len(window)} steps along its axis {axis}, its shape is "
                f"{list(sample.shape)}; is the time axis in the wrong place? A network whose "
                f"forward is one step needs at least {LEAST_STEPS} to see what it carries"
            )
    places = _state_places(module, window[0], clamp, states)
    recorder = Recorder(module, clamp=clamp)
    values: list[list[object]] = []
    with recorder.recording():
        arguments = {name: torch.zeros(0) for name in places}
        for step, part in enumerate(window):
            fed = part.clone()
            recorder.feed(fed, step=step)
            values.append(parts_of(_called(module, fed, arguments)))
            arguments = {name: _tensor(values[-1][place]) for name, place in places.items()}
    if count_steps(recorder.populations) == 1:
        raise UnsupportedError(
            f"forward of {type(module).__name__} runs every neuron once and starts from zero each "
            "time it is called; supported: a forward with a loop of at least 2 steps, or one step "
            "that carries its states (init_hidden=True, states as arguments and results)"
        )
    results = read_results(recorder, values[-1], len(window))
    return Recording(
        recorder=recorder,
        steps=count_steps(recorder.populations),
        currents=roll_up(recorder.populations),
        results=_without_states(results, places),
        values=values,
        streaming=True,
        window=window,
    )


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _state_places(
    module: nn.Module, step: Tensor, clamp: bool, names: Sequence[str]
) -> dict[str, int]:
    """Where forward returns the states that it takes as arguments.

    A first call gets empty tensors, which neurons replace by zeros of the right shape; which
    neuron took which is on record.

    Raises:
        UnsupportedError: an argument that no neuron takes as its state, or that is not returned.
    """
    if not names:
        return {}
    required = [name for name, needed in _extra(module).items() if needed and name != "num_steps"]
    recorder = Recorder(module, clamp=clamp)
    with recorder.recording():
        given = {name: torch.zeros(0) for name in names}
        recorder.feed(fed := step.clone(), step=0)
        try:
            returned = parts_of(_called(module, fed, given))
        except InvalidDataError as error:
            if not required:
                return {}
            raise UnsupportedError(
                f"the arguments {', '.join(required)} of forward are not states that it only hands "
                f"to neurons ({error}); supported: states as snnTorch returns them, or a forward "
                "with a loop"
            ) from error
        labels = [recorder.label(value) for value in returned]
    places = {}
    for name, tensor in given.items():
        taken = recorder.taken.get(id(tensor))
        if taken is None:
            if name not in required:
                continue
            raise UnsupportedError(
                f"the argument {name!r} of forward is no state of a neuron; supported: the input "
                "first, then states of neurons"
            )
        signal = Signal(taken[0], KINDS[taken[1]], 0)
        if signal not in labels:
            raise UnsupportedError(
                f"forward takes the state {name!r} ({signal.kind} of {signal.source}) and does not "
                "return it"
            )
        places[name] = labels.index(signal)
    return places


def _without_states(results: list[Result], places: Mapping[str, int]) -> list[Result]:
    """Results that are not just handed back to forward.

    Spikes that are handed back are a result too where there is no other.
    """
    states = set(places.values())
    others = [r for r in results if r.place not in states]
    if any("spikes" in kinds(r.value) for r in others):
        return others
    return others + [r for r in results if r.place in states and "spikes" in kinds(r.value)]
