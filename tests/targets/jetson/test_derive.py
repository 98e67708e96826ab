"""What the Model for TensorRT looks like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir
import pytest

from edgekit.errors import InvalidDataError, UnsupportedError, UsageError
from edgekit.model import Model, load
from edgekit.model.nodes import const, get_input, is_op, name_of
from edgekit.quantize.observers import (
    affine_quantization,
    make_observer,
    symmetric_quantization,
)
from edgekit.quantize.static import quantize_static
from edgekit.targets.jetson.derive import TENSORRT, derive, emulated_operators
from edgekit.targets.jetson.opset import OPSET, to_opset
from edgekit.targets.jetson.rules import violations
from tests.support.onnx_models import OnnxBuilder, run_onnx
from tests.targets.jetson.networks import (
    IMAGE,
    Body,
    classifier,
    conv,
    network,
    residual,
    samples,
    weights,
)

MAX_RELATIVE_ERROR = 0.08
"""Root of the mean squared error over that of the results, for random weights and inputs.

A step is a 127th of about five standard deviations, so every rounding adds 1.1 % of noise, and up
to eighteen of them lie behind each other.
"""


def derived(body: Body, shape: tuple[int, ...] = IMAGE) -> Model:
    return derive(network(body, shape), samples(shape))


def results(model: Model, inputs: np.ndarray) -> np.ndarray:
    """The only output for every input, as ONNX Runtime computes it."""
    data = model.to_bytes()
    return np.stack([next(iter(run_onnx(data, {"x": x}).values())) for x in inputs])


def nodes(model: Model, *op_types: str) -> Iterator[onnx_ir.Node]:
    return (node for node in model.ir.graph if is_op(node, *op_types))


def quantised_values(model: Model) -> list[str]:
    return [name_of(get_input(node, 0)) for node in nodes(model, "QuantizeLinear")]


def scale(model: Model, name: str) -> float:
    for node in nodes(model, "QuantizeLinear"):
        if name_of(get_input(node, 0)) == name:
            return float(np.asarray(const(node.inputs[1])))
    raise AssertionError(f"{name} is not quantised")


def test_what_is_quantised_in_a_classifier() -> None:
    # Between conv and relu nothing, and the product's result stays float.
    assert quantised_values(derived(classifier)) == ["x", "relu_1", "pool", "relu_2", "flat"]


def test_both_operands_of_residual_additions() -> None:
    model = derived(residual)
    found = quantised_values(model)
    assert set(found) == {
        *("x", "stem_relu", "a1_relu", "a2", "a_relu", "b1_relu", "b2", "b_skip", "b_relu"),
    }
    for add in nodes(model, "Add"):
        assert all(is_op(get_input(add, i).producer(), "DequantizeLinear") for i in (0, 1))


def test_only_the_skip_connection_where_the_scheme_says_so() -> None:
    scheme = replace(TENSORRT, addends="skip")
    model = quantize_static(network(residual), samples(), scheme=scheme)
    found = quantised_values(model)
    assert "a2" not in found
    assert "b2" not in found
    assert {"stem_relu", "b_skip"} <= set(found)
    left = violations(to_opset(model, OPSET), tensorrt=10)
    assert not left, "fusing additions into convolutions is as good"


@pytest.mark.parametrize("body", [classifier, residual])
def test_all_zero_points_are_int8_zeros(body: Body) -> None:
    for node in nodes(derived(body), "QuantizeLinear", "DequantizeLinear"):
        point = const(node.inputs[2])
        assert point is not None
        assert point.dtype == np.int8
        assert not point.any()


def test_scales_are_the_largest_magnitude_over_127() -> None:
    data = samples()
    model = derive(network(classifier), data)
    assert scale(model, "x") == np.float32(np.abs(data["x"]).max() / 127)


def test_clipping_observers_look_for_symmetric_ranges() -> None:
    """Half of a symmetric range is lost on positive values; the best cut differs from affine."""
    values = np.abs(np.random.default_rng(0).standard_normal(20_000)).astype(np.float32)
    values[0] = 12
    found = {}
    for name, quantization in (("affine", affine_quantization), ("sym", symmetric_quantization)):
        observer = make_observer("mse", quantization)()
        observer.update(values)
        found[name] = observer.range()[1]
    assert found["sym"] < found["affine"] < 12


def test_a_range_of_nothing_but_zero() -> None:
    assert symmetric_quantization(0.0, 0.0).scalar_scale == 1.0
    assert symmetric_quantization(1.27, 2.54).scalar_scale == np.float32(0.02)
    assert symmetric_quantization(-2.54, -1.0).scalar_scale == np.float32(0.02)
    assert symmetric_quantization(0.0, 1e-44).scalar_scale == np.finfo(np.float32).tiny


def recurrent(b: OnnxBuilder, x: str) -> str:
    w, r = b.constant(weights(1, 16, 3)), b.constant(weights(1, 16, 4))
    bias = b.constant(weights(1, 32))
    _, last, _ = b.node_all("LSTM", x, w, r, bias, outputs=3, hidden_size=4, name="lstm")
    y = b.node("Reshape", last, b.constant(np.int64([1, 4])), name="last")
    return b.node("Gemm", y, b.constant(weights(2, 4)), transB=1, name="fc")


@pytest.mark.needs("onnxruntime")
def test_recurrent_layers_stay_standard_float_nodes() -> None:
    shape = (5, 1, 3)
    source, data = network(recurrent, shape), samples(shape, count=16)
    model = derive(source, data)
    assert quantised_values(model) == ["last"]
    (lstm,) = nodes(model, "LSTM")
    assert not lstm.metadata_props
    assert all(const(v) is not None for v in lstm.inputs[1:4])
    assert not violations(model, tensorrt=10)
    wanted, got = results(source, data["x"]), results(model, data["x"])
    assert np.sqrt(np.mean((got - wanted) ** 2) / np.mean(wanted**2)) <= MAX_RELATIVE_ERROR


def test_weights_are_int8_per_output_channel() -> None:
    model = derived(classifier)
    for node in nodes(model, "Conv", "Gemm"):
        dequantize = get_input(node, 1).producer()
        assert dequantize is not None
        stored, scales = const(dequantize.inputs[0]), const(dequantize.inputs[1])
        assert stored is not None
        assert scales is not None
        assert stored.dtype == np.int8
        assert stored.min() >= -127
        assert scales.shape == (stored.shape[0],)
        assert dequantize.attributes["axis"].as_int() == 0
        assert (np.abs(stored.astype(int)).reshape(len(scales), -1).max(axis=1) == 127).all()


def test_biases_stay_as_they_were() -> None:
    source = network(classifier)
    before = {n.name: const(n.inputs[2]) for n in source.ir.graph if len(n.inputs) == 3}
    model = derive(source, samples())
    for node in nodes(model, "Conv", "Gemm"):
        bias = const(node.inputs[2])
        assert bias is not None
        np.testing.assert_array_equal(bias, before[node.name])


def test_alpha_and_beta_go_into_constants() -> None:
    w, c = weights(6, 4), weights(1, 4, seed=1)

    def body(b: OnnxBuilder, x: str) -> str:
        return b.node("Gemm", x, b.constant(w), b.constant(c), alpha=0.5, beta=2.0, name="fc")

    source = network(body, (1, 6))
    model = derive(source, samples((1, 6)))
    (gemm,) = nodes(model, "Gemm")
    assert not {"alpha", "beta"} & set(gemm.attributes)
    np.testing.assert_array_equal(np.asarray(const(gemm.inputs[2])), 2 * c[0])


def test_concat_operands_share_a_scale() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        a = b.node("Relu", conv(b, x, (3, 2), "a"), name="a_relu")
        c = b.node("Sigmoid", conv(b, x, (3, 2), "c"), name="c_sigmoid")
        y = b.node("Concat", a, c, b.constant(weights(1, 1, 8, 8) * 9), axis=1, name="joined")
        return conv(b, y, (5, 2), "head")

    model = derived(body)
    assert scale(model, "a_relu") == scale(model, "c_sigmoid") == scale(model, "joined")
    (joined,) = nodes(model, "Concat")
    constant = get_input(joined, 2).producer()
    assert constant is not None
    assert np.asarray(const(constant.inputs[1])) == np.float32(scale(model, "joined"))
    largest = np.abs(weights(1, 1, 8, 8) * 9).max()
    assert scale(model, "joined") >= np.float32(largest / 127)


def test_concat_of_what_stays_float_is_not_quantised() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        y = b.node("Concat", x, b.constant(weights(1, 1, 8, 8)), axis=1, name="joined")
        return b.node("Sigmoid", y)

    assert quantised_values(derived(body)) == []


def test_movement_does_not_break_a_shared_scale() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        y = b.node("MaxPool", x, kernel_shape=[2, 2], name="pool")
        y = b.node("Transpose", y, perm=[0, 1, 3, 2], name="turned")
        return conv(b, y, (3, 2), "head")

    model = derived(body)
    assert quantised_values(model) == ["x", "turned"]
    assert scale(model, "x") == scale(model, "turned")


def test_products_of_two_activations() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        left = b.node("Relu", x, name="left")
        right = b.node("Sigmoid", x, name="right")
        return b.node("MatMul", left, right, name="product")

    assert quantised_values(derived(body)) == ["left", "right"]


@pytest.mark.parametrize("shape", [(8, 5), (8,), (1, 3, 8, 5)])
def test_products_with_constants(shape: tuple[int, ...]) -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        return b.node("MatMul", x, b.constant(weights(*shape)), name="product")

    model = derived(body)
    (product,) = nodes(model, "MatMul")
    dequantize = get_input(product, 1).producer()
    assert dequantize is not None
    stored, scales = const(dequantize.inputs[0]), const(dequantize.inputs[1])
    assert stored is not None
    assert scales is not None
    assert stored.shape == shape
    assert scales.shape == ((5,) if shape == (8, 5) else ())
    assert not violations(model, tensorrt=10)


def test_a_constant_on_the_left() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        return b.node("MatMul", b.constant(weights(4, 8)), x, name="product")

    model = derived(body)
    (product,) = nodes(model, "MatMul")
    assert all(is_op(get_input(product, i).producer(), "DequantizeLinear") for i in (0, 1))


@pytest.mark.parametrize("group", [1, 3])
def test_transposed_convolutions_have_scales_on_axis_1(group: int) -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        w = b.constant(weights(3, 2, 3, 3))
        return b.node("ConvTranspose", x, w, group=group, name="up")

    model = derived(body)
    (up,) = nodes(model, "ConvTranspose")
    dequantize = get_input(up, 1).producer()
    assert dequantize is not None
    assert dequantize.attributes["axis"].as_int() == 1
    assert not violations(model, tensorrt=10)


def test_constants_of_elementwise_operators_stay_float() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        y = b.node("Add", conv(b, x, (3, 2), "c"), b.constant(weights(2, 1, 1)), name="shift")
        return b.node("Mul", y, b.constant(weights(2, 1, 1)), name="scaled")

    assert quantised_values(derived(body)) == ["x"]


def test_readers_without_an_integer_form_read_the_real_value() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        y = b.node("Relu", conv(b, x, (3, 3), "c"), name="relu")
        return b.node("Mul", b.node("Sigmoid", y, name="gate"), conv(b, y, (3, 3), "d"))

    model = derived(body)
    (gate,) = nodes(model, "Sigmoid")
    assert name_of(get_input(gate, 0)) == "relu"


def test_an_output_that_is_read_as_well_stays_float() -> None:
    b = OnnxBuilder()
    y = b.node("Relu", conv(b, b.input("x", IMAGE), (3, 3), "c"), name="relu")
    b.output(y)
    b.output(conv(b, y, (3, 3), "d"))
    model = derive(load(b.build()), samples())
    assert [name_of(v) for v in model.ir.graph.outputs] == ["relu", "d"]
    assert all(is_op(v.producer(), "Relu", "Conv") for v in model.ir.graph.outputs)


def test_the_file_is_plain() -> None:
    model = derived(residual)
    proto = onnx.load_from_string(model.to_bytes())
    onnx.checker.check_model(proto, full_check=True)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", OPSET)]
    assert proto.ir_version == 9
    assert not proto.functions
    kinds = {t.data_type for t in proto.graph.initializer if t.dims}
    read = {name for node in proto.graph.node for name in node.input}
    assert {t.name for t in proto.graph.initializer} <= read, "no float weights are left over"
    assert kinds == {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT}


def test_the_same_bytes_for_the_same_model_and_samples() -> None:
    first, second = (derive(network(residual), samples()).to_bytes() for _ in range(2))
    assert first == second


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize("observer", ["minmax", "mse", "percentile"])
@pytest.mark.parametrize("body", [classifier, residual])
def test_results_are_near_the_float_ones(body: Body, observer: str) -> None:
    source, data = network(body), samples(count=32)
    model = derive(source, data, observer=observer)
    wanted, got = results(source, data["x"]), results(model, data["x"])
    error = np.sqrt(np.mean((got - wanted) ** 2) / np.mean(wanted**2))
    assert error <= MAX_RELATIVE_ERROR


def test_the_source_is_not_changed() -> None:
    source = network(classifier)
    before = source.to_bytes()
    derive(source, samples())
    assert source.to_bytes() == before


def test_quantised_sources_are_refused() -> None:
    source = quantize_static(network(classifier), samples())
    with pytest.raises(UnsupportedError, match=r"Linear node .* is quantised already"):
        derive(source, samples())


def test_wrong_calibration() -> None:
    with pytest.raises(InvalidDataError, match="must have the model's inputs"):
        derive(network(classifier), {"y": samples()["x"]})
    with pytest.raises(UsageError, match="observer 'nothing'"):
        derive(network(classifier), samples(), observer="nothing")


def fake_quantising(b: OnnxBuilder, x: str) -> str:
    """A local function of edgekit's domain in front of a convolution, as low-bit modules write."""
    helper = onnx.helper
    body = [
        helper.make_node("Div", ["v", "s"], ["d"]),
        helper.make_node("Floor", ["d"], ["f"]),
        helper.make_node("Mul", ["f", "s"], ["r"]),
    ]
    opsets = [helper.make_opsetid("", b.opset)]
    function = helper.make_function("edgekit", "Stepped", ["v", "s"], ["r"], body, opsets)
    b.functions.append(function)
    step = b.constant(np.float32(0.25))
    w = b.node("Stepped", b.constant(weights(4, 3, 3, 3)), step, domain="edgekit", name="low_bit")
    y = b.node("Relu", b.node("Conv", x, w, name="low"), name="low_relu")
    return conv(b, y, (4, 2), "high")


