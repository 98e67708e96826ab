"""What the caller of the lowering says of a spiking network beyond its Model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.errors import UsageError

LARGEST_CODE = 2**15 - 1
"""Largest code of an int16 input; the range is symmetric."""


@dataclass(frozen=True)
class SpikingOptions:
    """What only measurements say.

    Attributes:
        input_scale: what one step of the int16 codes of an input means, by input name. Inputs of
            integer neurons need one; ``code = round(sample / scale)``, saturated. Inputs without
            one stay float32.
        activity: share of neurons that spike in a step, 0…1, by population (name of the neuron's
            node); decides between event-driven and dense sums. Event-driven where nothing is said.

    Raises:
        UsageError: a scale that is not positive and finite, an activity outside 0…1.
    """

    input_scale: Mapping[str, float] = field(default_factory=dict)
    activity: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, scale in self.input_scale.items():
            if not (math.isfinite(scale) and 2.0**-100 <= scale <= 2.0**100):
                raise UsageError(
                    f"input_scale of {name!r} is {scale}, must be positive: the largest magnitude "
                    f"of its samples divided by {LARGEST_CODE}"
                )
        for name, share in self.activity.items():
            if not 0 <= share <= 1:
                raise UsageError(f"activity of {name!r} is {share}, must be in 0…1")


def int16_scale(low: float, high: float) -> float:
    """The scale at which int16 codes hold samples of a range.

    It is a power of two: totals of samples then become those of spikes by a shift, and a neuron can
    read both. That costs one of 16 bits at most.

    Args:
        low: smallest sample, of calibration or of a data sheet.
        high: largest sample.

    Raises:
        UsageError: an empty range, or one that is not finite.

    >>> int16_scale(-2.0, 1.9) == 2**-13, int16_scale(-20, 3) == 2**-10
    (True, True)
    """
    largest = max(abs(low), abs(high))
    if not (math.isfinite(largest) and low <= high and largest > 0):
        raise UsageError(f"a range of samples from {low} to {high}, must hold more than 0")
    return float(2.0 ** math.ceil(math.log2(largest / LARGEST_CODE)))
