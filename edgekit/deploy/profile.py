"""What every layer of one run took."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekit.bench.costs import Causes, LayerCost, sum_of_causes


@dataclass(frozen=True)
class Profile:
    """Every layer of one run.

    Attributes:
        device: where it ran.
        layers: in execution order.
        stack_bytes: high-water mark, counted; None where the device cannot see it.
        notes: why there are not the figures that the device could have.
    """

    device: str
    layers: tuple[LayerCost, ...]
    stack_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def instructions(self) -> int | None:
        """Sum over the layers."""
        counts = [layer.instructions for layer in self.layers]
        return None if None in counts else sum(c for c in counts if c is not None)

    @property
    def cycles(self) -> float | None:
        """Sum over the layers."""
        cycles = [layer.cycles for layer in self.layers]
        return None if None in cycles else float(sum(c for c in cycles if c is not None))

    @property
    def causes(self) -> Causes | None:
        """Sum over the layers."""
        return sum_of_causes([layer.causes for layer in self.layers])

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "instructions": self.instructions}
