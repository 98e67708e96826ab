"""Loops are found wherever a compiler puts them, and every instruction belongs to one region."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence, Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.targets.cycles.costs import BlockCost, Causes, Count, InstructionCost
from edgekit.targets.cycles.loops import Region, regions

SIZE = 2
"""Bytes of every instruction here."""


def count_of(
    path: Sequence[tuple[str, int, int]],
    *,
    has_causes: bool = True,
    calls: Set[int] = frozenset(),
) -> Count:
    """What a trace counts where blocks ran one after the other.

    Args:
        path: function, first address and instructions of every executed block.
        has_causes: whether instructions have cycles of their own: the address' last digit.
        calls: addresses of the instructions that call a function.
    """
    times = Counter(path)
    after: dict[tuple[str, int, int], Counter[int]] = {block: Counter() for block in times}
    for block, following in zip(path, [*path[1:], ("", 0xFFFE, 0)], strict=True):
        after[block][following[1]] += 1
    blocks = []
    for (name, address, length), runs in times.items():
        lines = tuple(
            InstructionCost(
                place,
                f"{'bl' if place in calls else 'ble'} #{place}",
                runs,
                _causes(place) * runs if has_causes else None,
            )
            for place in range(address, address + SIZE * length, SIZE)
        )
        causes = sum((_causes(line.address) * runs for line in lines), Causes())
        block = BlockCost(
            address,
            SIZE * length,
            runs,
            causes.total,
            causes if has_causes else None,
            lines,
            after[name, address, length],
        )
        blocks.append((name, block))
    return Count.of(blocks)


def _causes(address: int) -> Causes:
    return Causes(issue=1, load=address % 10)


def places(region: Region) -> list[int]:
    return [line.address for line in region.lines]


def by_depth(found: Sequence[Region]) -> dict[int, list[Region]]:
    kinds: dict[int, list[Region]] = {}
    for region in found:
        kinds.setdefault(region.depth, []).append(region)
    return kinds


def test_a_loop_that_is_fallen_into() -> None:
    """The block that enters it holds its first round: executions of both are one loop's."""
    path = [("f", 0, 6), *[("f", 4, 4)] * 9, ("f", 12, 1)]
    loop, rest = regions(count_of(path))
    assert (loop.depth, loop.entries, loop.iterations) == (1, 1, 10)
    assert places(loop) == [4, 6, 8, 10]
    assert {line.times for line in loop.lines} == {10}
    assert (rest.depth, rest.entries, rest.iterations) == (0, 1, 0)
    assert places(rest) == [0, 2, 12]


def test_a_loop_that_is_entered_at_its_condition() -> None:
    """Its first address is not its head."""
    condition, body = ("f", 8, 2), ("f", 2, 3)
    path = [("f", 0, 1), condition, *[body, condition] * 7, ("f", 12, 1)]
    loop, rest = regions(count_of(path))
    assert (loop.entries, loop.iterations, places(loop)) == (1, 8, [2, 4, 6, 8, 10])
    assert places(rest) == [0, 12]


def test_inner_loops_are_apart() -> None:
    """Three deep; the outer ones keep what only they run."""
    inner = [("f", 10, 2)] * 5
    middle = [("f", 6, 2), *inner, ("f", 14, 1)] * 4
    path = [("f", 0, 1), *[("f", 2, 2), *middle, ("f", 16, 1)] * 3, ("f", 18, 1)]
    found = by_depth(regions(count_of(path)))
    assert sorted(found) == [0, 1, 2, 3]
    assert [places(r) for depth in range(4) for r in found[depth]] == [
        [0, 18],
        [2, 4, 16],
        [6, 8, 14],
        [10, 12],
    ]
    assert [(r.entries, r.iterations) for depth in (1, 2, 3) for r in found[depth]] == [
        (1, 3),
        (3, 12),
        (12, 60),
    ]


