"""Coded weights: what the shape rules and the verifier refuse, bounds, and the exact meaning."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import InvalidModelError
from edgekit.formats.elements import ELEMENTS
from edgekit.formats.factors import FACTORS
from edgekit.program import serialize
from edgekit.program.fixed_point import Requant
from edgekit.program.fuse import fuse_residual
from edgekit.program.ir import (
    Array,
    Boundary,
    DType,
    Operation,
    Program,
    Quantization,
    Tensor,
    TensorType,
)
from edgekit.program.operators.base import Operator, OperatorError
from edgekit.program.operators.coding import Coding, accumulator_for, single_suffices, worst_case
from edgekit.program.operators.convolution import Conv2D, DepthwiseConv2D, TransposeConv2D
from edgekit.program.operators.elementwise import Add
from edgekit.program.operators.linear import DynamicFullyConnected, FullyConnected
from edgekit.program.operators.quantization import Binarize
from edgekit.program.verify import verify
from tests.cases.case import one_operator
from tests.cases.coded import EXTREMES, Layer, grid

ONE = Quantization.per_tensor(1.0)
INT8, INT32 = DType.INT8, DType.INT32


def dense(coding: Coding | None, **changes: Any) -> FullyConnected:
    """A fully connected layer of unit scales."""
    fields: dict[str, Any] = {"x": ONE, "w": ONE, "y": ONE, "coding": coding, **changes}
    return FullyConnected.quantized(**fields)


def total(x: Array, zero_point: int, row: Array, factors: Array | None, group: int) -> int:
    """One sum as the definition says it, in Python's integers, group by group."""
    groups = [range(len(row))]
    if factors is not None:
        groups = [range(i, min(i + group, len(row))) for i in range(0, len(row), group)]
    sums = [sum((int(x[k]) - zero_point) * int(row[k]) for k in part) for part in groups]
    return sum(int(1 if factors is None else factors[g]) * value for g, value in enumerate(sums))


@pytest.mark.parametrize("kind", ["none", "uint8", "shift", "e4m3"])
@pytest.mark.parametrize("element", ["int3", "ternary", "shift4", "fp8-e4m3"])
def test_grouped_sums(element: str, kind: Any) -> None:
    """What reaches the requantisation is the definition's sum, in every operator."""
    rng = np.random.default_rng(5)
    levels = np.array(ELEMENTS[element].levels)
    rows = rng.choice(levels, (2, 18)).astype(ELEMENTS[element].dtype)
    known = [i for i in FACTORS[kind].integers if i is not None]
    factors = None if kind == "none" else rng.choice(known, (2, 4)).astype(np.int32)
    group = 0 if factors is None else 5
    coding = Coding(element, group, kind, DType.INT64)
    x = rng.integers(-128, 128, 18)
    want = [total(x, -3, rows[o], None if factors is None else factors[o], group) for o in (0, 1)]
    scale = 2.0 ** -np.ceil(np.log2(max(map(abs, want)) / 100))
    expected = [int(np.floor(abs(t) * scale + 0.5)) * (1 if t >= 0 else -1) for t in want]
    quantized = {
        "x": Quantization.per_tensor(1.0, -3),
        "w": Quantization.per_tensor(scale),
        "y": ONE,
        "coding": coding,
    }
    x8 = x.astype(np.int8)
    (got,) = FullyConnected.quantized(**quantized).reference(x8[None], rows, None, factors)
    assert got.ravel().tolist() == expected
    operator = Conv2D.quantized(**quantized)
    image, w = x8.reshape(1, 3, 3, 2), rows.reshape(2, 3, 3, 2)
    assert operator.reference(image, w, None, None, factors)[0].ravel().tolist() == expected
    # A depthwise row is (kernel row, kernel column): both channels see the same image here.
    both = np.repeat(x8.reshape(1, 6, 3, 1), 2, axis=3)
    depthwise = DepthwiseConv2D.quantized(**quantized)
    taps = np.ascontiguousarray(rows.T).reshape(6, 3, 2)
    assert depthwise.reference(both, taps, None, factors)[0].ravel().tolist() == expected


@given(
    rows=st.lists(st.lists(st.integers(-128, 127), min_size=3, max_size=3), min_size=1, max_size=4),
    factor=st.integers(0, 255),
    bias=st.integers(-(2**31), 2**31 - 1),
)
@settings(max_examples=60, deadline=None)
def test_worst_case_is_reached_and_never_passed(
    rows: list[list[int]], factor: int, bias: int
) -> None:
    """Inputs of 255 with the signs of the weights and the bias give exactly the bound."""
    weights = np.array(rows, np.int8)
    factors = np.full((len(rows), 2), factor, np.int32)
    biases = np.full(len(rows), bias)
    bound = worst_case(weights, group=2, factors=factors, bias=biases)
    reached = max(255 * factor * sum(abs(w) for w in row) + abs(bias) for row in rows)
    assert bound == reached


