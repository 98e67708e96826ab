"""Pipeline of the Cortex-M55: in order, with Helium's vectors 64 bits a cycle.

Arm publishes no instruction timing of this core. What is known of it is LLVM's scheduling model
(``ARMScheduleM55.td``), whose figures this follows, and SLOTHY's (``cortex_m55r1.py``, by an author
at Arm, "approximate"). Rules, at zero wait states, as from tightly coupled memory:

1. One instruction a cycle. Two 16-bit ones issue together where the second does not need the first,
   they set no common register or flag, and one of them is NOP, IT, a branch, MOV, an extension, or
   the sum or difference with a constant (LLVM).
2. A vector instruction occupies its pipe (memory, integer, multiply) for two cycles, one for each
   half of the vector. Instructions for other pipes issue meanwhile, and a dependent one follows
   half by half, after :attr:`~edgekit.targets.cycles.thumb.mve_table.Row.latency` (LLVM). A store
   takes a value of latency two a cycle earlier; addresses in a vector are needed four cycles
   earlier (LLVM).
3. Loads and stores of other registers use the same memory pipe, for one cycle (SLOTHY; LLVM keeps
   them apart); multiple ones for a cycle per 64 bits, in which nothing else issues (assumed).
4. Scalar floating point uses the multiply pipe for one cycle; a quotient or root occupies it until
   it is done (assumed).
5. Nothing is predicted: every jump refills the pipeline.
6. LE takes a branch the first time, a cycle the last time, and nothing in between. Both are booked
   where the loop ends.

A block starts with all operands there and all pipes free. What one round of a loop of one block
waits for another is its :attr:`~edgekit.targets.cycles.timed.TimedBlock.again`. Gathering and
scattering are as fast as whole vectors here (LLVM), which flatters them for small elements.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.targets.cycles.costs import Causes
from edgekit.targets.cycles.pipelines.helium_operations import Operation, issued
from edgekit.targets.cycles.pipelines.helium_table import HeliumTable
from edgekit.targets.cycles.thumb.decoder import ThumbDecoder
from edgekit.targets.cycles.thumb.mve_table import Pipe
from edgekit.targets.cycles.timed import NOTHING, Timed, TimedBlock

_EITHER: tuple[Pipe, ...] = ("multiply", "integer")

_ROUNDS = 3
"""After so many rounds a loop waits in each as in the one before."""


class HeliumIssue:
    """Timing by a table; see the module."""

    def __init__(self, table: HeliumTable) -> None:
        self._table = table
        self._decoder = ThumbDecoder()

    def block(self, address: int, code: bytes) -> TimedBlock:
        """Decode and time the instructions in `code`; see :class:`Timing`."""
        instructions = self._decoder.instructions(address, code)
        operations = [issued(instruction, self._table) for instruction in instructions]
        last = operations[-1]
        issue = _Issue(self._table)
        causes = issue.run(operations)
        taken, passed, again = NOTHING, NOTHING, NOTHING
        refill = Causes(branch=self._table.refill)
        if last.ends_loop:
            passed = Causes(issue=self._table.loop) + refill
        elif last.branch is not None:
            taken = refill
        if last.branch is not None and last.branch.target == address:
            for _ in range(_ROUNDS):
                issue.skip(int(taken.total))
                later = issue.run(operations)
            again = sum(later, NOTHING) + sum(causes, NOTHING) * -1
        return TimedBlock(
            address=address,
            bytes=len(code),
            instructions=tuple(
                Timed(o.address, o.size, o.text, cause, o.access, o.conditional)
                for o, cause in zip(operations, causes, strict=True)
            ),
            taken=taken,
            passed=passed if last.branch is None or last.branch.conditional else None,
            again=again,
        )


class _Issue:
    """Issue of one instruction after the other."""

    def __init__(self, table: HeliumTable) -> None:
        self._table = table
        self._ready: dict[str, tuple[int, Operation]] = {}
        self._busy: dict[str, int] = {}
        self._next = 0
        self._alone: Operation | None = None

    def skip(self, cycles: int) -> None:
        """Let cycles pass in which nothing issues."""
        self._next += cycles

    def run(self, operations: Sequence[Operation]) -> list[Causes]:
        """Issue a block from a new cycle on; what each of its instructions takes."""
        causes: list[Causes] = []
        self._alone = None
        for operation in operations:
            if operation.ends_loop:
                causes.append(NOTHING)
                continue
            wanted, by_memory = self._wanted(operation)
            if self._alone is not None and wanted < self._next and _pair(self._alone, operation):
                # Each of the two takes half of the cycle.
                causes[-1] += Causes(issue=-0.5)
                causes.append(Causes(issue=0.5))
                self._write(operation, self._next - 1)
                self._alone = None
                continue
            cycle = max(self._next, wanted)
            waited, longer = cycle - self._next, operation.duration - 1
            wait = Causes(load=waited) if by_memory else Causes(arithmetic=waited)
            in_memory = operation.access is not None
            wait += Causes(load=longer) if in_memory else Causes(arithmetic=longer)
            causes.append(Causes(issue=1) + wait)
            self._write(operation, cycle)
            self._next = cycle + operation.duration
            self._alone = operation
        return causes

    def _wanted(self, operation: Operation) -> tuple[int, bool]:
        """First cycle in which operands and pipe are there, and whether memory decides on it."""
        needs = [(self._busy.get(self._pipe(operation), 0), operation.pipe == "memory")]
        for register in operation.reads:
            if register in self._ready:
                needs.append(self._usable(register, operation))
        return max(needs)

    def _usable(self, register: str, user: Operation) -> tuple[int, bool]:
        """Cycle in which `user` can have a register, and whether it is loaded."""
        cycle, producer = self._ready[register]
        if register in user.gathered:
            cycle += self._table.gather
        elif register in user.stored and producer.is_vector and producer.latency == 2:
            cycle -= 1
        return cycle, producer.access is not None

    def _pipe(self, operation: Operation) -> Pipe:
        """The pipe that an instruction takes; of two, the one that is free first."""
        if operation.pipe != "either":
            return operation.pipe
        return min(_EITHER, key=lambda pipe: self._busy.get(pipe, 0))

    def _write(self, operation: Operation, cycle: int) -> None:
        for register in operation.writes:
            latency = 1 if register in operation.quick else operation.latency
            self._ready[register] = (cycle + latency, operation)
        # The core's own pipe takes an instruction a cycle, or a pair: nothing else waits for it.
        if operation.pipe != "core":
            self._busy[self._pipe(operation)] = cycle + operation.busy


def _pair(older: Operation, younger: Operation) -> bool:
    """Whether two instructions can issue in the same cycle, operands apart."""
    if older.size != 2 or younger.size != 2 or not (older.is_partner or younger.is_partner):
        return False
    if older.duration > 1 or younger.duration > 1:
        return False
    return not older.writes & (younger.writes | younger.reads)
