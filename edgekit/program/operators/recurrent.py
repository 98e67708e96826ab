"""Recurrent layers over a sequence: LSTM and GRU.

One operation runs every step of its sequence, so a network that is fed one step at a time and one
that is fed a whole window are the same operators on the same state, and give the same bits.

Shapes, with T steps, batch N, I inputs and H units; G gates are 4 (LSTM) or 3 (GRU)::

    x[T,N,I]  w[G*H,I]  r[G*H,H]  bias[G*H]     y[T,N,H]  h, c, h_next, c_next [N,H]

Rows of w, r and bias come gate by gate in ONNX's order: input, output, forget, cell; update, reset,
candidate. An absent h or c means 0. With `reverse` the last step comes first; y[t] still belongs to
x[t], and the states are those after x[0].

float32: a gate is the sum over x, continued over h, then the bias; products are added one by one
from the front. Everything else is in the order in which it is written below.

int8, after the integer LSTM of TFLite (8-bit activations and weights, 16-bit cell): x, h and y are
int8 with zero points, w and r int8, symmetric per row; biases are int32 in steps of the product of
both scales. The gates' arguments are int16 in steps of 2⁻¹², saturated after the sum over x and
again after the sum over h::

    from_x = sat16(requant_x(Σ (x - x_zero_point)·w + bias))
    argument = sat16(from_x + requant_h(Σ (h - h_zero_point)·r))

Sigmoid and tanh of int16 are those of :mod:`~edgekit.program.operators.activation`, as in TFLite
Micro; results are in steps of 2⁻¹⁵. Products shifted back are rounded to nearest, ties away from
zero.

Sources: Hochreiter and Schmidhuber 1997; Cho et al. 2014, arXiv 1406.1078; ONNX operators LSTM and
GRU; Li and Alvarez 2021, "On the quantization of recurrent neural networks", arXiv 2101.05453.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from edgekit.program import float_math
from edgekit.program.fixed_point import Int64, Requant, rounding_right_shift, wrap_int32
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.accumulator import MAX_TERMS_INT8
from edgekit.program.operators.activation import Sigmoid, Tanh
from edgekit.program.operators.base import (
    Operator,
    operator,
    require,
    require_dtype,
    require_rank,
)
from edgekit.program.operators.rules import given, require_fits, require_scalar_requant

GATE_SCALE = 2.0**-12
"""Step of the int16 arguments of sigmoid and tanh."""

UNIT = Quantization.per_tensor(2.0**-15)
"""int16 results of sigmoid and tanh, and the int16 state of a GRU: −1 to 1 less a step."""

CELL_EXPONENTS = (-15, 0)
"""Smallest and largest exponent of the step of an LSTM's int16 cell."""

DEFAULT_CELL_EXPONENT = -11
"""Where the range of a cell is not known: ±16, far in the flat part of tanh."""

_GATE = Quantization.per_tensor(GATE_SCALE)
_SIGMOID = Sigmoid.quantized(x=_GATE, y=UNIT, dtype=DType.INT16)
_TANH = Tanh.quantized(x=_GATE, y=UNIT, dtype=DType.INT16)


def cell_exponent(largest: float) -> int:
    """The finest power of two in whose steps int16 holds reals up to a magnitude.

    >>> cell_exponent(0.9), cell_exponent(1.0), cell_exponent(15.9), cell_exponent(1e9)
    (-15, -14, -11, 0)
    """
    low, high = CELL_EXPONENTS
    return next((e for e in range(low, high) if largest <= 32767 * 2.0**e), high)


def cell_quantization(exponent: int) -> Quantization:
    """Of an int16 cell in steps of ``2**exponent``."""
    return Quantization.per_tensor(2.0**exponent)


def cell_tanh(exponent: int) -> Tanh:
    """Hyperbolic tangent of an int16 cell in steps of ``2**exponent``."""
    return Tanh.quantized(x=cell_quantization(exponent), y=UNIT, dtype=DType.INT16)


