"""Thumb code to instructions.

Capstone disassembles; which registers an instruction reads and writes follows from its class and
the order of its operands, as Capstone's own account of them has gaps (the second operand of UXTAB,
the accumulators of UMLAL, the registers that VLDM loads).

What it does not know, or is in none of the classes, is refused: there are no cycles to say. The
emulators run more: stores of the program counter, multiple accesses that change a base which they
also move, coprocessors. The architecture leaves the former unpredictable, and compilers make none
of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from itertools import compress
from typing import Any, Literal

import capstone
from capstone.arm_const import (
    ARM_CC_AL,
    ARM_CC_EQ,
    ARM_CC_INVALID,
    ARM_OP_IMM,
    ARM_OP_MEM,
    ARM_OP_REG,
)

from edgekit.errors import EmulationError
from edgekit.targets.cycles.thumb.instructions import Branch, Instruction, Kind
from edgekit.targets.cycles.timed import Access


class Disassembler:
    """Decodes Thumb code of the M profile, without Helium."""

    def __init__(self) -> None:
        mode = capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8
        self._capstone = capstone.Cs(capstone.CS_ARCH_ARM, mode)
        self._capstone.detail = True

    def instructions(self, address: int, code: bytes) -> tuple[Instruction, ...]:
        """All instructions of `code`, which begins at `address`.

        Raises:
            EmulationError: one of them is unknown, unpredictable or cut off.
        """
        decoded = tuple(_instruction(i) for i in self._capstone.disasm(code, address))
        size = sum(i.size for i in decoded)
        if size < len(code):
            raise _untimed(address + size, code[size : size + _WIDEST_BYTES], "code")
        return decoded

    def first(self, address: int, code: bytes) -> Instruction | None:
        """The instruction that `code` begins with; None where Capstone finds none.

        Raises:
            EmulationError: it is unknown here.
        """
        for decoded in self._capstone.disasm(code, address, 1):
            return _instruction(decoded)
        return None


_WIDEST_BYTES = 4

_SINGLE = re.compile(r"(?P<way>ldr|str|ldrex|strex|lda|stl|ldaex|stlex)(?P<width>s?[bh])?t?$")
_PAIR = re.compile(r"(ldr|str)d$")
_FLOAT_SINGLE = re.compile(r"v(ldr|str)$")
_MULTIPLE = re.compile(r"v?(ldm|stm|push|pop)(ia|db|fd|ea)?$")
_WIDTHS = {None: 4, "b": 1, "sb": 1, "h": 2, "sh": 2}

# The first pattern that matches the whole mnemonic (without condition and width) decides.
_KINDS = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"b|bl|bx|blx|bxns|blxns|cbn?z", Kind.BRANCH),
        (r"tb[bh]", Kind.TABLE_BRANCH),
        (r"it[te]*", Kind.IT),
        (r"[us]mull", Kind.MULTIPLY_LONG),
        (r"umaal|[us]mlal|sml[as]ld?[bt]{0,2}x?", Kind.MULTIPLY_LONG_ADD),
        (r"ml[as]|smml[as]r?|sml[as]dx?|smla[btw][bt]|usada8", Kind.MULTIPLY_ADD),
        (r"mul|smmulr?|smu[as]dx?|smul[btw][bt]|usad8", Kind.MULTIPLY),
        (r"[us]div", Kind.DIVIDE),
        (r"nop|yield|sev|wfe|wfi|dbg|pldw?|pli|clrex|bkpt|svc|hint|csdb", Kind.NOTHING),
        (r"mrs|msr", Kind.SPECIAL),
        (r"cps", Kind.INTERRUPTS),
        (r"dmb|dsb|isb", Kind.BARRIER),
        (r"bf[ic]|[us]bfx|[us]xta?(b|h|b16)|rev(16|sh)?|rbit|clz|pkh(bt|tb)", Kind.PACKED),
        (r"[us]sat(16)?|sel|q(d?add|d?sub)", Kind.PACKED),
        (r"([suq]|[su]h|uq)(add|sub)(8|16)|([suq]|[su]h|uq)(asx|sax)", Kind.PACKED),
        (r"v(div|sqrt)", Kind.FLOAT_DIVIDE),
        (r"v(n?ml[as]|fn?m[as])", Kind.FLOAT_MULTIPLY_ADD),
        (r"fmstat|vmrs|vmsr|fconst[sd]|vmov|vsel[a-z]*", Kind.FLOAT_MOVE),
        (r"v(abs|neg|add|sub|n?mul|cmpe?|cvt[abmnprt]?|rint[amnprxz]|(max|min)nm)", Kind.FLOAT),
        (r"vins|vmovx", Kind.FLOAT),
        (r"movs?|mov[tw]|mvn|addw?|subw?|adr|adc|sbc|rsb|neg", Kind.ARITHMETIC),
        (r"and|orr|orn|eor|bic|cmp|cmn|tst|teq|lsl|lsr|asr|ror|rrx", Kind.ARITHMETIC),
    )
)
_COMPARES = frozenset({"cmp", "cmn", "tst", "teq", "vcmp", "vcmpe"})
_SHIFTS = frozenset({"lsl", "lsr", "asr", "ror", "rrx"})
_IN_PLACE = _SHIFTS | {"add", "sub", "and", "orr", "orn", "eor", "bic", "adc", "sbc", "mul"}
_KEEPS = frozenset({"bfi", "bfc", "movt"})
_FIELDS = re.compile(r"[us]xt|[us]bfx|rbit|rev|bfi|pkh")
_CARRIES = frozenset({"adc", "sbc", "rrx", "sel"})
_PLAIN_CONSTANTS = ("addw", "subw", "movw", "movt")
_ALIASES = {"sb": "r9", "sl": "r10", "fp": "r11", "ip": "r12", "apsr_nzcv": "apsr"}
_STACK = frozenset({"push", "pop", "vpush", "vpop"})


def _instruction(decoded: Any) -> Instruction:
    """What the pipelines need of an instruction that Capstone decoded.

    Raises:
        EmulationError: it is in none of the classes.
    """
    name = str(decoded.insn_name())
    # Every look at Capstone's own list costs as much as the rest.
    operands = decoded.operands
    registers = [_names(str(decoded.reg_name(o.reg))) for o in operands if o.type == ARM_OP_REG]
    found = _kind(name, registers)
    if found is None:
        raise _untimed(decoded.address, bytes(decoded.bytes), decoded.mnemonic)
    kind, access = found
    results, sources = _results(name, kind, registers, len(operands))
    address = _address(decoded, operands, name, kind)
    written_back = address if decoded.writeback or name in _STACK else frozenset()
    conditional = decoded.cc not in (ARM_CC_AL, ARM_CC_INVALID) and kind is not Kind.IT
    flags_read, flags_written = _flags(name, conditional, decoded)
    branch = _branch(name, kind, conditional, results, operands)
    return Instruction(
        address=decoded.address,
        size=decoded.size,
        text=f"{decoded.mnemonic} {decoded.op_str}".rstrip(),
        kind=kind,
        reads=_union(sources) | address | flags_read,
        writes=_union(results) | written_back | flags_written,
        address_reads=address,
        early_reads=_early(name, kind, registers, operands),
        accumulator_reads=_accumulators(kind, registers),
        written_back=written_back,
        shifts=_shifts(name, kind, decoded, operands),
        is_float=name.startswith(("v", "f")),
        access=access,
        offset=_offset(operands, address),
        conditional=conditional and (branch is None or access is not None),
        condition=decoded.cc - ARM_CC_EQ if conditional else None,
        branch=branch,
    )


def _untimed(address: int, code: bytes, what: str) -> EmulationError:
    """An instruction that no pipeline here has a class for."""
    return EmulationError(
        f"the cycles of {what} at {address:#010x}, bytes {code.hex()}, are not known; only those "
        "of predictable instructions of the Cortex-M cores are",
        address,
    )


def _kind(name: str, registers: list[frozenset[str]]) -> tuple[Kind, Access | None] | None:
    """Class and access; None for what has no class."""
    single = _SINGLE.match(name)
    if single:
        loads = single["way"].startswith("ld")
        return _moving(loads, several=False, size=_WIDTHS[single["width"]])
    if _FLOAT_SINGLE.match(name):
        return _moving("ld" in name, several=len(registers[0]) > 1, size=4 * len(registers[0]))
    if _PAIR.match(name):
        return _moving(name == "ldrd", several=True, size=8)
    if _MULTIPLE.match(name):
        listed = registers if name in _STACK else registers[1:]
        loads = "ldm" in name or "pop" in name
        return _moving(loads, several=True, size=4 * sum(len(r) for r in listed))
    kind = _class(name)
    if kind is None:
        return None
    if kind is Kind.TABLE_BRANCH:
        return kind, Access("load", 1 if name == "tbb" else 2)
    if kind is Kind.FLOAT_MOVE and len({_is_float(r) for r in registers}) > 1:
        kind = Kind.FLOAT_TRANSFER
    return kind, None


@cache
def _class(name: str) -> Kind | None:
    """Class of what does not load or store, None for what is in no class."""
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(name)), None)


def _moving(loads: bool, *, several: bool, size: int) -> tuple[Kind, Access]:
    if loads:
        return Kind.LOAD_MULTIPLE if several else Kind.LOAD, Access("load", size)
    return Kind.STORE_MULTIPLE if several else Kind.STORE, Access("store", size)


def _results(
    name: str, kind: Kind, registers: list[frozenset[str]], operands: int
) -> tuple[list[frozenset[str]], list[frozenset[str]]]:
    """Register operands that are results, and those that are sources.

    Bases and indices of memory accesses are neither; they are addresses.
    """
    if kind in (Kind.LOAD_MULTIPLE, Kind.STORE_MULTIPLE) and "m" in name:
        registers = registers[1:]
    if kind in (Kind.LOAD, Kind.LOAD_MULTIPLE):
        return registers, []
    if kind is Kind.STORE:
        status = int(name.startswith(("strex", "stlex")))
        return registers[:status], registers[status:]
    silent = (Kind.STORE_MULTIPLE, Kind.BRANCH, Kind.TABLE_BRANCH, Kind.NOTHING, Kind.BARRIER)
    if kind in silent or kind is Kind.IT or name in _COMPARES or name in ("msr", "vmsr"):
        return [], registers
    written = 1
    if kind in (Kind.MULTIPLY_LONG, Kind.MULTIPLY_LONG_ADD):
        written = 2
    elif kind is Kind.FLOAT_TRANSFER and len(registers) > 2:
        # VMOV r0, r1, d0 and VMOV s0, s1, r0, r1, but VMOV d0, r0, r1.
        written = 2 if _is_float(registers[0]) == _is_float(registers[1]) else 1
    results, sources = registers[:written], registers[written:]
    keeps = kind in (Kind.MULTIPLY_LONG_ADD, Kind.FLOAT_MULTIPLY_ADD) or name in _KEEPS
    if keeps or (name in _IN_PLACE and operands == 2):
        sources = sources + results
    return results, sources


def _address(decoded: Any, operands: Any, name: str, kind: Kind) -> frozenset[str]:
    """Registers that form the address of an access."""
    if not (kind.is_load or kind.is_store):
        return frozenset()
    if name in _STACK:
        return frozenset({"sp"})
    used = [(o.mem.base, o.mem.index) for o in operands if o.type == ARM_OP_MEM]
    # LDM and STM name their base as the first register.
    numbers = used[0] if used else (operands[0].reg, 0)
    return _union(_names(str(decoded.reg_name(number))) for number in numbers if number)


def _offset(operands: Any, address: frozenset[str]) -> int | None:
    """Constant distance of an access from its one base register."""
    for index, operand in enumerate(operands):
        if operand.type == ARM_OP_MEM and len(address) == 1:
            # A constant behind the brackets changes the base after the access.
            after = index + 1 < len(operands) and operands[index + 1].type == ARM_OP_IMM
            return 0 if after else int(operand.mem.disp)
    return None


def _flags(name: str, conditional: bool, decoded: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Flags that an instruction reads and writes."""
    if name == "fmstat":
        return frozenset({"fpscr"}), frozenset({"apsr"})
    reads = conditional or name in _CARRIES or name.startswith("vsel")
    writes = decoded.update_flags or name in _COMPARES
    written = "fpscr" if name.startswith("vcmp") else "apsr"
    return frozenset({"apsr"} if reads else ()), frozenset({written} if writes else ())