def test_functions_of_edgekit_are_written_out_and_named() -> None:
    source = network(fake_quantising)
    assert emulated_operators(source) == ("edgekit.Stepped node 'low_bit'",)
    model = derive(source, samples())
    assert not model.ir.functions
    assert {node.domain for node in model.ir.graph} == {""}
    assert not violations(model, tensorrt=10)


def test_opsets_go_down_only_where_the_meaning_stays() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        return b.node("Swish", x, name="swish")

    with pytest.raises(UnsupportedError, match=r"Swish node 'swish': the operator exists since"):
        to_opset(network(body, opset=24), OPSET)

    def normalised(b: OnnxBuilder, x: str) -> str:
        one = b.constant(np.ones(3, np.float32))
        return b.node("GroupNormalization", x, one, one, num_groups=3, name="norm")

    with pytest.raises(UnsupportedError, match="its meaning changed in opset 21"):
        to_opset(network(normalised), OPSET)

    def blocked(b: OnnxBuilder, x: str) -> str:
        scale = b.constant(np.ones((1, 3, 8, 4), np.float32))
        point = b.constant(np.zeros((1, 3, 8, 4), np.int8))
        q = b.node("QuantizeLinear", x, scale, point, axis=3, block_size=2, name="blocks")
        return b.node("DequantizeLinear", q, scale, point, axis=3, block_size=2)

    with pytest.raises(UnsupportedError, match="attribute 'block_size' is newer"):
        to_opset(network(blocked), OPSET)


def test_an_older_opset_stays() -> None:
    model = network(classifier, opset=17)
    assert to_opset(model, OPSET) is model