@dataclass(frozen=True, kw_only=True)
class Recurrent(Operator):
    """What LSTM and GRU share: shapes, weights, order of the steps.

    Attributes:
        reverse: run from the last step to the first.
        x_zero_point: int8: integer that means 0 in x.
        h_zero_point: int8: integer that means 0 in y, and in h as it is multiplied.
        x_requant: int8: factors from a sum over x to a gate's argument, one or one per row of w.
        h_requant: int8: likewise from a sum over h.
    """

    gates: ClassVar[int]

    reverse: bool = False
    x_zero_point: int = 0
    h_zero_point: int = 0
    x_requant: Requant | None = field(default=None)
    h_requant: Requant | None = field(default=None)

    @property
    def is_integer(self) -> bool:
        """Whether it computes on int8."""
        return self.x_requant is not None

    def macs(self, *inputs: TensorType | None) -> int:
        """Products with w and r."""
        x, w, r = (given(i) for i in inputs[:3])
        steps = x.shape[0] * x.shape[1]
        return steps * (w.size + r.size)

    def _infer_sequence(
        self, x: TensorType, w: TensorType, r: TensorType, bias: TensorType | None
    ) -> TensorType:
        """Check what both have in common; the type of y."""
        require_dtype(x, "x", DType.INT8, DType.FLOAT32)
        for tensor, label, rank in ((x, "x", 3), (w, "w", 2), (r, "r", 2)):
            require_rank(tensor, label, rank)
            require_dtype(tensor, label, x.dtype)
            require(tensor.size >= 1, f"{label} is empty")
        (steps, batch, inputs), units = x.shape, r.shape[1]
        rows = self.gates * units
        require(r.shape[0] == rows, f"r has shape {list(r.shape)}, must be [{rows}, {units}]")
        require(
            w.shape == (rows, inputs), f"w has shape {list(w.shape)}, must be [{rows}, {inputs}]"
        )
        self._require_bias(bias, "bias", x.dtype, rows)
        integer = x.dtype is DType.INT8
        for requant, label in ((self.x_requant, "x_requant"), (self.h_requant, "h_requant")):
            require((requant is not None) == integer, f"{label} is for int8, x is {x.dtype}")
            if requant is None:
                continue
            count = len(requant.multiplier)
            require(count in (1, rows), f"{label} has {count} factors, must have 1 or {rows}")
            require(
                requant.rounding == "double",
                f"{label} rounds {requant.rounding!r}, must be 'double'",
            )
        if integer:
            require_fits(self.x_zero_point, "x_zero_point", DType.INT8)
            require_fits(self.h_zero_point, "h_zero_point", DType.INT8)
            require(
                max(inputs, units) <= MAX_TERMS_INT8,
                f"{max(inputs, units)} products may overflow int32, "
                f"must be {MAX_TERMS_INT8} at most",
            )
        return TensorType((steps, batch, units), x.dtype)

    def _require_bias(self, bias: TensorType | None, label: str, dtype: DType, rows: int) -> None:
        if bias is not None:
            require_dtype(bias, label, DType.INT32 if dtype is DType.INT8 else DType.FLOAT32)
            require(
                bias.shape == (rows,), f"{label} has shape {list(bias.shape)}, must be [{rows}]"
            )

    def _require_state(
        self, state: TensorType | None, label: str, y: TensorType, dtype: DType
    ) -> TensorType:
        """Check a state that is there; its type, also where it is not."""
        wanted = TensorType(y.shape[1:], dtype)
        require(
            state is None or state == wanted,
            f"{label} is {state and state.dtype}{state and list(state.shape)}, "
            f"must be {wanted.dtype}{list(wanted.shape)}",
        )
        return wanted

    def _steps(self, count: int) -> Sequence[int]:
        return range(count)[:: -1 if self.reverse else 1]


def _added(acc: Array, x: Array, w: Array) -> Array:
    """``acc[..., o] + Σ_k x[..., k]·w[o, k]``, in float32 one product after the other."""
    for column, weight in zip(np.moveaxis(x, -1, 0), w.T, strict=True):
        acc = acc + column[..., np.newaxis] * weight
    return acc


def _real_sum(x: Array, w: Array) -> Array:
    return _added(np.zeros((*x.shape[:-1], w.shape[0]), np.float32), x, w)


def _biased(acc: Array, bias: Array | None) -> Array:
    return acc if bias is None else acc + bias


def _argument(
    x: Array, zero_point: int, w: Array, bias: Array | None, requant: Requant | None
) -> Int64:
    """A sum of int8 products as a gate's argument, not saturated yet."""
    total = (x.astype(np.int64) - zero_point) @ w.astype(np.int64).T
    return given(requant).apply(wrap_int32(_biased(total, bias)))


