"""Grid of the operators along one axis."""

from __future__ import annotations

import numpy as np

from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.base import Operator
from edgekit.program.operators.normalization import (
    SOFTMAX_OUTPUT,
    ArgMax,
    LayerNorm,
    Softmax,
)
from tests.cases.case import Case, one_operator

ROWS = {"one_element": (1,), "single": (3, 1), "pair": (1, 2), "odd": (1, 3, 7), "long": (2, 300)}


def _case(
    name: str, operator: Operator, x: TensorType, seed: int, *constants: Array | None
) -> Case:
    baked = [None if c is None else ("const", c) for c in constants]
    program = one_operator(operator, x, *baked, name=operator.name)
    return Case(f"{operator.name}-{x.dtype}-{name}", program, seed)


def _softmax_cases() -> list[Case]:
    cases = []
    for dtype in (DType.INT8, DType.INT16):
        for seed, (name, shape) in enumerate(ROWS.items()):
            # Fine enough that nothing is cut off, usual, coarse, and so coarse that only the
            # maximum counts.
            for scale in (1e-5, 0.01, 0.3, 20.0):
                softmax = Softmax.quantized(
                    x=Quantization.per_tensor(scale, 0),
                    y=SOFTMAX_OUTPUT[dtype],
                    beta=1.0 if seed % 2 else 0.7,
                    dtype=dtype,
                )
                cases.append(_case(f"{name}-{scale}", softmax, TensorType(shape, dtype), seed))
    for seed, (name, shape) in enumerate(ROWS.items(), 10):
        for beta in (1.0, 0.5, 40.0):
            kind = TensorType(shape, DType.FLOAT32)
            cases.append(_case(f"{name}-{beta}", Softmax(beta), kind, seed))
    return cases


def _layernorm_cases() -> list[Case]:
    cases = []
    for seed, (name, shape) in enumerate(ROWS.items(), 20):
        rng = np.random.default_rng(seed)
        size = shape[-1]
        gamma = rng.normal(1, 0.5, size).astype(np.float32)
        beta = rng.normal(0, 1, size).astype(np.float32)
        for label, parameters in {
            "bare": (None, None),
            "gamma": (gamma, None),
            "beta": (None, beta),
            "full": (gamma, beta),
        }.items():
            kind = TensorType(shape, DType.FLOAT32)
            cases.append(_case(f"{name}-{label}", LayerNorm(1e-5), kind, seed, *parameters))
            *integers, gamma_scale = LayerNorm.integer_parameters(*parameters)
            for x_scale, y in ((0.05, (0.03, 4)), (1e-9, (0.1, -128)), (300.0, (1e-4, 127))):
                operator = LayerNorm.quantized(
                    epsilon=1e-5,
                    size=size,
                    x=Quantization.per_tensor(x_scale, 3),
                    y=Quantization.per_tensor(*y),
                    gamma_scale=gamma_scale,
                )
                kind = TensorType(shape, DType.INT8)
                cases.append(_case(f"{name}-{label}-{x_scale}", operator, kind, seed, *integers))
    return cases


def _argmax_cases() -> list[Case]:
    return [
        _case(f"axis{axis}-{index}", ArgMax(axis, index), TensorType((2, 3, 5, 4), dtype), 30)
        for dtype in (DType.INT8, DType.FLOAT32)
        for axis in range(4)
        for index in (DType.INT32, DType.INT64)
    ]


def cases() -> list[Case]:
    """The grid."""
    return [*_softmax_cases(), *_layernorm_cases(), *_argmax_cases()]
