"""Pipeline that issues up to two instructions a cycle, in order: Cortex-M7.

Every instruction issues in the earliest cycle, not before the one in front of it, in which its
operands are there and the cycle has room for it. The rules follow measurements (source at
:data:`~edgekit.targets.cycles.pipelines.tables.CORTEX_M7`); of those there, the placing of 16-bit
instructions, unaligned accesses, accesses beside the tightly coupled memory, and a full store
buffer are left out.

1. Plain sums and moves in the first of the two slots, and shifts, are computed a stage ahead: the
   second slot can use them in the same cycle. A store can store what the same cycle computes.
2. One a cycle of each: shifted operand or shifted constant, packed arithmetic (only in the first
   slot), product, store, branch, floating-point operation. No product beside a store, no bit field
   beside a shifted operand, no floating-point product and sum beside a move, load or store of its
   registers.
3. Two loads issue together unless both want the same half of a 64-bit line.
4. Accesses to several words, divisions, barriers, accesses to special registers and masking of
   interrupts issue alone.
5. Branches issue as anything else. The core predicts them by what they did before: a conditional
   one is taken to go where it goes most often within the call that is counted, whatever its
   direction, and every other time costs a wrong prediction. Patterns are not learned. Calls and
   returns are right, branches by a table wrong.

A block starts with all operands there, in a new cycle. What one round of a loop of one block waits
for another is its :attr:`~edgekit.targets.cycles.timed.TimedBlock.again`.

Double precision is timed as single precision is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from edgekit.targets.cycles.costs import Causes
from edgekit.targets.cycles.pipelines.tables import DualIssueTable, Latency
from edgekit.targets.cycles.thumb.decode import Disassembler
from edgekit.targets.cycles.thumb.instructions import Branch, Instruction, Kind
from edgekit.targets.cycles.timed import NOTHING, Timed, TimedBlock

_MULTIPLIES = (
    Kind.MULTIPLY,
    Kind.MULTIPLY_ADD,
    Kind.MULTIPLY_LONG,
    Kind.MULTIPLY_LONG_ADD,
)
_FLOATS = (Kind.FLOAT, Kind.FLOAT_MULTIPLY_ADD, Kind.FLOAT_DIVIDE)
_ALONE = (
    Kind.LOAD_MULTIPLE,
    Kind.STORE_MULTIPLE,
    Kind.TABLE_BRANCH,
    Kind.DIVIDE,
    Kind.FLOAT_DIVIDE,
    Kind.SPECIAL,
    Kind.INTERRUPTS,
    Kind.BARRIER,
)
_ROUNDS = 3
"""After so many rounds a loop waits in each as in the one before."""


class DualIssue:
    """Timing by a table; see the module."""

    def __init__(self, table: DualIssueTable) -> None:
        self._table = table
        self._disassembler = Disassembler()

    def block(self, address: int, code: bytes) -> TimedBlock:
        """Decode and time the instructions in `code`; see :class:`Timing`."""
        instructions = self._disassembler.instructions(address, code)
        last = instructions[-1].branch
        issue = _Issue(self._table)
        causes = issue.run(instructions)
        wrong = Causes(branch=self._wrong(instructions, issue))
        is_conditional = last is not None and last.conditional
        return TimedBlock(
            address=address,
            bytes=len(code),
            instructions=tuple(
                Timed(i.address, i.size, i.text, cause, i.access, i.conditional)
                for i, cause in zip(instructions, causes, strict=True)
            ),
            taken=wrong if last is not None and last.way == "table" else NOTHING,
            passed=NOTHING if last is None or is_conditional else None,
            mispredicted=wrong if is_conditional else NOTHING,
            again=self._again(instructions, issue, causes, last),
        )

    def _again(
        self,
        instructions: Sequence[Instruction],
        issue: _Issue,
        first: Sequence[Causes],
        last: Branch | None,
    ) -> Causes:
        """What a later round of a block that jumps to itself takes more than the first."""
        if last is None or last.target != instructions[0].address:
            return NOTHING
        for _ in range(_ROUNDS - 1):
            causes = issue.run(instructions)
        return sum(causes, NOTHING) + sum(first, NOTHING) * -1

    def _wrong(self, instructions: Sequence[Instruction], issue: _Issue) -> float:
        """Cycles of a wrong prediction of the last instruction."""
        waited = issue.cycle - issue.set_by("apsr")
        settled = "apsr" in instructions[-1].reads and waited >= self._table.settled
        return self._table.mispredicted_settled if settled else self._table.mispredicted


class _Ready(NamedTuple):
    """When a register's value can be used: cycle that it counts from, latency, what waits."""

    cycle: int
    latency: Latency
    from_memory: bool


