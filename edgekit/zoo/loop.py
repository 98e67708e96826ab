"""The loop of a training: epochs, what is kept of them, and what a finished one leaves."""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgekit.data import Clip, Dataset, Preprocessing, Scale, Standardize
from edgekit.data.preprocessing import Step
from edgekit.errors import OutputError, UsageError
from edgekit.version import edgekit_version
from edgekit.zoo.augment import augmented
from edgekit.zoo.checkpoint import (
    HEADER_KEY,
    Epoch,
    Progress,
    Tensors,
    load_checkpoint,
    save_checkpoint,
    serialized,
    write_whole,
)
from edgekit.zoo.folder import CALIBRATION, HISTORY, METRICS, MODEL, PREPROCESSING, TEST, npz
from edgekit.zoo.quantized import SpikingNetwork, Stepping, quantized
from edgekit.zoo.recipe import Inputs, Optimizer, Recipe
from edgekit.zoo.result import ClassScore, Score, TrainResult
from edgekit.zoo.table import build

Array = NDArray[Any]

log = logging.getLogger("edgekit")

EVALUATION_BATCH = 512
"""Samples at a time where nothing is learned; fixed, so that results do not depend on memory."""

OnStep = Callable[[int, int, int, int], None]
"""Called with (epoch from 1, epochs, step from 1, steps of the epoch)."""


def fitted_preprocessing(inputs: Inputs, found: Dataset) -> Preprocessing:
    """What a recipe wants, with statistics of the training samples alone."""
    steps: list[Step] = []
    if inputs.standardize:
        steps.append(Standardize.fitted(found.x[found.train]))
    elif inputs.scale != 1:
        steps.append(Scale(inputs.scale))
    if inputs.clip:
        steps.append(Clip(-inputs.clip, inputs.clip))
    return Preprocessing(tuple(steps), found.window)


def load_start(model: nn.Module, recipe: Recipe) -> None:
    """Put the best weights of another run into a float network, in place.

    Raises:
        OutputError: the folder holds no finished float training of the same network.
    """
    path = Path(recipe.start) / MODEL
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about.get("network") != recipe.network or about.get("precision"):
            raise ValueError(
                f"holds {about.get('network')} {about.get('precision') or 'fp32'}, "
                f"must be {recipe.network} fp32"
            )
        model.load_state_dict(tensors)
    except (
        safetensors.SafetensorError,
        OSError,
        ValueError,
        RuntimeError,
        AttributeError,
    ) as error:
        raise OutputError(f"start: {path}: no training to begin with: {error}") from error


def make_optimizer(settings: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a recipe."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if settings.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
    return torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )


def make_average(decay: float, model: nn.Module) -> AveragedModel | None:
    """The running mean of a network's weights and statistics; None where the decay is 0."""
    if not decay:
        return None
    mean = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=mean, use_buffers=True)


