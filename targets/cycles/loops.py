"""Loops of executed code, from the blocks of a trace and what followed each.

Blocks of a trace overlap where a loop is entered by falling into it: they are cut wherever another
block begins. A loop is then a set of pieces of one function that lead to each other. The piece that
is entered most often from outside is its head; what still goes round without the head is an inner
loop. This finds the same loops however a compiler placed them, jumps into their middle included.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from edgekit.targets.cycles.costs import BlockCost, Causes, Count, InstructionCost

_CALL = re.compile(r"bl(r|x|xns)?([a-z]{2})?\b")
"""Thumb, ARM and AArch64 instructions that leave a return address, but for ``ble`` and the like."""


@dataclass(frozen=True)
class Region:
    """Instructions of one function: a loop without the loops inside it, or what is in no loop.

    Attributes:
        function: that holds it.
        depth: of the loop, 1 for an outermost one; 0 for what is in no loop.
        entries: how often the loop was entered from outside; of what is in no loop, how often the
            function was.
        iterations: how often the loop's head ran; 0 outside of loops.
        lines: by ascending address; neighbours need not follow each other in memory.
        cycles: of all executions; None where there is no model. Where the model only knows whole
            blocks, every instruction of a block has the same share.
        causes: the same by cause; None where the model does not tell.
    """

    function: str
    depth: int
    entries: int
    iterations: int
    lines: tuple[InstructionCost, ...]
    cycles: float | None
    causes: Causes | None

    @property
    def instructions(self) -> int:
        """Issued instructions of all executions."""
        return sum(line.times for line in self.lines)


def regions(count: Count) -> tuple[Region, ...]:
    """All that ran, by loop; the most expensive region first.

    The regions are disjoint: their instructions, cycles and causes add up to those of `count`.
    """
    functions: dict[str, list[BlockCost]] = defaultdict(list)
    for block in count.blocks:
        functions[block.function].append(block)
    found = [r for name, blocks in functions.items() for r in _Graph(name, blocks).regions()]
    return tuple(sorted(found, key=_expense))


def _expense(region: Region) -> tuple[float, int]:
    spent = region.instructions if region.cycles is None else region.cycles
    return -spent, region.lines[0].address


@dataclass
class _Piece:
    """A block, or a part of one that nothing jumps into, with all its executions."""

    times: int = 0
    cycles: float | None = 0
    lines: dict[int, InstructionCost] = field(default_factory=dict)

    def add(self, block: BlockCost, lines: Sequence[InstructionCost]) -> None:
        """Executions as a part of `block`."""
        self.times += block.times
        spent = _cycles(block, lines)
        self.cycles = None if self.cycles is None or spent is None else self.cycles + spent
        for line in lines:
            known = self.lines.get(line.address)
            self.lines[line.address] = line if known is None else _joined(known, line)


class _Graph:
    """The pieces of one function, and how often which followed which.

    A call is followed by what stands behind it, as the callee's blocks are another function's. A
    return, or a jump into another function, is followed by nothing.
    """

    def __init__(self, function: str, blocks: Sequence[BlockCost]) -> None:
        self._function = function
        self._pieces = {block.address: _Piece() for block in blocks}
        self._edges: dict[int, Counter[int]] = defaultdict(Counter)
        for block in blocks:
            parts = list(_cut(block, self._pieces.keys()))
            for part in parts:
                self._pieces[part[0].address].add(block, part)
            for one, other in itertools.pairwise(parts):
                self._edges[one[0].address][other[0].address] += block.times
            behind = block.address + block.bytes
            calls = _CALL.match(block.instructions[-1].text) is not None
            for address, times in block.following.items():
                target = behind if calls and address not in self._pieces else address
                if target in self._pieces:
                    self._edges[parts[-1][0].address][target] += times

    def regions(self) -> Iterator[Region]:
        """Of every loop, then of what is in none."""
        everything = set(self._pieces)
        rest = set(everything)
        for depth, loop, head, own in self._loops(everything, 1):
            rest -= own
            entries = sum(self._entries(piece, loop) for piece in loop)
            yield self._region(depth, own, entries, self._pieces[head].times)
        if rest:
            yield self._region(0, rest, sum(self._entries(p, everything) for p in everything), 0)

    def _loops(self, inside: Set[int], depth: int) -> Iterator[tuple[int, set[int], int, set[int]]]:
        """Depth, pieces, head, and pieces in no inner loop, of every loop inside some pieces."""
        for loop in self._components(inside):
            head = max(sorted(loop), key=lambda piece: self._entries(piece, loop))
            if len(loop) == 1 and head not in self._edges[head]:
                continue
            inner = list(self._loops(loop - {head}, depth + 1))
            yield depth, loop, head, loop.difference(*(pieces for _, pieces, _, _ in inner))
            yield from inner

    def _entries(self, piece: int, loop: Set[int]) -> int:
        """How often a piece ran after something outside of `loop`."""
        return self._pieces[piece].times - sum(self._edges[before][piece] for before in loop)

    def _components(self, inside: Set[int]) -> list[set[int]]:
        """Largest sets of pieces that all lead to each other: Kosaraju's two searches."""
        after = {piece: [p for p in self._edges[piece] if p in inside] for piece in sorted(inside)}
        before: dict[int, list[int]] = {piece: [] for piece in after}
        for piece, targets in after.items():
            for target in targets:
                before[target].append(piece)
        finished = [piece for tree in _search(list(after), after) for piece in tree]
        return [set(tree) for tree in _search(finished[::-1], before)]

    def _region(self, depth: int, own: Set[int], entries: int, iterations: int) -> Region:
        pieces = [self._pieces[address] for address in sorted(own)]
        lines = [line for piece in pieces for line in piece.lines.values()]
        cycles = [piece.cycles for piece in pieces]
        causes = [line.causes for line in lines]
        return Region(
            self._function,
            depth,
            entries,
            iterations,
            tuple(sorted(lines, key=lambda line: line.address)),
            None if None in cycles else sum(c for c in cycles if c is not None),
            None if None in causes else sum((c for c in causes if c is not None), Causes()),
        )


def _search(roots: Sequence[int], following: Mapping[int, Sequence[int]]) -> Iterator[list[int]]:
    """What every root reaches that no root before it did, each after all that it leads to."""
    seen: set[int] = set()
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        tree, path = [], [(root, iter(following[root]))]
        while path:
            piece, left = path[-1]
            new = next((p for p in left if p not in seen), None)
            if new is None:
                tree.append(piece)
                path.pop()
            else:
                seen.add(new)
                path.append((new, iter(following[new])))
        yield tree


def _cut(block: BlockCost, begins: Set[int]) -> Iterator[tuple[InstructionCost, ...]]:
    """The instructions of a block, cut where another block begins."""
    part: list[InstructionCost] = []
    for line in block.instructions:
        if part and line.address in begins:
            yield tuple(part)
            part = []
        part.append(line)
    yield tuple(part)


def _cycles(block: BlockCost, lines: Sequence[InstructionCost]) -> float | None:
    """Of a part of a block; its share of the block where instructions have no cycles."""
    if block.cycles is None:
        return None
    known = [line.causes for line in lines if line.causes is not None]
    if len(known) == len(lines):
        return sum(causes.total for causes in known)
    return block.cycles * len(lines) / len(block.instructions)


def _joined(one: InstructionCost, other: InstructionCost) -> InstructionCost:
    causes = None if one.causes is None or other.causes is None else one.causes + other.causes
    return InstructionCost(one.address, one.text, one.times + other.times, causes)
