"""Grid of the operators between reals and integers, and between quantisations."""

from __future__ import annotations

import itertools

from edgekit.program.fixed_point import Requant
from edgekit.program.ir import DType, Quantization, TensorType
from edgekit.program.operators.base import Operator
from edgekit.program.operators.quantization import (
    REQUANTIZE,
    Dequantize,
    DynamicQuantize,
    Quantize,
    Requantize,
)
from tests.cases.case import Case, one_operator

SHAPES = {"one_element": (1,), "odd": (1, 3, 5, 7), "row": (1, 400)}


def _case(name: str, operator: Operator, x: TensorType, seed: int) -> Case:
    program = one_operator(operator, x, name=operator.name)
    return Case(f"{operator.name}-{x.dtype}-{name}", program, seed)


def _affine_cases() -> list[Case]:
    cases = []
    for dtype, (name, shape) in itertools.product((DType.INT8, DType.INT16), SHAPES.items()):
        limits = dtype.limits
        affine = ((0.5, 0), (0.013, limits[0]), (1e-4, limits[1]), (1e4, 1))
        for seed, (scale, zero_point) in enumerate(affine):
            quantization = Quantization.per_tensor(scale, zero_point)
            quantize = Quantize.quantized(y=quantization, dtype=dtype)
            dequantize = Dequantize.quantized(x=quantization)
            label = f"{name}-{scale}"
            kind = TensorType(shape, DType.FLOAT32)
            cases.append(_case(f"{dtype}-{label}", quantize, kind, seed))
            cases.append(_case(label, dequantize, TensorType(shape, dtype), seed))
    return cases


def _requantize_cases() -> list[Case]:
    cases = []
    pairs = [(x, y) for x, outputs in REQUANTIZE.items() for y in outputs]
    for x, y in pairs:
        factors = (0.0, 2.0**-33, 2.0**-31, 0.001, 0.5, 1.0, 1.7, 300.0, 2.0**29)
        for seed, factor in enumerate(factors, 10):
            zero_points = ((0, 0), (x.limits[0], y.limits[1]), (x.limits[1], y.limits[0]))
            operator = Requantize(
                Requant.from_real([factor], "double"), *zero_points[seed % 3], dtype=y
            )
            shape = SHAPES["one_element" if factor == 0.5 else "row"]
            cases.append(_case(f"{y}-{factor}", operator, TensorType(shape, x), seed))
    return cases


def _dynamic_cases() -> list[Case]:
    return [
        _case(f"{name}-{floor}", DynamicQuantize(floor), TensorType(shape, DType.FLOAT32), 20)
        for name, shape in SHAPES.items()
        for floor in (1e-5, 0.75)
    ]


def cases() -> list[Case]:
    """The grid."""
    return [*_affine_cases(), *_requantize_cases(), *_dynamic_cases()]
