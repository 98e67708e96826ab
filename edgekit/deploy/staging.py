"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.deploy.manifest import FILE_NAME, read_manifest
from edgekit.errors import OutputError


def check_destination(output: Path) -> None:
    """Refuse an output that may not be replaced.

    A folder may be replaced when it is empty, or an artifact and nothing else.

    Raises:
        OutputError: says what is there and what would be right.
    """
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise OutputError(f"{output} exists and is no folder; choose another output")
    if not output.is_dir() or not any(output.iterdir()):
        return
    try:
        manifest = read_manifest(output)
    except OutputError as error:
        raise OutputError(
            f"{output} is a folder with something else in it; choose another output"
        ) from error
    made = {FILE_NAME, *(record.path for record in manifest.files)}
    there = (p.relative_to(output).as_posix() for p in output.rglob("*") if not p.is_dir())
    foreign = sorted(set(there) - made)
    if foreign:
        raise OutputError(
            f"{output} is an artifact with something else in it ({', '.join(foreign[:3])}); "
            "move that away or choose another output"
        )


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output` that takes its place when the block succeeds.

    An artifact that was there before is replaced by a rename; on an error or an interrupt the
    temporary folder is deleted and the old artifact stays.

    Raises:
        OutputError: the place cannot be written, or the disk is full.
    """
    check_destination(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror}") from error
    try:
        yield folder
        folder.chmod(0o755)
        _replace(folder, output)
    except OSError as error:
        raise OutputError(
            f"{output}: cannot be written: {error.strerror or error}"
            + (f": {error.filename}" if error.filename else "")
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(folder: Path, output: Path) -> None:
    """Rename `folder` to `output`; whatever interrupts it, one of the two artifacts is there."""
    if not output.exists():
        folder.rename(output)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{output.name}.old.", dir=output.parent))
    try:
        os.replace(output, old)
        folder.rename(output)
    except BaseException:
        if not output.exists():
            os.replace(old, output)
        raise
    finally:
        if output.exists():
            shutil.rmtree(old, ignore_errors=True)
