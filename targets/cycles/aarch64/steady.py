"""Cycles of an AArch64 block in steady state, approximated: repeated, it is as fast as it gets.

Out of order, whatever is scarcest decides: slots, decoding, a unit, or the longest chain of results
that runs from one repetition to the next. In order, instructions issue one after the other, each
when its operands and a unit are there. Loads hit the first-level cache, nothing is known of what
they alias with, and queues are endless.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgekit.targets.cycles.aarch64.instructions import Instruction
from edgekit.targets.cycles.aarch64.kinds import Kind
from edgekit.targets.cycles.aarch64.processors import Processor, Use

_SETTLING = 12
"""Repetitions before, and while, the growth of a chain is measured."""


def steady_cycles(block: Sequence[Instruction], processor: Processor) -> float:
    """Cycles that one of many repetitions of `block` takes.

    A chain of accumulations, and a unit that only one of them can have:

    >>> from edgekit.targets.cycles.aarch64.instructions import described
    >>> from edgekit.targets.cycles.aarch64.processors import PROCESSORS
    >>> sums = [described(f"madd w{i}, w8, w9, w{i}") for i in range(3)]
    >>> steady_cycles(sums, PROCESSORS["cortex-a72"])
    3.0
    """
    if processor.in_order:
        return _in_order(block, processor)
    return max(_scarcest(block, processor), _chain(block, processor))


def _parts(instruction: Instruction, processor: Processor) -> list[tuple[Use, int]]:
    """What an instruction takes, and how many times: per register, and per half of a vector."""
    use = processor.uses[instruction.kind]
    parts = [(use, instruction.registers * (use.wide if instruction.is_wide else 1))]
    if instruction.new_address is not None:
        parts.append((processor.uses[Kind.NEW_ADDRESS], 1))
    if instruction.has_offset:
        parts.append((processor.uses[Kind.OFFSET], 1))
    return parts


def _scarcest(block: Sequence[Instruction], processor: Processor) -> float:
    """The most that slots, decoding or a unit need."""
    taken: Counter[str] = Counter()
    slots = 0
    for instruction in block:
        for use, times in _parts(instruction, processor):
            slots += use.slots * times
            for unit, cycles in use.units.items():
                taken[unit] += cycles * times
    units = [cycles / processor.units[unit] for unit, cycles in taken.items()]
    return max(slots / processor.slots, len(block) / processor.decoded, *units, 0.0)


class _Results:
    """When registers can be read."""

    def __init__(self, processor: Processor) -> None:
        self._uses = processor.uses
        self._ready: dict[str, float] = {}
        self._sums: dict[str, tuple[Kind, float]] = {}

    def wanted(self, instruction: Instruction) -> float:
        """The first cycle in which all operands are there."""
        times = [self._ready.get(register, 0.0) for register in instruction.reads]
        added = instruction.adds_to
        if added is not None:
            kind, sooner = self._sums.get(added, (None, 0.0))
            if kind is instruction.kind:
                others = [self._ready.get(r, 0.0) for r in instruction.reads - {added}]
                times = [sooner, *others]
        return max(times, default=0.0)

    def note(self, instruction: Instruction, issued: float) -> float:
        """Note the results of an instruction; returns when the last is there."""
        use = self._uses[instruction.kind]
        for register in instruction.writes:
            self._ready[register] = issued + use.latency
            self._sums.pop(register, None)
            if use.adds_after is not None:
                self._sums[register] = instruction.kind, issued + use.adds_after
        if instruction.new_address is not None:
            self._ready[instruction.new_address] = issued + self._uses[Kind.NEW_ADDRESS].latency
        return issued + use.latency


def _chain(block: Sequence[Instruction], processor: Processor) -> float:
    """By how much results are later in every repetition, whatever the units."""
    results = _Results(processor)
    ends = []
    for _ in range(2 * _SETTLING):
        done = [results.note(i, results.wanted(i)) for i in block]
        ends.append(max(done, default=0.0))
    return (ends[-1] - ends[_SETTLING - 1]) / _SETTLING


def _in_order(block: Sequence[Instruction], processor: Processor) -> float:
    """By how much issuing is later in every repetition."""
    results = _Results(processor)
    free = {unit: [0.0] * count for unit, count in processor.units.items()}
    now, left = 0.0, processor.slots
    ends = []
    for _ in range(2 * _SETTLING):
        for instruction in block:
            use, times = _parts(instruction, processor)[0]
            start = max(now, results.wanted(instruction), *(min(free[unit]) for unit in use.units))
            if start > now:
                now, left = start, processor.slots
            for unit, cycles in use.units.items():
                queue = free[unit]
                queue[queue.index(min(queue))] = now + cycles * times
            results.note(instruction, now)
            left -= 1
            if left == 0:
                now, left = now + 1, processor.slots
        ends.append(now + (processor.slots - left) / processor.slots)
    return (ends[-1] - ends[_SETTLING - 1]) / _SETTLING
