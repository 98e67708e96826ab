"""Recipes: TOML out and in, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.zoo import NETWORKS, read_recipe
from edgekit.zoo.recipe import Schedule, changed, from_toml, read_changes, to_toml


@pytest.mark.parametrize("name", [n.name for n in NETWORKS.values() if n.trainable])
def test_every_trainable_network_has_a_recipe(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.network == name
    assert from_toml(to_toml(recipe), "text") == recipe
    assert changed(recipe, {}, "nothing") == recipe


@pytest.mark.parametrize("name", [n.name for n in NETWORKS.values() if not n.trainable])
def test_a_network_without_data_says_so(name: str) -> None:
    with pytest.raises(UsageError, match="reads no data for it; has: har-cnn"):
        read_recipe(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "epoch: unknown; did you mean epochs"),
        ({"epochs": 0}, "epochs: must be an integer from 1"),
        ({"epochs": 2.5}, "epochs: must be an integer"),
        ({"epochs": True}, "epochs: must be an integer"),
        ({"batch_size": 1}, "batch_size: must be an integer from 2"),
        ({"optimizer": {"name": "adam"}}, "optimizer.name: must be one of adamw, sgd"),
        ({"optimizer": {"learning_rate": float("nan")}}, "optimizer.learning_rate"),
        ({"optimizer": {"learning_rate": float("inf")}}, "optimizer.learning_rate"),
        ({"optimizer": {"lr": 1}}, "optimizer.lr: unknown"),
        ({"optimizer": "adamw"}, "optimizer: must be a table"),
        ({"inputs": {"standardize": 1}}, "inputs.standardize: must be true or false"),
        ({"network": "vgg"}, "network: must be one of"),
        ({"dataset": "imagenet"}, "dataset: must be one of"),
        ({"split": "official"}, "split: wisdm-watch has subject, random"),
        ({"seed": -1}, "seed: must be an integer from 0"),
        ({"epochs": "3", "seed": "x"}, "epochs: .*\n.*seed: "),
    ],
)
def test_impossible_values(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        changed(read_recipe("har-cnn"), changes, "config")


def test_tables_merge_key_by_key() -> None:
    recipe = changed(read_recipe("har-cnn"), {"optimizer": {"learning_rate": 1}}, "config")
    assert recipe.optimizer.learning_rate == 1.0
    assert recipe.optimizer.weight_decay == read_recipe("har-cnn").optimizer.weight_decay


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(read_recipe("digits-cnn")))
    assert read_recipe(path) == read_recipe("digits-cnn")
    path.write_text("epochs = \n")
    for read in (read_recipe, read_changes):
        with pytest.raises(UsageError, match="is not TOML"):
            read(path)
    path.write_bytes(b"\xff")
    for read in (read_recipe, read_changes):
        with pytest.raises(UsageError, match="is not TOML"):
            read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path / "absent.toml")
    path.write_text('network = "har-cnn"\n')
    with pytest.raises(UsageError, match="dataset: missing\n.*epochs: missing"):
        read_recipe(path)


def test_schedule() -> None:
    """Rises along a line, falls along half a cosine, ends near 0."""
    schedule = Schedule(warmup_epochs=2.0)
    factors = [schedule.factor(s, steps=100, per_epoch=5) for s in range(100)]
    assert factors[:10] == pytest.approx([(s + 1) / 11 for s in range(10)])
    assert factors[10] == 1.0
    assert factors == factors[:10] + sorted(factors[10:], reverse=True)
    assert 0 < factors[-1] < 0.001
    assert Schedule("constant").factor(99, steps=100, per_epoch=5) == 1.0
