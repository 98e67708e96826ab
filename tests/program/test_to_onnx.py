"""Programs as ONNX models: near in ONNX Runtime, the same bits when they are read back."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings

from edgekit.errors import UnsupportedError
from edgekit.model import load
from edgekit.program import tflite
from edgekit.program.fuse import fuse_residual
from edgekit.program.interpret import Interpreter, run
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
from edgekit.program.operators.activation import Clip, Tanh
from edgekit.program.operators.base import OPERATORS, Operator
from edgekit.program.operators.convolution import Conv2D, TransposeConv2D
from edgekit.program.operators.elementwise import Add
from edgekit.program.operators.linear import DynamicFullyConnected
from edgekit.program.operators.movement import Pad, ResizeNearest
from edgekit.program.operators.pooling import AvgPool2D, MaxPool2D
from edgekit.program.operators.quantization import Binarize, Requantize
from edgekit.program.operators.recurrent import Lstm
from edgekit.program.to_onnx import WRITERS, to_onnx
from edgekit.program.to_onnx.write import INT8_ENTRY, written
from edgekit.quantize.static import quantize_static
from tests.cases.case import Case, one_operator, random_array
from tests.support.onnx_cases import OnnxCase
from tests.support.programs import channels_first
from tests.support.quantized import Difference
from tests.support.random_network import random_network
from tests.support.random_onnx import networks
from tests.support.scales import recorded_scales

INT8 = ("kws_dscnn_int8", "ic_resnet8_int8", "vww_96_int8", "ad01_int8")
FLOAT = ("kws_dscnn_fp32", "ic_resnet8_fp32", "vww_96_fp32", "ad01_fp32")

FLOAT_BOUND = 2e-5
"""Largest difference relative to the largest result: another order of summation."""

QUICK = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

LAYER_RATE = 0.004
"""Share of elements in which layers may round otherwise, about twice what is measured."""

AGREEING = {"kws_dscnn_int8": 0.95, "ic_resnet8_int8": 1.0, "vww_96_int8": 1.0, "ad01_int8": 1.0}
"""Share of inputs that get the same class; of the keywords 99 of 100 are measured, the other nets
agreed on all. AD's result is no class: its largest element is compared."""

SAMPLES = {"kws_dscnn_int8": 40, "ic_resnet8_int8": 40, "vww_96_int8": 8, "ad01_int8": 8}
"""Inputs that are classified: many where there are real ones."""

INTEGER_KERNELS = {
    "kws_dscnn_int8": {"QLinearConv": 9, "QLinearAveragePool": 1, "QGemm": 1, "QLinearSoftmax": 1},
    "ic_resnet8_int8": {
        "QLinearConv": 9,
        "QLinearAdd": 3,
        "QLinearAveragePool": 1,
        "QGemm": 1,
        "QLinearSoftmax": 1,
    },
    "vww_96_int8": {"QLinearConv": 27, "QLinearAveragePool": 1, "QGemm": 1, "QLinearSoftmax": 1},
    "ad01_int8": {"QGemm": 10},
}
"""What ONNX Runtime makes of all that computes."""

MODULES = {
    "activation": 148,
    "convolution": 218,
    "elementwise": 182,
    "linear": 98,
    "movement": 135,
    "normalization": 151,
    "pooling": 282,
    "quantization": 54,
}
"""Files of cases, and how many of their cases ONNX can say."""

OTHER_MEANING = (
    *("wrapping", "huge", "saturating", "shift-up"),
    *("softmax-int16", "tanh-int16"),
    "layernorm-int8",
)
"""Cases of integers beyond 32 bits, where Programs wrap or saturate and reals go on; of tables that
are coarser than a step; and of steps far finer than the arithmetic in front of them."""


def run_onnx(model: bytes, feeds: dict[str, Array]) -> dict[str, Array]:
    """ONNX Runtime's results, node by node as written."""
    return run_many(model, [feeds])[0]


