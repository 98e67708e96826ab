"""The torch operators of coded weights and activations: their values, gradients and nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import UsageError
from edgekit.formats import ELEMENTS, Format
from edgekit.model import load, save
from edgekit.model.capture import capture, capture_exported, load_pt2
from edgekit.model.capture.quiet import quiet
from edgekit.model.capture.symbolic import (
    binarize,
    dequantize_weights,
    dynamic_quantize_dequantize,
    quantize_dequantize,
)
from edgekit.model.coded import coded_initializers, kind_of_factors
from edgekit.program.interpret import Interpreter
from edgekit.program.lowering import lower, lower_noted
from edgekit.program.operators.quantization import DynamicQuantize
from tests.support.onnx_models import run_onnx
from tests.support.quantized import compare

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch", "onnxruntime")]

NAMES = [*ELEMENTS, "int4-g8", "mxfp4", "nvfp4", "fp8-e5m2-g8"]


class CodedWeights(nn.Module):
    """Frozen weights of a layer, packed."""

    def __init__(self, name: str, rows: int, columns: int, seed: int = 0) -> None:
        super().__init__()
        fmt = Format.parse(name)
        w = np.random.default_rng(seed).normal(0, 0.3, (rows, columns)).astype(np.float32)
        self.coded, self.fmt = fmt.quantize(w), fmt
        for part, array in coded_initializers(self.coded, fmt).items():
            self.register_buffer(part, torch.from_numpy(np.array(array)))
        self.fields: dict[str, Any] = {
            "element": fmt.element.name,
            "factors": kind_of_factors(self.coded, fmt),
            "columns": columns,
            "group": min(fmt.group or columns, columns),
        }

    def forward(self) -> Tensor:
        parts = (self.packed, self.levels, self.scale, self.factor_codes, self.factor_levels)
        return dequantize_weights(*parts, **self.fields)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_the_formats_own(name: str) -> None:
    """Equal to the bit, and a fake result of the same form."""
    weights = CodedWeights(name, 5, 37)
    real = weights()
    assert np.array_equal(real.numpy(), weights.fmt.dequantize(weights.coded))
    parts = [getattr(weights, part) for part in ("packed", "levels", "scale")]
    parts += [weights.factor_codes, weights.factor_levels]
    arguments = (*parts, *(weights.fields[k] for k in ("element", "factors", "columns", "group")))
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.edgekit.dequantize_weights, arguments, test_utils=checks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"element": "int9"}, "element 'int9' is unknown, must be one of int2"),
        ({"columns": 9}, r"packed \[5, 4\], .* must be \[R,5\]"),
        ({"group": 3}, r"factor codes \[5, 1\] do not fit"),
        ({"group": 0}, "in groups of 0"),
    ],
)
def test_parts_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    weights = CodedWeights("int4", 5, 8)
    weights.fields |= changes
    with pytest.raises(UsageError, match=message):
        weights()


def test_dynamic_quantisation_is_the_programs() -> None:
    """Codes and scales of the Program's operator; the gradient passes unchanged."""
    values = np.random.default_rng(3).normal(0, 1, (4, 3, 19)).astype(np.float32)
    values[0, 1] = 0
    values[1, 2] *= 1e-8
    x = torch.from_numpy(values).requires_grad_()
    y = dynamic_quantize_dequantize(x)
    codes, scale = DynamicQuantize().reference(values)
    assert np.array_equal(y.detach().numpy(), codes.astype(np.float32) * scale)
    weight = torch.randn(y.shape)
    (y * weight).sum().backward()
    assert torch.equal(x.grad, weight)
    arguments = (x, 1e-5)
    torch.library.opcheck(torch.ops.edgekit.dynamic_quantize_dequantize, arguments)


@pytest.mark.parametrize(("shape", "floor"), [((), 1e-5), ((3, 0), 1e-5), ((3,), 0.0)])
def test_bad_dynamic_quantisation(shape: tuple[int, ...], floor: float) -> None:
    with pytest.raises(UsageError, match=r"must (have a last axis|be in)"):
        dynamic_quantize_dequantize(torch.zeros(shape), floor=floor)


def test_binarize() -> None:
    """Two levels, zero positive; gradients inside the levels only, and of the scale by signs."""
    x = torch.tensor([-2.0, -0.25, -0.0, 0.0, 0.4, 3.0], requires_grad=True)
    scale = torch.tensor([0.5], requires_grad=True)
    y = binarize(x, scale)
    assert y.tolist() == [-0.5, -0.5, 0.5, 0.5, 0.5, 0.5]
    y.backward(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert x.grad is not None and scale.grad is not None
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 0]
    assert scale.grad.tolist() == [-1 - 2 + 3 + 4 + 5 + 6]
    torch.library.opcheck(torch.ops.edgekit.binarize, (x, scale))
    with pytest.raises(UsageError, match="scale has 2 elements, must have one"):
        binarize(x, torch.ones(2))