@pytest.mark.parametrize(
    ("bias", "accumulator"),
    [(2**31 - 1 - 255, "int32"), (2**31 - 255, "int64"), (2**53 - 255, "int64")],
)
def test_accumulator(bias: int, accumulator: str) -> None:
    """The narrowest one that holds every total, to the unit."""
    row = np.int8([[1]])
    assert accumulator_for("int2", row, bias=np.array([bias])) == accumulator
    assert accumulator_for("int2", row, bias=np.array([-bias])) == accumulator


def test_no_accumulator() -> None:
    """Beyond 2**53, far beyond int64 too, an error says what would do."""
    with pytest.raises(OperatorError, match="fewer products"):
        accumulator_for("int2", np.int8([[1]]), bias=np.array([2**53 - 254]))
    rows = np.full((1, 9999), ELEMENTS["fp8-e5m2"].maximum)
    with pytest.raises(OperatorError, match="must stay within 2"):
        accumulator_for("fp8-e5m2", rows, group=9999, factors=np.full((1, 1), 229376, np.int32))


def test_wide_elements_need_int64() -> None:
    """However small the values."""
    assert accumulator_for("fp8-e4m3", np.int32([[1]])) is DType.INT64


REFUSED = [
    (Coding("int9"), "no element 'int9'"),
    (Coding("int4", 8), "group is 8, must be 0"),
    (Coding("int4", 0, "uint8"), "group is 0, must be 1"),
    (Coding("int4", 8, "bf16"), "factors are 'bf16'"),  # type: ignore[arg-type]
    (Coding("int4", accumulator=DType.INT16), "must be in int32 or int64"),
    (Coding("fp8-e5m2"), "fp8-e5m2 in int32, must be in int64"),
    (Coding("shift4"), "w is int8, must be int16"),
    (Coding("int4", 4, "uint8"), r"factors are absent, must be int32\[2, 3\]"),
]


@pytest.mark.parametrize(("coding", "words"), REFUSED)
def test_codings_refused(coding: Coding, words: str) -> None:
    """With what would be right."""
    operator = FullyConnected(clamp=(-128, 127), requant=dense(None).requant, coding=coding)
    with pytest.raises(OperatorError, match=words):
        operator.infer(TensorType((1, 9), INT8), TensorType((2, 9), INT8))


def test_shapes_refused() -> None:
    """Factors of another shape or without a coding, bias of another dtype, float inputs."""
    x, w = TensorType((1, 9), INT8), TensorType((2, 9), INT8)
    grouped = dense(Coding("int4", 4, "uint8"))
    with pytest.raises(OperatorError, match="one for every 4 of 9 weights"):
        grouped.infer(x, w, None, TensorType((2, 2), INT32))
    with pytest.raises(OperatorError, match="where the coding has none"):
        dense(Coding("int4")).infer(x, w, None, TensorType((2, 1), INT32))
    with pytest.raises(OperatorError, match="factors are for coded weights"):
        dense(None).infer(x, w, None, TensorType((2, 1), INT32))
    with pytest.raises(OperatorError, match="bias is int32, must be int64"):
        dense(Coding("int4", accumulator=DType.INT64)).infer(x, w, TensorType((2,), INT32))
    with pytest.raises(OperatorError, match="x is float32, must be int8"):
        FullyConnected(coding=Coding("int4")).infer(TensorType((1, 9), DType.FLOAT32), w)


def test_rounding_follows_the_accumulator() -> None:
    """Convolutions round single in int32 and float64 in int64; another rounding is refused."""
    x, w = TensorType((1, 3, 3, 1), INT8), TensorType((2, 3, 3, 1), INT8)
    narrow = Conv2D.quantized(x=ONE, w=ONE, y=ONE, coding=Coding("int4"))
    wide = Conv2D.quantized(x=ONE, w=ONE, y=ONE, coding=Coding("int4", accumulator=DType.INT64))
    assert narrow.requant is not None
    assert wide.requant is not None
    assert (narrow.requant.rounding, wide.requant.rounding) == ("single", "float64")
    crossed = Conv2D(clamp=(-128, 127), requant=narrow.requant, coding=wide.coding)
    with pytest.raises(OperatorError, match="rounds 'single', must be 'float64'"):
        crossed.infer(x, w)


def test_transposed_convolution_refuses() -> None:
    """Coded weights."""
    operator = TransposeConv2D(coding=Coding("int4"))
    with pytest.raises(OperatorError, match="take no coded weights; keep these in int8"):
        operator.infer(TensorType((1, 3, 3, 1), INT8), TensorType((2, 3, 3, 1), INT8))


