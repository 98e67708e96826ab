"""Calls of the recurrent layers: LSTM and GRU."""

from __future__ import annotations

from typing import cast

from edgekit.program.ir import DType
from edgekit.program.operators.activation import sigmoid_table_s16
from edgekit.program.operators.recurrent import Gru, Lstm, Recurrent, cell_tanh
from edgekit.targets.c.bindings.elementwise import factor_parameters
from edgekit.targets.c.bindings.weighted import Parameters, factors
from edgekit.targets.c.kernel import Argument, Bound, Call, Derived, Scratch, kernel

_SCRATCH_ROWS = 4
"""Rows of units that every kernel keeps for the gates of one step."""


def _parameters(bound: Bound) -> Parameters:
    """What all kernels have."""
    (steps, batch, inputs), units = bound.input(0).shape, bound.input(2).shape[1]
    operator = cast(Recurrent, bound.operation.operator)
    return {
        "steps": steps,
        "batch": batch,
        "inputs": inputs,
        "units": units,
        "reverse": int(operator.reverse),
    }


def _zero_points(operator: Recurrent) -> Parameters:
    return {"x_zero_point": operator.x_zero_point, "h_zero_point": operator.h_zero_point}


def _factors(bound: Bound) -> tuple[Argument, ...]:
    """Multiplier and shift per row, of the sums over x and over h; the curves' table."""
    operator, rows = cast(Recurrent, bound.operation.operator), bound.input(1).shape[0]
    arrays: list[Argument] = []
    for name, requant in (("x", operator.x_requant), ("h", operator.h_requant)):
        for array in factors(requant, rows):
            assert isinstance(array, Derived)
            arrays.append(Derived(f"{name}_{array.label}", array.data))
    return (*arrays, Derived("table", sigmoid_table_s16()))


def _scratch(bound: Bound) -> Scratch:
    """Room for one step's gates: float32, or int16 where tensors are int8."""
    units = bound.input(2).shape[1]
    return Scratch(_SCRATCH_ROWS * units * (4 if bound.input(0).dtype is DType.FLOAT32 else 2))


def _values(bound: Bound, first: int, last: int) -> tuple[Argument, ...]:
    return tuple(bound.value(i) for i in range(first, last))


@kernel("lstm_f32", Lstm, DType.FLOAT32)
def lstm_float(bound: Bound) -> Call:
    """``lstm_f32``."""
    results = tuple(bound.result(i) for i in range(3))
    return Call(_parameters(bound), (*_values(bound, 0, 6), *results, _scratch(bound)))


@kernel("lstm_s8", Lstm, DType.INT8)
def lstm_integer(bound: Bound) -> Call:
    """``lstm_s8``."""
    operator = cast(Lstm, bound.operation.operator)
    curve = cell_tanh(operator.cell_exponent)
    parameters: Parameters = {
        **_parameters(bound),
        **_zero_points(operator),
        "cell_shift": 30 + operator.cell_exponent,
        "cell": {
            "count": bound.input(2).shape[1],
            "multiplier": curve.multiplier,
            "right_shift": curve.right_shift,
        },
        **factor_parameters(operator.hidden_requant, "hidden_"),
    }
    return Call(
        parameters,
        (
            *_values(bound, 0, 4),
            *_factors(bound),
            *_values(bound, 4, 6),
            *(bound.result(i) for i in range(3)),
            _scratch(bound),
        ),
    )


@kernel("gru_f32", Gru, DType.FLOAT32)
def gru_float(bound: Bound) -> Call:
    """``gru_f32``."""
    operator = cast(Gru, bound.operation.operator)
    return Call(
        {**_parameters(bound), "reset_after": int(operator.reset_after)},
        (*_values(bound, 0, 6), bound.result(0), bound.result(1), _scratch(bound)),
    )


@kernel("gru_s8", Gru, DType.INT8)
def gru_integer(bound: Bound) -> Call:
    """``gru_s8``."""
    operator = cast(Gru, bound.operation.operator)
    parameters: Parameters = {
        **_parameters(bound),
        "reset_after": int(operator.reset_after),
        **_zero_points(operator),
        **factor_parameters(operator.y_requant, "y_"),
    }
    return Call(
        parameters,
        (
            *_values(bound, 0, 5),
            *_factors(bound),
            bound.value(5),
            bound.result(0),
            bound.result(1),
            _scratch(bound),
        ),
    )
