"""Coded weights on their way to a Program, beside ONNX Runtime on the Model itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.formats import ELEMENTS, Format
from edgekit.model import load
from edgekit.model.domain import attach_functions
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import DType, Program, Quantization
from edgekit.program.lowering import coded, lower, lower_noted
from edgekit.program.lowering.value import Blocks, Weights
from edgekit.quantize.static import quantize_static
from tests.support.coded_models import KERNELS, differing_rate, layer, samples, with_coded
from tests.support.onnx_models import OnnxBuilder, run_onnx
from tests.support.quantized import Difference, compare

pytestmark = pytest.mark.needs("onnxruntime")

GROUPED = ("int4-g8", "int8-g16", "fp4-e2m1-g16", "fp6-e2m3-g8", "shift3-g8", "mxfp4", "nvfp4")
GROUPED += ("int4-g1", "int3-g2", "fp4-e2m1-g3")


def weighted(program: Program) -> Any:
    """The only operation with coded weights."""
    (found,) = (op for op in program.operations if getattr(op.operator, "coding", None))
    return found


def assert_close(program: Program, found: Difference) -> None:
    rate = differing_rate(weighted(program).operator.requant)
    assert found.steps <= 1, str(found)
    assert found.mismatches <= rate * found.elements, str(found)


@pytest.mark.parametrize("kind", list(KERNELS))
@pytest.mark.parametrize("name", [n for n in ELEMENTS if n != "int8"] + list(GROUPED))
def test_every_format_in_every_layer(name: str, kind: str) -> None:
    """The Program holds the format's own integers, scales and factors, and computes the Model."""
    fmt = Format.parse(name)
    model, (want,) = with_coded(layer(kind), fmt)
    program = lower(model)
    operation = weighted(program)
    coding = operation.operator.coding
    tensors = dict(zip(operation.operator.inputs, operation.inputs, strict=False))
    w = program.tensors[tensors["w"]]
    assert coding.element == fmt.element.name
    assert w.data is not None and w.data.dtype == fmt.element.dtype
    assert np.array_equal(operation.operator.weight_rows(w.data), want.integers)
    assert w.quantization is not None
    rows = want.integers.shape[0]
    assert np.array_equal(
        np.broadcast_to(np.float32(w.quantization.scale), rows), np.broadcast_to(want.scale, rows)
    )
    if want.factors is not None and want.factors.shape[1] > 1:
        stored = program.tensors[tensors["factors?"]].data
        assert coding.factors == fmt.factors
        assert np.array_equal(stored, want.factors)
    found = compare(program, model.to_bytes(), samples(kind))
    assert_close(program, found)


@pytest.mark.parametrize("kind", list(KERNELS))
def test_int8_stays_plain(kind: str) -> None:
    """int8 with one scale per channel is the operator that has always been there."""
    model, (want,) = with_coded(layer(kind), Format.parse("int8"))
    program = lower(model)
    (operation,) = (op for op in program.operations if not op.operator.alias)
    assert operation.operator.coding is None
    data = program.tensors[operation.inputs[1] or ""].data
    assert data is not None
    assert np.array_equal(operation.operator.weight_rows(data), want.integers)
    assert compare(program, model.to_bytes(), samples(kind)).steps <= 1


def test_the_accumulator_follows_the_bound() -> None:
    """int32 where every total fits, the bias included; int64 with a bias in it where not."""
    narrow, _ = with_coded(layer("dense"), Format.parse("int4"))
    wide, _ = with_coded(layer("dense"), Format.parse("nvfp4"))
    for model, dtype in ((narrow, DType.INT32), (wide, DType.INT64)):
        program = lower(model)
        operation = weighted(program)
        assert operation.operator.coding.accumulator is dtype
        assert program.tensors[operation.inputs[2]].dtype is dtype