def program(w: Array, coding: Coding, bias: Array | None = None, **extra: Array) -> Program:
    """One fully connected layer of these constants."""
    given: list[Any] = [TensorType((1, w.shape[1]), INT8), ("const", w)]
    given.append(None if bias is None else ("const", bias))
    given += [("const", value) for value in extra.values()]
    while given[-1] is None:
        given.pop()
    return one_operator(dense(coding), *given)


def test_verifier_refuses_what_no_code_means() -> None:
    """Weights beyond the levels, factors that cannot be stored."""
    with pytest.raises(InvalidModelError, match="w holds 8, no level of int4"):
        program(np.int8([[7, -8, 8]]), Coding("int4"))
    with pytest.raises(InvalidModelError, match="factors hold 3, which shift cannot store"):
        program(np.int8([[1]]), Coding("int4", 1, "shift"), factors=np.int32([[3]]))


def test_verifier_refuses_overflow() -> None:
    """One unit beyond the limit, and not the limit itself."""
    w = np.int8([[127, -128]])
    most = 2**31 - 1 - 255 * 255
    program(w, Coding("int8"), np.int32([most]))
    with pytest.raises(InvalidModelError, match=r"may reach 2147483648.*int64 would do"):
        program(w, Coding("int8"), np.int32([-most - 1]))
    wide = Coding("int8", accumulator=DType.INT64)
    program(w, wide, np.array([2**53 - 255 * 255]))
    with pytest.raises(InvalidModelError, match="beyond 9007199254740992 of int64$"):
        program(w, wide, np.array([2**53 - 255 * 255 + 1]))


@pytest.mark.parametrize("port", [1, 3])
def test_verifier_refuses_computed_weights(port: int) -> None:
    """Weights and factors must be there to be packed."""
    given: list[Any] = [
        TensorType((1, 4), INT8),
        ("const", np.ones((2, 4), np.int8)),
        None,
        ("const", np.ones((2, 1), np.int32)),
    ]
    given[port] = TensorType(given[port][1].shape, DType(given[port][1].dtype.name))
    with pytest.raises(InvalidModelError, match="computed, must be constant with coded weights"):
        one_operator(dense(Coding("int4", 4, "uint8")), *given)


@pytest.mark.parametrize("layer", EXTREMES, ids=lambda layer: layer.id)
def test_extremes_touch_the_limit(layer: Layer) -> None:
    """The grid's extreme cases are the largest Programs that the verifier lets through."""
    case = replace(layer, extreme=1).case()
    tensors = dict(case.program.tensors)
    bias = tensors["in2"].data
    assert bias is not None
    tensors["in2"] = Tensor.constant("in2", bias + 1)
    with pytest.raises(InvalidModelError, match="a total may reach"):
        verify(case.program.replace(tensors=tensors))


def test_every_element_takes_part_in_the_grid() -> None:
    """In every operator, with and without factors of every kind."""
    seen = {(layer.operator, layer.element, layer.factors) for layer in grid()}
    for element in ELEMENTS:
        for kind in FACTORS:
            assert {(o, element, kind) for o in ("dense", "conv", "depthwise")} <= seen


def test_a_changed_coding_is_refused_on_load() -> None:
    """Files are not trusted: fields of other types, unknown elements."""
    coded = program(np.int8([[1, -1]]), Coding("ternary"))
    text, blob = serialize.dump(coded)
    serialize.load(text, blob)
    for field, junk in (
        ("element", "int9"),
        ("element", 4),
        ("group", -1),
        ("factors", "none "),
        ("accumulator", "float32"),
        ("accumulator", None),
    ):
        document = json.loads(text)
        document["operations"][0]["fields"]["coding"][field] = junk
        with pytest.raises(InvalidModelError):
            serialize.load(json.dumps(document), blob)


def test_dynamic_layer_rounds_every_step() -> None:
    """Conversion, product of the scales, product, bias: each one float32 operation."""
    rng = np.random.default_rng(3)
    x = rng.integers(-127, 128, (4, 70)).astype(np.int8)
    w = rng.choice(np.array(ELEMENTS["fp8-e4m3"].levels, np.int32), (5, 70))
    x_scale, w_scale = (rng.random(s).astype(np.float32) for s in ((4, 1), (5,)))
    bias = rng.standard_normal(5).astype(np.float32)
    operator = DynamicFullyConnected(coding=Coding("fp8-e4m3", accumulator=DType.INT64))
    (got,) = operator.reference(x, x_scale, w, w_scale, bias)
    for n in range(4):
        for o in range(5):
            exact = sum(int(a) * int(b) for a, b in zip(x[n], w[o], strict=True))
            step = np.float32(exact) * np.float32(x_scale[n, 0] * w_scale[o])
            assert got[n, o] == np.float32(step + bias[o])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({0: TensorType((2, 4), DType.INT16)}, "x is int16, must be int8"),
        ({1: TensorType((2,), DType.FLOAT32)}, "x_scale is"),
        ({2: TensorType((3, 5), INT8)}, "the 5 columns of w"),
        ({2: TensorType((3, 4), DType.INT16)}, "w is int16, must be int8"),
        ({3: TensorType((2,), DType.FLOAT32)}, r"w_scale has shape \[2\]"),
        ({4: TensorType((3,), INT32)}, "bias is int32, must be float32"),
        ({5: TensorType((3, 1), INT32)}, "factors are for coded weights"),
    ],
)
def test_dynamic_layer_refuses(change: dict[int, TensorType], words: str) -> None:
    """What does not fit."""
    given: list[TensorType | None] = [
        TensorType((2, 4), INT8),
        TensorType((2, 1), DType.FLOAT32),
        TensorType((3, 4), INT8),
        TensorType((3,), DType.FLOAT32),
        None,
        None,
    ]
    for index, kind in change.items():
        given[index] = kind
    with pytest.raises(OperatorError, match=words):
        DynamicFullyConnected().infer(*given)


