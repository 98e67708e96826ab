"""Pipelines that issue one instruction at a time: Cortex-M0+, M3, M4 and M33.

What one instruction takes depends on its neighbours only, so a block needs no state from before.
The rules (Technical Reference Manuals, "Instruction set summary" and "Load/store timings"; figures
in :mod:`edgekit.targets.cycles.pipelines.tables`):

1. A single load overlaps with the single load or store behind it unless that one's address depends
   on the load; one cycle less. A store at a constant offset takes one cycle anyway, so nothing is
   saved there. Nothing overlaps behind a store, and multiple accesses overlap with nothing.
2. An access whose address the instruction just before computed waits, as does one that addresses
   with a base register that the access just before has changed, unless that moves several words
   (assumed; the manuals are silent).
3. IT disappears behind a 16-bit instruction.
4. A floating-point result that the next instruction uses takes longer, except as an addend.
5. Integer instructions run beside a floating-point division or root; the next floating-point
   instruction, and the end of the block, wait for it.
6. A jump refills the pipeline; see :class:`~edgekit.targets.cycles.pipelines.tables.Refill`.

A saving is booked where the first of the two instructions stands, a wait where the second stands.

Neighbours under opposite conditions never both run: none waits for the other or overlaps. Of
instructions that IT can skip only those that access memory are seen to be skipped: a skipped
product, quotient or floating-point operation counts as if it ran, and so does what it made wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from edgekit.targets.cycles.costs import Causes
from edgekit.targets.cycles.pipelines.tables import SingleIssueTable
from edgekit.targets.cycles.thumb.decode import Disassembler
from edgekit.targets.cycles.thumb.instructions import Branch, Instruction, Kind
from edgekit.targets.cycles.timed import NOTHING, Timed, TimedBlock

_ROUNDED = (Kind.FLOAT, Kind.FLOAT_MULTIPLY_ADD, Kind.FLOAT_DIVIDE)
"""What computes in the floating-point unit; moves only pass."""


class SingleIssue:
    """Timing by a table; see the module."""

    def __init__(self, table: SingleIssueTable) -> None:
        self._table = table
        self._disassembler = Disassembler()
        long = {
            Kind.MULTIPLY_ADD: table.multiply_add,
            Kind.MULTIPLY_LONG: table.multiply_long,
            Kind.MULTIPLY_LONG_ADD: table.multiply_long_add,
            Kind.DIVIDE: table.divide,
            Kind.SPECIAL: table.special,
            Kind.INTERRUPTS: table.interrupts,
            Kind.BARRIER: table.barrier,
        }
        if table.floating is not None:
            long[Kind.FLOAT] = table.floating.arithmetic
            long[Kind.FLOAT_MOVE] = table.floating.arithmetic
            long[Kind.FLOAT_TRANSFER] = table.floating.transfer
            long[Kind.FLOAT_MULTIPLY_ADD] = table.floating.multiply_add
        self._arithmetic = {kind: cycles - 1 for kind, cycles in long.items()}

    def block(self, address: int, code: bytes) -> TimedBlock:
        """Decode and time the instructions in `code`; see :class:`Timing`."""
        instructions = self._disassembler.instructions(address, code)
        last = instructions[-1]
        causes = self._causes(instructions)
        first = instructions[0]
        straddles = first.size == 4 and first.address % 4 != 0
        taken = self._taken(last.branch)
        return TimedBlock(
            address=address,
            bytes=len(code),
            instructions=tuple(
                Timed(i.address, i.size, i.text, cause, i.access, i.conditional)
                for i, cause in zip(instructions, causes, strict=True)
            ),
            taken=taken,
            passed=None if last.branch is not None and not last.branch.conditional else NOTHING,
            entry=Causes(branch=self._table.refill.unaligned) if straddles else NOTHING,
            adds_entry=taken.branch < self._table.refill.longest,
        )

    def _taken(self, branch: Branch | None) -> Causes:
        """What a jump takes beyond the branch's own cycles."""
        if branch is None:
            return NOTHING
        refill = self._table.refill
        if branch.way == "immediate":
            return Causes(branch=refill.call if branch.links else refill.immediate)
        return Causes(branch=refill.register if branch.way == "register" else refill.load)

    def _causes(self, instructions: Sequence[Instruction]) -> list[Causes]:
        """Of every instruction."""
        causes = [self._alone(instruction) for instruction in instructions]
        for index, (one, behind) in enumerate(pairwise(instructions)):
            if _exclude(one, behind):
                continue
            causes[index] += self._late(one, behind)
            if self._overlap(one, behind):
                causes[index] += Causes(load=-1)
            causes[index + 1] += self._wait(one, behind)
            if self._table.folds_it and behind.kind is Kind.IT and one.size == 2:
                causes[index + 1] = NOTHING
        self._divide(instructions, causes)
        return causes

    def _alone(self, instruction: Instruction) -> Causes:
        """Without neighbours, and a division as if it took one cycle."""
        table, kind = self._table, instruction.kind
        if kind is Kind.LOAD:
            return Causes(issue=1, load=table.load - 1)
        if kind is Kind.STORE:
            # VSTR takes two cycles by the FPU's table, and STREX, which has a result, is timed as
            # a load is.
            answers = instruction.writes - instruction.written_back
            slow = len(instruction.address_reads) > 1 or instruction.is_float or answers
            cycles = table.store_register_offset if slow else table.store
            return Causes(issue=1, load=cycles - 1)
        if kind in (Kind.LOAD_MULTIPLE, Kind.STORE_MULTIPLE):
            assert instruction.access is not None
            return Causes(issue=1, load=instruction.access.bytes // 4)
        if kind is Kind.TABLE_BRANCH:
            # "At least two cycles for the load, one cycle for the add", then the refill.
            return Causes(issue=1, load=table.load - 1, arithmetic=1)
        if kind is Kind.BARRIER and instruction.text.startswith("isb"):
            return Causes(issue=1, arithmetic=table.synchronise - 1)
        return Causes(issue=1, arithmetic=self._arithmetic.get(kind, 0))

    def _overlap(self, one: Instruction, behind: Instruction) -> bool:
        """Whether the data of a load come while the access behind it forms its address."""
        return (
            self._table.pipelines
            and one.kind is Kind.LOAD
            and self._can_overlap(behind)
            and not behind.address_reads & one.writes
        )

    def _can_overlap(self, behind: Instruction) -> bool:
        """Whether there is something to save behind an independent load."""
        return (
            behind.kind in (Kind.LOAD, Kind.STORE)
            and self._alone(behind).load > 0
            and behind.branch is None
            and (self._table.indexed_pipelines or not behind.written_back)
        )

    def _wait(self, one: Instruction, behind: Instruction) -> Causes:
        """What `behind` waits for its address, or for a load that it cannot overlap with."""
        if behind.access is None:
            return NOTHING
        indexed = behind.kind is Kind.STORE and behind.written_back
        if one.kind is Kind.LOAD and indexed and not self._table.indexed_pipelines:
            return Causes(load=1)
        if one.kind is Kind.LOAD and (behind.kind is Kind.LOAD or self._can_overlap(behind)):
            # Losing the overlap is the wait.
            return NOTHING
        computed = one.writes
        if one.access is not None:
            computed = one.written_back if one.kind in (Kind.LOAD, Kind.STORE) else frozenset()
        return Causes(load=self._table.address_wait) if computed & behind.address_reads else NOTHING

    def _late(self, one: Instruction, behind: Instruction) -> Causes:
        """What a floating-point result takes longer because `behind` uses it."""
        floating = self._table.floating
        if floating is None or one.kind not in _ROUNDED:
            return NOTHING
        used = one.writes & (behind.reads - behind.accumulator_reads) - {"fpscr"}
        return Causes(arithmetic=floating.result) if used else NOTHING

    def _divide(self, instructions: Sequence[Instruction], causes: list[Causes]) -> None:
        """Book what divisions take, but for the integer instructions that run meanwhile."""
        if self._table.floating is None:
            return
        for index, instruction in enumerate(instructions):
            if instruction.kind is not Kind.FLOAT_DIVIDE:
                continue
            remaining: float = self._table.floating.divide - 1
            for other, cost in zip(instructions[index + 1 :], causes[index + 1 :], strict=True):
                if other.is_float:
                    break
                remaining -= cost.total
            causes[index] += Causes(arithmetic=max(0, remaining))


def _exclude(one: Instruction, behind: Instruction) -> bool:
    """Whether two neighbours run under opposite conditions, by the same flags."""
    if one.condition is None or behind.condition is None or "apsr" in one.writes:
        return False
    return one.condition ^ behind.condition == 1
