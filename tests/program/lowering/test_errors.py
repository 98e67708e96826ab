"""What cannot be lowered is said, all at once; operators of other domains plug in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir
import pytest
from onnx import TensorProto, helper

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.model import load
from edgekit.program.interpret import run
from edgekit.program.ir import Array, TensorType
from edgekit.program.lowering import LOWERINGS, Lowerer, lower, lowering
from edgekit.program.operators.base import OPERATORS, Operator, operator
from edgekit.quantize.static import quantize_static
from tests.support.onnx_models import OnnxBuilder
from tests.support.quantized import program_feeds


def built(
    body: Callable[[OnnxBuilder, str], str],
    shape: tuple[int, ...] = (1, 4, 5, 6),
    dtype: str = "float32",
    out: str = "float32",
) -> bytes:
    b = OnnxBuilder()
    b.output(body(b, b.input("x", shape, dtype)), out)
    return b.build()


def test_all_unsupported_operators_are_listed_at_once() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        y = b.node("Erf", x, name="gelu/erf")
        y = b.node("FFT", y, domain="acme", name="spectrum")
        y = b.node("Relu", y)
        y = b.node("RNN", y, *(b.constant(np.zeros(1, np.float32)) for _ in range(2)), name="rnn")
        return b.node(
            "Add",
            y,
            b.node("Resize", x, "", b.constant(np.float32([1, 1, 2, 2])), mode="linear", name="up"),
        )

    with pytest.raises(UnsupportedError) as caught:
        lower(load(built(body)))
    text = str(caught.value)
    for line in (
        "Erf node 'gelu/erf'",
        "acme.FFT node 'spectrum'",
        "RNN node 'rnn'",
        "Resize node 'up': mode is 'linear', supported: 'nearest'",
    ):
        assert line in text
    assert "supported operators: Add, ArgMax, AveragePool" in text
    # Nodes behind an unsupported one are not blamed.
    assert "Relu node" not in text
    assert "Add node" not in text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            lambda b, x: b.node("Div", x, b.node("Add", x, x)),
            "supported only by a float32 constant",
        ),
        (lambda b, x: b.node("MaxPool", x, kernel_shape=[2, 2], dilations=[2, 2]), "dilations are"),
        (
            lambda b, x: b.node(
                *("AveragePool", x), kernel_shape=[3, 3], pads=[1] * 4, dilations=[1, 2]
            ),
            "dilations are",
        ),
        (
            lambda b, x: b.node(
                *("Pad", x, b.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))), mode="reflect"
            ),
            "mode is 'reflect', supported: 'constant'",
        ),
        (
            lambda b, x: b.node("Pad", x, b.constant(np.array([0, 0, -1, 0, 0, 0, 0, 0]))),
            "negative padding",
        ),
        (lambda b, x: b.node("ArgMax", x, select_last_index=1), "select_last_index"),
        (
            lambda b, x: b.node("Resize", x, "", b.constant(np.float32([1, 2, 1, 1]))),
            "resizes batch or channels",
        ),
        (
            lambda b, x: b.node("Resize", x, "", b.constant(np.float32([1, 1, 1.3, 0.7]))),
            "coordinates match no rule",
        ),
        (
            lambda b, x: b.node("Conv", x, b.node("Relu", b.constant(np.zeros((1, 4, 1, 1))))),
            "float64",
        ),
        (
            lambda b, x: b.node("Conv", x, b.node("Tanh", b.node("GlobalMaxPool", x))),
            "weights and bias must be constant",
        ),
        (lambda b, x: b.node("Clip", x, b.node("ReduceMean", x, keepdims=0)), "bounds must be"),
        (
            lambda b, x: b.node("Reshape", x, b.node("ArgMax", x, axis=3)),
            "shape of .* is unknown|list of integers",
        ),
        (
            lambda b, x: b.node("Slice", x, *(b.constant(np.array([2])) for _ in range(2))),
            "empty tensors are not supported",
        ),
    ],
)
def test_forms_that_are_not_supported(body: Callable, said: str) -> None:
    with pytest.raises((UnsupportedError, InvalidModelError), match=said):
        lower(load(built(body)))


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "bool"])
def test_input_types(dtype: str) -> None:
    with pytest.raises(UnsupportedError, match=f"input 'x' is {dtype}.*supported: int8"):
        lower(load(built(lambda b, x: b.node("Identity", x), dtype=dtype, out=dtype)))


def test_three_spatial_axes() -> None:
    data = built(
        lambda b, x: b.node("Conv", x, b.constant(np.zeros((1, 2, 1, 1, 1), np.float32))),
        (1, 2, 3, 3, 3),
    )
    with pytest.raises(UnsupportedError, match="has 3 spatial axes, supported: 1 and 2"):
        lower(load(data))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            lambda b, x: b.node("Conv", x, b.constant(np.zeros((2, 3, 1, 1), np.float32))),
            "Conv node 'conv_0': weights .* do not fit input",
        ),
        (
            lambda b, x: b.node("Conv", x, b.constant(np.zeros((2, 4, 9, 9), np.float32))),
            "the kernel reaches over 9 of 5 padded values of axis 2",
        ),
        (lambda b, x: b.node("Reshape", x, b.constant(np.array([7, -1]))), "does not hold"),
        (lambda b, x: b.node("Transpose", x, perm=[0, 1, 1, 2]), "permutes no 4 axes"),
        (lambda b, x: b.node("Softmax", x, axis=7), "axis 7 is outside"),
        (
            lambda b, x: b.node("Add", x, b.constant(np.zeros((3,), np.float32))),
            "do not broadcast",
        ),
        (lambda b, x: b.node("MaxPool", x), "kernel_shape is missing"),
        (
            lambda b, x: b.node("Transpose", x, perm="abc"),
            "attribute 'perm' is STRING, must be INTS",
        ),
        (
            lambda b, x: b.node("Conv", x, b.constant(np.zeros((2, 4, 1, 1), np.float32)), group=0),
            "with 0 groups do not fit",
        ),
    ],
)
def test_malformed_nodes(body: Callable, said: str) -> None:
    with pytest.raises(InvalidModelError, match=said):
        lower(load(built(body)))


@pytest.mark.parametrize("op", ["Constant", "Identity", "Reshape"])
def test_a_constant_output_is_refused(op: str) -> None:
    b = OnnxBuilder()
    x = b.input("x", (1, 2))
    b.output(b.node("Relu", x))
    inputs = [] if op == "Constant" else [b.constant(np.float32([1])), b.constant(np.array([1]))]
    attributes = {"value_float": 1.0} if op == "Constant" else {}
    b.output(b.node(op, *inputs[: 2 if op == "Reshape" else 1], **attributes))
    with pytest.raises(UnsupportedError, match=r"only as long as it is no output|is a constant"):
        lower(load(b.build()))


def test_an_input_that_is_returned_is_copied() -> None:
    data = built(lambda b, x: b.node("Identity", x), (1, 2, 3))
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(1, 2, 3)}
    np.testing.assert_array_equal(run(lower(load(data)), feeds)["identity_0"], feeds["x"])


def test_an_unused_input_is_kept() -> None:
    b = OnnxBuilder()
    b.output(b.node("Relu", b.input("x", (2,))))
    b.input("unused", (3,))
    program = lower(load(b.build()))
    assert [boundary.name for boundary in program.inputs] == ["x", "unused"]


def test_names_may_be_anything() -> None:
    b = OnnxBuilder()
    x = b.input('a*/ "b"\n', (1, 2, 4, 4))
    y = b.node("Conv", x, b.constant(np.ones((2, 2, 1, 1), np.float32), "w;"), name="*/")
    b.output(b.node("Relu", y, name="\\x"))
    program = lower(load(b.build()))
    assert program.inputs[0].name == 'a*/ "b"\n'
    assert program.outputs[0].name == "\\x"


def test_equal_constants_are_stored_once() -> None:
    weights = np.arange(16, dtype=np.float32).reshape(4, 4, 1, 1)

    def body(b: OnnxBuilder, x: str) -> str:
        y = b.node("Conv", x, b.constant(weights, "one"))
        return b.node("Conv", y, b.constant(weights, "two"))

    constants = [t for t in lower(load(built(body))).tensors.values() if t.is_constant]
    assert len(constants) == 1


@dataclass(frozen=True)
class Reverse(Operator):
    """The elements backwards: an operator of somebody else's."""

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The type of x."""
        assert inputs[0] is not None
        return (inputs[0],)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """Reversed."""
        assert inputs[0] is not None
        return (np.ascontiguousarray(inputs[0].reshape(-1)[::-1].reshape(inputs[0].shape)),)


@pytest.fixture
def acme() -> Iterator[None]:
    """Register the operator and its lowering; forget both afterwards."""
    operator("acme_reverse", inputs="x")(Reverse)

    @lowering("Reverse", domain="acme")
    def reverse(low: Lowerer, node: onnx_ir.Node) -> None:
        x = low.plain(node, low.real(node, low.value(node.inputs[0])))
        name = node.outputs[0].name or ""
        y = low.emit(node, Reverse(), x.tensor, name=name)
        low.define_plain(node.outputs[0], y)

    yield
    del OPERATORS["acme_reverse"], LOWERINGS["acme", "Reverse"]


@pytest.mark.usefixtures("acme")
class TestOtherDomains:
    """An operator that edgekit does not know of."""

    def model(self, *, as_function: bool = False) -> bytes:
        b = OnnxBuilder()
        y = b.node(
            "Conv", b.input("x", (1, 2, 3, 3)), b.constant(np.ones((2, 2, 1, 1), np.float32))
        )
        y = b.node("Reverse", y, domain="acme")
        b.output(b.node("Conv", y, b.constant(np.ones((1, 2, 1, 1), np.float32))))
        if as_function:
            # Its meaning for other runtimes; here the registered operator wins.
            nodes = [helper.make_node("Identity", ["a"], ["b"])]
            opsets = [helper.make_opsetid("", 21)]
            b.functions.append(helper.make_function("acme", "Reverse", ["a"], ["b"], nodes, opsets))
        return b.build()

    @pytest.mark.parametrize("as_function", [False, True])
    def test_it_is_lowered(self, as_function: bool) -> None:
        program = lower(load(self.model(as_function=as_function)))
        operators = [op.operator.name for op in program.operations]
        # The operator works on the source's order, so two transposes surround it.
        assert operators == ["conv_2d", "transpose", "acme_reverse", "transpose", "conv_2d"]
        x = np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3)
        sums = x.sum(axis=1, keepdims=True)
        got = run(program, {"x": x})["conv_2"]
        np.testing.assert_array_equal(got, 2 * sums.reshape(-1)[::-1].reshape(1, 1, 3, 3))

    def test_it_stays_in_float_in_a_quantised_model(self) -> None:
        x = np.random.default_rng(0).standard_normal((20, 1, 2, 3, 3)).astype(np.float32)
        model = quantize_static(load(self.model()), {"x": x})
        with pytest.raises(UnsupportedError, match=r"reverse_1/acme_reverse \(acme_reverse\)"):
            lower(model)
        program = lower(model, allow_fallback=True)
        whole = run(lower(load(self.model())), {"x": x[0]})["conv_2"]
        got = run(program, program_feeds(program, {"x": x[0]}))["conv_2"]
        quantization = program.output_tensors[0].quantization
        assert quantization is not None
        real = (got.astype(np.float64) - quantization.scalar_zero_point) * quantization.scalar_scale
        assert np.abs(real - whole).max() < 4 * quantization.scalar_scale

    def test_a_second_lowering_is_refused(self) -> None:
        with pytest.raises(ValueError, match="acme operator 'Reverse' has a lowering already"):
            lowering("Reverse", domain="acme")(lambda low, node: None)


def test_boundaries_say_how_the_source_lay() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        return b.node("Conv", b.node("Sigmoid", x), b.constant(np.ones((3, 4, 1, 1), np.float32)))

    program = lower(load(built(body)))
    assert program.inputs[0].layout == program.outputs[0].layout == "NCHW"
    assert program.inputs[0].source_shape == (1, 4, 5, 6)
    assert program.input_tensors[0].shape == (1, 5, 6, 4)
    signal = lower(load(built(lambda b, x: b.node("MaxPool", x, kernel_shape=[2]), (1, 3, 8))))
    assert signal.inputs[0].layout == signal.outputs[0].layout == "NCW"
    flat = lower(load(built(lambda b, x: b.node("Flatten", x))))
    assert flat.inputs[0].permutation is None


def test_int64_constants_that_are_data() -> None:
    data = helper.make_tensor("c", TensorProto.DOUBLE, [1], [1.0])
    b = OnnxBuilder()
    b.initializers.append(data)
    b.output(b.node("Add", b.input("x", (1,)), "c"))
    with pytest.raises(UnsupportedError, match=r"constant 'c' is float64\[1\]; supported: int8"):
        lower(load(b.build()))
