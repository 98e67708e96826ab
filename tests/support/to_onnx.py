"""Write a float32 Program as an ONNX model in NCHW, to have real networks in ONNX form.

Covers the operators of the four MLPerf Tiny networks; a reshape may only drop spatial axes of
extent 1.
"""

from __future__ import annotations

import numpy as np

from edgekit.program.ir import Operation, Program
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D
from edgekit.program.operators.elementwise import Add
from edgekit.program.operators.linear import FullyConnected
from edgekit.program.operators.movement import Reshape
from edgekit.program.operators.normalization import Softmax
from edgekit.program.operators.pooling import AvgPool2D
from tests.support.onnx_models import OnnxBuilder


class _Writer:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.builder = OnnxBuilder()
        self.names: dict[str, str] = {}

    def write(self) -> bytes:
        for boundary in self.program.inputs:
            shape = self.program.tensors[boundary.tensor].shape
            if len(shape) == 4:
                shape = (shape[0], shape[3], *shape[1:3])
            self.names[boundary.tensor] = self.builder.input(boundary.name, shape)
        outputs = {b.tensor: b.name for b in self.program.outputs}
        for operation in self.program.operations:
            self.names[operation.outputs[0]] = self._operation(operation)
        for tensor in outputs:
            self.builder.output(self.names[tensor])
        return self.builder.build()

    def _constant(self, name: str | None) -> np.ndarray | None:
        return None if name is None else self.program.tensors[name].data

    def _operation(self, operation: Operation) -> str:
        operator, b = operation.operator, self.builder
        x = self.names[operation.present_inputs[0]]
        constants = [self._constant(name) for name in operation.inputs[1:]]
        match operator:
            case Conv2D() | DepthwiseConv2D():
                y = self._conv(operator, x, constants)
            case FullyConnected():
                rest = [b.constant(c) for c in constants if c is not None]
                y = b.node("Gemm", x, *rest, transB=1)
            case Add():
                y = b.node("Add", x, self.names[operation.present_inputs[1]])
            case AvgPool2D():
                assert not any(operator.padding)
                y = b.node("AveragePool", x, kernel_shape=operator.kernel, strides=operator.stride)
            case Reshape():
                source = self.program.tensors[operation.present_inputs[0]].shape
                assert source[1:3] == (1, 1)
                y = b.node("Flatten", x)
            case Softmax():
                return b.node("Softmax", x, axis=-1)
            case _:
                raise AssertionError(operator)
        clamp = getattr(operator, "clamp", None)
        assert clamp in (None, (0.0, float("inf")))
        return y if clamp is None else b.node("Relu", y)

    def _conv(
        self, operator: Conv2D | DepthwiseConv2D, x: str, constants: list[np.ndarray | None]
    ) -> str:
        weights = constants[0]
        assert weights is not None
        if isinstance(operator, DepthwiseConv2D):
            weights, group = weights.transpose(2, 0, 1)[:, None], weights.shape[2]
        else:
            weights, group = weights.transpose(0, 3, 1, 2), operator.groups
        rest = [self.builder.constant(c) for c in constants[1:] if c is not None]
        return self.builder.node(
            "Conv",
            x,
            self.builder.constant(weights),
            *rest,
            strides=operator.stride,
            dilations=operator.dilation,
            pads=operator.padding,
            group=group,
        )


def to_onnx(program: Program) -> bytes:
    """The ONNX bytes of a float32 Program whose layout is NHWC."""
    return _Writer(program).write()
