"""Texts of an HDF5 file, read without the HDF5 library.

A text of any length lies in a *global heap* of the file; its dataset holds a reference. The library
(2.0.0) never returns from a heap with a free object of size 0, and takes whatever memory a
reference states: two changed bytes of a file are enough. Both are easily read and checked here.

::

    reference  length u32 | address of the heap u64 | number of the object u32
    heap       "GCOL" | version 1 | 0 0 0 | size of the heap u64 | objects ...
    object     number u16 | uses u16 | 0 0 0 0 | size u64 | bytes, filled up to a multiple of 8

Number 0 is free space, whose size counts its 16 bytes of header; that of an object does not.
"""

from __future__ import annotations

import struct
from pathlib import Path

from edgekit.errors import InvalidModelError

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_REFERENCE = struct.Struct("<IQI")
_HEAP = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HH4xQ")


def check_superblock(data: bytes, path: Path) -> None:
    """Whether a file is HDF5 as h5py writes it.

    Args:
        data: the file.
        path: what messages call it.

    Raises:
        InvalidModelError: it is not: no signature, or addresses that :class:`Heaps` cannot read.
    """
    if not data.startswith(_SIGNATURE):
        raise InvalidModelError(f"{path} is no .nir file: it does not begin as HDF5 does")
    # Superblock versions 0 and 1 have the widths of addresses and lengths at 13, later ones at 9.
    widths = data[13:15] if data[8:9] in (b"\0", b"\1") else data[9:11]
    if widths != b"\x08\x08":
        raise InvalidModelError(f"{path}: addresses and lengths of HDF5 must have 8 bytes")


class Heaps:
    """The global heaps of a file, read when they are asked for."""

    def __init__(self, data: bytes, path: Path) -> None:
        self._data = data
        self._path = path
        self._known: dict[int, dict[int, tuple[int, int]]] = {}

    def texts(self, place: int | None, count: int, longest: int) -> list[bytes]:
        """What references stand for.

        Args:
            place: of the first in the file, the others behind it; None where the dataset is stored
                in chunks.
            count: how many.
            longest: most bytes of one.

        Raises:
            InvalidModelError: chunks, or references and heaps that are damaged.
        """
        if place is None:
            raise InvalidModelError(f"{self._path}: texts in chunks are not read")
        return [self._text(place + 16 * index, longest) for index in range(count)]

    def _text(self, place: int, longest: int) -> bytes:
        if place + _REFERENCE.size > len(self._data):
            raise self._damaged(place)
        length, heap, number = _REFERENCE.unpack_from(self._data, place)
        if heap not in self._known:
            self._known[heap] = self._objects(heap)
        start, size = self._known[heap].get(number, (0, 0))
        if not start or length > min(size, longest):
            raise self._damaged(place)
        return self._data[start : start + length]

    def _objects(self, heap: int) -> dict[int, tuple[int, int]]:
        """Begin and size of every object of a heap, by number."""
        if heap + _HEAP.size > len(self._data):
            raise self._damaged(heap)
        signature, version, extent = _HEAP.unpack_from(self._data, heap)
        end = heap + extent
        if (signature, version) != (b"GCOL", 1) or end > len(self._data):
            raise self._damaged(heap)
        found = {}
        place = heap + _HEAP.size
        while place + _OBJECT.size <= end:
            number, _, size = _OBJECT.unpack_from(self._data, place)
            start = place + _OBJECT.size
            if number == 0:
                break
            if start + size > end:
                raise self._damaged(place)
            found[number] = (start, size)
            place = start + (size + 7) // 8 * 8
        return found

    def _damaged(self, place: int) -> InvalidModelError:
        return InvalidModelError(f"{self._path} is damaged: a text at byte {place} of the file")
