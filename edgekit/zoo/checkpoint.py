"""The state of a training in one safetensors file: tensors, and JSON in its header.

Everything random in an epoch is derived from the seed and the epoch's number, and the learning rate
from the step: there is no state of generators or schedules to keep.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from edgekit.errors import OutputError

SCHEMA = 1

FILE_NAME = "checkpoint.safetensors"

HEADER_KEY = "edgekit"
"""Entry of a safetensors header that holds JSON."""

MAX_THREADS = 1024

Tensors = dict[str, torch.Tensor]

_FOREIGN = (
    *(safetensors.SafetensorError, OSError),
    *(ValueError, KeyError, TypeError, RecursionError),
)
"""What reading a file raises that :func:`save_checkpoint` did not write."""


@dataclass(frozen=True)
class Epoch:
    """One line of the history.

    Attributes:
        epoch: from 1.
        learning_rate: at its last step.
        train_loss: mean over its steps, augmented and smoothed.
        validation_loss: mean cross-entropy.
        validation_accuracy: share of samples.
        seconds: that it took.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Progress:
    """Where a training stands, tensors apart.

    Attributes:
        recipe: TOML text.
        dataset_sha256: of what was read.
        data: path of the data, None for the cache folder.
        threads: that torch computed with.
        history: an entry per finished epoch.
    """

    recipe: str
    dataset_sha256: str
    data: str | None
    threads: int
    history: tuple[Epoch, ...] = ()

    @property
    def best(self) -> Epoch | None:
        """The epoch of the highest validation accuracy; of several the one of the lowest loss."""

        def merit(row: Epoch) -> tuple[float, float, int]:
            return row.validation_accuracy, -row.validation_loss, -row.epoch

        return max(self.history, key=merit, default=None)


def save_checkpoint(
    folder: Path,
    progress: Progress,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Tensors,
    average: nn.Module | None = None,
) -> None:
    """Replace the folder's checkpoint, at once.

    Args:
        folder: of the run.
        progress: where the training stands.
        model: with its weights.
        optimizer: of the model.
        best: weights of the best epoch, none before the first.
        average: the running mean of the weights, where the training keeps one.

    Raises:
        OutputError: it cannot be written, or the disk is full.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
    if average is not None:
        tensors |= {f"average/{name}": value for name, value in average.state_dict().items()}
    about = json.dumps({"schema": SCHEMA, **asdict(progress)})
    write_whole(folder / FILE_NAME, serialized(tensors, about))


def serialized(tensors: Tensors, about: str) -> bytes:
    """A safetensors file with JSON as the only entry of its header: equal content, equal bytes.

    (The library writes several entries in a random order.) Tensors are copied, so that none shares
    memory with another.
    """
    plain = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    written: bytes = safetensors.torch.save(plain, metadata={HEADER_KEY: about})
    return written


def read_progress(folder: Path) -> Progress | None:
    """Where a run folder stands; None where no training began.

    Raises:
        OutputError: the checkpoint is damaged or of another version.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header: Any = json.loads((file.metadata() or {})[HEADER_KEY])
        if not isinstance(header, dict):
            raise ValueError(f"its header holds a {type(header).__name__}")
        schema = header.pop("schema")
        if not _is_integer(schema) or schema != SCHEMA:
            raise OutputError(f"{path}: schema is {schema!r}, this version reads {SCHEMA}")
        history = tuple(Epoch(**row) for row in header.pop("history"))
        progress = Progress(**header, history=history)
        _check(progress)
        return progress
    except _FOREIGN as error:
        raise OutputError(f"{path}: is no checkpoint of edgekit: {error}") from error


def _check(progress: Progress) -> None:
    """Refuse values of other types than were written.

    Raises:
        ValueError: says which.
    """
    texts = (progress.recipe, progress.dataset_sha256, progress.data or "")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("recipe, dataset_sha256 and data must be text")
    if not (_is_integer(progress.threads) and 1 <= progress.threads <= MAX_THREADS):
        raise ValueError(f"threads is {progress.threads!r}")
    for number, row in enumerate(progress.history, 1):
        good = all(_is_integer(v) or isinstance(v, float) for v in asdict(row).values())
        if not good or row.epoch != number:
            raise ValueError(f"entry {number} of the history is {row}")


def _is_integer(value: object) -> bool:
    """Whether a value from JSON is an integer; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def load_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None = None,
) -> Tensors:
    """Put a checkpoint's weights and optimiser state in place; returns the best weights.

    Args:
        folder: of the run.
        model: gets the weights.
        optimizer: of the model.
        average: the running mean of the weights, where the training keeps one.

    Raises:
        OutputError: the file is damaged, or its tensors are not those of this network.
    """
    path = folder / FILE_NAME
    try:
        stored = safetensors.torch.load_file(path)
        parts: dict[str, Tensors] = {"model": {}, "best": {}, "optimizer": {}, "average": {}}
        for name, value in stored.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = value
        model.load_state_dict(parts["best"])
        model.load_state_dict(parts["model"])
        if average is not None:
            average.load_state_dict(parts["average"])
        state: dict[int, Tensors] = {}
        for name, value in parts["optimizer"].items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise OutputError(f"{path}: does not fit the network: {error}") from error
    return parts["best"]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all.

    Raises:
        OutputError: it cannot be written, or the disk is full.
    """
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
