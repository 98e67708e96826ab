"""Pools and mean: shape rules, rounding, and LiteRT's reference kernels to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.program.fixed_point import Requant
from edgekit.program.ir import DType, Quantization, TensorType
from edgekit.program.operators.base import Operator, OperatorError
from edgekit.program.operators.pooling import AvgPool2D, MaxPool2D, Mean
from tests.support.litert import TFLiteBuilder
from tests.support.oracle import assert_equals_litert
from tests.support.tflite_models import NONE, RELU, RELU6, RELU_N1_TO_1, SAME, VALID, options


def pool_model(
    builtin: str,
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: int,
    activation: int,
    dtype: str,
    quantization: dict[str, Any],
) -> bytes:
    """A .tflite model of one pool."""
    window = options(
        "Pool2D",
        padding=padding,
        fusedActivationFunction=activation,
        filterHeight=kernel[0],
        filterWidth=kernel[1],
        strideH=stride[0],
        strideW=stride[1],
    )
    extents = [
        -(-(size if padding == SAME else size - k + 1) // s)
        for size, k, s in zip(shape[1:3], kernel, stride, strict=True)
    ]
    b = TFLiteBuilder()
    x = b.tensor("x", shape, dtype, **quantization)
    y = b.tensor("y", (shape[0], *extents, shape[3]), dtype, **quantization)
    b.operator(builtin, [x], [y], window)
    return b.build([x], [y])


@pytest.mark.needs("litert")
@pytest.mark.parametrize("builtin", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize(
    ("dtype", "quantization"),
    [
        ("int8", {"scale": 0.05, "zero_point": -11}),
        ("int8", {"scale": 1.0, "zero_point": 127}),
        ("int16", {"scale": 0.001}),
        ("float32", {}),
    ],
)
@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding", "activation"),
    [
        ((1, 6, 8, 3), (2, 2), (2, 2), VALID, NONE),
        ((2, 5, 7, 3), (3, 2), (2, 3), SAME, NONE),
        ((1, 25, 5, 8), (25, 5), (25, 5), VALID, NONE),
        ((1, 7, 7, 5), (3, 3), (1, 1), SAME, RELU6),
        ((1, 3, 9, 2), (5, 4), (2, 2), SAME, RELU),
        ((1, 4, 4, 1), (2, 3), (1, 1), VALID, RELU_N1_TO_1),
        ((1, 1, 1, 1), (1, 1), (1, 1), SAME, NONE),
        ((1, 8, 8, 2), (1, 1), (3, 3), SAME, NONE),
    ],
)
def test_pools_equal_litert(
    builtin: str,
    dtype: str,
    quantization: dict[str, Any],
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: int,
    activation: int,
) -> None:
    """Windows, padding and fused activations."""
    model = pool_model(builtin, shape, kernel, stride, padding, activation, dtype, quantization)
    assert_equals_litert(model)


@pytest.mark.needs("litert")
def test_average_of_every_pair_rounds_as_litert_does() -> None:
    """All 65,536 pairs of int8: every tie, both signs."""
    every = np.arange(-128, 128, dtype=np.int8)
    pairs = np.stack(np.meshgrid(every, every), axis=-1).reshape(1, -1, 2, 1)
    model = pool_model(
        "AVERAGE_POOL_2D",
        pairs.shape,
        (1, 2),
        (1, 2),
        VALID,
        NONE,
        "int8",
        {"scale": 1.0},
    )
    assert_equals_litert(model, inputs=[[pairs]])


def mean_model(
    shape: tuple[int, ...],
    axes: list[int],
    keep_dims: bool,
    dtype: str,
    x_quantization: dict[str, Any],
    y_quantization: dict[str, Any],
) -> bytes:
    """A .tflite model of one mean."""
    b = TFLiteBuilder()
    x = b.tensor("x", shape, dtype, **x_quantization)
    axis = b.tensor("axis", (len(axes),), "int32", data=np.array(axes, np.int32))
    reduced = np.zeros(shape).mean(tuple(a % len(shape) for a in set(axes)), keepdims=keep_dims)
    y = b.tensor("y", np.shape(reduced), dtype, **y_quantization)
    b.operator("MEAN", [x, axis], [y], options("Reducer", keepDims=keep_dims))
    return b.build([x], [y])


@pytest.mark.needs("litert")
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 5, 7, 3), [1, 2]),
        ((1, 5, 7, 3), [2, 1]),
        ((2, 3, 4, 5), [-1]),
        ((2, 3, 4, 5), [0, 2, 2]),
        ((3, 4, 5), [0, 1, 2]),
        ((1, 1, 1, 4), [1, 2]),
    ],
)
@pytest.mark.parametrize("keep_dims", [False, True])
@pytest.mark.parametrize(("x_scale", "x_zero"), [(0.5, 0), (0.013, 127), (0.91, -128)])
@pytest.mark.parametrize(("y_scale", "y_zero"), [(0.5, 0), (0.0101, -77), (3.0, 127)])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_integer_mean_equals_litert(
    shape: tuple[int, ...],
    axes: list[int],
    keep_dims: bool,
    x_scale: float,
    x_zero: int,
    y_scale: float,
    y_zero: int,
    dtype: str,
) -> None:
    """Axes, scales and zero points."""
    wide = dtype == "int16"
    model = mean_model(
        shape,
        axes,
        keep_dims,
        dtype,
        {"scale": x_scale, "zero_point": 0 if wide else x_zero},
        {"scale": y_scale, "zero_point": 0 if wide else y_zero},
    )
    assert_equals_litert(model, samples=2)


@pytest.mark.needs("litert")
@pytest.mark.parametrize("exponent", [-25, -28, -29, -30, -31, -32, -33, -40])
def test_mean_with_vanishing_factors_equals_litert(exponent: int) -> None:
    """The factor's shift is at, around and below −31; int16 sums still reach the output."""
    model = mean_model(
        (1, 9, 1000, 2), [1, 2], False, "int16", {"scale": 1.7 * 2.0**exponent}, {"scale": 1.0}
    )
    ends = np.array([-32768, 32767], np.int16)
    x = np.broadcast_to(ends, (1, 9, 1000, 2)).copy()
    assert_equals_litert(model, inputs=[[x]])


