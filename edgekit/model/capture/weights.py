"""Weights of a module from a ``.safetensors`` file."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from edgekit.errors import InvalidModelError, UsageError
from edgekit.model.capture.examples import dtype_name

_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module; every tensor of its state must be in the file, and nothing else.

    A tensor that shares its memory with one in the file may be left out, as
    ``safetensors.torch.save_model`` does.

    Args:
        module: changed in place.
        path: of a ``.safetensors`` file.

    Raises:
        UsageError: another kind of file, or missing, unexpected and unfitting tensors, all listed.
        InvalidModelError: the file cannot be read or is broken.
    """
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise UsageError(
            f"{path}: a pickle, which is never loaded; convert it with safetensors.torch.save_file("
            f"torch.load({path.name!r}, weights_only=True), {path.stem + '.safetensors'!r})"
        )
    if suffix != ".safetensors":
        raise UsageError(f"{path}: weights must be a .safetensors file")
    if not path.is_file():
        raise InvalidModelError(f"{path} does not exist or is no file")
    try:
        given = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise InvalidModelError(f"{path} is no valid .safetensors file: {error}") from error
    state = module.state_dict()
    problems = _problems(state, given)
    if problems:
        lines = "\n  ".join(problems)
        raise UsageError(f"{path.name} does not fit {type(module).__name__}:\n  {lines}")
    module.load_state_dict(given, strict=False)


def _problems(state: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> list[str]:
    shared = {_memory(state[name]) for name in given if name in state}
    problems = [
        f"{name} is missing"
        for name, tensor in state.items()
        if name not in given and (tensor.numel() == 0 or _memory(tensor) not in shared)
    ]
    for name, tensor in given.items():
        if name not in state:
            problems.append(f"{name} is not expected")
            continue
        got, wanted = _described(tensor), _described(state[name])
        if got != wanted:
            problems.append(f"{name} is {got}, must be {wanted}")
    return problems


def _memory(tensor: torch.Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def _described(tensor: torch.Tensor) -> str:
    return f"{dtype_name(tensor.dtype)}{list(tensor.shape)}"