def test_totals_that_nothing_holds_are_refused() -> None:
    """E5M2 in groups: 40 integers of 32 bits, each times a factor of 255, exceed 2**53 / 255."""
    b = OnnxBuilder()
    x = b.quantize(b.input("x", (1, 40)), 0.03, 0)
    y = b.node("Gemm", x, b.constant(np.ones((2, 40), np.float32)), name="layer", transB=1)
    b.output(b.quantize(y, 0.1, 0))
    model, _ = with_coded(b, Format.parse("fp8-e5m2-g8"))
    with pytest.raises(UnsupportedError, match=r"fp8-e5m2 weights may reach .* within 2\*\*53"):
        lower(model)


# Order of groups


def flattened(fmt: Format) -> tuple[Any, list[Any]]:
    """A quantised image, flattened as NCHW behind a convolution, and a dense layer."""
    rng = np.random.default_rng(4)
    b = OnnxBuilder()
    x = b.quantize(b.input("x", (1, 4, 6, 6)), 0.03, 0)
    kernel = b.constant(rng.normal(0, 0.3, (8, 4, 3, 3)).astype(np.float32))
    y = b.quantize(b.node("Conv", x, kernel, name="conv"), 0.1, 0)
    matrix = b.constant(rng.normal(0, 0.3, (5, 8 * 16)).astype(np.float32))
    y = b.node("Gemm", b.node("Flatten", y), matrix, name="dense", transB=1)
    b.output(b.quantize(y, 0.5, 0))
    return with_coded(b, fmt, "conv", "dense")


@pytest.mark.parametrize("name", ["int4", "int4-g8"])
def test_flattened_images(name: str) -> None:
    """Groups keep the source's order behind a transposed input; rows alone may be permuted."""
    model, (_, dense) = flattened(Format.parse(name))
    program = lower(model)
    kinds = [op.operator.name for op in program.operations]
    assert ("transpose" in kinds) == (name != "int4")
    operation = program.operations[-1]
    stored = program.tensors[operation.inputs[1] or ""].data
    assert stored is not None
    assert np.array_equal(stored, dense.integers) == (name != "int4")
    assert np.array_equal(np.sort(stored, axis=1), np.sort(dense.integers, axis=1))
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(0, 1, (1, 4, 6, 6)).astype(np.float32)} for _ in range(3)]
    # Two layers: a step of the first is a tenth of one of the second times its weights.
    assert compare(program, model.to_bytes(), feeds).steps <= 2


def test_matmul_reads_columns_as_rows() -> None:
    """Coded rows behind a Transpose, with the bias that an Add has, on three axes."""
    rng = np.random.default_rng(2)
    b = OnnxBuilder()
    x = b.quantize(b.input("x", (1, 4, 32)), 0.03, 0)
    w = b.constant(rng.normal(0, 0.3, (32, 6)).astype(np.float32))
    y = b.node("Add", b.node("MatMul", x, w, name="layer"), b.constant(np.ones(6, np.float32)))
    b.output(b.quantize(y, 0.1, 0))
    model, _ = with_coded(b, Format.parse("int4-g16"))
    program = lower(model)
    assert weighted(program).operator.coding.group == 16
    feeds = [{"x": rng.normal(0, 1, (1, 4, 32)).astype(np.float32)} for _ in range(3)]
    assert_close(program, compare(program, model.to_bytes(), feeds))


# Standard ONNX types


