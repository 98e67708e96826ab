"""Calls of the matrix product kernels."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.program.fixed_point import reduced_multiplier
from edgekit.program.ir import DType
from edgekit.program.operators.linear import MAX_RANK, BatchMatMul, FullyConnected
from edgekit.targets.c.bindings.elementwise import clamp_parameters
from edgekit.targets.c.bindings.weighted import (
    Parameters,
    factors,
    has_plain_weights,
    output_parameters,
)
from edgekit.targets.c.kernel import Argument, Bound, Call, Parameter, kernel

BATCH_RANK = MAX_RANK - 2
"""Leading axes that the batch_matmul kernels loop over: EK_BATCH_MATMUL_RANK."""


@kernel("fully_connected_s8", FullyConnected, DType.INT8, accepts=has_plain_weights)
@kernel("fully_connected_s16", FullyConnected, DType.INT16)
@kernel("fully_connected_f32", FullyConnected, DType.FLOAT32)
def fully_connected(bound: Bound) -> Call:
    """x, w, bias, multiplier and shift (integers), y."""
    operator, x, (outputs, depth) = bound.operation.operator, bound.input(0), bound.input(1).shape
    assert isinstance(operator, FullyConnected)
    parameters: Parameters = {"rows": x.type.size // depth, "depth": depth, "outputs": outputs}
    arrays: tuple[Argument, ...] = ()
    if operator.requant is not None:
        # One factor for all outputs is stored once; int64 multipliers are large.
        parameters["factors"] = len(operator.requant.multiplier)
        arrays = factors(operator.requant, len(operator.requant.multiplier))
    return Call(
        {**parameters, **output_parameters(operator, x.dtype)},
        (bound.value(0), bound.value(1), bound.value(2), *arrays, bound.result()),
    )


def batch_steps(operand: Sequence[int], result: Sequence[int]) -> list[int]:
    """Elements of `operand` from one index of each leading axis of `result` to the next.

    Args:
        operand: shape of a or b.
        result: shape of y, of rank 5 at most.

    Returns:
        One step for each of the kernel's leading axes, 0 where the operand is broadcast.

    >>> batch_steps((5, 1, 3, 4), (2, 5, 6, 3, 7))
    [0, 12, 0]
    """
    steps = []
    step = operand[-1] * operand[-2]
    for axis in range(3, 3 + BATCH_RANK):
        extent = operand[-axis] if axis <= len(operand) else 1
        steps.append(0 if extent == 1 else step)
        step *= extent
    return steps[::-1]


@kernel("batch_matmul_s8", BatchMatMul, DType.INT8)
@kernel("batch_matmul_s16", BatchMatMul, DType.INT16)
@kernel("batch_matmul_f32", BatchMatMul, DType.FLOAT32)
def batch_matmul(bound: Bound) -> Call:
    """a, b, y."""
    operator, a, b = bound.operation.operator, bound.input(0), bound.input(1)
    assert isinstance(operator, BatchMatMul)
    y = bound.outputs[0].shape
    depth, columns = a.shape[-1], y[-1]
    shape: dict[str, Parameter] = {
        "a_batch": batch_steps(a.shape, y),
        "b_batch": batch_steps(b.shape, y),
        "batch": [1] * (BATCH_RANK + 2 - len(y)) + list(y[:-2]),
        "rows": a.shape[-2],
        "depth": depth,
        "columns": columns,
        "b_step": 1 if operator.transpose_b else columns,
        "b_column": depth if operator.transpose_b else 1,
    }
    parameters: Parameters = {"shape": shape}
    if a.dtype is DType.INT8:
        parameters["a_zero_point"] = operator.a_zero_point
        parameters["b_zero_point"] = operator.b_zero_point
        parameters["y_zero_point"] = operator.y_zero_point
    if operator.requant is not None:
        (multiplier,) = operator.requant.multiplier
        if a.dtype is DType.INT16:
            multiplier = int(reduced_multiplier(multiplier))
        parameters["multiplier"] = multiplier
        (parameters["shift"],) = operator.requant.shift
    return Call(
        {**parameters, **clamp_parameters(operator.clamp)},
        (bound.value(0), bound.value(1), bound.result()),
    )
