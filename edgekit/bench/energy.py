"""What an inference costs in energy, with what the figure includes and where it is from."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.bench.fields import Quantity
from edgekit.bench.protocol import Provenance


@dataclass(frozen=True)
class Energy:
    """Energy of one inference.

    Attributes:
        provenance: a sensor measured it, or a model estimates it.
        net_uj: microjoules above the idle baseline; null where that is not known.
        gross_uj: microjoules with it; null where it was not recorded.
        low_uj: low end of the figure's spread; null where none is known.
        high_uj: high end of the figure's spread; null where none is known.
        sensor: that measured; null for an estimate.
        window_s: seconds of measurement; null for an estimate.
        source: of what an estimate is made from, and what it includes; null for a measurement.

    Raises:
        ValueError: no figure, one outside its spread, or not where it is from.
    """

    provenance: Provenance
    net_uj: Quantity | None = None
    gross_uj: Quantity | None = None
    low_uj: Quantity | None = None
    high_uj: Quantity | None = None
    sensor: str | None = None
    window_s: Quantity | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        if self.net_uj is None and self.gross_uj is None:
            raise ValueError("an energy is net or gross, and this is neither")
        if (self.low_uj is None) != (self.high_uj is None):
            raise ValueError("a spread has both ends or none")
        low, high = self.low_uj, self.high_uj
        if low is not None and high is not None and not low <= self.value_uj <= high:
            raise ValueError(f"{self.value_uj:g} uJ lie outside of {low:g} to {high:g}")
        if self.provenance == "measured" and (self.sensor is None or self.window_s is None):
            raise ValueError("a measured energy names its sensor and its window")
        if self.provenance != "measured" and self.source is None:
            raise ValueError("an energy that nothing measured names its source")

    @property
    def value_uj(self) -> float:
        """The figure itself: above idle where that is known, else with it."""
        value = self.gross_uj if self.net_uj is None else self.net_uj
        assert value is not None
        return value

    @property
    def kind(self) -> str:
        """What the figure includes."""
        return "with idle" if self.net_uj is None else "above idle"
