"""Instructions of Thumb code as the pipelines see them: class, registers, memory access, jump."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from edgekit.targets.cycles.timed import Access


class Kind(enum.Enum):
    """Classes of instructions that the timing tables tell apart."""

    ARITHMETIC = "moves, sums, logic, comparisons, shifts"
    PACKED = "bit fields, extensions, reversals, saturation, arithmetic on packed bytes and halves"
    MULTIPLY = "32-bit product, sums of two 16-bit products and of absolute differences"
    MULTIPLY_ADD = "the same, added to 32 bits"
    MULTIPLY_LONG = "64-bit product"
    MULTIPLY_LONG_ADD = "64-bit product, added to 64 bits"
    DIVIDE = "integer quotient"
    LOAD = "load of one register"
    STORE = "store of one register"
    LOAD_MULTIPLE = "load of a list or a pair of registers"
    STORE_MULTIPLE = "store of a list or a pair of registers"
    BRANCH = "jump to an address in the instruction or in a register"
    TABLE_BRANCH = "jump by a table of offsets"
    IT = "condition of the instructions that follow"
    NOTHING = "no operation, hints"
    SPECIAL = "access to special registers"
    INTERRUPTS = "masking of interrupts"
    BARRIER = "barriers"
    FLOAT = "sum, product, comparison, conversion"
    FLOAT_MOVE = "float register from a float register or a constant, and to and from its status"
    FLOAT_TRANSFER = "between float and core registers"
    FLOAT_MULTIPLY_ADD = "product with sum"
    FLOAT_DIVIDE = "quotient and square root"

    @property
    def is_load(self) -> bool:
        """Whether it reads memory."""
        return self in (Kind.LOAD, Kind.LOAD_MULTIPLE, Kind.TABLE_BRANCH)

    @property
    def is_store(self) -> bool:
        """Whether it writes memory."""
        return self in (Kind.STORE, Kind.STORE_MULTIPLE)


@dataclass(frozen=True)
class Branch:
    """How an instruction can leave its block.

    Attributes:
        way: where the target comes from.
        links: whether it leaves a return address.
        conditional: whether it can also not jump.
        target: address, None where only the running core knows it.
    """

    way: Literal["immediate", "register", "load", "table"]
    links: bool
    conditional: bool
    target: int | None


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Registers are named ``r0`` to ``r12``, ``sp``, ``lr``, ``pc``, ``s0`` to ``s31``; a double
    register is its two halves. Flags are ``apsr`` and ``fpscr``.

    Attributes:
        address: of the instruction.
        size: bytes.
        text: disassembly.
        kind: class.
        reads: registers whose values it uses.
        writes: registers that it changes.
        address_reads: those read that form the address of its access.
        early_reads: those read that pass a shifter or an extension before the operation.
        accumulator_reads: those read that are only added to a product.
        written_back: the base register that its addressing mode changes, as a set.
        shifts: whether it shifts an operand or a constant on the way into the operation.
        is_float: whether the floating-point unit takes part.
        access: to memory, None where it makes none.
        offset: constant distance of the access from its base, None without one base register.
        conditional: whether an IT instruction can make the core skip it.
        condition: number of the condition that it runs under, as encoded, so that the opposite one
            differs in bit 0; None where it always runs.
        branch: how it jumps, None where it cannot.
    """

    address: int
    size: int
    text: str
    kind: Kind
    reads: frozenset[str]
    writes: frozenset[str]
    address_reads: frozenset[str]
    early_reads: frozenset[str]
    accumulator_reads: frozenset[str]
    written_back: frozenset[str]
    shifts: bool
    is_float: bool
    access: Access | None
    offset: int | None
    conditional: bool
    condition: int | None
    branch: Branch | None
