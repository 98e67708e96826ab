"""Thumb code of every Cortex-M core to instructions: Armv8.1-M's own ones and all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgekit.targets.cycles.thumb.decode import Disassembler
from edgekit.targets.cycles.thumb.instructions import Instruction
from edgekit.targets.cycles.thumb.mve import Helium, decode

_NO_OPERATION = bytes.fromhex("aff30080")
"""NOP of 32 bits."""

_WIDE = 0b11101
"""The first halfword of a 32-bit instruction begins with these bits, or with higher ones."""


class ThumbDecoder:
    """Decodes what Armv8.1-M added by its table, everything else by the disassembler."""

    def __init__(self) -> None:
        self._disassembler = Disassembler()

    def instructions(self, address: int, code: bytes) -> tuple[Instruction | Helium, ...]:
        """All instructions of `code`, which begins at `address`.

        The disassembler sees no operation in the place of what it does not know: so it still tells
        what an IT instruction in front makes conditional.
        """
        known = bytearray(code)
        added: dict[int, Helium] = {}
        for offset, size in lengths(code):
            helium = self._helium(address, code, offset, size)
            if helium is not None:
                added[helium.address] = helium
                known[offset : offset + size] = _NO_OPERATION
        found: list[Instruction | Helium] = []
        for instruction in self._disassembler.instructions(address, bytes(known)):
            helium = added.get(instruction.address)
            if helium is None:
                found.append(instruction)
            else:
                found.append(replace(helium, conditional=instruction.conditional))
        return tuple(found)

    def ends_in_branch(self, address: int, code: bytes) -> bool:
        """Whether the last instruction of `code` can jump."""
        *_, (offset, size) = lengths(code)
        helium = self._helium(address, code, offset, size)
        if helium is not None:
            return helium.target is not None
        last = self._disassembler.first(address + offset, code[offset:])
        return last is not None and last.branch is not None

    def _helium(self, address: int, code: bytes, offset: int, size: int) -> Helium | None:
        first, second = code[offset : offset + 2], code[offset + 2 : offset + size]
        return (
            decode(address + offset, int.from_bytes(second + first, "little")) if second else None
        )


def lengths(code: bytes) -> Iterator[tuple[int, int]]:
    """Offset and bytes of every Thumb instruction in `code`.

    >>> list(lengths(bytes.fromhex("c046 00f000f8 c046")))
    [(0, 2), (2, 4), (6, 2)]
    """
    offset = 0
    while offset < len(code):
        size = 4 if code[offset + 1] >> 3 >= _WIDE else 2
        yield offset, size
        offset += size
