"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.deploy.manifest import FILE_NAME
from edgekit.errors import OutputError


def check_destination(output: Path) -> None:
    """Refuse an output that may not be replaced: a file, or a folder that is no artifact.

    Raises:
        OutputError: says what is there and what would be right.
    """
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise OutputError(f"{output} exists and is no folder; choose another output")
    if output.is_dir() and any(output.iterdir()) and not (output / FILE_NAME).is_file():
        raise OutputError(f"{output} is a folder with something else in it; choose another output")


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
    if not output.exists():
        folder.rename(output)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{output.name}.old.", dir=output.parent))
    try:
        os.replace(output, old)
        try:
            folder.rename(output)
        except OSError:
            os.replace(old, output)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
