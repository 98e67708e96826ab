"""Calls of the broadcasting kernels: add, sub, mul."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from edgekit.program.fixed_point import Requant
from edgekit.program.ir import DType
from edgekit.program.operators.elementwise import MAX_RANK, Add, Mul, Sub, Sum
from edgekit.program.operators.rules import Clamp
from edgekit.targets.c.kernel import Bound, Call, Parameter, kernel

UNBOUNDED = (-math.inf, math.inf)


def clamp_parameters(clamp: Clamp | None) -> dict[str, Parameter]:
    """Bounds of the result, as every params struct names them."""
    low, high = UNBOUNDED if clamp is None else clamp
    return {"clamp_min": low, "clamp_max": high}


def factor_parameters(requant: Requant | None, prefix: str = "") -> dict[str, Parameter]:
    """A per-tensor factor: ``<prefix>multiplier`` and ``<prefix>shift``."""
    assert requant is not None
    (multiplier,), (shift,) = requant.multiplier, requant.shift
    return {f"{prefix}multiplier": multiplier, f"{prefix}shift": shift}


def sum_parameters(quant: Sum) -> dict[str, Parameter]:
    """The fields of ``ek_sum_params``."""
    return {
        "a_zero_point": quant.a_zero_point,
        "b_zero_point": quant.b_zero_point,
        "y_zero_point": quant.y_zero_point,
        "left_shift": quant.left_shift,
        **factor_parameters(quant.a, "a_"),
        **factor_parameters(quant.b, "b_"),
        **factor_parameters(quant.y, "y_"),
        **clamp_parameters(quant.clamp),
    }


def walk_parameters(a: Sequence[int], b: Sequence[int], y: Sequence[int]) -> dict[str, Parameter]:
    """The fields of ``ek_broadcast``: the walk over `y`, neighbouring axes merged where possible.

    Args:
        a: shape of the first operand.
        b: shape of the second operand.
        y: their broadcast shape.

    >>> walk_parameters((1, 2, 3, 4), (4,), (1, 2, 3, 4))["extent"]
    (1, 1, 1, 6, 4)
    >>> walk_parameters((2, 3), (2, 3), (2, 3))
    {'extent': (1, 1, 1, 1, 6), 'a_step': (0, 0, 0, 0, 1), 'b_step': (0, 0, 0, 0, 1)}
    """
    merged: list[tuple[int, int, int]] = []  # extent, step of a, step of b; innermost axis first
    a_stride = b_stride = 1
    for axis in range(1, len(y) + 1):
        extent = y[-axis]
        a_extent, b_extent = (s[-axis] if axis <= len(s) else 1 for s in (a, b))
        a_step, b_step = a_stride * (a_extent > 1), b_stride * (b_extent > 1)
        a_stride, b_stride = a_stride * a_extent, b_stride * b_extent
        if extent == 1:
            continue
        inner = merged[-1] if merged else (0, 0, 0)
        if merged and (a_step, b_step) == (inner[0] * inner[1], inner[0] * inner[2]):
            merged[-1] = (extent * inner[0], inner[1], inner[2])
        else:
            merged.append((extent, a_step, b_step))
    merged += [(1, 0, 0)] * (MAX_RANK - len(merged))
    extents, a_steps, b_steps = zip(*reversed(merged), strict=True)
    return {"extent": extents, "a_step": a_steps, "b_step": b_steps}


def _walk(bound: Bound) -> dict[str, Parameter]:
    return walk_parameters(bound.input(0).shape, bound.input(1).shape, bound.outputs[0].shape)


@kernel("add_s8", Add, DType.INT8)
@kernel("add_s16", Add, DType.INT16)
@kernel("sub_s8", Sub, DType.INT8)
@kernel("sub_s16", Sub, DType.INT16)
def sum_integer(bound: Bound) -> Call:
    """``add_s8`` and its like."""
    quant = cast("Add | Sub", bound.operation.operator).quant
    assert quant is not None
    return Call(
        {"walk": _walk(bound), "quant": sum_parameters(quant)},
        (bound.value(0), bound.value(1), bound.result()),
    )


@kernel("add_f32", Add, DType.FLOAT32)
@kernel("sub_f32", Sub, DType.FLOAT32)
@kernel("mul_f32", Mul, DType.FLOAT32)
def pair_float(bound: Bound) -> Call:
    """``add_f32`` and its like."""
    clamp = cast("Add | Sub | Mul", bound.operation.operator).clamp
    return Call(
        {"walk": _walk(bound), **clamp_parameters(clamp)},
        (bound.value(0), bound.value(1), bound.result()),
    )


@kernel("mul_s8", Mul, DType.INT8)
@kernel("mul_s16", Mul, DType.INT16)
def mul_integer(bound: Bound) -> Call:
    """``mul_s8`` and ``mul_s16``."""
    mul = cast(Mul, bound.operation.operator)
    return Call(
        {
            "walk": _walk(bound),
            "a_zero_point": mul.a_zero_point,
            "b_zero_point": mul.b_zero_point,
            "y_zero_point": mul.y_zero_point,
            **factor_parameters(mul.requant),
            **clamp_parameters(mul.clamp),
        },
        (bound.value(0), bound.value(1), bound.result()),
    )
