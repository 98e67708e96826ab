"""From a name to samples: a path, else the cache, else a download."""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
from pathlib import Path

from edgekit.data import readers
from edgekit.data.archive import is_archive, unpack, unpack_beside
from edgekit.data.cache import cache_folder
from edgekit.data.dataset import (
    DATASETS,
    TEST,
    TRAIN,
    VALIDATION,
    Dataset,
    Entry,
    RemoteFile,
    Samples,
    entry,
    indices,
)
from edgekit.data.download import Progress, check_sha256, fetch, show_on_stderr
from edgekit.data.files import file_sha256
from edgekit.errors import DownloadError, InvalidDataError, UsageError

for _module in sorted(m.name for m in pkgutil.iter_modules(readers.__path__)):
    importlib.import_module(f"{readers.__name__}.{_module}")

MAX_UNPACKED_BYTES = 4 << 30
"""Most bytes that an archive may unpack to."""


def load(
    name: str,
    *,
    path: Path | str | None = None,
    split: str | None = None,
    download: bool = False,
    sha256: str | None = None,
    progress: Progress | None = show_on_stderr,
) -> Dataset:
    """Load a data set.

    Args:
        name: key of :data:`DATASETS`.
        path: a file or folder in one of the formats that the entry states; None looks into the
            cache folder.
        split: one of the entry's splits; None for the first.
        download: whether to fetch what the cache folder lacks.
        sha256: of the file to fetch, where the entry knows none.
        progress: told while bytes arrive.

    Raises:
        UsageError: an unknown data set or split.
        InvalidDataError: nothing there (the message says how to get it), unreadable or damaged.
        DownloadError: see :func:`edgekit.data.download.fetch`; also where no checksum is known.
    """
    known = entry(name)
    if split is not None and split not in known.splits:
        raise UsageError(f"{name} has no split {split!r}; it has: {', '.join(known.splits)}")
    chosen = split or known.splits[0]
    place = None
    if known.needs_path:
        place = (
            _existing(Path(path))
            if path is not None
            else _cached(known, download=download, sha256=sha256, progress=progress)
        )
    elif path is not None:
        raise UsageError(f"{name} comes with a package and is read from no path; leave it out")
    samples, digest = _read(known, place)
    return _dataset(known, samples, chosen, place, digest)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InvalidDataError(f"{path}: no such file or folder")
    return path


def _read(known: Entry, place: Path | None) -> tuple[Samples, str]:
    """Samples and digest; an archive, also alone in a folder, is unpacked while it is read."""
    if place is not None and place.is_dir():
        inside = list(place.iterdir())
        if len(inside) == 1 and inside[0].is_file() and is_archive(inside[0]):
            place = inside[0]
    if place is None or not place.is_file() or not is_archive(place):
        return known.read(place)
    if not known.wanted:
        raise InvalidDataError(f"{place}: {known.name} is read from {known.formats}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        unpack(place, folder, wanted=known.wanted, limit_bytes=MAX_UNPACKED_BYTES)
        samples, _ = known.read(folder)
    return samples, file_sha256(place)


def _cached(known: Entry, *, download: bool, sha256: str | None, progress: Progress | None) -> Path:
    """The data set's folder in the cache, filled if need be."""
    folder = cache_folder() / known.name
    filled = folder.is_dir() and any(folder.iterdir())
    if filled and (not download or all(_is_there(folder, f) for f in known.files)):
        return folder
    if not download:
        raise InvalidDataError(f"{known.name}: no data in {folder}; {instructions(known)}")
    if not known.files:
        raise DownloadError(f"{known.name} cannot be fetched; {instructions(known)}")
    if sha256 is not None:
        check_sha256(sha256)
        if len(known.files) > 1:
            raise UsageError(f"{known.name} has {len(known.files)} files with checksums of its own")
    for file in known.files:
        if not _is_there(folder, file):
            _fetch(known, file, folder, sha256=sha256, progress=progress)
    return folder


def _is_there(folder: Path, file: RemoteFile) -> bool:
    return (folder / _unpacked_name(file) if file.archive else folder / file.name).exists()


def _unpacked_name(file: RemoteFile) -> str:
    return file.name.partition(".")[0]


def _fetch(
    known: Entry,
    file: RemoteFile,
    folder: Path,
    *,
    sha256: str | None,
    progress: Progress | None,
) -> None:
    expected = sha256 or file.sha256
    if expected is None:
        raise DownloadError(
            f"{known.name}: no checksum of {file.url} is published that could be trusted, so it "
            f"is not fetched unless you give one (sha256); {instructions(known)}"
        )
    target = folder / file.name
    if not target.exists() or file_sha256(target) != expected.lower():
        fetch(
            file.url,
            target,
            sha256=expected,
            limit_bytes=file.limit_bytes,
            progress=progress,
        )
    if file.archive:
        unpack_beside(
            target,
            folder / _unpacked_name(file),
            wanted=known.wanted,
            limit_bytes=MAX_UNPACKED_BYTES,
        )
        target.unlink()


def instructions(known: Entry) -> str:
    """How a user gets the data by hand."""
    folder = cache_folder() / known.name
    sources = ", ".join(file.url for file in known.files) or known.source
    fetchable = known.files and all(file.sha256 for file in known.files)
    return (
        f"get it from {sources} and give its path (--data PATH) or put it into {folder}; "
        f"accepted: {known.formats}" + (", or fetch it with --download" if fetchable else "")
    )


def _dataset(
    known: Entry, samples: Samples, split: str, place: Path | None, digest: str
) -> Dataset:
    if split not in samples.partitions:
        raise UsageError(
            f"{place}: has no split {split!r}, only {', '.join(sorted(samples.partitions))}"
        )
    partition = samples.partitions[split]
    parts = {code: indices(partition, code) for code in (TRAIN, VALIDATION, TEST)}
    empty = [code for code, found in parts.items() if not len(found)]
    if empty:
        raise InvalidDataError(
            f"{place}: split {split!r} leaves nothing to train, choose or test with"
        )
    read_from = "an installed package" if place is None else str(place)
    return Dataset(
        name=known.name,
        x=samples.x,
        y=samples.y,
        classes=samples.classes,
        split=split,
        train=parts[TRAIN],
        validation=parts[VALIDATION],
        test=parts[TEST],
        groups=samples.groups,
        caveat=known.caveats.get(split, ""),
        window=samples.window,
        provenance="; ".join(
            (f"{known.source} ({known.license})", f"read from {read_from}", *samples.notes)
        ),
        sha256=digest,
    )


__all__ = ["DATASETS", "instructions", "load"]
