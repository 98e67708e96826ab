"""Quantised weights: what every quantiser does, and the gradient of each."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.formats import ELEMENTS, Format
from edgekit.quantize.training.layout import RowLayout, row_layout
from edgekit.quantize.training.nearest import nearest
from edgekit.quantize.training.quantizers import (
    make_weight_quantizer,
    quantize_parameter,
    quantized_parameters,
)
from edgekit.quantize.training.shift import reset_low_variance

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]


RULE_FORMATS = (
    *(*(f"int{bits}" for bits in range(2, 9)), "int4-t", "int4-g8", "int2-g5", "int4-g3"),
    *("ternary", "ternary-mean", "ternary-c", "ternary-p5-c-mean", "ternary-g8-mean"),
    *("shift2", "shift3", "shift4", "shift3-t", "shift4-absmax", "shift3-g8"),
    *("binary", "binary-t", "binary-g4-mean"),
    *("fp4-e2m1", "fp4-e1m2", "fp4-e3m0", "fp6-e2m3", "fp8-e3m4", "fp8-e4m3", "fp8-e5m2"),
    *("fp4-e2m1-g8", "fp4-e3m0-g5", "mxfp4", "nvfp4", "int4-mse", "int4-unit", "int4-g5-mse"),
)
LEARNED = ("int4", "int2", "int8-t", "ternary", "ternary-c")

CASES = (
    *((fmt, "ste") for fmt in RULE_FORMATS),
    *((fmt, "lsq") for fmt in LEARNED),
    *((fmt, "points") for fmt in (*LEARNED, "shift3", "binary", "fp4-e2m1")),
    *(("binary", "reste"), ("binary-t", "reste")),
)
each_case = pytest.mark.parametrize(
    ("fmt", "method"), CASES, ids=["/".join(case) for case in CASES]
)

MODULES = {
    "linear": (lambda: nn.Linear(37, 5), "weight"),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, groups=2), "weight"),
    "conv2d": (lambda: nn.Conv2d(5, 4, (3, 2)), "weight"),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), "weight"),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3), "weight"),
    "transposed in groups": (lambda: nn.ConvTranspose1d(4, 6, 3, groups=2), "weight"),
    "embedding": (lambda: nn.Embedding(7, 9), "weight"),
    "lstm": (lambda: nn.LSTM(5, 4), "weight_hh_l0"),
}


def bits_of(values: np.ndarray | torch.Tensor) -> np.ndarray:
    """The bits of float32 numbers: -0 is not 0, and NaN is itself."""
    if isinstance(values, torch.Tensor):
        values = values.detach().numpy()
    return np.ascontiguousarray(values).view(np.int32)


def hard_weights(element: str) -> np.ndarray:
    """Borders between levels and their neighbours, levels, extremes, random numbers."""
    found = ELEMENTS[element]
    borders = np.float32(found.thresholds)
    up, down = np.float32(np.inf), np.float32(-np.inf)
    random = np.random.default_rng(0).normal(0, found.maximum / 2, 3000).astype(np.float32)
    extremes = np.float32([0, -0.0, 1e-45, -1e-45, 3e38, -3e38, np.inf, -np.inf])
    near = (borders, np.nextafter(borders, up), np.nextafter(borders, down))
    return np.concatenate([*near, np.float32(found.levels), random, extremes])


@pytest.mark.parametrize("element", ELEMENTS)
def test_arithmetic_rounds_as_the_table_does(element: str) -> None:
    found = ELEMENTS[element]
    numbers = hard_weights(element)
    wanted = np.maximum(found.nearest_integers(numbers), found.minimum).astype(np.float64)
    got = nearest(found)(torch.from_numpy(numbers)).double().numpy()
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("kind", MODULES)
@each_case
def test_the_module_reads_what_is_deployed(kind: str, fmt: str, method: str) -> None:
    torch.manual_seed(1)
    make, name = MODULES[kind]
    module = make()
    weight = getattr(module, name).detach().clone()
    quantizer = quantize_parameter(module, name, Format.parse(fmt), method=method)  # type: ignore[arg-type]
    module.eval()
    (parameter,) = quantized_parameters(module)
    coded = parameter.coded()
    real = quantizer.format.dequantize(coded)
    deployed = quantizer.from_rows(torch.from_numpy(real))
    np.testing.assert_array_equal(bits_of(getattr(module, name)), bits_of(deployed))
    # NumPy's integers for the same scale are the same; so are the scales where no sum is rounded.
    rows = quantizer.rows(weight).numpy()
    again = quantizer.format.quantize(rows, scale=coded.scale, factors=coded.factors)
    np.testing.assert_array_equal(coded.integers, again.integers)
    if method == "ste" and quantizer.format.rule != "mean":
        scale, factors = quantizer.format.scales(rows)
        np.testing.assert_array_equal(coded.scale, scale)
        if factors is not None:
            np.testing.assert_array_equal(coded.factors, factors)


ONE_OF_A_CLASS = (
    *(("int2", "ste"), ("int4-g8", "ste"), ("int4-g5-mse", "ste"), ("ternary", "ste")),
    *(("shift3", "ste"), ("shift2", "points"), ("fp4-e2m1", "ste"), ("int4-mse", "ste")),
    *(("mxfp4", "ste"), ("nvfp4", "ste"), ("binary-t", "ste"), ("binary", "reste")),
    *(("int4", "lsq"), ("fp4-e2m1", "points")),
)


@pytest.mark.parametrize(
    ("fmt", "method"), ONE_OF_A_CLASS, ids=["/".join(case) for case in ONE_OF_A_CLASS]
)
def test_compiles_to_one_graph_with_the_same_gradients(fmt: str, method: str) -> None:
    torch.manual_seed(2)
    weight = nn.Parameter(torch.randn(6, 20))
    quantizer = make_weight_quantizer(Format.parse(fmt), weight, method=method)  # type: ignore[arg-type]
    latent = quantizer.right_inverse(weight)
    torch._dynamo.reset()
    compiled = torch.compile(quantizer, backend="eager", fullgraph=True)
    results = []
    for function in (quantizer, compiled):
        quantizer.zero_grad()
        moved = latent.detach().clone().requires_grad_()
        value = function(moved)
        value.square().sum().backward()
        results.append([value, moved.grad, *(p.grad for p in quantizer.parameters())])
    for plain, other in zip(*results, strict=True):
        assert torch.equal(plain, other)


STABLE = [
    (fmt, method)
    for fmt, method in CASES
    if method != "lsq" and Format.parse(fmt).rule not in ("mean", "median")
]
"""All but those whose scale is a statistic, which is another one of the result."""


@pytest.mark.parametrize(("fmt", "method"), STABLE, ids=["/".join(case) for case in STABLE])
def test_quantising_what_is_quantised_changes_nothing(fmt: str, method: str) -> None:
    parsed = Format.parse(fmt)
    torch.manual_seed(3)
    weight = torch.randn(4, 19)
    once = make_weight_quantizer(parsed, weight, method=method)  # type: ignore[arg-type]
    value = once.eval()(once.right_inverse(weight)).detach()
    again = once(once.right_inverse(value)).detach()
    if parsed.factors in ("uint8", "e4m3"):
        # Factors are relative to the largest group, whose largest weight may not be at the end.
        assert torch.allclose(value, again, rtol=0.02, atol=1e-6)
    else:
        assert torch.equal(value, again)


@pytest.mark.parametrize("fmt", [f for f, m in CASES if m == "ste"])
@pytest.mark.parametrize("constant", [0.0, 1.0, -3e-3, 1e-40])
def test_constant_rows(fmt: str, constant: float) -> None:
    weight = torch.randn(3, 11)
    weight[1] = constant
    quantizer = make_weight_quantizer(Format.parse(fmt), weight)
    latent = quantizer.right_inverse(weight)
    coded = quantizer.eval().coded(latent)
    value = quantizer(latent)
    assert torch.isfinite(value).all()
    real = quantizer.format.dequantize(coded)
    np.testing.assert_array_equal(bits_of(value), bits_of(real))
    if constant == 0 and 0 in quantizer.format.element.levels:
        assert not real[1].any()


class TestGradients:
    """Against the formulas, written out in another way."""

    gradient = torch.randn(4, 15, generator=torch.Generator().manual_seed(4))
    weight = torch.randn(4, 15, generator=torch.Generator().manual_seed(5))

    def of(
        self, fmt: str, method: str = "ste", weight: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, nn.Module]:
        """Gradient of the latent and the quantiser, whose parameters have theirs."""
        weight = nn.Parameter((self.weight if weight is None else weight).clone())
        quantizer = make_weight_quantizer(Format.parse(fmt), weight, method=method)  # type: ignore[arg-type]
        latent = quantizer.right_inverse(weight).detach().clone().requires_grad_()
        quantizer(latent).backward(self.gradient)
        assert latent.grad is not None
        return latent.grad, quantizer

    @pytest.mark.parametrize(
        "fmt",
        [f for f in RULE_FORMATS if not f.startswith("shift") or "-g" in f],
    )
    def test_straight_through(self, fmt: str) -> None:
        assert torch.equal(self.of(fmt)[0], self.gradient)

    @pytest.mark.parametrize("fmt", ["int4", "int2", "int8-t", "ternary"])
    def test_lsq(self, fmt: str) -> None:
        found, quantizer = self.of(fmt, "lsq")
        element = quantizer.format.element  # type: ignore[union-attr]
        low, high = element.minimum, element.maximum
        step = quantizer.step.detach().clone().requires_grad_()  # type: ignore[operator, union-attr]
        per = self.weight.numel() // step.numel()
        mean = self.weight.abs().mean(dim=1 if step.numel() > 1 else (0, 1)).reshape(step.shape)
        assert torch.allclose(step, 2 * mean / math.sqrt(high))
        # Autograd derives the same from the definition with a rounding whose gradient is 1.
        moved = self.weight.clone().requires_grad_()
        clipped = (moved / step).clamp(low, high)
        rounded = clipped + (clipped.round() - clipped).detach()
        (rounded * step).backward(self.gradient)
        assert torch.allclose(found, moved.grad, atol=1e-6)
        assert torch.allclose(
            quantizer.step.grad,
            step.grad / math.sqrt(per * high),
            rtol=1e-4,
            atol=1e-5,  # type: ignore[union-attr]
        )

    @pytest.mark.parametrize("fmt", ["int4", "fp4-e2m1", "binary", "ternary"])
    def test_points(self, fmt: str) -> None:
        found, quantizer = self.of(fmt, "points")
        assert torch.equal(found, self.gradient)
        levels = quantizer.coded(self.weight).integers  # type: ignore[operator]
        # The gradient of a point is that of the weights assigned to it; points are step * level.
        wanted = np.zeros(quantizer.step.numel())  # type: ignore[operator, union-attr]
        for level in np.unique(levels):
            points = (self.gradient.numpy() * (levels == level)).astype(np.float64)
            wanted += level * (points.sum(1) if wanted.size > 1 else points.sum())
        per = self.weight.numel() // wanted.size
        wanted /= math.sqrt(per * quantizer.format.element.maximum)  # type: ignore[union-attr]
        np.testing.assert_allclose(quantizer.step.grad.numpy().ravel(), wanted, rtol=1e-4)  # type: ignore[union-attr]

    @pytest.mark.parametrize("bits", [2, 3, 4])
    @pytest.mark.parametrize("drawn", [False, True], ids=["given", "drawn"])
    def test_dense_shift(self, bits: int, drawn: bool) -> None:
        quantizer = make_weight_quantizer(Format.parse(f"shift{bits}"), self.weight)
        latent = quantizer.right_inverse(self.weight)
        if drawn:
            latent = torch.randn(latent.shape, generator=torch.Generator().manual_seed(6)) * 1e-3
        latent.requires_grad_()
        quantizer(latent).backward(self.gradient)
        # The definition, by autograd: binarisers are the identity backward, 2**s is sqrt(s + 1).
        other = latent.detach().clone().requires_grad_()
        sign = other[0] + (torch.where(other[0] >= 0, 1.0, -1.0) - other[0]).detach()
        exponent = torch.zeros_like(self.weight)
        for scale_latent in other[1:]:
            bit = scale_latent + ((scale_latent > 0).float() - scale_latent).detach()
            exponent = (exponent + 1) * bit
        root = (exponent + 1).sqrt()
        power = root + (2**exponent - root).detach()
        (sign * power).backward(self.gradient)
        assert torch.allclose(latent.grad, other.grad, atol=1e-6)
        step = quantizer.step.detach()
        assert torch.equal(quantizer(latent), (sign * power).detach() * step)

    def test_learned_scale_of_dense_shift(self) -> None:
        _, quantizer = self.of("shift3", "points")
        levels = quantizer.coded(quantizer.right_inverse(self.weight)).integers  # type: ignore[operator]
        wanted = (self.gradient.numpy() * levels).sum(1) / math.sqrt(15 * 8)
        np.testing.assert_allclose(quantizer.step.grad.numpy().ravel(), wanted, rtol=1e-4)  # type: ignore[union-attr]

    @pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
    def test_reste(self, progress: float) -> None:
        quantizer = make_weight_quantizer(Format.parse("binary"), self.weight, method="reste")
        quantizer.set_progress(progress)  # type: ignore[operator]
        latent = self.weight.clone().requires_grad_()
        quantizer(latent).backward(self.gradient)
        o = 1 + (1 - math.cos(math.pi * progress / 2)) * 2
        z = (self.weight / self.weight.abs().mean(1, keepdim=True)).double().numpy()
        slopes = [
            0.0 if abs(x) > 1.5
            else abs(x) ** ((1 - o) / o) / o if abs(x) > 0.1
            else 0.1 ** (1 / o) / 0.1
            for x in z.ravel()
        ]  # fmt: skip
        wanted = self.gradient.numpy() * np.reshape(slopes, z.shape)
        np.testing.assert_allclose(latent.grad.numpy(), wanted, rtol=1e-4, atol=1e-6)  # type: ignore[union-attr]

    def test_lambda(self) -> None:
        quantizer = make_weight_quantizer(Format.parse("ternary"), self.weight)
        full = quantizer(self.weight)
        quantizer.set_blend(0.25)
        blended = self.weight + 0.25 * (full - self.weight)
        assert torch.allclose(quantizer(self.weight), blended, atol=1e-6)
        assert torch.equal(quantizer.eval()(self.weight), full)
        quantizer.train().set_blend(0.0)
        assert torch.equal(quantizer(self.weight), self.weight)
        quantizer.set_blend(1.0)
        assert torch.equal(quantizer(self.weight), full)


class TestDenseShift:
    """Where latents begin."""

    @pytest.mark.parametrize("bits", [2, 3, 4])
    def test_low_variance_has_the_stated_shares(self, bits: int) -> None:
        layer = nn.Linear(400, 50)
        quantize_parameter(layer, "weight", Format.parse(f"shift{bits}"))
        generator = torch.Generator().manual_seed(0)
        assert reset_low_variance(layer, generator=generator) == 1
        (parameter,) = quantized_parameters(layer)
        assert parameter.latent.std().item() == pytest.approx(1e-3, rel=0.02)
        levels = parameter.coded().integers
        last = 2 ** (bits - 1) - 1
        for exponent in range(last + 1):
            share = np.mean(abs(levels) == 2**exponent)
            assert share == pytest.approx(0.5 ** min(exponent + 1, last), abs=0.01)
        assert np.mean(levels > 0) == pytest.approx(0.5, abs=0.01)

    def test_a_small_step_changes_what_is_near_a_threshold(self) -> None:
        quantizer = make_weight_quantizer(Format.parse("shift3-unit"), torch.ones(1, 1))
        latent = quantizer.right_inverse(torch.tensor([[2.99, 5.0, 1.51, -0.01]]))
        assert quantizer(latent).tolist() == [[2.0, 4.0, 2.0, -1.0]]
        assert quantizer(latent + 0.02).tolist() == [[4.0, 4.0, 2.0, 1.0]]
        assert quantizer(latent - 0.02).tolist() == [[2.0, 4.0, 1.0, -1.0]]


class TestModules:
    """Parametrised modules as users have them."""

    def test_an_assigned_weight_is_taken(self) -> None:
        for fmt in ("int4", "shift4"):
            layer = nn.Linear(6, 3)
            quantizer = quantize_parameter(layer, "weight", Format.parse(fmt))
            layer.weight = torch.full((3, 6), 0.5)
            assert torch.equal(quantizer(quantizer.right_inverse(layer.weight)), layer.weight)

    def test_a_frozen_parameter_is_quantised_and_stays(self) -> None:
        for fmt, method in CASES:
            layer = nn.Linear(11, 3)
            layer.weight.requires_grad_(False)
            quantize_parameter(layer, "weight", Format.parse(fmt), method=method)  # type: ignore[arg-type]
            layer(torch.randn(2, 11)).sum().backward()
            (parameter,) = quantized_parameters(layer)
            assert not parameter.latent.requires_grad and layer.bias.grad is not None
            assert not any(p.requires_grad for p in parameter.quantizer.parameters())

    @pytest.mark.parametrize(("fmt", "method"), ONE_OF_A_CLASS)
    def test_autocast_changes_no_weight(self, fmt: str, method: str) -> None:
        layer = nn.Linear(40, 8)
        quantize_parameter(layer, "weight", Format.parse(fmt), method=method)  # type: ignore[arg-type]
        plain = layer.weight
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(layer.weight, plain)
            layer(torch.randn(3, 40)).float().square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in layer.parameters())

    def test_half_weights_are_computed_in_float32(self) -> None:
        layer = nn.Linear(40, 8).to(torch.bfloat16)
        quantizer = quantize_parameter(layer, "weight", Format.parse("int4"))
        (parameter,) = quantized_parameters(layer)
        real = torch.from_numpy(quantizer.format.dequantize(parameter.coded()))
        assert layer.weight.dtype == torch.bfloat16
        assert torch.equal(layer.weight, real.to(torch.bfloat16))

    def test_a_recurrent_layer_reads_its_quantised_weights(self) -> None:
        layer = nn.LSTM(3, 2)
        for name in ("weight_ih_l0", "weight_hh_l0"):
            quantize_parameter(layer, name, Format.parse("binary"))
        other = nn.LSTM(3, 2)
        other.load_state_dict({k: getattr(layer, k).detach() for k in other.state_dict()})
        x = torch.randn(5, 1, 3)
        result = layer(x)[0]
        assert torch.equal(result, other(x)[0])
        result.sum().backward()
        assert all(p.latent.grad is not None for p in quantized_parameters(layer))

    def test_a_copy_trains_on_its_own(self) -> None:
        layer = nn.Linear(6, 3)
        quantize_parameter(layer, "weight", Format.parse("int4"), method="lsq")
        other = copy.deepcopy(layer)
        before = layer.weight.detach().clone()
        with torch.no_grad():
            other.parametrizations.weight.original.mul_(2)  # type: ignore[union-attr]
            other.parametrizations.weight[0].step.mul_(2)  # type: ignore[index, union-attr]
        assert torch.equal(layer.weight, before)
        assert torch.equal(other.weight, 2 * before)

    def test_paths(self) -> None:
        network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        quantize_parameter(network[2], "weight", Format.parse("int4"))
        assert [p.path for p in quantized_parameters(network)] == ["2.weight"]


class TestRefusals:
    """What is no weight."""

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_not_finite(self, value: float) -> None:
        weight = torch.ones(2, 3)
        weight[1, 2] = value
        with pytest.raises(InvalidModelError, match=r"fc.weight: .* at \[1, 2\]; weights must be"):
            make_weight_quantizer(Format.parse("int4"), weight, where="fc.weight")
        quantizer = make_weight_quantizer(Format.parse("int4"), torch.ones(2, 3))
        with pytest.raises(InvalidModelError, match=r"\[1, 2\]"):
            quantizer.coded(weight)
        assert quantizer(weight).shape == weight.shape

    @pytest.mark.parametrize("weight", [torch.ones(2, 0), torch.ones(2, 3, dtype=torch.int32)])
    def test_nothing_to_quantise(self, weight: torch.Tensor) -> None:
        with pytest.raises(InvalidModelError, match="must be floats, at least one"):
            make_weight_quantizer(Format.parse("int4"), weight)

    def test_a_method_that_is_not_for_the_format(self) -> None:
        with pytest.raises(UnsupportedError, match="mxfp4 cannot be trained by lsq, which is for"):
            make_weight_quantizer(Format.parse("mxfp4"), torch.ones(2, 3), method="lsq")


@pytest.mark.parametrize("kind", MODULES)
def test_rows_and_back(kind: str) -> None:
    make, name = MODULES[kind]
    module = make()
    weight = getattr(module, name)
    layout = row_layout(module, weight)
    rows = layout.rows(weight)
    assert rows.shape == (layout.row_count, layout.columns)
    assert torch.equal(layout.weight(rows), weight)


def test_rows_of_a_transposed_convolution_are_its_output_channels() -> None:
    module = nn.ConvTranspose1d(4, 6, 3, groups=2)
    rows = row_layout(module, module.weight).rows(module.weight)
    for output in range(6):
        group, place = divmod(output, 3)
        wanted = module.weight[2 * group : 2 * group + 2, place].T.reshape(-1)
        assert torch.equal(rows[output], wanted)


def test_a_weight_with_one_axis_is_one_row() -> None:
    layout = RowLayout((5,))
    weight = torch.randn(5)
    assert layout.rows(weight).shape == (1, 5)
    quantizer = make_weight_quantizer(Format.parse("int4"), weight)
    assert quantizer(weight).shape == (5,)
    assert quantizer.coded(weight).integers.shape == (1, 5)
