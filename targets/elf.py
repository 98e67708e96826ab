"""What is needed from an ELF file: sections, symbols, loadable bytes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection


@dataclass(frozen=True)
class Section:
    """A section that takes memory on the target."""

    name: str
    address: int
    bytes: int
    alignment: int


@dataclass(frozen=True)
class Segment:
    """Bytes to load before the program starts."""

    address: int
    data: bytes


@dataclass(frozen=True)
class Elf:
    """An executable for a 32-bit Arm target.

    Attributes:
        sections: those that take memory, empty ones left out.
        segments: contents by load address.
        symbols: address by name; bit 0 is set for Thumb functions.
    """

    sections: tuple[Section, ...]
    segments: tuple[Segment, ...]
    symbols: dict[str, int]

    @classmethod
    def read(cls, path: Path) -> Elf:
        """Read the file at `path`."""
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            sections = tuple(
                Section(s.name, s["sh_addr"], s["sh_size"], max(1, s["sh_addralign"]))
                for s in elf.iter_sections()
                if s["sh_flags"] & SH_FLAGS.SHF_ALLOC and s["sh_size"]
            )
            segments = tuple(
                Segment(s["p_paddr"], s.data())
                for s in elf.iter_segments("PT_LOAD")
                if s["p_filesz"]
            )
            symbols = {
                symbol.name: symbol["st_value"]
                for table in elf.iter_sections()
                if isinstance(table, SymbolTableSection)
                for symbol in table.iter_symbols()
                if symbol.name and not symbol.name.startswith("$") and _is_defined(symbol)
            }
        return cls(sections, segments, symbols)

    @cached_property
    def _functions(self) -> tuple[list[int], list[str]]:
        """Addresses and names of the code symbols, ascending."""
        pairs = sorted((a & ~1, n) for n, a in self.symbols.items() if a & 1)
        return [a for a, _ in pairs], [n for _, n in pairs]

    def function_at(self, address: int) -> str:
        """Name of the function that holds `address`, the address itself where none does."""
        addresses, names = self._functions
        index = bisect_right(addresses, address) - 1
        return names[index] if index >= 0 else f"{address:#010x}"


def _is_defined(symbol: object) -> bool:
    entry = symbol.entry  # type: ignore[attr-defined]
    return entry["st_shndx"] != "SHN_UNDEF" and entry["st_info"]["type"] != "STT_FILE"