def run_many(model: bytes, samples: list[dict[str, Array]]) -> list[dict[str, Array]]:
    """ONNX Runtime's results of several inputs, node by node as written."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return [
        dict(zip(names, session.run(names, {n: np.asarray(x) for n, x in s.items()}), strict=True))
        for s in samples
    ]


def optimized(model: bytes, path: Path) -> Counter[str]:
    """Kinds of nodes after ONNX Runtime's rewrites, as an ARM machine has them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry(INT8_ENTRY, "1")
    onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def layer_differences(program: Program, samples: list[dict[str, Array]]) -> dict[str, Difference]:
    """Every operation's result against ONNX Runtime's on the same inputs, in steps."""
    model, values = written(program)
    proto = onnx.load_from_string(model)
    there = {o.name for o in proto.graph.output} | {i.name for i in proto.graph.input}
    for name, _ in values.values():
        if name not in there:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    exposed = proto.SerializeToString()
    found = {name: Difference() for op in program.operations for name in op.outputs}
    for feeds in samples:
        results = {**feeds, **run_onnx(exposed, feeds)}
        tensors = {n: t.data for n, t in program.tensors.items() if t.data is not None}
        for tensor, (name, order) in values.items():
            tensors[tensor] = results[name].transpose(np.argsort(order))
        for operation in program.operations:
            arguments = [None if n is None else tensors[n] for n in operation.inputs]
            mine = operation.operator.reference(*arguments)
            for name, value in zip(operation.outputs, mine, strict=True):
                found[name].add(value, tensors[name].reshape(value.shape))
    return found


@pytest.mark.needs("onnxruntime", "cc", "litert")
@pytest.mark.parametrize("name", FLOAT)
def test_float_networks(data_folder: Path, name: str) -> None:
    """Within the bound, and the very bits when the model is read back."""
    from tests.test_reference_models import inputs_of, path_of

    program = tflite.read(path_of(data_folder, name), dequantize_weights=True)
    model = to_onnx(program)
    onnx.checker.check_model(model, full_check=True)
    again, straight = Interpreter(lower(load(model))), Interpreter(program)
    for x in inputs_of(data_folder, name, 10)[:3]:
        feeds = {program.inputs[0].name: x}
        want = straight.run(feeds)
        got, back = run_onnx(model, feeds), again.run(feeds)
        for key, value in want.items():
            assert np.abs(got[key] - value).max() <= FLOAT_BOUND * np.abs(value).max()
            np.testing.assert_array_equal(back[key], value)


@pytest.mark.needs("onnxruntime", "cc", "litert")
@pytest.mark.parametrize("name", INT8)
def test_int8_networks(data_folder: Path, name: str) -> None:
    """Layers within a step, hardly ever off; the same classes; the same bits when read back."""
    from tests.test_reference_models import inputs_of, path_of

    program = tflite.read(path_of(data_folder, name))
    model = to_onnx(program)
    onnx.checker.check_model(model, full_check=True)
    key, result = program.inputs[0].name, program.outputs[0].name
    inputs = inputs_of(data_folder, name, SAMPLES[name])
    layers = Difference()
    for layer, difference in layer_differences(program, [{key: x} for x in inputs[:4]]).items():
        assert difference.steps <= 1, f"{layer}: {difference}"
        layers.include(difference)
    assert layers.mismatches <= LAYER_RATE * layers.elements, layers
    straight, again = Interpreter(program), Interpreter(lower(load(model)))
    wanted = [straight.run({key: x})[result] for x in inputs]
    got = run_many(model, [{key: x} for x in inputs])
    agreeing = [g[result].argmax() == w.argmax() for g, w in zip(got, wanted, strict=True)]
    assert np.mean(agreeing) >= AGREEING[name]
    for x, want in zip(inputs[:4], wanted, strict=False):
        np.testing.assert_array_equal(again.run({key: x})[result], want)


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("name", INT8)
def test_integer_kernels_are_used(data_folder: Path, tmp_path: Path, name: str) -> None:
    """Everything that computes becomes an integer kernel; what is left moves elements."""
    program = tflite.read(data_folder / "models" / "mlperf_tiny" / f"{name}.tflite")
    kinds = optimized(to_onnx(program), tmp_path / "optimized.onnx")
    assert kinds - Counter(INTEGER_KERNELS[name]) <= Counter(Transpose=2, Reshape=2)
    assert Counter(INTEGER_KERNELS[name]) <= kinds


@cache
def said(name: str) -> list[tuple[Case, Program, bytes]]:
    """What ONNX can say of a file of cases; the rest is refused by the operation's name."""
    with recorded_scales() as scales:
        cases: list[Case] = importlib.import_module(f"tests.cases.{name}").cases()
    found = []
    for case in cases:
        program = scales.annotated(case.program)
        try:
            found.append((case, program, to_onnx(program)))
        except UnsupportedError as error:
            assert f"op ({program.operations[0].operator.name}): " in str(error), case.id
    return found


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("name", MODULES)
def test_grid(name: str) -> None:
    """Integers within a step, what only moves elements exactly, floats within the bound."""
    for case, program, model in said(name):
        for inputs in case.inputs():
            got = run_onnx(model, inputs)
            for key, want in run(program, inputs).items():
                assert (got[key].dtype, got[key].shape) == (want.dtype, want.shape), case.id
                difference = np.abs(got[key].astype(np.float64) - want).max(initial=0)
                if want.dtype == np.float32:
                    bound = FLOAT_BOUND * max(float(np.abs(want).max(initial=0)), 1e-3)
                elif name == "movement":
                    bound = 0
                else:
                    bound = 1
                if not any(text in case.id for text in OTHER_MEANING):
                    assert difference <= bound, case.id


