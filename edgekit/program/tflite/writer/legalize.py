"""Rewrites of what TFLite says in other words, exact by construction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from edgekit.program.ir import DType, Operation, Program, Tensor
from edgekit.program.names import free_name
from edgekit.program.operators.accumulator import BIAS_DTYPE
from edgekit.program.operators.activation import Clip, LeakyRelu
from edgekit.program.operators.base import Operator
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D, TransposeConv2D
from edgekit.program.operators.movement import Pad, Slice
from edgekit.program.operators.normalization import Softmax
from edgekit.program.operators.pooling import AvgPool2D, MaxPool2D
from edgekit.program.tflite.reader import live
from edgekit.program.tflite.writer.padding import is_same, transposed_padding

NO_PADDING = (0, 0, 0, 0)

T = TypeVar("T", bound=Operator)


def legalize(program: Program) -> Program:
    """The same Program in operations that TFLite has one builtin operator for, where it can be.

    Rules:

    1. A convolution or pool whose padding is neither SAME nor none becomes a pad and one without:
       convolutions and averages that count their padding pad with zeros, maxima with the lowest
       number. One without a bias gets zeros, which LiteRT wants.
    2. A transposed convolution whose padding is neither cuts nothing off; a slice does afterwards.
       Output padding of a whole stride stays, to be refused.
    3. Fields without effect get the values that the reader gives them: zero points and padding
       that nothing uses, a float clamp that lets everything through, digits of a slope that
       float32 does not hold, ends of slices behind the tensor.

    Operations that nothing depends on are dropped.
    """
    rewriter = _Rewriter(program)
    for operation in live(program.operations, {b.tensor for b in program.outputs}):
        rewriter.rewrite(operation)
    used = {b.tensor for b in (*program.inputs, *program.outputs)}
    for operation in rewriter.operations:
        used.update((*operation.present_inputs, *operation.outputs))
    tensors = {name: t for name, t in rewriter.tensors.items() if name in used}
    return program.replace(tensors=tensors, operations=tuple(rewriter.operations))


class _Rewriter:
    """A Program while its operations are rewritten one by one."""

    def __init__(self, program: Program) -> None:
        self.tensors = dict(program.tensors)
        self.operations: list[Operation] = []
        self._names = {op.name for op in program.operations}

    def rewrite(self, operation: Operation) -> None:
        """Add the operation, or those that it becomes."""
        operator = _plain(operation.operator, self.tensors, operation)
        operation = replace(operation, operator=operator)
        rule = RULES.get(type(operator))
        if rule is None or not rule(self, operation):
            self.operations.append(operation)

    def tensor(self, wanted: str, like: Tensor, shape: tuple[int, ...]) -> str:
        """A new computed tensor, quantised as `like`; returns its name."""
        name = free_name(wanted, self.tensors)
        self.tensors[name] = replace(like, name=name, shape=shape, data=None)
        return name

    def append(
        self, operation: Operation, operator: Operator, inputs: tuple[str | None, ...], output: str
    ) -> None:
        """Add an operation that `operation` becomes a part of."""
        name = operation.name
        if output != operation.outputs[0]:
            name = free_name(f"{name}/{operator.name}", self._names)
            self._names.add(name)
        self.operations.append(Operation(name, operator, inputs, (output,)))

    def zeros(self, wanted: str, dtype: DType, count: int) -> str:
        """A new constant of zeros; returns its name."""
        name = free_name(wanted, self.tensors)
        self.tensors[name] = Tensor.constant(name, np.zeros(count, dtype.numpy))
        return name

    def pad(self, operation: Operation, operator: Operator, value: float) -> None:
        """Add a pad with `value` in front of `operation`, which becomes `operator` without one."""
        padded: Any = operation.operator
        (first, *others) = operation.inputs
        assert first is not None
        x = self.tensors[first]
        top, left, bottom, right = padded.padding
        pad = Pad(((0, 0), (top, bottom), (left, right), (0, 0)), value)
        (grown,) = pad.infer(x.type)
        between = self.tensor(f"{x.name}:pad", x, grown.shape)
        self.append(operation, pad, (x.name,), between)
        self.append(operation, operator, (between, *others), operation.outputs[0])


def _convolution(rewriter: _Rewriter, operation: Operation) -> bool:
    """Rule 1 for convolutions."""
    operator: Any = operation.operator
    x, w = (rewriter.tensors[name] for name in operation.present_inputs[:2])
    if isinstance(operator, Conv2D) and len(operation.present_inputs) == 2:
        bias = rewriter.zeros(f"{operation.name}.bias", BIAS_DTYPE[x.dtype], w.shape[0])
        operation = replace(operation, inputs=(x.name, w.name, bias))
    kernel = w.shape[:2] if isinstance(operator, DepthwiseConv2D) else w.shape[1:3]
    padding = operator.padding
    if not any(padding) or is_same(
        padding, x.shape[1:3], kernel, operator.stride, operator.dilation
    ):
        rewriter.operations.append(operation)
    else:
        rewriter.pad(operation, replace(operator, padding=NO_PADDING), operator.x_zero_point)
    return True


def _pool(rewriter: _Rewriter, operation: Operation) -> bool:
    """Rule 1 for pools; an average that leaves its padding out stays, to be refused."""
    operator: Any = operation.operator
    x = rewriter.tensors[operation.present_inputs[0]]
    if not any(operator.padding):
        return False
    bare = replace(operator, padding=NO_PADDING)
    if isinstance(operator, AvgPool2D):
        if not operator.count_include_pad:
            return False
        bare = replace(bare, count_include_pad=False, x_zero_point=0)
        rewriter.pad(operation, bare, operator.x_zero_point)
        return True
    if is_same(operator.padding, x.shape[1:3], operator.kernel, operator.stride, (1, 1)):
        return False
    lowest = x.dtype.limits[0] if x.dtype.is_integer else float(np.finfo(np.float32).min)
    rewriter.pad(operation, bare, lowest)
    return True


def _transposed(rewriter: _Rewriter, operation: Operation) -> bool:
    """Rule 2; what TRANSPOSE_CONV cannot do at all stays, to be refused."""
    operator = operation.operator
    assert isinstance(operator, TransposeConv2D)
    x, w = (rewriter.tensors[name] for name in operation.present_inputs[:2])
    y = rewriter.tensors[operation.outputs[0]]
    if operator.groups != 1 or operator.dilation != (1, 1):
        return False
    if transposed_padding(operator, x.shape[1:3], y.shape[1:3], w.shape[1:3]) is not None:
        return False
    top, left, _, _ = operator.padding
    # Rows that only output padding adds lie behind what the taps reach.
    reach = [(x.shape[1 + k] - 1) * operator.stride[k] + w.shape[1 + k] for k in (0, 1)]
    ends = (top + y.shape[1], left + y.shape[2])
    more = (max(ends[0] - reach[0], 0), max(ends[1] - reach[1], 0))
    if more[0] >= operator.stride[0] or more[1] >= operator.stride[1]:
        return False
    whole = replace(operator, padding=NO_PADDING, output_padding=more)
    shape = (y.shape[0], *(size + m for size, m in zip(reach, more, strict=True)), y.shape[3])
    between = rewriter.tensor(f"{y.name}:whole", y, shape)
    rewriter.append(operation, whole, operation.inputs, between)
    box = Slice((0, top, left, 0), (y.shape[0], *ends, y.shape[3]), (1, 1, 1, 1))
    rewriter.append(operation, box, (between,), y.name)
    return True


RULES: dict[type[Operator], Callable[[_Rewriter, Operation], bool]] = {
    Conv2D: _convolution,
    DepthwiseConv2D: _convolution,
    TransposeConv2D: _transposed,
    AvgPool2D: _pool,
    MaxPool2D: _pool,
}
"""What adds other operations for one and says whether it did."""


def _plain(operator: T, tensors: dict[str, Tensor], operation: Operation) -> T:
    """Rule 3."""
    changes: dict[str, Any] = {}
    y = tensors[operation.outputs[0]]
    if y.dtype is DType.FLOAT32 and getattr(operator, "clamp", None) == (-math.inf, math.inf):
        changes["clamp"] = None
    if isinstance(operator, Clip) and operator.requant is None:
        changes = {"x_zero_point": 0, "y_zero_point": 0}
    if isinstance(operator, LeakyRelu):
        changes["alpha"] = float(np.float32(operator.alpha))
    if isinstance(operator, Softmax):
        changes["beta"] = float(np.float32(operator.beta))
    if isinstance(operator, AvgPool2D) and not (
        operator.count_include_pad and any(operator.padding)
    ):
        changes |= {"count_include_pad": False, "x_zero_point": 0}
    if isinstance(operator, Slice):
        shape = tensors[operation.present_inputs[0]].shape
        changes["end"] = tuple(_bounded(operator, axis, size) for axis, size in enumerate(shape))
    return replace(operator, **changes)


def _bounded(operator: Slice, axis: int, size: int) -> int:
    """The end of a slice along one axis, not behind the tensor."""
    end, stride = operator.end[axis], operator.strides[axis]
    if set(operator.strides) == {1}:
        return end
    return min(end, size) if stride > 0 else max(end, -1)
