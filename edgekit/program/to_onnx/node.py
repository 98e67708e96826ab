"""One operation of a Program while it is written as ONNX nodes."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from edgekit.program.ir import Operation, Program, Quantization, Tensor
from edgekit.program.operators.rules import Clamp
from edgekit.program.problems import UnwritableError
from edgekit.program.to_onnx.graph import Graph
from edgekit.program.to_onnx.values import CHANNELS_FIRST, Order, Values, per_tensor, plain


class Node:
    """One operation while it is written.

    Args:
        program: whose operation.
        operation: what is written.
        values: where its tensors are.

    Attributes:
        operator: the operation's.
        name: the operation's.
        values: see above.
        inputs: its tensors, None where an optional one is absent.
        outputs: its tensors.
    """

    def __init__(self, program: Program, operation: Operation, values: Values) -> None:
        tensors = program.tensors
        self.operator: Any = operation.operator
        self.name = operation.name
        self.values = values
        self.inputs = tuple(None if n is None else tensors[n] for n in operation.inputs)
        self.outputs = tuple(tensors[n] for n in operation.outputs)

    @property
    def graph(self) -> Graph:
        """Where nodes go."""
        return self.values.graph

    def refuse(self, reason: str) -> NoReturn:
        """Say why ONNX cannot say the operation."""
        raise UnwritableError(reason)

    def input(self, index: int) -> Tensor:
        """An input that is not optional."""
        tensor = self.inputs[index]
        assert tensor is not None
        return tensor

    def optional(self, index: int) -> Tensor | None:
        """An input, None where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.outputs[0]

    # Orders of axes

    def shared_order(self) -> Order:
        """The order that element by element operators compute in.

        Channels first where the result is an image and an operand is there so; else the Program's.
        """
        rank = len(self.output.shape)
        given = (t for t in self.inputs if t is not None and len(t.shape) == rank)
        if rank == 4 and any(self.values.order(t) == CHANNELS_FIRST for t in given):
            return CHANNELS_FIRST
        return plain(rank)

    def image(self, index: int) -> str:
        """An input image as reals, channels first."""
        return self.values.real(self.input(index), CHANNELS_FIRST)

    # Nodes

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node that is named after the operation."""
        return self.graph.node(kind, *inputs, name=f"{self.name}.{kind.lower()}", **attributes)

    def floats(self, values: Any, name: str) -> str:
        """A float32 initializer."""
        return self.graph.constant(np.asarray(values, np.float32), f"{self.name}.{name}")

    def integers(self, values: Any, name: str) -> str:
        """An int64 initializer."""
        return self.values.integers(list(values), f"{self.name}.{name}")

    # Results

    def define(self, value: str, order: Order, index: int = 0) -> None:
        """Say that a value of the right type is an output."""
        self.values.define(self.outputs[index], value, order)

    def finish(self, value: str, order: Order, clamp: Clamp | None) -> None:
        """Clamp and quantise reals, which then are the first output.

        A clamp that saturation does not do anyway follows the quantisation, so that the node in
        front still lies between DequantizeLinear and QuantizeLinear, where ONNX Runtime finds its
        integer kernels. On the grid of the output's integers both orders give the same.
        """
        y = self.output
        if not y.dtype.is_integer:
            self.define(self.clamped(value, clamp), order)
            return
        quantization = per_tensor(y)
        codes = self.values.quantized(value, y.dtype, quantization, y.name)
        if clamp is not None and clamp != y.dtype.limits:
            real = self.values.dequantized(codes, y.dtype, quantization, f"{y.name}.unclamped")
            real = self.clamped(real, self.real_clamp(clamp, quantization))
            codes = self.values.quantized(real, y.dtype, quantization, y.name)
        self.define(codes, order)

    def real_clamp(self, clamp: Clamp, quantization: Quantization) -> tuple[float, float]:
        """Bounds in integers of the first output as reals, infinite where saturation does it."""
        limits = self.output.dtype.limits
        scale, zero_point = quantization.scalar_scale, quantization.scalar_zero_point
        low, high = (scale * (bound - zero_point) for bound in clamp)
        return (
            -math.inf if clamp[0] == limits[0] else low,
            math.inf if clamp[1] == limits[1] else high,
        )

    def clamped(self, value: str, clamp: Clamp | None) -> str:
        """Reals between bounds; either may be infinite."""
        if clamp is None or clamp == (-math.inf, math.inf):
            return value
        low, high = clamp
        if (low, high) == (0.0, math.inf):
            return self.add("Relu", value)
        bounds = ["" if math.isinf(low) else self.floats(low, "low")]
        if not math.isinf(high):
            bounds.append(self.floats(high, "high"))
        return self.add("Clip", value, *bounds)
