"""What an inference costs, taken apart: by layer, by function, by cause; and in energy.

Cycles come from a model of a core and its memory. How far that can be trusted stands beside them:
the model's version, and how far it was off where a latency was published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from edgekit.bench.fields import Count, Quantity, Real
from edgekit.bench.protocol import Provenance

TOLERANCE = 1e-6
"""Relative difference at which sums of rounded parts are still the whole."""

FunctionKind = Literal["layer", "kernel", "helper", "runtime"]
"""A layer's own function, a kernel, a static function of the kernels' sources, and everything else:
the compiler's and the C library's."""


@dataclass(frozen=True)
class CycleCauses:
    """Why cycles pass. The sum is the number of cycles.

    Attributes:
        issue: instructions issuing; half of one each where two issue together.
        arithmetic: multi-cycle arithmetic, and waiting for its result.
        load: what loads and stores take beyond one cycle: address and data phases, waiting for a
            loaded value, wait states and cache misses of data.
        fetch: waiting for instructions from memory.
        branch: refilling the pipeline after a jump, and wrong predictions.
    """

    issue: Quantity = 0.0
    arithmetic: Quantity = 0.0
    load: Quantity = 0.0
    fetch: Quantity = 0.0
    branch: Quantity = 0.0

    @property
    def total(self) -> float:
        """All of them.

        >>> CycleCauses(issue=4, fetch=1.5).total
        5.5
        """
        return self.issue + self.arithmetic + self.load + self.fetch + self.branch

    def __add__(self, other: CycleCauses) -> CycleCauses:
        return CycleCauses(*(getattr(self, c) + getattr(other, c) for c in CAUSES))


CAUSES = tuple(field.name for field in fields(CycleCauses))
"""Names of the causes, in the order in which tables and drawings show them."""


@dataclass(frozen=True)
class FunctionCost:
    """What one function took, without what it calls.

    Attributes:
        function: name of the symbol.
        kind: what it is to the layer.
        kernel: that it is or helps; null for the layer's own function and the runtime's.
        instructions: issued.
        cycles: null where there is no model.
        causes: of the cycles; null where the model does not tell.

    Raises:
        ValueError: causes that are not those of the cycles.
    """

    function: str
    kind: FunctionKind
    kernel: str | None
    instructions: Count
    cycles: Quantity | None = None
    causes: CycleCauses | None = None

    def __post_init__(self) -> None:
        require_sum(self.causes, self.cycles)


@dataclass(frozen=True)
class LayerCost:
    """One layer of one run.

    Attributes:
        operation: name of the operation.
        operator: name of the operator.
        macs: multiply-accumulates; null where the runtime does not tell.
        instructions: issued; null where the device cannot count.
        cycles: null where there is no model.
        latency_ms: median wall time; null where the device is not real.
        kernel: name of the C kernel that computes it; null where the runtime does not tell.
        causes: of the cycles; null where the model does not tell.
        functions: of the layer, the most expensive first; empty where the device cannot tell.

    Raises:
        ValueError: causes or functions that are not those of the cycles.
    """

    operation: str
    operator: str
    macs: Count | None = None
    instructions: Count | None = None
    cycles: Quantity | None = None
    latency_ms: Quantity | None = None
    kernel: str | None = None
    causes: CycleCauses | None = None
    functions: tuple[FunctionCost, ...] = ()

    def __post_init__(self) -> None:
        require_sum(self.causes, self.cycles)
        parts = [function.cycles for function in self.functions]
        if not parts:
            return
        if (self.cycles is None) != (None in parts):
            raise ValueError("either the layer and all its functions have cycles, or none of them")
        total = sum(part for part in parts if part is not None)
        if self.cycles is not None and not _same(total, self.cycles):
            raise ValueError(f"its functions take {total:g} cycles, the layer {self.cycles:g}")


def require_sum(causes: CycleCauses | None, cycles: float | None) -> None:
    """Refuse causes that do not add up to the cycles.

    Raises:
        ValueError: says both.
    """
    if causes is not None and (cycles is None or not _same(causes.total, cycles)):
        shown = "null" if cycles is None else f"{cycles:g}"
        raise ValueError(f"the causes add up to {causes.total:g} cycles, there are {shown}")


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * max(one, other, 1.0)


def sum_of_causes(parts: Sequence[CycleCauses | None]) -> CycleCauses | None:
    """All causes; None where one is not known, and without any.

    >>> sum_of_causes([CycleCauses(issue=1), CycleCauses(issue=2, load=3)])
    CycleCauses(issue=3.0, arithmetic=0.0, load=3.0, fetch=0.0, branch=0.0)
    >>> sum_of_causes([CycleCauses(), None]), sum_of_causes([])
    (None, None)
    """
    known = [part for part in parts if part is not None]
    return sum(known, CycleCauses()) if known and len(known) == len(parts) else None


@dataclass(frozen=True)
class KnownError:
    """How far modelled cycles were off where a latency was published.

    Attributes:
        low: smallest error, modelled / published - 1: below zero where the model is too fast.
        high: largest error.
        cases: published latencies behind both.
        boards: that they were measured on.

    Raises:
        ValueError: no range, or none that a positive latency can have.
    """

    low: Real
    high: Real
    cases: Count
    boards: tuple[str, ...]

    def __post_init__(self) -> None:
        if not -1 < self.low <= self.high:
            raise ValueError(f"errors from {self.low:g} to {self.high:g} are no range above -1")
        if self.cases == 0 or not self.boards:
            raise ValueError("an error that no case showed, on no board, is not known")

    @property
    def words(self) -> str:
        """For people.

        >>> KnownError(-0.18, 0.031, 4, ("a", "b")).words
        '-18 % … +3 % (4 cases on a, b)'
        """
        ends = [f"{100 * end:+.0f} %" for end in (self.low, self.high)]
        cases = f"{self.cases} case{'s' if self.cases > 1 else ''}"
        return f"{' … '.join(dict.fromkeys(ends))} ({cases} on {', '.join(self.boards)})"


@dataclass(frozen=True)
class CycleModel:
    """What modelled cycles came from.

    Attributes:
        version: of the model; figures of two versions may differ for the same code.
        core: whose cycles they are.
        what: what is modelled, and with what.
        memory: what fetching and loading is taken to cost.
        error: null where no published latency was there to compare with.
    """

    version: Count
    core: str
    what: str
    memory: str
    error: KnownError | None

    @property
    def words(self) -> str:
        """What stands beside every modelled figure.

        >>> CycleModel(1, "cortex-m4", "in order", "", KnownError(-0.18, 0.03, 4)).words
        'version 1, error against published latencies -18 % … +3 % (4 cases)'
        >>> CycleModel(1, "cortex-m7", "in order", "", None).words
        'version 1, never compared with a published latency'
        """
        if self.error is None:
            return f"version {self.version}, never compared with a published latency"
        return f"version {self.version}, error against published latencies {self.error.words}"


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