def standard(
    dtype: int,
    *,
    axis: int,
    block: int = 0,
    zero_point: int = 0,
    opset: int = 25,
    even: bool = False,
) -> bytes:
    """A MatMul whose weights [K,N] stand behind DequantizeLinear of a narrow type."""
    rng = np.random.default_rng(7)
    half = {TensorProto.INT2: 2, TensorProto.UINT2: 2, TensorProto.INT8: 100}.get(dtype, 8)
    columns, outputs = 48, 6
    b = OnnxBuilder(25)
    x = b.quantize(b.input("x", (2, columns)), 0.03, 3)
    integers = rng.integers(-half, half, (columns, outputs)) + (zero_point and half)
    shape: tuple[int, ...] = () if axis < 0 else ((columns, outputs)[axis],)
    if block:
        shape = tuple(-(-d // block) if a == axis else d for a, d in enumerate((columns, outputs)))
    scale = rng.uniform(0.01, 0.05, shape).astype(np.float32)
    if even:
        scale = (rng.integers(1, 256, shape) * np.float32(2**-12)).astype(np.float32)
        scale[0] = 255 * np.float32(2**-12)
    b.initializers.append(
        helper.make_tensor("codes", dtype, integers.shape, integers.reshape(-1).tolist())
    )
    inputs = ["codes", b.constant(scale)]
    if zero_point:
        points = [zero_point] * scale.size
        b.initializers.append(helper.make_tensor("points", dtype, scale.shape, points))
        inputs.append("points")
    attributes = {"axis": axis} if axis >= 0 else {}
    if block:
        attributes["block_size"] = block
    w = b.node("DequantizeLinear", *inputs, **attributes)
    b.output(b.quantize(b.node("MatMul", x, w, name="layer"), 0.25, 0))
    proto = b.proto()
    proto.ir_version = 13
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    ("dtype", "element", "axis", "block", "zero_point"),
    [
        (TensorProto.INT4, "int4", -1, 0, 0),
        (TensorProto.INT4, "int4", 1, 0, 0),
        (TensorProto.INT4, "int4", 0, 16, 0),
        (TensorProto.UINT4, "int4", 1, 0, 8),
        (TensorProto.UINT4, "int4", 0, 32, 8),
        (TensorProto.INT2, "int2", 1, 0, 0),
        (TensorProto.INT2, "int2", 0, 8, 0),
        (TensorProto.UINT2, "int2", 0, 16, 2),
        (TensorProto.INT8, "int8", 0, 16, 0),
    ],
)
def test_standard_types(dtype: int, element: str, axis: int, block: int, zero_point: int) -> None:
    """INT4, UINT4, INT2 and UINT2 per tensor, per channel and in blocks; int8 in blocks."""
    data = standard(dtype, axis=axis, block=block, zero_point=zero_point, even=bool(block))
    lowered = lower_noted(load(data))
    coding = weighted(lowered.program).operator.coding
    assert (coding.element, coding.group) == (element, block)
    assert not lowered.notes
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(0, 1.5, (2, 48)).astype(np.float32)} for _ in range(4)]
    assert_close(lowered.program, compare(lowered.program, data, feeds))


def test_scales_of_blocks_become_factors_and_that_is_said() -> None:
    """Real scales move to 255ths of a row's largest; the note says by how much weights moved."""
    data = standard(TensorProto.INT4, axis=0, block=16)
    lowered = lower_noted(load(data))
    (note,) = lowered.notes
    assert "multiples of 1/255 of the largest of their channel" in note
    operation = weighted(lowered.program)
    factors = lowered.program.tensors[operation.inputs[3]].data
    assert factors is not None
    assert factors.max(axis=1).tolist() == [255] * 6


def test_notes_are_logged_where_nobody_asks_for_them(caplog: pytest.LogCaptureFixture) -> None:
    model = load(standard(TensorProto.INT4, axis=0, block=16))
    lowered = lower_noted(model)
    assert not caplog.records
    lower(model)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("edgekit", "WARNING")
    assert lowered.notes[0] in record.getMessage()


@pytest.mark.parametrize(("axis", "block", "group"), [(0, 1, 1), (0, 2, 2), (0, 3, 3), (1, 4, 1)])
def test_short_groups_run_packed(axis: int, block: int, group: int) -> None:
    """Blocks along the outputs are groups of one: their scales change with every weight."""
    data = standard(TensorProto.INT4, axis=axis, block=block)
    program = lower(load(data))
    operation = weighted(program)
    assert operation.operator.coding.group == group
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(0, 1.5, (2, 48)).astype(np.float32)} for _ in range(4)]
    found = compare(program, data, feeds)
    # Factors move weights by a 50th part of their step, so sums move by a little of an output's.
    assert found.steps <= 1, str(found)
    assert found.mismatches <= 0.1 * found.elements, str(found)


