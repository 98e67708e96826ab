"""Grid of the coded weights: every element of the table, in every operator, with every factor."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgekit.formats.elements import ELEMENTS
from edgekit.formats.factors import FACTORS, FactorName
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.base import Operator
from edgekit.program.operators.coding import (
    ACCUMULATOR_LIMITS,
    Coding,
    accumulator_for,
    worst_case,
)
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D
from edgekit.program.operators.elementwise import Sum
from edgekit.program.operators.linear import DynamicFullyConnected, FullyConnected
from edgekit.program.operators.quantization import Binarize
from tests.cases.case import Case, one_operator

KINDS: tuple[FactorName, ...] = tuple(FACTORS)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An operator with seeded coded weights.

    Attributes:
        name: what is special about it.
        operator: ``dense``, ``dynamic``, ``conv`` or ``depthwise``.
        element: of the weights.
        factors: of the groups.
        group: weights that share a factor.
        x: shape of the input.
        outputs: output channels.
        kernel: taps, down and across.
        fields: further fields of a convolution.
        residual: a residual is added.
        bias: there is one.
        wide: totals are int64 although int32 would do.
        extreme: every weight, factor and input the largest, so that totals reach the accumulator's
            limit, which the bias fills up; of this sign.
    """

    name: str = ""
    operator: str = "dense"
    element: str = "int4"
    factors: FactorName = "none"
    group: int = 16
    x: tuple[int, ...] = (2, 43)
    outputs: int = 5
    kernel: tuple[int, int] = (3, 3)
    fields: tuple[tuple[str, Any], ...] = ()
    residual: bool = False
    bias: bool = True
    wide: bool = False
    extreme: int = 0

    @property
    def id(self) -> str:
        """Unique in the grid."""
        return f"{self.operator}-{self.element}-{self.factors}-{self.name}"

    @property
    def w_shape(self) -> tuple[int, ...]:
        """Of the weights in the Program."""
        if self.operator == "conv":
            depth = self.x[3] // dict(self.fields).get("groups", 1)
            return (self.outputs, *self.kernel, depth)
        if self.operator == "depthwise":
            return (*self.kernel, self.outputs)
        return (self.outputs, self.x[-1])

    @property
    def terms(self) -> int:
        """Weights of a row."""
        return math.prod(self.w_shape) // self.outputs

    def constants(self) -> tuple[Array, Array | None]:
        """Rows of weights, every level among them where there is room, and factors."""
        rng = np.random.default_rng(zlib.crc32(self.id.encode()))
        element = ELEMENTS[self.element]
        count = self.outputs * self.terms
        levels = np.array(element.levels, np.int64)
        drawn = np.concatenate([levels[::-1], rng.choice(levels, count)])[:count]
        rows = rng.permutation(drawn).reshape(self.outputs, self.terms)
        if self.extreme:
            rows = np.full_like(rows, element.maximum)
        if self.factors == "none":
            return rows.astype(element.dtype), None
        known = np.array([i for i in FACTORS[self.factors].integers if i is not None])
        room = ACCUMULATOR_LIMITS[DType.INT64] // (2 * worst_case(rows))
        known = known[known <= room]
        shape = (self.outputs, Coding("int4", self.group, self.factors).groups(self.terms))
        factors = rng.choice(known, shape) if not self.extreme else np.full(shape, known.max())
        return rows.astype(element.dtype), factors.astype(np.int32)

    def case(self) -> Case:
        """One cell of the grid."""
        rows, factors = self.constants()
        group = 0 if factors is None else self.group
        accumulator = accumulator_for(self.element, rows, group=group, factors=factors)
        if self.wide:
            accumulator = DType.INT64
        coding = Coding(self.element, group, self.factors, accumulator)
        w = rows.reshape(self.w_shape)
        if self.operator == "depthwise":
            w = np.ascontiguousarray(rows.T).reshape(self.w_shape)
        scaled = coding.scaled(rows, factors)
        typical = 74 * math.sqrt(self.terms * float(np.square(scaled).mean()))
        inputs: list[Any] = [TensorType(self.x, DType.INT8), ("const", w)]
        if self.operator == "dynamic":
            return self._dynamic(coding, inputs, typical, factors)
        zero_point = 3
        if self.extreme:
            bound = worst_case(rows, group=group, factors=factors)
            typical = bound / 2
            bias = self.extreme * np.full(self.outputs, ACCUMULATOR_LIMITS[accumulator] - bound)
            zero_point, fixed = (-128, 127) if self.extreme > 0 else (127, -128)
            inputs[0] = ("const", np.full(self.x, fixed, np.int8))
        else:
            rng = np.random.default_rng(1)
            bias = rng.uniform(-typical, typical, self.outputs).astype(np.int64)
        scales = [40 / typical * (1 + 0.1 * i) for i in range(self.outputs)]
        axis = 2 if self.operator == "depthwise" else 0
        quantized = {
            "x": Quantization.per_tensor(1.0, zero_point),
            "w": Quantization(
                tuple(float(np.float32(s)) for s in scales), (0,) * len(scales), axis
            ),
            "y": Quantization.per_tensor(1.0, -4),
            "coding": coding,
        }
        inputs.append(("const", bias.astype(accumulator.numpy)) if self.bias else None)
        operator = self._operator(quantized)
        if self.operator == "conv":
            assert isinstance(operator, Conv2D)
            (y,) = replace(operator, residual=None).infer(
                TensorType(self.x, DType.INT8),
                TensorType(w.shape, coding.dtype),
                None,
                None,
                None if factors is None else TensorType(factors.shape, DType.INT32),
            )
            inputs.append(y if self.residual else None)
        inputs.append(None if factors is None else ("const", factors))
        return self._cell(operator, inputs)

    def _operator(self, quantized: dict[str, Any]) -> Operator:
        if self.operator == "dense":
            return FullyConnected.quantized(**quantized)
        if self.operator == "depthwise":
            return DepthwiseConv2D.quantized(**quantized, **dict(self.fields))
        one = Quantization.per_tensor
        residual = Sum.quantized(a=one(1.0, -4), b=one(0.7, 5), y=one(1.6, -7))
        return Conv2D.quantized(
            **quantized, **dict(self.fields), residual=residual if self.residual else None
        )

    def _dynamic(
        self, coding: Coding, inputs: list[Any], typical: float, factors: Array | None
    ) -> Case:
        scales = np.float32([0.3 / typical * (1 + i) for i in range(self.outputs)])
        return self._cell(
            DynamicFullyConnected(coding=coding),
            [
                inputs[0],
                TensorType((*self.x[:-1], 1), DType.FLOAT32),
                inputs[1],
                ("const", scales if self.bias else scales[:1]),
                ("const", np.float32(range(self.outputs))) if self.bias else None,
                None if factors is None else ("const", factors),
            ],
        )

    def _cell(self, operator: Operator, inputs: list[Any]) -> Case:
        while inputs[-1] is None:
            inputs.pop()
        program = one_operator(operator, *inputs, name="coded")
        return Case(self.id, program, zlib.crc32(self.id.encode()), samples=1)


