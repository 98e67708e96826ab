"""Programs as ``.tflite`` files: the same Program when read back, the same bits in LiteRT."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from edgekit.errors import UnsupportedError
from edgekit.model import load
from edgekit.program.fuse import fuse_residual
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import (
    Array,
    Boundary,
    DType,
    Operation,
    Program,
    Quantization,
    State,
    Tensor,
    TensorType,
)
from edgekit.program.lowering import lower
from edgekit.program.operators.activation import Clip, HardSwish, LeakyRelu, Tanh
from edgekit.program.operators.base import Operator
from edgekit.program.operators.convolution import Conv2D, TransposeConv2D
from edgekit.program.operators.linear import BatchMatMul, FullyConnected
from edgekit.program.operators.movement import Reshape, Slice
from edgekit.program.operators.normalization import LayerNorm
from edgekit.program.operators.pooling import AvgPool2D, MaxPool2D
from edgekit.program.operators.quantization import REQUANTIZE, DynamicQuantize, Requantize
from edgekit.program.tflite import read, write
from edgekit.program.tflite.flatbuffer import File
from edgekit.program.tflite.schema import BUILTINS, IDENTIFIER, MODEL
from edgekit.program.tflite.writer.check import differences
from edgekit.program.tflite.writer.legalize import legalize
from edgekit.program.tflite.writer.registry import WRITERS
from edgekit.quantize.static import quantize_static
from edgekit.version import edgekit_version
from tests.cases.case import Case, one_operator, random_array
from tests.support.litert import LiteRT
from tests.support.onnx_cases import OnnxCase
from tests.support.random_network import random_network
from tests.support.random_onnx import networks
from tests.support.scales import recorded_scales
from tests.test_reference_models import FLOAT, FLOAT_BOUND, INT8, inputs_of, path_of

QUICK = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MODULES = {
    "activation": 120,
    "convolution": 211,
    "elementwise": 182,
    "linear": 93,
    "movement": 130,
    "normalization": 59,
    "pooling": 175,
    "quantization": 30,
}
"""Files of cases, and how many of their cases TFLite can say."""

FLOAT_TOLERANCE = 2e-5
"""Relative to the largest result: LiteRT adds float32 products in another order."""

Q = Quantization.per_tensor(0.05, 3)


def assert_litert_agrees(program: Program, data: bytes, inputs: dict[str, Array]) -> None:
    """LiteRT's reference kernels give the interpreter's bytes; floats within the tolerance."""
    fed = []
    for boundary, tensor in zip(program.inputs, program.input_tensors, strict=True):
        value = inputs[boundary.name]
        if boundary.permutation is not None:
            value = value.transpose(boundary.permutation)
        fed.append(np.ascontiguousarray(value).reshape(tensor.shape))
    got = LiteRT(data)(*fed)
    wanted: dict[str, Array] = {}
    Interpreter(program).run(inputs, lambda name, value: wanted.update({name: value}))
    for boundary, result in zip(program.outputs, got, strict=True):
        want = wanted[boundary.tensor]
        assert (result.dtype, result.shape) == (want.dtype, want.shape)
        if want.dtype.kind == "f":
            bound = FLOAT_TOLERANCE * max(float(np.abs(want).max(initial=0)), 1e-3)
            assert np.abs(result - want).max(initial=0) <= bound
        else:
            np.testing.assert_array_equal(result, want)


def refusal(program: Program) -> str:
    """Why a Program cannot be written."""
    with pytest.raises(UnsupportedError) as caught:
        write(program)
    return str(caught.value)


@pytest.mark.needs("litert", "cc")
@pytest.mark.parametrize("name", [*INT8, *FLOAT])
def test_reference_models(data_folder: Path, name: str) -> None:
    """Read, written and read again they are equal; LiteRT runs them on real inputs."""
    program = read(path_of(data_folder, name), dequantize_weights="fp32" in name)
    data = write(program)
    again = read(data, name=program.name)
    assert list(differences(program, again)) == []
    assert again.inputs == program.inputs
    assert again.outputs == program.outputs
    model, interpreter = LiteRT(data), Interpreter(program)
    for x in inputs_of(data_folder, name, 10):
        want = interpreter.run({program.inputs[0].name: x})[program.outputs[0].name]
        (got,) = model(x)
        if name in INT8:
            np.testing.assert_array_equal(got, want)
        else:
            assert np.abs(got - want).max() <= FLOAT_BOUND * np.abs(want).max()


@pytest.mark.needs("litert", "cc")
@pytest.mark.parametrize("name", INT8)
def test_xnnpack_runs_the_file(data_folder: Path, name: str) -> None:
    """The default resolver takes it and is near; its kernels round otherwise."""
    from ai_edge_litert.interpreter import Interpreter as Default

    program = read(path_of(data_folder, name))
    model = Default(model_content=write(program), num_threads=1)
    model.allocate_tensors()
    x = inputs_of(data_folder, name, 10)[0]
    model.set_tensor(model.get_input_details()[0]["index"], x)
    model.invoke()
    got = model.get_tensor(model.get_output_details()[0]["index"])
    want = Interpreter(program).run({program.inputs[0].name: x})[program.outputs[0].name]
    assert np.abs(got.astype(int) - want).max() <= 8


@cache
def written(name: str) -> list[tuple[Case, Program, bytes]]:
    """What TFLite can say of a file of cases; the rest is refused by the operation's name."""
    module = importlib.import_module(f"tests.cases.{name}")
    with recorded_scales() as scales:
        cases: list[Case] = module.cases()
    found = []
    for case in cases:
        program = scales.annotated(case.program)
        try:
            found.append((case, program, write(program)))
        except UnsupportedError as error:
            assert f"op ({program.operations[0].operator.name}): " in str(error), case.id
    return found