@pytest.mark.needs("litert")
def test_mean_of_every_pair_rounds_as_litert_does() -> None:
    """All pairs of int8 with equal scales: ties of the fixed-point factor, both signs."""
    every = np.arange(-128, 128, dtype=np.int8)
    pairs = np.stack(np.meshgrid(every, every), axis=-1).reshape(-1, 2)
    for zero_point in (0, -128, 5):
        same = {"scale": 0.3, "zero_point": zero_point}
        model = mean_model(pairs.shape, [1], False, "int8", same, same)
        assert_equals_litert(model, inputs=[[pairs]])


@pytest.mark.needs("litert")
@pytest.mark.parametrize("axes", [[1, 2], [3], [0, 1, 2, 3], [2]])
@pytest.mark.parametrize("keep_dims", [False, True])
def test_float_mean_equals_litert(axes: list[int], keep_dims: bool) -> None:
    """The order of the sum is LiteRT's."""
    assert_equals_litert(mean_model((2, 7, 9, 5), axes, keep_dims, "float32", {}, {}))


def test_average_rounds_halves_away_from_zero() -> None:
    """Of both signs."""
    pool = AvgPool2D((1, 4), (1, 4), clamp=(-128, 127))
    rows = np.array([[1, 1, 0, 0], [-1, -1, 0, 0], [-1, 0, 0, 0], [3, 3, 0, 0]], np.int8)
    got = pool.reference(rows.reshape(4, 1, 4, 1))[0].ravel()
    assert got.tolist() == [1, -1, 0, 2]


def test_padding_counts_where_asked() -> None:
    """As the zero point."""
    x = np.full((1, 2, 2, 1), 90, np.int8)
    clamp = (-128, 127)
    left_out = AvgPool2D((2, 2), (2, 2), (1, 1, 1, 1), clamp)
    counted = AvgPool2D((2, 2), (2, 2), (1, 1, 1, 1), clamp, True, 10)
    assert left_out.reference(x)[0].ravel().tolist() == [90] * 4
    assert counted.reference(x)[0].ravel().tolist() == [30] * 4


def test_largest_integer_window_does_not_overflow() -> None:
    """65,535 elements at the ends of int16 are the most that a window may hold."""
    pool = AvgPool2D((255, 257), (1, 1), clamp=(-32768, 32767))
    for value in (-32768, 32767):
        x = np.full((1, 255, 257, 1), value, np.int16)
        assert pool.reference(x)[0].item() == value
    with pytest.raises(OperatorError, match="at most 65535"):
        AvgPool2D((256, 256), (1, 1), clamp=(-128, 127)).infer(
            TensorType((1, 256, 256, 1), DType.INT8)
        )


