"""Cases of the pools and of the mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgekit.program.ir import DType, Quantization, TensorType
from edgekit.program.operators.pooling import AvgPool2D, MaxPool2D, Mean
from edgekit.program.operators.rules import Clamp
from tests.cases.case import Case, one_operator

DTYPES = (DType.INT8, DType.INT16, DType.FLOAT32)

WINDOWS: list[tuple[str, tuple[int, int, int, int], MaxPool2D]] = [
    ("plain", (1, 6, 8, 3), MaxPool2D((2, 2), (2, 2))),
    ("overlapping", (1, 5, 7, 5), MaxPool2D((3, 2), (1, 2))),
    ("padded", (2, 5, 4, 3), MaxPool2D((3, 3), (2, 2), (1, 1, 1, 1))),
    ("one-sided", (1, 4, 5, 1), MaxPool2D((3, 2), (3, 2), (2, 0, 0, 1))),
    ("whole", (1, 25, 5, 7), MaxPool2D((25, 5), (25, 5))),
    ("one-element", (1, 1, 1, 1), MaxPool2D((1, 1), (1, 1))),
    ("gaps", (1, 7, 7, 2), MaxPool2D((1, 2), (3, 4))),
    ("beyond", (1, 2, 2, 3), MaxPool2D((4, 4), (2, 2), (2, 2, 3, 3))),
]

MEANS: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
    ("image", (1, 5, 7, 3), (1, 2)),
    ("channels", (2, 3, 4, 5), (3,)),
    ("all", (1, 3, 5, 2), (0, 1, 2, 3)),
    ("outer-and-inner", (3, 4, 5), (0, 2)),
    ("alternating", (2, 3, 2, 3, 2, 3), (1, 3, 5)),
    ("alternating-other", (2, 3, 2, 3, 2, 3), (0, 2, 4)),
    ("single", (1, 1, 1, 1), (1, 2)),
    ("vector", (9,), (0,)),
]

SCALES: list[tuple[str, tuple[float, int], tuple[float, int]]] = [
    ("same", (0.5, 3), (0.5, 3)),
    ("finer", (0.5, -128), (0.0123, 127)),
    ("coarser", (0.011, 127), (0.7, -128)),
    ("left-shift", (9.0, -5), (0.25, 0)),
    ("vanishing", (2.0**-40, 0), (1.0, 5)),
    ("few-bits", (2.0**-30, 0), (1.0, 5)),
    ("huge-lowest", (2.0**40, 0), (1.0, -128)),
    ("huge-highest", (2.0**40, 0), (1.0, 127)),
]
"""Quantisations of input and output: two at and below a shift of −31, and two whose means reach the
ends of int32 before the zero point is added."""


def _clamps(dtype: DType) -> dict[str, Clamp | None]:
    if dtype.is_integer:
        low, high = dtype.limits
        return {"full": (low, high), "narrow": (low // 3, high // 5)}
    return {"none": None, "narrow": (-0.5, float("inf"))}


def cases() -> list[Case]:
    """Every window, mean and quantisation."""
    return [*_pools(), *_means()]


def _pools() -> Iterator[Case]:
    for dtype in DTYPES:
        for (label, shape, window), (kind, clamp) in (
            (window, clamp) for window in WINDOWS for clamp in _clamps(dtype).items()
        ):
            x = TensorType(shape, dtype)
            largest = replace(window, clamp=clamp)
            average = AvgPool2D(window.kernel, window.stride, window.padding, clamp)
            yield Case(f"max-{label}-{kind}-{dtype}", one_operator(largest, x))
            yield Case(f"avg-{label}-{kind}-{dtype}", one_operator(average, x))
            zero_point = 77 if dtype is DType.INT8 else 0
            counted = replace(average, count_include_pad=True, x_zero_point=zero_point)
            yield Case(f"avg-counted-{label}-{kind}-{dtype}", one_operator(counted, x))


def _means() -> Iterator[Case]:
    for label, shape, axes in MEANS:
        for keep_dims in (False, True):
            x = TensorType(shape, DType.FLOAT32)
            yield Case(f"mean-{label}-{keep_dims}-float32", one_operator(Mean(axes, keep_dims), x))
        for dtype in (DType.INT8, DType.INT16):
            for scales, given, wanted in SCALES:
                zero_points = (given[1], wanted[1]) if dtype is DType.INT8 else (0, 0)
                x = TensorType(shape, dtype)
                operator = Mean.quantized(
                    axes=axes,
                    keep_dims=False,
                    count=Mean(axes, False).count(x),
                    x=Quantization.per_tensor(given[0], zero_points[0]),
                    y=Quantization.per_tensor(wanted[0], zero_points[1]),
                    dtype=dtype,
                )
                yield Case(f"mean-{label}-{scales}-{dtype}", one_operator(operator, x))
