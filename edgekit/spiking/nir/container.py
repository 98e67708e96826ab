"""Read a .nir file that nobody vouches for: HDF5, of which only bounded plain data is taken.

A ``.nir`` file is HDF5 with a group ``node``: a dataset ``type`` (text) and one dataset per field;
of a graph, a group ``nodes`` of such groups and ``edges``, text of the shape [edges, 2].

HDF5 can point at other files (external and soft links, external storage, virtual datasets), at its
own ancestors (hard links), and can state arrays of any size in a few bytes. None of that is
followed: links are hard, storage is inside, and what is read is counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgekit.errors import InvalidModelError, ToolchainMissingError, UnsupportedError
from edgekit.model.model import MAX_ELEMENTS
from edgekit.spiking.arrays import Array
from edgekit.spiking.nir.heap import Heaps, check_superblock
from edgekit.spiking.nir.tree import GRAPH, TYPES, Field, Metadata, NirNode, NirTree

MAX_BYTES = 2**29
"""Largest file that is opened."""

MAX_NODES = 2**12
"""Most nodes of all graphs of a file, and most edges of one graph."""

MAX_DEPTH = 16
"""Most graphs within graphs, and most groups within metadata."""

MAX_TEXT = 256
"""Longest name or text."""

_BROKEN = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    OverflowError,
    MemoryError,
)
"""What h5py raises on a file that is damaged."""


def read_tree(path: Path) -> NirTree:
    """What a .nir file holds.

    Args:
        path: of the file.

    Raises:
        InvalidModelError: no such file, no HDF5, truncated or damaged, not the structure of NIR,
            fields that are missing or no numbers, NaN, more than the limits of this module.
        UnsupportedError: a type of node, or a field of one, that is not known.
        ToolchainMissingError: the package nir is missing.
    """
    h5py = _h5py()
    data = _bytes(path)
    check_superblock(data, path)
    with _damage(path, "is no .nir file: it is no HDF5, or it is truncated"):
        # In memory: what was checked is what is read, and HDF5 has no folder to look around in.
        file = h5py.File(h5py.h5f.open_file_image(data), "r")
    with file:
        reader = _Reader(h5py, path, Heaps(data, path))
        tree = reader.node(reader.group(file, "node"), (), 0)
    if isinstance(tree, NirNode):
        raise InvalidModelError(f"{path} holds one {tree.type} node, must be a {GRAPH}")
    return tree


def _bytes(path: Path) -> bytes:
    """The file.

    Raises:
        InvalidModelError: it cannot be read, or is larger than any network.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InvalidModelError(f"{path} has {size} bytes, more than {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise InvalidModelError(f"{path} cannot be read: {error.strerror}") from error


def _h5py() -> Any:
    """The package h5py, which nir brings."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ToolchainMissingError(
            "reading and writing .nir files needs the package nir: pip install 'edgekit[nir]'"
        ) from error
    return h5py


@contextmanager
def _damage(path: Path, what: str) -> Iterator[None]:
    """h5py's errors as ours.

    Raises:
        InvalidModelError: the file, and what is wrong.
    """
    try:
        yield
    except _BROKEN as error:
        detail = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InvalidModelError(f"{path} {what} ({detail})") from error


class _Reader:
    """Reads the groups of one open file and counts what it takes.

    Attributes:
        elements: numbers read so far.
        nodes: nodes read so far.
    """

    def __init__(self, h5py: Any, path: Path, heaps: Heaps) -> None:
        self.h5py = h5py
        self.path = path
        self.heaps = heaps
        self.elements = 0
        self.nodes = 0

    def node(self, group: Any, names: tuple[str, ...], depth: int) -> NirNode | NirTree:
        """A node or graph, and all that is in it."""
        where = f"node {'.'.join(names)!r}" if names else "the graph"
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._wrong(f"has more than {MAX_NODES} nodes")
        if depth > MAX_DEPTH:
            raise self._wrong(f"{where}: more than {MAX_DEPTH} graphs within graphs")
        kind = self.text(group, "type", where)
        if kind == GRAPH:
            return self._tree(group, names, depth, where)
        if kind not in TYPES:
            raise UnsupportedError(
                f"{self.path}: {where} is a {kind[:40]!r}; supported: {', '.join(TYPES)}, {GRAPH}"
            )
        known = {field.name for field in TYPES[kind]} | {"type", "metadata"}
        unknown = [name for name in self.names(group) if name not in known]
        if unknown:
            raise UnsupportedError(
                f"{self.path}: {where}, a {kind}, has the field {unknown[0]!r}; known: "
                f"{', '.join(field.name for field in TYPES[kind])}"
            )
        fields = {}
        for field in TYPES[kind]:
            if self.has(group, field.name):
                fields[field.name] = self._field(group, field, f"{where}: {field.name}")
            elif field.required:
                raise self._wrong(f"{where}, a {kind}, lacks the field {field.name!r}")
        return NirNode(kind, MappingProxyType(fields), self._metadata(group, where))

    def _tree(self, group: Any, names: tuple[str, ...], depth: int, where: str) -> NirTree:
        inside = self.group(group, "nodes")
        nodes = {
            name: self.node(self.group(inside, name), (*names, name), depth + 1)
            for name in self.names(inside)
        }
        edges = self._edges(group, where)
        for (source, target), count in Counter(edges).items():
            if count > 1:
                raise self._wrong(f"{where}: the edge {source!r} -> {target!r} stands twice")
        for edge in edges:
            for name in edge:
                if name not in nodes:
                    raise self._wrong(
                        f"{where}: an edge {edge[0]!r} -> {edge[1]!r}, but no node {name!r}"
                    )
        return NirTree(MappingProxyType(nodes), tuple(edges), self._metadata(group, where))

    def names(self, group: Any) -> list[str]:
        """Names in a group, each short, printable text, in the file's order."""
        with self._damaged():
            if len(group) > MAX_NODES:
                raise self._wrong(f"has more than {MAX_NODES} entries in a group")
            return [self._text(name, "a name") for name in group]

    def has(self, group: Any, name: str) -> bool:
        """Whether a group has an entry."""
        with self._damaged():
            return name in group

    def group(self, parent: Any, name: str) -> Any:
        """A group within a group."""
        return self._entry(parent, name, self.h5py.Group, "group")

    def dataset(self, parent: Any, name: str) -> Any:
        """A dataset within a group, whose numbers lie in this file."""
        found = self._entry(parent, name, self.h5py.Dataset, "dataset")
        with self._damaged():
            if found.is_virtual or found.external:
                raise self._wrong(f"{name!r} keeps its values in another file; that is not read")
            # HDF5 takes memory for a whole chunk and for a whole text, however few values it has.
            if found.dtype.itemsize > 4 * MAX_TEXT or math.prod(found.chunks or ()) > MAX_ELEMENTS:
                raise self._wrong(f"{name!r} is stored in pieces of a size that no NIR file needs")
        return found

    def _entry(self, parent: Any, name: str, kind: type, what: str) -> Any:
        with self._damaged():
            link = parent.get(name, getlink=True)
            if not isinstance(link, self.h5py.HardLink):
                if link is None:
                    raise self._wrong(f"lacks the {what} {name!r}, which a .nir file has")
                raise self._wrong(f"{name!r} is a link to somewhere else; that is not followed")
            found = parent[name]
        if not isinstance(found, kind):
            raise self._wrong(f"{name!r} must be a {what}")
        return found

    def text(self, group: Any, name: str, where: str) -> str:
        """A short text."""
        found = self.dataset(group, name)
        with self._damaged():
            if found.shape != () or not self._is_text(found):
                raise self._wrong(f"{where}: {name} must be text")
        return self._texts(found, 1, f"{where}: {name}")[0]

    def numbers(self, found: Any, where: str) -> Array:
        """An array of numbers, once its size is known to be sane."""
        with self._damaged():
            kind, shape = found.dtype, found.shape
            if shape is None or kind.kind not in "fiub" or kind.itemsize > 8:
                raise self._wrong(f"{where} must be numbers, is {kind}"[:300])
            self.elements += math.prod(shape)
            if self.elements > MAX_ELEMENTS:
                raise self._wrong(f"{where}: more than {MAX_ELEMENTS} numbers in the file")
            values = np.array(found[()], kind.newbyteorder("="))
        if kind.kind == "f" and np.isnan(values).any():
            place = [int(index) for index in np.argwhere(np.isnan(values))[0]]
            raise self._wrong(f"{where} at {place} is NaN, must be a number")
        values.flags.writeable = False
        return values

    def _field(self, group: Any, field: Field, where: str) -> Array | str:
        found = self.dataset(group, field.name)
        if field.kind == "padding":
            with self._damaged():
                is_text = self._is_text(found)
            if is_text:
                return self.text(group, field.name, where)
        values = self.numbers(found, where)
        if field.kind != "real" and values.dtype.kind not in "iu":
            raise self._wrong(f"{where} must be whole numbers, is {values.dtype}")
        return values

    def _edges(self, group: Any, where: str) -> list[tuple[str, str]]:
        found = self.dataset(group, "edges")
        with self._damaged():
            shape = found.shape
            if shape is None or 0 in shape:
                return []
            if len(shape) != 2 or shape[1] != 2 or not self._is_text(found):
                raise self._wrong(f"{where}: edges must be pairs of names, have {shape}")
            if shape[0] > MAX_NODES:
                raise self._wrong(f"{where} has {shape[0]} edges, more than {MAX_NODES}")
        ends = self._texts(found, 2 * shape[0], f"{where}: an edge")
        return list(zip(ends[::2], ends[1::2], strict=True))

    def _metadata(self, group: Any, where: str) -> Metadata:
        if not self.has(group, "metadata"):
            return MappingProxyType({})
        return self._notes(self.group(group, "metadata"), f"{where}: metadata", 0)

    def _notes(self, group: Any, where: str, depth: int) -> Metadata:
        if depth > MAX_DEPTH:
            raise self._wrong(f"{where}: more than {MAX_DEPTH} groups within groups")
        found: dict[str, Array | str | Metadata] = {}
        for name in self.names(group):
            self.nodes += 1
            if self.nodes > MAX_NODES:
                raise self._wrong(f"has more than {MAX_NODES} nodes and notes")
            with self._damaged():
                link = group.get(name, getclass=True)
            if link is self.h5py.Group:
                found[name] = self._notes(self.group(group, name), f"{where}.{name}", depth + 1)
                continue
            entry = self.dataset(group, name)
            with self._damaged():
                is_text = entry.shape == () and self._is_text(entry)
            found[name] = (
                self.text(group, name, where) if is_text else self.numbers(entry, f"{where}.{name}")
            )
        return MappingProxyType(found)

    def _is_text(self, dataset: Any) -> bool:
        return self.h5py.check_string_dtype(dataset.dtype) is not None

    def _texts(self, found: Any, count: int, what: str) -> list[str]:
        """All texts of a dataset of them, in row-major order."""
        with self._damaged():
            if found.dtype.kind == "O":
                values = self.heaps.texts(found.id.get_offset(), count, MAX_TEXT * 4)
            else:
                values = list(np.asarray(found[()]).reshape(-1))
        return [self._text(value, what) for value in values]

    def _text(self, value: Any, what: str) -> str:
        """Bytes or text of a file, checked before anybody prints it."""
        try:
            text = value.decode("utf-8") if isinstance(value, bytes) else str(value)
        except UnicodeDecodeError as error:
            raise self._wrong(f"{what} is no UTF-8 text") from error
        if not text or len(text) > MAX_TEXT or not text.isprintable():
            raise self._wrong(
                f"{what} is {text[:40]!r}, must be 1 to {MAX_TEXT} printable characters"
            )
        return text

    def _wrong(self, what: str) -> InvalidModelError:
        return InvalidModelError(f"{self.path}: {what}")

    def _damaged(self) -> Any:
        return _damage(self.path, "is damaged")
