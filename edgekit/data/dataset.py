"""What loading gives, and the table of data sets."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.preprocessing import Window
from edgekit.errors import UsageError

Array = NDArray[Any]

TRAIN, VALIDATION, TEST = 0, 1, 2
"""Codes of the parts in a partition."""

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Samples:
    """What a reader gives: everything, with a partition for every split that the data set has.

    Attributes:
        x: float32[N, ...] in physical units, channels first.
        y: int64[N], index into `classes`.
        classes: names.
        partitions: int8[N] of 0 train, 1 validation and 2 test, by name of the split.
        groups: int64[N], who or what a sample is from; None where that is not recorded.
        window: how recordings were cut; None for samples that are whole.
        notes: what was dropped or changed on the way.
    """

    x: Array
    y: Array
    classes: tuple[str, ...]
    partitions: Mapping[str, Array]
    groups: Array | None = None
    window: Window | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples with labels, and which of them to train, choose and test with.

    Attributes:
        name: key of :data:`DATASETS`.
        x: float32[N, ...] in physical units, channels first.
        y: int64[N], index into `classes`.
        classes: names.
        split: name of the split.
        train: indices (int64, ascending) to train with.
        validation: indices to choose by; disjoint from `train`.
        test: indices to report on; disjoint from both.
        groups: int64[N], who or what a sample is from; None where that is not recorded.
        caveat: what figures on this split do not tell; empty where nothing.
        window: how recordings were cut; None for samples that are whole.
        provenance: where it was read from, what was dropped or changed, whose it is.
        sha256: of everything that was read.
    """

    name: str
    x: Array
    y: Array
    classes: tuple[str, ...]
    split: str
    train: Array
    validation: Array
    test: Array
    groups: Array | None
    caveat: str
    window: Window | None
    provenance: str
    sha256: str

    def __len__(self) -> int:
        return len(self.y)

    def part(self, name: str) -> tuple[Array, Array]:
        """(x, y) of ``train``, ``validation`` or ``test``."""
        if name not in PARTS:
            raise UsageError(f"part {name!r} must be one of {', '.join(PARTS)}")
        chosen = getattr(self, name)
        return self.x[chosen], self.y[chosen]


@dataclass(frozen=True)
class RemoteFile:
    """A file that its publisher distributes.

    Attributes:
        name: file name in the cache.
        url: where it is published.
        sha256: of its bytes; None where no trustworthy figure is published, so that it is only
            fetched with one of the user's.
        limit_bytes: more than this is never written.
        archive: whether it is unpacked after it arrived.
    """

    name: str
    url: str
    sha256: str | None
    limit_bytes: int
    archive: bool = False


Reader = Callable[[Path | None], tuple[Samples, str]]
"""Reads a file or folder (None for a data set that needs none) to (samples, sha256)."""


@dataclass(frozen=True)
class Entry:
    """A data set that edgekit can read.

    Attributes:
        name: lower-case letters, digits and dashes.
        description: one line.
        source: whose it is, and where it is described.
        license: as the source states it.
        splits: names; the first is the default.
        formats: what :attr:`read` accepts, for people.
        read: the reader.
        caveats: what figures on a split do not tell, by split.
        files: what can be fetched.
        needs_path: False where the data comes with an installed package.
        wanted: beginnings of the paths inside an archive that are needed.
    """

    name: str
    description: str
    source: str
    license: str
    splits: tuple[str, ...]
    formats: str
    read: Reader
    caveats: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    files: tuple[RemoteFile, ...] = ()
    needs_path: bool = True
    wanted: tuple[str, ...] = ()


DATASETS: dict[str, Entry] = {}
"""Every data set by its name."""


def dataset(**values: Any) -> Callable[[Reader], Reader]:
    """Register a reader with the fields of its :class:`Entry`."""

    def register(read: Reader) -> Reader:
        entry = Entry(read=read, **values)
        assert entry.name not in DATASETS, f"data set {entry.name} is registered twice"
        DATASETS[entry.name] = entry
        return read

    return register


def entry(name: str) -> Entry:
    """The entry of a data set.

    Raises:
        UsageError: there is none; the message lists what there is.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"no data set {name!r}; {hint}known: {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def indices(partition: Array, part: int) -> Array:
    """Ascending int64 indices of one part."""
    return np.flatnonzero(partition == part).astype(np.int64)