class _Issue:
    """Issue of one instruction after the other.

    Attributes:
        cycle: in which the last instruction issued.
    """

    def __init__(self, table: DualIssueTable) -> None:
        self._table = table
        self._ready: dict[str, _Ready] = {}
        self._slots: list[Instruction] = []
        self._free = 0
        self.cycle = 0

    def set_by(self, register: str) -> int:
        """Cycle in which `register` was last written; long ago where it was not."""
        ready = self._ready.get(register)
        return -self._table.settled if ready is None else ready.cycle

    def run(self, instructions: Sequence[Instruction]) -> list[Causes]:
        """Issue a block from a new cycle on; what each of its instructions takes."""
        causes: list[Causes] = []
        self._slots.clear()
        for instruction in instructions:
            wanted, from_memory = self._wanted(instruction)
            if self._joins(instruction, wanted):
                # Each of the two takes half of the cycle.
                causes[-1] += Causes(issue=-0.5)
                causes.append(Causes(issue=0.5))
            else:
                self.cycle = max(self._free, wanted)
                waited = self.cycle - self._free + self._duration(instruction) - 1
                slow = from_memory if self.cycle > self._free else instruction.access is not None
                wait = Causes(load=waited) if slow else Causes(arithmetic=waited)
                causes.append(Causes(issue=1) + wait)
                self._free = self.cycle + self._duration(instruction)
                self._slots.clear()
            self._slots.append(instruction)
            self._write(instruction)
        return causes

    def _joins(self, younger: Instruction, wanted: int) -> bool:
        """Whether an instruction issues beside the one before."""
        return len(self._slots) == 1 and wanted <= self.cycle and _fits(self._slots[0], younger)

    def _wanted(self, instruction: Instruction) -> tuple[int, bool]:
        """First cycle in which all operands are there, and whether a load decides on it."""
        predicted = instruction.kind is Kind.BRANCH
        needs = [
            (ready.cycle + self._latency(register, ready, instruction), ready.from_memory)
            for register in instruction.reads
            if not predicted and (ready := self._ready.get(register)) is not None
        ]
        return max(needs, default=(0, False))

    def _latency(self, register: str, ready: _Ready, user: Instruction) -> int:
        if register in user.address_reads | user.early_reads:
            return ready.latency.early
        if user.kind.is_store:
            return ready.latency.stored
        if register in user.accumulator_reads:
            return ready.latency.addend
        # A loaded word comes in time for the second stage, but not beside an operand that is
        # shifted in the first, and not for a product.
        hurried = user.early_reads or user.kind in _MULTIPLIES
        if ready.latency is self._table.load and hurried:
            return ready.latency.early
        return ready.latency.operand

    def _write(self, instruction: Instruction) -> None:
        table, kind = self._table, instruction.kind
        cycle = self.cycle + self._duration(instruction) - 1
        latency = table.arithmetic
        if kind in (Kind.LOAD, Kind.LOAD_MULTIPLE):
            assert instruction.access is not None
            word = table.load if instruction.access.bytes >= 4 else table.load_narrow
            latency = table.load_float if instruction.is_float else word
        elif kind is Kind.PACKED:
            latency = table.packed
        elif kind in _MULTIPLIES:
            latency = table.multiply
        elif kind is Kind.ARITHMETIC and self._runs_ahead(instruction):
            latency = table.ahead
        elif kind is Kind.FLOAT:
            latency = table.floating
        elif kind is Kind.FLOAT_MULTIPLY_ADD:
            latency = _chained(table.multiply_add, instruction)
        elif kind is Kind.FLOAT_MOVE:
            latency = table.float_move
        elif kind is Kind.FLOAT_TRANSFER:
            latency = table.float_move if _to_float(instruction) else table.float_to_core
        for register in instruction.writes:
            self._ready[register] = _Ready(cycle, latency, kind.is_load)
        for register in instruction.written_back:
            self._ready[register] = _Ready(cycle, table.written_back, False)
        if "apsr" in instruction.writes:
            # Flags come from the second stage even where the result does not.
            self._ready["apsr"] = _Ready(cycle, table.arithmetic, False)

    def _runs_ahead(self, instruction: Instruction) -> bool:
        """Whether the first stage can compute it; the instruction has its slot already."""
        is_shift = _SHIFT.match(instruction.text) is not None
        if instruction.shifts or not (is_shift or _SUM.match(instruction.text)):
            return False
        if len(self._slots) > 1 and not is_shift:
            return False
        return all(
            self.cycle >= ready.cycle + ready.latency.early
            for register in instruction.reads
            if (ready := self._ready.get(register)) is not None
        )

    def _duration(self, instruction: Instruction) -> int:
        """Cycles from its issue until the next one can."""
        table, kind = self._table, instruction.kind
        if kind in (Kind.LOAD_MULTIPLE, Kind.STORE_MULTIPLE):
            assert instruction.access is not None
            return math.ceil(instruction.access.bytes / 4 / table.multiple_words)
        if kind is Kind.DIVIDE:
            return table.divide
        if kind is Kind.FLOAT_DIVIDE:
            return table.float_root if instruction.text.startswith("vsqrt") else table.float_divide
        return 1