def _branch(
    name: str, kind: Kind, conditional: bool, results: list[frozenset[str]], operands: Any
) -> Branch | None:
    if kind is Kind.TABLE_BRANCH:
        return Branch("table", False, conditional, None)
    if kind is Kind.BRANCH:
        targets = [o.imm for o in operands if o.type == ARM_OP_IMM]
        way: Literal["immediate", "register"] = "immediate" if targets else "register"
        may_pass = conditional or name in ("cbz", "cbnz")
        target = targets[-1] if targets else None
        return Branch(way, name.startswith("bl"), may_pass, target)
    if "pc" in _union(results):
        return Branch("load" if kind.is_load else "register", False, conditional, None)
    return None


def _early(name: str, kind: Kind, registers: list[frozenset[str]], operands: Any) -> frozenset[str]:
    """Registers that a shifter, an extension or a bit field takes before the operation."""
    if kind is Kind.PACKED and _FIELDS.match(name):
        return _union(registers[1:] if name == "pkhtb" else registers[-1:])
    if kind is not Kind.ARITHMETIC or name in _SHIFTS:
        return frozenset()
    shifts = (bool(o.shift.type) for o in operands if o.type == ARM_OP_REG)
    return _union(compress(registers, shifts))


def _accumulators(kind: Kind, registers: list[frozenset[str]]) -> frozenset[str]:
    """Registers that a product is added to, and that are no factor of it."""
    if kind is Kind.MULTIPLY_ADD:
        return registers[3] - _union(registers[1:3])
    if kind is Kind.MULTIPLY_LONG_ADD:
        return _union(registers[:2]) - _union(registers[2:])
    if kind is Kind.FLOAT_MULTIPLY_ADD:
        return registers[0] - _union(registers[1:])
    return frozenset()


def _shifts(name: str, kind: Kind, decoded: Any, operands: Any) -> bool:
    """Whether an operand or constant is shifted on its way (ARMv7-M ARM, A5.3.2 and A6.3.2)."""
    if kind is not Kind.ARITHMETIC or name in _SHIFTS or name == "adr":
        return False
    plain = decoded.size == 2 or decoded.mnemonic.startswith(_PLAIN_CONSTANTS)
    for operand in operands:
        if operand.type == ARM_OP_REG and operand.shift.type:
            return True
        if operand.type == ARM_OP_IMM and not plain:
            value = operand.imm & 0xFFFF_FFFF
            low, high = value & 0xFF, value >> 8 & 0xFF
            if value not in (low, low * 0x1_0001, low * 0x101_0101, high * 0x100_0100):
                return True
    return False


@cache
def _names(register: str) -> frozenset[str]:
    """Names of a register as the tables have them, d3 as s6 and s7."""
    if re.match(r"d\d+$", register):
        number = 2 * int(register[1:])
        return frozenset({f"s{number}", f"s{number + 1}"})
    return frozenset({_ALIASES.get(register, register)})


def _is_float(registers: frozenset[str]) -> bool:
    return all(re.match(r"s\d+$", register) for register in registers)


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)