@pytest.mark.needs("litert")
@pytest.mark.parametrize("name", MODULES)
def test_grid(name: str) -> None:
    """Every case that TFLite can say gives the same bits in LiteRT."""
    for case, program, data in written(name):
        for inputs in case.inputs():
            assert_litert_agrees(program, data, inputs)


@pytest.mark.parametrize("name", MODULES)
def test_most_cases_can_be_written(name: str) -> None:
    """As many as counted, none fewer."""
    assert len(written(name)) == MODULES[name]


def test_every_operator_in_the_table_has_a_case() -> None:
    """But requantize, whose cases have no scales; it has a test of its own."""
    said = {type(case.program.operations[0].operator) for m in MODULES for case, *_ in written(m)}
    assert set(WRITERS) - said == {Requantize}


@pytest.mark.needs("litert")
@pytest.mark.parametrize(("x", "y"), [(x, y) for x, outputs in REQUANTIZE.items() for y in outputs])
def test_requantize(x: DType, y: DType) -> None:
    """Between all pairs of integer types."""
    scales = [Quantization.per_tensor(0.013, 7 if x is DType.INT8 else 0)]
    scales += [Quantization.per_tensor(0.02, -5 if y is DType.INT8 else 0)]
    operator = Requantize.quantized(x=scales[0], y=scales[1], dtype=y)
    program = with_scales(one_operator(operator, TensorType((1, 300), x)), *scales)
    inputs = random_array(np.random.default_rng(0), TensorType((1, 300), x))
    if x is DType.INT32:
        inputs = inputs % 100_000 - 50_000
    assert_litert_agrees(program, write(program), {"in0": inputs})


@pytest.mark.needs("litert")
def test_random_networks() -> None:
    """Sixty int8 networks; paddings that TFLite has no word for become pads but for averages."""
    pads = written = 0
    for seed in range(60):
        program = network(seed)
        try:
            data = write(program)
        except UnsupportedError as error:
            assert "(avg_pool_2d): its padding is [0, 0, 1, 1]" in str(error)
            continue
        written += 1
        kinds = Counter(op.operator.name for op in read(data).operations)
        pads += kinds["pad"] - Counter(op.operator.name for op in program.operations)["pad"]
        shape = program.input_tensors[0].shape
        x = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
        assert_litert_agrees(program, data, {"x": x})
    assert written >= 50
    assert pads > 20


