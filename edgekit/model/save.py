"""Write a Model to an ONNX file, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

from edgekit.errors import OutputError
from edgekit.model.domain import attach_functions
from edgekit.model.model import Model


def save(model: Model, path: Path | str) -> Path:
    """Write a Model as one ``.onnx`` file, with the definitions of our operators that it calls.

    The file appears under its name when it is complete; an older one stays until then.

    Args:
        model: not changed.
        path: of the file; its folder is made.

    Returns:
        The path.

    Raises:
        OutputError: the name does not end in ``.onnx``, the place cannot be written, or the model
            exceeds the 2 GB that a protobuf holds.
    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise OutputError(f"{path}: a model is written as an .onnx file")
    ir, _ = attach_functions(model.ir.clone())
    try:
        data = model.with_ir(ir).to_bytes()
    except (EncodeError, ValueError) as error:
        raise OutputError(f"{path}: the model exceeds the 2 GB of an .onnx file") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path