@pytest.mark.parametrize("name", MODULES)
def test_most_cases_can_be_written(name: str) -> None:
    """As many as counted, none fewer."""
    assert len(said(name)) == MODULES[name]


def test_every_operator_in_the_table_has_a_case() -> None:
    """But those whose cases have no scales, or coded weights; they have tests of their own."""
    seen = {type(case.program.operations[0].operator) for m in MODULES for case, *_ in said(m)}
    assert set(WRITERS) - seen == {Requantize, Binarize, DynamicFullyConnected}
    assert set(WRITERS) <= set(OPERATORS.values())


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize(
    ("x", "y"),
    [(x, y) for x in ("int8", "int16", "int32") for y in ("int8", "int16")],
)
def test_requantize(x: str, y: str) -> None:
    """Between all types that ONNX has, within a step."""
    kinds = DType(x), DType(y)
    scales = [Quantization.per_tensor(0.013, 7 if x == "int8" else 0)]
    scales += [Quantization.per_tensor(0.02, -5 if y == "int8" else 0)]
    operator = Requantize.quantized(x=scales[0], y=scales[1], dtype=kinds[1])
    program = one_operator(operator, TensorType((1, 300), kinds[0]))
    program = with_scales(program, *scales)
    low, high = max(kinds[0].limits[0], -9999), min(kinds[0].limits[1], 9999)
    inputs = {"in0": np.random.default_rng(0).integers(low, high, (1, 300)).astype(x)}
    want, got = run(program, inputs)["out0"], run_onnx(to_onnx(program), inputs)["out0"]
    assert np.abs(want.astype(int) - got).max() <= 1
    assert np.abs(want).max() > 50


@pytest.mark.needs("onnxruntime")
def test_counted_padding_is_zero() -> None:
    """An average that counts its padding, which is the zero point."""
    pool = AvgPool2D((3, 3), (2, 1), (1, 2, 1, 0), (-128, 127), True, A.scalar_zero_point)
    program = with_scales(one_operator(pool, INT8_IMAGE), A, A)
    x = random_array(np.random.default_rng(0), INT8_IMAGE)
    want, got = run(program, {"in0": x})["out0"], run_onnx(to_onnx(program), {"in0": x})["out0"]
    assert np.abs(want.astype(int) - got).max() <= 1


@pytest.mark.needs("onnxruntime")
def test_random_networks() -> None:
    """Layers within a step; read back, the same bits at every output."""
    layers = Difference()
    for seed in range(40):
        program = network(seed)
        if seed % 2:
            program = channels_first(program)
        shape = program.inputs[0].source_shape
        x = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
        feeds = {"x": x}
        if program.inputs[0].permutation is None:
            for layer, difference in layer_differences(program, [feeds]).items():
                assert difference.steps <= 1, f"{seed} {layer}: {difference}"
                layers.include(difference)
        want, again = run(program, feeds), run(lower(load(to_onnx(program))), feeds)
        assert [*again] == [*want]
        for name, value in want.items():
            np.testing.assert_array_equal(again[name], value, f"{seed} {name}")
    assert layers.elements > 10_000
    assert layers.mismatches <= 0.01 * layers.elements, layers


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("quantized", [False, True])
def test_random_onnx_networks(quantized: bool) -> None:
    """Networks that came from ONNX go back there: floats within the bound, layers within a step."""
    layers = Difference()

    @settings(QUICK, max_examples=60)
    @given(networks())
    def one(case: OnnxCase) -> None:
        model = load(case.model)
        if quantized:
            model = quantize_static(model, {"x": np.stack([case.feeds(s)["x"] for s in range(4)])})
        program = lower(model)
        rng = np.random.default_rng(0)
        feeds = {
            b.name: random_array(rng, t.type).reshape(b.source_shape)
            for b, t in zip(program.inputs, program.input_tensors, strict=True)
        }
        want, got = run(program, feeds), run_onnx(to_onnx(program), feeds)
        assert [*got] == [*want]
        for name, value in want.items():
            assert (got[name].dtype, got[name].shape) == (value.dtype, value.shape)
            if not quantized:
                bound = FLOAT_BOUND * max(float(np.abs(value).max(initial=0)), 1e-3)
                assert np.abs(got[name] - value).max(initial=0) <= bound
        if quantized and all(t.dtype.is_integer for t in program.tensors.values()):
            for layer, difference in layer_differences(program, [feeds]).items():
                assert difference.steps <= 1, f"{layer}: {difference}"
                layers.include(difference)

    one()
    assert not quantized or layers.elements > 10_000
    assert layers.mismatches <= 0.01 * layers.elements, layers


