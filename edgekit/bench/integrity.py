"""Whether an artifact on a board is the one that its manifest describes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edgekit.bench.fields import Count, ReportError, decode, parse
from edgekit.bench.subject import FILE_NAME, Subject, check_inside

MANIFEST = "manifest.json"

CHUNK_BYTES = 1 << 20
"""Read at a time: a board may have less memory than a model has bytes."""


@dataclass(frozen=True)
class FileRecord:
    """A file of the artifact: POSIX path, size in bytes, SHA-256."""

    path: str
    bytes: Count
    sha256: str

    def __post_init__(self) -> None:
        check_inside(self.path)


def manifest_sha256(folder: Path, subject: Subject) -> str | None:
    """The hash of the manifest, once every file that is here was found to be the one it lists.

    Files may be left behind, since a board needs only what it runs.

    Args:
        folder: of the artifact.
        subject: read from it.

    Returns:
        None where the manifest was left behind: then nothing says what the files must be.

    Raises:
        ReportError: the manifest is none, or files were changed or added; names them.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    text = path.read_bytes()
    document = parse(text, str(path))
    listed = document.get("files") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ReportError(f"{path} is no manifest: it lists no files")
    records = [
        decode(FileRecord, entry, f"{path}: files[{number}]") for number, entry in enumerate(listed)
    ]
    known = {record.path for record in records}
    wrong = [
        f"{record.path} (changed)"
        for record in records
        if (folder / record.path).is_file() and _sha256(folder / record.path) != record.sha256
    ]
    wrong += [
        f"{name} (added)"
        for name in (FILE_NAME, *subject.paths)
        if name not in known and (folder / name).exists()
    ]
    if wrong:
        raise ReportError(
            f"{folder} is not the artifact of its {MANIFEST}: {', '.join(wrong)}; "
            "copy it again, or export it again"
        )
    return hashlib.sha256(text).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
