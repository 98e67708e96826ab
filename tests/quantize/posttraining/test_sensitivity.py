"""What layers cost alone, and the mixture for a size."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import InvalidDataError, UsageError
from edgekit.formats import Format
from edgekit.model import load
from edgekit.model.nodes import const, get_input
from edgekit.program.interpret import run
from edgekit.program.lowering import lower
from edgekit.quantize.posttraining import Sensitivity, quantize_model, sensitivity
from tests.support.posttraining import LAYERS, network, samples

CANDIDATES = ("w8a8", "w4a8-g8", "w158a8")


@pytest.fixture(scope="module")
def measured() -> Sensitivity:
    """All metrics of the small network."""
    data = samples(32)
    labels = np.random.default_rng(0).integers(0, 5, 32)
    return sensitivity(load(network()), data, labels=labels, recipes=CANDIDATES, metric="kl")


def test_every_layer_and_recipe(measured: Sensitivity) -> None:
    assert [(c.layer, c.recipe) for c in measured.costs] == list(
        itertools.product(LAYERS, CANDIDATES)
    )
    assert measured.samples == 32
    assert measured.accuracy is not None
    for wide, _, narrow in zip(*[iter(measured.costs)] * 3, strict=True):
        assert wide.mse < narrow.mse
        assert wide.kl is not None
        assert narrow.kl is not None
        assert wide.kl < narrow.kl
        assert wide.bytes > narrow.bytes
    ranked = measured.ranking("w158a8")
    assert [c.kl for c in ranked] == sorted((c.kl for c in ranked), reverse=True)
    assert measured.ranking() == ranked
    with pytest.raises(UsageError, match="was not measured"):
        measured.ranking("w2a8")


def test_cost_of_one_layer(measured: Sensitivity) -> None:
    """Measured again by hand: the float network with one layer's weights replaced."""
    model, data = load(network()), samples(32)["x"]
    changed = load(network())
    (node,) = (n for n in changed.ir.graph if n.name == "node_pointwise")
    weights = const(get_input(node, 1))
    fmt = Format.parse("ternary")
    rows = fmt.dequantize(fmt.quantize(weights.reshape(16, 12)))
    get_input(node, 1).const_value = type(get_input(node, 1).const_value)(
        rows.reshape(weights.shape)
    )
    a, b = (
        np.stack([next(iter(run(lower(m), {"x": x}).values())) for x in data])
        for m in (model, changed)
    )
    (cost,) = (c for c in measured.costs if (c.layer, c.recipe) == ("pointwise", "w158a8"))
    assert cost.mse == pytest.approx(np.square(a - b).sum() / np.square(a).sum(), rel=1e-3)

    def softmax(x: np.ndarray) -> np.ndarray:
        return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)

    p, q = softmax(a.reshape(32, 5).astype(np.float64)), softmax(b.reshape(32, 5).astype(float))
    assert cost.kl == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), rel=1e-3)


@pytest.mark.parametrize("budget", [500, 800, 1200, 10_000])
def test_the_proposal_is_the_best_of_all_mixtures(budget: int) -> None:
    found = sensitivity(
        load(network()), samples(16), recipes=CANDIDATES, budget_bytes=budget, metric="mse"
    )
    by_layer = [[c for c in found.costs if c.layer == name] for name in LAYERS]
    mixtures = [
        (sum(c.mse for c in mixture), mixture)
        for mixture in itertools.product(*by_layer)
        if sum(c.bytes for c in mixture) <= budget
    ]
    best, chosen = min(mixtures, key=lambda m: m[0])
    assert found.proposal == {c.layer: c.recipe for c in chosen}
    assert found.proposal_cost == pytest.approx(best)
    assert found.proposal_bytes == sum(c.bytes for c in chosen) <= budget
    assert found.recipe is not None
    lower(quantize_model(load(network()), found.recipe, samples()))


def test_a_budget_that_nothing_fits() -> None:
    with pytest.raises(UsageError, match="the narrowest of the candidates take"):
        sensitivity(load(network()), samples(4), recipes=CANDIDATES, budget_bytes=10)


def test_json(measured: Sensitivity) -> None:
    stored = json.loads(measured.to_json())
    assert stored["metric"] == "kl"
    assert stored["costs"][0]["layer"] == "stem"
    assert stored["proposal"] is None


def test_sources_and_data(tmp_path: Path) -> None:
    """A path, one array, pairs, batches: all the same."""
    path = tmp_path / "net.onnx"
    path.write_bytes(network())
    data, labels = samples(12)["x"], np.arange(12) % 5
    given = [
        ({"x": data}, labels),
        (data, labels),
        ((data, labels), None),
        ([(data[:5], labels[:5]), (data[5:], labels[5:])], None),
    ]
    results = [
        sensitivity(str(path), d, labels=y, recipes=["w158a8"], metric="accuracy")  # type: ignore[arg-type]
        for d, y in given
    ]
    assert all(r == results[0] for r in results)
    assert results[0].accuracy is not None


@pytest.mark.torch
@pytest.mark.needs("torch")
def test_torch_modules() -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    batches = [(torch.randn(6, 2, 8), torch.randint(3, (6,))) for _ in range(3)]
    found = sensitivity(net, batches, recipes=["w8a8", "w2a8"], limit=None)
    assert [c.layer for c in found.costs] == ["0", "0", "3", "3"]
    assert found.samples == 18
    assert found.accuracy is not None


def test_wrong_arguments() -> None:
    model, data = load(network()), samples(4)
    with pytest.raises(UsageError, match="metric 'f1' is unknown"):
        sensitivity(model, data, metric="f1")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="needs labels"):
        sensitivity(model, data, metric="accuracy")
    with pytest.raises(UsageError, match="list of recipe texts"):
        sensitivity(model, data, recipes="w8a8")
    with pytest.raises(UsageError, match="rounds to nearest"):
        sensitivity(model, data, method="gptq")
    with pytest.raises(InvalidDataError, match="4 samples have 3 labels"):
        sensitivity(model, data, labels=np.zeros(3, int))
    with pytest.raises(InvalidDataError, match="holds no batches"):
        sensitivity(model, [])
    with pytest.raises(InvalidDataError, match="must be arrays by input name"):
        sensitivity(model, 3)
