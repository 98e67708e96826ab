"""What a whole window costs: every layer over all of its steps, and the state that each one keeps.

What a step costs depends on which neurons fire, and after a reset hardly any do: a single step from
reset, which says everything of other networks, says nothing here. So windows are counted whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from edgekit.bench.costs import FunctionCost, LayerCost
from edgekit.bench.spiking import StepCost
from edgekit.deploy.costs import Functions
from edgekit.deploy.profile import Profile
from edgekit.deploy.session import Inputs, Session
from edgekit.targets.c.emit import LayerInfo
from edgekit.targets.cycles.costs import Count

T = TypeVar("T")

COUNTED_WINDOWS = 4
"""Windows that are counted instruction by instruction; the mean is reported."""


def spread_windows(windows: Sequence[T], count: int = COUNTED_WINDOWS) -> list[T]:
    """At most `count` windows at equal distances: neighbours are often of one person and activity.

    >>> spread_windows(list("abcdefgh"), 4)
    ['a', 'c', 'e', 'g']
    """
    chosen = min(count, len(windows))
    return [windows[index * len(windows) // chosen] for index in range(chosen)]


def profile_windows(
    session: Session, windows: Sequence[Sequence[Inputs]]
) -> tuple[Profile, StepCost]:
    """Mean cost of a window, layer by layer, and what its steps take.

    Args:
        session: on a device that counts and carries state.
        windows: inputs of every step of each; as many steps in all.

    Returns:
        The profile of a window, whose last layer is the carry of the state, and its steps without
        latency.

    Raises:
        InvalidDataError: names, dtypes or shapes do not fit.
        UnsupportedError: the device sees no single instructions, or carries no state.
    """
    library, steps = session.library, len(windows[0])
    carry = LayerInfo(f"{library.prefix}carry", "state", "carry", "carry", 0, (), ())
    layers = (*session.layers, carry)
    totals = [Count() for _ in layers]
    of_steps: list[float | None] = []
    for window in windows:
        for counts in session.count_window([session.prepare(inputs) for inputs in window]):
            # Blocks of so many calls would fill the memory, and nobody asks for them.
            totals = [
                total + replace(count, blocks=())
                for total, count in zip(totals, counts, strict=True)
            ]
            cycles = [count.cycles for count in counts]
            of_steps.append(None if None in cycles else sum(c for c in cycles if c is not None))
    functions = Functions(library)
    share = 1 / len(windows)
    costs = tuple(
        mean_cost(functions.layer_cost(layer, total), share, macs=steps * layer.macs)
        for layer, total in zip(layers, totals, strict=True)
    )
    profile = Profile(session.device, costs, session.stack_bytes())
    known = [cycles for cycles in of_steps if cycles is not None]
    if len(known) < len(of_steps):
        return profile, StepCost(steps)
    return profile, StepCost(steps, sum(known) / len(known), max(known))


def mean_cost(cost: LayerCost, share: float, *, macs: int) -> LayerCost:
    """A layer's total as the mean of a window.

    Args:
        cost: of all windows.
        share: one over their number.
        macs: of one of them.
    """
    return replace(
        cost,
        macs=macs,
        instructions=None if cost.instructions is None else round(share * cost.instructions),
        cycles=None if cost.cycles is None else share * cost.cycles,
        causes=None if cost.causes is None else cost.causes * share,
        functions=tuple(_mean_function(function, share) for function in cost.functions),
    )


def _mean_function(cost: FunctionCost, share: float) -> FunctionCost:
    return replace(
        cost,
        instructions=round(share * cost.instructions),
        cycles=None if cost.cycles is None else share * cost.cycles,
        causes=None if cost.causes is None else cost.causes * share,
    )
