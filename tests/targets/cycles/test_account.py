"""From traced blocks to costs: every cycle has a cause, an instruction, a block and a function."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from edgekit.targets.cycles.account import Accountant, count_instructions
from edgekit.targets.cycles.costs import Causes, Count
from edgekit.targets.cycles.timed import Access, Timed, TimedBlock
from edgekit.targets.cycles.trace.memory import TICKS_PER_CYCLE
from edgekit.targets.cycles.trace.recorder import Step, TracedBlock

CODE = bytes(range(64))
LOAD = Causes(issue=1, load=1)


class Pipeline:
    """Two-byte instructions: an even first byte is a load, a multiple of four a conditional one."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes]] = []

    def block(self, address: int, code: bytes) -> TimedBlock:
        self.asked.append((address, code))
        lines = tuple(
            Timed(
                address + i,
                2,
                f"load {code[i]}",
                LOAD,
                Access("load", 4),
                conditional=code[i] % 4 == 0,
            )
            for i in range(0, len(code), 2)
        )
        return TimedBlock(
            address,
            len(code),
            lines,
            taken=Causes(branch=2),
            passed=Causes(arithmetic=0.5),
            entry=Causes(fetch=1) if address == 8 else Causes(),
            again=Causes(load=0.25),
        )


def read(address: int, size: int) -> bytes:
    """The code, as far as it goes."""
    return CODE[address : address + size]


def function_at(address: int) -> str:
    """Two functions."""
    return "low" if address < 16 else "high"


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


@pytest.fixture
def accountant(pipeline: Pipeline) -> Accountant:
    return Accountant(pipeline, read, function_at)