def _saturated(x: Int64) -> Int64:
    return np.clip(x, *DType.INT16.limits)


def _sigmoid(argument: Int64) -> Int64:
    return _SIGMOID.reference(argument)[0].astype(np.int64)


def _tanh(argument: Int64, curve: Tanh = _TANH) -> Int64:
    return curve.reference(argument)[0].astype(np.int64)


def _started(state: Array | None, shape: tuple[int, ...], dtype: type, zero: int = 0) -> Array:
    return np.full(shape, zero, dtype) if state is None else state.astype(dtype)


@operator(
    "lstm",
    inputs="x w r bias? h? c?",
    outputs="y h_next c_next",
    in_place=((1, 4), (2, 5)),
)
@dataclass(frozen=True, kw_only=True)
class Lstm(Recurrent):
    """Long short-term memory over a sequence; see the module for shapes and arithmetic.

    ::

        i, o, f = sigmoid(gate 0), sigmoid(gate 1), sigmoid(gate 2);  g = tanh(gate 3)
        c = f * c + i * g
        h = o * tanh(c)

    int8: c is int16 in steps of ``2**cell_exponent``, the sum saturates; y and h are
    ``sat8(hidden_requant(o * tanh(c)) + h_zero_point)``.

    Attributes:
        cell_exponent: int8: logarithm of the cell's step, −15 to 0.
        hidden_requant: int8: from steps of 2⁻³⁰ to those of h.

    >>> unit = Lstm()
    >>> w, r = np.zeros((4, 1), np.float32), np.zeros((4, 1), np.float32)
    >>> bias = np.float32([100, 100, 0, 100])
    >>> x = np.zeros((3, 1, 1), np.float32)
    >>> unit.reference(x, w, r, bias, None, None)[2].tolist()  # half of c is kept, 1 is added
    [[1.75]]
    """

    gates: ClassVar[int] = 4

    cell_exponent: int = 0
    hidden_requant: Requant | None = None

    @classmethod
    def quantized(
        cls,
        *,
        x: Quantization,
        w: Quantization,
        r: Quantization,
        y: Quantization,
        cell_exponent: int = DEFAULT_CELL_EXPONENT,
        reverse: bool = False,
    ) -> Lstm:
        """The int8 form.

        Args:
            x: per-tensor quantisation of the input.
            w: of the input's weights, symmetric, per tensor or along axis 0.
            r: of the recurrent weights, likewise.
            y: per-tensor quantisation of the output and of h.
            cell_exponent: logarithm of the cell's step.
            reverse: field of the operator.
        """
        return cls(
            reverse=reverse,
            x_zero_point=x.scalar_zero_point,
            h_zero_point=y.scalar_zero_point,
            x_requant=_gate_requant(x, w),
            h_requant=_gate_requant(y, r),
            cell_exponent=cell_exponent,
            hidden_requant=Requant.from_real([2.0**-30 / y.scalar_scale], "double"),
        )

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """Types of y, h_next and c_next."""
        x, w, r, bias, h, c = (*inputs, None, None, None)[:6]
        y = self._infer_sequence(given(x), given(w), given(r), bias)
        integer = y.dtype is DType.INT8
        require(
            (self.hidden_requant is not None) == integer,
            f"hidden_requant is for int8, x is {y.dtype}",
        )
        require_scalar_requant(self.hidden_requant, label="hidden_requant")
        low, high = CELL_EXPONENTS
        require(
            low <= self.cell_exponent <= high,
            f"cell_exponent {self.cell_exponent} is not {low}…{high}",
        )
        return (
            y,
            self._require_state(h, "h", y, y.dtype),
            self._require_state(c, "c", y, DType.INT16 if integer else DType.FLOAT32),
        )

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The sequence y, h_next and c_next."""
        y, cells = self.unrolled(*inputs)
        last = 0 if self.reverse else -1
        return y, y[last].copy(), cells[last].copy()

    def unrolled(self, *inputs: Array | None) -> tuple[Array, Array]:
        """The results y[T,N,H] and the cell after every step, c[T,N,H], for the same inputs."""
        x, w, r, bias, h, c = (*inputs, None, None, None)[:6]
        x, w, r = given(x), given(w), given(r)
        shape = (x.shape[1], r.shape[1])
        if self.is_integer:
            return self._integer(x, w, r, bias, h, c, shape)
        h, c = (_started(s, shape, np.float32) for s in (h, c))
        sums = _real_sum(x, w)
        y, cells = (np.empty((len(x), *shape), np.float32) for _ in range(2))
        for t in self._steps(len(x)):
            i, o, f, g = np.split(_biased(_added(sums[t], h, r), bias), 4, axis=-1)
            c = float_math.sigmoid(f) * c + float_math.sigmoid(i) * float_math.tanh(g)
            h = float_math.sigmoid(o) * float_math.tanh(c)
            y[t], cells[t] = h, c
        return y, cells

    def _integer(
        self,
        x: Array,
        w: Array,
        r: Array,
        bias: Array | None,
        h: Array | None,
        c: Array | None,
        shape: tuple[int, ...],
    ) -> tuple[Array, Array]:
        h = _started(h, shape, np.int64, self.h_zero_point)
        c = _started(c, shape, np.int64)
        curve = cell_tanh(self.cell_exponent)
        arguments = _saturated(_argument(x, self.x_zero_point, w, bias, self.x_requant))
        y = np.empty((len(x), *shape), np.int8)
        cells = np.empty((len(x), *shape), np.int16)
        for t in self._steps(len(x)):
            carried = _argument(h, self.h_zero_point, r, None, self.h_requant)
            i, o, f, g = np.split(_saturated(arguments[t] + carried), 4, axis=-1)
            kept = rounding_right_shift(_sigmoid(f) * c, 15)
            fresh = rounding_right_shift(_sigmoid(i) * _tanh(g), 30 + self.cell_exponent)
            c = _saturated(kept + fresh)
            hidden = given(self.hidden_requant).apply(_sigmoid(o) * _tanh(c, curve))
            h = np.clip(hidden + self.h_zero_point, *DType.INT8.limits)
            y[t], cells[t] = h, c
        return y, cells


def _gate_requant(operand: Quantization, weights: Quantization) -> Requant:
    """From sums of products to a gate's argument."""
    require(not any(weights.zero_point), "the zero points of w and r are not all 0, must be")
    factors = [operand.scalar_scale * scale / GATE_SCALE for scale in weights.scale]
    return Requant.from_real(factors, "double")


