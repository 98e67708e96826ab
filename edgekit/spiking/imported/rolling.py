"""From the steps that were recorded to the one step that all of them are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from edgekit.errors import InvalidDataError, UnsupportedError
from edgekit.spiking.imported import functions
from edgekit.spiking.imported.expressions import (
    INPUT,
    Apply,
    Expression,
    Kind,
    Label,
    Opaque,
    Series,
    Signal,
    Sum,
    Total,
    Window,
    Zero,
    add,
    at_start,
    shifted,
    signals,
)
from edgekit.spiking.imported.recorder import Population, Recorder

How = Literal["steps", "last"]


@dataclass(frozen=True)
class Result:
    """Something that forward returns.

    Attributes:
        value: per step, with relative steps; totals are running sums.
        how: "steps": of every step; "last": after the last one.
        axis: where the tensor that forward returns has its steps.
        place: in what forward returns.
    """

    value: Expression
    how: How
    axis: int
    place: int


def count_steps(populations: Mapping[str, Population]) -> int:
    """How many steps every population ran.

    Raises:
        InvalidDataError: no neuron ran.
        UnsupportedError: they ran unequally often.
    """
    counts = {name: len(p.currents) for name, p in populations.items()}
    if not counts:
        raise InvalidDataError("forward runs no neuron of snnTorch")
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count} times" for name, count in counts.items())
        raise UnsupportedError(
            f"neurons run unequally often: {listed}; supported: every neuron once per step, with "
            "the state of the step before"
        )
    return next(iter(counts.values()))


def roll_up(populations: Mapping[str, Population]) -> dict[str, Expression]:
    """What every population reads in a step, with relative steps.

    Raises:
        UnsupportedError: steps differ, or one reads more than one step back.
    """
    return {name: _current(population) for name, population in populations.items()}


def _current(population: Population) -> Expression:
    where = f"the input of {population.path}"
    relative = [shifted(current, k) for k, current in enumerate(population.currents)]
    step = relative[-1]
    for signal in signals(step):
        _check_delay(signal, where)
    for number, other in enumerate(relative):
        wanted = step if number else at_start(step)
        if other != wanted:
            raise UnsupportedError(
                f"{where} is another in step {number} than in step {len(relative) - 1} of "
                f"{len(relative)}; supported: the same operations, with the same parameters, in "
                "every step, and zeros before the first"
            )
    return step


def _check_delay(signal: Signal, where: str) -> None:
    """That a signal is of this step or of the one before."""
    if signal.step is None or signal.step in (0, -1):
        return
    if signal.step > 0:
        raise UnsupportedError(
            f"{where} reads {_name(signal)} of {signal.step} steps later; supported: the same step "
            "and the one before"
        )
    raise UnsupportedError(
        f"{where} reads {_name(signal)} of {-signal.step} steps before; supported: the same step "
        "and the one before"
    )


def _name(signal: Signal) -> str:
    return "the input" if signal.source == INPUT else f"the {signal.kind} of {signal.source}"


def read_results(recorder: Recorder, returned: Sequence[object], steps: int) -> list[Result]:
    """What forward returns, as values per step.

    Args:
        recorder: that knows what tensors are.
        returned: its results in order, see :func:`parts_of`.
        steps: that it ran.

    Raises:
        UnsupportedError: a result that is no neuron's value, nor made of such.
    """
    found = []
    for place, value in enumerate(returned):
        where = f"result {place} of forward"
        if isinstance(value, Tensor):
            label = recorder.label(value)
        elif isinstance(value, list) and all(isinstance(v, Tensor) for v in value):
            label = _listed(recorder, value)
        else:
            continue
        match label:
            case Series(values, axis):
                found.append(Result(_per_step(values, steps, where), "steps", axis, place))
            case None | Opaque() | Window():
                what = functions.describe(label) if label else "independent of the input"
                raise UnsupportedError(
                    f"{where} is {what}; supported: spikes, membranes and synaptic currents of "
                    "neurons, stacked, summed or averaged over the steps or of the last one, and "
                    "layers on them"
                )
            case _ if isinstance(label, Expression):
                found.append(Result(_after_last(label, steps, where), "last", 0, place))
            case _:
                raise UnsupportedError(f"{where} is {functions.describe(label)}")
    return found


def _listed(recorder: Recorder, values: list[Tensor]) -> Label:
    """A list of tensors as if it was stacked."""
    found: list[Expression] = []
    for value in values:
        label = recorder.label(value)
        if not isinstance(label, Expression):
            return label or Opaque("a list of constants")
        found.append(label)
    return Series(tuple(found), 0)


def parts_of(returned: object) -> list[object]:
    """Results of forward in order; a list with more than one tensor of the same shape is one."""
    if isinstance(returned, Tensor):
        return [returned]
    if isinstance(returned, Mapping):
        return [part for value in returned.values() for part in parts_of(value)]
    if isinstance(returned, list) and len(returned) > 1 and _alike(returned):
        return [returned]
    if isinstance(returned, list | tuple):
        return [part for value in returned for part in parts_of(value)]
    return [returned]


def _alike(values: Iterable[object]) -> bool:
    shapes = {v.shape if isinstance(v, Tensor) else None for v in values}
    return len(shapes) == 1 and None not in shapes


def _per_step(values: Sequence[Expression], steps: int, where: str) -> Expression:
    """The value of a step from those of all steps."""
    if len(values) == 1 < steps:
        raise UnsupportedError(
            f"{where} has an axis of 1 in place of its {steps} steps, as keepdim=True leaves it; "
            "supported: one value for every step, or none of that axis (squeeze it)"
        )
    if len(values) != steps:
        raise UnsupportedError(
            f"{where} has {len(values)} values for {steps} steps; supported: one for every step"
        )
    relative = [shifted(value, step) for step, value in enumerate(values)]
    last = relative[-1]
    near = all(signal.step in (None, 0, -1) for signal in signals(last))
    if not near or any(v != (last if step else at_start(last)) for step, v in enumerate(relative)):
        raise UnsupportedError(
            f"{where} is not the same value in all steps, or not in their order; supported: "
            "values of step 0, 1, 2, ... stacked"
        )
    return last


def _after_last(value: Expression, steps: int, where: str) -> Expression:
    """A value of the last step, or a total over all of them, per step."""
    match value:
        case Sum(terms):
            groups: dict[Expression, list[int]] = {}
            for term in terms:
                step = max((s.step for s in signals(term) if s.step is not None), default=None)
                groups.setdefault(shifted(term, step or 0), []).append(
                    steps - 1 if step is None else step
                )
            return add(tuple(_grouped(t, s, steps, where) for t, s in groups.items()))
        case Apply(layer, operand):
            return Apply(layer, _after_last(operand, steps, where))
        case Signal():
            return (
                _grouped(value, [steps - 1], steps, where)
                if value.step is None
                else _grouped(shifted(value, value.step), [value.step], steps, where)
            )
    return value


def _grouped(term: Expression, found: list[int], steps: int, where: str) -> Expression:
    """One value in the steps in which it is added up."""
    if isinstance(term, Zero):
        return term
    if sorted(found) == list(range(steps)):
        return Total(term) if steps > 1 else term
    if found == [steps - 1]:
        return term
    raise UnsupportedError(
        f"{where} adds up or returns steps {_ranges(sorted(found))} of 0 to {steps - 1}; "
        "supported: the last step, or all of them"
    )


def _ranges(numbers: Sequence[int]) -> str:
    few = ", ".join(map(str, numbers[:4]))
    return few if len(numbers) <= 4 else f"{few}, ... {numbers[-1]}"


def kinds(value: Expression) -> set[Kind]:
    """What signals a value is made of."""
    return {signal.kind for signal in signals(value)}
