"""What is added to a current: spikes or numbers, their weights, and what those are worth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgekit.errors import UnsupportedError
from edgekit.model.nodes import label
from edgekit.program.lowering.arrangement import CHANNELS_LAST, Arrangement
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.spiking_sums import Term
from edgekit.program.lowering.spiking_weights import Rows
from edgekit.program.lowering.value import Value
from edgekit.program.operators.spiking_sums import MAX_TERMS

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Source:
    """What a term reads.

    Attributes:
        value: bit set, or numbers.
        population: whose spikes these are, None for numbers.
        scale: what 1 is worth; 1 for spikes and float32.
        zero_point: code that means 0.
        limits: range of the codes less their zero point, with 0 in it.
    """

    value: Value
    population: str | None
    scale: float = 1.0
    zero_point: int = 0
    limits: tuple[int, int] = (0, 1)

    @property
    def is_spikes(self) -> bool:
        """Whether the value is a bit set."""
        return self.population is not None

    @property
    def columns(self) -> NDArray[np.int64]:
        """For every element as it lies, its index in the flattened value."""
        return self.value.arrangement.gather(range(len(self.value.shape)))


@dataclass(frozen=True, eq=False)
class Part:
    """A term that adds weights.

    Attributes:
        term: the term.
        source: what it reads.
        rows: its weights; those of a product in the order of source and neurons.
        unit: what 1 is worth, per neuron; meaningless for float32, like the range.
        low, high: range of its totals, per neuron.
    """

    term: Term
    source: Source
    rows: Rows
    unit: Float64
    low: Int64
    high: Int64

    @property
    def sums_spikes(self) -> bool:
        """Whether it is a product of spikes with weights."""
        return self.source.is_spikes and self.rows.window is None

    def joins(self, other: Part) -> bool:
        """Whether one operation can sum both: products of spikes with weights of one kind."""
        return (
            self.sums_spikes
            and other.sums_spikes
            and self.rows.kind == other.rows.kind
            and self.rows.groups == other.rows.groups
        )


def runs(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Parts that one operation sums, in their order."""
    run: list[Part] = []
    for part in parts:
        terms = part.rows.data.size + sum(p.rows.data.size for p in run)
        if run and not (run[-1].joins(part) and terms <= MAX_TERMS * len(part.rows.data)):
            yield run
            run = []
        run.append(part)
    if run:
        yield run


def in_order(low: Lowerer, node: onnx_ir.Node, value: Value, order: NDArray[np.int64]) -> str:
    """A tensor with a value's elements in the order of a population's neurons.

    Args:
        low: the lowering.
        node: for whom.
        value: as many elements.
        order: for every neuron, its index in the flattened value.

    Raises:
        UnsupportedError: no transposition gives that order.
    """

    def lies(candidate: Value) -> bool:
        axes = range(len(candidate.shape))
        return np.array_equal(candidate.arrangement.gather(axes), order)

    if lies(value):
        return value.tensor
    rank = len(value.shape)
    for axes in (tuple(range(rank)), CHANNELS_LAST.get(rank)):
        if axes is not None:
            moved = Value(value.tensor, Arrangement.permuted(value.shape, axes))
            if lies(moved):
                return low.arrange(node, value, axes).tensor
    raise UnsupportedError(
        f"{label(node)}: the elements of {value.tensor!r} lie in another order than its neurons"
    )
