"""Small seeded networks whose layers are all coded: conv, depthwise, pointwise, fully connected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir

from edgekit.formats import Format
from edgekit.model import Model, load
from edgekit.model.coded import replace_weights, weight_rows
from edgekit.model.domain import attach_functions
from edgekit.model.nodes import const, get_input, is_op
from edgekit.program.ir import Array, Boundary, DType, Operation, Program, Quantization, Tensor
from edgekit.program.operators.base import Operator
from edgekit.program.operators.coding import Coding, accumulator_for
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D
from edgekit.program.operators.linear import DynamicFullyConnected, FullyConnected
from edgekit.program.operators.pooling import Mean
from edgekit.program.operators.quantization import DynamicQuantize
from edgekit.program.verify import verify
from edgekit.quantize.static import quantize_static
from tests.support.models import tiny_onnx
from tests.support.random_network import NetworkBuilder

FORMATS = (
    *("int2", "int3-g9", "int4", "int4-g32", "int5", "int6-t", "int7-g8", "int8-g16"),
    *("ternary", "ternary-mean-c", "ternary-p5", "shift2", "shift3", "shift4", "binary"),
    *("fp4-e2m1-g32", "fp4-e1m2", "fp4-e3m0-g128", "fp6-e2m3", "fp8-e3m4", "fp8-e4m3"),
    *("fp8-e5m2", "mxfp4", "nvfp4"),
)
"""One weight format for every element, every kind of factors, and groups that cross taps."""


class CodedBuilder(NetworkBuilder):
    """Grows a Program whose weights are of one format."""

    def __init__(self, seed: int, weights: Format) -> None:
        super().__init__(seed)
        self.format = weights

    def meant(self, values: Array, meaning: Quantization) -> str:
        """A constant whose integers mean something."""
        name = self.constant(values)
        self.tensors[name] = Tensor.constant(name, values, meaning)
        return name

    def apply_all(self, operator: Operator, *inputs: str | None) -> tuple[str, ...]:
        """Append an operation whose outputs are not all integers; returns them."""
        types = tuple(None if n is None else self.tensors[n].type for n in inputs)
        names = []
        for kind in operator.infer(*types):
            names.append(f"t{len(self.tensors)}")
            self.tensors[names[-1]] = Tensor(names[-1], kind.shape, kind.dtype)
        label = f"{operator.name}_{len(self.operations)}"
        self.operations.append(Operation(label, operator, inputs, tuple(names)))
        return tuple(names)

    def weights(
        self, outputs: int, terms: int, *, real_bias: bool = False
    ) -> tuple[Coding, Array, Quantization, str, str | None]:
        """Coding, rows [O,K], their meaning, and the names of bias and factors."""
        real = self.rng.normal(0, 0.05, (outputs, terms)).astype(np.float32)
        coded = self.format.quantize(real)
        exact = self.rng.integers(-2000, 2000, outputs)
        accumulator = accumulator_for(
            self.format.element.name,
            coded.integers,
            group=self.format.group,
            factors=coded.factors,
            bias=None if real_bias else exact,
        )
        bias = exact.astype(np.float32) if real_bias else exact.astype(accumulator.numpy)
        coding = Coding(
            self.format.element.name, self.format.group, self.format.factors, accumulator
        )
        scales = tuple(float(s) for s in np.broadcast_to(coded.scale, (outputs,)))
        factors = None if coded.factors is None else self.constant(coded.factors)
        meaning = Quantization(scales, (0,) * outputs, 0)
        return coding, coded.integers, meaning, self.constant(bias), factors

    def coded_conv(self, x: str, outputs: int, kernel: int, groups: int = 1) -> str:
        """A convolution that keeps the extents."""
        depth = self.tensors[x].shape[3] // groups
        coding, rows, w, bias, factors = self.weights(outputs, kernel * kernel * depth)
        weights = self.meant(rows.reshape(outputs, kernel, kernel, depth), w)
        y, edge = self.quantization(), kernel // 2
        operator = Conv2D.quantized(
            x=self.q(x), w=w, y=y, padding=(edge,) * 4, groups=groups, coding=coding
        )
        return self.apply(operator, x, weights, bias, None, factors, q=y)

    def coded_depthwise(self, x: str) -> str:
        """A depthwise convolution with stride 2."""
        channels = self.tensors[x].shape[3]
        coding, rows, w, bias, factors = self.weights(channels, 9)
        weights = self.meant(rows.T.reshape(3, 3, channels), replace(w, axis=2))
        y = self.quantization()
        operator = DepthwiseConv2D.quantized(
            x=self.q(x), w=w, y=y, stride=(2, 2), padding=(1, 1, 1, 1), coding=coding
        )
        return self.apply(operator, x, weights, bias, factors, q=y)

    def coded_dense(self, x: str, outputs: int) -> str:
        """A fully connected layer."""
        coding, rows, w, bias, factors = self.weights(outputs, self.tensors[x].shape[-1])
        y = self.quantization()
        operator = FullyConnected.quantized(x=self.q(x), w=w, y=y, coding=coding)
        return self.apply(operator, x, self.meant(rows, w), bias, factors, q=y)


def coded_network(weights: str, seed: int = 0, *, channels: int = 8, size: int = 6) -> Program:
    """A verified network of four coded layers; `weights` names a format."""
    b = CodedBuilder(seed, Format.parse(weights))
    shape = (1, size, size, 2)
    b.tensors["x"] = Tensor("x", shape, DType.INT8, b.quantization())
    y = b.coded_conv("x", channels, 3)
    y = b.coded_depthwise(y)
    y = b.coded_conv(y, 2 * channels, 1, groups=2)
    mean, out = b.q(y), b.quantization()
    pooled = Mean.quantized(axes=(1, 2), keep_dims=False, count=(-(-size // 2)) ** 2, x=mean, y=out)
    y = b.coded_dense(b.apply(pooled, y, q=out), 10)
    return _finished(b, shape, y)


def dynamic_network(weights: str, seed: int = 0) -> Program:
    """A coded layer whose input is quantised per row as it runs; float32 in and out."""
    b = CodedBuilder(seed, Format.parse(weights))
    shape = (1, 3, 40)
    b.tensors["x"] = Tensor("x", shape, DType.FLOAT32)
    codes, scale = b.apply_all(DynamicQuantize(), "x")
    coding, rows, w, bias, factors = b.weights(7, 40, real_bias=True)
    scales = b.constant(np.array(w.scale, np.float32))
    operator = DynamicFullyConnected(coding=coding)
    (y,) = b.apply_all(operator, codes, scale, b.meant(rows, w), scales, bias, factors)
    return _finished(b, shape, y)


def _finished(b: CodedBuilder, shape: tuple[int, ...], y: str) -> Program:
    boundaries = (Boundary("x", "x", shape),), (Boundary(y, "y", b.tensors[y].shape),)
    return verify(Program("coded", b.tensors, tuple(b.operations), *boundaries))


def coded_model(weights: str, seed: int = 0) -> Model:
    """A quantised Model: a convolution and a classifier, both with weights of one format.

    Activations are int8, calibrated on seeded noise; input x float32[1,2,6,6], output y[1,3].
    """
    noise = np.random.default_rng(seed).standard_normal((16, 2, 6, 6)).astype(np.float32)
    static = quantize_static(load(tiny_onnx(seed)), {"x": noise})
    ir, form = static.ir.clone(), Format.parse(weights)
    for node in list(ir.graph):
        if is_op(node, "Conv", "Gemm"):
            source = get_input(node, 1)
            stored = source.producer()
            assert stored is not None
            codes, scale = const(stored.inputs[0]), const(stored.inputs[1])
            assert codes is not None
            assert scale is not None
            real = codes * scale.reshape(-1, *(1,) * (codes.ndim - 1))
            source.shape = onnx_ir.Shape(codes.shape)
            source.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
            rows = weight_rows(node, real.astype(np.float32))
            replace_weights(node, form.quantize(rows), form)
    ir, _ = attach_functions(ir)
    return static.with_ir(ir)
