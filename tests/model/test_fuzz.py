"""Mutated models: whatever happens, it is a typed error, and soon."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from edgekit.errors import EdgekitError
from edgekit.model import load
from edgekit.program.lowering import lower
from edgekit.quantize.static import quantize_static
from tests.support.onnx_cases import float_cases

NUMBERS = (0, 1, -1, 2, 3, 7, 100, -2, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63))
OPERATORS = (
    *("Conv", "Gemm", "MatMul", "Reshape", "Transpose", "Slice", "Pad", "Concat", "Split", "Relu"),
    *("Softmax", "Clip", "Add", "Div", "Flatten", "Squeeze", "Unsqueeze", "Resize", "MaxPool"),
    *("ReduceMean", "ArgMax", "QuantizeLinear", "DequantizeLinear", "Cast", "Constant", "Shape"),
    *("Gather", "Expand", "ConstantOfShape", "LayerNormalization", "BatchNormalization", "Loop"),
    *("PRelu", "HardSigmoid", "Max", "Identity", "Dropout", "Upsample", "ConvTranspose", "If"),
)


def as_function(model: bytes) -> bytes:
    """The same model with its nodes in a local function that is called once."""
    proto = onnx.load_from_string(model)
    graph = proto.graph
    inputs = [value.name for value in (*graph.input, *graph.initializer)]
    outputs = [value.name for value in graph.output]
    proto.functions.append(
        helper.make_function("acme", "F", inputs, outputs, graph.node, proto.opset_import)
    )
    del graph.node[:]
    graph.node.append(helper.make_node("F", inputs, outputs, name="call", domain="acme"))
    proto.opset_import.append(helper.make_opsetid("acme", 1))
    return proto.SerializeToString()


def seeds() -> list[bytes]:
    """Float and quantised models of every operator, every third with a local function."""
    models = []
    for index, case in enumerate(float_cases()):
        models.append(case.model)
        if index % 4 == 0:
            calibration = {n: v[np.newaxis] for n, v in case.feeds(seed=0).items()}
            models.append(quantize_static(load(case.model), calibration).to_bytes())
    return [as_function(m) if i % 3 == 0 else m for i, m in enumerate(models)]


SEEDS = seeds()


def survive(data: bytes, allow_fallback: bool) -> bool:
    """Load and lower; whether that worked. Anything but a typed error is a failure."""
    try:
        lower(load(data), allow_fallback=allow_fallback)
    except EdgekitError:
        return False
    return True


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(4))
def test_mutated_bytes(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(1000):
        data = bytearray(rng.choice(SEEDS))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] = rng.choice((0, 1, 127, 128, 255))
                case 1:
                    data[at] ^= 1 << rng.randrange(8)
                case 2:
                    del data[at : min(at + rng.randint(1, 8), len(data) - 1)]
                case _:
                    data[at:at] = rng.randbytes(rng.randint(1, 8))
        survive(bytes(data), rng.random() < 0.5)


def _attribute(graph: onnx.GraphProto, rng: random.Random) -> None:
    node = rng.choice(graph.node)
    if not node.attribute:
        return
    attribute = rng.choice(node.attribute)
    match rng.randrange(4):
        case 0 if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(NUMBERS)
        case 1 if attribute.ints:
            attribute.ints.pop()
        case 2:
            attribute.type = rng.randrange(15)  # type: ignore[assignment]
        case _:
            attribute.i = rng.choice(NUMBERS)


def _tensor(graph: onnx.GraphProto, rng: random.Random) -> None:
    if not graph.initializer:
        return
    tensor = rng.choice(graph.initializer)
    match rng.randrange(4):
        case 0 if tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
        case 1:
            tensor.data_type = rng.randrange(28)
        case 2 if tensor.data_type == onnx.TensorProto.INT64:
            tensor.raw_data = np.int64(rng.choice(NUMBERS)).tobytes() + tensor.raw_data[8:]
        case _:
            raw = bytearray(tensor.raw_data)
            for at in rng.sample(range(len(raw)), min(3, len(raw))):
                raw[at] = rng.choice((0, 1, 127, 128, 255))
            tensor.raw_data = bytes(raw)


def _operator(graph: onnx.GraphProto, rng: random.Random) -> None:
    rng.choice(graph.node).op_type = rng.choice(OPERATORS)


def _wiring(graph: onnx.GraphProto, rng: random.Random) -> None:
    node = rng.choice(graph.node)
    names = ["", *(i.name for i in graph.input), *(t.name for t in graph.initializer)]
    names += [name for other in graph.node for name in other.output]
    match rng.randrange(3):
        case 0:
            node.input.append(rng.choice(names))
        case 1 if node.input:
            node.input.pop()
        case _ if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(names)


def _input(graph: onnx.GraphProto, rng: random.Random) -> None:
    kind = rng.choice(graph.input).type.tensor_type
    if kind.shape.dim and rng.random() < 0.7:
        rng.choice(kind.shape.dim).dim_value = rng.choice(NUMBERS)
    else:
        kind.elem_type = rng.randrange(25)


MUTATIONS: tuple[Callable[[onnx.GraphProto, random.Random], None], ...] = (
    _attribute,
    _tensor,
    _operator,
    _wiring,
    _input,
)


def mutate(proto: onnx.ModelProto, rng: random.Random) -> None:
    """Change some fields of the graph, or of it with the body of its function."""
    graph, body = proto.graph, onnx.GraphProto()
    if proto.functions:
        body.CopyFrom(graph)
        del body.node[:]
        body.node.extend(proto.functions[0].node)
        graph = body
    for _ in range(rng.randint(1, 3)):
        rng.choice(MUTATIONS)(graph, rng)
    if proto.functions:
        for target, source in (
            (proto.functions[0].node, body.node),
            (proto.graph.input, body.input),
            (proto.graph.initializer, body.initializer),
        ):
            del target[:]
            target.extend(source)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(4))
def test_mutated_fields(seed: int) -> None:
    rng, whole = random.Random(seed), 0
    for _ in range(1000):
        proto = onnx.load_from_string(rng.choice(SEEDS))
        mutate(proto, rng)
        if rng.random() < 0.1:
            proto.opset_import[0].version = rng.randint(7, 23)
        try:
            data = proto.SerializeToString()
        except ValueError:
            continue
        whole += survive(data, rng.random() < 0.5)
    # The mutations are mild enough to reach the lowering.
    assert whole >= 100
