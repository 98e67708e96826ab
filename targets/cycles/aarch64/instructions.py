"""AArch64 instructions as models of application processors need them.

Everything is read off the disassembly. Capstone's own lists of registers read and written are of no
use: version 5 has ``cmp`` write its operand and ``sdot`` touch none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from edgekit.targets.cycles.aarch64.kinds import Kind, integer_kind, vector_kind

FLAGS = "nzcv"
"""The condition flags, as a register."""

_LINK = "x30"
_REGISTER = re.compile(r"\b(?:(?P<integer>[wx]\d+|w?sp)|(?P<vector>[bhsdqv]\d+))\b")
_ARRANGEMENT = re.compile(r"\bv\d+\.(\d+[bhsd])|\b(q)\d+\b")
_WHOLE = frozenset({"16b", "8h", "4s", "2d", "q"})
_IS_LANE = re.compile(r"\{?v\d+\.[bhsd]\}?\[|\{v\d+\.[bhsd], .*\}\[")
_PLACE = re.compile(r"#-?(0x)?[0-9a-f]+$")

_COMPARES = re.compile(r"cmp|cmn|tst|ccm[pn]|fcmpe?|fccmpe?")
_SETS_FLAGS = re.compile(rf"(add|sub|and|bic|adc|sbc|neg|ngc)s|{_COMPARES.pattern}")
_READS_FLAGS = re.compile(
    r"b\..*|cs(el|inc|inv|neg)|csetm?|cinc|cinv|cneg|ccm[pn]|adcs?|sbcs?|ngcs?|fcsel|fccmpe?"
)
_KEEPS_REST = re.compile(r"movk|bf(i|xil|c|m)|ins|tbx|bsl|bit|bif|s[lr]i|.*n2")
"""Instructions that leave parts of their destination as they were."""

_ADDS_TO_FIRST = re.compile(
    r"ml[as]|[su]ml[as]l2?|sqr?dml[as].*|(s|u|us|su)dot|fml[as]l?2?|[su]adalp|[su]r?sra"
    r"|[su]aba(l2?)?"
)
_ADDS_TO_FOURTH = re.compile(r"f?n?m(add|sub)|[su]m(add|sub)l")


@dataclass(frozen=True)
class Instruction:
    """An instruction without its place.

    Attributes:
        text: for an assembler; addresses relative to the instruction are replaced by 0, calls by
            jumps.
        kind: what it has in common with others.
        reads: registers, by one name for all their widths (``x3``, ``v0``).
        writes: registers, without a new address.
        adds_to: register that a product or sum is added to, one of those read; None elsewhere.
        new_address: register that a load or store moves on, one of those read; None elsewhere.
        has_offset: whether an address is the sum of two registers.
        is_wide: whether all operands are whole 128-bit vectors.
        registers: vector registers that a load or store moves; 1 elsewhere.
    """

    text: str
    kind: Kind
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    adds_to: str | None = None
    new_address: str | None = None
    has_offset: bool = False
    is_wide: bool = False
    registers: int = 1

    @property
    def is_return(self) -> bool:
        """Whether it jumps back to a caller."""
        return self.text.split()[0] == "ret"


def described(text: str) -> Instruction:
    """The instruction that a disassembler shows so; data, which ``.inst`` is, counts as one.

    >>> described("b.ne #0xfffffffffffffff0").text
    'b.ne #0'
    >>> described("ldr w1, [x2], #4").new_address
    'x2'
    >>> described("smaddl x0, w1, w2, x3").adds_to
    'x3'
    """
    mnemonic, _, operands = text.partition(" ")
    if mnemonic == ".inst":
        return Instruction(text, Kind.INTEGER)
    found = list(_REGISTER.finditer(operands))
    integers = tuple(match["integer"] is not None for match in found)
    is_access = mnemonic.startswith(("ld", "st"))
    if all(integers):
        kind = integer_kind(mnemonic, operands)
    else:
        kind = vector_kind(mnemonic, operands, integers)
    plain = Instruction(_placeless(mnemonic, operands), kind)
    if kind is Kind.BRANCH:
        links = mnemonic in ("bl", "blr")
        registers = _with(_registers(operands), FLAGS, when=mnemonic.startswith("b."))
        return replace(plain, reads=registers, writes=frozenset({_LINK} if links else ()))
    if is_access:
        return _access(plain, mnemonic, operands)
    return _arithmetic(plain, mnemonic, operands)


def _access(plain: Instruction, mnemonic: str, operands: str) -> Instruction:
    """Fill in a load or store: registers before the last bracket are moved, others are address."""
    moved, bracket, address = operands.rpartition("[")
    if not bracket:
        moved, address = operands, ""
    values, places = _registers(moved), _registers(address)
    changes = address.endswith("!") or "], " in address
    vectors = sum(name.startswith("v") for name in values)
    plain = replace(
        plain,
        new_address=_first_register(address) if changes else None,
        has_offset=len(places) > 1 and not changes,
        is_wide=_is_wide(operands),
        registers=max(1, vectors),
    )
    if mnemonic.startswith("st"):
        return replace(plain, reads=values | places)
    kept = values if _IS_LANE.match(moved) else frozenset[str]()
    return replace(plain, reads=places | kept, writes=values)


def _arithmetic(plain: Instruction, mnemonic: str, operands: str) -> Instruction:
    """Fill in what computes: the first operand is the result, except where flags alone are."""
    reads_flags = _READS_FLAGS.fullmatch(mnemonic) is not None
    sets_flags = _SETS_FLAGS.fullmatch(mnemonic) is not None
    parts = operands.split(", ")
    if _COMPARES.fullmatch(mnemonic):
        reads, writes = _registers(operands), frozenset[str]()
    else:
        writes = _registers(parts[0])
        reads = _registers(", ".join(parts[1:]))
        merges = _KEEPS_REST.fullmatch(mnemonic) or _IS_LANE.match(parts[0])
        masks = mnemonic in ("bic", "orr") and not reads and plain.kind is Kind.VECTOR
        reads |= writes if merges or masks else frozenset()
    adds_to = None
    if _ADDS_TO_FIRST.fullmatch(mnemonic):
        adds_to = _first_register(parts[0])
    elif _ADDS_TO_FOURTH.fullmatch(mnemonic):
        adds_to = _first_register(parts[3])
    return replace(
        plain,
        reads=_with(_with(reads, FLAGS, when=reads_flags), adds_to or "", when=bool(adds_to)),
        writes=_with(writes, FLAGS, when=sets_flags),
        adds_to=adds_to,
        is_wide=_is_wide(operands),
    )


def _with(registers: frozenset[str], more: str, *, when: bool) -> frozenset[str]:
    return registers | {more} if when else registers


def _name(register: str) -> str:
    """One name for all widths: ``w3`` is ``x3``, ``q0`` and ``s0`` are ``v0``."""
    if register.endswith("sp"):
        return "sp"
    return ("x" if register[0] in "wx" else "v") + register[1:]


def _registers(operands: str) -> frozenset[str]:
    return frozenset(_name(match[0]) for match in _REGISTER.finditer(operands))


def _first_register(operands: str) -> str | None:
    match = _REGISTER.search(operands)
    return None if match is None else _name(match[0])


def _is_wide(operands: str) -> bool:
    """Whether the vectors are of one arrangement, which fills 128 bits; lanes do not count."""
    found = {one or other for one, other in _ARRANGEMENT.findall(operands)}
    return len(found) == 1 and found <= _WHOLE


def _placeless(mnemonic: str, operands: str) -> str:
    """Text that means the same anywhere, as processors take the same time for it anywhere."""
    relative = re.fullmatch(r"b(\..*)?|bl|cbn?z|tbn?z|adrp?", mnemonic) is not None
    literal = re.fullmatch(r"ldr(sw)?|prfm", mnemonic) is not None and "[" not in operands
    if relative or literal:
        operands = _PLACE.sub("#0", operands)
    return f"{ {'bl': 'b', 'blr': 'br'}.get(mnemonic, mnemonic) } {operands}".strip()
