"""Units in which the terms of a current add up as integers.

Terms with weights come in units that are powers of two apart: their totals are shifted. Membranes
come in steps of their own, any ratio apart, and finer than weights as a rule: they are rescaled to
a unit that is a power of two below that of the weights, as fine as theirs where int32 has room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.nodes import label, name_of
from edgekit.program.lowering.spiking_bounds import LARGEST, Interval
from edgekit.program.lowering.spiking_membranes import Added, factors
from edgekit.program.lowering.spiking_parts import CLOSE, Float64, Int64, Part
from edgekit.program.lowering.spiking_pools import Pooled
from edgekit.program.operators.spiking_rescale import rescaled

MOST_BITS = 30
"""Most bits by which a current of weights is made finer at once."""


def common_unit(
    neuron: onnx_ir.Node, order: Int64, parts: Sequence[Part | Pooled]
) -> tuple[list[int], Float64]:
    """By how many bits each part is coarser than the finest, and the unit of that, per neuron.

    Neurons whose weights are all 0 in a part take any unit there: what is NaN fits everything.

    Args:
        neuron: for messages.
        order: for every neuron, its index in the flattened current; for messages.
        parts: terms with weights, or pools of such.

    Raises:
        UnsupportedError: units that are no power of two apart.
    """
    unit = np.full(order.size, np.nan)
    exponents: list[int] = []
    for part in parts:
        ratio = part.unit / unit
        known = ~np.isnan(ratio)
        exponent = round(math.log2(float(ratio[known][0]))) if known.any() else 0
        off = np.abs(ratio / 2.0**exponent - 1)
        if known.any() and np.nanmax(off) > CLOSE:
            row = int(np.nanargmax(off))
            other = next(p for p in parts if not np.isnan(p.unit[row]))
            raise UnsupportedError(
                f"{label(neuron)}: an integer of {name_of(other.term.value)!r} is worth "
                f"{other.unit[row]:.6g} in neuron {int(order[row])}, one of "
                f"{name_of(part.term.value)!r} {part.unit[row]:.6g}; a neuron's weights must share "
                "its scale, and samples that meet spikes must come in steps of a power of two "
                "(int16_scale)"
            )
        unit = np.where(np.isnan(unit), part.unit / 2.0**exponent, unit)
        exponents.append(exponent)
    finest = min(exponents, default=0)
    return [exponent - finest for exponent in exponents], unit * 2.0**finest


@dataclass(frozen=True, eq=False)
class Fitted:
    """Membranes in the unit of a current.

    Attributes:
        bits: by which the current was coarser.
        unit: of the current now, per neuron; NaN where nothing but zeros is added up.
        factors: of each membrane, with their shift; ``None`` where its integers stay as they are.
        spans: of each, in the unit.
    """

    bits: int
    unit: Float64
    factors: tuple[tuple[Int64, int] | None, ...]
    spans: tuple[Interval, ...]


def fit_membranes(unit: Float64, ends: Interval, membranes: Sequence[Added]) -> Fitted:
    """Choose the unit of a current that holds membranes.

    Args:
        unit: of the current so far, NaN where it may be anything.
        ends: of the current so far.
        membranes: what is to be added.
    """
    spans = [added.span for added in membranes]
    worth = np.stack([np.where(m.span.magnitude > 0, m.step, np.nan) for m in membranes])
    largest = np.fmax.reduce(worth, axis=0)
    ratio = largest / unit
    # Neurons without weights take the unit that suits the others.
    most = 1.0 if np.isnan(ratio).all() else float(np.fmax.reduce(ratio))
    has_weights = not np.isnan(unit).all()
    unit = np.where(np.isnan(unit), largest / most, unit)
    finest = min(max(-math.ceil(math.log2(most)), 0), MOST_BITS)
    found = _at(unit, finest, ends, worth, spans)
    # Without weights the unit may get coarser than every membrane; else it is theirs at most.
    for bits in range(finest - 1, -1 if has_weights else -MOST_BITS, -1):
        if max(int(i.magnitude.max()) for i in (*found.spans, _sum(found, ends))) <= LARGEST:
            break
        found = _at(unit, bits, ends, worth, spans)
    return found


def _at(
    unit: Float64, bits: int, ends: Interval, worth: Float64, spans: Sequence[Interval]
) -> Fitted:
    """With some bits below the unit."""
    finer = unit * 2.0**-bits
    chosen: list[tuple[Int64, int] | None] = []
    moved: list[Interval] = []
    for row, span in zip(worth, spans, strict=True):
        share = np.where(np.isnan(row), 0.0, row / finer)
        if ((share == 1) | (span.magnitude == 0)).all():
            chosen.append(None)
            moved.append(span)
            continue
        factor, shift = factors(share)
        chosen.append((factor, shift))
        moved.append(Interval(*(rescaled(end, factor, shift) for end in (span.low, span.high))))
    return Fitted(bits, finer, tuple(chosen), tuple(moved))


def _sum(found: Fitted, ends: Interval) -> Interval:
    shift = max(found.bits, 0)
    low = (ends.low << shift) + sum(span.low for span in found.spans)
    high = (ends.high << shift) + sum(span.high for span in found.spans)
    return Interval(low, high)
