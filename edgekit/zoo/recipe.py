"""Recipes: everything that decides a training, as a checked value and as TOML.

>>> recipe = read_recipe("har-cnn")
>>> from_toml(to_toml(recipe), "text") == recipe
True
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgekit.data.dataset import DATASETS
from edgekit.data.dataset import entry as dataset_entry
from edgekit.errors import UsageError
from edgekit.zoo.fields import choice, field_problems, made, number
from edgekit.zoo.precisions import TRAINED_PRECISIONS
from edgekit.zoo.table import NETWORKS, network

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class Optimizer:
    """How weights follow gradients.

    Attributes:
        name: one of :data:`OPTIMIZERS`.
        learning_rate: the largest one.
        weight_decay: AdamW's is decoupled, SGD's is added to the gradient.
        momentum: of SGD.
    """

    name: str = choice(*OPTIMIZERS, default="adamw")
    learning_rate: float = number(1e-7, 10, 1e-3)
    weight_decay: float = number(0, 1, 0.0)
    momentum: float = number(0, 0.9999, 0.9)


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the steps of a whole training.

    Attributes:
        name: ``cosine`` falls to 0 along half a cosine; ``constant`` stays.
        warmup_epochs: epochs of linear rise before.
    """

    name: str = choice(*SCHEDULES, default="cosine")
    warmup_epochs: float = number(0, 1000, 0.0)

    def factor(self, step: int, *, steps: int, per_epoch: int) -> float:
        """Share of the largest learning rate at a step.

        >>> Schedule().factor(50, steps=100, per_epoch=10)
        0.5
        """
        warmup = self.warmup_epochs * per_epoch
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.name == "constant":
            return 1.0
        done = (step - warmup) / max(1.0, steps - warmup)
        return round(0.5 * (1 + math.cos(math.pi * done)), 12)


@dataclass(frozen=True)
class Augmentation:
    """Changes to training samples, drawn anew every time; 0 leaves one out.

    Attributes:
        rotate_degrees: standard deviation of the angle of a rotation about a random axis, the same
            for acceleration and angular rate: a watch sits differently on every wrist.
        gain: standard deviation of the logarithm of a factor for a whole sample.
        stretch: standard deviation of the logarithm of a factor on time, about the middle.
        noise: standard deviation of noise, in units after preprocessing.
        shift: most pixels that an image moves in either direction; what comes in repeats the edge.
        flip: share of images that are mirrored left to right.
        mixup: both parameters of the beta distribution that mixes pairs of samples.
    """

    rotate_degrees: float = number(0, 180, 0.0)
    gain: float = number(0, 2, 0.0)
    stretch: float = number(0, 1, 0.0)
    noise: float = number(0, 10, 0.0)
    shift: int = number(0, 16, 0)
    flip: float = number(0, 1, 0.0)
    mixup: float = number(0, 10, 0.0)


@dataclass(frozen=True)
class Inputs:
    """What happens to samples before the network.

    Attributes:
        standardize: per-channel mean 0 and deviation 1 on the training samples.
        scale: factor where nothing is standardised.
        clip: largest magnitude after that; 0 for none.
    """

    standardize: bool = True
    scale: float = number(1e-9, 1e9, 1.0)
    clip: float = number(0, 1e6, 0.0)


