"""Weights that an ONNX file keeps in other files, read only from inside the model's own folder."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import onnx_ir

from edgekit.errors import InvalidModelError
from edgekit.model.validate import stored_tensors


def embed_external_data(proto: onnx.ModelProto, where: str, folder: Path | None) -> None:
    """Read every external tensor into `proto`.

    Args:
        proto: changed in place.
        where: what messages call the model.
        folder: the model's folder; None where the model has none.

    Raises:
        InvalidModelError: there is no folder; a location is absolute or leaves the folder, also
            through a symbolic link; the file is missing or shorter than declared.
    """
    for what, tensor in stored_tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        what = f"{where}: {what}"
        if folder is None:
            raise InvalidModelError(f"{what} lies in another file; load the model from its path")
        entries = {entry.key: entry.value for entry in tensor.external_data}
        data = _read_range(
            _inside(folder, entries.get("location", ""), what),
            _number(entries, "offset", 0, what),
            _number(entries, "length", _declared_bytes(tensor, what), what),
            what,
        )
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.raw_data = data


def _declared_bytes(tensor: onnx.TensorProto, what: str) -> int:
    if any(extent < 0 for extent in tensor.dims):
        raise InvalidModelError(f"{what} has a negative extent: {list(tensor.dims)}")
    try:
        dtype = onnx_ir.DataType(tensor.data_type)
        bits: int = math.prod(tensor.dims) * dtype.bitwidth
        return (bits + 7) // 8
    except (TypeError, ValueError) as error:
        raise InvalidModelError(f"{what} has type {tensor.data_type}, which has no size") from error


def _number(entries: dict[str, str], key: str, default: int, what: str) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise InvalidModelError(f"{what}: {key} is {text!r}, must be a number")
    return int(text)


def _inside(folder: Path, location: str, what: str) -> Path:
    root = folder.resolve()
    try:
        path = (root / location).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # Links in a circle, a name with a NUL.
        raise InvalidModelError(f"{what} points to {location!r}: {error}") from error
    if not location or Path(location).is_absolute() or not path.is_relative_to(root):
        raise InvalidModelError(
            f"{what} points to {location!r}, must be a file inside the model's folder"
        )
    return path


def _read_range(path: Path, offset: int, length: int, what: str) -> bytes:
    try:
        if not path.is_file():
            raise InvalidModelError(f"{what}: {path} does not exist or is no file")
        size = path.stat().st_size
        if offset + length > size:
            raise InvalidModelError(
                f"{what} takes bytes {offset} to {offset + length} of {path}, which has {size}"
            )
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as error:
        raise InvalidModelError(f"{what}: {path} cannot be read: {error.strerror}") from error
