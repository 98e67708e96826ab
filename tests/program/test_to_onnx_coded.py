"""Programs with coded weights as ONNX: packed in the file, run by ONNX Runtime on any CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from edgekit.errors import UnsupportedError
from edgekit.formats import ELEMENTS, Format
from edgekit.model import load
from edgekit.model.domain import attach_functions
from edgekit.program import tflite
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import DType, Program, Quantization, TensorType
from edgekit.program.lowering import lower
from edgekit.program.operators.quantization import Binarize
from edgekit.program.to_onnx import to_onnx
from edgekit.program.verify import verify
from tests.cases.case import one_operator
from tests.support.coded_models import KERNELS, differing_rate, layer, samples, with_coded
from tests.support.onnx_models import OnnxBuilder, run_onnx
from tests.support.quantized import program_feeds

pytestmark = pytest.mark.needs("onnxruntime")


def run_both(program: Program, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The only output from the interpreter and from ONNX Runtime."""
    fed = program_feeds(program, feeds)
    (want,) = Interpreter(program).run(fed).values()
    (got,) = run_onnx(to_onnx(program), fed).values()
    return want, got


@pytest.mark.parametrize("kind", list(KERNELS))
@pytest.mark.parametrize("name", [*(n for n in ELEMENTS if n != "int8"), "int4-g8", "nvfp4"])
def test_every_format_in_every_layer(name: str, kind: str) -> None:
    """Steps differ where requantisation rounds otherwise, and only there; no bias gets lost."""
    fmt = Format.parse(name)
    model, (coded,) = with_coded(layer(kind), fmt)
    program = lower(model)
    data = to_onnx(program)
    proto = onnx.load_from_string(data)
    packed = [t for t in proto.graph.initializer if t.name.endswith(".packed")]
    assert [len(t.raw_data) for t in packed] == [fmt.element.pack(coded.integers).nbytes]
    assert len(proto.functions) == 1
    (operation,) = (op for op in program.operations if getattr(op.operator, "coding", None))
    differing = elements = 0
    for feeds in samples(kind):
        want, got = run_both(program, feeds)
        difference = np.abs(want.astype(int) - got)
        assert difference.max() <= 1
        differing, elements = differing + np.count_nonzero(difference), elements + got.size
    assert differing <= differing_rate(operation.operator.requant) * elements


@pytest.mark.parametrize("name", ["int8", "ternary", "mxfp4"])
@pytest.mark.parametrize("shape", [(3, 16), (1, 3, 16)])
def test_dynamic_products(name: str, shape: tuple[int, ...]) -> None:
    """Codes and scales are the Program's own, so only float32 sums differ."""
    rng = np.random.default_rng(0)
    b = OnnxBuilder()
    x = b.node("DynamicQuantizeDequantize", b.input("x", shape), domain="edgekit")
    w = b.constant(rng.normal(0, 0.3, (16, 5)).astype(np.float32))
    y = b.node("MatMul", x, w, name="layer")
    b.output(b.node("Add", y, b.constant(rng.normal(0, 1, 5).astype(np.float32))))
    model, _ = with_coded(b, Format.parse(name))
    want, got = run_both(lower(model), {"x": rng.normal(0, 1, shape).astype(np.float32)})
    assert np.abs(want - got).max() <= 1e-5


def test_binarize_is_exact() -> None:
    b = OnnxBuilder()
    x = b.quantize(b.input("x", (1, 3, 5, 5)), 0.03, -7)
    y = b.node("Binarize", x, b.constant(np.float32(0.25)), domain="edgekit")
    b.output(b.quantize(y, 0.25, 0))
    model = load(b.build())
    ir, _ = attach_functions(model.ir)
    program = lower(model.with_ir(ir))
    x_values = np.random.default_rng(0).normal(0, 0.1, (1, 3, 5, 5)).astype(np.float32)
    want, got = run_both(program, {"x": x_values})
    assert np.array_equal(want, got)
    assert set(want.reshape(-1).tolist()) == {-1, 1}


@pytest.mark.parametrize("level", [1, 64, 127])
@pytest.mark.parametrize("scale", [0.25, 0.1])
def test_every_level_is_exact(level: int, scale: float) -> None:
    """Whatever float32 makes of the level times the scale of the output."""
    x, y = Quantization.per_tensor(0.5, 3), Quantization.per_tensor(float(np.float32(scale)))
    program = one_operator(Binarize.quantized(x=x, level=level), TensorType((1, 9), DType.INT8))
    tensors = dict(program.tensors)
    for tensor, meaning in ((program.inputs[0].tensor, x), (program.outputs[0].tensor, y)):
        tensors[tensor] = replace(tensors[tensor], quantization=meaning)
    program = verify(program.replace(tensors=tensors))
    sample = np.arange(-1, 8, dtype=np.int8)[np.newaxis]
    want, got = run_both(program, {program.inputs[0].name: sample})
    assert np.array_equal(want, got)
    assert set(got.reshape(-1).tolist()) == {-level, level}


def test_a_level_beyond_float32_is_refused() -> None:
    x, y = Quantization.per_tensor(1.0), Quantization.per_tensor(float(np.float32(1e38)))
    program = one_operator(Binarize.quantized(x=x, level=64), TensorType((1, 9), DType.INT8))
    tensors = dict(program.tensors)
    for tensor, meaning in ((program.inputs[0].tensor, x), (program.outputs[0].tensor, y)):
        tensors[tensor] = replace(tensors[tensor], quantization=meaning)
    with pytest.raises(UnsupportedError, match="its level times the scale of its output exceeds"):
        to_onnx(program.replace(tensors=tensors))


@pytest.mark.parametrize("kind", list(KERNELS))
def test_tflite_refuses_packed_weights(kind: str) -> None:
    model, _ = with_coded(layer(kind), Format.parse("fp4-e2m1"))
    with pytest.raises(UnsupportedError, match=r"its weights are fp4-e2m1, packed; TFLite takes i"):
        tflite.write(lower(model))
