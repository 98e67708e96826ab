"""Every builtin operator that computes, read from a file and run both ways, to the bit.

Those that only move elements, pools and means are in ``test_movement.py`` and ``test_pooling.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from edgekit.program.ir import Program
from edgekit.program.tflite import READERS, read
from tests.support.litert import TFLiteBuilder
from tests.support.oracle import assert_equals_litert
from tests.support.tflite_models import (
    NONE,
    RELU,
    RELU6,
    RELU_N1_TO_1,
    SAME,
    VALID,
    Weighted,
    options,
    small_network,
)

pytestmark = pytest.mark.needs("litert")

DTYPES = ["int8", "int16", "float32"]


def extent(size: int, reach: int, stride: int, padding: int) -> int:
    """Windows along one axis."""
    return -(-(size if padding == SAME else size - reach + 1) // stride)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "weights", "stride", "dilation", "padding", "activation"),
    [
        ((1, 6, 5, 3), (4, 3, 2, 3), (2, 1), (1, 1), SAME, RELU),
        ((2, 7, 7, 4), (6, 3, 3, 2), (1, 1), (2, 1), VALID, RELU6),
        ((1, 5, 9, 2), (3, 1, 4, 2), (3, 2), (1, 2), SAME, NONE),
        ((1, 1, 1, 5), (1, 1, 1, 5), (1, 1), (1, 1), VALID, RELU_N1_TO_1),
    ],
)
def test_conv_2d(
    dtype: str,
    shape: tuple[int, int, int, int],
    weights: tuple[int, int, int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: int,
    activation: int,
) -> None:
    """Padding, stride, dilation, groups, fused activations."""
    b = TFLiteBuilder()
    make = Weighted(b, dtype)
    rows, columns = (
        extent(shape[1 + k], (weights[1 + k] - 1) * dilation[k] + 1, stride[k], padding)
        for k in (0, 1)
    )
    x = make.activation("x", shape, 0.05, 9)
    y = make.activation("y", (shape[0], rows, columns, weights[0]), 0.07, -20)
    fields = {
        "padding": padding,
        "strideH": stride[0],
        "strideW": stride[1],
        "dilationHFactor": dilation[0],
        "dilationWFactor": dilation[1],
        "fusedActivationFunction": activation,
    }
    b.operator(
        "CONV_2D",
        [x, make.weights(weights, 0), make.bias(weights[0])],
        [y],
        options("Conv2D", **fields),
    )
    assert_equals_litert(b.build([x], [y]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("channels", "multiplier", "stride", "dilation", "padding"),
    [(3, 1, 1, 1, SAME), (4, 2, 2, 1, SAME), (1, 5, 1, 2, VALID), (2, 1, 3, 1, VALID)],
)
def test_depthwise_conv_2d(
    dtype: str, channels: int, multiplier: int, stride: int, dilation: int, padding: int
) -> None:
    """Channel multipliers; the weights' scales run along axis 3."""
    b = TFLiteBuilder()
    make = Weighted(b, dtype)
    outputs = channels * multiplier
    rows = extent(8, 2 * dilation + 1, stride, padding)
    columns = extent(7, dilation + 1, stride, padding)
    x = make.activation("x", (1, 8, 7, channels), 0.05, 9)
    y = make.activation("y", (1, rows, columns, outputs), 0.06, -1)
    fields = {
        "padding": padding,
        "strideH": stride,
        "strideW": stride,
        "depthMultiplier": multiplier,
        "dilationHFactor": dilation,
        "dilationWFactor": dilation,
        "fusedActivationFunction": RELU,
    }
    w = make.weights((1, 3, 2, outputs), 3)
    given = [x, w, make.bias(outputs)]
    b.operator("DEPTHWISE_CONV_2D", given, [y], options("DepthwiseConv2D", **fields))
    assert_equals_litert(b.build([x], [y]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("size", "target", "kernel", "stride", "padding"),
    [
        (3, 6, 3, 2, SAME),
        (3, 5, 3, 2, SAME),
        (3, 7, 3, 2, VALID),
        (4, 4, 2, 1, SAME),
        (2, 6, 2, 3, SAME),
        (2, 6, 2, 3, VALID),
    ],
)
def test_transpose_conv(
    dtype: str, size: int, target: int, kernel: int, stride: int, padding: int
) -> None:
    """The file states the output's size; padding follows from it."""
    b = TFLiteBuilder()
    make = Weighted(b, dtype)
    x = make.activation("x", (1, size, size, 3), 0.05, 9)
    y = make.activation("y", (1, target, target, 2), 0.07, -1)
    shape = b.tensor("shape", (4,), "int32", data=np.array([1, target, target, 2], np.int32))
    fields = {"padding": padding, "strideH": stride, "strideW": stride}
    given = [shape, make.weights((2, kernel, kernel, 3), 0), x]
    b.operator("TRANSPOSE_CONV", given, [y], options("TransposeConv", **fields))
    # The reference kernel adds float32 products in another order.
    assert_equals_litert(b.build([x], [y]), tolerance=1e-5 if dtype == "float32" else 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "keep", "result"),
    [
        ((1, 12), False, (1, 5)),
        ((2, 3, 4), False, (2, 5)),
        ((2, 3, 12), True, (2, 3, 5)),
        ((2, 3, 12), False, (6, 5)),
        ((12,), False, (1, 5)),
    ],
)
@pytest.mark.parametrize("axis", [None, 0])
def test_fully_connected(
    dtype: str, shape: tuple[int, ...], keep: bool, result: tuple[int, ...], axis: int | None
) -> None:
    """Leading axes are flattened unless the options keep them; both kinds of scales."""
    b = TFLiteBuilder()
    make = Weighted(b, dtype)
    x = make.activation("x", shape, 0.05, 9)
    y = make.activation("y", result, 0.07, -1)
    given = [x, make.weights((5, 12), axis), make.bias(5)]
    fields = options("FullyConnected", keepNumDims=keep, fusedActivationFunction=RELU6)
    b.operator("FULLY_CONNECTED", given, [y], fields)
    assert_equals_litert(b.build([x], [y]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("adj_x", [False, True])
@pytest.mark.parametrize("adj_y", [False, True])
def test_batch_matmul(dtype: str, adj_x: bool, adj_y: bool) -> None:
    """Both operands computed, each transposed or not; the batch broadcasts."""
    b = TFLiteBuilder()
    make = Weighted(b, dtype)
    left = make.activation("a", (2, 4, 3) if adj_x else (2, 3, 4), 0.05, 9)
    right = make.activation("b", (1, 5, 4) if adj_y else (1, 4, 5), 0.06, -4)
    y = make.activation("y", (2, 3, 5), 0.07, -1)
    b.operator("BATCH_MATMUL", [left, right], [y], options("BatchMatMul", adjX=adj_x, adjY=adj_y))
    assert_equals_litert(b.build([left, right], [y]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("builtin", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("activation", [NONE, RELU, RELU6, RELU_N1_TO_1])
def test_pairs(dtype: str, builtin: str, activation: int) -> None:
    """Broadcast and fused activations."""
    b = TFLiteBuilder()
    make = Weighted(b, dtype)
    left = make.activation("a", (2, 3, 4), 0.05, 9)
    right = make.activation("b", (3, 1), 0.06, -4)
    y = make.activation("y", (2, 3, 4), 0.11, -1)
    fields = options(builtin.capitalize(), fusedActivationFunction=activation)
    b.operator(builtin, [left, right], [y], fields)
    assert_equals_litert(b.build([left, right], [y]))


@pytest.mark.parametrize(
    ("builtin", "dtypes", "fields"),
    [
        ("RELU", DTYPES, None),
        ("RELU6", DTYPES, None),
        ("RELU_N1_TO_1", ["int8", "float32"], None),
        ("LEAKY_RELU", DTYPES, ("LeakyRelu", {"alpha": 0.3})),
        ("HARD_SWISH", ["int8"], None),
    ],
)
def test_activations(
    builtin: str, dtypes: list[str], fields: tuple[str, dict[str, Any]] | None
) -> None:
    """Input and output quantised differently; curves of float32 are compared in test_activation."""
    for dtype in dtypes:
        b = TFLiteBuilder()
        make = Weighted(b, dtype)
        x = make.activation("x", (3, 50), 0.05, 9)
        y = make.activation("y", (3, 50), 0.04, -30)
        given = None if fields is None else options(fields[0], **fields[1])
        b.operator(builtin, [x], [y], given)
        assert_equals_litert(b.build([x], [y]))


@pytest.mark.parametrize(
    ("builtin", "scale", "zero_point"), [("LOGISTIC", 1 / 256, -128), ("TANH", 1 / 128, 0)]
)
def test_curves(builtin: str, scale: float, zero_point: int) -> None:
    """With the only output quantisation that LiteRT has."""
    b = TFLiteBuilder()
    x = b.tensor("x", (256,), "int8", scale=0.04, zero_point=3)
    y = b.tensor("y", (256,), "int8", scale=scale, zero_point=zero_point)
    b.operator(builtin, [x], [y])
    assert_equals_litert(b.build([x], [y]), inputs=[[np.arange(-128, 128, dtype=np.int8)]])


@pytest.mark.parametrize("builtin", ["HARD_SWISH", "LOGISTIC", "TANH", "SOFTMAX"])
def test_float_curves(builtin: str) -> None:
    """Our own exponential, within a few units in the last place of LiteRT's."""
    b = TFLiteBuilder()
    x, y = (b.tensor(name, (3, 50), "float32") for name in ("x", "y"))
    given = options("Softmax", beta=0.7) if builtin == "SOFTMAX" else None
    b.operator(builtin, [x], [y], given)
    assert_equals_litert(b.build([x], [y]), tolerance=1e-6)


@pytest.mark.parametrize("builtin", ["ADD", "SUB"])
def test_sums_of_int16_with_power_of_two_scales_are_refused(builtin: str) -> None:
    """LiteRT rounds them otherwise unless an option says not to."""
    for power_of_two in (True, False):
        b = TFLiteBuilder()
        make = Weighted(b, "int16")
        left, right = (make.activation(name, (3, 4), 2.0**-9, 0) for name in "ab")
        y = make.activation("y", (3, 4), 2.0**-8, 0)
        fields = options(builtin.capitalize(), potScaleInt16=power_of_two)
        b.operator(builtin, [left, right], [y], fields)
        model = b.build([left, right], [y])
        if power_of_two:
            with pytest.raises(UnsupportedError, match="power-of-two scales"):
                read(model, allow_int16=True)
        else:
            assert_equals_litert(model)


def test_softmax() -> None:
    """With a factor."""
    b = TFLiteBuilder()
    x = b.tensor("x", (3, 20), "int8", scale=0.06, zero_point=3)
    y = b.tensor("y", (3, 20), "int8", scale=1 / 256, zero_point=-128)
    b.operator("SOFTMAX", [x], [y], options("Softmax", beta=0.7))
    assert_equals_litert(b.build([x], [y]))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("result", ["int32", "int64"])
def test_arg_max(axis: int, result: str) -> None:
    """Along any axis, the first of equals."""
    b = TFLiteBuilder()
    x = b.tensor("x", (3, 4, 5), "int8", scale=0.06, zero_point=3)
    where = b.tensor("axis", (), "int32", data=np.array(axis, np.int32))
    shape = np.zeros((3, 4, 5)).max(axis).shape
    y = b.tensor("y", shape, result)
    fields = options("ArgMax", outputType={"int32": 2, "int64": 4}[result])
    b.operator("ARG_MAX", [x, where], [y], fields)
    assert_equals_litert(b.build([x], [y]))


@pytest.mark.parametrize(
    ("builtin", "given", "wanted"),
    [
        ("QUANTIZE", "float32", "int8"),
        ("QUANTIZE", "float32", "int16"),
        ("QUANTIZE", "int8", "int8"),
        ("QUANTIZE", "int16", "int8"),
        ("DEQUANTIZE", "int8", "float32"),
        ("DEQUANTIZE", "int16", "float32"),
    ],
)
def test_quantize_and_dequantize(builtin: str, given: str, wanted: str) -> None:
    """Between every two that the format has."""
    b = TFLiteBuilder()
    x = Weighted(b, given).activation("x", (2, 30), 0.05, 9)
    y = Weighted(b, wanted).activation("y", (2, 30), 0.031, -7)
    b.operator(builtin, [x], [y])
    assert_equals_litert(b.build([x], [y]))


def test_network() -> None:
    """Several operators in a row; only what is used is kept."""
    program: Program = assert_equals_litert(small_network())
    assert [op.operator.name for op in program.operations] == [
        "conv_2d",
        "depthwise_conv_2d",
        "add",
        "avg_pool_2d",
        "reshape",
        "fully_connected",
        "softmax",
    ]
    assert "shape" not in program.tensors


def test_every_reader_is_tested() -> None:
    """Each name in the table appears in one of the three files."""
    from pathlib import Path

    here = Path(__file__).parent
    text = "".join(
        path.read_text()
        for path in (
            Path(__file__),
            here.parent / "test_movement.py",
            here.parent / "test_pooling.py",
        )
    )
    assert [name for name in READERS if f'"{name}"' not in text] == []
