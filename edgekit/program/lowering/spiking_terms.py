"""Currents in a Program: one running total, to which the terms of a population are added."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.nodes import get_input, label, name_of
from edgekit.program.ir import DType
from edgekit.program.lowering.arrangement import CHANNELS_LAST, Arrangement, image_pair
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.spiking_bounds import Interval
from edgekit.program.lowering.spiking_format import MembraneRead
from edgekit.program.lowering.spiking_membranes import (
    Added,
    added_membranes,
    check_integers_stay,
    codes_of,
    held_by,
    read_as_codes,
    rescale,
)
from edgekit.program.lowering.spiking_parts import (
    Current,
    Float64,
    Part,
    Source,
    check_positive,
    check_same_order,
    chosen_schedule,
    gain_of,
    in_order,
    runs,
    samples_of,
)
from edgekit.program.lowering.spiking_pools import Pooled, numbering_of, pooled
from edgekit.program.lowering.spiking_sums import Sum, Term
from edgekit.program.lowering.spiking_units import MOST_BITS, common_unit, fit_membranes
from edgekit.program.lowering.spiking_weights import Rows, integer_rows, real_rows
from edgekit.program.lowering.spiking_windows import windows_of
from edgekit.program.operators.elementwise import Add
from edgekit.program.operators.spiking_weighted import (
    CurrentConv2D,
    CurrentDense,
    SpikeConv2D,
    SpikeDense,
)


@dataclass(eq=False)
class Accumulation:
    """A population's current under construction.

    Attributes:
        low: the lowering.
        neuron: the population's node.
        numbering: order of its neurons.
        is_integer: whether to add up integers.
    """

    low: Lowerer
    neuron: onnx_ir.Node
    numbering: Arrangement
    is_integer: bool

    def __post_init__(self) -> None:
        # For every neuron, its index in the flattened current.
        self.order = self.numbering.gather(range(len(self.numbering.shape)))
        self.total: str | None = None
        self.lowest = np.zeros(self.order.size, np.int64)
        self.highest = np.zeros(self.order.size, np.int64)
        self.reads: list[MembraneRead] = []
        self.rounds = False

    def add(self, found: Sum) -> Current:
        """Add up everything.

        Raises:
            UnsupportedError: a term that does not fit; the node is named.
        """
        if self.is_integer:
            unit = self._add_integers(found.terms)
        else:
            unit = np.ones(self.order.size)
            # The order of float sums is that of the terms.
            for is_number, terms in groupby(found.terms, key=lambda term: term.node is None):
                if is_number:
                    for term in terms:
                        self._add_number(term)
                else:
                    self._emit_parts([self._part(term) for term in terms])
        if self.total is None:
            raise UnsupportedError(f"{label(self.neuron)}: its current is a constant")
        bound = np.maximum(-self.lowest, self.highest).max()
        if bound > DType.INT32.limits[1]:
            raise UnsupportedError(
                f"{label(self.neuron)}: currents reach {bound}, must fit int32: fewer inputs or "
                "smaller codes"
            )
        return Current(self.total, unit, self.lowest, self.highest, tuple(self.reads), self.rounds)

    # Terms

    def _add_number(self, term: Term) -> None:
        """A float32 value that is computed apart."""
        low = self.low
        check_integers_stay(low, self.neuron, term.value)
        value = low.real(self.neuron, low.value(term.value))
        tensor = in_order(low, self.neuron, value, self.order)
        if self.total is None:
            self.total = low.view(self.neuron, tensor, self.numbering.stored)
            return
        shape = low.tensors[self.total].shape
        self.total = low.emit(
            self.neuron,
            Add(),
            self.total,
            low.view(self.neuron, tensor, shape),
            name=self._name(),
        )

    def _add_integers(self, terms: Sequence[Term]) -> Float64:
        """Add integers, the coarsest first, whose total is shifted to the unit of the next.

        Returns:
            The unit of the whole, which is that of the finest; NaN for neurons that add only zeros.
        """
        single = (term for term in terms if term.inner is None)
        found = (added_membranes(self.low, term, self.order) for term in single)
        membranes = [added for added in found if added is not None]
        direct = [added.term for added in membranes]
        parts = [self._integers(term) for term in terms if term not in direct]
        shifts, unit = common_unit(self.neuron, self.order, parts)
        before = max(shifts, default=0)
        for shift in sorted(set(shifts), reverse=True):
            self._shift(before - shift)
            same = [part for part, own in zip(parts, shifts, strict=True) if own == shift]
            for part in same:
                if isinstance(part, Pooled):
                    self._add_tensor(part.tensor)
            rows = [part for part in same if isinstance(part, Part)]
            self._emit_parts(sorted(rows, key=lambda part: part.sums_spikes))
            self.lowest += sum(part.low for part in same)
            self.highest += sum(part.high for part in same)
            before = shift
        return self._add_membranes(membranes, unit) if membranes else unit

    def _add_membranes(self, membranes: Sequence[Added], unit: Float64) -> Float64:
        """Add membranes to the total, in a unit that suits both; returns it."""
        for added in membranes:
            check_positive(self.neuron, added.term, added.step)
        fitted = fit_membranes(unit, Interval(self.lowest, self.highest), membranes)
        self._shift(fitted.bits)
        for added, scaling, span in zip(membranes, fitted.factors, fitted.spans, strict=True):
            tensor = in_order(self.low, self.neuron, self.low.value(added.value), self.order)
            if self.total is None and scaling is None:
                self.total = tensor
            else:
                factor, shift = scaling or (np.ones(self.order.size, np.int64), 0)
                self.total = rescale(
                    self.low, self.neuron, tensor, factor, shift, self.total, self._name()
                )
            self.lowest, self.highest = self.lowest + span.low, self.highest + span.high
            own = np.empty(self.order.size)
            own[self.order] = fitted.unit
            bound = int(span.magnitude.max())
            held = added.held
            self.reads.append(MembraneRead(held.population, DType.INT32, own, bound, held.limited))
        self.rounds = True
        return fitted.unit

    def _shift(self, bits: int) -> None:
        """Multiply the total so far by a power of two."""
        while bits > 0 and self.total is not None:
            step = min(bits, MOST_BITS)
            factor = np.full(self.order.size, 1 << step)
            self.total = rescale(self.low, self.neuron, self.total, factor, 0, None, self._name())
            self.lowest, self.highest = self.lowest << step, self.highest << step
            bits -= step

    def _add_tensor(self, tensor: str) -> None:
        """Add integers of the total's unit, in the order of the neurons."""
        if self.total is not None:
            one = np.ones(self.order.size, np.int64)
            tensor = rescale(self.low, self.neuron, tensor, one, 0, self.total, self._name())
        self.total = tensor

    def _integers(self, term: Term) -> Part | Pooled:
        """A term of integers; what a pool reads is added up apart."""
        windows = windows_of(term.node)
        if term.inner is None or windows is None:
            return self._part(term)
        windows.check(term.inner.bias())
        inner = Accumulation(self.low, self.neuron, numbering_of(windows), is_integer=True)
        current = inner.add(term.inner)
        self.reads.extend(current.reads)
        return pooled(self.low, self.neuron, term, windows, current, self.order)

    def _part(self, term: Term) -> Part:
        """A product, a convolution, a pool, or a value that counts once."""
        source = self._source(term.value if term.node is None else get_input(term.node, 0))
        if term.node is None:
            size = self.order.size
            rows = Rows(np.ones((size, 1), np.int8), np.ones(size), groups=size)
            check_same_order(self.neuron, term, source, self.order)
        else:
            read = integer_rows if self.is_integer else real_rows
            rows = read(self.low, term.node)
            if rows.window is None:
                rows = rows.placed(self.order, source.columns)
        scale, (low, high) = rows.scale, rows.range(*source.limits)
        if rows.window is not None:
            places = math.prod(rows.window.output)
            scale, low, high = (np.tile(row, places) for row in (scale, low, high))
        unit = scale * source.scale * gain_of(term, self.order)
        silent = (low == 0) & (high == 0) & self.is_integer
        check_positive(self.neuron, term, np.where(silent, 1.0, unit))
        unit = np.where(silent, np.nan, unit)
        return Part(term, source, rows, unit, low, high)

    def _emit_parts(self, parts: list[Part]) -> None:
        """Add to the total, in the order given; neighbours at once where one operation can."""
        for run in runs(parts):
            if run[0].rows.window is not None:
                self._emit_convolution(run[0])
            elif run[0].source.is_spikes:
                self._emit_spikes(run)
            else:
                self._emit_numbers(run[0])

    def _emit_spikes(self, run: list[Part]) -> None:
        """The products of one operation."""
        rows = run[0].rows
        joined = np.concatenate([part.rows.data for part in run], axis=1)
        operator = SpikeDense(
            neurons=tuple(math.prod(part.source.value.shape) for part in run),
            schedule=chosen_schedule(self.low, [part.source for part in run], rows),
            **rows.fields(),
        )
        node, name = self._place(run[0])
        if len(run) > 1:
            name = f"{self.neuron.name}.weights"
        before = self._before(node, (1, self.order.size))
        weights = self.low.constant(joined, name)
        sets = [part.source.value.tensor for part in run]
        self.total = self.low.emit(node, operator, weights, before, *sets, name=self._name())

    def _emit_numbers(self, part: Part) -> None:
        """A product of samples."""
        source, rows = part.source, part.rows
        operator = CurrentDense(x_zero_point=source.zero_point, **rows.fields())
        x = self.low.view(self.neuron, source.value.tensor, (1, math.prod(source.value.shape)))
        self._emit(part, operator, x, (1, self.order.size))

    def _emit_convolution(self, part: Part) -> None:
        node, source, rows = part.term.node, part.source, part.rows
        window, shape = rows.window, source.value.shape
        assert node is not None
        assert window is not None
        axes = CHANNELS_LAST[len(shape)]
        result = Arrangement.permuted((1, len(rows.data), *window.output), axes)
        if not np.array_equal(result.gather(range(len(result.shape))), self.order):
            raise UnsupportedError(
                f"{label(node)}: gives neurons of {label(self.neuron)} in another order than "
                "another convolution into them; give both results the same shape"
            )
        image = (*image_pair(shape[2:], 1), shape[1])
        if source.is_spikes:
            if not source.value.arrangement.lies_as(axes):
                raise UnsupportedError(
                    f"{label(node)}: reads spikes that do not lie as an image does; a population "
                    f"of the shape {list(shape)} would do"
                )
            operator: SpikeConv2D | CurrentConv2D = SpikeConv2D(
                input_shape=image,
                schedule=chosen_schedule(self.low, [source], rows),
                **rows.fields(),
            )
            x = source.value.tensor
        else:
            operator = CurrentConv2D(x_zero_point=source.zero_point, **rows.fields())
            arranged = self.low.arrange(self.neuron, source.value, axes)
            x = self.low.view(self.neuron, arranged.tensor, (1, *image))
        self._emit(part, operator, x, (1, *image_pair(window.output, 1), len(rows.data)))

    # Parts

    def _source(self, value: onnx_ir.Value) -> Source:
        spikes = self.low.spikes.get(value)
        if spikes is not None:
            return Source(spikes, self.low.sets.population(value) or "")
        found = self.low.value(value)
        if not self.is_integer:
            check_integers_stay(self.low, self.neuron, value)
            return Source(self.low.real(self.neuron, found), None)
        held = held_by(self.low, value)
        if held is not None:
            source = codes_of(self.low, self.neuron, value, held)
            self.reads.append(read_as_codes(held, source))
            return source
        return samples_of(self.low, self.neuron, value)

    def _emit(
        self,
        part: Part,
        operator: CurrentDense | SpikeConv2D | CurrentConv2D,
        x: str,
        shape: tuple[int, ...],
    ) -> None:
        """Add a part to the total; `shape` is what the operator gives."""
        node, name = self._place(part)
        before = self._before(node, shape)
        weights = self.low.constant(part.rows.data, name)
        self.total = self.low.emit(node, operator, x, weights, before, name=self._name())

    def _place(self, part: Part) -> tuple[onnx_ir.Node, str]:
        """The node that a part stands for, and the name of its weights."""
        node, ones = part.term.node, f"{part.term.value.name}.ones"
        if node is None:
            return self.neuron, ones
        return node, name_of(get_input(node, 1)) if len(node.inputs) > 1 else ones

    def _before(self, node: onnx_ir.Node, shape: tuple[int, ...]) -> str | None:
        """The total so far, in the shape that an operator gives."""
        return None if self.total is None else self.low.view(node, self.total, shape)

    def _name(self) -> str:
        return f"{self.neuron.name}.current"
