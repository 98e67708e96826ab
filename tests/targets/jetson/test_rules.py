"""Every rule: a model that keeps it and models that break it, one way each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir
import pytest

from edgekit.errors import UnsupportedError
from edgekit.model import Model, load
from edgekit.quantize.static import quantize_static
from edgekit.targets.jetson.derive import derive
from edgekit.targets.jetson.modules import MODULES
from edgekit.targets.jetson.operators import OPERATORS, RESTRICTIONS
from edgekit.targets.jetson.rules import RULES, check, rules_for, violations
from tests.support.onnx_models import OnnxBuilder
from tests.targets.jetson.networks import IMAGE, classifier, conv, network, samples, weights

ORIN = MODULES["jetson-agx-orin"]


def builder() -> tuple[OnnxBuilder, str]:
    b = OnnxBuilder(opset=20)
    return b, b.input("x", IMAGE)


def finished(b: OnnxBuilder, y: str, dtype: str = "float32") -> Model:
    b.output(y, dtype)
    proto = b.proto()
    proto.ir_version = 9
    return load(proto.SerializeToString())


def quantized(b: OnnxBuilder, x: str, scale: float = 0.02) -> str:
    return b.quantize(x, scale, 0)


def int8_weights(b: OnnxBuilder, *shape: int, axis: int = 0, channels: int | None = None) -> str:
    """Weights behind DequantizeLinear with scales per channel."""
    codes = np.arange(np.prod(shape), dtype=np.int64).reshape(shape) % 255 - 127
    scale = np.full(shape[axis] if channels is None else channels, 0.01)
    return b.dequantized(codes.astype(np.int8), scale, axis=axis)


def quantized_conv(b: OnnxBuilder, x: str, name: str = "conv", channels: int = 3) -> str:
    w = int8_weights(b, channels, 3, 1, 1)
    return b.node("Conv", quantized(b, x), w, b.constant(weights(channels)), name=name)


def good() -> Model:
    """A quantised residual block that keeps every rule."""
    b, x = builder()
    y = b.node("Relu", quantized_conv(b, x), name="relu")
    y = b.node("Add", quantized_conv(b, y, "second"), quantized(b, x), name="add")
    return finished(b, b.node("MaxPool", quantized(b, y), kernel_shape=[2, 2], name="pool"))


def broken_rules(model: Model, tensorrt: int = 10, module: str = "jetson-agx-orin") -> set[str]:
    return {v.rule for v in violations(model, tensorrt=tensorrt, module=MODULES[module])}


def test_a_good_model_keeps_every_rule() -> None:
    for major in (10, 11):
        assert not violations(good(), tensorrt=major, module=ORIN)
        check(good(), tensorrt=major, module=ORIN)


def opset_8() -> Model:
    return network(lambda b, x: b.node("Relu", x), opset=8)


def opset_21() -> Model:
    return network(lambda b, x: b.node("Relu", x), opset=21)


def unknown_operator() -> Model:
    return network(lambda b, x: b.node("Det", x, name="determinant"), opset=20)


def foreign_operator() -> Model:
    return network(lambda b, x: b.node("FFT", x, domain="acme", name="f"), opset=20)


def with_sub_graph() -> Model:
    b, x = builder()
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [x], ["inner"])],
        "branch",
        [],
        [onnx.helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, None)],
    )
    y = b.node("If", b.constant(np.array(True)), then_branch=branch, else_branch=branch)
    return finished(b, y)


def pool_with_dilations() -> Model:
    return network(
        lambda b, x: b.node("MaxPool", x, kernel_shape=[2, 2], dilations=[2, 2]), opset=20
    )


def norm_pool_with_dilations() -> Model:
    return network(
        lambda b, x: b.node("LpPool", x, kernel_shape=[2, 2], dilations=[2, 2]), opset=20
    )


def pool_in_one_dimension() -> Model:
    return network(lambda b, x: b.node("AveragePool", x, kernel_shape=[2]), (1, 3, 8), opset=20)


def pool_indices() -> Model:
    b, x = builder()
    y, where = b.node_all("MaxPool", x, outputs=2, kernel_shape=[2, 2])
    b.output(where, "int64")
    b.output(b.node("Relu", b.node("Cast", where, to=onnx.TensorProto.FLOAT)))
    return finished(b, y)


def cubic_resize() -> Model:
    def body(b: OnnxBuilder, x: str) -> str:
        scales = b.constant(np.float32([1, 1, 2, 2]))
        return b.node("Resize", x, "", scales, mode="cubic")

    return network(body, opset=20)


def antialiased_resize() -> Model:
    def body(b: OnnxBuilder, x: str) -> str:
        scales = b.constant(np.float32([1, 1, 0.5, 0.5]))
        return b.node("Resize", x, "", scales, mode="linear", antialias=1)

    return network(body, opset=20)


def lstm_batch_first() -> Model:
    def body(b: OnnxBuilder, x: str) -> str:
        w, r = b.constant(weights(1, 8, 3)), b.constant(weights(1, 8, 2))
        return b.node_all("LSTM", x, w, r, outputs=3, hidden_size=2, layout=1)[0]

    return network(body, (1, 5, 3), opset=20)


def second_output_of_layer_norm() -> Model:
    b, x = builder()
    y, mean = b.node_all("LayerNormalization", x, b.constant(np.ones(8, np.float32)), outputs=2)
    b.output(mean)
    return finished(b, y)


def unsorted_top_k() -> Model:
    b, x = builder()
    return finished(b, b.node_all("TopK", x, b.constant(np.int64([2])), outputs=2, sorted=0)[0])


def large_top_k() -> Model:
    b = OnnxBuilder(opset=20)
    x = b.input("x", (1, 5000))
    return finished(b, b.node_all("TopK", x, b.constant(np.int64([4000])), outputs=2)[0])


def open_shape() -> Model:
    model = good().with_ir(good().ir.clone())
    model.ir.graph.inputs[0].shape = onnx_ir.Shape([1, 3, "height", 8])
    return model


def double_input() -> Model:
    b = OnnxBuilder(opset=20)
    x = b.input("x", IMAGE, "float64")
    return finished(b, b.node("Cast", x, to=onnx.TensorProto.FLOAT))


def int8_output() -> Model:
    b, x = builder()
    y = b.node("QuantizeLinear", x, b.constant(np.float32(0.1)), b.constant(np.int8(0)))
    return finished(b, y, "int8")


def mixed_types() -> Model:
    b, x = builder()
    half = b.node("Cast", x, to=onnx.TensorProto.FLOAT16, name="half")
    return finished(b, b.node("Mul", x, half, name="mixed"))


def integers_outside() -> Model:
    b, x = builder()
    scale, point = b.constant(np.float32(0.1)), b.constant(np.int8(0))
    q = b.node("Neg", b.node("QuantizeLinear", x, scale, point), name="negated")
    return finished(b, b.node("DequantizeLinear", q, scale, point))


def quantised_twice() -> Model:
    b, x = builder()
    return finished(b, quantized(b, quantized(b, x)))


def quantised_for_nobody() -> Model:
    b, x = builder()
    quantized(b, x)
    return finished(b, b.node("Relu", x))


def spaces_in_names() -> Model:
    b = OnnxBuilder(opset=20)
    return finished(b, b.node("Relu", b.input("my input", IMAGE)))


def endless_name() -> Model:
    b = OnnxBuilder(opset=20)
    return finished(b, b.node("Relu", b.input("x" * 5000, IMAGE)))


def asymmetric() -> Model:
    b, x = builder()
    return finished(b, b.quantize(x, 0.02, -128))


def no_zero_point() -> Model:
    b, x = builder()
    scale = b.constant(np.float32(0.1))
    return finished(b, b.node("DequantizeLinear", b.node("QuantizeLinear", x, scale), scale))


def computed_zero_point() -> Model:
    b, x = builder()
    scale = b.constant(np.float32(0.1))
    point = b.node("Cast", b.node("ReduceMin", x, keepdims=0), to=onnx.TensorProto.INT8)
    q = b.node("QuantizeLinear", x, scale, point)
    return finished(b, b.node("DequantizeLinear", q, scale, point))


def more_zero_points_than_scales() -> Model:
    b, x = builder()
    scale, points = b.constant(np.float32(0.1)), b.constant(np.zeros(3, np.int8))
    q = b.node("QuantizeLinear", x, scale, points, axis=1)
    return finished(b, b.node("DequantizeLinear", q, scale, points, axis=1))


def scale_of(value: float) -> Callable[[], Model]:
    def make() -> Model:
        b, x = builder()
        return finished(b, quantized(b, x, value))

    return make


def computed_scale() -> Model:
    b, x = builder()
    scale, point = b.node("ReduceMax", x, keepdims=0), b.constant(np.int8(0))
    q = b.node("QuantizeLinear", x, scale, point)
    return finished(b, b.node("DequantizeLinear", q, scale, point))


def half_scale() -> Model:
    b, x = builder()
    scale, point = b.constant(np.float16(0.1)), b.constant(np.int8(0))
    q = b.node("QuantizeLinear", x, scale, point, name="q")
    y = b.node("DequantizeLinear", q, scale, point)
    return finished(b, b.node("Cast", y, to=onnx.TensorProto.FLOAT))


def unsigned() -> Model:
    b, x = builder()
    return finished(b, b.quantize(x, 0.02, 0, "uint8"))


def low_precision(kind: str) -> Model:
    b, x = builder()
    b.opset = 23
    dtype = getattr(onnx.TensorProto, kind)
    point = onnx.helper.make_tensor("point", dtype, [], [0])
    b.initializers.append(point)
    scale = b.constant(np.float32(0.02))
    return finished(
        b, b.node("DequantizeLinear", b.node("QuantizeLinear", x, scale, "point"), scale, "point")
    )


def int4_activation() -> Model:
    return low_precision("INT4")


def int4_weights(shape: tuple[int, int] = (4, 8), scales: tuple[int, ...] = (4, 4)) -> Model:
    b = OnnxBuilder(opset=21)
    x = b.input("x", (1, shape[0]))
    codes = [i % 15 - 7 for i in range(int(np.prod(shape)))]
    for name, values, extent in (
        ("codes", codes, shape),
        ("points", [0] * int(np.prod(scales)), scales),
    ):
        b.initializers.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT4, extent, values))
    scale = b.constant(np.full(scales, 0.1, np.float32))
    blocks = {"axis": 1, "block_size": 2} if len(scales) == 2 else {"axis": 1}
    w = b.node("DequantizeLinear", "codes", scale, "points", name="dq", **blocks)
    return finished(b, b.node("MatMul", x, w))


def integer_bias() -> Model:
    b, x = builder()
    bias = b.dequantized(np.int32([1, 2, 3]), np.full(3, 1e-4))
    return finished(b, b.node("Conv", quantized(b, x), int8_weights(b, 3, 3, 1, 1), bias))


def small_integer_bias() -> Model:
    b, x = builder()
    bias = b.dequantized(np.int8([1, 2, 3]), 1e-2)
    return finished(b, b.node("Conv", quantized(b, x), int8_weights(b, 3, 3, 1, 1), bias))


def activation_per_channel() -> Model:
    b, x = builder()
    scale, point = b.constant(np.full(3, 0.1, np.float32)), b.constant(np.zeros(3, np.int8))
    q = b.node("QuantizeLinear", x, scale, point, axis=1)
    return finished(b, b.node("DequantizeLinear", q, scale, point, axis=1))


def weights_on_the_wrong_axis() -> Model:
    b, x = builder()
    return finished(b, b.node("Conv", quantized(b, x), int8_weights(b, 5, 3, 1, 1, axis=1)))


def too_few_scales() -> Model:
    b, x = builder()
    w = int8_weights(b, 5, 3, 1, 1, channels=4)
    return finished(b, b.node("Conv", quantized(b, x), w))


def scales_of_an_addend() -> Model:
    b, x = builder()
    return finished(b, b.node("Mul", x, int8_weights(b, 8, 8)))


def matrix_on_the_wrong_axis() -> Model:
    b, x = builder()
    return finished(b, b.node("MatMul", quantized(b, x), int8_weights(b, 8, 4, axis=0)))


def transposed_on_the_wrong_axis() -> Model:
    b, x = builder()
    w = b.node("Transpose", int8_weights(b, 4, 8, axis=1), perm=[1, 0])
    return finished(b, b.node("MatMul", quantized(b, x), w))


def float_weights() -> Model:
    b, x = builder()
    return finished(b, b.node("Conv", quantized(b, x), b.constant(weights(3, 3, 1, 1)), name="c"))


def half_quantised_product() -> Model:
    b, x = builder()
    return finished(b, b.node("MatMul", b.node("Relu", x), quantized(b, x), name="product"))


def float_skip() -> Model:
    b, x = builder()
    return finished(b, b.node("Add", quantized_conv(b, x), x, name="add"))


def one_float_addend() -> Model:
    b, x = builder()
    return finished(b, b.node("Add", b.node("Relu", x), quantized(b, x), name="add"))


BROKEN: list[tuple[str, Callable[[], Model], str]] = [
    ("opset", opset_8, "export with opset 9"),
    ("opset", opset_21, "reads opset 9 to 20"),
    ("operators", unknown_operator, "Det node 'determinant'"),
    ("operators", foreign_operator, "acme.FFT node 'f'"),
    ("operators", with_sub_graph, "If node"),
    ("operator-restrictions", pool_with_dilations, "dilations must be all ones"),
    ("operator-restrictions", norm_pool_with_dilations, "dilations must be all ones"),
    ("operator-restrictions", pool_in_one_dimension, "must have 2 or 3 spatial axes"),
    ("operator-restrictions", pool_indices, "Indices must not be used"),
    ("operator-restrictions", cubic_resize, "mode is 'cubic'"),
    ("operator-restrictions", antialiased_resize, "antialias must be 0"),
    ("operator-restrictions", lstm_batch_first, "attribute 'layout' must be 0"),
    ("operator-restrictions", second_output_of_layer_norm, "only its first output"),
    ("operator-restrictions", unsorted_top_k, "sorted must be 1"),
    ("operator-restrictions", large_top_k, "K is 4000"),
    ("static-shapes", open_shape, "'height'"),
    ("boundary-types", double_input, "use FLOAT"),
    ("boundary-types", int8_output, "end it with DequantizeLinear"),
    ("strong-typing", mixed_types, "'x' is FLOAT, 'half' is FLOAT16"),
    ("quantized-in-pairs", integers_outside, "Neg node 'negated'"),
    ("quantized-in-pairs", quantised_twice, "quantise every tensor once"),
    ("quantized-in-pairs", quantised_for_nobody, "nobody reads its result"),
    ("tensor-names", spaces_in_names, "tensor 'my input'"),
    ("tensor-names", endless_name, "has 5000 characters"),
    ("symmetric", asymmetric, "its zero point is -128"),
    ("symmetric", no_zero_point, "give an int8 zero"),
    ("symmetric", computed_zero_point, "its zero point is computed"),
    ("symmetric", more_zero_points_than_scales, "3 zero points for 1 scales"),
    ("scales", scale_of(0.0), "its scale holds 0"),
    ("scales", scale_of(-1.0), "its scale holds -1"),
    ("scales", computed_scale, "store it as a constant"),
    ("scales", half_scale, "quantises FLOAT with a scale of FLOAT16"),
    ("quantized-types", unsigned, "quantises to UINT8"),
    ("quantized-types", lambda: low_precision("FLOAT8E5M2"), "quantises to FLOAT8E5M2"),
    ("quantized-types", lambda: low_precision("FLOAT8E4M3FN"), "emulated on jetson-agx-orin"),
    ("quantized-types", lambda: low_precision("FLOAT4E2M1"), "FLOAT4E2M1 would be emulated"),
    ("quantized-types", int4_activation, "INT4 is for weights only"),
    ("quantized-types", lambda: int4_weights((4, 5), (4, 5)), "last axis must be even"),
    ("quantized-types", lambda: int4_weights(scales=(8,)), "INT4 weights without blocks"),
    ("float-bias", integer_bias, "leave biases float"),
    ("float-bias", small_integer_bias, "leave biases float"),
    ("per-tensor-activations", activation_per_channel, "give it a single scale"),
    ("weight-axis", weights_on_the_wrong_axis, "Conv takes scales on axis 0"),
    ("weight-axis", too_few_scales, "4 scales do not fit axis 0"),
    ("weight-axis", scales_of_an_addend, "use a single scale"),
    ("weight-axis", matrix_on_the_wrong_axis, "MatMul takes scales on axis 1"),
    ("weight-axis", transposed_on_the_wrong_axis, "MatMul takes scales on axis 1"),
    ("both-operands", float_weights, "Conv node 'c'"),
    ("both-operands", half_quantised_product, "MatMul node 'product'"),
    ("residual-addition", float_skip, "operand 'x' is float"),
    ("residual-addition", one_float_addend, "put QuantizeLinear and DequantizeLinear on both"),
]


@pytest.mark.parametrize(("rule", "make", "text"), BROKEN)
def test_broken_rules_are_found(rule: str, make: Callable[[], Model], text: str) -> None:
    found = violations(make(), tensorrt=10, module=ORIN)
    assert any(v.rule == rule and text in str(v) for v in found), [str(v) for v in found]


def test_every_rule_and_restriction_is_broken_by_some_test() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)
    restricted = {n.op_type for _, make, _ in BROKEN for n in make().ir.graph} & set(RESTRICTIONS)
    assert restricted == set(RESTRICTIONS)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_says_what_it_demands(name: str) -> None:
    assert RULES[name].text.endswith(".")
    assert RULES[name] in rules_for(11)


def test_all_violations_are_listed_at_once() -> None:
    model = quantize_static(network(classifier), samples())
    with pytest.raises(UnsupportedError) as caught:
        check(model, tensorrt=10, module=ORIN)
    lines = str(caught.value).splitlines()[1:]
    assert any("zero point is" in line and "[symmetric]" in line for line in lines)
    assert any("[float-bias]" in line for line in lines)
    assert any("[opset]" in line for line in lines)
    # Nothing is reported twice.
    assert len(lines) == len(set(lines))


def test_the_asymmetric_model_is_refused_naming_the_node() -> None:
    model = quantize_static(network(classifier), samples())
    found = [v for v in violations(model, tensorrt=10) if v.rule == "symmetric"]
    assert any(v.where == "QuantizeLinear node 'relu_1.quantized'" for v in found)


def test_newer_opsets_and_operators_are_for_tensorrt_11() -> None:
    model = network(lambda b, x: b.node("Relu", x), opset=25)
    assert broken_rules(model, 10) == {"opset"}
    assert not broken_rules(model, 11)

    def body(b: OnnxBuilder, x: str) -> str:
        return b.node("RMSNormalization", x, b.constant(np.ones(8, np.float32)), name="norm")

    model = network(body, opset=23)
    assert "TensorRT 11 reads it" in str(violations(model, tensorrt=10)[1])
    assert not broken_rules(model, 11)
    assert OPERATORS[10] < OPERATORS[11]


def test_formats_by_module() -> None:
    for kind in ("FLOAT8E4M3FN", "FLOAT4E2M1"):
        model = low_precision(kind)
        assert broken_rules(model, 11, "jetson-agx-orin") == {"quantized-types"}
        assert not broken_rules(model, 11, "jetson-thor")
        assert not violations(model, tensorrt=11), "without a module nothing is said of its GPU"


def test_int4_weights_in_blocks() -> None:
    assert not broken_rules(int4_weights(), 11)


def test_additions_may_fuse_into_the_product_before() -> None:
    b, x = builder()
    model = finished(b, b.node("Add", quantized_conv(b, x), quantized(b, x)))
    assert not violations(model, tensorrt=10)


def test_float_networks_keep_the_rules() -> None:
    for body in (classifier, lambda b, x: b.node("Add", x, conv(b, x, (3, 3), "c"))):
        assert not violations(network(body, opset=20), tensorrt=10)


def test_weights_quantised_from_float_initialisers() -> None:
    """The form that QAT exporters write: Q and DQ on float weights, transposed for a product."""
    b, x = builder()
    scale, point = b.constant(np.full(4, 0.01, np.float32)), b.constant(np.zeros(4, np.int8))
    q = b.node("QuantizeLinear", b.constant(weights(4, 8)), scale, point, axis=0)
    w = b.node("DequantizeLinear", q, scale, point, axis=0)
    w = b.node("Transpose", w, perm=[1, 0])
    model = finished(b, b.node("MatMul", quantized(b, x), w))
    assert not violations(model, tensorrt=10)


def test_constants_may_be_nodes() -> None:
    """PyTorch's exporter writes scales and zero points as Constant nodes."""
    b, x = builder()
    scale = b.node("Constant", value_float=0.02)
    zero = onnx.numpy_helper.from_array(np.array(0, np.int8))
    point = b.node("Constant", value=zero)
    q = b.node("QuantizeLinear", x, scale, point)
    model = finished(b, b.node("DequantizeLinear", q, scale, point))
    assert not violations(model, tensorrt=10)


def test_rules_look_into_local_functions() -> None:
    b, x = builder()
    helper = onnx.helper
    body = [
        helper.make_node("QuantizeLinear", ["v", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["r"]),
    ]
    opsets = [helper.make_opsetid("", 20)]
    b.functions.append(helper.make_function("mine", "QDQ", ["v", "s", "z"], ["r"], body, opsets))
    y = b.node("QDQ", x, b.constant(np.float32(1)), b.constant(np.int8(7)), domain="mine")
    assert broken_rules(finished(b, y)) == {"symmetric"}


def test_the_model_is_not_changed() -> None:
    model = good()
    before = model.to_bytes()
    violations(model, tensorrt=10)
    assert model.to_bytes() == before


def test_derived_models_keep_the_rules_of_every_module() -> None:
    model = derive(network(classifier), samples())
    for module in MODULES.values():
        for major in module.tensorrt_majors:
            check(model, tensorrt=major, module=module)
