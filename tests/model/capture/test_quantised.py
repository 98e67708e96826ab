"""Quantised modules: PT2E exports, and our own fake quantisation."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import UnsupportedError, UsageError
from edgekit.model import Model
from edgekit.model.capture import capture, capture_exported, load_pt2
from edgekit.model.capture.quiet import quiet
from edgekit.model.capture.symbolic import quantize_dequantize
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Program
from edgekit.program.lowering import lower
from tests.support import pt2e
from tests.support.onnx_models import run_onnx
from tests.support.quantized import compare, program_feeds, to_codes

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch", "torchao", "onnxruntime")]


def exported() -> torch.export.ExportedProgram:
    with quiet():
        return torch.export.export(pt2e.quantised(), (torch.randn(1, 1, 8, 8),))


def from_file(folder: Path) -> Model:
    path = folder / "quantised.pt2"
    with quiet():
        torch.export.save(exported(), path)
    return capture_exported(load_pt2(path), name="net")


@pytest.mark.parametrize("route", ["module", "program", "file"])
def test_pt2e(route: str, tmp_path: Path) -> None:
    """Every way in gives the same integer Program, one step from ONNX Runtime and from torch."""
    module = pt2e.quantised()
    if route == "module":
        model = capture(module, torch.randn(1, 1, 8, 8))
    elif route == "program":
        model = capture_exported(exported(), name="net")
    else:
        model = from_file(tmp_path)
    program = lower(model)
    assert [op.operator.name for op in program.operations] == [
        "conv_2d",
        "reshape",
        "fully_connected",
    ]
    rng = np.random.default_rng(2)
    samples = [{"image": rng.standard_normal((1, 1, 8, 8), dtype=np.float32)} for _ in range(20)]
    found = compare(program, model.to_bytes(), samples)
    # Two layers, each within one step; a step of the first is far less than one of the second.
    assert found.steps <= 1, str(found)
    assert program_difference(module, program) <= 1


def program_difference(module: nn.Module, program: Program) -> int:
    """Largest difference from the module's own results on seeded images, in steps."""
    rng = np.random.default_rng(2)
    (output,) = program.outputs
    quantization = program.tensors[output.tensor].quantization
    assert quantization is not None
    interpreter, worst = Interpreter(program), 0
    for _ in range(20):
        feeds = {"image": rng.standard_normal((1, 1, 8, 8), dtype=np.float32)}
        with torch.no_grad(), quiet():
            real = module(torch.from_numpy(feeds["image"])).numpy()
        codes = interpreter.run(program_feeds(program, feeds))[output.name].astype(int)
        worst = max(worst, int(np.abs(codes - to_codes(real, quantization)).max()))
    return worst


def test_pt2e_with_a_narrow_range() -> None:
    """Codes from -127 are clipped as reals, which the integer operations take over."""
    module = pt2e.quantised(-127)
    program = lower(capture(module, torch.randn(1, 1, 8, 8)))
    assert program.operations[-1].operator.clamp == (-127, 127)
    assert program_difference(module, program) <= 1


def test_weights_that_were_not_folded() -> None:
    """Float weights behind quantize_per_channel become codes."""
    module = pt2e.quantised(fold=False)
    assert any("quantize_per_channel" in str(n.target) for n in module.graph.nodes)
    program = lower(capture(module, torch.randn(1, 1, 8, 8)))
    assert {t.dtype.value for t in program.tensors.values()} == {"int8", "int32"}
    assert program_difference(module, program) <= 1


def test_fx_graph_mode() -> None:
    """The decomposed reference form of FX is read, its parameters tensors; packed modules not."""
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

    example = torch.randn(1, 1, 8, 8)
    with quiet():
        mapping = get_default_qconfig_mapping("qnnpack")
        prepared = quantize_fx.prepare_fx(pt2e.Small().eval(), mapping, (example,))
        prepared(example)
        packed = quantize_fx.convert_fx(copy.deepcopy(prepared))
        module = quantize_fx._convert_to_reference_decomposed_fx(prepared)
    program = lower(capture(module, example))
    assert program_difference(module, program) <= 1
    with pytest.raises(UnsupportedError, match=r"Conv.*, whose weights are packed for this machi"):
        capture(packed, example)