class Run:
    """A training under way."""

    def __init__(self, recipe: Recipe, found: Dataset, folder: Path, progress: Progress) -> None:
        self.recipe = recipe
        self.data = found
        self.folder = folder
        self.progress = progress
        self.preprocessing = fitted_preprocessing(recipe.inputs, found)
        torch.manual_seed(recipe.seed)
        self.model = self._made()
        self.optimizer = make_optimizer(recipe.optimizer, self.model)
        self.average = make_average(recipe.average, self.model)
        self.best: Tensors = {}
        if progress.history:
            self.best = load_checkpoint(folder, self.model, self.optimizer, self.average)

    @property
    def kept(self) -> nn.Module:
        """The network whose weights are validated: the mean, or the one that is trained."""
        return self.model if self.average is None else self.average.module

    def _made(self) -> nn.Module:
        """The network as the training begins with it."""
        recipe = self.recipe
        model = build(recipe.network)
        if recipe.start and not self.progress.history:  # else the checkpoint has it all
            load_start(model, recipe)
        if not recipe.precision:
            return model
        samples = self.preprocessing.apply(self._calibration())
        return quantized(model, recipe.precision, torch.from_numpy(samples))

    def _calibration(self) -> Array:
        """Raw training samples for quantisation, drawn with the seed."""
        drawn = np.random.Generator(np.random.PCG64(self.recipe.seed)).permutation(self.data.train)
        chosen: Array = self.data.x[np.sort(drawn[: self.recipe.calibration_samples])]
        return chosen

    def advance(self, on_step: OnStep | None, on_epoch: Callable[[Epoch], None] | None) -> None:
        """Train what is left; every epoch leaves a whole checkpoint.

        One is there before the first epoch too: it says what data and how many threads to go on
        with, also when an epoch was never finished, or when they are others from here.
        """
        self._save()
        for number in range(len(self.progress.history) + 1, self.recipe.epochs + 1):
            if self._is_exhausted():
                log.info("no better validation for %d epochs: stopped", self.recipe.patience)
                break
            epoch = self._epoch(number, on_step)
            self.progress = dataclasses.replace(
                self.progress, history=(*self.progress.history, epoch)
            )
            if self.progress.best is epoch:
                self.best = {k: v.clone() for k, v in self.kept.state_dict().items()}
            self._save()
            rows = [dataclasses.asdict(row) for row in self.progress.history]
            write_whole(self.folder / HISTORY, (json.dumps(rows, indent=2) + "\n").encode())
            if on_epoch is not None:
                on_epoch(epoch)

    def _is_exhausted(self) -> bool:
        """Whether the best epoch lies `patience` epochs back."""
        best, patience = self.progress.best, self.recipe.patience
        return bool(patience and best and len(self.progress.history) - best.epoch >= patience)

    def _save(self) -> None:
        save_checkpoint(
            self.folder, self.progress, self.model, self.optimizer, self.best, self.average
        )

    def _epoch(self, number: int, on_step: OnStep | None) -> Epoch:
        begin = time.perf_counter()
        recipe = self.recipe
        rng = np.random.Generator(np.random.PCG64([recipe.seed, number]))
        torch.manual_seed(int(rng.integers(2**63 - 1)))
        order = rng.permutation(self.data.train)
        # As equal as can be: batch normalisation cannot do with a last batch of one sample.
        batches = np.array_split(order, -(-len(order) // recipe.batch_size))
        self.model.train()
        total, rate = 0.0, 0.0
        for index, batch in enumerate(batches):
            step = (number - 1) * len(batches) + index
            rate = recipe.optimizer.learning_rate * recipe.schedule.factor(
                step, steps=recipe.epochs * len(batches), per_epoch=len(batches)
            )
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = self._loss(batch, rng)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe.gradient_clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), recipe.gradient_clip)
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            total += float(loss.detach()) * len(batch)
            if on_step is not None:
                on_step(number, recipe.epochs, index + 1, len(batches))
        validation, _ = self._evaluate(*self.data.part("validation"))
        return Epoch(
            epoch=number,
            learning_rate=rate,
            train_loss=total / len(order),
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            seconds=time.perf_counter() - begin,
        )

    def _loss(self, batch: Array, rng: np.random.Generator) -> torch.Tensor:
        """Loss of one step, with everything that is drawn for it."""
        augmentation = self.recipe.augmentation
        x = self.preprocessing.apply(augmented(self.data.x[batch], augmentation, rng))
        if augmentation.noise:
            x = x + np.float32(augmentation.noise) * rng.standard_normal(x.shape, np.float32)
        labels = torch.from_numpy(self.data.y[batch])
        if not augmentation.mixup:
            return self._cross_entropy(self.model(torch.from_numpy(x)), labels) + self._spike_cost()
        share = float(rng.beta(augmentation.mixup, augmentation.mixup))
        other = rng.permutation(len(batch))
        mixed = np.float32(share) * x + np.float32(1 - share) * x[other]
        scores = self.model(torch.from_numpy(mixed))
        losses = [
            self._cross_entropy(scores, target)
            for target in (labels, labels[torch.from_numpy(other)])
        ]
        return share * losses[0] + (1 - share) * losses[1] + self._spike_cost()

    def _cross_entropy(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean over samples, smoothed and scaled as the recipe says."""
        recipe = self.recipe
        return functional.cross_entropy(
            scores * recipe.score_scale, labels, label_smoothing=recipe.label_smoothing
        )

    def _spike_cost(self) -> torch.Tensor | float:
        """What the spikes of the last call cost, beyond the rate that is free."""
        spikes = self.recipe.spikes
        if not spikes.penalty or not isinstance(self.model, SpikingNetwork):
            return 0.0
        rates = torch.stack(tuple(self.model.rates.values()))
        return spikes.penalty * torch.relu(rates - spikes.target).mean()

    def _evaluate(self, x: Array, y: Array) -> tuple[Score, Array]:
        """Score of samples by the weights that are kept, and the class that each is given."""
        model = self.kept.eval()
        scores = []
        with torch.no_grad():
            for begin in range(0, len(x), EVALUATION_BATCH):
                piece = self.preprocessing.apply(x[begin : begin + EVALUATION_BATCH])
                scores.append(model(torch.from_numpy(piece)))
        logits = torch.cat(scores).double()
        if not torch.isfinite(logits).all():
            raise UsageError(
                f"the training diverged: scores are not finite; lower optimizer.learning_rate "
                f"({self.recipe.optimizer.learning_rate:g})"
            )
        scaled = logits * self.recipe.score_scale
        loss = float(functional.cross_entropy(scaled, torch.from_numpy(y)))
        given: Array = logits.argmax(1).numpy()
        return Score(float((given == y).mean()), loss, len(y)), given

    def finish(self) -> TrainResult:
        """Score the best weights and write what a deployment needs."""
        best = self.progress.best
        assert best is not None
        self.kept.load_state_dict(self.best)
        parts = {name: self._evaluate(*self.data.part(name)) for name in ("train", "validation")}
        x, y = self.data.part("test")
        test, given = self._evaluate(x, y)
        result = TrainResult(
            network=self.recipe.network,
            dataset=self.recipe.dataset,
            split=self.recipe.split,
            precision=self.recipe.precision,
            caveat=self.data.caveat,
            dataset_sha256=self.data.sha256,
            folder=str(self.folder),
            epochs=len(self.progress.history),
            best_epoch=best.epoch,
            parameters=sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            train=parts["train"][0],
            validation=parts["validation"][0],
            test=test,
            classes=class_scores(self.data.classes, y, given),
            seconds=round(sum(epoch.seconds for epoch in self.progress.history), 3),
            threads=self.progress.threads,
            versions={
                "edgekit": edgekit_version(),
                "numpy": np.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
        )
        self._write(result, x, y)
        return result

    def _write(self, result: TrainResult, x: Array, y: Array) -> None:
        about = {
            "network": self.recipe.network,
            "precision": self.recipe.precision,
            "classes": self.data.classes,
            "preprocessing": json.loads(self.preprocessing.to_json()),
        }
        files = {
            MODEL: serialized(self.best, json.dumps(about)),
            PREPROCESSING: self.preprocessing.to_json().encode(),
            CALIBRATION: npz(x=self._deployed(self._calibration())),
            TEST: npz(x=self._deployed(x), y=y),
            METRICS: result.to_json().encode(),
        }
        for name, content in files.items():
            write_whole(self.folder / name, content)

    def _deployed(self, x: Array) -> Array:
        """Preprocessed samples in the form that the deployed network takes."""
        prepared = self.preprocessing.apply(x)
        return self.model.windows(prepared) if isinstance(self.model, Stepping) else prepared


def class_scores(classes: tuple[str, ...], y: Array, given: Array) -> tuple[ClassScore, ...]:
    """Recall and precision of every class."""

    def share(hits: int, of: int) -> float | None:
        return hits / of if of else None

    rows = []
    for label, name in enumerate(classes):
        hits = int(((y == label) & (given == label)).sum())
        there, named = int((y == label).sum()), int((given == label).sum())
        rows.append(ClassScore(name, share(hits, there), share(hits, named), there))
    return tuple(rows)
