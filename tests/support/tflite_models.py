"""Small .tflite models for the tests of the reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.support import litert
from tests.support.litert import TFLiteBuilder

SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 1, 2, 3


def options(name: str, **fields: Any) -> Any:
    """An option table of the schema: ``options("Softmax", beta=1.0)`` for SoftmaxOptions."""
    table = getattr(litert.schema, f"{name}OptionsT")()
    for key, value in fields.items():
        assert hasattr(table, key), key
        setattr(table, key, value)
    return table


def bias_dtype(dtype: str) -> str:
    """Of a weighted sum whose input is `dtype`."""
    return {"int8": "int32", "int16": "int64", "float32": "float32"}[dtype]


class Weighted:
    """Seeded weights and biases, quantised where the activations are.

    Args:
        builder: where the tensors go.
        dtype: of the activations.
        seed: of the values.
    """

    def __init__(self, builder: TFLiteBuilder, dtype: str, seed: int = 0) -> None:
        self._builder = builder
        self._dtype = dtype
        self._rng = np.random.default_rng(seed)

    def activation(self, name: str, shape: tuple[int, ...], scale: float, zero_point: int) -> int:
        """A tensor that is fed or computed."""
        if self._dtype == "float32":
            return self._builder.tensor(name, shape, "float32")
        zero_point = 0 if self._dtype == "int16" else zero_point
        return self._builder.tensor(name, shape, self._dtype, scale=scale, zero_point=zero_point)

    def weights(self, shape: tuple[int, ...], axis: int | None) -> int:
        """int8 with scales along `axis` (one where None), or float32."""
        if self._dtype == "float32":
            data = self._rng.standard_normal(shape).astype(np.float32)
            return self._builder.tensor("w", shape, "float32", data=data)
        count = 1 if axis is None else shape[axis]
        return self._builder.tensor(
            "w",
            shape,
            "int8",
            scale=self._rng.uniform(0.002, 0.02, count),
            axis=axis or 0,
            data=self._rng.integers(-127, 128, shape).astype(np.int8),
        )

    def bias(self, count: int) -> int:
        """int32 or int64 without quantisation, as the reference kernels need none, or float32."""
        kind = bias_dtype(self._dtype)
        if kind == "float32":
            data = self._rng.standard_normal(count).astype(np.float32)
        else:
            data = self._rng.integers(-3000, 3000, count).astype(kind)
        return self._builder.tensor("b", (count,), kind, scale=None, data=data)


def small_network() -> bytes:
    """int8: convolution, depthwise convolution, sum, pool, reshape, fully connected, softmax."""
    b = TFLiteBuilder()
    make = Weighted(b, "int8")
    x = make.activation("input", (1, 6, 5, 3), 0.05, -3)
    first = make.activation("first", (1, 3, 3, 4), 0.1, -128)
    second = make.activation("second", (1, 3, 3, 4), 0.2, 5)
    total = make.activation("sum", (1, 3, 3, 4), 0.3, 7)
    pooled = make.activation("pooled", (1, 1, 1, 4), 0.3, 7)
    flat = make.activation("flat", (1, 4), 0.3, 7)
    logits = make.activation("logits", (1, 3), 0.4, 1)
    y = b.tensor("output", (1, 3), "int8", scale=1 / 256, zero_point=-128)
    window = {"padding": SAME, "strideH": 2, "strideW": 2, "fusedActivationFunction": RELU}
    still = {"padding": SAME, "strideH": 1, "strideW": 1, "depthMultiplier": 1}
    whole = {"padding": VALID, "strideH": 3, "strideW": 3, "filterHeight": 3, "filterWidth": 3}
    shape = b.tensor("shape", (2,), "int32", data=np.array([-1, 4], np.int32))
    b.operator(
        "CONV_2D",
        [x, make.weights((4, 3, 2, 3), 0), make.bias(4)],
        [first],
        options("Conv2D", **window),
    )
    b.operator(
        "DEPTHWISE_CONV_2D",
        [first, make.weights((1, 3, 3, 4), 3), make.bias(4)],
        [second],
        options("DepthwiseConv2D", **still),
    )
    b.operator("ADD", [first, second], [total], options("Add"))
    b.operator("AVERAGE_POOL_2D", [total], [pooled], options("Pool2D", **whole))
    b.operator("RESHAPE", [pooled, shape], [flat], options("Reshape", newShape=[-1, 4]))
    b.operator(
        "FULLY_CONNECTED",
        [flat, make.weights((3, 4), None), make.bias(3)],
        [logits],
        options("FullyConnected"),
    )
    b.operator("SOFTMAX", [logits], [y], options("Softmax", beta=1.0))
    return b.build([x], [y])


def edited(model: bytes, change: Callable[[Any], None]) -> bytes:
    """The model after `change` worked on its unpacked form (a ``schema.ModelT``)."""
    unpacked = litert.schema.ModelT.InitFromPackedBuf(model, 0)
    change(unpacked)
    builder = litert.flatbuffers.Builder(1024)
    builder.Finish(unpacked.Pack(builder), b"TFL3")
    return bytes(builder.Output())