class Quantising(nn.Module):
    """4-bit weights per channel and 8-bit activations with learned scales."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3)
        self.log_scale = nn.Parameter(torch.tensor(-3.0))
        self.register_buffer("zero", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        x = quantize_dequantize(x, self.log_scale.exp(), self.zero, low=-128, high=127)
        weight = self.conv.weight
        scale = weight.detach().abs().amax((1, 2, 3)) / 7
        points = torch.zeros_like(scale, dtype=torch.int8)
        weight = quantize_dequantize(weight, scale, points, low=-8, high=7, axis=0)
        y = nn.functional.conv2d(x, weight, self.conv.bias)
        return quantize_dequantize(y, torch.tensor(0.02), self.zero, low=-127, high=127)


def test_quantiser_survives_to_integers() -> None:
    """A symbol in the Model, with its function; ORT, torch and the Program are a step apart."""
    torch.manual_seed(1)
    module = Quantising().eval()
    model = capture(module, torch.randn(1, 2, 6, 6))
    calls = [node for node in model.ir.graph if node.domain == "edgekit"]
    assert [node.op_type for node in calls] == ["QuantizeDequantize"] * 3
    assert len(model.ir.functions) == 1
    program = lower(model)
    assert [op.operator.name for op in program.operations] == ["conv_2d"]
    weights = program.tensors[program.operations[0].inputs[1] or ""].data
    assert weights is not None and weights.dtype == np.int8
    assert weights.min() >= -8 and weights.max() == 7
    rng = np.random.default_rng(0)
    samples = [{"x": rng.standard_normal((1, 2, 6, 6), dtype=np.float32)} for _ in range(8)]
    found = compare(program, model.to_bytes(), samples)
    assert found.steps <= 1, str(found)
    for feeds in samples:
        with torch.no_grad():
            want = module(torch.from_numpy(feeds["x"])).numpy()
        (got,) = run_onnx(model.to_bytes(), feeds).values()
        # Sums in another order may fall on the other side of a half.
        assert np.abs(got - want).max() <= 0.02 * 1.001


def test_quantiser_trains() -> None:
    """Straight-through: the gradient of x inside the range, of the scale as in LSQ."""
    x = torch.tensor([0.24, 0.9, -0.9, 0.06], requires_grad=True)
    scale = torch.tensor(0.1, requires_grad=True)
    y = quantize_dequantize(x, scale, torch.tensor(0), low=-8, high=7)
    assert torch.allclose(y, torch.tensor([0.2, 0.7, -0.8, 0.1]))
    y.sum().backward()
    assert x.grad is not None and scale.grad is not None
    assert x.grad.tolist() == [1.0, 0.0, 0.0, 1.0]
    # Inside, rounded less exact ratio; outside, the code.
    assert scale.grad.item() == pytest.approx((2 - 2.4) + 7 - 8 + (1 - 0.6), abs=1e-5)
    torch.library.opcheck(
        torch.ops.edgekit.quantize_dequantize.default,
        (torch.randn(3, 4), torch.rand(4) + 0.1, torch.zeros(4, dtype=torch.int8), -8, 7, 1),
    )


@pytest.mark.parametrize(
    ("scale", "low", "message"),
    [
        (torch.ones(()), -129, "codes -129…7 must be a range within -128…127"),
        (torch.ones(2), -8, r"2 scales and 1 zero points do not fit axis 0 of shape \[3\]"),
    ],
)
def test_bad_quantisers(scale: Tensor, low: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        quantize_dequantize(torch.ones(3), scale, torch.tensor(0), low=low, high=7)
