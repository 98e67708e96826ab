"""The reference networks: shapes, sizes, and the way to int8."""

from __future__ import annotations

import functools
import io
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import UsageError
from edgekit.model import load as load_onnx
from edgekit.program.ir import DType, Program
from edgekit.program.lowering import lower
from edgekit.program.tflite import read as read_tflite
from edgekit.quantize.static import quantize_static
from edgekit.zoo import NETWORKS, build

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

REFERENCES = {
    "ds-cnn": ("kws_dscnn_int8", 2_656_768),
    "resnet8": ("ic_resnet8_int8", 12_501_632),
    "mobilenet-v1-025": ("vww_96_int8", 7_489_664),
    "autoencoder": ("ad01_int8", 264_192),
}
"""MLPerf Tiny's file and its multiply-accumulates."""

STEPPING = [name for name, known in NETWORKS.items() if known.module == "edgekit.zoo.spiking"]
"""Networks that a device runs step by step; what they become is tested where they are written."""


@functools.cache
def program_of(name: str) -> Program:
    """The int8 Program of a network with random weights."""
    import torch

    torch.manual_seed(0)
    known = NETWORKS[name]
    model = build(name).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            model, (torch.zeros(known.input_shape),), dynamo=True, verbose=False
        )
    assert exported is not None
    stream = io.BytesIO(exported.model_proto.SerializeToString())
    onnx = load_onnx(stream.getvalue())
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *known.input_shape)).astype(np.float32)
    (boundary,) = onnx.ir.graph.inputs
    return lower(quantize_static(onnx, {str(boundary.name): x}))


def macs(program: Program) -> int:
    return sum(
        operation.operator.macs(
            *(None if i is None else program.tensors[i].type for i in operation.inputs)
        )
        for operation in program.operations
    )


def weights(program: Program) -> Counter[tuple[int, ...]]:
    """Shapes of int8 constants, axes of extent 1 apart."""
    return Counter(
        tuple(d for d in t.shape if d != 1)
        for t in program.tensors.values()
        if t.is_constant and t.dtype is DType.INT8
    )


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in STEPPING])
def test_lowers_to_int8(name: str) -> None:
    """Nothing stays in float; one output of the size that the table states."""
    program = program_of(name)
    assert {t.dtype for t in program.tensors.values()} <= {DType.INT8, DType.INT32}
    assert program.tensors[program.inputs[0].tensor].dtype is DType.INT8
    assert tuple(program.inputs[0].source_shape) == NETWORKS[name].input_shape
    assert program.tensors[program.outputs[0].tensor].type.size == NETWORKS[name].outputs


@pytest.mark.parametrize("name", STEPPING)
def test_windows_of_the_stated_shape(name: str) -> None:
    """Whole windows in, as training has them, and as many scores as the table states."""
    import torch

    torch.manual_seed(0)
    model, known = build(name).eval(), NETWORKS[name]
    x = torch.randn(3, *known.input_shape[1:])
    with torch.no_grad():
        assert model(x).shape == (3, known.outputs)
        assert model(x[:1]).shape == (1, known.outputs)
    assert STEPPING == ["har-l2mu", "har-l2mu-synaptic", "har-lmu", "har-scnn"]


@pytest.mark.parametrize("name", REFERENCES)
def test_is_the_reference_topology(name: str, data_folder: Path) -> None:
    """Multiply-accumulates and every weight's shape are those of MLPerf Tiny's file."""
    file, count = REFERENCES[name]
    reference = read_tflite(data_folder / "models" / "mlperf_tiny" / f"{file}.tflite")
    ours = program_of(name)
    assert macs(ours) == macs(reference) == count
    assert weights(ours) == weights(reference)


def test_har_cnn_is_small() -> None:
    program = program_of("har-cnn")
    assert macs(program) < 1_000_000
    constants = [t for t in program.tensors.values() if t.is_constant]
    assert sum(t.bytes for t in constants) < 64 * 1024


def test_an_unknown_network_gets_a_hint() -> None:
    with pytest.raises(UsageError, match="did you mean har-cnn"):
        build("har-cn")
