"""Every numbered rule of every pass: the graph afterwards, and what ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir
import pytest
from onnx import TensorProto, helper

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.model import Model, load, passes
from edgekit.model.nodes import shape_of
from edgekit.model.passes import PASSES, Pass, optimize
from edgekit.model.passes.canonicalize import canonicalize
from edgekit.model.passes.fold_batchnorm import fold_batchnorm
from edgekit.model.passes.fold_constants import fold_constants
from edgekit.model.passes.fuse_activations import fuse_activations
from edgekit.model.passes.inline_functions import inline_functions
from edgekit.model.passes.remove_dead import remove_dead
from edgekit.model.passes.remove_identity import remove_identity
from edgekit.model.passes.upgrade_opset import TARGET, upgrade_opset
from tests.support.onnx_models import OnnxBuilder, run_onnx

pytestmark = pytest.mark.needs("onnxruntime")

RNG = np.random.default_rng(5)
BOUND = 2e-6
"""Largest difference relative to the largest output: folding rounds weights once more."""


def weights(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 0.6).astype(np.float32)


def operators(model: onnx_ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def check(
    b: OnnxBuilder,
    run: Pass,
    before: list[str],
    after: list[str],
    *,
    modified: bool = True,
    inferred: bool = True,
) -> onnx_ir.Model:
    """Apply a pass once and again; the second time it must find nothing, numbers stay."""
    data = b.build()
    ir = load(data).ir
    if inferred:
        ir, _ = fold_constants(ir)
    assert operators(ir) == before
    ir, changed = run(ir)
    assert changed is modified
    assert operators(ir) == after
    again, changed = run(ir)
    assert changed is False
    rng = np.random.default_rng(8)
    feeds = {
        i.name: rng.standard_normal([d.dim_value for d in i.type.tensor_type.shape.dim]).astype(
            np.float32
        )
        * 3
        for i in b.inputs
    }
    want, got = run_onnx(data, feeds), run_onnx(Model(again).to_bytes(), feeds)
    assert got.keys() == want.keys()
    for name, expected in want.items():
        assert got[name].shape == expected.shape
        largest = np.abs(expected).max(initial=1e-30)
        assert np.abs(got[name] - expected).max(initial=0) <= BOUND * largest
    return ir


def built(
    body: Callable[[OnnxBuilder, str], str], shape: tuple[int, ...] = (1, 4, 5, 6), opset: int = 21
) -> OnnxBuilder:
    b = OnnxBuilder(opset)
    b.output(body(b, b.input("x", shape)))
    return b


def ints(b: OnnxBuilder, *values: int) -> str:
    return b.constant(np.array(values, np.int64))


def number(b: OnnxBuilder, value: float) -> str:
    return b.constant(np.float32(value))


class TestFoldConstants:
    """Rules of fold_constants."""

    @pytest.mark.parametrize(
        "attribute",
        [
            {"value": helper.make_tensor("t", TensorProto.FLOAT, [2], [1.5, 2.5])},
            {"value_float": 1.5},
            {"value_floats": [1.5, 2.5]},
        ],
        ids=lambda a: next(iter(a)),
    )
    def test_1_constant_nodes(self, attribute: dict) -> None:
        b = built(lambda b, x: b.node("Add", x, b.node("Constant", **attribute)), (1, 2))
        check(b, fold_constants, ["Constant", "Add"], ["Add"], inferred=False)

    def test_2_and_3_shape_arithmetic(self) -> None:
        def flatten(b: OnnxBuilder, x: str) -> str:
            # How exporters of old wrote x.view(x.size(0), -1).
            batch = b.node("Gather", b.node("Shape", x), b.constant(np.int64(0)), axis=0)
            shape = b.node("Concat", b.node("Unsqueeze", batch, ints(b, 0)), ints(b, -1), axis=0)
            return b.node("Reshape", x, shape)

        ir = check(
            built(flatten),
            fold_constants,
            ["Shape", "Gather", "Unsqueeze", "Concat", "Reshape"],
            ["Reshape"],
            inferred=False,
        )
        assert shape_of(ir.graph.outputs[0]) == (1, 120)

    @pytest.mark.parametrize(
        "body",
        [
            lambda b, c: b.node("Mul", b.node("Add", c, c), b.node("Sqrt", b.node("Abs", c))),
            lambda b, c: b.node("Sub", b.node("Neg", c), b.node("Floor", c)),
            lambda b, c: b.node("Max", b.node("Min", c, number(b, 0.2)), number(b, -0.3)),
            lambda b, c: b.node("Transpose", b.node("Reshape", c, ints(b, 3, 2)), perm=[1, 0]),
            lambda b, c: b.node("Slice", c, ints(b, 2), ints(b, -9), ints(b, 1), ints(b, -1)),
            lambda b, c: b.node("Where", b.node("Less", c, number(b, 0)), c, b.node("Ceil", c)),
            lambda b, c: b.node(
                "Expand", b.node("Slice", c, ints(b, 0), ints(b, 1)), ints(b, 2, 3)
            ),
            lambda b, c: b.node("Cast", b.node("Cast", c, to=TensorProto.INT64), to=1),
            lambda b, c: b.node("ReduceProd", c, ints(b, 1), keepdims=1),
            lambda b, c: b.node("Div", c, b.node("ReduceSum", c)),
            lambda b, c: b.node("Mul", c, b.node("ConstantOfShape", ints(b, 2, 3))),
        ],
    )
    def test_3_numpy_gives_what_onnxruntime_gives(self, body: Callable) -> None:
        b = built(lambda b, x: b.node("Add", x, body(b, b.constant(weights(2, 3)))), (2, 3))
        ir, _ = fold_constants(load(b.build()).ir)
        assert operators(ir) == ["Add"]
        feeds = {"x": np.zeros((2, 3), np.float32)}
        want, got = run_onnx(b.build(), feeds), run_onnx(Model(ir).to_bytes(), feeds)
        np.testing.assert_array_equal(next(iter(got.values())), next(iter(want.values())))

    def test_3_integer_division_truncates(self) -> None:
        def body(b: OnnxBuilder, x: str) -> str:
            quotient = b.node("Div", ints(b, -7, 7, -7), ints(b, 2, -2, -2))
            return b.node("Add", x, b.node("Cast", quotient, to=1))

        check(built(body, (3,)), fold_constants, ["Div", "Cast", "Add"], ["Add"], inferred=False)

    @pytest.mark.parametrize("per_channel", [False, True])
    def test_3_quantised_constants_stay_behind_dequantize(self, per_channel: bool) -> None:
        def body(b: OnnxBuilder, x: str) -> str:
            scale = np.float32([0.1, 0.2, 0.3, 0.5] if per_channel else 0.1)
            point = np.zeros(scale.shape, np.int8)
            parameters = b.constant(scale), b.constant(point)
            q = b.node("QuantizeLinear", b.constant(weights(4, 5)), *parameters, axis=0)
            return b.node("MatMul", x, b.node("DequantizeLinear", q, *parameters, axis=0))

        check(
            built(body, (2, 4)),
            fold_constants,
            ["QuantizeLinear", "DequantizeLinear", "MatMul"],
            ["DequantizeLinear", "MatMul"],
            inferred=False,
        )

    def test_huge_results_are_not_folded(self) -> None:
        def body(b: OnnxBuilder, x: str) -> str:
            huge = b.node("ConstantOfShape", ints(b, 6000, 6000))
            return b.node("Add", x, b.node("ReduceSum", huge, keepdims=0))

        ir, _ = fold_constants(load(built(body, (1,)).build()).ir)
        assert operators(ir) == ["ConstantOfShape", "ReduceSum", "Add"]

    def test_a_constant_output_stays(self) -> None:
        b = OnnxBuilder()
        b.output(b.node("Constant", value_float=1.0))
        ir, modified = fold_constants(load(b.build()).ir)
        assert (operators(ir), modified) == (["Constant"], False)


class TestRemoveIdentity:
    """Rules of remove_identity."""

    @pytest.mark.parametrize(
        ("rule", "body"),
        [
            (1, lambda b, x: b.node("Identity", x)),
            (2, lambda b, x: b.node("Dropout", x)),
            (2, lambda b, x: b.node("Dropout", x, number(b, 0.5), b.constant(np.array(False)))),
            (3, lambda b, x: b.node("Cast", x, to=1)),
            (4, lambda b, x: b.node("Reshape", x, ints(b, 1, 4, -1, 6))),
            (4, lambda b, x: b.node("Expand", x, ints(b, 5, 6))),
            (5, lambda b, x: b.node("Transpose", x, perm=[0, 1, 2, 3])),
            (6, lambda b, x: b.node("Pad", x, ints(b, *[0] * 8))),
            (
                7,
                lambda b, x: b.node(
                    "Slice", x, ints(b, 0, 0), ints(b, 2**63 - 1, 6), ints(b, 1, 3)
                ),
            ),
            (8, lambda b, x: b.node("Concat", x, axis=2)),
        ],
    )
    def test_rules(self, rule: int, body: Callable) -> None:
        b = built(lambda b, x: b.node("Tanh", body(b, b.node("Relu", x))))
        before = ["Relu", b.nodes[1].op_type, "Tanh"]
        check(b, remove_identity, before, ["Relu", "Tanh"])

    @pytest.mark.parametrize("op", ["Flatten", "Squeeze", "Unsqueeze"])
    def test_4_flat_forms(self, op: str) -> None:
        rest = {"Unsqueeze": lambda b: [ints(b)]}.get(op, lambda b: [])
        b = built(lambda b, x: b.node("Tanh", b.node(op, b.node("Relu", x), *rest(b))), (3, 4))
        check(b, remove_identity, ["Relu", op, "Tanh"], ["Relu", "Tanh"])

    def test_what_does_something_stays(self) -> None:
        bodies: list[Callable[[OnnxBuilder, str], str]] = [
            lambda b, x: b.node("Cast", b.node("Cast", x, to=TensorProto.INT32), to=1),
            lambda b, x: b.node("Reshape", x, ints(b, 4, 30)),
            lambda b, x: b.node("Transpose", x, perm=[0, 1, 3, 2]),
            lambda b, x: b.node("Pad", x, ints(b, 0, 0, 0, 0, 0, 0, 0, 1)),
            lambda b, x: b.node("Slice", x, ints(b, -1), ints(b, -9), ints(b, 1), ints(b, -1)),
        ]
        for body in bodies:
            b = built(lambda b, x, body=body: b.node("Tanh", body(b, b.node("Relu", x))))
            names = [node.op_type for node in b.nodes]
            check(b, remove_identity, names, names, modified=False)

    def test_outputs_and_inputs_keep_their_names(self) -> None:
        b = OnnxBuilder()
        x = b.input("x", (1, 2))
        direct = b.node("Identity", x)
        relu = b.node("Relu", x)
        renamed, second = b.node("Identity", relu), b.node("Identity", relu)
        for name in (direct, renamed, second):
            b.output(name)
        before = ["Identity", "Relu", "Identity", "Identity"]
        # The one behind the input stays, and so does the second name of one value.
        check(b, remove_identity, before, ["Identity", "Relu", "Identity"])


class TestFoldBatchnorm:
    """Rules of fold_batchnorm."""

    def batch_norm(self, b: OnnxBuilder, x: str, channels: int) -> str:
        parameters = [weights(channels) for _ in range(3)] + [np.abs(weights(channels)) + 0.2]
        constants = [b.constant(p) for p in parameters]
        return b.node("BatchNormalization", x, *constants, epsilon=1e-3)

    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("group", [1, 2, 4])
    def test_1_conv(self, bias: bool, group: int) -> None:
        def body(b: OnnxBuilder, x: str) -> str:
            rest = [b.constant(weights(8, 4 // group, 3, 3))] + [b.constant(weights(8))] * bias
            return self.batch_norm(b, b.node("Conv", x, *rest, group=group), 8)

        check(built(body), fold_batchnorm, ["Conv", "BatchNormalization"], ["Conv"])

    @pytest.mark.parametrize("group", [1, 2])
    def test_2_conv_transpose(self, group: int) -> None:
        def body(b: OnnxBuilder, x: str) -> str:
            y = b.node("ConvTranspose", x, b.constant(weights(4, 3, 2, 2)), group=group)
            return self.batch_norm(b, y, 3 * group)

        check(
            built(body), fold_batchnorm, ["ConvTranspose", "BatchNormalization"], ["ConvTranspose"]
        )

    @pytest.mark.parametrize("trans", [0, 1])
    @pytest.mark.parametrize("c", [None, (1,), (5,), (1, 5)])
    def test_3_gemm(self, trans: int, c: tuple[int, ...] | None) -> None:
        def body(b: OnnxBuilder, x: str) -> str:
            rest = [b.constant(weights(*((5, 4) if trans else (4, 5))))]
            rest += [] if c is None else [b.constant(weights(*c))]
            y = b.node("Gemm", x, *rest, transB=trans, alpha=0.7, beta=1.3)
            return self.batch_norm(b, y, 5)

        check(built(body, (3, 4)), fold_batchnorm, ["Gemm", "BatchNormalization"], ["Gemm"])

    @pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (1, 4, 3, 2)])
    def test_4_alone(self, shape: tuple[int, ...]) -> None:
        b = built(lambda b, x: self.batch_norm(b, x, 4), shape)
        check(b, fold_batchnorm, ["BatchNormalization"], ["Mul", "Add"])

    @pytest.mark.parametrize(
        "affine",
        [
            lambda b, y: b.node("Mul", b.constant(weights(8, 1, 1)), y),
            lambda b, y: b.node("Div", y, b.constant(weights(1, 8, 1, 1) + 2)),
            lambda b, y: b.node("Add", y, b.constant(weights(8, 1, 1))),
            lambda b, y: b.node("Sub", y, number(b, 0.3)),
            lambda b, y: b.node("Sub", b.constant(weights(8, 1, 1)), y),
            lambda b, y: b.node(
                "Mul", b.node("Add", y, number(b, 1)), b.constant(weights(8, 1, 1))
            ),
        ],
    )
    def test_1_other_affine_maps(self, affine: Callable) -> None:
        b = built(lambda b, x: affine(b, b.node("Conv", x, b.constant(weights(8, 4, 2, 2)))))
        before = [node.op_type for node in b.nodes]
        check(b, fold_batchnorm, before, ["Conv"])

    @pytest.mark.parametrize(
        "follower",
        [
            lambda b, y: b.node("Mul", y, b.constant(weights(1, 1, 5))),
            lambda b, y: b.node("Mul", y, y),
            lambda b, y: b.node("Div", number(b, 1), y),
            lambda b, y: b.node("Add", b.node("Mul", y, number(b, 2)), y),
        ],
    )
    def test_what_is_not_affine_or_read_twice_stays(self, follower: Callable) -> None:
        b = built(lambda b, x: follower(b, b.node("Conv", x, b.constant(weights(8, 4, 2, 2)))))
        before = [node.op_type for node in b.nodes]
        check(b, fold_batchnorm, before, before, modified=False)

    @pytest.mark.filterwarnings("error")
    def test_a_map_that_exceeds_float32_leaves_everything_alone(self) -> None:
        def body(b: OnnxBuilder, x: str) -> str:
            y = b.node("Gemm", x, b.constant(np.ones((4, 5), np.float32)), alpha=2.0, beta=0.5)
            return b.node("Mul", y, number(b, 3e38))

        # 2 · 3e38 is infinite in float32; its product with what x holds is not.
        b = built(body, (3, 4))
        ir, _ = fold_constants(load(b.build()).ir)
        ir, modified = fold_batchnorm(ir)
        assert (operators(ir), modified) == (["Gemm", "Mul"], False)
        feeds = {"x": np.full((3, 4), 1e-3, np.float32)}
        want, got = run_onnx(b.build(), feeds), run_onnx(Model(ir).to_bytes(), feeds)
        for name, expected in want.items():
            assert np.isfinite(expected).all()
            np.testing.assert_array_equal(got[name], expected)

    @pytest.mark.filterwarnings("error")
    def test_4_parameters_beyond_float32_are_refused(self) -> None:
        def body(b: OnnxBuilder, x: str) -> str:
            values = (1e30, 0.0, 0.0, 1e-20)
            parameters = [b.constant(np.full(4, value, np.float32)) for value in values]
            return b.node("BatchNormalization", x, *parameters, epsilon=1e-25)

        with pytest.raises(UnsupportedError, match="its scale or shift exceeds float32"):
            optimize(load(built(body).build()))

    def test_training_mode_is_refused(self) -> None:
        b = built(lambda b, x: self.batch_norm(b, x, 4))
        b.nodes[-1].attribute.append(helper.make_attribute("training_mode", 1))
        with pytest.raises(UnsupportedError, match="training_mode must be 0"):
            optimize(load(b.build()))

    def test_parameters_must_fit(self) -> None:
        b = built(lambda b, x: self.batch_norm(b, x, 3))
        with pytest.raises(InvalidModelError, match="must have 4 numbers"):
            optimize(load(b.build()))


def _shifted(b: OnnxBuilder, x: str) -> str:
    return b.node("Clip", b.node("Add", x, number(b, 3)), number(b, 0), number(b, 6))


def _sixth(b: OnnxBuilder, x: str) -> str:
    return b.node("Mul", x, b.constant(np.float32(1 / 6)))


class TestFuseActivations:
    """Rules of fuse_activations, and what is left to the lowering."""

    @pytest.mark.parametrize(
        ("rule", "body"),
        [
            (1, lambda b, x: b.node("Mul", x, b.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))),
            (2, lambda b, x: b.node("Div", b.node("Mul", x, _shifted(b, x)), number(b, 6))),
            (2, lambda b, x: b.node("Mul", x, b.node("Div", _shifted(b, x), number(b, 6)))),
            (2, lambda b, x: b.node("Mul", _sixth(b, _shifted(b, x)), x)),
            (2, lambda b, x: _sixth(b, b.node("Mul", _shifted(b, x), x))),
        ],
    )
    def test_1_and_2_hard_swish(self, rule: int, body: Callable) -> None:
        b = built(body)

        def fuse_and_clean(ir: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
            ir, fused = fuse_activations(ir)
            return remove_dead(ir)[0], fused

        check(b, fuse_and_clean, [n.op_type for n in b.nodes], ["HardSwish"])

    @pytest.mark.parametrize(
        "body",
        [
            lambda b, x: b.node("Mul", x, b.node("HardSigmoid", x, alpha=0.2, beta=0.5)),
            lambda b, x: b.node("Mul", x, b.node("HardSigmoid", b.node("Tanh", x), alpha=1 / 6)),
            lambda b, x: b.node("Div", b.node("Mul", x, _shifted(b, x)), number(b, 5)),
        ],
    )
    def test_look_alikes_stay(self, body: Callable) -> None:
        b = built(body)
        before = [n.op_type for n in b.nodes]
        check(b, fuse_activations, before, before, modified=False)

    @pytest.mark.parametrize(
        ("first", "second", "after"),
        [
            (("Relu",), ("Clip", -1, 2), "Clip"),
            (("Clip", -1, 2), ("Relu",), "Clip"),
            (("Clip", -3, -1), ("Clip", 0.5, 2), "Clip"),
            (("Clip", 1, 3), ("Clip", -2, -1), "Clip"),
            (("Relu",), ("Relu",), "Relu"),
        ],
    )
    def test_3_clamps(self, first: tuple, second: tuple, after: str) -> None:
        def clamp(b: OnnxBuilder, x: str, form: tuple) -> str:
            return b.node(form[0], x, *(number(b, v) for v in form[1:]))

        b = built(lambda b, x: clamp(b, clamp(b, x, first), second))

        def merge_and_clean(ir: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
            ir, merged = fuse_activations(ir)
            return remove_dead(ir)[0], merged

        check(b, merge_and_clean, [first[0], second[0]], [after])


GATHERED = ["Slice", "Squeeze"]
"""What Gather of one number becomes."""


class TestCanonicalize:
    """Rules of canonicalize."""

    @pytest.mark.parametrize(
        ("body", "after"),
        [
            (lambda b, x: b.node("Div", x, b.constant(weights(5, 1) + 2)), ["Mul"]),
            (lambda b, x: b.node("HardSigmoid", x, alpha=0.3), ["Mul", "Add", "Clip"]),
            (lambda b, x: b.node("Max", x, number(b, 0.1)), ["Clip"]),
            (lambda b, x: b.node("Min", b.constant(np.float32([0.1])), x), ["Clip"]),
            (lambda b, x: b.node("PRelu", x, b.constant(np.float32([0.2]))), ["LeakyRelu"]),
            (lambda b, x: b.node("Gather", x, b.constant(np.int64(-1)), axis=2), GATHERED),
            (lambda b, x: b.node("Gather", x, b.constant([1, 2]), axis=1), ["Slice"]),
            (lambda b, x: b.node("Gather", x, b.constant([-2, -1]), axis=-1), ["Slice"]),
        ],
        ids=["1", "2", "3-max", "3-min", "4", "5-number", "5-list", "5-from-behind"],
    )
    def test_rules(self, body: Callable, after: list[str]) -> None:
        b = built(body)
        check(b, canonicalize, [b.nodes[0].op_type], after)

    @pytest.mark.parametrize(
        "body",
        [
            lambda b, x: b.node("Div", x, b.node("Add", x, number(b, 9))),
            lambda b, x: b.node("Max", x, b.constant(weights(5, 1))),
            lambda b, x: b.node("PRelu", x, b.constant(weights(4, 1, 1))),
            lambda b, x: b.node("Gather", x, b.constant([2, 1]), axis=1),
            lambda b, x: b.node("Gather", x, b.constant([[1]]), axis=1),
        ],
    )
    def test_other_forms_stay(self, body: Callable) -> None:
        b = built(body)
        before = [n.op_type for n in b.nodes]
        check(b, canonicalize, before, before, modified=False)

    @pytest.mark.parametrize("index", [4, -5])
    def test_5_indices_must_be_inside(self, index: int) -> None:
        b = built(lambda b, x: b.node("Gather", x, b.constant(np.int64(index)), axis=1))
        with pytest.raises(InvalidModelError, match="outside axis 1 of"):
            optimize(load(b.build()))


class TestRemoveDead:
    """Rules of remove_dead."""

    def test_1_nodes_and_2_constants(self) -> None:
        def body(b: OnnxBuilder, x: str) -> str:
            b.node("Add", b.node("Tanh", x), b.constant(weights(6), "unused"))
            return b.node("Relu", x)

        ir = check(built(body), remove_dead, ["Tanh", "Add", "Relu"], ["Relu"])
        assert "unused" not in ir.graph.initializers

    def test_an_unused_input_stays(self) -> None:
        b = built(lambda b, x: b.node("Relu", x))
        b.input("y", (2,))
        ir, _ = remove_dead(load(b.build()).ir)
        assert [v.name for v in ir.graph.inputs] == ["x", "y"]


class TestUpgradeOpset:
    """Rules of upgrade_opset: the old spelling computes the same as the new one."""

    @pytest.mark.parametrize(
        ("rule", "opset", "body"),
        [
            (1, 10, lambda b, x: b.node("Clip", x, min=-0.5, max=0.75)),
            (1, 7, lambda b, x: b.node("Clip", x, min=0.25)),
            (2, 10, lambda b, x: b.node("Pad", x, pads=[0, 0, 1, 2, 0, 0, 0, 3], value=0.5)),
            (3, 9, lambda b, x: b.node("Slice", x, starts=[1, -2], ends=[3, 99], axes=[2, 3])),
            (4, 12, lambda b, x: b.node("Squeeze", x, axes=[0])),
            (4, 12, lambda b, x: b.node("Unsqueeze", x, axes=[0, 3])),
            (4, 13, lambda b, x: b.node("ReduceMean", x, axes=[2, 3], keepdims=0)),
            (5, 12, lambda b, x: b.node_all("Split", x, outputs=2, axis=1, split=[1, 3])[1]),
            (6, 8, lambda b, x: b.node("Upsample", x, scales=[1.0, 1.0, 2.0, 3.0])),
            (6, 9, lambda b, x: b.node("Upsample", x, b.constant(np.float32([1, 1, 2, 2])))),
            (6, 10, lambda b, x: b.node("Resize", x, b.constant(np.float32([1, 1, 2, 0.5])))),
            (7, 11, lambda b, x: b.node("Softmax", x)),
            (7, 11, lambda b, x: b.node("Softmax", x, axis=2)),
            (7, 11, lambda b, x: b.node("Softmax", x, axis=3)),
            (8, 10, lambda b, x: b.node("Dropout", x, ratio=0.5)),
        ],
    )
    def test_rules(self, rule: int, opset: int, body: Callable) -> None:
        b = built(body, opset=opset)
        data = b.build()
        ir, modified = upgrade_opset(load(data).ir)
        assert modified
        assert ir.graph.opset_imports[""] == TARGET
        assert upgrade_opset(ir)[1] is False
        feeds = {"x": RNG.standard_normal((1, 4, 5, 6)).astype(np.float32)}
        want, got = run_onnx(data, feeds), run_onnx(Model(ir).to_bytes(), feeds)
        assert got.keys() == want.keys()
        for name, expected in want.items():
            assert got[name].shape == expected.shape
            np.testing.assert_allclose(got[name], expected, rtol=1e-6, atol=1e-7)

    def test_8_spatial_batch_norm(self) -> None:
        def body(b: OnnxBuilder, x: str, spatial: int) -> str:
            rest = [b.constant(np.abs(weights(4)) + 0.1) for _ in range(4)]
            return b.node("BatchNormalization", x, *rest, spatial=spatial)

        ir, _ = upgrade_opset(load(built(lambda b, x: body(b, x, 1), opset=7).build()).ir)
        assert "spatial" not in ir.graph[0].attributes
        with pytest.raises(UnsupportedError, match="spatial must be 1"):
            upgrade_opset(load(built(lambda b, x: body(b, x, 0), opset=7).build()).ir)

    def test_a_newer_opset_stays(self) -> None:
        ir, modified = upgrade_opset(
            load(built(lambda b, x: b.node("Relu", x), opset=23).build()).ir
        )
        assert (ir.graph.opset_imports[""], modified) == (23, False)


class TestInlineFunctions:
    """Rules of inline_functions."""

    def model(self, calls: int = 1) -> OnnxBuilder:
        def body(b: OnnxBuilder, x: str) -> str:
            for _ in range(calls):
                x = b.node("Twice", x, domain="acme")
            return x

        b = built(body, (2, 3))
        nodes = [helper.make_node("Add", ["a", "a"], ["s"]), helper.make_node("Relu", ["s"], ["r"])]
        opsets = [helper.make_opsetid("", 21)]
        b.functions.append(helper.make_function("acme", "Twice", ["a"], ["r"], nodes, opsets))
        return b

    def test_1_calls_become_bodies(self) -> None:
        check(
            self.model(2),
            inline_functions,
            ["Twice", "Twice"],
            ["Add", "Relu", "Add", "Relu"],
            inferred=False,
        )

    def test_2_kept_functions_stay(self) -> None:
        ir, modified = inline_functions(load(self.model().build()).ir, keep={("acme", "Twice")})
        assert (operators(ir), modified) == (["Twice"], False)

    def test_opsets_must_agree(self) -> None:
        b = self.model()
        b.functions[0].opset_import[0].version = 20
        with pytest.raises(InvalidModelError, match="cannot be written out: Opset mismatch"):
            optimize(load(b.build()))

    def test_mistakes_of_the_caller_are_not_blamed_on_the_model(self) -> None:
        class Mistaken(set[tuple[str, str]]):
            def __contains__(self, item: object) -> bool:
                raise LookupError("a mistake of the caller")

        with pytest.raises(LookupError, match="a mistake of the caller"):
            inline_functions(load(self.model().build()).ir, keep=Mistaken())

    def test_recursion_and_explosion_are_refused(self) -> None:
        b = self.model()
        b.functions[0].node.append(helper.make_node("Twice", ["r"], ["t"], domain="acme"))
        b.functions[0].opset_import.append(helper.make_opsetid("acme", 1))
        with pytest.raises(InvalidModelError, match="'Twice' recurses"):
            load(b.build())
        b = built(lambda b, x: b.node("F0", x, domain="acme"), (2,))
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("acme", 1)]
        for depth in range(60):
            inner = "Relu" if depth == 59 else f"F{depth + 1}"
            domain = "" if depth == 59 else "acme"
            nodes = [
                helper.make_node(inner, ["a"], ["b"], domain=domain),
                helper.make_node(inner, ["b"], ["c"], domain=domain),
            ]
            b.functions.append(
                helper.make_function("acme", f"F{depth}", ["a"], ["c"], nodes, opsets)
            )
        with pytest.raises(UnsupportedError, match="at most 100000 are supported"):
            load(b.build())


def test_passes_that_never_settle_are_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def restless(model: onnx_ir.Model) -> tuple[onnx_ir.Model, bool]:
        return model, True

    monkeypatch.setattr(passes, "PASSES", (*PASSES, restless))
    with pytest.raises(AssertionError, match=r"still change the graph: \['restless'\]"):
        optimize(load(built(lambda b, x: b.node("Relu", x)).build()))


def test_optimize_leaves_its_argument_alone_and_settles() -> None:
    def body(b: OnnxBuilder, x: str) -> str:
        y = b.node("Conv", b.node("Identity", x), b.constant(weights(3, 4, 2, 2)))
        y = b.node("Min", b.node("Max", y, number(b, 0)), number(b, 6))
        return b.node("Reshape", y, b.node("Shape", y))

    model = load(built(body).build())
    before = model.to_bytes()
    better = optimize(model)
    assert operators(better.ir) == ["Conv", "Clip"]
    assert model.to_bytes() == before
    for run in PASSES:
        assert run(better.ir)[1] is False, run.__name__
