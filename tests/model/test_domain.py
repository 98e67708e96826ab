"""The quantiser of the edgekit domain: any runtime runs its function, the passes know its name."""

from __future__ import annotations

import numpy as np
import onnx_ir
import pytest

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.model import Model, load
from edgekit.model.domain import FUNCTIONS, attach_functions
from edgekit.model.passes import optimize
from edgekit.program.lowering import lower
from tests.support.onnx_models import OnnxBuilder, run_onnx
from tests.support.quantized import compare

pytestmark = pytest.mark.needs("onnxruntime")

RNG = np.random.default_rng(11)


def quantized(
    b: OnnxBuilder,
    x: str,
    scale: np.ndarray | float,
    zero_point: np.ndarray | int = 0,
    **attributes: int,
) -> str:
    """A call of the quantiser."""
    scale = np.asarray(scale, np.float32)
    points = np.broadcast_to(np.asarray(zero_point, np.int8), scale.shape)
    return b.node(
        "QuantizeDequantize",
        x,
        b.constant(scale),
        b.constant(points),
        domain="edgekit",
        **attributes,
    )


def with_functions(b: OnnxBuilder) -> Model:
    """The built model with the definitions of our operators."""
    model = load(b.build())
    ir, attached = attach_functions(model.ir)
    assert attached
    return model.with_ir(ir)


def expected(
    x: np.ndarray, scale: np.ndarray, zero: np.ndarray, low: int, high: int, axis: int
) -> np.ndarray:
    """The definition, spelled in NumPy."""
    along = [1] * x.ndim
    if scale.size > 1:
        along[axis] = -1
    scale, zero = scale.reshape(along), zero.reshape(along)
    return ((np.clip(np.rint(x / scale) + zero, low, high) - zero) * scale).astype(np.float32)


@pytest.mark.parametrize("opset", [18, 20, 21])
@pytest.mark.parametrize(
    ("low", "high", "channels", "axis", "zero"),
    [(-128, 127, 0, 0, 5), (-127, 127, 0, 0, 0), (-8, 7, 3, 1, 0), (-2, 1, 4, -1, -1)],
)
def test_runtime_executes_the_function(
    opset: int, low: int, high: int, channels: int, axis: int, zero: int
) -> None:
    """ONNX Runtime computes the definition, before our passes and after them, to the bit."""
    b = OnnxBuilder(opset)
    x = b.input("x", (2, 3, 4))
    scale = RNG.uniform(0.05, 0.3, channels or ()).astype(np.float32)
    points = np.full(scale.shape, zero, np.int8)
    b.output(quantized(b, x, scale, points, low=low, high=high, axis=axis))
    model = with_functions(b)
    feeds = {"x": RNG.normal(0, 3, (2, 3, 4)).astype(np.float32)}
    want = expected(feeds["x"], scale, points, low, high, axis)
    (got,) = run_onnx(model.to_bytes(), feeds).values()
    assert np.array_equal(got, want)
    if not channels:
        optimised = optimize(model)
        assert not optimised.ir.functions
        (got,) = run_onnx(optimised.to_bytes(), feeds).values()
        assert np.array_equal(got, want)


def test_constants_become_codes() -> None:
    """Rule 1: a constant is stored as its int8 codes, in its range, per channel."""
    b = OnnxBuilder()
    x = b.input("x", (1, 6))
    weights = RNG.normal(0, 1, (6, 4)).astype(np.float32)
    scale = np.abs(weights).max(0) / 7
    w = quantized(b, b.constant(weights, "w"), scale, low=-8, high=7, axis=1)
    b.output(b.node("MatMul", x, w))
    ir = optimize(with_functions(b)).ir
    assert [node.op_type for node in ir.graph] == ["DequantizeLinear", "MatMul"]
    codes = ir.graph.node(0).inputs[0].const_value.numpy()
    assert codes.dtype == np.int8
    assert codes.min() >= -8 and codes.max() == 7
    assert np.array_equal(codes, np.clip(np.rint(weights / scale), -8, 7))


def test_lowered_to_integers() -> None:
    """A network quantised by the operator alone is an integer Program, within a step of ORT."""
    b = OnnxBuilder(20)
    x = quantized(b, b.input("x", (1, 3, 8, 8)), 0.03, 4)
    weights = RNG.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32)
    scale = np.abs(weights).max((1, 2, 3)) / 7
    w = quantized(b, b.constant(weights), scale, low=-8, high=7, axis=0)
    y = quantized(b, b.node("Conv", x, w), 0.05, 0, low=-127, high=127)
    b.output(y)
    model = with_functions(b)
    program = lower(model)
    assert [op.operator.name for op in program.operations] == ["conv_2d"]
    assert program.operations[0].operator.clamp == (-127, 127)
    samples = [{"x": RNG.normal(0, 1.5, (1, 3, 8, 8)).astype(np.float32)} for _ in range(4)]
    found = compare(program, model.to_bytes(), samples)
    assert found.steps <= 1, str(found)
    # A convolution rounds twice; with 4-bit weights the multiplier is near 2^-4, so that the first
    # rounding leaves three or four bits: at most one in 16 results is carried over a half by it.
    assert found.mismatches <= found.elements // 16, str(found)


