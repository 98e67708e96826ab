"""Pooled currents: integer totals of a tree of terms, of whose windows neurons read one number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir

from edgekit.errors import UnsupportedError
from edgekit.model.nodes import label, name_of
from edgekit.program.lowering.arrangement import CHANNELS_LAST, Arrangement, image_pair
from edgekit.program.lowering.lowerer import Lowerer
from edgekit.program.lowering.spiking_parts import (
    CLOSE,
    Current,
    Float64,
    Int64,
    check_positive,
    gain_of,
    in_order,
)
from edgekit.program.lowering.spiking_sums import Term
from edgekit.program.lowering.spiking_windows import INSTEAD, Windows
from edgekit.program.lowering.value import Value


@dataclass(frozen=True, eq=False)
class Pooled:
    """A term that is a pool of a current.

    Attributes:
        term: the term.
        tensor: int32, in the order of the neurons.
        unit: what 1 is worth, per neuron; NaN where it is always 0.
        low, high: range of its integers, per neuron.
    """

    term: Term
    tensor: str
    unit: Float64
    low: Int64
    high: Int64


def numbering_of(windows: Windows) -> Arrangement:
    """The order in which a pool reads a current."""
    return Arrangement.permuted(windows.shape, CHANNELS_LAST[len(windows.shape)])


def pooled(
    low: Lowerer,
    neuron: onnx_ir.Node,
    term: Term,
    windows: Windows,
    current: Current,
    order: Int64,
) -> Pooled:
    """Emit a pool.

    A window's largest integer is none but one of its own: it lies between the largest of their
    lower ends and the largest of their upper ends. The ends of a sum are the sums of the ends.

    Args:
        low: the lowering.
        neuron: the population that reads it.
        term: the pool.
        windows: its windows.
        current: what it reads, in the order of :func:`numbering_of`.
        order: for every neuron, its index in the flattened result of the pool.

    Raises:
        UnsupportedError: places of a window whose integers are worth different amounts, or that
            are membranes.
    """
    node, operator = windows.node, windows.operator
    if current.rounds:
        names = ", ".join(sorted({repr(read.source) for read in current.reads}))
        raise UnsupportedError(
            f"{label(node)}: pools the membranes of {names} in front of {label(neuron)}; {INSTEAD}"
        )
    image = (1, *image_pair(windows.shape[2:], 1), windows.shape[1])
    unit = _common(neuron, windows, current.unit.reshape(image))
    share = windows.share * gain_of(term, order)
    own = windows.flat(unit)[order] * share
    check_positive(neuron, term, np.where(np.isnan(own), share, own))
    ends = (
        windows.flat(operator.reduce(end.reshape(image)))[order]
        for end in (current.low, current.high)
    )
    x = low.view(node, current.tensor, image)
    tensor = low.emit(node, operator, x, name=name_of(node.outputs[0]))
    result = Arrangement.permuted(windows.result, CHANNELS_LAST[len(windows.result)])
    given = Value(low.view(node, tensor, result.stored), result)
    return Pooled(term, in_order(low, neuron, given, order), own, *ends)


def _common(neuron: onnx_ir.Node, windows: Windows, unit: Float64) -> Float64:
    """What 1 is worth in every window, NaN where nothing but zeros is in it."""
    under = windows.operator.under(unit, np.nan)
    most, least = np.fmax.reduce(under), np.fmin.reduce(under)
    if (most > least * (1 + CLOSE)).any():
        raise UnsupportedError(
            f"{label(windows.node)}: pools places whose integers are worth different amounts in "
            f"front of {label(neuron)}; a scale of the weights per channel would do; else {INSTEAD}"
        )
    return np.asarray(most)