def pairs(**fields: Any) -> tuple[tuple[str, Any], ...]:
    """Fields of an operator, hashable."""
    return tuple(fields.items())


DENSE = (
    Layer(name="plain"),
    Layer(name="ragged", group=16, bias=False),
    Layer(name="one-output", group=8, outputs=1, x=(1, 16)),
    Layer(name="group-beyond-row", group=64, wide=True),
)
CONV_1D = (
    Layer(name="1d-causal", x=(1, 1, 9, 3), kernel=(1, 4), fields=pairs(padding=(0, 3, 0, 0))),
    Layer(name="1d-strided", x=(1, 1, 12, 3), kernel=(1, 4), group=5, fields=pairs(stride=(1, 2))),
    Layer(name="1d-dilated", x=(1, 1, 9, 5), kernel=(1, 3), group=4, fields=pairs(dilation=(1, 2))),
    Layer(name="1d-beyond", x=(1, 1, 6, 2), kernel=(1, 3), group=64, wide=True),
)
CONV_2D = (
    Layer(name="same", x=(1, 6, 5, 4), fields=pairs(padding=(1, 1, 1, 1)), residual=True),
    Layer(name="groups", x=(2, 4, 5, 6), outputs=4, group=8, bias=False,
          fields=pairs(groups=2, stride=(2, 1), padding=(0, 2, 1, 1))),
    Layer(name="dilated", x=(1, 7, 7, 4), group=7, kernel=(2, 3),
          fields=pairs(dilation=(2, 2), padding=(1, 0, 0, 3))),
    Layer(name="residual", x=(1, 4, 7, 5), group=64, wide=True, residual=True,
          fields=pairs(padding=(1, 1, 1, 1))),
)  # fmt: skip
DEPTHWISE = (
    Layer(name="same", x=(1, 5, 7, 4), outputs=4, fields=pairs(padding=(1, 1, 1, 1))),
    Layer(name="ragged", x=(1, 7, 5, 3), outputs=6, group=4, fields=pairs(stride=(1, 2))),
    Layer(name="dilated", x=(1, 8, 6, 3), outputs=3, group=2, kernel=(3, 2), bias=False,
          fields=pairs(dilation=(2, 3), padding=(0, 1, 2, 2))),
    Layer(name="beyond", x=(1, 3, 4, 2), outputs=4, group=64, wide=True, kernel=(2, 2)),
)  # fmt: skip


