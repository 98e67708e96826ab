"""What is added to a current: spikes or numbers, their weights, and what those are worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgekit.errors import UnsupportedError
from edgekit.model.nodes import Array, is_op, label, name_of
from edgekit.program.ir import DType
from edgekit.program.lowering.arrangement import CHANNELS_LAST, Arrangement
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.spiking_format import MembraneRead
from edgekit.program.lowering.spiking_sums import Term
from edgekit.program.lowering.spiking_weights import Rows
from edgekit.program.lowering.spiking_windows import INSTEAD, POOLS, windows_of
from edgekit.program.lowering.value import Value
from edgekit.program.operators.spiking_schedule import schedule_for
from edgekit.program.operators.spiking_sums import MAX_TERMS
from edgekit.program.operators.spiking_weighted import Schedule

CLOSE = 1e-6
"""How far units that should agree may be apart: the rounding of float32 scales."""

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
class Current:
    """What a population reads, in the order of its neurons.

    Attributes:
        tensor: float32 or int32; flat [1,n], or [1,H,W,C] where a convolution gives it.
        unit: of integers, what 1 is worth, float64[n], NaN where it may be anything; ones for
            float32.
        low, high: range of the integers, int64[n].
        reads: membranes of others in it.
        rounds: whether it may be rounded, as it comes in steps of membranes.
    """

    tensor: str
    unit: Float64
    low: Int64
    high: Int64
    reads: tuple[MembraneRead, ...]
    rounds: bool


@dataclass(frozen=True, eq=False)
class Part:
    """A term that adds weights.

    Attributes:
        term: the term.
        source: what it reads.
        rows: its weights; those of a product in the order of source and neurons.
        unit: what 1 is worth, per neuron; NaN where all weights are 0, so that it may be anything;
            meaningless for float32, like the range.
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


def samples_of(low: Lowerer, neuron: onnx_ir.Node, value: onnx_ir.Value) -> Source:
    """Integers with a scale that a term of integer neurons reads.

    Raises:
        UnsupportedError: the value has none.
    """
    found = low.value(value)
    quantization, tensor = found.quantization, low.tensors[found.tensor]
    if quantization is None or tensor.dtype not in (DType.INT8, DType.INT16):
        node = value.producer()
        earlier = any(value is read for read, _ in low.declared.pairs)
        what = "a value of the step before" if earlier else f"{tensor.dtype} without a scale"
        instead = (
            "supported: spikes, membranes of the same step, counts of pools, and inputs whose step "
            "is given (SpikingOptions.input_scale); with real weights (float32) everything is"
        )
        if is_op(node, *POOLS) or windows_of(node) is not None:
            what, instead = f"a pool in {tensor.dtype}", INSTEAD
        raise UnsupportedError(
            f"{label(neuron)}: reads {name_of(value)!r}, which is {what}, into integer neurons; "
            f"{instead}"
        )
    zero_point = quantization.scalar_zero_point
    lowest, highest = tensor.dtype.limits
    return Source(
        found,
        None,
        quantization.scalar_scale,
        zero_point,
        (min(lowest - zero_point, 0), max(highest - zero_point, 0)),
    )


def gain_of(term: Term, order: Int64) -> Float64:
    """What multiplies a term: one number, or one per neuron.

    Args:
        term: the term.
        order: for every neuron, its index in the flattened current.
    """
    gain = np.ones(1) if term.gain is None else term.gain
    return gain if gain.size == 1 else gain[order]


def check_positive(neuron: onnx_ir.Node, term: Term, unit: Float64) -> None:
    """Refuse units of a term that turn signs, or make everything nothing."""
    if not (np.isfinite(unit) & (unit > 0)).all():
        raise UnsupportedError(
            f"{label(neuron)}: {name_of(term.value)!r} is multiplied by what is not positive, must "
            "be positive: the sign belongs into the weights"
        )


def check_same_order(neuron: onnx_ir.Node, term: Term, source: Source, order: Int64) -> None:
    """Refuse a term without weights whose elements do not lie as the neurons do."""
    if not np.array_equal(source.columns, order):
        raise UnsupportedError(
            f"{label(neuron)}: reads {name_of(term.value)!r}, whose elements lie in another order "
            "than its neurons; a product with the identity in between would do"
        )


def chosen_schedule(low: Lowerer, sources: Iterable[Source], rows: Rows) -> Schedule:
    """By the share of all inputs that spike, where it is known of all."""
    spiking, neurons = 0.0, 0
    for source in sources:
        activity = low.options.activity.get(source.population or "")
        if activity is None:
            return schedule_for(rows.kind, None)
        size = math.prod(source.value.shape)
        spiking, neurons = spiking + activity * size, neurons + size
    return schedule_for(rows.kind, spiking / neurons)


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


def shortest(rows: list[Array | None], channels: int) -> list[Array | None]:
    """One number where all are the same; else one per channel, if that says all of them, or all."""
    several = [r for r in rows if r is not None and (r != r[0]).any()]
    places = [row.reshape(-1, channels) for row in several]
    end = channels if all((p == p[0]).all() for p in places) else None
    return [
        None if row is None else row[:1] if (row == row[0]).all() else row[:end] for row in rows
    ]
