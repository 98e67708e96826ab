"""The weights of a generated library: one C struct, one blob, the same bytes.

::

    offset 0   magic "EKW1" | layout hash | bytes | CRC-32 of everything behind this header
    offset 16  arrays, widest element first, each naturally aligned, so without gaps
"""

from __future__ import annotations

import builtins
import hashlib
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from edgekit.program.ir import Array

MAGIC = int.from_bytes(b"EKW1", "little")
HEADER = struct.Struct("<4I")


@dataclass(frozen=True, eq=False)
class Member:
    """One array of the struct.

    Attributes:
        name: C identifier, unique in the struct.
        data: its elements, any shape; at least one.
        origin: what it is, for the comment.
    """

    name: str
    data: Array
    origin: str

    @property
    def c_type(self) -> str:
        """C type of an element."""
        dtype = str(self.data.dtype.newbyteorder("="))
        return "float" if dtype == "float32" else f"{dtype}_t"


@dataclass(frozen=True)
class Weights:
    """Every constant of a library, in the order of the struct."""

    members: tuple[Member, ...]

    @classmethod
    def of(cls, members: list[Member]) -> Weights:
        """Sort by element size, widest first; stable otherwise."""
        return cls(tuple(sorted(members, key=lambda m: -m.data.dtype.itemsize)))

    @property
    def alignment(self) -> int:
        """Of the struct, in bytes: its widest element's, the header's at least."""
        return max([4, *(m.data.dtype.itemsize for m in self.members)])

    @property
    def bytes(self) -> int:
        """Size of the struct in bytes, header included, padded as a C compiler pads it."""
        size = HEADER.size + sum(m.data.nbytes for m in self.members)
        return -(-size // self.alignment) * self.alignment

    @property
    def layout(self) -> int:
        """32-bit hash of names, types and lengths: a blob of another layout is refused."""
        text = ";".join(f"{m.name}:{m.c_type}[{m.data.size}]" for m in self.members)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")

    def header(self) -> tuple[int, int, int, int]:
        """Magic, layout, bytes and CRC-32."""
        return MAGIC, self.layout, self.bytes, zlib.crc32(self._body())

    def blob(self) -> builtins.bytes:
        """The struct's bytes, little-endian: what a separate weight file holds."""
        return HEADER.pack(*self.header()) + self._body()

    def _body(self) -> builtins.bytes:
        arrays = (m.data.astype(np.dtype(m.data.dtype).newbyteorder("<")) for m in self.members)
        body = b"".join(a.tobytes() for a in arrays)
        return body + bytes(self.bytes - HEADER.size - len(body))