@pytest.mark.parametrize(("low", "high"), [(-127, 127), (-8, 7)])
def test_a_clipped_input_is_fed_as_integers(low: int, high: int) -> None:
    """Rule 4: nothing stays in float, and every code equals ONNX Runtime's."""
    b = OnnxBuilder()
    x = quantized(b, b.input("x", (1, 300)), 0.03, 2, low=low, high=high)
    b.output(quantized(b, b.node("Relu", x), 0.03, 2, low=low, high=high))
    model = with_functions(b)
    program = lower(model)
    assert {t.dtype.value for t in program.tensors.values()} == {"int8"}
    samples = [{"x": RNG.normal(0, 3, (1, 300)).astype(np.float32)}]
    assert compare(program, model.to_bytes(), samples).steps == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": -129}, r"range -129…127 is not within int8"),
        ({"low": 3, "high": 3}, r"range 3…3 is not within int8"),
        ({"scale": -0.1}, r"scales must be positive float32"),
        ({"low": -8, "high": 7, "zero_point": 9}, r"zero points must lie in -8…7"),
        ({"scale": np.ones(2), "axis": 1}, r"2 scales for axis 1 of \(2, 3\)"),
        ({"scale": np.ones(3), "axis": 5}, r"axis"),
    ],
)
def test_bad_quantisers_are_refused(changes: dict[str, object], message: str) -> None:
    b = OnnxBuilder()
    arguments = {"scale": 0.1} | changes
    b.output(quantized(b, b.input("x", (2, 3)), **arguments))
    with pytest.raises(InvalidModelError, match=message):
        optimize(with_functions(b))


def test_narrow_range_per_channel_of_a_computed_value_is_refused() -> None:
    b = OnnxBuilder()
    b.output(quantized(b, b.input("x", (2, 3)), np.ones(3), axis=1, low=-8, high=7))
    with pytest.raises(UnsupportedError, match="computed values are quantised per tensor"):
        optimize(with_functions(b))


def test_a_files_own_definition_does_not_count() -> None:
    """The name has one meaning: a file cannot give it another."""
    b = OnnxBuilder()
    b.output(quantized(b, b.input("x", (2, 3)), 0.1))
    model = with_functions(b)
    (function,) = model.ir.functions.values()
    function.remove(next(n for n in function if n.op_type == "Clip"), safe=False)
    ir, _ = attach_functions(model.ir)
    (function,) = ir.functions.values()
    assert "Clip" in [node.op_type for node in function]
    assert onnx_ir.to_proto(ir).functions[0].name in FUNCTIONS


def test_what_is_attached_stays() -> None:
    """Rules 2 and 3: a second time changes nothing, and says so; an older import is set right."""
    b = OnnxBuilder()
    b.output(quantized(b, b.input("x", (2, 3)), 0.1))
    model = with_functions(b)
    _, modified = attach_functions(model.ir)
    assert not modified
    model.ir.graph.opset_imports["edgekit"] = 7
    ir, modified = attach_functions(model.ir)
    assert modified
    assert ir.graph.opset_imports["edgekit"] == 1


def test_calls_within_functions_and_branches() -> None:
    """Rule 1: a call is found wherever it stands."""
    call = "edgekit.QuantizeDequantize (x, scale, zero_point)"
    text = """
        <ir_version: 9, opset_import: ["": 20, "own": 1, "edgekit": 1]>
        g (bool yes, float[3] x, float scale, int8 zero_point) => (float[3] y) {{ {body} }}
    """
    branch = f"If (yes) <then_branch = t () => (float[3] a) {{ a = {call} }}, " + (
        "else_branch = e () => (float[3] b) { b = Identity (x) }>"
    )
    function = f"""
        <domain: "own", opset_import: ["": 20, "edgekit": 1]>
        F (x, scale, zero_point) => (y) {{ y = {call} }}
    """
    for body, more in ((f"y = {branch}", ""), ("y = own.F (x, scale, zero_point)", function)):
        ir = onnx_ir.from_onnx_text(text.format(body=body) + more)
        ir, modified = attach_functions(ir)
        assert modified
        assert ("edgekit", "QuantizeDequantize", "") in ir.functions
