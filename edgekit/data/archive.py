"""Unpacking archives that nobody vouches for."""

from __future__ import annotations

import fnmatch
import gzip
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from edgekit.data.files import CHUNK_BYTES
from edgekit.errors import InvalidDataError, OutputError

MAX_MEMBERS = 100_000
"""Most files that an archive may list."""

SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar")

_DAMAGED = (
    *(EOFError, KeyError, NotImplementedError, RuntimeError, ValueError),
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
)
"""What the standard library raises on archives that are none, or are cut short."""


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of an archive.

    >>> is_archive(Path("a/cifar-10-binary.tar.gz")), is_archive(Path("x.npz"))
    (True, False)
    """
    return path.name.endswith(SUFFIXES)


def unpack(archive: Path, folder: Path, *, wanted: Sequence[str], limit_bytes: int) -> None:
    """Unpack the wanted files of an archive, and of ``.zip`` files at its top.

    Args:
        archive: a ``.zip`` or (compressed) ``.tar`` file.
        folder: where to; it exists.
        wanted: patterns (:mod:`fnmatch`) of the paths inside.
        limit_bytes: most bytes to write, counted while they are written.

    Raises:
        InvalidDataError: damaged, paths that lead out of the folder, links or devices, larger than
            the limit, or nothing wanted in it.
        OutputError: the folder cannot be written, or the disk is full.
    """
    room = _Room(archive, limit_bytes)
    try:
        _unpack(archive, folder, wanted, room, nested=True)
    except _DAMAGED as error:
        raise InvalidDataError(f"{archive}: is damaged, or no archive: {error}") from error
    except OSError as error:
        if error.errno is None:  # The system did not say so: bz2 means damaged data by it.
            raise InvalidDataError(f"{archive}: is damaged, or no archive: {error}") from error
        raise OutputError(
            f"{archive}: cannot be unpacked to {folder}: {error.strerror or error}"
        ) from error
    if not room.files:
        raise InvalidDataError(f"{archive}: has no file like {', '.join(wanted)}")


class _Room:
    """What may still be written."""

    def __init__(self, archive: Path, limit_bytes: int) -> None:
        self.archive = archive
        self.limit_bytes = self.left = limit_bytes
        self.files = 0

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise InvalidDataError(
                f"{self.archive}: unpacks to more than {self.limit_bytes:,} bytes"
            )


def _unpack(
    archive: Path, folder: Path, wanted: Sequence[str], room: _Room, *, nested: bool
) -> None:
    members = _zip_members if zipfile.is_zipfile(archive) else _tar_members
    for number, (name, stream) in enumerate(members(archive)):
        if number >= MAX_MEMBERS:
            raise InvalidDataError(f"{archive}: lists more than {MAX_MEMBERS:,} files")
        if nested and "/" not in name and name.endswith(".zip"):
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                inner = Path(temporary) / "inner.zip"
                _copy(stream, inner, room)
                _unpack(inner, folder, wanted, room, nested=False)
        elif any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted):
            destination = folder / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            _copy(stream, destination, room)
            room.files += 1


def _copy(stream: IO[bytes], destination: Path, room: _Room) -> None:
    with destination.open("wb") as out:
        while chunk := stream.read(CHUNK_BYTES):
            room.take(len(chunk))
            out.write(chunk)


def _zip_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            _check(path, member.filename, plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
            if not member.is_dir():
                with archive.open(member) as stream:
                    yield member.filename, stream


def _tar_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path) as archive:
        for member in archive:
            _check(path, member.name, plain=member.isfile() or member.isdir())
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield member.name, stream


def _check(archive: Path, name: str, *, plain: bool) -> None:
    """Refuse an archive with a member that a careful packer does not make."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        raise InvalidDataError(f"{archive}: {name!r} leads out of the folder; refused")
    if not plain:
        raise InvalidDataError(f"{archive}: {name!r} is a link or a device; refused")


def unpack_beside(archive: Path, folder: Path, *, wanted: Sequence[str], limit_bytes: int) -> None:
    """As :func:`unpack`, into a new `folder` that appears whole or not at all."""
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        unpack(archive, temporary, wanted=wanted, limit_bytes=limit_bytes)
        temporary.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
