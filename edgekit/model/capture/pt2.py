"""Read a ``.pt2`` file without running what it says.

``torch.export.load`` unpickles, evaluates expressions, imports modules by name and writes names of
the file into Python source that it executes. So the file never reaches it. Instead:

1. The archive is opened with limits, and every member must be on a list
   (:func:`~edgekit.model.capture.pt2_archive.read_archive`).
2. Its JSON documents are copied piece by piece, each piece checked
   (:mod:`~edgekit.model.capture.pt2_graph`, :mod:`~edgekit.model.capture.pt2_tensors`): names are
   identifiers, operators come from a few namespaces and compute tensors from tensors, expressions
   are integers and symbols, tensors are raw bytes within their payload. Pickles have no place.
3. A new archive is written from the copies, in memory, and that one is loaded.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.model.capture.pt2_archive import (
    CONSTANTS_CONFIG,
    GRAPH,
    SAMPLES,
    WEIGHTS_CONFIG,
    read_archive,
)
from edgekit.model.capture.pt2_graph import checked_program
from edgekit.model.capture.pt2_tensors import checked_payloads
from edgekit.model.capture.quiet import quiet


def load_pt2(path: Path) -> ExportedProgram:
    """The program in a file that ``torch.export.save`` wrote.

    Args:
        path: of the file.

    Raises:
        InvalidModelError: the file is missing, broken, or holds what no exported program has.
        UnsupportedError: what cannot be read without trust: pickled tensors, custom objects,
            compiled code, operators of other libraries, dynamic shapes beyond simple arithmetic.
    """
    members = read_archive(path)
    where = str(path)
    try:
        program = checked_program(_document(members, GRAPH, where), where)
    except RecursionError as error:
        raise InvalidModelError(f"{where}: its graph is nested too deeply") from error
    weights, weight_bytes = checked_payloads(
        _document(members, WEIGHTS_CONFIG, where), members, "data/weights/weight_", where
    )
    constants, constant_bytes = checked_payloads(
        _document(members, CONSTANTS_CONFIG, where), members, "data/constants/tensor_", where
    )
    clean = {
        GRAPH: _text(program),
        WEIGHTS_CONFIG: _text(weights),
        CONSTANTS_CONFIG: _text(constants),
        SAMPLES: b"",
        "archive_format": b"pt2",
        "archive_version": b"0",
        ".data/version": b"6",
        "byteorder": b"little",
        **weight_bytes,
        **constant_bytes,
    }
    try:
        with quiet():
            return torch.export.load(_archive(clean))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InvalidModelError(
            f"{path}: torch {torch.__version__} cannot load it: {reason}"
        ) from error


def _document(members: dict[str, bytes], name: str, where: str) -> Any:
    if name not in members:
        raise InvalidModelError(f"{where} is no exported program: {name} is missing")
    try:
        return json.loads(members[name].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidModelError(f"{where}: {name} is not JSON: {error}") from error


def _text(document: Any) -> bytes:
    try:
        return json.dumps(document, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise UnsupportedError(f"the program cannot be written again: {error}") from error


def _archive(members: dict[str, bytes]) -> io.BytesIO:
    """Members under one root, stored uncompressed, as torch's reader expects them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(f"model/{name}", data)
    buffer.seek(0)
    return buffer