def grid() -> list[Layer]:
    """Every element in every operator with every kind of factors, in shapes that take turns."""
    found = []
    for turn, element in enumerate(ELEMENTS):
        for operator, shapes in (
            ("dense", DENSE),
            ("conv", CONV_1D),
            ("conv", CONV_2D),
            ("depthwise", DEPTHWISE),
        ):
            for i, kind in enumerate(KINDS):
                shape = shapes[(i + turn) % len(shapes)]
                found.append(replace(shape, operator=operator, element=element, factors=kind))
        for i, kind in enumerate(("none", "uint8")):
            shape = DENSE[(i + turn) % len(DENSE)]
            found.append(replace(shape, operator="dynamic", element=element, factors=kind))
    return found


LARGE = (
    Layer(name="long", x=(1, 523), outputs=4, group=300),
    Layer(name="many-tiles", operator="conv", x=(1, 7, 9, 11), outputs=2, group=70,
          fields=pairs(padding=(1, 1, 1, 1))),
    Layer(name="tall", operator="conv", x=(1, 21, 4, 7), outputs=2, group=70, kernel=(4, 2),
          fields=pairs(padding=(2, 1, 1, 1), stride=(2, 1))),
    Layer(name="pointwise", operator="conv", x=(1, 3, 13, 70), outputs=3, group=32, kernel=(1, 1)),
    Layer(name="wide-filter", operator="depthwise", x=(1, 11, 10, 2), outputs=2, group=50,
          kernel=(9, 8), fields=pairs(padding=(4, 4, 4, 4))),
    Layer(name="padding-beyond-kernel", operator="conv", x=(1, 2, 3, 3), kernel=(2, 2), group=5,
          fields=pairs(padding=(4, 3, 5, 4))),
)  # fmt: skip
"""More than one tile, run or block of pixels."""

# 255 * 255 * 127 * 260 is just below 2**31, 255 * 448**2 * 2**18 * 671 just below 2**53.
EXTREMES = (
    Layer(name="int32-{}", element="int8", factors="uint8", group=100, x=(1, 260), outputs=4),
    Layer(name="int32-{}", operator="conv", element="int8", factors="uint8", group=33,
          x=(1, 1, 5, 52), outputs=2, kernel=(1, 5)),
    Layer(name="int32-{}", operator="depthwise", element="int8", factors="uint8", group=33,
          x=(1, 13, 20, 1), outputs=2, kernel=(13, 20)),
    Layer(name="int64-{}", element="fp8-e4m3", factors="uint8", group=100, x=(1, 603), outputs=4),
    Layer(name="int64-{}", operator="conv", element="fp8-e4m3", factors="uint8", group=33,
          x=(1, 1, 5, 52), outputs=2, kernel=(1, 5)),
    Layer(name="int64-{}", operator="depthwise", element="fp8-e5m2", factors="uint8", group=33,
          x=(1, 6, 6, 1), outputs=2, kernel=(6, 6)),
    Layer(name="narrow-int64-{}", element="fp8-e3m4", factors="e4m3", group=300, x=(1, 523),
          outputs=4),
)  # fmt: skip
"""Totals that reach the largest number of their accumulator."""


def layers() -> list[Layer]:
    """Everything but what takes no weights."""
    found = grid()
    for element in ("int3", "ternary-p5", "binary", "fp4-e2m1", "shift4", "fp8-e4m3"):
        for i, layer in enumerate(LARGE):
            found.append(replace(layer, element=element, factors=KINDS[i % 3]))
    found += [replace(LARGE[0], element=f"int{bits}") for bits in (2, 4, 8)]
    for layer in EXTREMES:
        found += [
            replace(layer, name=layer.name.format(sign), extreme=value)
            for sign, value in (("most", 1), ("least", -1))
        ]
    return found


def cases() -> list[Case]:
    """The grid, the dynamic layer of plain int8 weights, and signs."""
    x, scale = TensorType((2, 21), DType.INT8), TensorType((2, 1), DType.FLOAT32)
    w = np.random.default_rng(0).integers(-128, 128, (6, 21)).astype(np.int8)
    dynamic = one_operator(
        DynamicFullyConnected(), x, scale, ("const", w), ("const", np.float32([0.01]))
    )
    signs = {
        "binarize": Binarize(-7),
        "binarize-level": Binarize(3, 64),
        "binarize-most": Binarize(0, 127),
    }
    return [
        *(layer.case() for layer in layers()),
        Case("dynamic-int8-plain", dynamic, 3, samples=1),
        *(
            Case(name, one_operator(operator, TensorType((1, 4, 5, 3), DType.INT8)), 4, samples=1)
            for name, operator in signs.items()
        ),
    ]
