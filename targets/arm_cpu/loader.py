"""A shared object as a loader sees it: what lies where, and what depends on where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.constants import P_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from edgekit.errors import UnsupportedError
from edgekit.targets.elf import Elf

RELATIVE = {"EM_AARCH64": 1027, "EM_ARM": 23, "EM_X86_64": 8}
"""Number of the relocation that adds the place of the file to a word, by machine."""


@dataclass(frozen=True)
class LoadedSegment:
    """Bytes at an address, with the rights that the file asks for."""

    address: int
    data: bytes
    is_writable: bool
    is_executable: bool


@dataclass(frozen=True)
class SharedImage:
    """What a shared object puts into memory.

    Attributes:
        elf: symbols and functions, at addresses from the start of the file.
        segments: contents at addresses from the start of the file, zeroed variables included.
        relocations: places of the words that the place of the file is added to; the sum's other
            part by place.
        constant: ranges that are written while loading and constant afterwards.
        word_bytes: size of an address.
    """

    elf: Elf
    segments: tuple[LoadedSegment, ...]
    relocations: tuple[tuple[int, int], ...]
    constant: tuple[tuple[int, int], ...]
    word_bytes: int

    @classmethod
    def read(cls, path: Path) -> SharedImage:
        """Read the file at `path`.

        Raises:
            UnsupportedError: it needs other files, or a relocation that no build here makes.
        """
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            segments = tuple(
                LoadedSegment(
                    s["p_vaddr"],
                    s.data().ljust(s["p_memsz"], b"\0"),
                    bool(s["p_flags"] & P_FLAGS.PF_W),
                    bool(s["p_flags"] & P_FLAGS.PF_X),
                )
                for s in elf.iter_segments("PT_LOAD")
            )
            constant = tuple(
                (s["p_vaddr"], s["p_memsz"]) for s in elf.iter_segments("PT_GNU_RELRO")
            )
            word_bytes = elf.elfclass // 8
            relocations = tuple(_relocations(elf, segments, word_bytes, path))
        return cls(Elf.read(path), segments, relocations, constant, word_bytes)

    @property
    def bytes(self) -> int:
        """Addresses that it takes."""
        return max(s.address + len(s.data) for s in self.segments)

    def placed(self, base: int) -> tuple[LoadedSegment, ...]:
        """The segments as they are when the file is loaded at the address `base`."""
        placed = []
        for segment in self.segments:
            data = bytearray(segment.data)
            for place, addend in self.relocations:
                at = place - segment.address
                if 0 <= at < len(data):
                    word = (base + addend).to_bytes(self.word_bytes, "little")
                    data[at : at + self.word_bytes] = word
            placed.append(
                LoadedSegment(
                    base + segment.address,
                    bytes(data),
                    segment.is_writable,
                    segment.is_executable,
                )
            )
        return tuple(placed)

    def function_at(self, address: int) -> str:
        """Name of the function at an address from the start of the file, else the address."""
        return self.elf.function_at(address)


def _relocations(
    elf: ELFFile, segments: tuple[LoadedSegment, ...], word_bytes: int, path: Path
) -> Iterator[tuple[int, int]]:
    """Place and addend of every relocation; all must be relative ones."""
    relative = RELATIVE.get(elf["e_machine"])
    for section in elf.iter_sections():
        if not isinstance(section, RelocationSection):
            continue
        for entry in section.iter_relocations():
            if entry["r_info_type"] != relative or entry["r_info_sym"] != 0:
                raise UnsupportedError(
                    f"{path}: relocation {entry['r_info_type']} at {entry['r_offset']:#x}; "
                    "a self-contained shared object has relative ones only"
                )
            if entry.is_RELA():
                yield entry["r_offset"], entry["r_addend"]
            else:
                yield entry["r_offset"], _word(segments, entry["r_offset"], word_bytes)


def _word(segments: tuple[LoadedSegment, ...], address: int, word_bytes: int) -> int:
    for segment in segments:
        at = address - segment.address
        if 0 <= at <= len(segment.data) - word_bytes:
            return int.from_bytes(segment.data[at : at + word_bytes], "little")
    raise UnsupportedError(f"relocation at {address:#x}, outside every segment")
