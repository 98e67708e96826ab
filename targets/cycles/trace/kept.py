"""Compiled code between processes, without running anybody else's.

It lies in the folder ``native`` of the cache folder, and is run with all that the user may do:

1. Folder and file belong to this user, are no links, and nobody else may write to them. Both are
   looked at through the descriptors that they are then read and written by, so that nothing can
   take their place in between. Who may write to the folders above can at most take them away.
2. A file begins with the digest of the rest: what was cut short or damaged is not used.
3. A file is written beside its place, then moved there: whoever reads meanwhile finds all of it, or
   nothing, and of two who write one is last.
4. What runs is a copy in a temporary folder of this process (:func:`run_folder`).
5. Nothing is made below a folder that is somebody else's: what root leaves in a user's home could
   not be used by the user.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from edgekit.data.cache import cache_folder
from edgekit.errors import UsageError

_DIGEST_BYTES = hashlib.sha256().digest_size
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read(name: str) -> bytes | None:
    """What is kept under a name; None where nothing is, or not all of it.

    Raises:
        OSError: it cannot be read, or somebody else could have written it.
    """
    # Without waiting: a pipe would never answer.
    flags = os.O_RDONLY | os.O_NONBLOCK
    try:
        with (
            _folder() as folder,
            _own(name, flags, stat.S_ISREG, folder=folder) as handle,
            open(handle, "rb", closefd=False) as stream,
        ):
            digest, content = stream.read(_DIGEST_BYTES), stream.read()
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).digest() == digest else None


def write(name: str, content: bytes) -> None:
    """Keep something under a name, in place of what was there.

    Raises:
        OSError: there is no place to keep it; what was there is there still.
    """
    _make_folder(_place())
    with _folder() as folder:
        beside = f".{name}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        handle = os.open(beside, flags, 0o600, dir_fd=folder)
        try:
            with open(handle, "wb") as stream:
                stream.write(hashlib.sha256(content).digest() + content)
            os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(beside, dir_fd=folder)
            raise


def run_folder() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder of this process, from which code may be run if there is such a place.

    It is in the system's folder for temporary files, and in the one of kept code where the former
    is on a file system without execution.

    Raises:
        OSError: no folder can be made.
    """
    if not _is_without_execution(Path(tempfile.gettempdir())):
        return tempfile.TemporaryDirectory(prefix="edgekit-")
    with suppress(OSError):
        _make_folder(_place())
        place = _place().resolve(strict=True)
        if not _is_without_execution(place) and _is_out_of_reach(place):
            return tempfile.TemporaryDirectory(prefix="edgekit-", dir=place)
    return tempfile.TemporaryDirectory(prefix="edgekit-")


def _place() -> Path:
    """Where kept code is to lie.

    Raises:
        OSError: there is no such place that would be the same wherever the process is started.
    """
    try:
        folder = cache_folder()
    except UsageError as error:
        raise FileNotFoundError(str(error)) from error
    if not folder.is_absolute():
        raise FileNotFoundError(f"EDGEKIT_CACHE is {folder}, which is not absolute")
    return folder / "native"


def _folder() -> AbstractContextManager[int]:
    """The folder of kept code, open; see :func:`_own`."""
    return _own(_place(), os.O_RDONLY | os.O_DIRECTORY, stat.S_ISDIR)


@contextmanager
def _own(
    path: Path | str, flags: int, is_kind: Callable[[int], bool], *, folder: int | None = None
) -> Iterator[int]:
    """A file or folder, open, that nobody but this user could have written.

    Args:
        path: of it.
        flags: how to open it.
        is_kind: whether a mode is of the kind that it must be.
        folder: to which the path is relative, open.

    Raises:
        OSError: it is not there, a link, of another kind, or not this user's alone.
    """
    handle = os.open(path, flags | os.O_NOFOLLOW, dir_fd=folder)
    try:
        status = os.fstat(handle)
        if not is_kind(status.st_mode):
            raise PermissionError(f"{path} is not what was put there")
        if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
            raise PermissionError(f"others than this user may write to {path}")
        yield handle
    finally:
        os.close(handle)


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it, for this user alone; what is there stays as it is.

    Raises:
        OSError: it cannot be made, or would lie in somebody else's.
    """
    missing = [folder, *folder.parents]
    missing = missing[: next(i for i, part in enumerate(missing) if os.path.lexists(part))]
    if missing and (above := missing[-1].parent).stat().st_uid != os.geteuid():
        raise PermissionError(f"{above} is somebody else's")
    for part in reversed(missing):
        part.mkdir(mode=0o700, exist_ok=True)


def _is_without_execution(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0))


def _is_out_of_reach(folder: Path) -> bool:
    """Whether nobody but this user and root can put another folder in this one's place."""
    for part in (folder, *folder.parents):
        status = part.stat()
        is_shared = status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, os.geteuid()) or is_shared:
            return False
    return True
