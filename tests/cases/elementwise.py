"""Grid of sums, differences and products: broadcasting, zero points, ties, saturation."""

from __future__ import annotations

import math

import numpy as np

from edgekit.program.fixed_point import Activation, Requant
from edgekit.program.ir import DType, Quantization, TensorType
from edgekit.program.operators.base import Operator
from edgekit.program.operators.elementwise import Add, Mul, Sub, Sum
from tests.cases.case import Case, one_operator

Shapes = tuple[tuple[int, ...], tuple[int, ...]]
Scales = tuple[tuple[float, int], tuple[float, int], tuple[float, int]]

SHAPES: dict[str, Shapes] = {
    "one_element": ((1,), (1,)),
    "same": ((1, 3, 5, 7), (1, 3, 5, 7)),
    "channel": ((1, 3, 5, 7), (7,)),
    "pixel": ((1, 3, 5, 7), (3, 5, 1)),
    "row": ((1, 3, 5, 7), (1, 3, 1, 1)),
    "scalar": ((1, 3, 5), ()),
    "outer": ((1, 4, 1, 3), (5, 1)),
    "both": ((2, 1, 3, 1, 5), (1, 4, 1, 2, 1)),
    "ends": ((3, 1, 2), (1, 4, 2)),
}
"""Shapes of the operands by name; they are also used the other way round."""

SCALES: dict[str, Scales] = {
    "plain": ((0.05, -3), (0.02, 10), (0.06, 5)),
    "extreme_zero_points": ((0.05, -128), (0.02, 127), (0.04, -128)),
    "uneven": ((4.0, 7), (0.001, -90), (3.0, 0)),
    "ties": ((1.0, 0), (0.5, 0), (2.0, 1)),
    "coarse_output": ((0.1, 20), (0.1, -20), (1000.0, 3)),
    "saturating": ((1.0, 0), (1.0, 0), (0.01, 0)),
}
"""Scale and zero point of a, b and y."""


def quantizations(scales: Scales, dtype: DType) -> dict[str, Quantization]:
    """Keyword arguments of the operators' ``quantized``; int16 has zero points 0."""
    return {
        name: Quantization.per_tensor(scale, zero_point if dtype == DType.INT8 else 0)
        for name, (scale, zero_point) in zip("aby", scales, strict=True)
    }


def _case(name: str, operator: Operator, shapes: Shapes, dtype: DType, seed: int) -> Case:
    a, b = (TensorType(shape, dtype) for shape in shapes)
    label = f"{operator.name}-{dtype}-{name}"
    return Case(label, one_operator(operator, a, b, name=operator.name), seed)


def _integer_cases() -> list[Case]:
    cases = []
    activations: tuple[Activation, ...] = ("none", "relu", "relu6", "relu_n1_to_1")
    for kind in (Add, Sub, Mul):
        for dtype in (DType.INT8, DType.INT16):
            plain = kind.quantized(**quantizations(SCALES["plain"], dtype), dtype=dtype)
            for seed, (name, shapes) in enumerate(SHAPES.items()):
                cases.append(_case(name, plain, shapes, dtype, seed))
                cases.append(_case(f"{name}-swapped", plain, shapes[::-1], dtype, seed))
            for seed, (name, scales) in enumerate(SCALES.items(), 100):
                operator = kind.quantized(
                    **quantizations(scales, dtype),
                    dtype=dtype,
                    activation=activations[seed % len(activations)],
                )
                shapes = ((1, 13, 17), (1, 13, 17))
                cases.append(_case(f"scales-{name}", operator, shapes, dtype, seed))
    return cases


def _shift_cases() -> list[Case]:
    """Factors at the edges of the format: nothing left, everything shifted out, shifted up."""
    edges = {
        "zero": Requant((0,), (0,), "double"),
        "below_-31": Requant.from_real([2.0**-33], "double"),
        "at_-31": Requant.from_real([2.0**-31 * 0.75], "double"),
        "up": Requant.from_real([3.0], "double"),
        "far_up": Requant.from_real([2.0**29], "double"),
    }
    cases = []
    shapes = ((1, 64), (1, 64))
    for seed, (name, factor) in enumerate(edges.items(), 200):
        one = Quantization.per_tensor(1.0)
        for dtype in (DType.INT8, DType.INT16):
            plain = Sum.quantized(a=one, b=one, y=one, dtype=dtype)
            quant = Sum(0, 0, -5, plain.left_shift, factor, plain.b, plain.y, dtype.limits)
            if max(factor.shift) <= 0:
                cases.append(_case(f"shift-{name}", Add(quant=quant), shapes, dtype, seed))
            mul = Mul(requant=factor, y_zero_point=4, clamp=dtype.limits)
            cases.append(_case(f"shift-{name}", mul, shapes, dtype, seed))
    return cases


def _float_cases() -> list[Case]:
    cases = []
    for kind in (Add, Sub, Mul):
        for seed, (name, shapes) in enumerate(SHAPES.items(), 300):
            operator = kind.float32()
            cases.append(_case(name, operator, shapes, DType.FLOAT32, seed))
        for seed, clamp in enumerate([(0.0, math.inf), (0.0, 6.0), (-1.0, 1.0)], 400):
            operator = kind(clamp=clamp)
            shapes = ((1, 33), (1, 33))
            cases.append(_case(f"clamp{clamp}", operator, shapes, DType.FLOAT32, seed))
    return cases


def _constant_cases() -> list[Case]:
    """One operand baked in, and one operand used twice."""
    bias = np.arange(-3, 4, dtype=np.int8)
    add = Add.quantized(**quantizations(SCALES["plain"], DType.INT8))
    kind = TensorType((1, 4, 7), DType.INT8)
    return [
        Case("add-int8-constant-b", one_operator(add, kind, ("const", bias)), 500),
        Case("add-int8-constant-a", one_operator(add, ("const", bias), kind), 501),
    ]


def cases() -> list[Case]:
    """The grid."""
    return [*_integer_cases(), *_shift_cases(), *_float_cases(), *_constant_cases()]