def test_images_with_channels_first_need_no_transpose() -> None:
    """Where input and output are NCHW already."""
    x = TensorType((1, 6, 5, 3), DType.FLOAT32)
    weights = ("const", np.ones((2, 3, 3, 3), np.float32))
    program = channels_first(one_operator(Conv2D(clamp=(0.0, 6.0)), x, weights))
    output = Boundary("out0", "out0", (1, 2, 4, 3), (0, 2, 3, 1))
    model = onnx.load_from_string(to_onnx(program.replace(outputs=(output,))))
    assert [node.op_type for node in model.graph.node] == ["Conv", "Clip"]


def test_boundaries_keep_names_shapes_and_types() -> None:
    """Integers go in and out."""
    model = onnx.load_from_string(to_onnx(channels_first(network(0))))
    (fed,) = model.graph.input
    assert fed.name == "x"
    assert [d.dim_value for d in fed.type.tensor_type.shape.dim] == [1, 3, 7, 6]
    assert fed.type.tensor_type.elem_type == onnx.TensorProto.INT8
    assert [o.name for o in model.graph.output] == ["scores", "features"]
    assert model.producer_name == "edgekit"


@pytest.mark.needs("onnxruntime")
def test_boundaries_of_another_rank() -> None:
    """A source of NCW whose Program has an image."""
    program = one_operator(Tanh(), TensorType((1, 1, 4, 3), DType.FLOAT32))
    program = program.replace(
        inputs=(Boundary("in0", "x", (1, 3, 4), (0, 2, 1)),),
        outputs=(Boundary("out0", "y", (1, 3, 4), (0, 2, 1)),),
    )
    x = np.random.default_rng(0).standard_normal((1, 3, 4)).astype(np.float32)
    got = run_onnx(to_onnx(program), {"x": x})["y"]
    np.testing.assert_allclose(got, run(program, {"x": x})["y"], rtol=1e-6)


@pytest.mark.needs("onnxruntime")
def test_an_input_that_is_returned() -> None:
    program = one_operator(Tanh(), TensorType((1, 4), DType.FLOAT32))
    program = program.replace(outputs=(*program.outputs, Boundary("in0", "copy", (1, 4))))
    x = np.float32([[1, 2, 3, 4]])
    np.testing.assert_array_equal(run_onnx(to_onnx(program), {"in0": x})["copy"], x)


@pytest.mark.needs("onnxruntime")
def test_operands_of_lower_rank_broadcast_over_images() -> None:
    """Constant and computed ones, beside a convolution that made the image channels first."""
    shape = (1, 6, 5, 3)
    program = one_operator(Conv2D(), TensorType(shape, DType.FLOAT32), ("const", WEIGHTS))
    rows = Tensor("rows", (4, 1, 1), DType.FLOAT32)
    channels = Tensor.constant("channels", np.float32([1, -2]))
    like = program.tensors["out0"]
    tensors = {**program.tensors, "rows": rows, "channels": channels}
    tensors |= {name: replace(like, name=name) for name in ("sum", "total")}
    program = program.replace(
        tensors=tensors,
        operations=(
            *program.operations,
            Operation("add rows", Add(), ("out0", "rows"), ("sum",)),
            Operation("add channels", Add(), ("channels", "sum"), ("total",)),
        ),
        inputs=(*program.inputs, Boundary("rows", "rows", (4, 1, 1))),
        outputs=(Boundary("total", "total", like.shape),),
    )
    rng = np.random.default_rng(0)
    feeds = {b.name: random_array(rng, program.tensors[b.tensor].type) for b in program.inputs}
    want = run(program, feeds)["total"]
    got = run_onnx(to_onnx(program), feeds)["total"]
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_bytes_do_not_depend_on_the_run() -> None:
    assert to_onnx(network(3)) == to_onnx(network(3))


def network(seed: int) -> Program:
    """A random int8 network with the scales of its weights."""
    with recorded_scales() as scales:
        program = random_network(seed)
    return scales.annotated(program)