def test_a_zero_point_stays_in_float() -> None:
    data = standard(TensorProto.UINT4, axis=1, zero_point=7)
    with pytest.raises(UnsupportedError, match="its weights have zero points that are not 8"):
        lower(load(data))


@pytest.mark.parametrize("name", ["int4", "ternary", "fp4-e2m1-g8"])
def test_activations_are_calibrated_around_coded_weights(name: str) -> None:
    """A model that quantises its weights alone gets int8 activations, and keeps the weights."""
    rng = np.random.default_rng(0)
    b = OnnxBuilder()
    w = b.constant(rng.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32))
    y = b.node("Relu", b.node("Conv", b.input("x", (1, 3, 8, 8)), w, name="conv"))
    w = b.constant(rng.normal(0, 0.3, (4, 6)).astype(np.float32))
    y = b.node("Flatten", b.node("GlobalAveragePool", y))
    b.output(b.node("Gemm", y, w, name="dense", transB=1))
    model, coded_weights = with_coded(b, Format.parse(name), "conv", "dense")
    data = {"x": rng.normal(0, 1, (8, 3, 8, 8)).astype(np.float32)}
    program = lower(quantize_static(model, data))
    kinds = [op.operator.name for op in program.operations if not op.operator.alias]
    assert kinds == ["conv_2d", "mean", "fully_connected"]
    packed = [op for op in program.operations if getattr(op.operator, "coding", None)]
    for operation, want in zip(packed, coded_weights, strict=True):
        stored = program.tensors[operation.inputs[1] or ""].data
        assert stored is not None
        assert np.array_equal(operation.operator.weight_rows(stored), want.integers)


# What cannot run packed


def int4(b: OnnxBuilder, shape: tuple[int, ...], scale: np.ndarray, axis: int) -> str:
    """An INT4 constant behind DequantizeLinear."""
    integers = np.random.default_rng(3).integers(-7, 8, shape)
    name = f"int4_{len(b.initializers)}"
    b.initializers.append(
        helper.make_tensor(name, TensorProto.INT4, shape, integers.reshape(-1).tolist())
    )
    return b.node("DequantizeLinear", name, b.constant(scale), axis=axis)


def transposed() -> OnnxBuilder:
    b = OnnxBuilder()
    x = b.quantize(b.input("x", (1, 4, 5, 5)), 0.03, 0)
    w = int4(b, (4, 3, 2, 2), np.float32([0.1, 0.2, 0.05]), axis=1)
    b.output(b.quantize(b.node("ConvTranspose", x, w, name="layer"), 0.1, 0))
    return b


def recurrent() -> OnnxBuilder:
    b = OnnxBuilder()
    x = b.quantize(b.input("x", (5, 1, 3)), 0.03, 0)
    scale = np.linspace(0.02, 0.05, 16, dtype=np.float32)
    w, r = (b.node("Unsqueeze", int4(b, (16, k), scale, 0), b.constant([0])) for k in (3, 4))
    h = b.node("LSTM", x, w, r, name="layer", hidden_size=4)
    b.output(b.quantize(h, 1 / 128, 0))
    return b


@pytest.mark.parametrize("make", [transposed, recurrent])
def test_operators_without_packed_kernels(make: Callable[[], OnnxBuilder]) -> None:
    """Refused by name, with what can run; as int8 where that is allowed, to the same values."""
    model = load(make().build())
    message = r"node 'layer': its int4 weights would be stored as int8; packed .* Conv, Gemm and M"
    with pytest.raises(UnsupportedError, match=message):
        lower(model)
    program = lower(model, allow_fallback=True)
    assert not any(t.dtype is DType.FLOAT32 for t in program.tensors.values())
    shape = tuple(program.inputs[0].source_shape)
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(0, 1, shape).astype(np.float32)} for _ in range(3)]
    assert compare(program, model.to_bytes(), feeds).steps <= 1


