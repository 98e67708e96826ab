"""Two reports side by side: what changed, in which direction, and whether that is too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from edgekit.bench.report import Report, Run
from edgekit.errors import UsageError
from edgekit.report.conditions import conditions, differing, notes_of_reports, notes_of_run
from edgekit.report.gate import Gate, relative
from edgekit.report.metrics import METRICS, Figure, Metric

Direction = Literal["better", "worse", "same"]


@dataclass(frozen=True)
class Change:
    """One metric of one way of running.

    Attributes:
        run: the way: back end, precision, device and role.
        metric: name.
        before: value in the first report; None where it has none.
        after: value in the second report; None where it has none.
        provenance: how the values came about, in a word; both where that differs.
        difference: in the metric's unit; None where the values cannot be compared.
        relative: the same as a fraction of the earlier value; None where that is 0.
        direction: None where the values cannot be compared, or where the change says nothing, as
            they were taken or modelled differently.
        note: why they cannot be compared, or what to mind.
        failed: gates that trip, as they were written.
    """

    run: str
    metric: str
    before: float | None
    after: float | None
    provenance: str
    difference: float | None = None
    relative: float | None = None
    direction: Direction | None = None
    note: str = ""
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Everything that two reports can be compared by.

    Attributes:
        changes: one per metric that at least one of the reports has, per matched run.
        only_before: runs that the second report lacks.
        only_after: runs that the first report lacks.
        models: what the modelled and estimated values are worth, run by run.
        notes: what differs beside the figures.
    """

    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    models: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def failed(self) -> tuple[Change, ...]:
        """Where a gate trips."""
        return tuple(change for change in self.changes if change.failed)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def compare(before: Report, after: Report, gates: Sequence[Gate] = ()) -> Comparison:
    """Hold a later report against an earlier one.

    Runs belong together when back end, precision, device and role are the same.

    Raises:
        UsageError: no run of one belongs to a run of the other, or a gate cannot be decided: a
            figure or a whole run is missing, one value is modelled and the other measured, two
            times were taken with other threads, with other inputs, or only one on the target, or
            two values were modelled differently.
    """
    earlier, later = _runs(before), _runs(after)
    both = [key for key in earlier if key in later]
    only_before = tuple(key for key in earlier if key not in later)
    if not both:
        raise UsageError(
            f"no run belongs to another: {', '.join(earlier) or 'none'} before, "
            f"{', '.join(later) or 'none'} after"
        )
    if gates and only_before:
        raise UsageError(f"gates cannot be decided: the second report lacks {only_before[0]}")
    changes = tuple(
        change
        for key in both
        for change in _changes(key, (before, earlier[key]), (after, later[key]), gates)
    )
    _demand_decided(changes, gates)
    return Comparison(
        changes,
        only_before,
        tuple(key for key in later if key not in earlier),
        _collapsed((key, _models(earlier[key], later[key])) for key in both),
        (
            *notes_of_reports(before, after),
            *_collapsed((key, notes_of_run(earlier[key], later[key])) for key in both),
        ),
    )


def _changes(
    key: str, before: tuple[Report, Run], after: tuple[Report, Run], gates: Sequence[Gate]
) -> Iterator[Change]:
    """Every metric of one way of running that at least one report has."""
    own = [_resolved(gate, before, after) for gate in gates]
    for metric in METRICS.values():
        if change := _change(key, metric, before, after, gates=own):
            yield change


def _resolved(gate: Gate, before: tuple[Report, Run], after: tuple[Report, Run]) -> Gate:
    """The gate, on the metric that stands in for its own where more reports have that."""
    if not gate.metric.otherwise:
        return gate
    other = METRICS[gate.metric.otherwise]
    held, there = (
        sum(metric.find(*pair) is not None for pair in (before, after))
        for metric in (gate.metric, other)
    )
    return replace(gate, metric=other) if there > held else gate


def _models(before: Run, after: Run) -> list[str]:
    """How far modelled values can be trusted; both models where they differ."""
    old, new = (run.cycle_model and run.cycle_model.words for run in (before, after))
    if old == new:
        return [f"modelled: {new}"] if new else []
    sides = ((old, "before"), (new, "after"))
    return [f"modelled {side}: {words}" for words, side in sides if words]


def _collapsed(found: Iterable[tuple[str, Sequence[str]]]) -> tuple[str, ...]:
    """What is said of runs, each thing once with all the runs that it is said of."""
    runs: dict[str, list[str]] = {}
    for key, lines in found:
        for line in lines:
            runs.setdefault(line, []).append(key)
    return tuple(f"{', '.join(keys)}: {line}" for line, keys in runs.items())