def traced(
    address: int,
    size: int,
    following: Iterable[tuple[tuple[int, int], int]],
    *,
    skipped: int = 0,
    fetch: int = 0,
    load: int = 0,
) -> TracedBlock:
    """A block whose first instruction waited or was skipped."""
    edges = dict(following)
    rest = (0,) * (size // 2 - 1)
    return TracedBlock(
        *(address, size, sum(edges.values()), edges),
        *((skipped, *rest), (fetch, *rest), (load, *rest)),
    )


def test_steps_and_jumps_in_ticks(accountant: Accountant, pipeline: Pipeline) -> None:
    """What the recorder asks; each block is decoded once."""
    assert accountant.steps(8, 4) == (
        Step(0, 2, 2 * TICKS_PER_CYCLE, TICKS_PER_CYCLE),
        Step(2, 2, 2 * TICKS_PER_CYCLE, None),
    )
    assert accountant.jump((8, 4), (12, 2)) == TICKS_PER_CYCLE // 2
    assert accountant.jump((8, 4), (40, 2)) == 2 * TICKS_PER_CYCLE
    assert accountant.jump((8, 4), (8, 4)) == 3.25 * TICKS_PER_CYCLE
    assert accountant.jump((40, 2), (8, 2)) == 3 * TICKS_PER_CYCLE
    assert accountant.jump((40, 2), (8, 0)) == 2 * TICKS_PER_CYCLE, "the end of a call has no entry"
    accountant.steps(8, 4)
    assert accountant.steps(60, 4)
    assert len(set(pipeline.asked)) == len(pipeline.asked)
    assert (60, CODE[60:]) in pipeline.asked


@pytest.mark.parametrize(
    ("code", "goes_on"),
    [
        ("00bf", True),
        ("18bf", True),
        ("18bf 0846", True),
        ("fce7", False),
        ("18bf 10bd", False),
        ("00f000f8", False),
        ("00bf fcd1", False),
    ],
)
def test_what_goes_on(code: str, goes_on: bool, pipeline: Pipeline) -> None:
    """NOP, half an IT block; but no branch, call or POP of the program counter, skipped or not."""
    data = bytes.fromhex(code)
    accountant = Accountant(pipeline, lambda address, size: data[:size], function_at)
    assert accountant.goes_on(8, len(data)) is goes_on


def test_cost_of_a_block(accountant: Accountant) -> None:
    """Skipped loads take their issue; waiting and jumps come on top, each by its cause."""
    block = traced(
        8,
        4,
        [((8, 4), 6), ((12, 2), 3), ((40, 2), 1)],
        skipped=4,
        fetch=5 * TICKS_PER_CYCLE,
        load=7 * TICKS_PER_CYCLE,
    )
    count = accountant.count([block])
    (cost,) = count.blocks
    first, last = cost.instructions
    assert first.causes == Causes(issue=10, load=6 + 7, fetch=5)
    jumps = Causes(branch=6 * 2 + 2, fetch=6, load=6 * 0.25, arithmetic=3 * 0.5)
    assert last.causes == Causes(issue=10, load=10) + jumps
    assert first.causes + last.causes == cost.causes == count.causes
    assert cost.cycles == count.cycles == count.causes.total
    assert (cost.address, cost.bytes, cost.times) == (8, 4, 10)
    assert (first.address, first.text, first.times) == (8, "load 8", 10)
    assert cost.following == {8: 6, 12: 3, 40: 1}
    assert (cost.function, count.instructions) == ("low", 20)


def test_functions_and_sums(accountant: Accountant) -> None:
    """Blocks by address, functions by cost; counts add up."""
    one = accountant.count([traced(40, 2, [((8, 4), 5)]), traced(8, 4, [((40, 2), 5)])])
    assert [block.address for block in one.blocks] == [8, 40]
    assert list(one.functions) == ["low", "high"]
    assert one.functions["high"].instructions == 5
    # Both jump, and at address 8 begins a block that jumps are slow to.
    assert one.functions["high"].causes == Causes(issue=5, load=5, branch=10, fetch=5)
    both = one + one
    assert both.functions["low"].cycles == 2 * (one.functions["low"].cycles or 0)
    assert sum(f.instructions for f in both.functions.values()) == both.instructions == 30
    assert accountant.count([]) == Count()


def test_blocks_of_different_sizes_at_one_address(accountant: Accountant) -> None:
    """They stay two; where others went to both, one edge is left."""
    blocks = [traced(8, 4, [((8, 2), 1), ((8, 4), 1)]), traced(8, 2, [((8, 4), 1)])]
    short, long = accountant.count(blocks).blocks
    assert (short.bytes, long.bytes) == (2, 4)
    assert long.following == {8: 2}


def test_instructions_without_a_model() -> None:
    """Cycles and causes are None all the way up; marks of addresses are gone."""
    blocks = [
        TracedBlock(9, 4, 3, {(9, 4): 2, (16, 4): 1}),
        TracedBlock(16, 4, 1, {(0, 0): 1}),
    ]

    def texts(address: int, size: int) -> list[tuple[int, str]]:
        width = 2 if address & 1 else 4
        return [((address & ~1) + i, "x") for i in range(0, size, width)]

    count = count_instructions(blocks, texts, function_at)
    assert (count.instructions, count.cycles, count.causes) == (7, None, None)
    assert [block.address for block in count.blocks] == [8, 16]
    assert count.blocks[0].following == {8: 2, 16: 1}
    assert [line.causes for block in count.blocks for line in block.instructions] == [None] * 3
    assert count.functions["low"].instructions == 6


def test_wrong_predictions() -> None:
    """A branch mostly goes one way, whichever block it ends; other ways are mispredicted."""

    class Predicting(Pipeline):
        def block(self, address: int, code: bytes) -> TimedBlock:
            return replace(super().block(address, code), mispredicted=Causes(branch=8))

    accountant = Accountant(Predicting(), read, function_at)
    # The first round of a loop begins before the loop, and it jumps the only time that it runs.
    first = traced(8, 8, [((12, 4), 1)])
    rounds = traced(12, 4, [((12, 4), 8), ((16, 4), 1)])
    forward = traced(40, 2, [((48, 2), 5)])
    plain = Accountant(Pipeline(), read, function_at)
    for blocks, wrong in (([first, rounds], 1), ([forward], 0), ([rounds, forward], 1)):
        got, without = accountant.count(blocks).causes, plain.count(blocks).causes
        assert got is not None
        assert without is not None
        assert got == without + Causes(branch=8 * wrong)


def test_addresses_can_be_moved() -> None:
    """Edges move along."""
    block = TracedBlock(0x1001, 4, 3, {(0x1001, 4): 2, (0x1000, 0): 1})
    assert block.moved(-0x1000) == TracedBlock(1, 4, 3, {(1, 4): 2, (0, 0): 1})