def test_groups_in_a_transposed_convolution_are_float() -> None:
    b = OnnxBuilder()
    x = b.quantize(b.input("x", (1, 16, 3, 3)), 0.03, 0)
    integers = np.ones((16, 3, 2, 2), np.int8)
    scale = np.full((2, 3, 2, 2), 0.1, np.float32)
    scale[1] = 0.2
    stored = b.constant(integers), b.constant(scale)
    w = b.node("DequantizeLinear", *stored, axis=0, block_size=8)
    b.output(b.quantize(b.node("ConvTranspose", x, w, name="layer"), 0.1, 0))
    with pytest.raises(UnsupportedError, match="int8 weights can be packed for Conv, Gemm and Mat"):
        lower(load(b.build()))
    program = lower(load(b.build()), allow_fallback=True)
    feeds = [{"x": np.random.default_rng(0).normal(0, 1, (1, 16, 3, 3)).astype(np.float32)}]
    assert compare(program, b.build(), feeds).steps <= 1


@pytest.mark.parametrize(
    ("quantised", "reason"),
    [("output", "its input is not quantised"), ("input", "its result is not quantised")],
)
def test_float_beside_coded_weights(quantised: str, reason: str) -> None:
    b = OnnxBuilder()
    x = b.input("x", (2, 12))
    if quantised == "input":
        x = b.quantize(x, 0.03, 0)
    w = np.random.default_rng(0).normal(0, 0.3, (5, 12)).astype(np.float32)
    y = b.node("Gemm", x, b.constant(w), name="layer", transB=1)
    b.output(b.quantize(y, 0.1, 0) if quantised == "output" else b.node("Tanh", y))
    model, _ = with_coded(b, Format.parse("int4-g8"))
    with pytest.raises(UnsupportedError, match=reason):
        lower(model)
    program = lower(model, allow_fallback=True)
    assert "fully_connected" in [op.operator.name for op in program.operations]


# Dynamic and binary activations


def dynamic(name: str) -> Any:
    """Layer normalisation and two dynamically quantised products, one behind a Relu."""
    rng = np.random.default_rng(5)
    b = OnnxBuilder()
    x = b.input("x", (1, 6, 32))
    x = b.node("LayerNormalization", x, b.constant(np.ones(32, np.float32)), name="norm")
    x = b.node("DynamicQuantizeDequantize", x, domain="edgekit", floor=1e-5)
    w = b.constant(rng.normal(0, 0.2, (32, 16)).astype(np.float32))
    y = b.node("Add", b.node("MatMul", x, w, name="first"), b.constant(np.ones(16, np.float32)))
    y = b.node("DynamicQuantizeDequantize", b.node("Relu", y), domain="edgekit")
    w = b.constant(rng.normal(0, 0.2, (16, 4)).astype(np.float32))
    b.output(b.node("MatMul", y, w, name="second"))
    return with_coded(b, Format.parse(name), "first", "second")[0]


@pytest.mark.parametrize("name", ["int8", "ternary", "int4-g8", "nvfp4", "fp8-e5m2"])
def test_dynamic_activations(name: str) -> None:
    """Products of codes, float between them by design: no fallback, but a note that says so."""
    model = dynamic(name)
    lowered = lower_noted(model)
    kinds = [op.operator.name for op in lowered.program.operations]
    product = ["dynamic_quantize", "dynamic_fully_connected"]
    assert kinds == ["layernorm", *product, "clip", *product]
    assert lowered.notes[0].endswith("it computes in float32: clip, layernorm")
    rng = np.random.default_rng(1)
    feeds = [{"x": rng.normal(0, 2, (1, 6, 32)).astype(np.float32)} for _ in range(3)]
    for sample in feeds:
        (want,) = run_onnx(model.to_bytes(), sample).values()
        (got,) = Interpreter(lowered.program).run(sample).values()
        # A code that a last bit of the normalisation moves is worth a 127th of a row's largest.
        assert np.abs(got - want).max() <= 0.02 * np.abs(want).max()
        assert np.median(np.abs(got - want)) <= 1e-5 * np.abs(want).max()


