"""Random networks through the whole way from ONNX to results."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from edgekit.model import load
from edgekit.program.interpret import run
from edgekit.program.lowering import lower
from edgekit.quantize.static import quantize_static
from tests.support.onnx_cases import OnnxCase
from tests.support.onnx_models import run_onnx
from tests.support.quantized import Difference, compare
from tests.support.random_onnx import networks

pytestmark = pytest.mark.needs("onnxruntime")

RELATIVE_BOUND = 2e-5
"""Eight layers, each with some roundings more than ONNX Runtime or fewer."""

QUICK = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@settings(QUICK, max_examples=150)
@given(networks())
def test_float(case: OnnxCase) -> None:
    feeds = case.feeds(seed=1)
    want = run_onnx(case.model, feeds)
    got = run(lower(load(case.model)), feeds)
    for name, expected in want.items():
        assert got[name].shape == expected.shape
        largest = np.abs(expected).max(initial=1e-3)
        assert np.abs(got[name] - expected).max(initial=0) <= RELATIVE_BOUND * largest


def test_quantised() -> None:
    total = Difference()

    @settings(QUICK, max_examples=80)
    @given(networks())
    def one(case: OnnxCase) -> None:
        samples = [case.feeds(seed) for seed in range(4)]
        model = quantize_static(load(case.model), {"x": np.stack([s["x"] for s in samples])})
        difference = compare(lower(model), model.to_bytes(), samples)
        # A layer may round otherwise by a step, and a later one with a small range amplify that;
        # a wrong scale, layout or weight differs by the whole range.
        assert difference.steps <= 64, difference
        total.elements += difference.elements
        total.mismatches += difference.mismatches
        total.steps = max(total.steps, difference.steps)

    one()
    print(total)  # noqa: T201 - the rate is part of the test's report
    assert total.elements > 10_000
    assert total.mismatches <= 0.01 * total.elements, total