def _runs(report: Report) -> dict[str, Run]:
    """Runs by what identifies them; a second one of a kind has a number."""
    named: dict[str, Run] = {}
    seen: Counter[str] = Counter()
    for run in report.runs:
        key = f"{run.backend} {run.precision} on {run.device} ({run.role})"
        seen[key] += 1
        named[key if seen[key] == 1 else f"{key} #{seen[key]}"] = run
    return named


def _change(
    key: str,
    metric: Metric,
    before: tuple[Report, Run],
    after: tuple[Report, Run],
    *,
    gates: Sequence[Gate],
) -> Change | None:
    """None where neither report has the metric."""
    old, new = metric.find(*before), metric.find(*after)
    if old is None and new is None:
        return None
    mine = [gate for gate in gates if gate.metric is metric]
    words = " against ".join(dict.fromkeys(v.provenance for v in (old, new) if v is not None))
    if old is None or new is None:
        return _one_sided(key, metric, old, new, gates=mine, provenance=words)
    if old.provenance != new.provenance:
        _refuse(mine, f"{key}: {metric.name} is {words}; such values cannot be compared")
        return Change(key, metric.name, old.value, new.value, words, note="not comparable")
    taken = conditions(before[1], after[1]) if metric.is_time else ""
    model = ""
    if metric.model is not None and new.provenance != "measured":
        model = differing(metric.model(before[1]), metric.model(after[1]))
    changes = [gate for gate in mine if gate.kind != "value"]
    if taken:
        _refuse(changes, f"{key}: {metric.name} was taken under other conditions: {taken}")
    if model:
        _refuse(changes, f"{key}: {metric.name} was modelled differently ({model})")
        model = f"other model: {model}"
    change = _compared(key, metric, old, new, gates=mine)
    if taken or model:
        return replace(change, direction=None, note="; ".join(filter(None, (taken, model))))
    return replace(change, note=_samples(metric, before[1], after[1]))


def _one_sided(
    key: str,
    metric: Metric,
    old: Figure | None,
    new: Figure | None,
    *,
    gates: Sequence[Gate],
    provenance: str,
) -> Change:
    """A metric that only one report has; a limit on the later value can still be decided."""
    missing = "first" if old is None else "second"
    if new is None or any(gate.kind != "value" for gate in gates):
        _refuse(gates, f"{key}: the {missing} report has no {metric.name}")
    return Change(
        run=key,
        metric=metric.name,
        before=None if old is None else old.value,
        after=None if new is None else new.value,
        provenance=provenance,
        note=f"not in the {missing} report",
        failed=tuple(g.text for g in gates if new is not None and g.trips(new.value, new.value)),
    )


def _refuse(gates: Sequence[Gate], words: str) -> None:
    if gates:
        raise UsageError(f"--fail-if {gates[0].text!r} cannot be decided: {words}")


def _compared(
    key: str, metric: Metric, old: Figure, new: Figure, *, gates: Sequence[Gate]
) -> Change:
    improved = (new.value > old.value) == metric.higher_is_better
    direction: Direction = "same"
    if new.value != old.value:
        direction = "better" if improved else "worse"
    return Change(
        run=key,
        metric=metric.name,
        before=old.value,
        after=new.value,
        difference=new.value - old.value,
        relative=relative(old.value, new.value) if old.value else None,
        direction=direction,
        provenance=new.provenance,
        failed=tuple(gate.text for gate in gates if gate.trips(old.value, new.value)),
    )


def _samples(metric: Metric, before: Run, after: Run) -> str:
    """Accuracies over different samples are told, since they are different questions."""
    if metric.name != "accuracy" or before.accuracy is None or after.accuracy is None:
        return ""
    old, new = before.accuracy, after.accuracy
    if (old.samples, old.data) == (new.samples, new.data):
        return ""
    return f"over {old.samples} of {old.data} and {new.samples} of {new.data}"


def _demand_decided(changes: Sequence[Change], gates: Sequence[Gate]) -> None:
    """A gate on a figure that no run has would pass in silence."""
    present = {change.metric for change in changes}
    for gate in gates:
        if not {gate.metric.name, gate.metric.otherwise} & present:
            near = [
                name
                for name in METRICS
                if name in present and name.startswith(f"{gate.metric.name}_")
            ]
            hint = f"; there is {', '.join(near)}" if near else ""
            _refuse([gate], f"no run of either report has {gate.metric.name}{hint}")
