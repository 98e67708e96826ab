"""Training a reference network on the CPU, repeatable to the bit on one machine.

What a run folder holds: see :mod:`edgekit.zoo.folder`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from edgekit.data import Dataset, load
from edgekit.errors import InvalidDataError, OutputError, UsageError
from edgekit.zoo.augment import check_augmentation
from edgekit.zoo.checkpoint import MAX_THREADS, Epoch, Progress, read_progress
from edgekit.zoo.folder import CONFIG, check_free, make_folder
from edgekit.zoo.loop import OnStep, Run
from edgekit.zoo.recipe import Recipe, changed, from_toml, read_recipe, to_toml
from edgekit.zoo.result import TrainResult
from edgekit.zoo.table import network

log = logging.getLogger("edgekit")


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
        check_free(folder)
    with _torch_settings(threads):
        progress = Progress(
            recipe=to_toml(recipe),
            dataset_sha256=found.sha256,
            data=None if data is None else str(Path(data).absolute()),
            threads=torch.get_num_threads(),
            history=() if earlier is None else earlier.history,
        )
        run = Run(recipe, found, folder, progress)
        if resume is None:  # not before all that may be refused
            make_folder(folder, recipe)
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
