"""The tasks of the quantisation study: networks, data, how a float checkpoint comes about.

Nothing of a test part is used before the last figure: checkpoints are chosen by validation, fine
tuning runs a fixed number of epochs, calibration draws training samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.data import Dataset, Preprocessing, load
from edgekit.zoo import build, read_recipe, train
from edgekit.zoo.augment import augmented
from edgekit.zoo.loop import fitted_preprocessing
from edgekit.zoo.recipe import Recipe, changed

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Task:
    """A network on a data set, split in one way.

    Attributes:
        name: what rows call it.
        network: key of the zoo.
        split: what rows call the split.
        recipe_split: what the data set calls it; empty for its only one.
        file: of the data, below the data folder.
        epochs: of fine tuning; chosen so that a row takes half a minute on one core.
        learning_rate: of fine tuning, largest.
    """

    name: str
    network: str
    split: str
    recipe_split: str
    file: str
    epochs: int
    learning_rate: float

    def recipe(self, seed: int) -> Recipe:
        """The zoo's recipe for this split."""
        changes: dict[str, Any] = {"seed": seed}
        if self.recipe_split:
            changes["split"] = self.recipe_split
        return changed(read_recipe(self.network), changes, "study")

    def folder(self, runs: Path, seed: int) -> Path:
        """Where the float training lies."""
        return runs / f"{self.name}-{self.split}-{seed}"


TASKS = {
    (task.name, task.split): task
    for task in (
        Task("mnist-cnn", "mnist-cnn", "test", "", "images/mnist.npz", 1, 2e-3),
        Task("wisdm-cnn", "har-cnn", "subject", "subject", "har/wisdm_watch7_w40.npz", 5, 1e-3),
        Task("wisdm-cnn", "har-cnn", "random", "random", "har/wisdm_watch7_w40.npz", 5, 1e-3),
        Task("kws-dscnn", "ds-cnn", "speaker", "subject", "kws/gsc_test_mfcc.npz", 7, 2e-3),
    )
}
"""Every task by (name, split)."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A float checkpoint with its data.

    Attributes:
        task: what it is.
        seed: of the training.
        recipe: of the training.
        data: the data set, raw.
        preprocessing: in front of the network.
        weights: of the network.
    """

    task: Task
    seed: int
    recipe: Recipe
    data: Dataset
    preprocessing: Preprocessing
    weights: dict[str, Tensor]

    def model(self) -> nn.Module:
        """The network with the checkpoint's weights, in eval mode."""
        model = build(self.task.network)
        model.load_state_dict(self.weights)
        return model.eval()

    def part(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Preprocessed samples and labels of ``train``, ``validation`` or ``test``."""
        x, y = self.data.part(name)
        return self.preprocessing.apply(x), y

    def calibration(self, count: int) -> NDArray[np.float32]:
        """Preprocessed training samples, drawn with the seed."""
        drawn = np.random.Generator(np.random.PCG64(self.seed)).permutation(self.data.train)
        return self.preprocessing.apply(self.data.x[np.sort(drawn[:count])])

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented, preprocessed batches of one epoch of fine tuning."""
        rng = np.random.Generator(np.random.PCG64([self.seed, 1_000 + epoch]))
        order = rng.permutation(self.data.train)
        for batch in np.array_split(order, -(-len(order) // self.recipe.batch_size)):
            x = augmented(self.data.x[batch], self.recipe.augmentation, rng)
            x = self.preprocessing.apply(x)
            if self.recipe.augmentation.noise:
                noise = rng.standard_normal(x.shape, np.float32)
                x = x + np.float32(self.recipe.augmentation.noise) * noise
            yield torch.from_numpy(x), torch.from_numpy(self.data.y[batch])

    @property
    def steps(self) -> int:
        """Batches of one epoch."""
        return -(-len(self.data.train) // self.recipe.batch_size)


@cache
def trained(name: str, split: str, seed: int, data: Path, runs: Path) -> Trained:
    """A float training by the zoo's recipe; one that is there already is taken."""
    task = TASKS[name, split]
    recipe = task.recipe(seed)
    folder = task.folder(runs, seed)
    if not (folder / "metrics.json").is_file():
        begun = (folder / "checkpoint.safetensors").is_file()
        where: dict[str, Any] = {"resume": folder} if begun else {"output": folder}
        train(task.network, recipe, data=data / task.file, threads=1, **where)
    found = load(recipe.dataset, path=data / task.file, split=recipe.split)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    preprocessing = fitted_preprocessing(recipe.inputs, found)
    return Trained(task, seed, recipe, found, preprocessing, weights)


@torch.no_grad()
def accuracy(model: nn.Module, x: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """Share of samples whose highest score is their label's."""
    hits = 0
    for begin in range(0, len(x), EVALUATION_BATCH):
        scores = model(torch.from_numpy(x[begin : begin + EVALUATION_BATCH]))
        hits += int((scores.argmax(1).numpy() == y[begin : begin + EVALUATION_BATCH]).sum())
    return hits / len(x)