def test_binarize_refuses_what_int8_does_not_hold() -> None:
    """A zero point, a level and its negative."""
    with pytest.raises(OperatorError, match="x_zero_point 128 does not fit int8"):
        Binarize(128).infer(TensorType((3,), INT8))
    for level in (0, -1, 128):
        with pytest.raises(OperatorError, match=f"level is {level}, must be in 1…127"):
            Binarize(0, level).infer(TensorType((3,), INT8))
    x = np.arange(-128, 128).astype(np.int8)
    for level in (1, 64, 127):
        (y,) = Binarize(-3, level).reference(x)
        assert y.tolist() == [level if value >= -3 else -level for value in range(-128, 128)]


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e5])
def test_convolutions_saturate_where_dense_layers_do(scale: float) -> None:
    """Totals that ``single`` would wrap need int64, and then a convolution is a product."""
    rng = np.random.default_rng(9)
    rows = rng.integers(-7, 8, (6, 300)).astype(np.int8)
    bias = rng.integers(-9999, 9999, 6)
    w = Quantization.per_tensor(float(np.float32(scale)))
    requant = Requant.from_real([w.scalar_scale], "single")
    accumulator = accumulator_for("int4", rows, bias=bias, requant=requant)
    assert accumulator is (INT32 if scale < 1e5 else DType.INT64)
    coding = Coding("int4", accumulator=accumulator)
    convolution = Conv2D.quantized(x=ONE, w=w, y=ONE, coding=coding)
    x = rng.integers(-128, 128, (50, 1, 1, 300)).astype(np.int8)
    given: list[Any] = [TensorType(x.shape, INT8), ("const", rows.reshape(6, 1, 1, 300))]
    given.append(("const", bias.astype(accumulator.numpy)))
    one_operator(convolution, *given)
    (image,) = convolution.reference(x, given[1][1], given[2][1])
    (product,) = dense(coding, w=w).reference(x.reshape(50, 300), rows, given[2][1])
    assert np.array_equal(image.reshape(50, 6), product)
    if accumulator is DType.INT64:
        wrapping = Conv2D.quantized(x=ONE, w=w, y=ONE, coding=Coding("int4"))
        given[2] = ("const", bias.astype(np.int32))
        with pytest.raises(InvalidModelError, match="single rounding may wrap .int64, which"):
            one_operator(wrapping, *given)


def test_single_rounding_stays_below_its_limit() -> None:
    """To the unit: the largest total that it takes below 2**30, by the reference itself."""
    for factor in (0.7, 3.0, 1000.1, 2.0**29):
        requant = Requant.from_real([factor], "single")
        most = int(2**30 / factor) + 2
        while not single_suffices(most, requant):
            most -= 1
        assert most > 2**30 / factor - 2
        for total in (most, -most):
            assert abs(int(requant.apply(total)[0])) <= 2**30


def test_a_residual_is_fused_into_a_coded_convolution() -> None:
    """With its factors in their place."""
    layer = Layer(operator="conv", name="fused", factors="uint8", x=(1, 4, 4, 5),
                  fields=(("padding", (1, 1, 1, 1)),))  # fmt: skip
    case = layer.case().program
    (conv,) = case.operations
    add: Operator = Add.quantized(a=ONE, b=ONE, y=ONE)
    out = case.tensors["out0"]
    chain = verify(
        Program(
            "chain",
            {**case.tensors, **{n: Tensor(n, out.shape, INT8) for n in ("other", "sum")}},
            (conv, Operation("add", add, ("out0", "other"), ("sum",))),
            (*case.inputs, Boundary("other", "other", out.shape)),
            (Boundary("sum", "sum", out.shape),),
        )
    )
    fused, modified = fuse_residual(chain)
    assert modified
    (operation,) = verify(fused).operations
    assert operation.inputs == ("in0", "in1", "in2", "other", "in4")