def with_scales(program: Program, *quantizations: Quantization) -> Program:
    """The Program with quantisations at its fed, then its returned tensors."""
    tensors = dict(program.tensors)
    boundaries = (*program.inputs, *program.outputs)
    for boundary, quantization in zip(boundaries, quantizations, strict=True):
        tensors[boundary.tensor] = replace(tensors[boundary.tensor], quantization=quantization)
    return program.replace(tensors=tensors)


WEIGHTS = np.ones((2, 3, 3, 3), np.float32)
IMAGE = TensorType((1, 5, 5, 3), DType.FLOAT32)
INT8_IMAGE = TensorType((1, 5, 5, 3), DType.INT8)
SYMMETRIC = Quantization.per_tensor(0.5)
A, B = Quantization.per_tensor(0.05, 3), Quantization.per_tensor(0.05, 4)


def one(
    operator: Operator, *inputs: object, scales: tuple[Quantization, ...] = ()
) -> Callable[[], Program]:
    """A function that makes a Program of one operator."""

    def make() -> Program:
        program = one_operator(operator, *inputs)  # type: ignore[arg-type]
        return with_scales(program, *scales) if scales else program

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            one(
                Lstm(),
                TensorType((5, 1, 4), DType.FLOAT32),
                TensorType((12, 4), DType.FLOAT32),
                TensorType((12, 3), DType.FLOAT32),
            ),
            r"op \(lstm\): has no form there; those that have are add, argmax",
        ),
        (
            one(Clip((-128, 127)), INT8_IMAGE),
            r"op \(clip\): 'in0' is int8 without scale and zero point",
        ),
        (
            one(MaxPool2D((2, 2), (1, 1), clamp=(-128, 127)), INT8_IMAGE, scales=(A, B)),
            "differ in scale or zero point",
        ),
        (
            one(
                AvgPool2D((2, 2), (1, 1), (1, 0, 0, 0), (-128, 127), True, 7),
                INT8_IMAGE,
                scales=(A, A),
            ),
            "its padding is 7, which is not 0 in 'in0'",
        ),
        (one(Requantize.quantized(x=A, y=A), INT8_IMAGE, scales=(A, B)), "its y_zero_point is not"),
        (
            one(
                Requantize.quantized(x=SYMMETRIC, y=SYMMETRIC, dtype=DType.INT32),
                TensorType((4,), DType.INT16),
                scales=(SYMMETRIC, SYMMETRIC),
            ),
            "QuantizeLinear gives no int32",
        ),
        (one(Conv2D(), IMAGE, TensorType((2, 3, 3, 3), DType.FLOAT32)), "are computed, must be"),
        (
            one(TransposeConv2D(output_padding=(1, 0)), IMAGE, ("const", WEIGHTS)),
            "output padding",
        ),
        (one(Pad(((1, 1),)), TensorType((4,), DType.INT16)), "Pad takes no int16"),
        (
            one(ResizeNearest((2, 2), True, True), IMAGE),
            "aligns corners and measures from centres",
        ),
    ],
)
def test_refusals(make: Callable[[], Program], message: str) -> None:
    """The operation is named, with the reason."""
    with pytest.raises(UnsupportedError, match=message):
        to_onnx(make())


def test_weights_without_scales_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="are int8 without scales"):
        to_onnx(random_network(0))


def test_a_factor_that_the_scales_do_not_give_is_refused() -> None:
    program = network(0)
    scores = program.output_tensors[0]
    assert scores.quantization is not None
    changed = Quantization.per_tensor(
        scores.quantization.scalar_scale * 1.01, scores.quantization.scalar_zero_point
    )
    tensors = {**program.tensors, scores.name: replace(scores, quantization=changed)}
    with pytest.raises(UnsupportedError, match=r"\(fully_connected\): its requant is not what"):
        to_onnx(program.replace(tensors=tensors))


def test_fused_residuals_are_refused() -> None:
    program, changed = fuse_residual(network(0))
    assert changed
    with pytest.raises(UnsupportedError, match="as it was before fuse_residual"):
        to_onnx(program)


def test_state_is_refused() -> None:
    program = one_operator(Tanh(), TensorType((1, 4), DType.FLOAT32))
    tensors = {**program.tensors, "h": Tensor("h", (1, 4), DType.FLOAT32)}
    with pytest.raises(UnsupportedError, match="state 'h'"):
        to_onnx(program.replace(tensors=tensors, state=(State("h", "out0"),)))


def test_an_input_and_an_output_of_one_name_are_refused() -> None:
    program = one_operator(Tanh(), TensorType((1, 4), DType.FLOAT32))
    with pytest.raises(UnsupportedError, match="'in0' is an input and an output"):
        to_onnx(program.replace(outputs=(Boundary("out0", "in0", (1, 4)),)))
