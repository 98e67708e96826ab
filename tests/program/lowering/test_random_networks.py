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
from tests.support.quantized import Difference, compare, compare_layers
from tests.support.random_onnx import networks

pytestmark = pytest.mark.needs("onnxruntime")

RELATIVE_BOUND = 2e-5
"""Eight layers, each with some roundings more than ONNX Runtime or fewer."""

LAYER_RATE = 0.005
"""Share of elements in which layers may round otherwise, twice what is measured."""

OUTPUT_RATE = 0.03
"""Likewise at the outputs, where the differences of the layers have added up."""

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
    layers, outputs = Difference(), Difference()

    @settings(QUICK, max_examples=80)
    @given(networks())
    def one(case: OnnxCase) -> None:
        samples = [case.feeds(seed) for seed in range(4)]
        model = quantize_static(load(case.model), {"x": np.stack([s["x"] for s in samples])})
        # Each layer may round otherwise, by one step. How many that makes at the end says nothing:
        # a layer with a small range multiplies the steps before it.
        for name, difference in compare_layers(model, samples).items():
            assert difference.steps <= 1, f"{name}: {difference}"
            layers.include(difference)
        outputs.include(compare(lower(model), model.to_bytes(), samples))

    one()
    assert min(layers.elements, outputs.elements) > 10_000
    assert layers.mismatches <= LAYER_RATE * layers.elements, layers
    assert outputs.mismatches <= OUTPUT_RATE * outputs.elements, outputs
