"""Files that nobody vouches for: digests, array files, size limits."""

from __future__ import annotations

import hashlib
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import InvalidDataError

Array = NDArray[Any]

MAX_UNPACKED_BYTES = 4 << 30
"""Most bytes that a compressed array file may unpack to."""

CHUNK_BYTES = 1 << 20

_UNREADABLE = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, MemoryError, OverflowError),
    *(NotImplementedError, RuntimeError, struct.error, tokenize.TokenError, zlib.error),
    *(zipfile.BadZipFile, lzma.LZMAError),
)
"""What NumPy and the standard library raise on corrupt array files."""


def file_sha256(path: Path) -> str:
    """Of a file's bytes.

    Raises:
        InvalidDataError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise InvalidDataError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def files_sha256(paths: Iterable[Path], root: Path) -> str:
    """Of several files: their names below `root` and their digests, in the order of the names."""
    digest = hashlib.sha256()
    for name, path in sorted((p.relative_to(root).as_posix(), p) for p in paths):
        digest.update(f"{name}\0{file_sha256(path)}\0".encode())
    return digest.hexdigest()


def read_npz(path: Path, wanted: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Array]:
    """Arrays of an ``.npz`` file by key; pickles are never loaded.

    Args:
        path: the file.
        wanted: keys that must be there.
        optional: keys that may be.

    Raises:
        InvalidDataError: unreadable, too large, no array file, keys missing.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise InvalidDataError(
                f"{path}: unpacks to {unpacked:,} bytes, more than {MAX_UNPACKED_BYTES:,}"
            )
        with np.load(path, allow_pickle=False) as loaded:
            missing = [key for key in wanted if key not in loaded.files]
            if missing:
                raise InvalidDataError(
                    f"{path}: has the arrays {sorted(loaded.files)}, lacks {missing}"
                )
            keys = [*wanted, *(key for key in optional if key in loaded.files)]
            return {key: np.asarray(loaded[key]) for key in keys}
    except FileNotFoundError as error:
        raise InvalidDataError(f"{path}: no such file") from error
    except _UNREADABLE as error:
        reason = "it holds pickled objects" if "pickle" in str(error).lower() else str(error)
        raise InvalidDataError(f"{path}: not a NumPy .npz file: {reason}") from error


def check_labels(y: Array, count: int, classes: int, where: Path | str) -> Array:
    """Labels as int64[count], each below `classes`.

    Raises:
        InvalidDataError: another shape or dtype, or labels without a class.
    """
    if y.shape != (count,) or y.dtype.kind not in "iu":
        raise InvalidDataError(
            f"{where}: labels are {y.dtype}{list(y.shape)}, must be integers [{count}]"
        )
    if count == 0:
        raise InvalidDataError(f"{where}: holds no samples")
    if y.min() < 0 or y.max() >= classes:
        raise InvalidDataError(
            f"{where}: labels from {y.min()} to {y.max()}, must be from 0 to {classes - 1}"
        )
    return y.astype(np.int64)


def check_class_names(names: Array, where: Path | str) -> tuple[str, ...]:
    """Names of classes, from text[classes].

    Raises:
        InvalidDataError: another shape or dtype, or none.
    """
    if names.ndim != 1 or names.dtype.kind != "U" or not len(names):
        raise InvalidDataError(
            f"{where}: class_names are {names.dtype}{list(names.shape)}, must be text [classes]"
        )
    return tuple(map(str, names))


def check_scale(scale: Array, shape: tuple[int, ...], where: Path | str) -> Array:
    """What integers are multiplied by, as float32[shape].

    Raises:
        InvalidDataError: another shape, or values that are not positive float32 numbers.
    """
    if scale.dtype.kind in "iuf" and scale.shape == shape:
        with np.errstate(over="ignore"):
            values = scale.astype(np.float32)
        if np.isfinite(values).all() and (values > 0).all():
            return values
    raise InvalidDataError(
        f"{where}: scale must be {math.prod(shape)} positive numbers of float32, of shape "
        f"{list(shape)}"
    )


def check_partition(partition: Array, count: int, key: str, where: Path | str) -> Array:
    """A stored partition as int8[count] of 0, 1 and 2.

    Raises:
        InvalidDataError: another shape, dtype or other codes.
    """
    good = partition.shape == (count,) and partition.dtype.kind in "iu"
    if not good or not np.isin(partition, (0, 1, 2)).all():
        raise InvalidDataError(
            f"{where}: {key} must be integers [{count}]: 0 train, 1 validation, 2 test"
        )
    return partition.astype(np.int8)
