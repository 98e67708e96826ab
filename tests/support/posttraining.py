"""A small float network with every kind of layer that recipes decide, and its calibration data."""

from __future__ import annotations

import numpy as np

from tests.support.onnx_models import OnnxBuilder

SHAPE = (1, 3, 8, 8)
LAYERS = ("stem", "depthwise", "grouped", "pointwise", "head")


def network(seed: int = 0, *, dead: bool = False, last: str = "Gemm") -> bytes:
    """Convolutions (plain, depthwise, grouped, 1x1), a pool and a product: [1, 3, 8, 8] to [1, 5].

    Args:
        seed: of the weights.
        dead: one channel of the grouped convolution is all zero and has a bias.
        last: operator of the product, ``Gemm`` or ``MatMul``.
    """
    rng = np.random.default_rng(seed)
    b = OnnxBuilder()

    def constant(name: str, *shape: int) -> str:
        spread = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        array = (rng.standard_normal(shape) * spread).astype(np.float32)
        if dead and name.startswith("grouped"):
            array[3] = 0.37 if len(shape) == 1 else 0
        return b.constant(array, name)

    def convolution(name: str, x: str, *shape: int, **attributes: object) -> str:
        inputs = (x, constant(f"{name}.weight", *shape), constant(f"{name}.bias", shape[0]))
        return b.node("Relu", b.node("Conv", *inputs, name=f"node_{name}", **attributes))

    x = b.input("x", SHAPE)
    y = convolution("stem", x, 8, 3, 3, 3, pads=[1, 1, 1, 1])
    y = convolution("depthwise", y, 8, 1, 3, 3, group=8, pads=[1, 1, 0, 0], strides=[2, 2])
    y = convolution("grouped", y, 12, 4, 3, 3, group=2, dilations=[1, 1])
    y = convolution("pointwise", y, 16, 12, 1, 1)
    y = b.node("Flatten", b.node("MaxPool", y, kernel_shape=[2, 2]))
    if last == "Gemm":
        inputs = (y, constant("head.weight", 5, 16), constant("head.bias", 5))
        b.output(b.node("Gemm", *inputs, name="node_head", transB=1))
    else:
        y = b.node("MatMul", y, constant("head.weight", 16, 5), name="node_head")
        b.output(b.node("Add", y, constant("head.bias", 5)))
    return b.build()


def samples(count: int = 24, seed: int = 1) -> dict[str, np.ndarray]:
    """Calibration data whose channels hang together, as those of real data do."""
    rng = np.random.default_rng(seed)
    smooth = rng.standard_normal((count, 3, 4, 4)).repeat(2, axis=2).repeat(2, axis=3)
    noise = rng.standard_normal((count, *SHAPE[1:])) * 0.3
    return {"x": (smooth + noise).astype(np.float32)[:, None]}
