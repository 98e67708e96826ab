"""Small model files for tests of the whole chain."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.litert import TFLiteBuilder

with contextlib.suppress(ModuleNotFoundError):
    from ai_edge_litert import schema_py_generated as schema


def tiny_tflite(seed: int = 0, name: str = "x", channels: int = 4, classes: int = 3) -> bytes:
    """An int8 convolution with a classifier behind it."""
    rng = np.random.default_rng(seed)
    b = TFLiteBuilder()
    x = b.tensor(name, (1, 6, 6, 2), "int8", scale=0.05, zero_point=-3)
    w = b.tensor(
        "w",
        (channels, 3, 3, 2),
        "int8",
        scale=[0.01 + 0.002 * i for i in range(channels)],
        data=rng.integers(-127, 128, (channels, 3, 3, 2)),
    )
    bias = b.tensor(
        "b", (channels,), "int32", scale=[0.0005] * channels, data=rng.integers(-99, 99, channels)
    )
    y = b.tensor("conv", (1, 4, 4, channels), "int8", scale=0.04, zero_point=-10)
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.VALID, 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    b.operator("CONV_2D", [x, w, bias], [y], options)
    flat_size = 16 * channels
    flat = b.tensor("flat", (1, flat_size), "int8", scale=0.04, zero_point=-10)
    shape = b.tensor("shape", (2,), "int32", data=np.array([1, flat_size]))
    b.operator("RESHAPE", [y, shape], [flat])
    weights = rng.integers(-127, 128, (classes, flat_size))
    v = b.tensor("v", (classes, flat_size), "int8", scale=0.02, data=weights)
    c = b.tensor("c", (classes,), "int32", scale=0.0008, data=rng.integers(-99, 99, classes))
    logits = b.tensor("logits", (1, classes), "int8", scale=0.3, zero_point=5)
    b.operator("FULLY_CONNECTED", [flat, v, c], [logits], schema.FullyConnectedOptionsT())
    return b.build([x], [logits])


def tiny_onnx(seed: int = 0, batch: int | str = 1) -> bytes:
    """A float convolution, ReLU, global mean and classifier of 3; input [batch, 2, 6, 6]."""
    rng = np.random.default_rng(seed)

    def constant(key: str, *shape: int) -> onnx.TensorProto:
        values = (rng.standard_normal(shape) * 0.4).astype(np.float32)
        return numpy_helper.from_array(values, key)

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "v", "d"], ["y"], name="classify", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [constant("w", 4, 2, 3, 3), constant("b", 4), constant("v", 3, 4), constant("d", 3)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())
