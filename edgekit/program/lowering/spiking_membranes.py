"""Membranes that others read as numbers: whose they are, and their integers in other steps.

The membrane of an integrator is int32 in steps of its own, one size per neuron, between proved ends
(:mod:`~edgekit.program.lowering.spiking_format`). Two kinds of readers take it:

* Neurons that add it to their current, one to one. Where nothing else is in the current, its steps
  are those of the membrane: nothing is computed. Beside other terms it is brought to a unit that
  goes with theirs, per neuron by a factor of up to 30 bits, rounded once. What is finer than the
  neurons can hold is rounded off the whole current.
* Weights that multiply it. They read int16 codes with one step for all neurons, the power of two at
  which the proved ends are codes: 2**-15 to 2**-14 of the largest membrane that there can ever be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.nodes import get_input, is_op, label
from edgekit.program.fixed_point import Requant
from edgekit.program.ir import DType, Quantization
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.spiking_bounds import Interval
from edgekit.program.lowering.spiking_format import Held, MembraneRead
from edgekit.program.lowering.spiking_options import int16_scale
from edgekit.program.lowering.spiking_parts import Float64, Int64, Source, gain_of, shortest
from edgekit.program.lowering.spiking_sets import RESHAPING
from edgekit.program.lowering.spiking_sums import Term
from edgekit.program.lowering.spiking_weights import integer_rows
from edgekit.program.lowering.value import Value
from edgekit.program.operators.quantization import Requantize
from edgekit.program.operators.spiking_rescale import MAX_SHIFT, Rescale, rescaled

FACTOR_BITS = 30
"""Largest factor 2**30: one that keeps a value as it is fits int32, as all smaller ones do."""

HELP = (
    "supported: neurons that add them, weights between them and neurons, and outputs; with real "
    "weights (float32) everything is"
)
"""What can be done about a membrane that is read in another way."""


def held_by(low: Lowerer, value: onnx_ir.Value) -> Held | None:
    """The integer membranes that a value is, under this shape or another; None for other values."""
    origin = value
    while origin not in low.held:
        node = origin.producer()
        if not is_op(node, *RESHAPING):
            return None
        assert node is not None
        origin = get_input(node, 0)
    return low.held[origin]


def refuse_reader(low: Lowerer, node: onnx_ir.Node) -> None:
    """Say of a node what it cannot do with an integer membrane.

    Raises:
        UnsupportedError: always.
    """
    found = (held_by(low, value) for value in node.inputs if value is not None)
    names = sorted({held.population for held in found if held is not None})
    raise UnsupportedError(
        f"{label(node)}: reads the membrane of {', '.join(map(repr, names))}, which is int32; "
        f"{HELP}"
    )


@dataclass(frozen=True, eq=False)
class Added:
    """Membranes that neurons add to their current one to one.

    Attributes:
        term: of the current.
        value: the membranes.
        held: what they are.
        step: what 1 is worth in the current, per neuron.
        span: their integers, per neuron.
    """

    term: Term
    value: onnx_ir.Value
    held: Held
    step: Float64
    span: Interval


def added_membranes(low: Lowerer, term: Term, order: Int64) -> Added | None:
    """A term as membranes that are added one to one; None where it is something else.

    Membranes as they are, and those that a product with a diagonal matrix of positive weights
    hands on, as constant inputs of NIR's neurons come behind: its weights only change their step.

    Args:
        low: the lowering.
        term: of an integer current.
        order: for every neuron, its index in the flattened current.
    """
    value = term.value if term.node is None else get_input(term.node, 0)
    held = held_by(low, value)
    if held is None:
        return None
    step = held.step[order] * gain_of(term, order)
    if term.node is not None:
        rows = integer_rows(low, term.node)
        diagonal = rows.groups == len(rows.data) == held.step.size and rows.window is None
        if not diagonal or (rows.data <= 0).any():
            return None
        step = step * (rows.data[:, 0] * rows.scale)[order]
    return Added(term, value, held, step, Interval(held.span.low[order], held.span.high[order]))


def check_integers_stay(low: Lowerer, neuron: onnx_ir.Node, value: onnx_ir.Value) -> None:
    """Refuse integer membranes in the current of neurons that stay in float32."""
    held = held_by(low, value)
    if held is not None:
        raise UnsupportedError(
            f"{label(neuron)}: stays in float32 and reads the membrane of {held.population!r}, "
            "which is int32; quantise the weights of both, or of neither"
        )


def codes_of(low: Lowerer, neuron: onnx_ir.Node, value: onnx_ir.Value, held: Held) -> Source:
    """Membranes as int16 codes of one scale, which weights multiply.

    Args:
        low: the lowering.
        neuron: the population behind the weights.
        value: the membranes.
        held: what they are.

    Raises:
        UnsupportedError: they have no proved ends.
    """
    if held.limited:
        raise UnsupportedError(
            f"{label(neuron)}: weights multiply the membrane of {held.population!r}, which forgets "
            "nothing and has no bound, so that no int16 code is sure to hold it; supported: decays "
            "below 1, or neurons that add it without weights; with real weights (float32) "
            "everything is"
        )
    found = low.value(value)
    order = found.arrangement.gather(range(len(found.shape)))
    step, span = held.step[order], Interval(held.span.low[order], held.span.high[order])
    ends = np.stack([span.low * step, span.high * step])
    scale = int16_scale(float(ends.min()), float(ends.max())) if ends.any() else 1.0
    factor, shift = factors(np.where(span.magnitude > 0, step / scale, 0.0))
    if found.tensor not in low.codes:
        name = f"{held.population}.codes"
        number = rescale(low, neuron, found.tensor, factor, shift, None, f"{name}.wide")
        # The numbers are codes already: a factor of 1 changes nothing but their type.
        operator = Requantize(Requant.from_real([1.0], "double"), dtype=DType.INT16)
        low.codes[found.tensor] = low.emit(
            neuron, operator, number, name=name, quantization=Quantization.per_tensor(scale)
        )
    codes = Value(low.codes[found.tensor], found.arrangement, Quantization.per_tensor(scale))
    lowest, highest = rescaled(span.low, factor, shift), rescaled(span.high, factor, shift)
    limits = min(int(lowest.min()), 0), max(int(highest.max()), 0)
    return Source(codes, None, scale, 0, limits)


def read_as_codes(held: Held, source: Source) -> MembraneRead:
    """What is stated of codes."""
    step = np.full(held.step.shape, source.scale)
    bound = max(-source.limits[0], source.limits[1])
    return MembraneRead(held.population, DType.INT16, step, bound, limited=False)


def factors(ratio: Float64) -> tuple[Int64, int]:
    """Integers and a shift with ``factor * 2**-shift`` next to ratios, the largest of 30 bits.

    Args:
        ratio: not negative.

    >>> factors(np.float64([1.0, 0.75, 0.0]))
    (array([1073741824,  805306368,          0]), 30)
    """
    largest = float(ratio.max())
    if largest == 0:
        return np.zeros(ratio.shape, np.int64), 0
    shift = min(max(FACTOR_BITS - math.ceil(math.log2(largest)), 0), MAX_SHIFT)
    return np.rint(np.ldexp(ratio, shift)).astype(np.int64), shift


def rescale(
    low: Lowerer,
    node: onnx_ir.Node,
    tensor: str,
    factor: Int64,
    shift: int,
    total: str | None,
    name: str,
) -> str:
    """Emit the operation; returns the tensor of the integers in other steps.

    Args:
        low: the lowering.
        node: what the operation is named after.
        tensor: int32, whose elements lie as the factors do.
        factor: one per element.
        shift: of the operator.
        total: as many integers that are added, or None.
        name: wanted name of the result.
    """
    shape = low.tensors[tensor].shape
    (row,) = shortest([factor.astype(np.int32)], shape[-1])
    assert row is not None
    acc = None if total is None else low.view(node, total, shape)
    constant = low.constant(row, f"{node.name}.factor")
    return low.emit(node, Rescale(shift=shift), tensor, constant, acc, name=name)
