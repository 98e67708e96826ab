"""Training a reference network on the CPU, repeatable to the bit on one machine.

A run folder holds

==========================  ======================================================================
``config.toml``             the resolved recipe
``history.json``            a row per epoch
``checkpoint.safetensors``  everything that going on needs
``model.safetensors``       the best epoch's weights (by validation), what they need in the header
``preprocessing.json``      what happens to samples before the network
``calibration.npz``         ``x``: preprocessed training samples, for quantisation
``test.npz``                ``x``, ``y``: the preprocessed test samples
``metrics.json``            :class:`~edgekit.zoo.result.TrainResult`
==========================  ======================================================================

The last five appear when the training is finished.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgekit.data import Clip, Dataset, Preprocessing, Scale, Standardize, load
from edgekit.data.preprocessing import Step
from edgekit.errors import InvalidDataError, OutputError, UsageError
from edgekit.version import edgekit_version
from edgekit.zoo.augment import augmented, check_augmentation
from edgekit.zoo.checkpoint import (
    HEADER_KEY,
    MAX_THREADS,
    Epoch,
    Progress,
    Tensors,
    load_checkpoint,
    read_progress,
    save_checkpoint,
    serialized,
    write_whole,
)
from edgekit.zoo.quantized import SpikingNetwork, Stepping, quantized
from edgekit.zoo.recipe import Inputs, Optimizer, Recipe, changed, from_toml, read_recipe, to_toml
from edgekit.zoo.result import ClassScore, Score, TrainResult
from edgekit.zoo.table import build, network

Array = NDArray[Any]

log = logging.getLogger("edgekit")

CONFIG, HISTORY, MODEL, METRICS = "config.toml", "history.json", "model.safetensors", "metrics.json"
PREPROCESSING, CALIBRATION, TEST = "preprocessing.json", "calibration.npz", "test.npz"

EVALUATION_BATCH = 512
"""Samples at a time where nothing is learned; fixed, so that results do not depend on memory."""

OnStep = Callable[[int, int, int, int], None]
"""Called with (epoch from 1, epochs, step from 1, steps of the epoch)."""


def train(
    name: str,
    config: Recipe | Mapping[str, Any] | None = None,
    *,
    output: Path | str | None = None,
    resume: Path | str | None = None,
    data: Path | str | None = None,
    download: bool = False,
    sha256: str | None = None,
    threads: int | None = None,
    on_step: OnStep | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> TrainResult:
    """Train a reference network.

    The same recipe, data, number of threads and machine give the same weights to the bit, however
    often the training was interrupted and resumed.

    Args:
        name: key of :data:`edgekit.zoo.NETWORKS`.
        config: a whole recipe, or values that replace some of the network's default one.
        output: the run folder to make; default ``runs/<name>``. It may be there if it is empty.
        resume: a run folder to go on with instead.
        data: file or folder of the data set; None looks into the cache folder.
        download: whether to fetch what the cache folder lacks.
        sha256: of the file to fetch, where no checksum is known.
        threads: that torch computes with; None leaves its setting.
        on_step: told after every step.
        on_epoch: told after every epoch.

    Raises:
        UsageError: an unknown network, an impossible recipe, or one that differs from the one
            that is resumed.
        InvalidDataError: the data is missing, damaged or does not fit the network.
        DownloadError: see :func:`edgekit.data.load`.
        OutputError: the folder is not empty, is no run folder, or cannot be written.
    """
    network(name)
    if resume is not None and output is not None:
        raise UsageError("give either a folder to make or one to resume, not both")
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"threads is {threads}, must be from 1 to {MAX_THREADS}")
    earlier: Progress | None = None
    if resume is not None:
        folder = Path(resume)
        recipe = _resumed_recipe(folder, name, config)
        earlier = read_progress(folder)
    else:
        folder = Path(output) if output is not None else Path("runs") / name
        recipe = _recipe(name, config)
    if earlier is not None:
        data = earlier.data if data is None else data
        threads = _same_threads(earlier, threads)
    found = load(recipe.dataset, path=data, split=recipe.split, download=download, sha256=sha256)
    _check_fit(recipe, found)
    if earlier is not None and earlier.dataset_sha256 != found.sha256:
        raise UsageError(
            f"{folder}: was trained on data with sha256 {earlier.dataset_sha256}, "
            f"this is {found.sha256}"
        )
    if resume is None:
        _check_free(folder)
    with _torch_settings(threads):
        progress = Progress(
            recipe=to_toml(recipe),
            dataset_sha256=found.sha256,
            data=None if data is None else str(Path(data).absolute()),
            threads=torch.get_num_threads(),
            history=() if earlier is None else earlier.history,
        )
        run = _Run(recipe, found, folder, progress)
        if resume is None:  # not before all that may be refused
            _make_folder(folder, recipe)
        run.advance(on_step, on_epoch)
        return run.finish()


def _recipe(name: str, config: Recipe | Mapping[str, Any] | None) -> Recipe:
    if isinstance(config, Recipe):
        recipe = config
    else:
        recipe = changed(read_recipe(name), config or {}, "config")
    if recipe.network != name:
        raise UsageError(f"the recipe is for {recipe.network}, not for {name}")
    # It is read again by whoever resumes, from another folder perhaps.
    start = str(Path(recipe.start).absolute()) if recipe.start else ""
    return dataclasses.replace(recipe, start=start)


def _resumed_recipe(folder: Path, name: str, config: Recipe | Mapping[str, Any] | None) -> Recipe:
    """The recipe of a run folder; whatever else is asked for must be the same."""
    path = folder / CONFIG
    if not path.is_file():
        raise OutputError(f"{folder}: is no run folder: it has no {CONFIG}")
    recipe = read_recipe(path)
    if recipe.network != name:
        raise UsageError(f"{folder}: is a training of {recipe.network}, not of {name}")
    progress = read_progress(folder)
    if progress is not None and from_toml(progress.recipe, "checkpoint") != recipe:
        raise UsageError(f"{path}: was changed since the training began")
    asked = config if isinstance(config, Recipe) else changed(recipe, config or {}, "config")
    if asked != recipe:
        before, after = dataclasses.asdict(recipe), dataclasses.asdict(asked)
        keys = ", ".join(key for key in before if before[key] != after[key])
        raise UsageError(
            f"{folder}: resuming cannot change {keys}; train into another folder instead"
        )
    return recipe


def _same_threads(earlier: Progress, threads: int | None) -> int:
    """As many threads as before, unless others are asked for."""
    if threads is not None and threads != earlier.threads:
        log.warning(
            "trained with %d threads until now, with %d from here: weights may differ in their "
            "last bits from those of a training that was not interrupted",
            earlier.threads,
            threads,
        )
    return threads or earlier.threads


def _check_free(folder: Path) -> None:
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(
                f"{folder}: is there and not empty; resume it, or choose another folder"
            )
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error


def _make_folder(folder: Path, recipe: Recipe) -> None:
    _check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error
    write_whole(folder / CONFIG, to_toml(recipe).encode())


def _check_fit(recipe: Recipe, found: Dataset) -> None:
    known = network(recipe.network)
    if found.x.shape[1:] != known.input_shape[1:] or len(found.classes) != known.outputs:
        raise InvalidDataError(
            f"{recipe.dataset}: samples are {list(found.x.shape[1:])} of {len(found.classes)} "
            f"classes; {recipe.network} takes {list(known.input_shape[1:])} and gives "
            f"{known.outputs} scores"
        )
    check_augmentation(recipe.augmentation, found.x.shape[1:])


@contextmanager
def _torch_settings(threads: int | None) -> Iterator[None]:
    """Threads and random state as wanted, and afterwards as they were."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.set_num_threads(before)


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


class _Run:
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
            CALIBRATION: _npz(x=self._deployed(self._calibration())),
            TEST: _npz(x=self._deployed(x), y=y),
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


def _npz(**arrays: Array) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()
