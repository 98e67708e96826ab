"""What a pipeline makes of a basic block: the cycles of each instruction at zero wait states."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from edgekit.targets.cycles.costs import Causes

NOTHING = Causes()
"""What costs nothing."""


@dataclass(frozen=True)
class Access:
    """What one instruction moves between registers and memory.

    Attributes:
        kind: direction.
        bytes: in all; 12 for an LDM of three registers.
    """

    kind: Literal["load", "store"]
    bytes: int


@dataclass(frozen=True)
class Timed:
    """One instruction of a block.

    Attributes:
        address: of the instruction.
        size: bytes.
        text: disassembly.
        causes: of its cycles where it stands in the block, a branch's jump excluded.
        access: to memory; None where it makes none.
        conditional: whether an IT instruction can make the core skip it. A skipped instruction
            takes the issue cycle of `causes` alone; the rest, and `access`, are of one that ran.
    """

    address: int
    size: int
    text: str
    causes: Causes
    access: Access | None
    conditional: bool


@dataclass(frozen=True)
class TimedBlock:
    """A straight run of instructions.

    Attributes:
        address: of the first instruction.
        bytes: size.
        instructions: in order, IT-skipped ones included.
        taken: what jumping from the end takes beyond the last instruction's own cycles.
        passed: what not jumping takes; None where the end always jumps.
        entry: what any jump *to* this block takes on top, for the alignment and width of its first
            instruction; arriving without a jump never does.
        adds_entry: whether `entry` of the block that is jumped to counts behind this one's jump; it
            does not where that already takes the longest.
        mispredicted: what the end takes on top each time that it goes the other way than it mostly
            does; nothing on a core that does not predict.
        again: correction of `taken` where the block jumps to its own beginning, for results of one
            round that the next one waits for; a single-issue core needs none.
    """

    address: int
    bytes: int
    instructions: tuple[Timed, ...]
    taken: Causes = NOTHING
    passed: Causes | None = NOTHING
    entry: Causes = NOTHING
    adds_entry: bool = True
    mispredicted: Causes = NOTHING
    again: Causes = NOTHING

    @property
    def end(self) -> int:
        """Address behind the last instruction."""
        return self.address + self.bytes

    @cached_property
    def causes(self) -> Causes:
        """Of all its cycles at zero wait states, without the jump at its end."""
        return sum((instruction.causes for instruction in self.instructions), NOTHING)

    def jump(self, following: int, entry: Causes = NOTHING) -> Causes:
        """What passing from the last instruction to the next block takes beyond `causes`.

        Args:
            following: address of the block that runs next.
            entry: that block's :attr:`entry`.
        """
        if self.passed is not None and following == self.end:
            return self.passed
        jump = self.taken + entry if self.adds_entry else self.taken
        return jump + self.again if following == self.address else jump


class Timing(Protocol):
    """The pipeline of one core."""

    def block(self, address: int, code: bytes) -> TimedBlock:
        """Decode and time the instructions in `code`.

        Args:
            address: of the first instruction, even.
            code: whole instructions from where a jump arrives to the next branch; only the last may
                branch.
        """
        ...
