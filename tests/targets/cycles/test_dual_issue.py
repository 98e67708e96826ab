"""Cycles of the Cortex-M7: which instructions issue together, and what waits for what."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edgekit.targets.cycles.costs import Causes
from tests.support.thumb import ADDRESS, cycles, timed

M7 = "cortex-m7"


def total(*texts: str) -> float:
    return sum(cycles(M7, *texts))


@pytest.mark.parametrize(
    ("older", "younger"),
    [
        ("movs r0, #1", "lsls r2, r1, #2"),
        ("adds r0, r0, r1", "adds r3, r3, r4"),
        ("ldr r0, [r1]", "adds r3, r3, r4"),
        ("ldr r0, [r1]", "ldr r2, [r3]"),
        ("ldr r0, [r1]", "str r2, [r3]"),
        ("smlad r5, r6, r7, r5", "adds r3, r3, r4"),
        ("smlad r5, r6, r7, r5", "ldr r2, [r3]"),
        ("uxtb r0, r1", "adds r3, r3, r4"),
        ("uxtb r0, r1", "smlad r5, r6, r7, r5"),
        ("sadd16 r3, r4, r5", "add.w r0, r1, r2, lsl #3"),
        ("add.w r0, r1, r2, lsl #3", "adds r3, r3, r4"),
        ("vadd.f32 s0, s1, s2", "adds r3, r3, r4"),
        ("vadd.f32 s0, s1, s2", "vldr s6, [r0]"),
        ("adds r3, r3, r4", "bx lr"),
        # Forwarded within the cycle: a sum to a sum, half words to a constant, anything to memory.
        ("add.w r0, r0, r1", "add.w r2, r2, r0"),
        ("movw r0, #0x1234", "movt r0, #0x5678"),
        ("ldr r0, [r1]", "str r0, [r3, #0x14]"),
        ("adds r0, r0, r1", "str r0, [r3, #0x14]"),
        ("adds r0, r0, r1", "mla r4, r1, r2, r0"),
    ],
)
def test_these_issue_together(older: str, younger: str) -> None:
    assert cycles(M7, older, younger) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("older", "younger"),
    [
        # One of each a cycle.
        ("str r2, [r3]", "strb r0, [r1]"),
        ("smlad r5, r6, r7, r5", "mul r0, r0, r1"),
        ("add.w r0, r1, r2, lsl #3", "add.w r3, r4, r5, lsl #2"),
        ("uxtb r0, r1", "sxtb16 r3, r4"),
        ("vadd.f32 s0, s1, s2", "vmul.f32 s3, s4, s5"),
        # Packed arithmetic is no second one, and a bit field needs the shifter.
        ("adds r3, r3, r4", "uxtb r0, r1"),
        ("uxtb r0, r1", "add.w r3, r4, r5, lsl #2"),
        # Products have no room beside stores, nor float ones beside moves of float registers.
        ("smlad r5, r6, r7, r5", "str r2, [r3]"),
        ("vfma.f32 s0, s1, s2", "vldr s6, [r0]"),
        # Always alone.
        ("ldm r0!, {r1, r2, r3}", "adds r4, #4"),
        ("adds r4, #4", "ldrd r0, r1, [r2]"),
        ("mrs r0, primask", "adds r4, #4"),
        # Both loads are of even words.
        ("ldr r0, [r1]", "ldr r2, [r1, #8]"),
        # The second result would be lost.
        ("adds r0, r0, r1", "mvns r0, r4"),
    ],
)
def test_these_do_not(older: str, younger: str) -> None:
    assert cycles(M7, older, younger)[1] == 1


@pytest.mark.parametrize(
    ("texts", "distance"),
    [
        # Behind the second stage: the next cycle, one more for an address or a shifter.
        (("mvns r0, r1", "adds r0, r0, r1"), 1),
        (("mvns r0, r1", "ldr r2, [r0]"), 2),
        (("mvns r2, r1", "add.w r0, r1, r2, lsl #3"), 2),
        # Behind the first stage, nothing waits longer than a cycle.
        (("add.w r0, r0, r1", "ldr r2, [r0]"), 1),
        # Packed arithmetic.
        (("uxtb r0, r1", "adds r0, r0, r1"), 1),
        (("uxtb r0, r1", "ldr r2, [r0]"), 2),
        # Loads.
        (("ldr r0, [r1]", "adds r0, r0, r1"), 1),
        (("ldrb r0, [r1]", "adds r0, r0, r1"), 2),
        (("ldr r0, [r1]", "ldr r2, [r0]"), 2),
        (("ldrb r0, [r1]", "ldr r2, [r0]"), 3),
        (("ldr r0, [r1]", "uxtab r1, r0, r2"), 2),
        (("ldr r0, [r1]", "mul r0, r0, r1"), 2),
        (("ldr r5, [r4]", "smlad r5, r6, r7, r5"), 1),
        (("ldr r0, [r1], #4", "ldr r2, [r1], #4"), 1),
        # Products.
        (("mul r0, r0, r1", "adds r0, r0, r1"), 2),
        (("mul r0, r0, r1", "ldr r2, [r0]"), 3),
        (("mul r0, r0, r1", "mul r0, r0, r1"), 2),
        (("smlad r5, r6, r7, r5", "smlad r5, r6, r7, r5"), 1),
        (("usada8 r5, r6, r7, r5", "usada8 r5, r6, r7, r5"), 1),
        (("usada8 r5, r6, r7, r5", "adds r5, r5, r6"), 2),
        # Floating point.
        (("vadd.f32 s0, s1, s2", "vmul.f32 s3, s0, s2"), 3),
        (("vfma.f32 s0, s1, s2", "vfma.f32 s0, s1, s2"), 3),
        (("vfma.f32 s0, s1, s2", "vfma.f32 s3, s0, s2"), 5),
        (("vmla.f32 s3, s4, s5", "vmul.f32 s4, s3, s4"), 6),
        (("vldr s0, [r0]", "vmul.f32 s3, s0, s2"), 1),
        (("vadd.f32 s0, s1, s2", "vstr s0, [r0]"), 1),
    ],
)
def test_distances(texts: tuple[str, ...], distance: int) -> None:
    """Cycles from the issue of one to that of what uses its result."""
    assert total(*texts) == distance + 1


def test_waiting_is_booked_on_what_is_waited_for() -> None:
    loads = timed(M7, "ldr r0, [r1]", "mul r0, r0, r1").instructions[1].causes
    assert loads == Causes(issue=1, load=1)
    products = timed(M7, "mul r0, r0, r1", "adds r0, r0, r1").instructions[1].causes
    assert products == Causes(issue=1, arithmetic=1)


@pytest.mark.parametrize(
    ("text", "figure"),
    [
        ("ldm r0!, {r1, r2, r3}", 2),
        ("stm r0!, {r1, r2, r3}", 2),
        ("push {r4, lr}", 1),
        ("ldrd r0, r1, [r2]", 1),
        ("vldmia r0!, {s0, s1, s2, s3}", 2),
        ("sdiv r0, r1, r2", 7),
        ("vdiv.f32 s0, s1, s2", 16),
        ("vsqrt.f32 s0, s1", 14),
    ],
)
def test_instructions_of_several_cycles(text: str, figure: int) -> None:
    assert cycles(M7, text, "adds r4, #4") == [figure, 1]


def test_a_chain_of_sums_takes_a_cycle_each() -> None:
    """The first two of a chain go together, the others wait for the second stage."""
    assert total(*["add.w r0, r0, r1"] * 12) - total(*["add.w r0, r0, r1"] * 2) == 10


def test_branches_are_predicted() -> None:
    """In both directions; a wrong one costs, less with early flags, and one by a table is wrong."""
    for branch in ("fdd1", "05d1"):
        block = timed(M7, "adds r0, r0, r1", branch)
        assert block.jump(ADDRESS) == block.jump(block.end) == block.jump(0x2000) == Causes()
        assert block.mispredicted == Causes(branch=8)
    settled = timed(M7, "cmp r0, #1", *["mul r0, r0, r1"] * 3, "05d1")
    assert settled.mispredicted == Causes(branch=6)
    for text in ("bx lr", "pop {r4, pc}", "fff7fdff"):
        block = timed(M7, text)
        assert block.passed is None
        assert block.jump(0x2000) == block.mispredicted == Causes()
    assert timed(M7, "tbb [pc, r0]").jump(0x2000) == Causes(branch=8)


def test_later_rounds_of_a_loop_wait_for_earlier_ones() -> None:
    """One round has all it needs; in a row, each waits for the sum of the one before."""
    loop = timed(M7, "vadd.f32 s3, s0, s3", "fcd1")
    assert loop.causes.total == 1
    assert loop.jump(ADDRESS) == Causes(arithmetic=2)
    assert loop.again == Causes(arithmetic=2)
    assert loop.jump(0x800) == Causes()
    independent = timed(M7, "vmul.f32 s3, s4, s5", "fcd1")
    assert independent.again == Causes()


def test_every_cycle_is_booked_once() -> None:
    """Issues are halves and wholes that add up to the cycles in which something issued."""
    texts = ["ldr r0, [r1]", "ldr r2, [r3]", "smlad r5, r0, r2, r5", "adds r4, #4", "bx lr"]
    block = timed(M7, *texts)
    assert [one.causes.issue for one in block.instructions] == [0.5, 0.5, 0.5, 0.5, 1]
    assert block.causes == Causes(issue=3, load=1)
    for few, many in pairwise(range(1, len(texts) + 1)):
        assert total(*texts[:few]) <= total(*texts[:many])