def test_float_average_adds_in_row_major_order() -> None:
    """Another order gives another float."""
    x = np.array([1.0, 2.0**25, -(2.0**25), 0.25], np.float32).reshape(1, 2, 2, 1)
    expected = (((np.float32(1) + x[0, 0, 1, 0]) + x[0, 1, 0, 0]) + x[0, 1, 1, 0]) / np.float32(4)
    assert AvgPool2D((2, 2), (1, 1)).reference(x)[0].item() == expected
    assert Mean((1, 2), False).reference(x)[0].item() == expected
    assert expected != x.astype(np.float64).mean()


def test_nan_is_never_the_largest() -> None:
    """A comparison with NaN is false."""
    x = np.array([np.nan, 1, 2, np.nan], np.float32).reshape(1, 1, 4, 1)
    assert MaxPool2D((1, 4), (1, 1)).reference(x)[0].item() == 2


INT8 = TensorType((1, 4, 4, 2), DType.INT8)
INT16 = TensorType((1, 4, 4, 2), DType.INT16)
FLOAT = TensorType((1, 4, 4, 2), DType.FLOAT32)
FULL = (-128, 127)
FACTOR = Requant((2**30,), (0,), "double")
SINGLE = Requant((2**30,), (0,), "single")
MANY = Requant((2**30,) * 8, (0,) * 8, "double")


@pytest.mark.parametrize(
    ("operator", "x", "message"),
    [
        (MaxPool2D((2, 2), (1, 1)), INT8, "int8 needs a clamp"),
        (MaxPool2D((2, 2), (1, 1), clamp=(5, 4)), INT8, "empty"),
        (MaxPool2D((2, 2), (1, 1), clamp=(0, 128)), INT8, "does not fit int8"),
        (MaxPool2D((2, 2), (1, 1), clamp=(0.0, 6.0)), INT8, "does not fit int8"),
        (MaxPool2D((0, 2), (1, 1), clamp=FULL), INT8, "kernel .* positive"),
        (MaxPool2D((2, 2), (0, 1), clamp=FULL), INT8, "stride .* positive"),
        (MaxPool2D((2, 2), (1, 1), (0, -1, 0, 0), FULL), INT8, "negative"),
        (MaxPool2D((2, 2), (1, 1), (2, 0, 0, 0), FULL), INT8, "axis 1: kernel 2"),
        (MaxPool2D((2, 2), (1, 1), (0, 0, 0, 2), FULL), INT8, "axis 2: kernel 2"),
        (AvgPool2D((5, 2), (1, 1), clamp=FULL), INT8, "axis 1: kernel 5"),
        (AvgPool2D((2, 2), (1, 1)), TensorType((4, 4, 2), DType.FLOAT32), "rank 4"),
        (AvgPool2D((2, 2), (1, 1)), TensorType((1, 4, 4, 2), DType.INT32), "x is int32"),
        (Mean((4,), False), FLOAT, "axis 4 is outside"),
        (Mean((2, 1), False), FLOAT, "increasing"),
        (Mean((), False), FLOAT, "increasing"),
        (Mean((1,), False, FACTOR), FLOAT, "takes no requant"),
        (Mean((1,), False, None, clamp=FULL), INT8, "needs requant"),
        (Mean((1,), False, SINGLE, clamp=FULL), INT8, "requant rounds 'single', must be 'double'"),
        (Mean((1,), False, MANY, clamp=FULL), INT8, "requant has 8 factors, must have one"),
        (Mean((1,), False, FACTOR, 128, 0, FULL), INT8, "x_zero_point 128 does not fit int8"),
        (Mean((1,), False, FACTOR, 0, -129, FULL), INT8, "y_zero_point -129 does not fit int8"),
        (Mean((1,), False, FACTOR, 1, 0, FULL), INT16, "x_zero_point is 1, must be 0 for int16"),
        (AvgPool2D((2, 2), (1, 1), (0,) * 4, FULL, True, 128), INT8, "x_zero_point 128 does not"),
        (Mean((1,), False), TensorType((1, 0), DType.FLOAT32), "empty"),
        (
            Mean((1,), False, FACTOR, clamp=(-32768, 32767)),
            TensorType((1, 65536), DType.INT16),
            "65535 at most",
        ),
    ],
)
def test_refused(operator: Operator, x: TensorType, message: str) -> None:
    """Shape rules say what would be right."""
    with pytest.raises(OperatorError, match=message):
        operator.infer(x)


def test_mean_of_the_most_elements_is_exact() -> None:
    """The sums of int16 fit int32."""
    one = Quantization.per_tensor(1.0)
    mean = Mean.quantized(axes=(0,), keep_dims=False, count=65535, x=one, y=one, dtype=DType.INT16)
    for value in (-32768, 32767):
        assert mean.reference(np.full(65535, value, np.int16))[0].item() == value