def static(x: Tensor, scale: float) -> Tensor:
    """Static int8 quantisation."""
    zero = torch.tensor(3, dtype=torch.int8)
    return quantize_dequantize(x, torch.tensor(scale), zero, low=-128, high=127)


class Network(nn.Module):
    """A convolution, signs, and a dense layer."""

    def __init__(self, name: str, *, signs: bool) -> None:
        super().__init__()
        self.kernel, self.matrix = CodedWeights(name, 8, 36), CodedWeights(name, 5, 128, seed=1)
        self.signs = signs

    def forward(self, x: Tensor) -> Tensor:
        w = self.kernel().reshape(8, 3, 3, 4).permute(0, 3, 1, 2)
        y = static(nn.functional.conv2d(static(x, 0.03), w, padding=1), 0.1)
        if self.signs:
            y = binarize(y, torch.tensor(0.5))
        return static(nn.functional.linear(y.flatten(1), self.matrix()), 0.2)


@pytest.mark.parametrize(
    ("name", "signs"), [("ternary-p5", True), ("int4", False), ("nvfp4", True)]
)
def test_captured_and_lowered(name: str, signs: bool, tmp_path: Path) -> None:
    """One node each in the Model, which ONNX Runtime runs as torch does, and integers behind."""
    module = Network(name, signs=signs).eval()
    model = capture(module, torch.randn(1, 4, 4, 4))
    calls = [n.op_type for n in model.ir.graph if n.domain == "edgekit"]
    unpacks = "DequantizeTrits" if name == "ternary-p5" else "DequantizeBits"
    assert sorted(calls) == sorted(
        [unpacks] * 2 + ["QuantizeDequantize"] * 3 + ["Binarize"] * signs
    )
    rng = np.random.default_rng(0)
    samples = [{"x": rng.normal(0, 1, (1, 4, 4, 4)).astype(np.float32)} for _ in range(6)]
    loaded = load(save(model, tmp_path / "net.onnx"))
    for feeds in samples[:2]:
        (got,) = run_onnx(loaded.to_bytes(), feeds).values()
        want = module(torch.from_numpy(feeds["x"])).detach().numpy()
        assert np.abs(got - want).max() <= 0.2 + 1e-6
    program = lower(loaded)
    kinds = [op.operator.name for op in program.operations if op.operator.name != "transpose"]
    signed = ["binarize"] if signs else []
    assert kinds == ["conv_2d", *signed, "reshape", "fully_connected"] or kinds == [
        *["conv_2d", *signed, "reshape", "reshape", "fully_connected"]
    ]
    found = compare(program, model.to_bytes(), samples)
    # A step of the convolution, 0.1, meets up to 128 weights; a step of the result is 0.2.
    assert found.steps <= 4, str(found)


class Dynamic(nn.Module):
    """Layer normalisation in front of a dynamically quantised product."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.matrix, self.bias = CodedWeights(name, 6, 24), nn.Parameter(torch.ones(6))
        self.norm = nn.LayerNorm(24, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        y = dynamic_quantize_dequantize(self.norm(x), floor=1e-4)
        return nn.functional.linear(y, self.matrix(), self.bias)


@pytest.mark.parametrize(("name", "shape"), [("ternary", (1, 24)), ("int4-g8", (1, 3, 24))])
def test_dynamic_network(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """From torch to a Program of codes, by way of a .pt2 file too."""
    module = Dynamic(name).eval()
    example = torch.from_numpy(np.random.default_rng(0).normal(0, 2, shape).astype(np.float32))
    path = tmp_path / "net.pt2"
    with quiet():
        torch.export.save(torch.export.export(module, (example,)), path)
    direct = [capture(module, example)] if len(shape) == 2 else []
    for model in (*direct, capture_exported(load_pt2(path), name="net")):
        program = lower_noted(model).program
        kinds = [op.operator.name for op in program.operations if not op.operator.alias]
        assert kinds == ["layernorm", "dynamic_quantize", "dynamic_fully_connected"]
        assert program.operations[-2].operator.floor == float(np.float32(1e-4))
        (got,) = Interpreter(program).run({"x": example.numpy()}).values()
        want = module(example).detach().numpy()
        assert np.abs(got - want).max() <= 1e-4