def test_other_readers_of_dynamic_values_get_reals() -> None:
    b = OnnxBuilder()
    x = b.node("DynamicQuantizeDequantize", b.input("x", (3, 8)), domain="edgekit")
    b.output(b.node("Tanh", x))
    model, _ = with_coded_nothing(b)
    program = lower(model)
    sample = {"x": np.random.default_rng(0).normal(0, 1, (3, 8)).astype(np.float32)}
    (want,) = run_onnx(model.to_bytes(), sample).values()
    (got,) = Interpreter(program).run(sample).values()
    assert np.abs(got - want).max() <= 1e-6


def test_dynamic_products_that_stay_in_float_are_errors() -> None:
    """Float weights of a dynamic product were to be quantised, and are not."""
    b = OnnxBuilder()
    x = b.node("DynamicQuantizeDequantize", b.input("x", (3, 8)), domain="edgekit")
    b.output(b.node("MatMul", x, b.constant(np.ones((8, 2), np.float32)), name="layer"))
    model, _ = with_coded_nothing(b)
    with pytest.raises(UnsupportedError, match=r"layer.*: its weights are not quantised"):
        lower(model)
    assert lower(model, allow_fallback=True).operations


@pytest.mark.parametrize("name", ["binary", "ternary", "int4-g8"])
def test_binary_activations(name: str) -> None:
    """Signs of quantised values; every sum is small, so nothing but halves can differ."""
    rng = np.random.default_rng(6)
    b = OnnxBuilder()
    x = b.quantize(b.input("x", (1, 8, 6, 6)), 0.03, -4)
    x = b.node("Binarize", x, b.constant(np.float32(0.5)), domain="edgekit")
    w = b.constant(rng.normal(0, 0.3, (6, 8, 3, 3)).astype(np.float32))
    y = b.quantize(b.node("Conv", x, w, name="layer", pads=[1] * 4), 0.05, 9)
    y = b.node("Binarize", y, b.constant(np.float32([2.0])), domain="edgekit")
    b.output(b.quantize(b.node("Flatten", y), 2.0, 0))
    model, _ = with_coded(b, Format.parse(name))
    program = lower(model)
    kinds = [op.operator.name for op in program.operations if not op.operator.alias]
    assert kinds[:3] == ["binarize", "conv_2d", "binarize"]
    feeds = [{"x": rng.normal(0, 1, (1, 8, 6, 6)).astype(np.float32)} for _ in range(4)]
    found = compare(program, model.to_bytes(), feeds)
    # A sign differs where the convolution rounds across zero only.
    assert found.mismatches <= 0.03 * found.elements, str(found)


def test_binarize_needs_a_quantised_input() -> None:
    b = OnnxBuilder()
    scale = b.constant(np.float32(1))
    b.output(b.node("Binarize", b.input("x", (1, 4)), scale, domain="edgekit", name="sign"))
    model, _ = with_coded_nothing(b)
    with pytest.raises(UnsupportedError, match="edgekit.Binarize node 'sign': its input must be"):
        lower(model)


@pytest.mark.parametrize("scale", [2.0**-121, 0.0, -1.0])
def test_binarize_needs_a_scale_that_divides(scale: float) -> None:
    b = OnnxBuilder()
    x = b.quantize(b.input("x", (1, 4)), 0.1, 0)
    y = b.node("Binarize", x, b.constant(np.float32(scale)), domain="edgekit", name="sign")
    b.output(b.quantize(y, 1.0, 0))
    model, _ = with_coded_nothing(b)
    with pytest.raises(InvalidModelError, match="'sign'.*the scale must be one constant"):
        lower(model)


