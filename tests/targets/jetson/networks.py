"""Small float networks for tests of the Jetson family."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.model import Model, load
from tests.support.onnx_models import OnnxBuilder

IMAGE = (1, 3, 8, 8)

Body = Callable[[OnnxBuilder, str], str]


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.4).astype(np.float32)


def network(body: Body, shape: tuple[int, ...] = IMAGE, opset: int = 21) -> Model:
    """A float Model of one input ``x`` and one output."""
    b = OnnxBuilder(opset)
    b.output(body(b, b.input("x", shape)))
    return load(b.build())


def samples(shape: tuple[int, ...] = IMAGE, count: int = 8, seed: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)}


def conv(b: OnnxBuilder, x: str, channels: tuple[int, int], name: str, size: int = 3) -> str:
    w = weights(channels[1], channels[0], size, size, seed=len(b.nodes))
    bias = b.constant(weights(channels[1], seed=len(b.nodes) + 1))
    return b.node("Conv", x, b.constant(w), bias, name=name, pads=[size // 2] * 4)


def classifier(b: OnnxBuilder, x: str) -> str:
    """Two convolutions, pools, a product and softmax."""
    y = b.node("Relu", conv(b, x, (3, 8), "conv_1"), name="relu_1")
    y = b.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2], name="pool")
    y = b.node("Relu", conv(b, y, (8, 16), "conv_2"), name="relu_2")
    y = b.node("Flatten", b.node("GlobalAveragePool", y, name="mean"), name="flat")
    y = b.node("Gemm", y, b.constant(weights(5, 16)), b.constant(weights(5)), transB=1, name="fc")
    return b.node("Softmax", y, axis=-1, name="probabilities")


def residual(b: OnnxBuilder, x: str) -> str:
    """A residual block with an identity, then one with a projection."""
    x = b.node("Relu", conv(b, x, (3, 4), "stem"), name="stem_relu")
    y = b.node("Relu", conv(b, x, (4, 4), "a1"), name="a1_relu")
    y = b.node("Add", conv(b, y, (4, 4), "a2"), x, name="a_add")
    x = b.node("Relu", y, name="a_relu")
    y = b.node("Relu", conv(b, x, (4, 8), "b1"), name="b1_relu")
    y = b.node("Add", conv(b, y, (8, 8), "b2"), conv(b, x, (4, 8), "b_skip", 1), name="b_add")
    return conv(b, b.node("Relu", y, name="b_relu"), (8, 2), "head", 1)
