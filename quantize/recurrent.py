"""Quantisation of LSTM and GRU nodes: what to observe, and how their weights are written.

A quantised node stays one ONNX node between DequantizeLinear and QuantizeLinear, which any runtime
executes in float. Its weights are int8 per gate row, its bias stays float32: the integer form makes
int32 of it. The step of an LSTM's int16 cell, which no tensor of the graph has, is metadata of the
node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir

from edgekit.errors import InvalidDataError
from edgekit.model.geometry import RECURRENT_GATES
from edgekit.model.nodes import const, find_input, get_input, get_int, is_op, name_of
from edgekit.program.ir import Array, Program, Quantization
from edgekit.program.lowering.recurrent import CELL_EXPONENT
from edgekit.program.operators.base import Operator
from edgekit.program.operators.recurrent import Gru, Lstm, Recurrent, cell_exponent
from edgekit.quantize.constants import QuantizedWeights, quantize_weights
from edgekit.quantize.observers import MinMax, Observer, Range

RECURRENT = tuple(RECURRENT_GATES)
"""Operators of this module."""


@dataclass(frozen=True)
class _Watched(Operator):
    """A recurrent operator that shows what stays inside: every step's result and cell."""

    inner: Recurrent
    see: Callable[[Array, Array | None], None]

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """As the operator's own."""
        if isinstance(self.inner, Lstm):
            y, cells = self.inner.unrolled(*inputs)
            self.see(y, cells)
            last = 0 if self.inner.reverse else -1
            return y, y[last], cells[last]
        results = self.inner.reference(*inputs)
        self.see(results[0], None)
        return results


class Watch:
    """Observes the insides of recurrent layers while a float Program runs.

    Args:
        program: a float Program.
        origins: name of the ONNX node of every operation.
        create: makes observers of results.

    Attributes:
        program: to be run instead; it computes the same.
    """

    def __init__(
        self, program: Program, origins: Mapping[str, str], create: Callable[[], Observer]
    ) -> None:
        self._results: dict[str, Observer] = {}
        self._cells: dict[str, MinMax] = {}
        operations = []
        for operation in program.operations:
            operator = operation.operator
            if isinstance(operator, Lstm | Gru):
                node = origins[operation.name]
                self._results.setdefault(node, create())
                self._cells.setdefault(node, MinMax())
                operation = replace(operation, operator=_Watched(operator, self._see(node)))
            operations.append(operation)
        self.program = program.replace(operations=tuple(operations))

    def _see(self, node: str) -> Callable[[Array, Array | None], None]:
        def see(y: Array, cells: Array | None) -> None:
            if not np.isfinite(y).all() or (cells is not None and not np.isfinite(cells).all()):
                raise InvalidDataError(f"calibration data makes {node!r} infinite or NaN")
            self._results[node].update(y)
            if cells is not None:
                self._cells[node].update(cells)

        return see

    def results(self, node: onnx_ir.Node) -> Range:
        """Range of the results of all steps and directions."""
        return self._results[node.name or node.op_type].range()

    def cell_exponent(self, node: onnx_ir.Node) -> int:
        """The finest step that holds every cell that was seen."""
        low, high = self._cells[node.name or node.op_type].range()
        return cell_exponent(max(-low, high))


def recurrent_weights(
    node: onnx_ir.Node, quantizations: Mapping[str, Quantization]
) -> tuple[QuantizedWeights, QuantizedWeights] | None:
    """int8 W and R of a node, per gate row; None where it cannot become an integer operation.

    Both directions share the scales of their rows.
    """
    w, r = (const(get_input(node, i)) for i in (1, 2))
    bias = const(find_input(node, 3))
    x = quantizations.get(name_of(get_input(node, 0)))
    results = (quantizations.get(o.name or "") for o in node.outputs[:2])
    y = next((q for q in results if q is not None), None)
    if w is None or r is None or x is None or y is None:
        return None
    if bias is None:
        bias = np.zeros((w.shape[0], 2 * w.shape[1]), np.float32)
    own, carried = np.split(bias, 2, axis=1)
    apart = np.zeros_like(carried)
    if is_op(node, "GRU") and get_int(node, "linear_before_reset", 0):
        candidate = slice(2 * r.shape[2], None)
        apart[:, candidate] = carried[:, candidate]
    # The larger of both directions: their integers have the same steps.
    added = np.abs(own + carried - apart).max(axis=0)
    return (
        quantize_weights(w, 1, x.scalar_scale, added),
        quantize_weights(r, 1, y.scalar_scale, np.abs(apart).max(axis=0)),
    )


def mark_cell(node: onnx_ir.Node, exponent: int) -> None:
    """Note the logarithm of the step of an LSTM's int16 cell."""
    node.metadata_props[CELL_EXPONENT] = str(exponent)
