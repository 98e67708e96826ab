"""Cycles of AArch64 code on application processors: per executed block, without its neighbours.

Every distinct block is taken for repeated, and is given the cycles of its steady state: by llvm-mca
where one is installed that has the processor's model, else by our approximation
(:mod:`~edgekit.targets.cycles.aarch64.steady`). No processor decodes more than a certain number of
instructions per cycle, which llvm-mca does not know. To that come wrong predictions, by rule:

- A conditional branch, or one to an address in a register, is expected to go where it went most
  often in the call; every other way costs a misprediction.
- A loop that ends after few rounds on average (:data:`~.processors.FORESEEN_ROUNDS`) ends as
  expected.
- Returns, calls and unconditional branches go as expected, and cost nothing.

Not modelled: the overlap of a block with the next, in and out of order, caches and what is behind
them, fetching, predictors that are still learning, loads that wait for stores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from edgekit.bench.costs import CycleModel
from edgekit.errors import EdgekitError, ToolchainMissingError
from edgekit.targets.cycles.aarch64.instructions import Instruction, described
from edgekit.targets.cycles.aarch64.kinds import Kind
from edgekit.targets.cycles.aarch64.llvm_mca import Mca, find_mca
from edgekit.targets.cycles.aarch64.processors import FORESEEN_ROUNDS, Processor
from edgekit.targets.cycles.aarch64.steady import steady_cycles
from edgekit.targets.cycles.costs import BlockCost, Count
from edgekit.targets.cycles.described import cycle_model

MEMORY = "first-level caches, always hit; no fetching, no bandwidth"
"""What memory is taken for, in words."""

Block = tuple[Instruction, ...]
"""A basic block without its place: equal ones take the same time."""

_CONDITIONAL = ("b.", "cb", "tb")


class ProcessorTiming:
    """Cycles of executed blocks on one processor; equal blocks are looked at once.

    Args:
        processor: whose cycles they are.
        mca: gives the cycles of blocks; None for the approximation.
        reason: why there is no `mca`, for :attr:`model`.
    """

    def __init__(self, processor: Processor, mca: Mca | None, reason: str = "") -> None:
        self._processor = processor
        self._mca = mca
        self._reason = reason
        self._described: dict[str, Instruction] = {}
        self._cycles: dict[Block, float] = {}
        self._refused = 0

    @classmethod
    def best(cls, processor: Processor) -> Self:
        """With llvm-mca where there is one that knows the processor, else approximated."""
        try:
            return cls(processor, find_mca(processor))
        except ToolchainMissingError as error:
            return cls(processor, None, str(error))

    @property
    def model(self) -> CycleModel:
        """What the cycles that were asked for until now come from."""
        processor = self._processor
        if self._mca is None:
            low, high = processor.spread
            what = (
                "approximation by issue width, units and chains of results, with a wider error: "
                f"layers of the networks of MLPerf Tiny take {low:.2f} to {high:.2f} times what "
                f"llvm-mca models ({self._reason})"
            )
        else:
            what = (
                f"llvm-mca {self._mca.version}, model of {processor.mca_words}, at most "
                f"{processor.decoded} instructions per cycle"
            )
            if self._refused:
                what += f"; {self._refused} of {len(self._cycles)} blocks approximated"
                what += f" ({self._reason})" if self._reason else ""
        what += (
            "; every block in steady state, no overlap of blocks; "
            f"{processor.mispredicted} cycles per branch mispredicted by rule"
        )
        return cycle_model(processor.name, what=what, memory=MEMORY)

    def modelled(self, count: Count) -> Count:
        """A call's count with cycles; causes are not told apart, and instructions have none.

        Args:
            count: of one call, without cycles; blocks are what the disassembly of their
                instructions says.
        """
        blocks = [self._block(block) for block in count.blocks]
        self._look_at(blocks)
        wrong = mispredictions(count.blocks, [block[-1] for block in blocks])
        penalty = self._processor.mispredicted
        return Count.of(
            (
                cost.function,
                replace(cost, cycles=cost.times * self._cycles[block] + misses * penalty),
            )
            for cost, block, misses in zip(count.blocks, blocks, wrong, strict=True)
        )

    def _look_at(self, blocks: Sequence[Block]) -> None:
        """Find the cycles of blocks that were not seen before."""
        new = [block for block in dict.fromkeys(blocks) if block not in self._cycles]
        for block, cycles in zip(new, self._simulated(new), strict=True):
            if cycles is None:
                self._refused += self._mca is not None
                cycles = steady_cycles(block, self._processor)
            self._cycles[block] = max(cycles, len(block) / self._processor.decoded)

    def _simulated(self, blocks: Sequence[Block]) -> Sequence[float | None]:
        """What llvm-mca says of blocks; None for those of which it says nothing."""
        if self._mca is None or not blocks:
            return [None] * len(blocks)
        try:
            return self._mca.cycles([[i.text for i in block] for block in blocks])
        except EdgekitError as error:
            self._reason = str(error)
            return [None] * len(blocks)

    def _block(self, cost: BlockCost) -> Block:
        for line in cost.instructions:
            if line.text not in self._described:
                self._described[line.text] = described(line.text)
        return tuple(self._described[line.text] for line in cost.instructions)


def mispredictions(blocks: Sequence[BlockCost], last: Sequence[Instruction]) -> list[int]:
    """How often each block was followed by another one than expected.

    Blocks that end with the same branch share what is expected of it: the first round of a loop is
    often a block of its own, with what comes before the loop.

    Args:
        blocks: of one call.
        last: the last instruction of each.
    """
    went: dict[int, Counter[int]] = {}
    for block in blocks:
        went.setdefault(_end(block), Counter()).update(block.following)
    wrong = []
    for block, instruction in zip(blocks, last, strict=True):
        targets = went[_end(block)]
        likely = min(targets, key=lambda target: (-targets[target], target))
        misses = sum(targets.values()) - targets[likely]
        surprises = instruction.kind is Kind.BRANCH and not instruction.is_return
        is_loop = instruction.text.startswith(_CONDITIONAL) and min(targets) < _end(block)
        if is_loop and targets.total() <= FORESEEN_ROUNDS * misses:
            surprises = False
        wrong.append(block.times - block.following.get(likely, 0) if surprises else 0)
    return wrong


def _end(block: BlockCost) -> int:
    return block.address + block.bytes
