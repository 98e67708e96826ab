"""Grid of the spiking operators: every field of weights, every reset, sets that end anywhere."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.formats.elements import ELEMENTS
from edgekit.program.ir import Array, DType, TensorType
from edgekit.program.operators.base import Operator
from edgekit.program.operators.coding import Coding
from edgekit.program.operators.spiking_bits import bit_set
from edgekit.program.operators.spiking_neurons import Leaky, Reset, Synaptic
from edgekit.program.operators.spiking_pools import POOL_KINDS, CurrentPool2D
from edgekit.program.operators.spiking_rescale import Rescale
from edgekit.program.operators.spiking_values import (
    SpikeCount,
    SpikeMaxPool2D,
    SpikeSumPool2D,
    SpikeValues,
)
from edgekit.program.operators.spiking_weighted import (
    CurrentConv2D,
    CurrentDense,
    Schedule,
    SpikeConv2D,
    SpikeDense,
)
from tests.cases.case import Case, Const, one_operator

FLOAT32 = "float32"
SCHEDULES: tuple[Schedule, ...] = ("event", "dense")

ELEMENTS_OF_SUMS = (
    None,
    FLOAT32,
    *(name for name, element in ELEMENTS.items() if element.dtype == np.int8),
)
"""Plain int8, float32, and every element whose levels int8 holds."""

SETS: list[tuple[str, int, tuple[int, ...], int, int]] = [
    ("two", 1, (40, 33), 37, 1),
    ("three", 2, (96, 180, 32), 20, 1),
    ("small", 1, (1, 2, 1), 3, 1),
    ("groups", 2, (8, 20), 12, 4),
]
"""Name, batch, inputs of each population, outputs, groups."""

DENSE: list[tuple[str, int, int, int, int]] = [
    ("small", 1, 5, 3, 1),
    ("word", 1, 32, 16, 1),
    ("odd", 2, 45, 37, 1),
    ("all-blocks", 1, 70, 63, 1),
    ("long", 1, 300, 20, 1),
    ("groups", 1, 4 * 9, 4 * 8, 4),
    ("odd-groups", 2, 3 * 33, 3 * 7, 3),
    ("pairs", 1, 6, 12, 6),
]
"""Name, batch, inputs, outputs, groups."""

CONVOLUTIONS: list[tuple[str, int, tuple[int, int, int], tuple[int, int, int], dict[str, Any]]] = [
    ("plain", 1, (5, 6, 3), (8, 3, 3), {}),
    ("padded", 2, (4, 5, 5), (7, 3, 2), {"padding": (1, 1, 1, 0), "stride": (2, 1)}),
    ("one-row", 1, (1, 20, 6), (17, 1, 5), {"padding": (0, 2, 0, 2), "stride": (1, 2)}),
    ("dilated", 1, (7, 7, 4), (5, 3, 3), {"dilation": (2, 3), "padding": (2, 1, 2, 1)}),
    ("groups", 1, (4, 4, 12), (9, 2, 2), {"groups": 3}),
    ("outside", 1, (2, 2, 2), (4, 1, 1), {"padding": (2, 2, 2, 2), "stride": (2, 2)}),
    ("many", 1, (5, 5, 9), (6, 5, 5), {}),
]
"""Name, batch, H, W, I, then outputs and taps, then fields."""


@dataclass(frozen=True)
class Sum:
    """A weighted sum with seeded weights.

    Attributes:
        name: unique in the grid.
        element: of the weights, None for plain int8.
    """

    name: str
    element: str | None

    @property
    def coding(self) -> Coding | None:
        """The field."""
        return None if self.element in (None, FLOAT32) else Coding(str(self.element))

    @property
    def current(self) -> DType:
        """What the sum is in."""
        return DType.FLOAT32 if self.element == FLOAT32 else DType.INT32

    def weights(self, shape: tuple[int, ...]) -> Const:
        """Every level among them, the largest ones most often."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        if self.element == FLOAT32:
            return "const", rng.standard_normal(shape).astype(np.float32)
        levels = np.array(ELEMENTS[self.element or "int8"].levels)
        drawn: Array = rng.choice(levels, shape)
        most = rng.choice(levels[[0, -1]], shape)
        return "const", np.where(rng.random(shape) < 0.4, most, drawn).astype(np.int8)

    def sets(self, dense: SpikeDense, batch: int, outputs: int, *, acc: bool) -> Case:
        """One cell of bit sets; an accumulator is fed."""
        w = self.weights((outputs, sum(dense.neurons) // dense.groups))
        total = TensorType((batch, outputs), self.current) if acc else None
        sets = [bit_set(batch, neurons) for neurons in dense.neurons]
        return Case(self.name, one_operator(dense, w, total, *sets), zlib.crc32(self.name.encode()))

    def case(self, operator: Operator, x: TensorType, shape: tuple[int, ...], *, acc: bool) -> Case:
        """One cell; an accumulator is fed."""
        w = self.weights(shape)
        inputs: list[TensorType | Const | None] = [x, w, None]
        if acc:
            constant = TensorType(shape, DType(w[1].dtype.name))
            (inputs[2],) = operator.infer(x, constant, None)
        return Case(self.name, one_operator(operator, *inputs), zlib.crc32(self.name.encode()))


def _dense() -> Iterator[Case]:
    for element in ELEMENTS_OF_SUMS:
        for schedule in SCHEDULES:
            for number, (label, batch, inputs, outputs, groups) in enumerate(DENSE):
                if schedule == "dense" and element not in (None, FLOAT32, "ternary"):
                    continue
                cell = Sum(f"dense-{element}-{schedule}-{label}", element)
                dense = SpikeDense(
                    neurons=(inputs,), groups=groups, coding=cell.coding, schedule=schedule
                )
                yield cell.sets(dense, batch, outputs, acc=number % 2 == 0)
    for element in (None, FLOAT32, "ternary", "int4", "shift3"):
        for schedule in SCHEDULES:
            for number, (label, batch, populations, outputs, groups) in enumerate(SETS):
                cell = Sum(f"sets-{element}-{schedule}-{label}", element)
                several = SpikeDense(
                    neurons=populations, groups=groups, coding=cell.coding, schedule=schedule
                )
                yield cell.sets(several, batch, outputs, acc=number % 2 == 0)
    for dtype, element in ((DType.INT8, None), (DType.INT16, "ternary"), (DType.FLOAT32, FLOAT32)):
        for number, (label, batch, inputs, outputs, groups) in enumerate(DENSE):
            cell = Sum(f"current-{dtype}-{label}", element)
            zero_point = (-128, 5, 127)[number % 3] if dtype is DType.INT8 else 0
            current = CurrentDense(x_zero_point=zero_point, groups=groups, coding=cell.coding)
            x, shape = TensorType((batch, inputs), dtype), (outputs, inputs // groups)
            yield cell.case(current, x, shape, acc=number % 2 == 1)


def _convolutions() -> Iterator[Case]:
    elements = (None, FLOAT32, "int4", "ternary", "shift3", "shift2", "binary")
    for label, batch, image, (outputs, *taps), fields in CONVOLUTIONS:
        shape = (outputs, *taps, image[2] // fields.get("groups", 1))
        neurons = image[0] * image[1] * image[2]
        for element in elements:
            for schedule in SCHEDULES:
                if schedule == "dense" and element not in (None, FLOAT32, "int4"):
                    continue
                cell = Sum(f"conv-{element}-{schedule}-{label}", element)
                spikes = SpikeConv2D(
                    input_shape=image, schedule=schedule, coding=cell.coding, **fields
                )
                s = bit_set(batch, neurons)
                yield cell.case(spikes, s, shape, acc=len(label) % 2 == 0)
        for dtype, element in (
            (DType.INT8, None),
            (DType.INT16, "int4"),
            (DType.FLOAT32, FLOAT32),
        ):
            cell = Sum(f"current-conv-{dtype}-{label}", element)
            zero_point = -len(label) if dtype is DType.INT8 else 0
            current = CurrentConv2D(x_zero_point=zero_point, coding=cell.coding, **fields)
            x = TensorType((batch, *image), dtype)
            yield cell.case(current, x, shape, acc=len(label) % 2 == 1)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Neurons of both orders, with seeded parameters.

    Attributes:
        name: what is special about them.
        x: shape of the current.
        length: elements of beta, threshold and bias, of which 1 is one for all.
        reset, fraction, limit: as in the operators.
        spiking: whether there is a threshold.
        bias: whether there is one.
        low: smallest decay factor.
        same: every neuron has the same factor, however many are given.
    """

    name: str
    x: tuple[int, ...] = (1, 45)
    length: int = 45
    reset: Reset = "subtract"
    fraction: int = 0
    limit: int | None = None
    spiking: bool = True
    bias: bool = True
    low: float = 0.0
    same: bool = False

    def cases(self, dtype: DType) -> Iterator[Case]:
        """A Leaky and a Synaptic one."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        integer = dtype.is_integer
        fields: dict[str, Any] = {"reset": self.reset}
        if integer:
            fields |= {"fraction": self.fraction, "limit": self.limit}

        def factors() -> Const:
            values = rng.uniform(self.low, 1, self.length)
            values[: self.length // 4] = 1.0 if self.low > 0 else 0.0
            if self.same:
                values[:] = values[-1]
            if integer:
                return "const", np.rint(values * 2**15).astype(np.int32)
            return "const", values.astype(np.float32)

        def parameter(size: float) -> Const:
            values = rng.standard_normal(self.length) * size
            return "const", values.astype(dtype.numpy)

        alpha, beta = factors(), factors()
        large = 2.0**28 if integer else 1.0
        threshold = parameter(large) if self.spiking else None
        bias = parameter(large / 4) if self.bias else None
        x = TensorType(self.x, dtype)
        seed = zlib.crc32(f"{self.name}{dtype}".encode())
        leaky = one_operator(Leaky(**fields), x, x, beta, threshold, bias)
        yield Case(f"leaky-{dtype}-{self.name}", leaky, seed)
        synaptic = one_operator(Synaptic(**fields), x, x, x, alpha, beta, threshold, bias)
        yield Case(f"synaptic-{dtype}-{self.name}", synaptic, seed)


CELLS = [
    Cell(name="subtract", fraction=3),
    Cell(name="zero", reset="zero", bias=False),
    Cell(name="none", reset="none", fraction=14),
    Cell(name="one-parameter", length=1, x=(2, 33)),
    Cell(name="frequent", x=(1, 180), length=180, low=0.5, same=True, fraction=7, bias=False),
    Cell(name="frequent-bias", x=(2, 71), length=71, low=0.7, same=True, fraction=2),
    Cell(name="halves", x=(1, 96), length=96, low=0.5, fraction=3),
    Cell(name="halves-limit", x=(2, 71), length=71, low=0.5, limit=2**28, bias=False),
    Cell(name="rows-own", x=(1, 3, 3, 44), length=44, fraction=1),
    Cell(name="slow-factor", x=(1, 64), length=64, same=True, low=0.0),
    Cell(name="limit", limit=2**29, fraction=5, x=(1, 32), length=32),
    Cell(name="limit-zero", limit=1000, reset="zero", fraction=5),
    Cell(name="channels", x=(1, 3, 5, 7), length=7),
    Cell(name="channels-frequent", x=(1, 4, 4, 12), length=12, low=0.5, same=True, bias=False),
    Cell(name="rows-frequent", x=(1, 5, 40), length=40, low=0.5, same=True, fraction=1),
    Cell(name="places", x=(2, 3, 3, 2), length=18),
    Cell(name="integrator", reset="none", spiking=False),
    Cell(name="integrator-limit", reset="none", spiking=False, limit=2**30, length=1),
    Cell(name="single", x=(1, 1), length=1),
]


def _neurons() -> Iterator[Case]:
    for cell in CELLS:
        for dtype in (DType.INT32, DType.FLOAT32):
            yield from cell.cases(dtype)


POOLS: list[tuple[str, int, tuple[int, int, int], dict[str, Any]]] = [
    ("plain", 1, (6, 8, 3), {"kernel": (2, 2), "stride": (2, 2)}),
    ("overlapping", 2, (5, 7, 5), {"kernel": (3, 2), "stride": (1, 2)}),
    ("padded", 1, (5, 4, 9), {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}),
    ("row", 1, (1, 20, 16), {"kernel": (1, 2), "stride": (1, 2)}),
    ("whole", 1, (5, 5, 2), {"kernel": (5, 5), "stride": (5, 5)}),
]


def _values() -> Iterator[Case]:
    for label, batch, image, fields in POOLS:
        s = bit_set(batch, image[0] * image[1] * image[2])
        largest = SpikeMaxPool2D(input_shape=image, **fields)
        yield Case(f"max-pool-{label}", one_operator(largest, s))
        for dtype in (DType.INT8, DType.FLOAT32):
            total = SpikeSumPool2D(input_shape=image, dtype=dtype, **fields)
            yield Case(f"sum-pool-{label}-{dtype}", one_operator(total, s))
    for batch, neurons in ((1, 1), (1, 32), (2, 45), (1, 180)):
        s = bit_set(batch, neurons)
        for dtype in (DType.INT8, DType.FLOAT32):
            values = SpikeValues(shape=(neurons,), dtype=dtype)
            yield Case(f"values-{neurons}-{dtype}", one_operator(values, s))
        for dtype in (DType.INT32, DType.FLOAT32):
            count = TensorType((batch, neurons), dtype)
            program = one_operator(SpikeCount(neurons=neurons), s, count)
            yield Case(f"count-{neurons}-{dtype}", program)


CURRENT_POOLS = [
    *POOLS,
    ("one-side", 1, (1, 9, 4), {"kernel": (1, 4), "stride": (1, 3), "padding": (0, 3, 0, 2)}),
    ("cut", 2, (7, 6, 33), {"kernel": (2, 3), "stride": (3, 2), "padding": (0, 0, 1, 0)}),
    ("gaps", 1, (5, 5, 3), {"kernel": (1, 1), "stride": (2, 3)}),
]


def _pooled_currents() -> Iterator[Case]:
    """Any int32: the smallest too, and sums that wrap."""
    for label, batch, image, fields in CURRENT_POOLS:
        for kind in POOL_KINDS:
            x = TensorType((batch, *image), DType.INT32)
            pool = CurrentPool2D(kind=kind, **fields)
            name = f"current-{kind}-pool-{label}"
            yield Case(name, one_operator(pool, x), zlib.crc32(name.encode()))


RESCALED: list[tuple[str, tuple[int, ...], int, int, bool]] = [
    ("one", (1, 45), 1, 30, False),
    ("neurons", (2, 33), 33, 31, True),
    ("channels", (1, 3, 4, 5), 5, 46, False),
    ("places", (2, 2, 3, 4), 24, 61, True),
    ("whole", (1, 17), 17, 0, True),
    ("halves", (1, 64), 1, 1, False),
]
"""Name, shape, factors, shift, whether something is there that they are added to."""


def _rescaled() -> Iterator[Case]:
    for label, shape, length, shift, adds in RESCALED:
        rng = np.random.default_rng(zlib.crc32(label.encode()))
        factor = rng.integers(0, 2 ** min(shift + 1, 31), length).astype(np.int32)
        factor[-1] = (1 << min(shift, 30)) if length == 1 else 2**31 - 1
        u = TensorType(shape, DType.INT32)
        program = one_operator(Rescale(shift=shift), u, ("const", factor), u if adds else None)
        yield Case(f"rescale-{label}", program, zlib.crc32(label.encode()))


def cases() -> list[Case]:
    """The grid."""
    return [*_dense(), *_convolutions(), *_neurons(), *_values(), *_pooled_currents(), *_rescaled()]