@pytest.mark.needs("litert", "onnxruntime")
@pytest.mark.parametrize("quantized", [False, True])
def test_random_onnx_networks(quantized: bool) -> None:
    """Networks that came from ONNX, most of which TFLite can say."""
    reasons: Counter[str] = Counter()

    @settings(QUICK, max_examples=60)
    @given(networks())
    def one(case: OnnxCase) -> None:
        model = load(case.model)
        if quantized:
            model = quantize_static(model, {"x": np.stack([case.feeds(s)["x"] for s in range(4)])})
        program = lower(model)
        try:
            data = write(program)
        except UnsupportedError as error:
            reasons[str(error).partition(": ")[2]] += 1
            known = ("its clamp", "clamp=", "leaves padding out", "fed or returned", "pads SAME")
            assert any(text in str(error) for text in known), error
            return
        reasons["written"] += 1
        rng = np.random.default_rng(0)
        inputs = {
            b.name: random_array(rng, t.type).reshape(b.source_shape)
            for b, t in zip(program.inputs, program.input_tensors, strict=True)
        }
        assert_litert_agrees(program, data, inputs)

    one()
    assert reasons["written"] >= 40, reasons


def with_scales(program: Program, *quantizations: Quantization) -> Program:
    """The Program with quantisations at its fed, then its returned tensors."""
    tensors = dict(program.tensors)
    boundaries = (*program.inputs, *program.outputs)
    for boundary, quantization in zip(boundaries, quantizations, strict=True):
        tensors[boundary.tensor] = replace(tensors[boundary.tensor], quantization=quantization)
    return program.replace(tensors=tensors)


def annotated(make: Callable[[], Program]) -> Program:
    """A Program with the scales that it was made from."""
    with recorded_scales() as scales:
        program = make()
    return scales.annotated(program)


def network(seed: int = 0) -> Program:
    """A random int8 network with the scales of its weights."""
    return annotated(lambda: random_network(seed))


def test_bytes_do_not_depend_on_the_run() -> None:
    program = network(3)
    assert write(program) == write(program)


def test_constants_are_aligned_and_the_file_says_who_wrote_it() -> None:
    """Every buffer begins at a multiple of 16 bytes."""
    data = write(network())
    model = File(data, "test").root(MODEL, IDENTIFIER)
    assert model["description"] == f"edgekit {edgekit_version()}"
    filled = [b["data"] for b in model["buffers"] if b["data"] is not None]
    start = np.frombuffer(data, np.uint8).ctypes.data
    assert len(filled) >= 8
    assert all((array.ctypes.data - start) % 16 == 0 for array in filled)


def test_versions() -> None:
    """int8 convolutions are version 3, sums 2, layers without a bias 6; codes occur once."""
    model = File(write(network()), "test").root(MODEL, IDENTIFIER)
    codes = [(BUILTINS[c["builtin_code"]], c["version"]) for c in model["operator_codes"]]
    assert len(set(codes)) == len(codes)
    assert {("CONV_2D", 3), ("ADD", 2), ("RESHAPE", 1), ("FULLY_CONNECTED", 6)} <= set(codes)


@pytest.mark.needs("litert")
def test_boundaries_name_tensors_and_keep_the_layout_of_the_program() -> None:
    """An NCHW source's input is NHWC in the file, under the source's name."""
    program = network()
    _, height, width, channels = program.input_tensors[0].shape
    source = (1, channels, height, width)
    program = program.replace(inputs=(Boundary("x", 'in "put"', source, (0, 2, 3, 1)),))
    data = write(program)
    again = read(data)
    assert again.inputs == (Boundary('in "put"', 'in "put"', (1, height, width, channels)),)
    assert [b.name for b in again.outputs] == ["scores", "features"]
    x = np.random.default_rng(0).integers(-128, 128, source).astype(np.int8)
    assert_litert_agrees(program, data, {'in "put"': x})


