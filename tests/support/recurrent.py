"""Recurrent Programs: one layer with its state, for any number of steps at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.program.ir import Array, Boundary, Program, State
from edgekit.program.operators.recurrent import Lstm
from edgekit.program.verify import verify
from tests.cases.recurrent import Layer


def stateful(layer: Layer, steps: int) -> Program:
    """The layer of a case over `steps` steps, its states kept by the Program.

    Initial values are not zero, so that a state that is not reset shows.
    """
    case = replace(layer, x=(steps, *layer.x[1:]), state=True).case()
    program = case.program
    (operation,) = program.operations
    fed = [b for b in program.inputs if b.tensor != operation.inputs[0]]
    initial = [5, -300] if program.tensors[fed[0].tensor].dtype.is_integer else [0.25, -0.5]
    state = tuple(
        State(read.tensor, write, value)
        for read, write, value in zip(fed, operation.outputs[1:], initial, strict=False)
    )
    x = Boundary("in0", "x", (steps, *layer.x[1:]))
    y = Boundary("out0", "y", (steps, layer.x[1], layer.units))
    return verify(program.replace(inputs=(x,), outputs=(y,), state=state))


def real_recurrence(
    kind: str,
    x: Array,
    w: Array,
    r: Array,
    bias: Array,
    r_bias: Array,
    states: list[Array],
) -> Array:
    """Results of ONNX's equations in float64, gate by gate.

    Args:
        kind: ``lstm``, ``gru`` or ``gru-after``.
        x: [T,N,I].
        w: [G*H,I].
        r: [G*H,H].
        bias: [G*H].
        r_bias: [H], read for ``gru-after``.
        states: h and, for an LSTM, c, both [N,H].
    """
    x, w, r = (a.astype(np.float64) for a in (x, w, r))
    h, units = states[0].astype(np.float64), r.shape[1]
    c = states[-1].astype(np.float64)

    def sigmoid(a: Array) -> Array:
        return 1 / (1 + np.exp(-a))

    def gate(index: int, h: Array, now: Array) -> Array:
        rows = slice(index * units, (index + 1) * units)
        return now @ w[rows].T + h @ r[rows].T + bias[rows]

    results = []
    for now in x:
        if kind == "lstm":
            i, o, f = (sigmoid(gate(k, h, now)) for k in range(3))
            c = f * c + i * np.tanh(gate(3, h, now))
            h = o * np.tanh(c)
        else:
            z, s = sigmoid(gate(0, h, now)), sigmoid(gate(1, h, now))
            if kind == "gru":
                n = np.tanh(gate(2, s * h, now))
            else:
                late = slice(2 * units, 3 * units)
                n = np.tanh(now @ w[late].T + bias[late] + s * (h @ r[late].T + r_bias))
            h = (1 - z) * n + z * h
        results.append(h)
    return np.stack(results)


def cell_form(program: Program) -> Lstm:
    """The only LSTM of a Program."""
    (found,) = (op.operator for op in program.operations if isinstance(op.operator, Lstm))
    return found
