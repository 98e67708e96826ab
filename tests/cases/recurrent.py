"""Grid of the recurrent layers."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.recurrent import Gru, Lstm, Recurrent
from tests.cases.case import Case, Const, one_operator


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A recurrent layer.

    Attributes:
        name: what is special about it.
        kind: ``lstm``, ``gru`` or ``gru-after`` (with `reset_after`).
        dtype: of x, int8 or float32.
        x: [steps, batch, inputs].
        units: H.
        reverse: as in the operator.
        bias: whether there are biases.
        state: whether states are fed; absent otherwise.
        zero_points: of x and y.
        scales: of x and y.
        w_scale: of both weights, one for each row or one for all; None for drawn ones.
        cell_exponent: as in the operator.
    """

    name: str
    kind: str = "lstm"
    dtype: DType = DType.INT8
    x: tuple[int, int, int] = (5, 1, 7)
    units: int = 6
    reverse: bool = False
    bias: bool = True
    state: bool = True
    zero_points: tuple[int, int] = (3, -4)
    scales: tuple[float, float] = (0.02, 1 / 128)
    w_scale: tuple[float, ...] | None = None
    cell_exponent: int = -12

    @property
    def id(self) -> str:
        """Unique in the grid."""
        return f"{self.kind}-{self.dtype}-{self.name}"

    @property
    def gates(self) -> int:
        """Gates of a unit."""
        return 4 if self.kind == "lstm" else 3

    def quantizations(self) -> tuple[Quantization, Quantization, Quantization]:
        """Of x, both weights, and y."""
        rows = self.gates * self.units
        rng = np.random.default_rng(rows)
        drawn = tuple(float(np.float32(s)) for s in rng.uniform(0.001, 0.01, rows))
        scale = drawn if self.w_scale is None else self.w_scale
        w = Quantization(scale, (0,) * len(scale), None if len(scale) == 1 else 0)
        x, y = map(Quantization.per_tensor, self.scales, self.zero_points)
        return x, w, y

    def operator(self) -> Recurrent:
        """The operator."""
        after = self.kind == "gru-after"
        if self.dtype is DType.FLOAT32:
            if self.kind == "lstm":
                return Lstm(reverse=self.reverse)
            return Gru(reverse=self.reverse, reset_after=after)
        x, w, y = self.quantizations()
        if self.kind == "lstm":
            return Lstm.quantized(
                x=x, w=w, r=w, y=y, cell_exponent=self.cell_exponent, reverse=self.reverse
            )
        return Gru.quantized(x=x, w=w, r=w, y=y, reset_after=after, reverse=self.reverse)

    def case(self) -> Case:
        """One cell of the grid."""
        seed = zlib.crc32(self.id.encode())
        rng = np.random.default_rng(seed)
        rows = self.gates * self.units

        def weights(*shape: int) -> Const:
            if self.dtype is DType.INT8:
                return "const", rng.integers(-127, 128, shape).astype(np.int8)
            return "const", (rng.standard_normal(shape) * 0.7).astype(np.float32)

        def bias(count: int) -> Const | None:
            values: Array = rng.integers(-5000, 5000, count).astype(np.int32)
            if self.dtype is DType.FLOAT32:
                values = (values / np.float32(5000)).astype(np.float32)
            return ("const", values) if self.bias else None

        inputs: list[TensorType | Const | None] = [
            TensorType(self.x, self.dtype),
            weights(rows, self.x[2]),
            weights(rows, self.units),
            bias(rows),
        ]
        integer = self.dtype is DType.INT8
        wide = DType.INT16 if integer else DType.FLOAT32
        shape = (self.x[1], self.units)
        states: list[TensorType | None]
        if self.kind == "lstm":
            states = [TensorType(shape, self.dtype), TensorType(shape, wide)]
        else:
            inputs.append(bias(self.units) if self.kind == "gru-after" else None)
            states = [TensorType(shape, wide)]
        inputs += states if self.state else [None] * len(states)
        return Case(self.id, one_operator(self.operator(), *inputs, name="recurrent"), seed)


EVERY = [
    Layer(name="plain"),
    Layer(name="absent-state", state=False),
    Layer(name="no-bias", bias=False),
    Layer(name="reverse", reverse=True),
    Layer(name="reverse-batch", reverse=True, x=(3, 2, 5), state=False),
    Layer(name="batch", x=(4, 3, 5), units=3),
    Layer(name="one-step", x=(1, 1, 9)),
    Layer(name="one-of-all", x=(1, 1, 1), units=1),
    Layer(name="one-input", x=(9, 1, 1), units=5),
    Layer(name="one-unit", x=(6, 1, 4), units=1),
    Layer(name="wide", x=(3, 1, 40), units=33),
]
"""Special for every dtype."""

QUANTIZED = [
    Layer(name="zero-points-low-high", zero_points=(-128, 127)),
    Layer(name="zero-points-high-low", zero_points=(127, -128)),
    Layer(name="one-scale", w_scale=(0.004,)),
    Layer(name="saturating-gates", w_scale=(1.5,)),
    Layer(name="fine-gates", w_scale=(1e-7,)),
    Layer(name="huge-factor", w_scale=(1e9,)),
    Layer(name="fine-output", scales=(0.02, 1e-6)),
    Layer(name="finest-output", scales=(0.02, 1e-20)),
    Layer(name="coarse-output", scales=(0.02, 4.0)),
    Layer(name="long", x=(40, 1, 3), scales=(0.05, 1 / 128)),
]
"""Special for integers."""

CELLS = [Layer(name=f"cell{e}", cell_exponent=e, w_scale=(0.02,)) for e in (-15, -14, -11, -5, 0)]
"""Every way to bring a cell to the curves' steps: shifts up, none, shifts down."""


def layers() -> list[Layer]:
    """The grid."""
    kinds = ("lstm", "gru", "gru-after")
    found = [
        replace(layer, kind=kind, dtype=dtype)
        for kind in kinds
        for dtype in (DType.INT8, DType.FLOAT32)
        for layer in EVERY
    ]
    found += [replace(layer, kind=kind) for kind in kinds for layer in QUANTIZED]
    return found + CELLS


def cases() -> list[Case]:
    """The grid."""
    return [layer.case() for layer in layers()]
