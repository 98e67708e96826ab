"""When a sum of spikes is worth its event-driven kernel.

Both schedules give the same bits. The dense one costs the same whatever spikes; the event-driven
one costs in proportion to the active inputs, plus a pass over the outputs. The *crossover* is the
share of active inputs at which they cost the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgekit.program.operators.spiking_weighted import Schedule

CROSSOVER: Mapping[str, float] = MappingProxyType({"int4": 0.78, "shift3": 0.72})
"""Activity (0…1) from which on the dense kernel is the cheaper one, by element of the weights: the
smallest over the layers of ``benchmarks/spiking_kernels.py`` on Cortex-M4, rounded down. With
elements that are not listed event-driven is the cheaper one at every activity."""


def schedule_for(element: str, activity: float | None) -> Schedule:
    """The cheaper schedule.

    Args:
        element: name of the weights' element, ``float32`` for real ones.
        activity: mean share of the inputs that spike, 0…1; None where it is not known.

    >>> schedule_for("int8", 0.05)
    'event'
    """
    if activity is None:
        return "event"
    return "dense" if activity > CROSSOVER.get(element, 1.0) else "event"
