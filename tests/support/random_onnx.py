"""Small random ONNX networks, drawn by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests.support.onnx_cases import OnnxCase
from tests.support.onnx_models import OnnxBuilder


class _Net:
    """A network that grows node by node; knows the shape of its last value."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.b = OnnxBuilder()
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        spatial = draw(st.sampled_from([1, 2, 2]))
        extents = [draw(st.integers(4, 9)) for _ in range(spatial)]
        self.shape: tuple[int, ...] = (1, draw(st.integers(1, 5)), *extents)
        self.input_shape = self.shape
        self.value = self.b.input("x", self.shape)
        self.earlier: list[tuple[str, tuple[int, ...]]] = []

    def pick(self, *options: object) -> object:
        return self.draw(st.sampled_from(options))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def weights(self, *shape: int) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        values = self.rng.standard_normal(shape) / np.sqrt(fan_in)
        return self.b.constant(values.astype(np.float32))

    def step(self) -> None:
        self.earlier.append((self.value, self.shape))
        steps = [self.activation, self.affine]
        if len(self.shape) in (3, 4) and min(self.shape[2:]) >= 3:
            steps += [self.conv, self.conv, self.depthwise, self.pool, self.norm, self.pad]
        if len(self.shape) in (3, 4):
            steps += [self.residual, self.concat, self.shuffle, self.gate]
        if len(self.shape) > 2:
            steps += [self.flatten, self.transpose]
        else:
            steps += [self.linear, self.linear]
        self.draw(st.sampled_from(steps))()

    def activation(self) -> None:
        op = self.pick("Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Clip")
        bounds = [self.b.constant(np.float32(v)) for v in (-0.5, 0.8)] if op == "Clip" else []
        self.value = self.b.node(str(op), self.value, *bounds)

    def affine(self) -> None:
        op = self.pick("Add", "Mul", "Sub")
        shape = (self.shape[1], *(1 for _ in self.shape[2:]))
        self.value = self.b.node(str(op), self.value, self.weights(*shape))

    def conv(self) -> None:
        outputs, spatial = self.number(1, 6), len(self.shape) - 2
        kernel = [self.number(1, 3) for _ in range(spatial)]
        strides = [self.number(1, 2) for _ in range(spatial)]
        pads = [self.number(0, k - 1) for k in kernel * 2]
        bias = [self.weights(outputs)] * self.number(0, 1)
        weights = self.weights(outputs, self.shape[1], *kernel)
        self.value = self.b.node("Conv", self.value, weights, *bias, strides=strides, pads=pads)
        extents = [
            (self.shape[2 + i] + pads[i] + pads[spatial + i] - kernel[i]) // strides[i] + 1
            for i in range(spatial)
        ]
        self.shape = (1, outputs, *extents)

    def depthwise(self) -> None:
        channels, spatial = self.shape[1], len(self.shape) - 2
        weights = self.weights(channels, 1, *[3] * spatial)
        self.value = self.b.node(
            "Conv", self.value, weights, group=channels, pads=[1] * 2 * spatial
        )

    def pool(self) -> None:
        op, spatial = self.pick("MaxPool", "AveragePool"), len(self.shape) - 2
        self.value = self.b.node(
            str(op), self.value, kernel_shape=[2] * spatial, strides=[2] * spatial
        )
        self.shape = (*self.shape[:2], *(d // 2 for d in self.shape[2:]))

    def norm(self) -> None:
        channels = self.shape[1]
        parameters = [self.weights(channels) for _ in range(3)]
        variance = self.b.constant(self.rng.uniform(0.5, 2, channels).astype(np.float32))
        self.value = self.b.node("BatchNormalization", self.value, *parameters, variance)

    def pad(self) -> None:
        spatial = len(self.shape) - 2
        amounts = [self.number(0, 2) for _ in range(2 * spatial)]
        pads = [0, 0, *amounts[:spatial], 0, 0, *amounts[spatial:]]
        self.value = self.b.node("Pad", self.value, self.b.constant(np.array(pads, np.int64)))
        self.shape = (
            *self.shape[:2],
            *(d + amounts[i] + amounts[spatial + i] for i, d in enumerate(self.shape[2:])),
        )

    def residual(self) -> None:
        same = [v for v, shape in self.earlier if shape == self.shape]
        self.value = self.b.node("Add", self.value, str(self.pick(*same)))

    def concat(self) -> None:
        fitting = [
            (v, s) for v, s in self.earlier if len(s) == len(self.shape) and s[2:] == self.shape[2:]
        ]
        other, shape = self.draw(st.sampled_from(fitting))
        self.value = self.b.node("Concat", other, self.value, axis=1)
        self.shape = (1, shape[1] + self.shape[1], *self.shape[2:])

    def gate(self) -> None:
        op = self.pick("GlobalAveragePool", "GlobalMaxPool")
        gate = self.b.node("Sigmoid", self.b.node(str(op), self.value))
        self.value = self.b.node("Mul", self.value, gate)

    def shuffle(self) -> None:
        channels = self.shape[1]
        groups = self.pick(*(g for g in range(1, channels + 1) if channels % g == 0))
        split = np.array([1, groups, channels // int(str(groups)), *self.shape[2:]], np.int64)
        y = self.b.node("Reshape", self.value, self.b.constant(split))
        y = self.b.node("Transpose", y, perm=[0, 2, 1, *range(3, len(split))])
        self.value = self.b.node("Reshape", y, self.b.constant(np.array(self.shape, np.int64)))

    def transpose(self) -> None:
        rest = self.draw(st.permutations(range(1, len(self.shape))))
        self.value = self.b.node("Transpose", self.value, perm=[0, *rest])
        self.shape = (1, *(self.shape[a] for a in rest))

    def flatten(self) -> None:
        self.value = self.b.node("Flatten", self.value)
        self.shape = (1, int(np.prod(self.shape)))

    def linear(self) -> None:
        outputs = self.number(1, 8)
        weights = self.weights(outputs, self.shape[1])
        self.value = self.b.node("Gemm", self.value, weights, self.weights(outputs), transB=1)
        self.shape = (1, outputs)


@st.composite
def networks(draw: st.DrawFn) -> OnnxCase:
    """A network of up to eight layers with one input and one or two outputs."""
    net = _Net(draw)
    for _ in range(net.number(1, 8)):
        net.step()
    net.b.output(net.value)
    if net.earlier[1:] and net.number(0, 3) == 0:
        middle = net.earlier[-1][0]
        if middle != net.value:
            net.b.output(middle)
    return OnnxCase("random", net.b.build(), {"x": net.input_shape})