def test_two_ways_through_a_loop() -> None:
    """Both belong to it; the colder one lies behind the function's end."""
    hot = [("f", 2, 1), ("f", 4, 1), ("f", 6, 1)]
    cold = [("f", 2, 1), ("f", 100, 1), ("f", 6, 1)]
    (loop, rest) = regions(count_of([("f", 0, 1), *hot * 5, *cold, *hot, ("f", 8, 1)]))
    assert places(loop) == [2, 4, 6, 100]
    assert {line.address: line.times for line in loop.lines} == {2: 7, 4: 6, 6: 7, 100: 1}
    assert places(rest) == [0, 8]


def test_a_call_in_a_loop() -> None:
    """The caller's loop goes on behind the call; the callee has its own."""
    called = [("g", 50, 1), *[("g", 52, 2)] * 3, ("g", 56, 1)]
    path = [("f", 0, 1), *[("f", 2, 2), *called, ("f", 6, 1)] * 4, ("f", 8, 1)]
    found = regions(count_of(path, calls={4}))
    assert {(r.function, r.depth, r.entries, tuple(places(r))) for r in found} == {
        ("f", 0, 1, (0, 8)),
        ("f", 1, 1, (2, 4, 6)),
        ("g", 0, 4, (50, 56)),
        ("g", 1, 4, (52, 54)),
    }


def test_a_return_leads_nowhere() -> None:
    """Cold code behind a return, which jumps back in front of it, makes no loop of the two."""
    hot, cold = [("g", 50, 2), ("g", 54, 1)], [("g", 50, 2), ("g", 56, 2), ("g", 54, 1)]
    path = [("f", 0, 1)]
    for called in (hot, cold, hot):
        path += [("f", 2, 2), *called, ("f", 6, 1)]
    found = regions(count_of([*path, ("f", 8, 1)], calls={4}))
    assert {(r.function, r.depth, r.entries, tuple(places(r))) for r in found} == {
        ("f", 0, 1, (0, 8)),
        ("f", 1, 1, (2, 4, 6)),
        ("g", 0, 3, (50, 52, 54, 56, 58)),
    }


def test_straight_code_has_no_loop() -> None:
    """One region that was entered as often as it was called."""
    (only,) = regions(count_of([("f", 0, 4), ("f", 8, 2)] * 1))
    assert (only.depth, only.entries, only.iterations) == (0, 1, 0)


def test_blocks_without_causes() -> None:
    """A model of whole blocks: an instruction has the same share of its block as the others."""
    count = count_of([("f", 0, 6), *[("f", 4, 4)] * 9, ("f", 12, 1)], has_causes=False)
    found = regions(count)
    assert all(region.causes is None and region.cycles is not None for region in found)
    assert sum(region.cycles or 0 for region in found) == pytest.approx(count.cycles)


@given(st.integers(0, 10_000), st.integers(1, 60), st.booleans())
def test_regions_add_up(seed: int, steps: int, has_causes: bool) -> None:
    """Whatever ran, in any order: nothing is lost and nothing is counted twice."""
    rng = random.Random(seed)
    starts = [("fg"[rng.randrange(2)], 20 * rng.randrange(6)) for _ in range(4)]
    ends = {(name, address): address + 20 for name, address in starts}
    path = []
    for _ in range(steps):
        name, start = rng.choice(starts)
        begin = start + SIZE * rng.randrange(9)
        path.append((f"{name}{start}", begin, (ends[name, start] - begin) // SIZE))
    count = count_of(path, has_causes=has_causes)
    found = regions(count)
    assert sum(region.instructions for region in found) == count.instructions
    assert sum(region.cycles or 0 for region in found) == pytest.approx(count.cycles)
    if has_causes:
        assert sum((r.causes or Causes() for r in found), Causes()) == count.causes
    places_of = [(r.function, line.address) for r in found for line in r.lines]
    assert len(set(places_of)) == len(places_of)
    assert all(region.entries >= 0 for region in found)
