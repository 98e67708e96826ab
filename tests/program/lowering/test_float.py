"""Every ONNX operator, lowered in float32, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.model import load
from edgekit.program.interpret import run
from edgekit.program.lowering import LOWERINGS, lower, supported
from edgekit.program.lowering.table import REWRITTEN
from tests.support.onnx_cases import OnnxCase, float_cases
from tests.support.onnx_models import run_onnx

pytestmark = pytest.mark.needs("onnxruntime")

CASES = float_cases()

RELATIVE_BOUND = 4e-6
"""Largest difference over the largest magnitude of the output: some tens of float32 roundings,
which come from other orders of summation and other exp and tanh."""


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_float_equals_onnxruntime(case: OnnxCase) -> None:
    feeds = case.feeds(seed=3)
    want = run_onnx(case.model, feeds)
    got = run(lower(load(case.model)), feeds)
    assert got.keys() == want.keys()
    for name, expected in want.items():
        assert got[name].shape == expected.shape
        assert got[name].dtype == expected.dtype
        largest = np.abs(expected).max(initial=1e-30)
        assert np.abs(got[name].astype(np.float64) - expected).max() <= RELATIVE_BOUND * largest


def test_every_supported_operator_has_a_case() -> None:
    covered = {case.id.partition("-")[0] for case in CASES}
    quantization = {"QuantizeLinear", "DequantizeLinear"}
    passes_only = {"Cast", "Constant", "Min", "Shape", "Upsample", "BatchNormalization"}
    standard = {op for domain, op in LOWERINGS if domain == ""} | set(REWRITTEN)
    assert standard - covered <= quantization | passes_only
    assert standard <= set(supported())


def operators(case_id: str) -> list[str]:
    case = next(c for c in CASES if c.id == case_id)
    return [op.operator.name for op in lower(load(case.model)).operations]


@pytest.mark.parametrize(
    ("case_id", "expected"),
    [
        # The permutation goes into the weights; flattening moves nothing.
        (
            "layout-flatten_gemm",
            ["conv_2d", "sigmoid", "clip", "reshape", "fully_connected"],
        ),
        ("layout-reshape_back", ["conv_2d", "conv_2d"]),
        ("layout-nhwc-source", ["conv_2d"]),
        ("layout-mean_gemm", ["conv_2d", "mean", "reshape", "fully_connected"]),
        (
            "layout-conv1d-chain",
            [*("reshape", "conv_2d", "max_pool_2d", "conv_2d"), "reshape", "fully_connected"],
        ),
        (
            "layout-axis_operators",
            ["conv_2d", "split", "clip", "concat", "slice", "pad", "softmax"],
        ),
        ("Conv-relu6", ["conv_2d"]),
        ("MatMul-bias", ["fully_connected"]),
        ("Add-relu", ["add"]),
        ("Conv-depthwise-multiplier", ["depthwise_conv_2d"]),
        ("Conv-one-channel", ["conv_2d"]),
    ],
)
def test_no_needless_operation(case_id: str, expected: list[str]) -> None:
    assert operators(case_id) == expected


def test_elements_move_only_where_they_must() -> None:
    assert operators("layout-shuffle").count("transpose") == 1
    assert operators("layout-awkward_reshape").count("transpose") == 1
