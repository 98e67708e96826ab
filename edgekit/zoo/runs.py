"""Trained networks back from their run folders."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from edgekit.errors import OutputError
from edgekit.zoo.folder import CALIBRATION, CONFIG, MODEL
from edgekit.zoo.quantized import Stepping, quantized
from edgekit.zoo.recipe import Recipe, read_recipe
from edgekit.zoo.table import build

_FOREIGN = (
    *(safetensors.SafetensorError, zipfile.BadZipFile, EOFError, OSError),
    *(ValueError, KeyError, IndexError, RuntimeError),
)
"""What reading files raises that no training wrote."""


def read_run(folder: Path | str) -> tuple[Recipe, nn.Module]:
    """The recipe and the trained network of a finished run, in eval mode.

    Raises:
        OutputError: no finished run of this version.
        UsageError: its recipe is impossible.
    """
    where = Path(folder)
    if not (where / MODEL).is_file() or not (where / CONFIG).is_file():
        raise OutputError(f"{where}: is no finished run: it needs {CONFIG} and {MODEL}")
    recipe = read_recipe(where / CONFIG)
    model = build(recipe.network)
    try:
        if recipe.precision:
            model = quantized(model, recipe.precision, torch.from_numpy(_example(where, model)))
        model.load_state_dict(safetensors.torch.load_file(where / MODEL))
    except _FOREIGN as error:
        what = f"{recipe.network} {recipe.precision}".rstrip()
        raise OutputError(f"{where}: is no finished run of {what}: {error}") from error
    return recipe, model.eval()


def load_run(folder: str) -> nn.Module:
    """The trained network of a finished run, for ``edgekit export edgekit.zoo:load_run``.

    Raises:
        OutputError: no finished run of this version.
        UsageError: its recipe is impossible.
    """
    return read_run(folder)[1]


def _example(folder: Path, model: nn.Module) -> NDArray[np.float32]:
    """A few calibration samples as the network takes them."""
    with np.load(folder / CALIBRATION) as stored:
        x: NDArray[Any] = stored["x"][:32]
    return model.samples(x) if isinstance(model, Stepping) else x