def test_names_of_boundaries_come_first() -> None:
    """A tensor inside that has the name of an output gets another."""
    x = TensorType((1, 4), DType.FLOAT32)
    program = one_operator(Tanh(), x)
    middle = Tensor("y", (1, 4), DType.FLOAT32)
    program = program.replace(
        tensors={**program.tensors, "y": middle},
        operations=(
            Operation("first", Tanh(), ("in0",), ("y",)),
            Operation("second", Tanh(), ("y",), ("out0",)),
        ),
        outputs=(Boundary("out0", "y", (1, 4)),),
    )
    again = read(write(program))
    assert again.operations[-1].outputs == ("y",)
    assert len(again.tensors) == 3


@pytest.mark.needs("litert")
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_a_scalar_is_reshaped_and_back(dtype: str) -> None:
    program = one_operator(Reshape(()), TensorType((1, 1), DType(dtype)))
    back = Tensor("back", (1,), DType(dtype))
    program = program.replace(
        tensors={**program.tensors, "back": back},
        operations=(*program.operations, Operation("back", Reshape((1,)), ("out0",), ("back",))),
        outputs=(*program.outputs, Boundary("back", "back", (1,))),
    )
    assert_litert_agrees(program, write(program), {"in0": np.full((1, 1), 5, dtype)})


def test_dead_operations_are_dropped() -> None:
    program = one_operator(Tanh(), TensorType((1, 4), DType.FLOAT32))
    dead = Tensor("dead", (1, 4), DType.FLOAT32)
    program = program.replace(
        tensors={**program.tensors, "dead": dead},
        operations=(*program.operations, Operation("unused", Tanh(), ("in0",), ("dead",))),
    )
    assert len(read(write(program)).operations) == 1


IMAGE = TensorType((1, 5, 5, 2), DType.FLOAT32)
INT8_IMAGE = TensorType((1, 5, 5, 2), DType.INT8)
WEIGHTS = ("const", np.ones((3, 3, 3, 2), np.float32))


def one(operator: Operator, *inputs: object) -> Callable[[], Program]:
    """A function that makes a Program of one operator."""
    return lambda: one_operator(operator, *inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            one(LayerNorm(1e-5), TensorType((1, 4), DType.FLOAT32)),
            r"op \(layernorm\): has no form there; those that have are add, argmax",
        ),
        (
            one(DynamicQuantize(), TensorType((1, 4), DType.FLOAT32)),
            r"op \(dynamic_quantize\): has no form there; those that have are add, argmax",
        ),
        (
            one(Conv2D(clamp=(0.0, 3.0)), IMAGE, WEIGHTS),
            r"op \(conv_2d\): its clamp \[0.0, 3.0\] is no fused activation",
        ),
        (
            one(TransposeConv2D(dilation=(2, 1)), IMAGE, WEIGHTS),
            r"op \(transpose_conv_2d\): it has 1 groups and dilation \[2, 1\]",
        ),
        (
            one(TransposeConv2D(output_padding=(1, 0)), IMAGE, WEIGHTS),
            r"op \(transpose_conv_2d\): its padding is",
        ),
        (one(Conv2D(), IMAGE, TensorType((3, 3, 3, 2), DType.FLOAT32)), "weights 'in1' are comp"),
        (
            one(AvgPool2D((3, 3), (1, 1), (2, 1, 0, 0)), IMAGE),
            r"op \(avg_pool_2d\): its padding is \[2, 1, 0, 0\]; TFLite pads SAME or not",
        ),
        (
            one(MaxPool2D((2, 2), (1, 1), clamp=(-128, 127)), INT8_IMAGE),
            r"'in0' is int8 without scale and zero point",
        ),
        (one(Clip((0.0, 2.0)), IMAGE), r"op \(clip\): its clamp \[0.0, 2.0\] is no RELU"),
        (one(HardSwish(clamp=(0.0, 1.0)), IMAGE), r"op \(hard_swish\): .* clamp=None, must be"),
        (one(LeakyRelu(0.1, clamp=(0.0, 1.0)), IMAGE), r"op \(leaky_relu\): .* clamp=None"),
        (one(Slice((0,) * 6, (1,) * 6, (1,) * 6), TensorType((2,) * 6, DType.INT8)), "up to 5"),
        (
            one(BatchMatMul(clamp=(0.0, 6.0)), *[TensorType((1, 2, 2), DType.FLOAT32)] * 2),
            "has no fused activation",
        ),
    ],
)
def test_refusals(make: Callable[[], Program], message: str) -> None:
    """The operation is named, with the reason."""
    with pytest.raises(UnsupportedError, match=message):
        write(make())


