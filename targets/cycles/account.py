"""From what a core executed to what it cost: blocks, instructions and functions, by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from edgekit.targets.cycles.costs import BlockCost, Causes, Count, InstructionCost
from edgekit.targets.cycles.thumb.decoder import ThumbDecoder
from edgekit.targets.cycles.timed import NOTHING, TimedBlock, Timing
from edgekit.targets.cycles.trace.memory import TICKS_PER_CYCLE
from edgekit.targets.cycles.trace.recorder import Place, Step, TracedBlock


class Accountant:
    """Knows what the code of one core costs: while it runs, and summed up afterwards.

    Implements :class:`edgekit.targets.cycles.trace.recorder.Costs`.

    Args:
        timing: the core's pipeline.
        read: so many bytes of code from an address.
        function_at: name of the function that holds an address.
    """

    def __init__(
        self,
        timing: Timing,
        read: Callable[[int, int], bytes],
        function_at: Callable[[int], str],
    ) -> None:
        self._timing = timing
        self._read = read
        self._function_at = function_at
        self._decoder = ThumbDecoder()
        self._blocks: dict[Place, TimedBlock] = {}
        self._steps: dict[Place, tuple[Step, ...]] = {}
        self._goes_on: dict[Place, bool] = {}

    def block(self, address: int, size: int) -> TimedBlock:
        """A block at zero wait states; decoded once."""
        place = (address, size)
        if place not in self._blocks:
            self._blocks[place] = self._timing.block(address, self._read(address, size))
        return self._blocks[place]

    def goes_on(self, address: int, size: int) -> bool:
        """See :meth:`edgekit.targets.cycles.trace.recorder.Costs.goes_on`; decoded once."""
        place = (address, size)
        if place not in self._goes_on:
            ends = self._decoder.ends_in_branch(address, self._read(address, size))
            self._goes_on[place] = not ends
        return self._goes_on[place]

    def steps(self, address: int, size: int) -> Sequence[Step]:
        """See :meth:`edgekit.targets.cycles.trace.recorder.Costs.steps`; made once."""
        place = (address, size)
        if place not in self._steps:
            self._steps[place] = tuple(
                Step(
                    instruction.address - address,
                    instruction.size,
                    _ticks(instruction.causes),
                    _ticks(_skipped(instruction.causes))
                    if instruction.conditional and instruction.access is not None
                    else None,
                )
                for instruction in self.block(address, size).instructions
            )
        return self._steps[place]

    def jump(self, block: Place, following: Place) -> int:
        """See :meth:`edgekit.targets.cycles.trace.recorder.Costs.jump`."""
        return _ticks(self._jump(block, following))

    def count(self, traced: Iterable[TracedBlock]) -> Count:
        """Sum of everything that ran."""
        ran = tuple(traced)
        likely = likely_ways(ran)
        return Count.of((self._function_at(one.address), self._cost(one, likely)) for one in ran)

    def _jump(self, block: Place, following: Place) -> Causes:
        address, size = following
        entry = self.block(address, size).entry if size else NOTHING
        return self.block(*block).jump(address, entry)

    def _cost(self, traced: TracedBlock, likely: Mapping[int, bool]) -> BlockCost:
        """Figures of all executions of a block.

        Args:
            traced: the block.
            likely: see :func:`likely_ways`.
        """
        place = (traced.address, traced.size)
        block = self.block(*place)
        instructions = []
        for instruction, skipped, fetch, load in zip(
            block.instructions, traced.skipped, traced.fetch, traced.load, strict=True
        ):
            causes = instruction.causes * (traced.times - skipped)
            causes += _skipped(instruction.causes) * skipped
            causes += Causes(load=load / TICKS_PER_CYCLE, fetch=fetch / TICKS_PER_CYCLE)
            instructions.append((instruction, causes))
        # Where a block went is the last instruction's doing.
        last, causes = instructions.pop()
        for following, times in traced.following.items():
            causes += self._jump(place, following) * times
            if _jumps(traced, following) != likely[end_of(traced)]:
                causes += block.mispredicted * times
        instructions.append((last, causes))
        total = NOTHING
        for _, causes in instructions:
            total += causes
        return BlockCost(
            address=traced.address,
            bytes=traced.size,
            times=traced.times,
            cycles=total.total,
            causes=total,
            instructions=tuple(
                InstructionCost(one.address, one.text, traced.times, causes)
                for one, causes in instructions
            ),
            following=following_addresses(traced.following),
        )


def likely_ways(traced: Iterable[TracedBlock]) -> dict[int, bool]:
    """Whether the branch that ends where a block ends mostly jumps, by that address.

    Blocks that end with the same branch share it: the first round of a loop is often a block of its
    own, with what stands before the loop. As often as not counts as jumping.
    """
    jumps: Counter[int] = Counter()
    for one in traced:
        for following, times in one.following.items():
            jumps[end_of(one)] += times if _jumps(one, following) else -times
    return {end: balance >= 0 for end, balance in jumps.items()}


def end_of(traced: TracedBlock) -> int:
    """Address behind a block, without its mark."""
    return (traced.address & ~1) + traced.size


def _jumps(traced: TracedBlock, following: Place) -> bool:
    return following[0] & ~1 != end_of(traced)


def count_instructions(
    traced: Iterable[TracedBlock],
    texts: Callable[[int, int], Sequence[tuple[int, str]]],
    function_at: Callable[[int], str],
) -> Count:
    """Sum of everything that ran on a core without a model: instructions, no cycles.

    Args:
        traced: blocks.
        texts: address and disassembly of every instruction of a block, by its address, marked as
            in the trace, and bytes.
        function_at: name of the function that holds an address.
    """
    return Count.of((function_at(one.address), _uncosted(one, texts)) for one in traced)


def _uncosted(
    traced: TracedBlock, texts: Callable[[int, int], Sequence[tuple[int, str]]]
) -> BlockCost:
    return BlockCost(
        address=traced.address & ~1,
        bytes=traced.size,
        times=traced.times,
        cycles=None,
        causes=None,
        instructions=tuple(
            InstructionCost(address, text, traced.times, None)
            for address, text in texts(traced.address, traced.size)
        ),
        following=following_addresses(traced.following),
    )


def following_addresses(following: Mapping[Place, int]) -> dict[int, int]:
    """How often each address ran next, without its mark, by ascending address.

    >>> following_addresses({(16, 4): 2, (8, 2): 1, (17, 8): 1})
    {8: 1, 16: 3}
    """
    times: Counter[int] = Counter()
    for (address, _), count in following.items():
        times[address & ~1] += count
    return dict(sorted(times.items()))


def _skipped(causes: Causes) -> Causes:
    """What is left of an instruction that an IT instruction skips."""
    return Causes(issue=causes.issue)


def _ticks(causes: Causes) -> int:
    ticks = causes.total * TICKS_PER_CYCLE
    assert ticks == int(ticks), f"{causes} are no whole ticks"
    return int(ticks)
