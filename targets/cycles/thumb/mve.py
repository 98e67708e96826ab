"""Decodes what Capstone 5 does not: Helium, low-overhead loops, conditional selects.

By class: mnemonic, registers and the access to memory, not every constant. See
:mod:`edgekit.targets.cycles.thumb.mve_table` for the encodings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgekit.targets.cycles.thumb.mve_table import ROWS, Pipe, Row
from edgekit.targets.cycles.timed import Access

VECTOR_BYTES = 16

_VECTOR_FIELDS = {"d": 13, "n": 17, "m": 1}
_CORE_FIELDS = {
    # letter: lowest bit, bits, multiple, addend
    "s": (0, 4, 1, 0),
    "t": (12, 4, 1, 0),
    "u": (16, 4, 1, 0),
    "v": (16, 3, 1, 0),
    "c": (8, 4, 1, 0),
    "e": (17, 3, 2, 0),
    "l": (13, 3, 2, 0),
    "o": (1, 3, 2, 1),
    "h": (20, 3, 2, 1),
    "y": (9, 3, 2, 1),
}
_NAMES = {13: "sp", 14: "lr", 15: "pc"}
_CHOICE = re.compile(r"\{(\d+)(?::(\d+))?\|([^{}]*)\}")
_OPERAND = re.compile(r"(?P<field>[a-z])(?P<count>\d?)(?P<way>[<>*])(?P<address>\]?)")

_LOOP_STARTS = ("dls", "wls")
_LOOP_ENDS = ("le", "letp")
_ENDLESS_BIT = 21
"""Set in LE where it jumps without counting."""


@dataclass(frozen=True)
class Helium:
    """One instruction that Armv8.1-M adds.

    Attributes:
        address: of the instruction.
        size: bytes.
        text: mnemonic, registers, and where it jumps.
        name: mnemonic without types.
        pipe: that it occupies.
        latency: cycles until another instruction can use the result; see the table.
        reads: names of the registers it reads: ``q0``, ``r0``, ``lr``.
        writes: names of the registers it writes.
        vector_address: vectors among those it reads that hold addresses or offsets of lanes.
        access: to memory, None where it makes none.
        target: where it jumps, None where it cannot.
        conditional: whether an IT instruction can make the core skip it.
    """

    address: int
    size: int
    text: str
    name: str
    pipe: Pipe
    latency: int
    reads: frozenset[str]
    writes: frozenset[str]
    vector_address: frozenset[str]
    access: Access | None
    target: int | None
    conditional: bool = False

    @property
    def is_vector(self) -> bool:
        """Whether it works through a vector, 64 bits a cycle."""
        return self.pipe in ("memory", "integer", "multiply", "either")

    @property
    def ends_loop(self) -> bool:
        """Whether it closes a low-overhead loop."""
        return self.name in _LOOP_ENDS


def decode(address: int, word: int) -> Helium | None:
    """The instruction at `address`, None where Armv8.1-M did not add it.

    Args:
        address: of the instruction.
        word: its two halfwords, the first one in the upper half.

    >>> decode(0, 0xEEF2_0E02).text, decode(0, 0xF00F_C001).name
    ('vmladav.s16 r0, q1, q1', 'le')
    >>> decode(0, 0xF000_F800) is None  # bl
    True
    """
    row = _row(word)
    return None if row is None else _helium(address, word, row)


def _row(word: int) -> Row | None:
    return next((row for row in ROWS if word & row.mask == row.value), None)


def _helium(address: int, word: int, row: Row) -> Helium:
    full = _chosen(row.mnemonic, word)
    name = full.partition(".")[0]
    reads: set[str] = set()
    writes: set[str] = set()
    vector_address: set[str] = set()
    texts = []
    for match in _OPERAND.finditer(row.operands):
        registers = _registers(match["field"], int(match["count"] or 1), word)
        if match["way"] in "<*":
            reads.update(registers)
        if match["way"] in ">*":
            writes.update(registers)
        if match["address"] and match["field"] in _VECTOR_FIELDS:
            vector_address.update(registers)
        listed = ", ".join(registers)
        texts.append(f"[{listed}]" if match["address"] else listed)
    counts = name in _LOOP_ENDS and not word >> _ENDLESS_BIT & 1
    if name.startswith(_LOOP_STARTS) or counts:
        writes.add("lr")
    if counts:
        reads.add("lr")
    if name in ("vcmp", "vpt", "vctp", "vpst", "vpnot"):
        writes.add("vpr")
    if name in ("vpsel", "vpnot"):
        reads.add("vpr")
    if name.startswith("cs"):
        reads.add("apsr")
    target = _target(address, word, name)
    if target is not None:
        texts.append(f"{target:#x}")
    return Helium(
        address=address,
        size=4,
        text=f"{full} {', '.join(texts)}".strip(),
        name=name,
        pipe=row.pipe,
        latency=row.latency,
        reads=frozenset(reads),
        writes=frozenset(writes),
        vector_address=frozenset(vector_address),
        access=_access(word, row, name) if row.pipe == "memory" else None,
        target=target,
    )


def _chosen(mnemonic: str, word: int) -> str:
    """A mnemonic with its choices made, the inner ones first.

    >>> _chosen("vmov{12|b|t}.{28|s|u}{1:0|8|16|32|64}", 1 << 12 | 2)
    'vmovt.s32'
    """

    def choose(match: re.Match[str]) -> str:
        high, low, words = int(match[1]), int(match[2] or match[1]), match[3].split("|")
        return words[word >> low & ((1 << high - low + 1) - 1)]

    while (chosen := _CHOICE.sub(choose, mnemonic)) != mnemonic:
        mnemonic = chosen
    return mnemonic


def _registers(field: str, count: int, word: int) -> list[str]:
    """Names of the registers in one operand."""
    if field in _VECTOR_FIELDS:
        first = word >> _VECTOR_FIELDS[field] & 7
        return [f"q{(first + i) % 8}" for i in range(count)]
    low, bits, multiple, addend = _CORE_FIELDS[field]
    number = (word >> low & ((1 << bits) - 1)) * multiple + addend
    return [_NAMES.get(number, f"r{number}")]


def _target(address: int, word: int, name: str) -> int | None:
    """Where a loop instruction jumps: forward from a start that tests, back from an end."""
    if not (name.startswith("wls") or name in _LOOP_ENDS):
        return None
    distance = (word >> 1 & 0x3FF) << 2 | (word >> 11 & 1) << 1
    return address + 4 + (-distance if name in _LOOP_ENDS else distance)


def _access(word: int, row: Row, name: str) -> Access:
    """Bytes that a vector load or store moves: lanes times their size in memory."""
    kind: Access = Access("store" if name.startswith("vst") else "load", VECTOR_BYTES)
    lanes = VECTOR_BYTES >> (word >> 7 & 3)
    if "v" in row.operands:
        return Access(kind.kind, lanes << (word >> 19 & 1))
    if "u<] m<]" in row.operands:
        return Access(kind.kind, lanes << ((word >> 6 & 1) << 1 | word >> 4 & 1))
    return kind
