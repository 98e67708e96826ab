"""What every emulated core here has in common: refused accesses in words, counting by blocks.

Instructions are counted by executed basic blocks, so that those an IT block skips count too, as the
core issues them; a hook per instruction would miss them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

import unicorn

READ, WRITE, JUMP = "read", "write", "jump"
NOWHERE = "where there is no memory"
READ_ONLY = "which is program memory"

ACCESS = {
    unicorn.UC_MEM_READ_UNMAPPED: (READ, NOWHERE),
    unicorn.UC_MEM_WRITE_UNMAPPED: (WRITE, NOWHERE),
    unicorn.UC_MEM_WRITE_PROT: (WRITE, READ_ONLY),
    unicorn.UC_MEM_FETCH_UNMAPPED: (JUMP, ""),
    unicorn.UC_MEM_FETCH_PROT: (JUMP, ""),
}
"""What unicorn calls an access, in words, and why it was refused."""

TIMEOUT_S = 600.0
INSTRUCTION_LIMIT = 20_000_000_000

STACK_PAINT = 0xA5
"""What untouched stack holds while its use is measured."""

# Executed blocks are noted as address and size in one number, and summed up now and then.
_SIZE_BITS = 16
_TRACE_BLOCKS = 1 << 18


@dataclass(frozen=True)
class Refused:
    """An access that stopped the core."""

    verb: str
    reason: str
    address: int
    pc: int


@dataclass(frozen=True)
class Count:
    """What one or more counted calls issued.

    Attributes:
        instructions: issued instructions, IT-skipped ones included.
        cycles: modelled, see :mod:`edgekit.targets.cycles`; None where there is no model.
        functions: issued instructions by function, without what it calls.
    """

    instructions: int = 0
    cycles: int | None = 0
    functions: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Count) -> Count:
        known = self.cycles is not None and other.cycles is not None
        return Count(
            self.instructions + other.instructions,
            (self.cycles or 0) + (other.cycles or 0) if known else None,
            self.functions + other.functions,
        )


class Edge(NamedTuple):
    """A block that ran, with the one that ran after it.

    Attributes:
        address: of its first instruction; bit 0 as the trace was told to mark it.
        size: bytes.
        following: address of the next block.
        times: how often.
    """

    address: int
    size: int
    following: int
    times: int


class BlockTrace:
    """Notes the blocks that a core executes, as a context around a call.

    About a hundred times slower than running without.

    Args:
        uc: the core.
        instruction_limit: stops the core some time after so many instructions.
        mark: bit 0 of the address of a block that begins now, for cores with two instruction sets.
    """

    def __init__(
        self, uc: Any, instruction_limit: int, mark: Callable[[Any], int] | None = None
    ) -> None:
        self._uc = uc
        self._budget = instruction_limit
        self._mark = mark
        self._trace: list[int] = []
        self._edges: Counter[tuple[int, int]] = Counter()

    def __enter__(self) -> Self:
        trace, mark = self._trace, self._mark

        def on_block(uc: Any, address: int, size: int, _: Any) -> None:
            trace.append((address if mark is None else address | mark(uc)) << _SIZE_BITS | size)
            if len(trace) >= _TRACE_BLOCKS:
                self._collect()

        self._hook = self._uc.hook_add(unicorn.UC_HOOK_BLOCK, on_block)
        # Code translated before the hook came does not call it, code translated with it does.
        self._uc.ctl_flush_tb()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._uc.hook_del(self._hook)
        self._uc.ctl_flush_tb()

    def edges(self, end: int) -> Iterator[Edge]:
        """Every executed block; the last was followed by `end`."""
        self._trace.append(end << _SIZE_BITS)
        self._collect()
        for (this, following), times in self._edges.items():
            address, size = this >> _SIZE_BITS, this & ((1 << _SIZE_BITS) - 1)
            yield Edge(address, size, following >> _SIZE_BITS, times)

    def _collect(self) -> None:
        self._edges.update(itertools.pairwise(self._trace))
        # A block has at least one instruction; the exact number is not needed for a limit.
        self._budget -= len(self._trace)
        del self._trace[:-1]
        if self._budget <= 0:
            self._uc.emu_stop()
