"""What is needed from an ELF file: sections, symbols, loadable bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Symbol, SymbolTableSection


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
class Function:
    """A function symbol; the size is 0 where the symbol does not say it."""

    address: int
    bytes: int
    name: str


@dataclass(frozen=True)
class Elf:
    """An executable for a 32-bit Arm target.

    Attributes:
        sections: those that take memory, empty ones left out.
        segments: contents by load address.
        symbols: address by name, global symbols before local ones of the same name; bit 0 is set
            for Thumb functions.
        functions: every function by ascending address, one name per address.
    """

    sections: tuple[Section, ...]
    segments: tuple[Segment, ...]
    symbols: Mapping[str, int]
    functions: tuple[Function, ...]

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
            symbols: dict[str, int] = {}
            functions: dict[int, Function] = {}
            for symbol in _symbols(elf):
                name, address = symbol.name, symbol["st_value"]
                if name not in symbols or symbol["st_info"]["bind"] == "STB_GLOBAL":
                    symbols[name] = address
                if symbol["st_info"]["type"] == "STT_FUNC":
                    found = Function(address & ~1, symbol["st_size"], name)
                    known = functions.get(found.address, found)
                    functions[found.address] = min(known, found, key=_preference)
        ordered = sorted(functions.values(), key=lambda function: function.address)
        return cls(sections, segments, symbols, tuple(ordered))

    def function_at(self, address: int) -> str:
        """Name of the function that holds `address`, the address itself where none does."""
        index = bisect_right(self.functions, address, key=lambda function: function.address) - 1
        if index >= 0:
            function = self.functions[index]
            # Functions written in assembly may not say their size.
            if function.bytes == 0 or address < function.address + function.bytes:
                return function.name
        return f"{address:#010x}"


def _symbols(elf: ELFFile) -> Iterator[Symbol]:
    """Defined symbols, without the ones that mark code and data and name files."""
    for table in elf.iter_sections():
        if isinstance(table, SymbolTableSection):
            for symbol in table.iter_symbols():
                if (
                    symbol.name
                    and not symbol.name.startswith("$")
                    and symbol["st_shndx"] != "SHN_UNDEF"
                    and symbol["st_info"]["type"] != "STT_FILE"
                ):
                    yield symbol


def _preference(function: Function) -> tuple[bool, str]:
    """Among aliases, the name that the Arm run-time ABI gives, then the first."""
    return not function.name.startswith("__aeabi_"), function.name
