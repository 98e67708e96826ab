"""A small reader of flatbuffer tables that trusts nothing.

Every offset, length and vtable is checked against the file before it is followed. Offsets in a
flatbuffer only lead forward and tables are declared without recursion, so there are no cycles; but
many offsets may lead to one place, so that a short file can describe an enormous tree. A budget on
the bytes that may be decoded, a multiple of the file's size, keeps time and memory proportional to
the file.

Source: the flatbuffers "internals" page (layout of tables, vtables, vectors and strings).

Tables are declared as data; see :mod:`edgekit.program.tflite.schema`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from edgekit.errors import InvalidModelError
from edgekit.program.ir import Array

Number = int | float


@dataclass(frozen=True)
class Scalar:
    """A number inside the table.

    Attributes:
        slot: index in the vtable.
        code: one of :mod:`struct`'s codes, little-endian.
        default: value where the field is absent.
    """

    slot: int
    code: str
    default: Number = 0


@dataclass(frozen=True)
class Vector:
    """A vector of numbers elsewhere; decodes to an array.

    Attributes:
        slot: index in the vtable.
        dtype: NumPy dtype of an element, little-endian.
        alignment: bytes that the first element is aligned to where files are written.
    """

    slot: int
    dtype: str
    alignment: int = 1


@dataclass(frozen=True)
class Text:
    """A string; bytes that are no UTF-8 are replaced."""

    slot: int


@dataclass(frozen=True)
class Child:
    """Another table; `fields` is None where the type is in a union and given on access."""

    slot: int
    fields: Fields | None


@dataclass(frozen=True)
class Children:
    """A vector of tables."""

    slot: int
    fields: Fields


Field = Scalar | Vector | Text | Child | Children
Fields = Mapping[str, Field]

BUDGET_PER_BYTE = 8
"""Bytes that may be decoded per byte of the file. Real files need about 1 (see `TABLE_COST`):
nothing in them is shared but vtables and now and then a string."""

BUDGET_FLOOR = 1 << 16
"""Budget of the smallest file."""

TABLE_COST = 16
"""Bytes that opening a table counts for, besides its own: the work does not depend on its size."""


class File:
    """The bytes of a flatbuffer.

    Args:
        data: the whole file.
        name: how messages call it.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self._budget = BUDGET_FLOOR + BUDGET_PER_BYTE * len(data)

    def root(self, fields: Fields, identifier: bytes) -> Table:
        """The table at the root.

        Raises:
            InvalidModelError: too short, another identifier, or a root outside the file.
        """
        if len(self.data) < 8 or self.data[4:8] != identifier:
            raise InvalidModelError(
                f"{self.name}: not a {identifier.decode()} flatbuffer; bytes 4 to 7 are "
                f"{self.data[4:8]!r} in a file of {len(self.data)} bytes"
            )
        return Table(self, self.number(0, "<I", "root"), fields, "model")

    def require(self, condition: bool, where: str, problem: str) -> None:
        """Refuse the file unless `condition` holds."""
        if not condition:
            raise InvalidModelError(
                f"{self.name}: corrupt flatbuffer of {len(self.data)} bytes: {where}: {problem}"
            )

    def spend(self, count: int, where: str) -> None:
        """Count decoded bytes against the budget."""
        self._budget -= count
        self.require(self._budget >= 0, where, "parts of the file are used over and over")

    def number(self, at: int, code: str, where: str) -> Any:
        """The number at offset `at`."""
        size = struct.calcsize(code)
        self.require(0 <= at <= len(self.data) - size, where, f"offset {at} leads outside the file")
        return struct.unpack_from(code, self.data, at)[0]

    def follow(self, at: int, where: str) -> int:
        """Target of the relative offset at `at`."""
        return at + int(self.number(at, "<I", where))

    def vector(self, at: int, item: int, where: str) -> tuple[int, int]:
        """Where the elements of the vector at `at` begin, and how many there are."""
        length = self.number(at, "<I", where)
        self.require(
            at + 4 + length * item <= len(self.data),
            where,
            f"a vector of {length} elements of {item} bytes at offset {at} leads outside the file",
        )
        self.spend(4 + length * item, where)
        return at + 4, length


