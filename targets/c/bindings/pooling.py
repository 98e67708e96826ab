"""Calls of the pooling and mean kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from edgekit.errors import UnsupportedError
from edgekit.program.ir import DType
from edgekit.program.operators.pooling import AvgPool2D, MaxPool2D, Mean
from edgekit.program.operators.spiking_pools import CurrentPool2D, PoolKind
from edgekit.targets.c.bindings.elementwise import clamp_parameters, factor_parameters
from edgekit.targets.c.kernel import Bound, Call, Parameter, kernel

GROUPS = 3
"""Groups of kept and of reduced axes that the mean kernels loop over; see ``ek_reduction.h``."""


def _shape(bound: Bound, pool: AvgPool2D | MaxPool2D | CurrentPool2D) -> Mapping[str, Parameter]:
    batches, height, width, channels = bound.input(0).shape
    _, y_height, y_width, _ = bound.outputs[0].shape
    return {
        "batches": batches,
        "height": height,
        "width": width,
        "channels": channels,
        "y_height": y_height,
        "y_width": y_width,
        "kernel_height": pool.kernel[0],
        "kernel_width": pool.kernel[1],
        "stride_height": pool.stride[0],
        "stride_width": pool.stride[1],
        "pad_top": pool.padding[0],
        "pad_left": pool.padding[1],
    }


@kernel("max_pool_2d_s8", MaxPool2D, DType.INT8)
@kernel("max_pool_2d_s16", MaxPool2D, DType.INT16)
@kernel("max_pool_2d_f32", MaxPool2D, DType.FLOAT32)
def max_pool_2d(bound: Bound) -> Call:
    """x, y."""
    pool = bound.operation.operator
    assert isinstance(pool, MaxPool2D)
    return Call(
        {"shape": _shape(bound, pool), **clamp_parameters(pool.clamp)},
        (bound.value(0), bound.result()),
    )


@kernel("avg_pool_2d_s8", AvgPool2D, DType.INT8)
@kernel("avg_pool_2d_s16", AvgPool2D, DType.INT16)
@kernel("avg_pool_2d_f32", AvgPool2D, DType.FLOAT32)
def avg_pool_2d(bound: Bound) -> Call:
    """x, y."""
    pool = bound.operation.operator
    assert isinstance(pool, AvgPool2D)
    divisor = math.prod(pool.kernel) if pool.count_include_pad else 0
    parameters: dict[str, Parameter | Mapping[str, Parameter]] = {"shape": _shape(bound, pool)}
    if bound.input(0).dtype.is_integer:
        parameters |= {"divisor": divisor, "x_zero_point": pool.x_zero_point}
    else:
        parameters |= {"divisor": float(divisor)}
    return Call(parameters | clamp_parameters(pool.clamp), (bound.value(0), bound.result()))


def _pools(kind: PoolKind) -> Callable[[Bound], bool]:
    """Whether an operation makes this of its windows."""

    def accepts(bound: Bound) -> bool:
        pool = bound.operation.operator
        return isinstance(pool, CurrentPool2D) and pool.kind == kind

    return accepts


@kernel("current_max_pool_2d_s32", CurrentPool2D, DType.INT32, accepts=_pools("max"))
@kernel("current_sum_pool_2d_s32", CurrentPool2D, DType.INT32, accepts=_pools("sum"))
def current_pool_2d(bound: Bound) -> Call:
    """x, y."""
    pool = bound.operation.operator
    assert isinstance(pool, CurrentPool2D)
    return Call({"shape": _shape(bound, pool)}, (bound.value(0), bound.result()))


def reduction(shape: Sequence[int], axes: Sequence[int]) -> dict[str, list[int]]:
    """Fields of ``ek_reduction``: axes merged into groups of one kind, padded in front with 1.

    Raises:
        UnsupportedError: more groups than the kernels loop over.

    >>> fields = reduction((1, 25, 5, 64), (1, 2))
    >>> fields["kept_size"], fields["reduced_size"], fields["reduced_stride"]
    ([1, 1, 64], [1, 1, 125], [0, 0, 64])
    """
    groups: list[tuple[bool, int, int]] = []  # reduced or kept, extent, stride
    stride = 1
    for axis in reversed(range(len(shape))):
        extent, is_reduced = shape[axis], axis in axes
        if extent != 1:
            if groups and groups[-1][0] == is_reduced:
                groups[-1] = (is_reduced, groups[-1][1] * extent, groups[-1][2])
            else:
                groups.append((is_reduced, extent, stride))
        stride *= extent
    fields: dict[str, list[int]] = {}
    for label, is_reduced in (("kept", False), ("reduced", True)):
        chosen = [g for g in reversed(groups) if g[0] == is_reduced]
        if len(chosen) > GROUPS:
            raise UnsupportedError(
                f"mean over axes {list(axes)} of shape {list(shape)}: kept and reduced axes "
                f"alternate, at most {GROUPS} groups of each are supported"
            )
        missing = GROUPS - len(chosen)
        fields[f"{label}_size"] = [1] * missing + [g[1] for g in chosen]
        fields[f"{label}_stride"] = [0] * missing + [g[2] for g in chosen]
    return fields


@kernel("mean_s8", Mean, DType.INT8)
@kernel("mean_s16", Mean, DType.INT16)
@kernel("mean_f32", Mean, DType.FLOAT32)
def mean(bound: Bound) -> Call:
    """x, y."""
    operator, x = bound.operation.operator, bound.input(0)
    assert isinstance(operator, Mean)
    count = operator.count(x.type)
    parameters: dict[str, Parameter | Mapping[str, Parameter]] = {
        "axes": reduction(x.shape, operator.axes)
    }
    if operator.requant is None:
        parameters |= {"count": float(count)}
    else:
        parameters |= {
            "offset": -operator.x_zero_point * count,
            **factor_parameters(operator.requant),
            "y_zero_point": operator.y_zero_point,
        }
    return Call(parameters | clamp_parameters(operator.clamp), (bound.value(0), bound.result()))
