"""Issued instructions and modelled cycles of basic blocks.

A block is disassembled once; its instructions are counted whether or not an IT block skips them,
as the core issues those too. Cycles follow the coarse classes of
:class:`~edgekit.targets.cores.CycleTable`: no wait states, no caches, no write buffer, branches by
whether the next block follows in memory. On cores that issue two instructions at once, neighbours
pair when the second does not read what the first writes and they do not need the same unit. The
result is a model, to be labelled so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import capstone
from capstone.arm_const import ARM_CC_AL, ARM_CC_INVALID

from edgekit.targets.cores import CycleTable

_LOADS = frozenset({"ldr", "ldrb", "ldrh", "ldrsb", "ldrsh", "vldr", "ldrex", "lda", "ldaex"})
_STORES = frozenset({"str", "strb", "strh", "vstr", "strex", "stl", "stlex"})
_MULTIPLE = re.compile(r"ldm|stm|push|pop|vldm|vstm|vpush|vpop")
_PAIRS = frozenset({"ldrd", "strd"})
_MULTIPLY_LONG = re.compile(r"[us]mull|[us]mlal|umaal|smlsld")
_MULTIPLY_ADD = re.compile(r"mla|mls|sml[as]|smml[as]|smla[wbtd]")
_MULTIPLY = re.compile(r"mul|smul|smmul|smu[as]d")
_DIVIDE = frozenset({"sdiv", "udiv"})
_FLOAT_DIVIDE = frozenset({"vdiv", "vsqrt"})
_FLOAT_MULTIPLY_ADD = re.compile(r"v(n?ml[as]|fn?m[as])$")
_BRANCHES = frozenset({"b", "bl", "bx", "blx", "cbz", "cbnz", "tbb", "tbh"})

_MEMORY_UNIT = "memory"
_MULTIPLY_UNIT = "multiply"
_FLOAT_UNIT = "float"


@dataclass(frozen=True)
class Instruction:
    """What the model needs to know about an instruction.

    Attributes:
        cycles: at the table's figures, without the jump of a branch.
        is_memory: single loads and stores, which pipeline behind each other.
        unit: what can serve only one instruction at a time, None for plain arithmetic.
        reads: registers it reads.
        writes: registers it writes.
    """

    cycles: int
    is_memory: bool
    unit: str | None
    reads: frozenset[int]
    writes: frozenset[int]


@dataclass(frozen=True)
class Block:
    """A straight run of instructions.

    Attributes:
        address: of the first instruction.
        bytes: size.
        instructions: how many, IT-skipped ones included.
        cycles: without the last instruction's jump.
        ends_in_branch: whether the last instruction can jump.
        is_conditional: whether it can also not jump.
        is_backward: whether it jumps to a lower address.
    """

    address: int
    bytes: int
    instructions: int
    cycles: int
    ends_in_branch: bool
    is_conditional: bool
    is_backward: bool

    def jump_cycles(self, following: int, table: CycleTable) -> int:
        """Cycles that the last instruction takes beyond `cycles` when `following` runs next."""
        if not self.ends_in_branch:
            return 0
        if not self.is_conditional or following != self.address + self.bytes:
            return table.branch_taken
        return table.loop_exit if self.is_backward else table.branch_not_taken


class Decoder:
    """Disassembles blocks for one core."""

    def __init__(self, table: CycleTable) -> None:
        mode = capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8
        self._disassembler = capstone.Cs(capstone.CS_ARCH_ARM, mode)
        self._disassembler.detail = True
        self._table = table

    def block(self, address: int, code: bytes) -> Block:
        """Decode the instructions in `code`, which begins at `address`."""
        decoded = list(self._disassembler.disasm(code, address))
        assert sum(i.size for i in decoded) == len(code), f"undecodable code at {address:#010x}"
        branch = decoded[-1] if _is_branch(decoded[-1]) else None
        straight = decoded[:-1] if branch is not None else decoded
        conditional = branch is not None and _is_conditional(branch)
        target = re.search(r"#0x([0-9a-f]+)$", branch.op_str) if branch is not None else None
        return Block(
            address,
            len(code),
            len(decoded),
            self._cycles([self._describe(i) for i in straight])
            + (_popped(branch) if branch is not None else 0),
            branch is not None,
            conditional,
            target is not None and int(target.group(1), 16) <= address + len(code),
        )

    def _cycles(self, run: list[Instruction]) -> int:
        total = 0
        previous: Instruction | None = None
        paired = True
        for instruction in run:
            if (
                self._table.dual_issue
                and previous is not None
                and not paired
                and _can_pair(previous, instruction)
            ):
                # Issues beside the one before: only what it takes longer counts.
                total += max(0, instruction.cycles - previous.cycles)
                paired = True
            else:
                pipelined = instruction.is_memory and previous is not None and previous.is_memory
                follow_up = min(instruction.cycles, self._table.load_next)
                total += follow_up if pipelined else instruction.cycles
                paired = False
            previous = instruction
        return total

    def _describe(self, instruction: capstone.CsInsn) -> Instruction:
        reads, writes = instruction.regs_access()
        cycles, unit = self._class(instruction)
        return Instruction(
            cycles,
            _name(instruction) in _LOADS | _STORES,
            unit,
            frozenset(reads),
            frozenset(writes),
        )

    def _class(self, instruction: capstone.CsInsn) -> tuple[int, str | None]:
        """Cycles and unit of an instruction."""
        name, table = _name(instruction), self._table
        if name in _LOADS:
            return table.load, _MEMORY_UNIT
        if name in _STORES:
            return table.store, _MEMORY_UNIT
        if name in _PAIRS:
            return table.multiple + 2, _MEMORY_UNIT
        if _MULTIPLE.match(name):
            return table.multiple + _listed(instruction), _MEMORY_UNIT
        if name in _DIVIDE:
            return table.divide, _MULTIPLY_UNIT
        if _MULTIPLY_LONG.match(name):
            return table.multiply_long, _MULTIPLY_UNIT
        if _MULTIPLY_ADD.match(name):
            return table.multiply_add, _MULTIPLY_UNIT
        if _MULTIPLY.match(name):
            return table.multiply, _MULTIPLY_UNIT
        if name in _FLOAT_DIVIDE:
            return table.float_divide, _FLOAT_UNIT
        if _FLOAT_MULTIPLY_ADD.match(name):
            return table.float_multiply_add, _FLOAT_UNIT
        if name.startswith("v"):
            return table.float_alu, _FLOAT_UNIT
        return table.alu, None


def _can_pair(first: Instruction, second: Instruction) -> bool:
    if first.unit is not None and first.unit == second.unit:
        return False
    return not first.writes & (second.reads | second.writes)


def _name(instruction: capstone.CsInsn) -> str:
    """Mnemonic without condition and width: ``ldrne.w`` is ``ldr``."""
    return str(instruction.insn_name())


def _is_branch(instruction: capstone.CsInsn) -> bool:
    name = _name(instruction)
    return name in _BRANCHES or _jumps_by_load(instruction)


def _jumps_by_load(instruction: capstone.CsInsn) -> bool:
    """Whether a load, pop or move writes the program counter."""
    _, writes = instruction.regs_access()
    return any(instruction.reg_name(register) == "pc" for register in writes)


def _is_conditional(instruction: capstone.CsInsn) -> bool:
    return _name(instruction) in ("cbz", "cbnz") or instruction.cc not in (
        ARM_CC_AL,
        ARM_CC_INVALID,
    )


def _popped(branch: capstone.CsInsn) -> int:
    """Registers that a returning POP or LDM loads; 0 for other branches."""
    return _listed(branch) if _MULTIPLE.match(_name(branch)) else 0


def _listed(instruction: capstone.CsInsn) -> int:
    """Length of the register list of a multiple load or store."""
    _, _, listed = instruction.op_str.partition("{")
    return 1 + str(listed).count(",")
