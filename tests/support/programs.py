"""Small Programs that several tests share."""

from __future__ import annotations

import numpy as np

from edgekit.program.ir import (
    Boundary,
    DType,
    Operation,
    Program,
    Quantization,
    State,
    Tensor,
)
from edgekit.program.operators.activation import Tanh
from edgekit.program.operators.convolution import Conv2D
from edgekit.program.operators.elementwise import Add
from edgekit.program.operators.linear import FullyConnected
from edgekit.program.operators.movement import Reshape
from edgekit.program.verify import verify

Q8 = Quantization.per_tensor(0.05, 3)


def channels_first(program: Program) -> Program:
    """The Program with NCHW images at its inputs, as if an ONNX model had been its source."""
    inputs = []
    for boundary in program.inputs:
        if len(boundary.source_shape) == 4:
            batch, height, width, channels = boundary.source_shape
            shape = (batch, channels, height, width)
            boundary = Boundary(boundary.tensor, boundary.name, shape, (0, 2, 3, 1))
        inputs.append(boundary)
    return program.replace(inputs=tuple(inputs))


def residual_network(name: str = "residual", seed: int = 0) -> Program:
    """Three int8 convolutions, the last added to the first, flattened into a classifier of 5."""
    rng = np.random.default_rng(seed)
    w_scales = Quantization((0.01, 0.02, 0.015), (0, 0, 0), axis=0)
    tensors: dict[str, Tensor] = {}
    operations: list[Operation] = []

    def add(tensor: Tensor) -> str:
        tensors[tensor.name] = tensor
        return tensor.name

    def constant(key: str, shape: tuple[int, ...], dtype: str, low: int, high: int) -> str:
        return add(Tensor.constant(key, rng.integers(low, high, shape).astype(dtype)))

    conv = Conv2D.quantized(x=Q8, w=w_scales, y=Q8, padding=(1, 1, 1, 1), activation="relu")
    add(Tensor("x", (1, 6, 5, 3), DType.INT8, Q8))
    for i, source in enumerate(("x", "a", "b")):
        w = constant(f"w{i}", (3, 3, 3, 3), "int8", -127, 128)
        b = constant(f"b{i}", (3,), "int32", -900, 900)
        out = add(Tensor("abc"[i], (1, 6, 5, 3), DType.INT8, Q8))
        operations.append(Operation(f"conv {i} */", conv, (source, w, b), (out,)))
    add(Tensor("sum", (1, 6, 5, 3), DType.INT8, Q8))
    operations.append(Operation("add", Add.quantized(a=Q8, b=Q8, y=Q8), ("c", "a"), ("sum",)))
    add(Tensor("flat", (1, 90), DType.INT8, Q8))
    operations.append(Operation("flatten", Reshape(shape=(1, 90)), ("sum",), ("flat",)))
    w = constant("v", (5, 90), "int8", -127, 128)
    b = constant("d", (5,), "int32", -900, 900)
    add(Tensor("y", (1, 5), DType.INT8, Q8))
    linear = FullyConnected.quantized(x=Q8, w=Quantization.per_tensor(0.01), y=Q8)
    operations.append(Operation("classify", linear, ("flat", w, b), ("y",)))
    return verify(
        Program(
            name,
            tensors,
            tuple(operations),
            (Boundary("x", 'in "put"', (1, 3, 6, 5), (0, 2, 3, 1)),),
            (Boundary("y", "scores", (1, 5)),),
            source="made in a test",
        )
    )


def recurrent_network(name: str = "recurrent") -> Program:
    """``h = tanh(W·[x] + U·h)`` in float32, state h from 0.5, output h."""
    rng = np.random.default_rng(3)
    tensors = {
        t.name: t
        for t in (
            Tensor("x", (1, 3), DType.FLOAT32),
            Tensor("h", (1, 4), DType.FLOAT32),
            Tensor.constant("w", rng.standard_normal((4, 3)).astype(np.float32)),
            Tensor.constant("u", rng.standard_normal((4, 4)).astype(np.float32)),
            Tensor("wx", (1, 4), DType.FLOAT32),
            Tensor("uh", (1, 4), DType.FLOAT32),
            Tensor("s", (1, 4), DType.FLOAT32),
            Tensor("next", (1, 4), DType.FLOAT32),
        )
    }
    operations = (
        Operation("wx", FullyConnected(), ("x", "w", None), ("wx",)),
        Operation("uh", FullyConnected(), ("h", "u", None), ("uh",)),
        Operation("sum", Add(), ("wx", "uh"), ("s",)),
        Operation("tanh", Tanh(), ("s",), ("next",)),
    )
    return verify(
        Program(
            name,
            tensors,
            operations,
            (Boundary("x", "x", (1, 3)),),
            (Boundary("next", "h", (1, 4)),),
            (State("h", "next", 0.5),),
        )
    )
