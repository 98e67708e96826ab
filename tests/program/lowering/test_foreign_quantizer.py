"""Models that ONNX Runtime's own quantiser wrote."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from edgekit.model import load
from edgekit.program.lowering import lower
from tests.support.onnx_models import OnnxBuilder
from tests.support.quantized import compare

pytestmark = pytest.mark.needs("onnxruntime")

RNG = np.random.default_rng(4)
SAMPLES = [{"x": RNG.standard_normal((1, 3, 12, 12)).astype(np.float32)} for _ in range(12)]


def weights(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 0.4).astype(np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    b = OnnxBuilder()
    x = b.input("x", (1, 3, 12, 12))
    y = b.node("Conv", x, b.constant(weights(8, 3, 3, 3)), b.constant(weights(8)), pads=[1] * 4)
    y = b.node("Relu", y)
    z = b.node("Conv", y, b.constant(weights(8, 1, 3, 3)), pads=[1] * 4, group=8)
    z = b.node("Clip", z, b.constant(np.float32(0)), b.constant(np.float32(6)))
    y = b.node("Add", y, b.node("Conv", z, b.constant(weights(8, 8, 1, 1))))
    y = b.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = b.node("Concat", y, b.node("Sigmoid", y), axis=1)
    y = b.node("Flatten", b.node("GlobalAveragePool", y))
    y = b.node("Gemm", y, b.constant(weights(5, 16)), b.constant(weights(5)), transB=1)
    b.output(y)
    path = tmp_path_factory.mktemp("foreign") / "float.onnx"
    path.write_bytes(b.build())
    return path


def quantize(network: Path, activations: str, weight_type: str, per_channel: bool) -> bytes:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.samples: Iterator[dict[str, np.ndarray]] = iter(SAMPLES)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.samples, None)

    logging.getLogger().setLevel(logging.ERROR)
    out = network.with_name(f"{activations}-{weight_type}-{per_channel}.onnx")
    quantize_static(
        network,
        out,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=QuantType.from_string(activations),
        weight_type=QuantType.from_string(weight_type),
    )
    return out.read_bytes()


@pytest.mark.parametrize(
    ("activations", "per_channel"), [("QInt8", True), ("QUInt8", False), ("QUInt8", True)]
)
def test_it_is_lowered_to_integers(network: Path, activations: str, per_channel: bool) -> None:
    model = quantize(network, activations, "QInt8", per_channel)
    program = lower(load(model))
    names = [op.operator.name for op in program.operations]
    assert names == [
        *("conv_2d", "depthwise_conv_2d", "conv_2d", "add", "max_pool_2d", "sigmoid"),
        *("requantize", "requantize", "concat", "mean", "reshape", "fully_connected"),
    ]
    difference = compare(program, model, SAMPLES)
    # Ten operators; the means and the classifier multiply single steps.
    assert difference.steps <= 4, difference


def test_asymmetric_weights_are_explained(network: Path) -> None:
    with pytest.raises(UnsupportedError, match="zero points that are not 0"):
        lower(load(quantize(network, "QUInt8", "QUInt8", per_channel=False)))
