"""Formats that the Model for TensorRT cannot say are refused by name."""

from __future__ import annotations

import pytest

from edgekit.errors import UnsupportedError
from edgekit.formats import Format
from edgekit.model import Model, load
from edgekit.model.domain import attach_functions
from edgekit.targets.jetson.formats import check_formats
from edgekit.targets.jetson.modules import MODULES
from edgekit.targets.jetson.package import package
from tests.support.coded_models import layer, with_coded
from tests.support.onnx_models import OnnxBuilder

MODULE = next(iter(MODULES.values()))


def dynamic() -> Model:
    b = OnnxBuilder()
    b.output(b.node("DynamicQuantizeDequantize", b.input("x", (2, 8)), domain="edgekit"))
    model = load(b.build())
    ir, _ = attach_functions(model.ir)
    return model.with_ir(ir)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: with_coded(layer("conv2d"), Format.parse("ternary"))[0], "ternary weights"),
        (
            lambda: with_coded(layer("conv2d"), Format.parse("int4-g8"))[0],
            "int4 weights in groups of 8",
        ),
        (dynamic, "activations with a scale per token"),
    ],
)
def test_refused_by_name(make: object, message: str) -> None:
    """What is wrong, with the node; and what can run."""
    assert callable(make)
    with pytest.raises(
        UnsupportedError, match=rf"they run int8 .*float32:\n.*node '.*': {message}"
    ):
        package(make(), None, MODULE)


def test_int8_weights_pass() -> None:
    """They are what DequantizeLinear says."""
    check_formats(with_coded(layer("conv2d"), Format.parse("int8"))[0])