@operator("gru", inputs="x w r bias? r_bias? h?", outputs="y h_next", in_place=((1, 5),))
@dataclass(frozen=True, kw_only=True)
class Gru(Recurrent):
    """Gated recurrent unit over a sequence; see the module for shapes and arithmetic.

    ::

        z, r = sigmoid(gate 0), sigmoid(gate 1)
        n = tanh(Σ x·w + bias + r * (Σ h·r + r_bias))     with `reset_after`
        n = tanh(Σ x·w + Σ (r * h)·r + bias)              without
        h = (1 - z) * n + z * h

    int8: the state h is int16 in steps of 2⁻¹⁵, since a slow unit moves by less than a step of int8
    and would stand still; y is it requantised, and so is what r multiplies. With `reset_after` the
    sum over h saturates to int16 in steps of 2⁻¹² before the reset gate multiplies it. The new
    state is ``n + z * (h - n)``.

    Attributes:
        reset_after: the reset gate multiplies the sum over h, as in PyTorch, not h itself.
        y_requant: int8: from steps of 2⁻¹⁵ to those of y.

    Inputs: r_bias[H], int32 or float32, only with `reset_after`.

    >>> unit = Gru()
    >>> w, r = np.zeros((3, 1), np.float32), np.zeros((3, 1), np.float32)
    >>> x, bias = np.zeros((2, 1, 1), np.float32), np.float32([0, 0, 100])
    >>> unit.reference(x, w, r, bias, None, None)[0].tolist()  # halfway to 1 every step
    [[[0.5]], [[0.75]]]
    """

    gates: ClassVar[int] = 3

    reset_after: bool = False
    y_requant: Requant | None = None

    @classmethod
    def quantized(
        cls,
        *,
        x: Quantization,
        w: Quantization,
        r: Quantization,
        y: Quantization,
        reset_after: bool = False,
        reverse: bool = False,
    ) -> Gru:
        """The int8 form; arguments as for :meth:`Lstm.quantized`."""
        return cls(
            reverse=reverse,
            x_zero_point=x.scalar_zero_point,
            h_zero_point=y.scalar_zero_point,
            x_requant=_gate_requant(x, w),
            h_requant=_gate_requant(y, r),
            reset_after=reset_after,
            y_requant=Requant.from_real([2.0**-15 / y.scalar_scale], "double"),
        )

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """Types of y and h_next."""
        x, w, r, bias, r_bias, h = (*inputs, None, None, None)[:6]
        y = self._infer_sequence(given(x), given(w), given(r), bias)
        require(self.reset_after or r_bias is None, "r_bias is only for reset_after")
        self._require_bias(r_bias, "r_bias", y.dtype, y.shape[2])
        integer = y.dtype is DType.INT8
        require((self.y_requant is not None) == integer, f"y_requant is for int8, x is {y.dtype}")
        require_scalar_requant(self.y_requant, label="y_requant")
        state = DType.INT16 if integer else DType.FLOAT32
        return y, self._require_state(h, "h", y, state)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The sequence y, and h_next."""
        x, w, r, bias, r_bias, h = (*inputs, None, None, None)[:6]
        x, w, r = given(x), given(w), given(r)
        if self.is_integer:
            return self._integer(x, w, r, bias, r_bias, h)
        shape = (x.shape[1], r.shape[1])
        units = shape[1]
        h = _started(h, shape, np.float32)
        sums = _real_sum(x, w)
        early = None if bias is None else bias[: 2 * units]
        late = None if bias is None else bias[2 * units :]
        y = np.empty((len(x), *shape), np.float32)
        for t in self._steps(len(x)):
            gates = _biased(_added(sums[t, :, : 2 * units], h, r[: 2 * units]), early)
            update, reset = np.split(float_math.sigmoid(gates), 2, axis=-1)
            own = sums[t, :, 2 * units :]
            if self.reset_after:
                carried = _biased(_real_sum(h, r[2 * units :]), r_bias)
                argument = _biased(own, late) + reset * carried
            else:
                argument = _biased(_added(own, reset * h, r[2 * units :]), late)
            h = (np.float32(1) - update) * float_math.tanh(argument) + update * h
            y[t] = h
        return y, h

    def _integer(
        self,
        x: Array,
        w: Array,
        r: Array,
        bias: Array | None,
        r_bias: Array | None,
        h: Array | None,
    ) -> tuple[Array, ...]:
        shape, units = (x.shape[1], r.shape[1]), r.shape[1]
        h = _started(h, shape, np.int64)
        arguments = _saturated(_argument(x, self.x_zero_point, w, bias, self.x_requant))
        early, late = (_part(given(self.h_requant), s, units) for s in ((0, 2), (2, 3)))
        y = np.empty((len(x), *shape), np.int8)
        for t in self._steps(len(x)):
            seen = self._as_y(h)
            carried = _argument(seen, self.h_zero_point, r[: 2 * units], None, early)
            gates = _sigmoid(_saturated(arguments[t, :, : 2 * units] + carried))
            update, reset = np.split(gates, 2, axis=-1)
            if self.reset_after:
                carried = _argument(seen, self.h_zero_point, r[2 * units :], r_bias, late)
                carried = rounding_right_shift(reset * _saturated(carried), 15)
            else:
                seen = self._as_y(rounding_right_shift(reset * h, 15))
                carried = _argument(seen, self.h_zero_point, r[2 * units :], None, late)
            fresh = _tanh(_saturated(arguments[t, :, 2 * units :] + carried))
            h = fresh + rounding_right_shift(update * (h - fresh), 15)
            y[t] = self._as_y(h)
        return y, h.astype(np.int16)

    def _as_y(self, h: Int64) -> Int64:
        """The int16 state in steps of y."""
        moved = given(self.y_requant).apply(h) + self.h_zero_point
        return np.clip(moved, *DType.INT8.limits)


def _part(requant: Requant, gates: tuple[int, int], units: int) -> Requant:
    """The factors of some gates' rows."""
    if len(requant.multiplier) == 1:
        return requant
    rows = slice(gates[0] * units, gates[1] * units)
    return Requant(requant.multiplier[rows], requant.shift[rows], requant.rounding)