@dataclass(frozen=True)
class Spikes:
    """How many spikes a spiking network is trained to use.

    Attributes:
        penalty: weight of the mean excess in the loss; 0 leaves spikes alone.
        target: mean spikes per neuron and step, in each population, that cost nothing.
    """

    penalty: float = number(0, 1000, 0.0)
    target: float = number(0, 1, 0.05)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training.

    Attributes:
        network: key of :data:`edgekit.zoo.NETWORKS`.
        dataset: key of :data:`edgekit.data.DATASETS`.
        epochs: passes over the training samples.
        split: one of the data set's; empty for its default.
        batch_size: samples a step; the last step of an epoch may have fewer.
        seed: of initial weights, order and augmentation.
        label_smoothing: share of a label that is spread over all classes.
        score_scale: factor on the scores in the loss: counts of spikes are far apart.
        gradient_clip: largest norm of all gradients; 0 for none.
        average: decay per step of a running mean of the weights, which is validated and kept in
            their place; 0 for the weights themselves.
        patience: epochs without a better validation after which the training ends; 0 for never.
        precision: of the weights that are trained, as in ``w8``, ``w158``, ``shift3``; empty for
            float.
        start: run folder of the same network whose best weights the training begins with; empty
            for random ones.
        calibration_samples: training samples kept for quantisation.
        inputs: what happens to samples before the network.
        optimizer: how weights follow gradients.
        schedule: the learning rate over time.
        augmentation: changes to training samples.
        spikes: how many a spiking network uses.

    Raises:
        UsageError: values that no training can have; every problem has a line.
    """

    network: str
    dataset: str
    epochs: int = number(1, 100_000)
    split: str = ""
    batch_size: int = number(2, 65_536, 128)
    seed: int = number(0, 2**31 - 1, 0)
    label_smoothing: float = number(0, 0.9, 0.0)
    score_scale: float = number(1e-6, 1e6, 1.0)
    gradient_clip: float = number(0, 1e6, 0.0)
    average: float = number(0, 0.999999, 0.0)
    patience: int = number(0, 100_000, 0)
    precision: str = ""
    start: str = ""
    calibration_samples: int = number(1, 100_000, 256)
    inputs: Inputs = Inputs()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augmentation: Augmentation = Augmentation()
    spikes: Spikes = Spikes()

    def __post_init__(self) -> None:
        _refuse("recipe", recipe_problems(asdict(self)))
        if not self.split:
            object.__setattr__(self, "split", DATASETS[self.dataset].splits[0])


def read_recipe(source: str | Path) -> Recipe:
    """The default recipe of a network (by name), or one from a TOML file (by path).

    Raises:
        UsageError: no such network or no recipe for it, an unreadable file, unknown keys,
            impossible values; every problem has a line.
    """
    if isinstance(source, str):
        known = network(source)
        if not known.trainable:
            having = ", ".join(n.name for n in NETWORKS.values() if n.trainable)
            raise UsageError(f"{source} has no recipe: edgekit reads no data for it; has: {having}")
        text = resources.files("edgekit.zoo").joinpath(f"recipes/{source}.toml").read_text("utf-8")
        return from_toml(text, f"recipe {source}")
    try:
        return from_toml(source.read_text(encoding="utf-8"), str(source))
    except OSError as error:
        raise UsageError(f"{source}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{source}: is not TOML: {error}") from error


def read_changes(path: Path) -> dict[str, Any]:
    """Part of a recipe: TOML whose keys replace those of a default recipe.

    Raises:
        UsageError: unreadable or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: is not TOML: {error}") from error


def changed(recipe: Recipe, changes: Mapping[str, Any], where: str) -> Recipe:
    """A recipe with some values replaced; tables are merged key by key.

    Raises:
        UsageError: unknown keys or impossible values; every problem has a line.
    """
    merged = asdict(recipe)
    if "dataset" in changes and "split" not in changes:
        merged["split"] = ""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            merged[key] = merged[key] | dict(value)
        else:
            merged[key] = value
    _refuse(where, recipe_problems(merged))
    return made(Recipe, merged)


def from_toml(text: str, where: str) -> Recipe:
    """Read what :func:`to_toml` wrote, or a person.

    Raises:
        UsageError: no TOML, unknown or missing keys, impossible values; every problem has a line.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: is not TOML: {error}") from error
    _refuse(where, recipe_problems(data))
    return made(Recipe, data)


def to_toml(recipe: Recipe) -> str:
    """A recipe with every value, defaults too."""
    plain, tables = [], []
    for key, value in asdict(recipe).items():
        if isinstance(value, dict):
            tables += ["", f"[{key}]", *(f"{k} = {_toml(v)}" for k, v in value.items())]
        else:
            plain.append(f"{key} = {_toml(value)}")
    return "\n".join([*plain, *tables]) + "\n"


def _toml(value: str | bool | int | float) -> str:
    """One value; names have no characters that TOML and JSON write differently."""
    return json.dumps(value)


def recipe_problems(data: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a recipe's values, each line beginning with the key."""
    problems = field_problems(Recipe, data, "")
    name, of, split = (data.get(key) for key in ("network", "dataset", "split"))
    if isinstance(name, str) and name not in NETWORKS:
        problems.append(f"network: must be one of {', '.join(NETWORKS)}, not {name!r}")
    if isinstance(of, str) and of not in DATASETS:
        problems.append(f"dataset: must be one of {', '.join(sorted(DATASETS))}, not {of!r}")
    elif isinstance(of, str) and isinstance(split, str) and split:
        splits = dataset_entry(of).splits
        if split not in splits:
            problems.append(f"split: {of} has {', '.join(splits)}, not {split!r}")
    spikes = data.get("spikes")
    known = NETWORKS.get(name) if isinstance(name, str) else None
    if known and not known.spiking and isinstance(spikes, Mapping) and spikes.get("penalty"):
        problems.append(f"spikes.penalty: {name} has no spikes, must be 0")
    precision = data.get("precision", "")
    if isinstance(precision, str) and precision and precision not in TRAINED_PRECISIONS:
        names = ", ".join(TRAINED_PRECISIONS)
        problems.append(f"precision: must be empty or one of {names}, not {precision!r}")
    return problems


def _refuse(where: str, problems: list[str]) -> None:
    if problems:
        raise UsageError("\n  ".join([f"{where}: not a possible recipe", *problems]))
