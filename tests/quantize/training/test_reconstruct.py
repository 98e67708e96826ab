"""Block-wise reconstruction of prepared networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import InvalidDataError, UnsupportedError, UsageError
from edgekit.quantize.posttraining import RoundingSettings
from edgekit.quantize.training import calibrate, convert, freeze, prepare
from edgekit.quantize.training.reconstruct import reconstruct
from edgekit.quantize.training.weights import WeightQuantizer

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]


QUICK = RoundingSettings(iterations=150)


class Blocks(nn.Module):
    """A stem, a residual block and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv1d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 8, 1))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, T] to [N, 4]."""
        y = self.stem(x)
        y = torch.relu(y + self.body(y))
        result: Tensor = self.head(y.mean(dim=2))
        return result


def inputs(count: int = 48) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn(count, 3, 4, generator=generator).repeat_interleave(4, 2)
    return coarse + 0.3 * torch.randn(count, 3, 16, generator=generator)


def prepared(recipe: str, net: nn.Module | None = None, x: Tensor | None = None) -> Any:
    torch.manual_seed(0)
    net = net or Blocks().eval()
    x = inputs() if x is None else x
    network = prepare(net, recipe, x[:1], keep_ends=False)
    calibrate(network, [x])
    return network


@pytest.mark.parametrize("recipe", ["w3a8", "fp4-e2m1-g8a8", "w158a8", "mxfp4a8"])
def test_blocks_become_better(recipe: str) -> None:
    network, x = prepared(recipe), inputs()
    torch.manual_seed(0)
    wanted = Blocks().eval()(x)
    with torch.no_grad():
        before = (network.eval()(x) - wanted).square().mean()
    results = reconstruct(network, [x[:20], x[20:]], settings=QUICK)
    assert [r.name for r in results] == ["stem", "body", "head"]
    assert results[1].layers == ("body.0", "body.2")
    assert all(r.error <= r.error_rounded for r in results)
    assert sum(r.error for r in results) < 0.92 * sum(r.error_rounded for r in results)
    with torch.no_grad():
        after = (network(x) - wanted).square().mean()
    assert after < before


def test_it_freezes_and_converts_as_it_computes() -> None:
    network, x = prepared("w4a8-g8"), inputs()
    reconstruct(network, [x], settings=QUICK)
    network.eval()
    for part in network.modules():
        if isinstance(part, WeightQuantizer):
            assert not list(part.parameters())
    with torch.no_grad():
        simulated, frozen, converted = network(x), freeze(network)(x[:1]), convert(network)(x)
    step = (simulated.max() - simulated.min()) / 128
    assert (frozen - simulated[:1]).abs().max() <= 2 * step
    assert (converted - simulated).abs().max() <= 3 * step


def test_seeded() -> None:
    results = []
    for seed in (1, 1, 2):
        network = prepared("w3a8")
        reconstruct(network, [inputs()], settings=QUICK, seed=seed)
        results.append(network.eval()(inputs()).detach())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_named_blocks_and_progress() -> None:
    network, x = prepared("w3a8"), inputs()
    told: list[tuple[str, int, int]] = []
    results = reconstruct(
        network,
        [{"x": x}],
        blocks=["body"],
        settings=RoundingSettings(iterations=20),
        progress=lambda *step: told.append(step),
        bar=False,
    )
    assert [r.name for r in results] == ["body"]
    assert told[-1] == ("body", 20, 20)
    assert len(told) == 20


def test_per_token_activations() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 4)).eval()
    x = torch.randn(64, 5, 12)
    network = prepared("fp4-e2m1-g8a8-token", net, x)
    results = reconstruct(network, [x], settings=QUICK)
    assert [r.name for r in results] == ["0", "2"]
    assert sum(r.error for r in results) < 0.92 * sum(r.error_rounded for r in results)


def test_tied_weights_are_rounded_once() -> None:
    torch.manual_seed(2)
    shared = nn.Linear(8, 8)
    net = nn.Sequential(shared, nn.ReLU(), nn.Linear(8, 8)).eval()
    net[2].weight = shared.weight
    network = prepared("w3a8", net, torch.randn(32, 8))
    results = reconstruct(network, [torch.randn(32, 8)], settings=QUICK)
    assert [r.layers for r in results] == [("0",)]
    assert torch.equal(network.get_submodule("0").weight, network.get_submodule("2").weight)


def test_wrong_input() -> None:
    network, x = prepared("w3a8"), inputs()
    with pytest.raises(UsageError, match=r"no blocks \['bdoy'\]; children of the network: stem"):
        reconstruct(network, [x], blocks=["bdoy"])
    with pytest.raises(UsageError, match="batch is 0"):
        reconstruct(network, [x], batch=0)
    with pytest.raises(InvalidDataError, match="no samples"):
        reconstruct(network, [])
    with pytest.raises(InvalidDataError, match="batch 1 holds NaN"):
        reconstruct(network, [x, x * torch.nan])
    with pytest.raises(UsageError, match="not prepared"):
        reconstruct(nn.Linear(2, 2), [x])
    with pytest.raises(UnsupportedError, match="has no float weight to round"):
        reconstruct(prepared("shift3a8"), [x], settings=QUICK)