def test_biases_behind_signs_are_fine() -> None:
    """A sign is 64, so that biases are stored in 64ths of what one sign times a weight is worth."""
    rng = np.random.default_rng(8)
    b = OnnxBuilder()
    x = b.quantize(b.input("x", (1, 24)), 0.03, 0)
    x = b.node("Binarize", x, b.constant(np.float32(0.8)), domain="edgekit")
    w = b.constant(rng.normal(0, 0.3, (6, 24)).astype(np.float32))
    bias = rng.normal(0, 0.2, 6).astype(np.float32)
    b.output(b.quantize(b.node("Gemm", x, w, b.constant(bias), name="layer", transB=1), 0.004, 0))
    model, _ = with_coded(b, Format.parse("binary"))
    program = lower(model)
    operation = weighted(program)
    stored = program.tensors[operation.inputs[2]]
    assert stored.quantization is not None
    assert stored.data is not None
    real = stored.data * np.array(stored.quantization.scale)
    assert np.abs(real - bias).max() <= 0.5 * max(stored.quantization.scale)
    assert max(stored.quantization.scale) < 0.004 < 64 * min(stored.quantization.scale)
    feeds = [{"x": rng.normal(0, 1, (1, 24)).astype(np.float32)} for _ in range(30)]
    found = compare(program, model.to_bytes(), feeds)
    # Half a bias step is 0.05 steps of the output and more, which rounding may see.
    assert found.steps <= 1, str(found)
    assert found.mismatches <= 0.15 * found.elements, str(found)


def with_coded_nothing(b: OnnxBuilder) -> Any:
    """The built model with the definitions of our operators."""
    model = load(b.build())
    ir, _ = attach_functions(model.ir)
    return model.with_ir(ir), None


# Rows


def blocked(index: list[list[int]], scale: list[float], factor: list[int] | None = None) -> Weights:
    integers = np.ones((len(index), len(index[0])), np.int8)
    factors = None if factor is None else np.int32(factor)
    kind = "none" if factor is None else "uint8"
    return Weights(
        integers, blocks=Blocks("int4", np.int32(index), np.float32(scale), factors, kind)
    )


def test_rows_find_the_length_of_groups() -> None:
    """The longest length that every border is a multiple of; the last group is shorter."""
    weights = blocked([[0] * 4 + [1] * 8 + [2] * 3], [1.0, 1.0, 1.0], [1, 2, 3])
    rows = coded.rows_of(weights)
    assert rows.group == 4
    assert rows.factors is not None
    assert rows.factors.tolist() == [[1, 2, 2, 3]]


def test_equal_scales_need_no_factors() -> None:
    rows = coded.rows_of(blocked([[0] * 4 + [1] * 4, [2] * 8], [0.5, 0.5, 0.5]))
    assert rows.factors is None
    assert rows.scale == Quantization.per_tensor(0.5)


def test_factors_of_rows_with_several_scales_are_refused() -> None:
    weights = blocked([[0] * 4 + [1] * 4], [0.5, 0.25], [1, 2])
    with pytest.raises(UnsupportedError, match="the groups run along another axis than the sum"):
        coded.rows_of(weights)


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [
        ([1.0, 1e-4, 1e-4, 1e-4], "1e\\+04 to 1"),
        ([255.0, 6.4], "39.84 to 1"),
        ([1e-44, 2e-44], "2 to 1"),
        ([3e38, 1e-45], "2.141e\\+83 to 1"),
    ],
)
def test_scales_that_factors_cannot_stand_for(scale: list[float], ratio: str) -> None:
    """Far apart, or too small for a normal float32: said with how far weights would move."""
    index = [[number for number in range(len(scale)) for _ in range(4)]]
    weights = blocked(index, scale)
    weights.data[:] = 7
    with pytest.raises(UnsupportedError, match=rf"{ratio}.*weights move by up to .*5% at most"):
        coded.rows_of(weights)


