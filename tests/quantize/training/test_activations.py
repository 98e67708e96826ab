"""Quantisers of activations: statistics, rounding, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.model.capture.symbolic import quantize_dequantize
from edgekit.quantize.observers import affine_quantization
from edgekit.quantize.training import activations
from edgekit.quantize.training.activations import (
    MOMENTUM,
    BinaryQuantizer,
    FixedQuantizer,
    StaticQuantizer,
    TokenQuantizer,
    fake_quantize,
)

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(st.floats(2**-10, 100, width=32), st.integers(-128, 127))
def test_fake_quantization_is_the_exact_one(scale: float, zero_point: int) -> None:
    x = normal(200) * 200 * scale
    x[:9] = torch.arange(9) * (scale / 2)  # Ties too.
    wanted = quantize_dequantize(
        x, torch.tensor(scale), torch.tensor(zero_point), low=-128, high=127
    )
    found = fake_quantize(x, torch.tensor(scale), torch.tensor(zero_point))
    assert torch.equal(found, wanted)
    assert fake_quantize(torch.zeros(1), torch.tensor(scale), torch.tensor(zero_point)) == 0


def test_both_ways_of_computing_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(64, 5)
    results = []
    for numbers in (True, False):
        monkeypatch.setattr(activations, "plain_numbers", lambda _, numbers=numbers: numbers)
        quantizer = StaticQuantizer(2)
        y = x.clone().requires_grad_()
        given_ = [quantizer(y * (1 + i), i % 2) for i in range(5)]
        given_[-1].backward(torch.ones_like(x))
        results.append((torch.stack(given_), y.grad, quantizer.state_dict()))
    (a, grad_a, state_a), (b, grad_b, state_b) = results
    torch.testing.assert_close(a, b, rtol=0, atol=float(state_a["scale"]) * 1.01)
    assert (grad_a != grad_b).float().mean() < 0.02
    for name, value in state_a.items():
        torch.testing.assert_close(value, state_b[name], rtol=1e-6, atol=1e-6)


def test_range_is_that_of_the_first_batch_then_an_average() -> None:
    quantizer = StaticQuantizer()
    x = normal(100)
    quantizer(x, 0)
    chosen = affine_quantization(float(x.min()), float(x.max()))
    assert float(quantizer.scale) == chosen.scalar_scale
    assert int(quantizer.zero_point) == chosen.scalar_zero_point
    for _ in range(60):
        quantizer(x, 0)
    quantizer(x * 2, 0)
    wanted = x.min() * (1 + MOMENTUM)
    torch.testing.assert_close(quantizer.extremes[0, 0], wanted, rtol=1e-5, atol=1e-6)


def test_statistics_change_in_training_only() -> None:
    quantizer = StaticQuantizer()
    quantizer(normal(50), 0)
    before = quantizer.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    quantizer.eval()
    quantizer(normal(50) * 9, 0)
    quantizer.train()
    quantizer(normal(50) * 9)  # Follows, is not observed.
    quantizer.observing = "never"
    quantizer(normal(50) * 9, 0)
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("numbers", [True, False])
def test_one_broken_batch_does_not_stay(
    wrong: float, numbers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "plain_numbers", lambda _: numbers)
    quantizer = StaticQuantizer()
    quantizer(normal(50), 0)
    scale = float(quantizer.scale)
    quantizer(torch.tensor([1.0, wrong]), 0)
    assert float(quantizer.scale) == scale
    assert float(quantizer.seen) == 1


def test_nothing_and_zeros_have_a_scale() -> None:
    quantizer = StaticQuantizer()
    assert quantizer(torch.zeros(0, 3), 0).shape == (0, 3)
    assert quantizer(torch.zeros(4), 0).tolist() == [0] * 4
    assert float(quantizer.scale) == 1


def test_members_share_the_union_of_their_ranges() -> None:
    quantizer = StaticQuantizer(2)
    quantizer(torch.tensor([-1.0, 0.5]), 0)
    quantizer(torch.tensor([0.0, 3.0]), 1)
    assert float(quantizer.scale) == affine_quantization(-1.0, 3.0).scalar_scale


def test_gradient_passes_inside_the_range() -> None:
    x = torch.tensor([-300.0, -1.0, 0.3, 300.0], requires_grad=True)
    fake_quantize(x, torch.tensor(1.0), torch.tensor(0)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0]


def test_learned_step_learns_and_its_average_settles() -> None:
    quantizer = StaticQuantizer(learned=True, settle=3)
    x = normal(1000).abs()
    x[0] = 40.0  # An outlier that costs everything else its precision.
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.05)
    losses = []
    for _ in range(60):
        loss = ((quantizer(x, 0) - x)[1:] ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert float(quantizer.seen) == 3
    assert losses[-1] < losses[0] / 2
    constant = quantizer.frozen()
    assert torch.equal(constant(x), quantizer.eval()(x))


def test_warm_up_blends_in_training_and_is_saved() -> None:
    quantizer = StaticQuantizer()
    x = normal(50)
    full = quantizer(x, 0)
    quantizer.set_blend(0.25)
    torch.testing.assert_close(quantizer(x), x + 0.25 * (full - x))
    other = StaticQuantizer()
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(x), quantizer(x))
    assert torch.equal(other.eval()(x), full)


def test_prescribed_scale_stays() -> None:
    quantizer = FixedQuantizer(1 / 256, -128)
    assert quantizer(torch.tensor([0.0, 0.5, 2.0]), 0).tolist() == [0, 0.5, 255 / 256]


def test_tokens_have_scales_of_their_own() -> None:
    quantizer = TokenQuantizer(16)
    x = normal(3, 16) * torch.tensor([[1e-3], [1.0], [1e3]])
    y = quantizer(x)
    normalized = torch.nn.functional.layer_norm(x, (16,))
    steps = normalized.abs().amax(-1, keepdim=True) / 127
    assert bool(((y - normalized).abs() <= steps * 0.5001).all())
    for row in range(3):
        codes = np.unique(np.rint((y[row] / steps[row]).numpy()))
        assert np.abs(codes).max() == 127
    assert torch.equal(quantizer.frozen()(x), y)


def test_signs_have_the_mean_magnitude() -> None:
    quantizer = BinaryQuantizer()
    x = torch.tensor([-3.0, 0.0, 1.0, 4.0], requires_grad=True)
    y = quantizer(x)
    assert y.tolist() == [-2, 2, 2, 2]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0]  # 2·sqrt(π/2) is 2.5.
    assert torch.equal(quantizer.eval().frozen()(x), y)
    quantizer.train()(torch.full((2,), float("nan")))
    assert float(quantizer.scale) == 2
