"""Grid of the functions of one element."""

from __future__ import annotations

import itertools
import math

from edgekit.program.fixed_point import Requant
from edgekit.program.ir import DType, Quantization, TensorType
from edgekit.program.operators.activation import Clip, HardSwish, LeakyRelu, Sigmoid, Tanh
from edgekit.program.operators.base import Operator
from tests.cases.case import Case, one_operator

SHAPES = {"one_element": (1,), "odd": (1, 3, 5, 7), "row": (1, 1000)}

SCALES = {
    "plain": ((0.05, -3), (0.06, 5)),
    "extreme_zero_points": ((0.05, -128), (0.03, 127)),
    "fine_output": ((0.5, 127), (0.006, -128)),
    "coarse_output": ((0.001, 0), (2.0, 1)),
    "ties": ((1.0, 0), (2.0, 0)),
}
"""Scale and zero point of x and y."""

OUTPUT_OF_CURVE = {
    Sigmoid: {DType.INT8: (1 / 256, -128), DType.INT16: (1 / 32768, 0)},
    Tanh: {DType.INT8: (1 / 128, 0), DType.INT16: (1 / 32768, 0)},
}
"""Scale and zero point that results of sigmoid and tanh have."""

CURVE_INPUT_SCALES = (2.0**-12, 2.0**-11, 2.0**-13, 0.00037, 0.05, 1.3, 5.0)
"""Includes the powers of two that int16 treats apart, and more than full range."""


def quantization(scale: float, zero_point: int, dtype: DType) -> Quantization:
    """Per tensor; int16 has zero point 0."""
    return Quantization.per_tensor(scale, zero_point if dtype == DType.INT8 else 0)


def _case(name: str, operator: Operator, dtype: DType, seed: int, shape: tuple[int, ...]) -> Case:
    program = one_operator(operator, TensorType(shape, dtype), name=operator.name)
    return Case(f"{operator.name}-{dtype}-{name}", program, seed)


def _scaled_cases() -> list[Case]:
    """Operators with an input and an output scale."""
    cases = []
    bounds = [(0.0, math.inf), (0.0, 6.0), (-1.0, 1.0), (-math.inf, 0.3)]
    for dtype in (DType.INT8, DType.INT16):
        for seed, (name, (x_scale, y_scale)) in enumerate(SCALES.items()):
            x, y = quantization(*x_scale, dtype), quantization(*y_scale, dtype)
            for low, high in bounds:
                clip = Clip.quantized(low=low, high=high, x=x, y=y, dtype=dtype)
                cases.append(_case(f"{low}..{high}-{name}", clip, dtype, seed, (1, 300)))
            for alpha in (0.1, 1.5, 0.0, -0.2):
                leaky = LeakyRelu.quantized(alpha=alpha, x=x, y=y, dtype=dtype)
                cases.append(_case(f"{alpha}-{name}", leaky, dtype, seed, (1, 300)))
            if dtype == DType.INT8:
                swish = HardSwish.quantized(x=x, y=y)
                cases.append(_case(name, swish, dtype, seed, (1, 300)))
        same = quantization(0.05, -3, dtype)
        for seed, (low, high) in enumerate(bounds, 50):
            clip = Clip.quantized(low=low, high=high, x=same, y=same, dtype=dtype)
            cases.append(_case(f"{low}..{high}-same", clip, dtype, seed, SHAPES["odd"]))
    return cases


def _shift_cases() -> list[Case]:
    cases = []
    for dtype, real in itertools.product(
        (DType.INT8, DType.INT16), (0.0, 2.0**-33, 2.0**-31, 2.0**29)
    ):
        factor = Requant.from_real([real], "double")
        clip = Clip(dtype.limits, y_zero_point=3, requant=factor)
        cases.append(_case(f"shift-{real}", clip, dtype, 60, SHAPES["odd"]))
        for alpha in (0.1, -0.1):
            leaky = LeakyRelu(alpha, identity=factor, slope=factor, clamp=dtype.limits)
            cases.append(_case(f"shift-{alpha}-{real}", leaky, dtype, 60, SHAPES["odd"]))
    return cases


def _curve_cases() -> list[Case]:
    cases = []
    for kind, outputs in OUTPUT_OF_CURVE.items():
        for dtype, y_scale in outputs.items():
            for seed, x_scale in enumerate(CURVE_INPUT_SCALES, 70):
                x, y = quantization(x_scale, 9, dtype), quantization(*y_scale, dtype)
                operator = kind.quantized(x=x, y=y, dtype=dtype)
                cases.append(_case(f"{x_scale:g}", operator, dtype, seed, (1, 300)))
    return cases


def _float_cases() -> list[Case]:
    operators: dict[str, Operator] = {
        "": Sigmoid(),
        "relu": Clip((0.0, math.inf)),
        "relu6": Clip((0.0, 6.0)),
        "above": Clip((-math.inf, 1.0)),
        "0.1": LeakyRelu(0.1),
        "-0.3": LeakyRelu(-0.3, clamp=(-1.0, 2.0)),
        "plain": Tanh(),
        "swish": HardSwish(),
        "swish6": HardSwish(clamp=(-0.25, 6.0)),
    }
    return [
        _case(f"{name}-{label}", operator, DType.FLOAT32, seed, shape)
        for seed, (name, operator) in enumerate(operators.items(), 80)
        for label, shape in SHAPES.items()
    ]


def cases() -> list[Case]:
    """The grid."""
    return [*_scaled_cases(), *_shift_cases(), *_curve_cases(), *_float_cases()]