def test_integers_round_to_the_step_that_their_group_gets() -> None:
    """Half a step of the new ones at most; the note says the largest move."""
    rng = np.random.default_rng(0)
    scale = np.float32([1.0, 0.0514, 0.3])
    integers = rng.integers(-128, 128, (1, 24)).astype(np.int8)
    weights = blocked([[0] * 8 + [1] * 8 + [2] * 8], scale.tolist())
    weights = Weights(integers, blocks=replace(weights.blocks, element="int8"))
    rows = coded.rows_of(weights)
    assert rows.factors is not None
    assert rows.factors.tolist() == [[255, 13, 76]]
    real = integers[0] * np.repeat(scale.astype(np.float64), 8)
    step = np.repeat(rows.factors[0] * rows.scale.scalar_scale, 8)
    moved = np.abs(rows.integers[0] * step - real)
    saturated = np.abs(rows.integers[0].astype(int)) >= 127
    assert (moved[~saturated] <= step[~saturated] * 0.501).all()
    assert not np.array_equal(rows.integers, integers)
    largest = max(moved[i : i + 8].max() / np.abs(real[i : i + 8]).max() for i in (0, 8, 16))
    assert f"moved by up to {largest:.2%} of their group's largest" in rows.note
    assert moved.sum() < np.abs(integers[0] * step - real).sum()


def test_a_changed_integer_reaches_the_program() -> None:
    """In a convolution, whose weights lie otherwise than rows, and in a product."""
    rng = np.random.default_rng(1)
    b = OnnxBuilder()
    x = b.quantize(b.input("x", (1, 8, 4, 4)), 0.03, 0)
    integers = rng.integers(-128, 128, (3, 8, 2, 2)).astype(np.int8)
    scale = np.float32([0.01, 0.0007])[None, :, None, None] * np.ones((3, 1, 2, 2), np.float32)
    w = b.node("DequantizeLinear", b.constant(integers), b.constant(scale), axis=1, block_size=4)
    b.output(b.quantize(b.node("Conv", x, w, name="layer"), 0.1, 0))
    program = lower(load(b.build()))
    operation = weighted(program)
    stored = program.tensors[operation.inputs[1] or ""].data
    assert stored is not None
    kept = integers.transpose(0, 2, 3, 1)
    assert np.array_equal(stored[..., :4], kept[..., :4])
    assert not np.array_equal(stored[..., 4:], kept[..., 4:])
    assert np.abs(stored[..., 4:].astype(int) - kept[..., 4:]).max() <= 3
    feeds = [{"x": rng.normal(0, 1.5, (1, 8, 4, 4)).astype(np.float32)} for _ in range(4)]
    assert compare(program, b.build(), feeds).steps <= 1


def test_totals_that_single_rounding_would_wrap_get_int64() -> None:
    """A convolution of one pixel is the product that a dense layer is, however odd its scales."""
    rng = np.random.default_rng(2)
    w = rng.normal(0, 0.3, (5, 12)).astype(np.float32)
    bias = rng.normal(0, 0.5, 5).astype(np.float32)
    results, accumulators = [], []
    for step in (1e-8, 0.1):
        for kind in ("Conv", "Gemm"):
            b = OnnxBuilder()
            shape = (1, 12, 1, 1) if kind == "Conv" else (1, 12)
            x = b.quantize(b.input("x", shape), 0.03, -5)
            weights = b.constant(w.reshape(5, 12, 1, 1) if kind == "Conv" else w)
            fields = {} if kind == "Conv" else {"transB": 1}
            y = b.node(kind, x, weights, b.constant(bias), name="layer", **fields)
            b.output(b.quantize(y, step, 11))
            model, _ = with_coded(b, Format.parse("int4"))
            program = lower(model)
            accumulators.append(weighted(program).operator.coding.accumulator)
            sample = np.random.default_rng(3).normal(0, 1, (40, 12)).astype(np.float32)
            (name,) = (i.name for i in program.inputs)
            run = [Interpreter(program).run({name: quantised(s.reshape(shape))}) for s in sample]
            results.append(np.concatenate([next(iter(r.values())).reshape(1, 5) for r in run]))
    assert accumulators == [DType.INT64, DType.INT32, DType.INT32, DType.INT32]
    assert np.array_equal(results[0], results[1])
    assert set(np.unique(results[0]).tolist()) == {-128, 127}
    assert np.array_equal(results[2], results[3])


def quantised(x: Any) -> Any:
    """Codes at a scale of 0.03 and a zero point of -5."""
    return np.clip(np.rint(x / np.float32(0.03)) - 5, -128, 127).astype(np.int8)
