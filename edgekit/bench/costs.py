"""What an inference costs, taken apart: by layer, by function, by cause.

Cycles come from a model of a core and its memory. How far that can be trusted stands beside them:
the model's version, and how far it was off where a latency was published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from edgekit.bench.fields import Count, Quantity, Real

TOLERANCE = 1e-6
"""Relative difference at which sums of rounded parts are still the whole."""

FunctionKind = Literal["layer", "kernel", "helper", "runtime"]
"""A layer's own function, a kernel, a static function of the kernels' sources, and everything else:
the compiler's and the C library's."""


@dataclass(frozen=True)
class Causes:
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

        >>> (Causes(issue=4, fetch=1.5) * 2).total
        11.0
        """
        return self.issue + self.arithmetic + self.load + self.fetch + self.branch

    def __add__(self, other: Causes) -> Causes:
        # Written out: every instruction of a trace is summed up here.
        return Causes(
            self.issue + other.issue,
            self.arithmetic + other.arithmetic,
            self.load + other.load,
            self.fetch + other.fetch,
            self.branch + other.branch,
        )

    def __mul__(self, times: float) -> Causes:
        return Causes(
            times * self.issue,
            times * self.arithmetic,
            times * self.load,
            times * self.fetch,
            times * self.branch,
        )


CAUSES = tuple(field.name for field in fields(Causes))
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
    causes: Causes | None = None

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
    causes: Causes | None = None
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


def require_sum(causes: Causes | None, cycles: float | None) -> None:
    """Refuse causes that do not add up to the cycles.

    Raises:
        ValueError: says both.
    """
    if causes is not None and (cycles is None or not _same(causes.total, cycles)):
        shown = "null" if cycles is None else f"{cycles:g}"
        raise ValueError(f"the causes add up to {causes.total:g} cycles, there are {shown}")


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * max(one, other, 1.0)


def sum_of_causes(parts: Sequence[Causes | None]) -> Causes | None:
    """All causes; None where one is not known, and without any.

    >>> sum_of_causes([Causes(issue=1), Causes(issue=2, load=3)])
    Causes(issue=3.0, arithmetic=0.0, load=3.0, fetch=0.0, branch=0.0)
    >>> sum_of_causes([Causes(), None]), sum_of_causes([])
    (None, None)
    """
    known = [part for part in parts if part is not None]
    return sum(known, Causes()) if known and len(known) == len(parts) else None


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
        """For people: with the direction, and on what it was seen.

        >>> KnownError(-0.13, -0.016, 4, ("a", "b")).words
        'modelled 2 to 13 % below published latencies (4 cases on a, b)'
        """
        return f"modelled {self.direction} published latencies ({self._cases} on {self._places})"

    @property
    def words_elsewhere(self) -> str:
        """For people who look at another board.

        >>> KnownError(-0.18, 0.031, 1, ("a", "b")).words_elsewhere
        'compared on a, b only: modelled 18 % below to 3 % above published latencies (1 case)'
        """
        return (
            f"compared on {self._places} only: modelled {self.direction} published latencies "
            f"({self._cases})"
        )

    @property
    def direction(self) -> str:
        """Below or above, from the smallest to the largest error.

        >>> seen = ((-0.13, -0.016), (0.02, 0.13), (-0.18, 0.03), (0.1, 0.1))
        >>> for low, high in seen: print(KnownError(low, high, 1, ("a",)).direction)
        2 to 13 % below
        2 to 13 % above
        18 % below to 3 % above
        10 % above
        """
        low, high = (f"{abs(100 * end):.0f}" for end in (self.low, self.high))
        if self.low < 0 < self.high:
            return f"{low} % below to {high} % above"
        near, far, side = (high, low, "below") if self.low < 0 else (low, high, "above")
        return f"{near} to {far} % {side}" if near != far else f"{far} % {side}"

    @property
    def span(self) -> str:
        """From the smallest to the largest error, as short as can be.

        >>> KnownError(-0.18, 0.031, 4, ("a",)).span, KnownError(0.1, 0.1, 1, ("a",)).span
        ('-18…+3 %', '+10 %')
        """
        ends = dict.fromkeys(f"{100 * end:+.0f}" for end in (self.low, self.high))
        return f"{'…'.join(ends)} %"

    @property
    def _cases(self) -> str:
        return f"{self.cases} case{'s' if self.cases > 1 else ''}"

    @property
    def _places(self) -> str:
        return ", ".join(self.boards)


@dataclass(frozen=True)
class CycleModel:
    """What modelled cycles came from.

    Attributes:
        version: of the model; figures of two versions may differ for the same code.
        core: whose cycles they are.
        what: what is modelled, and with what.
        memory: what fetching and loading is taken to cost.
        error: of the core; null where no published latency was there to compare with.
        error_holds: whether these cycles are of a board that the error was seen on. Another
            board's memories are modelled as well or as badly as nobody knows.

    Raises:
        ValueError: an error that holds and is not known.
    """

    version: Count
    core: str
    what: str
    memory: str
    error: KnownError | None = None
    error_holds: bool = False

    def __post_init__(self) -> None:
        if self.error_holds and self.error is None:
            raise ValueError("error_holds says that an error holds, and error that none is known")

    @property
    def bound(self) -> KnownError | None:
        """How far the cycles may be off; None where that is not known of them."""
        return self.error if self.error_holds else None

    @property
    def words(self) -> str:
        """How far the cycles can be trusted, in a sentence.

        >>> seen = KnownError(-0.18, 0.03, 4, ("a-board",))
        >>> CycleModel(1, "cortex-m4", "in order", "", seen, error_holds=True).words
        'version 1, modelled 18 % below to 3 % above published latencies (4 cases on a-board)'
        >>> CycleModel(1, "cortex-m4", "in order", "", seen).words
        'version 1, compared on a-board only: modelled 18 % below to 3 % above published latencies \
(4 cases)'
        >>> CycleModel(1, "cortex-m7", "in order", "").words
        'version 1, never compared with a published latency'
        """
        version, error = f"version {self.version}", self.error
        if error is None:
            return f"{version}, never compared with a published latency"
        return f"{version}, {error.words if self.error_holds else error.words_elsewhere}"

    @property
    def tag(self) -> str:
        """The same beside a figure, where the sentence stands elsewhere.

        >>> seen = KnownError(-0.18, 0.03, 4, ("a-board",))
        >>> CycleModel(1, "cortex-m4", "in order", "", seen, error_holds=True).tag
        'v1, -18…+3 %'
        >>> CycleModel(1, "cortex-m4", "in order", "", seen).tag
        'v1, not compared here'
        >>> CycleModel(1, "cortex-m7", "in order", "").tag
        'v1, never compared'
        """
        if self.error is None:
            return f"v{self.version}, never compared"
        return f"v{self.version}, {self.error.span if self.error_holds else 'not compared here'}"

    @property
    def sentence(self) -> str:
        """Everything: how far it can be trusted, what is modelled, and of what memory."""
        return f"{self.words}; {self.core}: {self.what}; memory: {self.memory}"