@pytest.mark.parametrize(("factor", "moved"), [(1.002, 0), (1.0, 1)])
def test_fields_that_the_scales_do_not_give_are_refused(factor: float, moved: int) -> None:
    """The file would mean another multiplier or zero point than the Program."""
    program = network()
    scores = program.output_tensors[0]
    assert scores.quantization is not None
    changed = Quantization.per_tensor(
        scores.quantization.scalar_scale * factor, scores.quantization.scalar_zero_point - moved
    )
    tensors = {**program.tensors, scores.name: replace(scores, quantization=changed)}
    message = refusal(program.replace(tensors=tensors))
    field = "y_zero_point" if moved else "requant"
    assert f"(fully_connected): in TFLite it would be {field}=" in message
    assert "conv_2d" not in message


def test_results_that_may_leave_int32_are_refused() -> None:
    """LiteRT's kernel leaves them undefined."""
    x, w = Quantization.per_tensor(1.0), Quantization.per_tensor(1e9)

    def make() -> Program:
        operator = FullyConnected.quantized(x=x, w=w, y=x)
        weights = ("const", np.ones((1, 4), np.int8))
        return one_operator(operator, TensorType((1, 4), DType.INT8), weights)

    assert "may leave int32" in refusal(annotated(make))


def test_fused_residuals_are_refused() -> None:
    """The scale between the convolution and the addition is in no tensor any more."""
    program, changed = fuse_residual(network())
    assert changed
    assert "write the Program as it was before fuse_residual" in refusal(program)


def test_state_is_refused() -> None:
    program = one_operator(Tanh(), TensorType((1, 4), DType.FLOAT32))
    state = State("h", "out0")
    tensors = {**program.tensors, "h": Tensor("h", (1, 4), DType.FLOAT32)}
    assert "state 'h'" in refusal(program.replace(tensors=tensors, state=(state,)))


def test_a_tensor_returned_twice_is_refused() -> None:
    program = one_operator(Tanh(), TensorType((1, 4), DType.FLOAT32))
    outputs = (*program.outputs, Boundary("out0", "again", (1, 4)))
    assert "returned more than once" in refusal(program.replace(outputs=outputs))


def test_a_program_that_does_not_fit_a_file_is_refused() -> None:
    program = one_operator(Tanh(), TensorType((1, 4), DType.FLOAT32))
    huge = Tensor("huge", (2**31,), DType.INT8, data=np.broadcast_to(np.int8(0), (2**31,)))
    assert "2,147,483,648 bytes" in refusal(program.replace(tensors={**program.tensors, "h": huge}))


def test_every_problem_is_listed() -> None:
    """Twenty of them, and how many more there are."""
    program = one_operator(LayerNorm(1e-5), TensorType((1, 4), DType.FLOAT32))
    names = ["in0", *(f"t{i}" for i in range(29)), "out0"]
    kind = program.tensors["in0"]
    operations = tuple(
        Operation(f"norm{i}", LayerNorm(1e-5), (names[i],), (names[i + 1],)) for i in range(30)
    )
    tensors = {name: replace(kind, name=name) for name in names}
    message = refusal(program.replace(tensors=tensors, operations=operations))
    assert message.count("(layernorm)") == 20
    assert message.endswith("and 10 more")


def test_legal_operations_stay_as_they_are() -> None:
    """Legalisation changes nothing in what a reader yields."""
    program = read(write(network(5)))
    assert legalize(program).operations == program.operations