class Table:
    """A table of the file, read on access.

    Args:
        file: where it lies.
        at: offset of the table.
        fields: its declaration.
        path: how messages call it, such as ``model.subgraphs[0].tensors[3]``.

    Attributes:
        path: see above.
    """

    def __init__(self, file: File, at: int, fields: Fields, path: str) -> None:
        self._file = file
        self._at = at
        self._fields = fields
        self.path = path
        self._vtable = at - int(file.number(at, "<i", path))
        self._vtable_size: int = file.number(self._vtable, "<H", path)
        self._size: int = file.number(self._vtable + 2, "<H", path)
        file.require(
            self._vtable_size >= 4
            and self._vtable + self._vtable_size <= len(file.data)
            and self._size >= 4
            and at + self._size <= len(file.data),
            path,
            f"table at offset {at} or its vtable at {self._vtable} leads outside the file",
        )
        file.spend(TABLE_COST + self._size, path)

    def __getitem__(self, name: str) -> Any:
        """A field that is no union: a number, array, string, table, `Tables` or None."""
        field = self._fields[name]
        where = f"{self.path}.{name}"
        if isinstance(field, Scalar):
            at = self._find(field.slot, struct.calcsize(field.code), where)
            return field.default if at is None else self._file.number(at, field.code, where)
        at = self._find(field.slot, 4, where)
        if at is None:
            return None
        target = self._file.follow(at, where)
        if isinstance(field, Vector):
            return self._array(target, np.dtype(field.dtype), where)
        if isinstance(field, Text):
            begin, length = self._file.vector(target, 1, where)
            return self._file.data[begin : begin + length].decode("utf-8", errors="replace")
        if isinstance(field, Child):
            assert field.fields is not None
            return Table(self._file, target, field.fields, where)
        return Tables(self._file, target, field.fields, where)

    def union(self, name: str, fields: Fields) -> Table | None:
        """A table whose declaration depends on a neighbouring field."""
        field = self._fields[name]
        where = f"{self.path}.{name}"
        at = self._find(field.slot, 4, where)
        return (
            None if at is None else Table(self._file, self._file.follow(at, where), fields, where)
        )

    def has(self, name: str) -> bool:
        """Whether the field is there, in other words is not its default."""
        return self._find(self._fields[name].slot, 1, f"{self.path}.{name}") is not None

    def _find(self, slot: int, size: int, where: str) -> int | None:
        """Offset in the file of a field of `size` bytes, None where it is absent."""
        entry = 4 + 2 * slot
        if entry + 2 > self._vtable_size:
            return None
        offset = int(self._file.number(self._vtable + entry, "<H", where))
        if offset == 0:
            return None
        self._file.require(
            4 <= offset <= self._size - size, where, f"field offset {offset} leads out of its table"
        )
        return self._at + offset

    def _array(self, at: int, dtype: np.dtype[Any], where: str) -> Array:
        begin, length = self._file.vector(at, dtype.itemsize, where)
        return np.frombuffer(self._file.data, dtype, length, begin)


class Tables(Sequence[Table]):
    """A vector of tables, each opened when it is asked for.

    Args:
        file: where it lies.
        at: offset of the vector.
        fields: declaration of the elements.
        path: how messages call it.
    """

    def __init__(self, file: File, at: int, fields: Fields, path: str) -> None:
        self._file = file
        self._fields = fields
        self._path = path
        self._begin, self._length = file.vector(at, 4, path)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Table: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Table]: ...
    def __getitem__(self, index: int | slice) -> Table | Sequence[Table]:
        """The table at a non-negative index, or those of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if not 0 <= index < self._length:
            raise IndexError(index)
        path = f"{self._path}[{index}]"
        return Table(
            self._file, self._file.follow(self._begin + 4 * index, path), self._fields, path
        )
