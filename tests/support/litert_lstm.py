"""LiteRT's integer LSTM: int8 activations and weights, int16 cell."""

from __future__ import annotations

import contextlib

from edgekit.program.ir import Array, Quantization
from tests.support.litert import LiteRT, TFLiteBuilder

with contextlib.suppress(ModuleNotFoundError):
    from ai_edge_litert import schema_py_generated as schema

GATES = (0, 2, 3, 1)
"""LiteRT's order, input, forget, cell, output, by the places in ONNX's."""


def litert_lstm(
    shape: tuple[int, int, int],
    x: Quantization,
    w: Quantization,
    r: Quantization,
    y: Quantization,
    cell_exponent: int,
    weights: tuple[Array, Array, Array],
) -> LiteRT:
    """A model of one UNIDIRECTIONAL_SEQUENCE_LSTM on x[T,N,I].

    Args:
        shape: of x.
        x: per-tensor quantisation of the input.
        w: of the input's weights.
        r: of the recurrent weights.
        y: of the output.
        cell_exponent: of the cell's step.
        weights: w[4*H,I], r[4*H,H] and bias[4*H] as the operator of edgekit takes them.
    """
    (steps, batch, _), units = shape, weights[1].shape[1]
    b = TFLiteBuilder()

    def activation(name: str, extents: tuple[int, ...]) -> int:
        meaning = x if name == "x" else y
        scale, zero_point = meaning.scalar_scale, meaning.scalar_zero_point
        return b.tensor(name, extents, "int8", scale=scale, zero_point=zero_point)

    def gates(name: str, data: Array, scale: float, dtype: str) -> list[int]:
        parts = [data[k * units : (k + 1) * units] for k in GATES]
        return [
            b.tensor(f"{name}{k}", p.shape, dtype, scale=scale, data=p) for k, p in enumerate(parts)
        ]

    source = activation("x", shape)
    inputs = gates("w", weights[0], w.scalar_scale, "int8")
    recurrent = gates("r", weights[1], r.scalar_scale, "int8")
    biases = gates("b", weights[2], x.scalar_scale * w.scalar_scale, "int32")
    h = activation("h", (batch, units))
    c = b.tensor("c", (batch, units), "int16", scale=2.0**cell_exponent)
    b.tensors[h].isVariable = b.tensors[c].isVariable = True
    inside = [b.tensor(f"gate{k}", (1,), "int16", scale=2.0**-12) for k in range(4)]
    inside.append(activation("hidden", (1,)))
    result = activation("y", (steps, batch, units))
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH
    options.timeMajor = True
    options.cellClip = options.projClip = 0.0
    ports = [source, *inputs, *recurrent, -1, -1, -1, *biases, -1, -1, h, c, -1, -1, -1, -1]
    b.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", ports, [result], options, 3)
    b.operators[-1].intermediates = inside
    return LiteRT(b.build([source], [result]))