_SHIFT = re.compile("lsl|lsr|asr|ror")
_SUM = re.compile("add|sub|mov")


def _fits(older: Instruction, younger: Instruction) -> bool:
    """Whether two instructions can issue in the same cycle, operands apart."""
    kinds = {older.kind, younger.kind}
    if older.kind in _ALONE or younger.kind in _ALONE or younger.kind is Kind.PACKED:
        return False
    if (older.shifts or older.early_reads) and younger.shifts:
        return False
    multiplies = [i.kind in _MULTIPLIES for i in (older, younger)]
    stores = [i.kind is Kind.STORE for i in (older, younger)]
    if all(multiplies) or all(stores) or (any(multiplies) and any(stores)):
        return False
    if all(i.kind in _FLOATS for i in (older, younger)):
        return False
    if Kind.FLOAT_MULTIPLY_ADD in kinds and older.is_float and younger.is_float:
        return False
    if kinds == {Kind.LOAD} and _collide(older, younger):
        return False
    # The second may finish what the first began (MOVW, MOVT), but not overwrite it unread.
    return not (older.writes & younger.writes - younger.reads - {"apsr"})


def _collide(older: Instruction, younger: Instruction) -> bool:
    """Whether two loads want the same half of a 64-bit line, as far as the code tells."""
    if older.address_reads != younger.address_reads or older.written_back:
        return False
    if older.offset is None or younger.offset is None:
        return False
    return (older.offset ^ younger.offset) & 4 == 0


def _chained(latency: Latency, instruction: Instruction) -> Latency:
    """Rounding between product and sum takes another cycle, but for the next addend."""
    if not instruction.text.startswith(("vml", "vnml")):
        return latency
    return replace(
        latency,
        operand=latency.operand + 1,
        early=latency.early + 1,
        stored=latency.stored + 1,
    )


def _to_float(instruction: Instruction) -> bool:
    return any(register[0] == "s" and register != "sp" for register in instruction.writes)
