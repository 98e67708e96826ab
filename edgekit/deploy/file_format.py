"""Files that models come in, by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgekit.errors import InvalidModelError

FileFormat = Literal["tflite", "onnx", "pt2", "nir"]

_INSTEAD = "save the module with torch.export.save, or name a factory and .safetensors weights"


def file_format(path: Path) -> FileFormat:
    """What a model file is, by the ending of its name.

    Raises:
        InvalidModelError: a file that is none; says what would be one.

    >>> file_format(Path("net.ONNX"))
    'onnx'
    """
    kinds: dict[str, FileFormat] = {
        ".tflite": "tflite",
        ".onnx": "onnx",
        ".pt2": "pt2",
        ".nir": "nir",
    }
    if path.suffix.lower() not in kinds:
        hint = {
            ".pt": f"a pickle, which is never loaded; {_INSTEAD}",
            ".pth": f"a pickle, which is never loaded; {_INSTEAD}",
            ".safetensors": "weights without a model; give the module as 'package.module:factory' "
            "and these as its weights",
            ".py": "source; name the function in it that makes the module: module:factory",
            ".pkl": "a pickle, which is never loaded",
        }.get(path.suffix.lower(), "of an unknown kind")
        raise InvalidModelError(
            f"{path}: {hint}; edgekit reads .tflite, .onnx, .pt2 and .nir files and modules named "
            "package.module:factory"
        )
    return kinds[path.suffix.lower()]
