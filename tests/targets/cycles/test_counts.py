"""Sums of what was counted: functions in the order of what they took."""

from __future__ import annotations

import pytest

from edgekit.targets.cycles.costs import BlockCost, Causes, Count, InstructionCost


def block(address: int, times: int, cycles: float | None) -> BlockCost:
    """A block of one instruction."""
    causes = None if cycles is None else Causes(issue=cycles)
    nop = InstructionCost(address, "nop", times, causes)
    return BlockCost(address, 2, times, cycles, causes, (nop,), {})


@pytest.mark.parametrize(
    ("cycles", "order"),
    [
        # No cycles are none, however many instructions those were.
        ((0.0, 5.0, 7.0), ["three", "two", "one"]),
        ((5.0, 5.0, 7.0), ["three", "one", "two"]),
        # Cycles and instructions are not compared.
        ((None, None, None), ["one", "two", "three"]),
        ((None, 50.0, 7.0), ["one", "two", "three"]),
    ],
)
def test_functions_are_ordered_by_one_unit(
    cycles: tuple[float | None, float | None, float | None], order: list[str]
) -> None:
    """By cycles; by instructions as soon as those of one function are not known."""
    one, two, three = cycles
    count = Count.of(
        [("one", block(0, 9, one)), ("two", block(2, 6, two)), ("three", block(4, 3, three))]
    )
    assert list(count.functions) == order
    assert list((count + Count()).functions) == order
