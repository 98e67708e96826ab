"""The folder of a training: names of its files, and how it is begun.

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

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import OutputError
from edgekit.zoo.checkpoint import write_whole
from edgekit.zoo.recipe import Recipe, to_toml

Array = NDArray[Any]

CONFIG, HISTORY, MODEL, METRICS = "config.toml", "history.json", "model.safetensors", "metrics.json"
PREPROCESSING, CALIBRATION, TEST = "preprocessing.json", "calibration.npz", "test.npz"


def check_free(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        OutputError: it does, or is a file, or cannot be looked into.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(
                f"{folder}: is there and not empty; resume it, or choose another folder"
            )
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error


def make_folder(folder: Path, recipe: Recipe) -> None:
    """Make a run folder, with the recipe in it.

    Raises:
        OutputError: it holds something, or cannot be written.
    """
    check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error
    write_whole(folder / CONFIG, to_toml(recipe).encode())


def npz(**arrays: Array) -> bytes:
    """A compressed NumPy archive."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()
