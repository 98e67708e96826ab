"""Cycles of single-issue pipelines, instruction by instruction, as the manuals have them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.errors import UnsupportedError
from edgekit.targets.cores import CORES
from edgekit.targets.cycles.costs import Causes
from edgekit.targets.cycles.pipelines.choice import timing_of
from edgekit.targets.cycles.timed import Access
from tests.support.thumb import ADDRESS, ENCODINGS, cycles, timed

ARMV7 = ("cortex-m3", "cortex-m4", "cortex-m33")
FLOAT = ("cortex-m4", "cortex-m33")
BACKWARDS = "fde7"
CONDITIONAL = "fdd1"


def test_a_core_without_a_table_says_which_have_one() -> None:
    core = replace(CORES["cortex-m7"], name="cortex-m99", cycles=None)
    with pytest.raises(UnsupportedError, match=r"cortex-m99 .* cortex-m0plus, cortex-m3, cortex-m"):
        timing_of(core)


@pytest.mark.parametrize(
    ("text", "m0plus", "m3", "m4"),
    [
        ("movs r0, #1", 1, 1, 1),
        ("adds r0, r0, r1", 1, 1, 1),
        ("cmp r0, #1", 1, 1, 1),
        ("lsls r0, r1, #2", 1, 1, 1),
        ("uxtb r0, r1", 1, 1, 1),
        ("muls r0, r2, r0", 1, 1, 1),
        ("nop", 1, 1, 1),
        ("mrs r0, primask", 3, 2, 2),
        ("cpsid i", 1, 2, 2),
        ("dmb sy", 3, 1, 1),
        ("isb sy", 3, 4, 4),
        ("ldr r0, [r1]", 2, 2, 2),
        ("ldr r0, [r1, r2]", 2, 2, 2),
        ("ldr r0, [pc, #8]", 2, 2, 2),
        ("ldrb r0, [r1]", 2, 2, 2),
        ("str r2, [r3]", 2, 1, 1),
        ("str r1, [r3, r2]", 2, 2, 2),
        ("ldm r0!, {r1, r2, r3}", 4, 4, 4),
        ("stm r0!, {r1, r2, r3}", 4, 4, 4),
        ("push {r4, lr}", 3, 3, 3),
        ("pop {r4}", 2, 2, 2),
        ("ldr r0, [r1], #4", None, 2, 2),
        ("str r0, [r1], #4", None, 1, 1),
        ("ldrd r0, r1, [r2]", None, 3, 3),
        ("strd r0, r1, [r2]", None, 3, 3),
        ("ldrex r0, [r1]", None, 2, 2),
        ("strex r3, r2, [r1]", None, 2, 2),
        ("add.w r0, r1, r2, lsl #3", None, 1, 1),
        ("mla r0, r1, r2, r0", None, 2, 1),
        ("mls r0, r1, r2, r0", None, 2, 1),
        ("smull r0, r1, r2, r3", None, 5, 1),
        ("umlal r0, r1, r2, r3", None, 7, 1),
        ("sdiv r0, r1, r2", None, 7, 7),
        ("it ne", None, 1, 1),
        ("smlad r5, r6, r7, r5", None, None, 1),
        ("usada8 r5, r6, r7, r5", None, None, 1),
        ("sxtb16 r3, r4", None, None, 1),
        ("sadd16 r3, r4, r5", None, None, 1),
        ("vadd.f32 s0, s1, s2", None, None, 1),
        ("vcmp.f32 s0, s1", None, None, 1),
        ("vcvt.f32.s32 s0, s0", None, None, 1),
        ("vmov.f32 s0, s1", None, None, 1),
        ("vmrs apsr_nzcv, fpscr", None, None, 1),
        ("vmov r0, s0", None, None, 2),
        ("vmov d0, r0, r1", None, None, 2),
        ("vfma.f32 s0, s1, s2", None, None, 3),
        ("vmla.f32 s3, s4, s5", None, None, 3),
        ("vdiv.f32 s0, s1, s2", None, None, 14),
        ("vsqrt.f32 s0, s1", None, None, 14),
        ("vldr s0, [r0]", None, None, 2),
        ("vldr d0, [r0]", None, None, 3),
        ("vstr s0, [r0]", None, None, 2),
        ("vldmia r0!, {s0, s1, s2, s3}", None, None, 5),
        ("vpush {d8, d9}", None, None, 5),
    ],
)
def test_instructions_alone(text: str, m0plus: int | None, m3: int | None, m4: int | None) -> None:
    """Table 3-1 of each manual."""
    wanted = {"cortex-m0plus": m0plus, "cortex-m3": m3, "cortex-m4": m4, "cortex-m33": m4}
    for core, figure in wanted.items():
        if figure is not None:
            assert cycles(core, text) == [figure], core


@pytest.mark.parametrize(
    ("texts", "total"),
    [
        # The examples of 3.3.2.
        (("ldr r0, [r1]", "ldr r2, [r3]"), 3),
        (("ldr r0, [r1, r2]", "str r0, [r3, #0x14]"), 3),
        (("ldr r0, [r1, r2]", "str r1, [r3, r2]"), 3),
        (("ldr r0, [r1, r2]", "ldr r2, [r3]", "ldr r4, [r5, #4]"), 4),
        # The address is what the load before brings.
        (("ldr r0, [r1]", "ldr r2, [r0]"), 4),
        (("ldr r0, [r1]", "str r2, [r0, #4]"), 3),
        # Nothing overlaps behind a store, beside multiple accesses, or with arithmetic between.
        (("str r2, [r3]", "ldr r0, [r1]"), 3),
        (("str r1, [r3, r2]", "ldr r0, [r1]"), 4),
        (("ldr r0, [r1]", "ldm r0!, {r1, r2, r3}"), 6),
        (("ldr r4, [r5, #4]", "ldm r0!, {r1, r2, r3}", "ldr r5, [r4]"), 8),
        (("ldrd r0, r1, [r2]", "ldrd r0, r1, [r2]"), 6),
        (("ldr r0, [r1]", "nop", "ldr r2, [r3]"), 5),
        # LDREX overlaps as LDR does.
        (("ldrex r0, [r1]", "ldr r2, [r3]"), 3),
        # Data processing has no path to an address.
        (("adds r1, #4", "ldr r0, [r1]"), 4),
        (("adds r1, #4", "nop", "ldr r0, [r1]"), 4),
        (("adds r4, #4", "ldr r0, [r1]"), 3),
        (("adds r0, r0, r1", "str r0, [r3, #0x14]"), 2),
        (("sub sp, #8", "push {r4, lr}"), 5),
        (("adds r0, r0, r1", "ldm r0!, {r1, r2, r3}"), 6),
        # A base register that an access changed is computed too.
        (("ldr r0, [r1], #4", "ldr r2, [r1], #4"), 4),
        (("str r0, [r1], #4", "str r2, [r1], #4"), 3),
        (("str r0, [r1], #4", "str r2, [r3], #4"), 2),
        # IT disappears behind 16 bits only.
        (("cmp r0, #1", "it ne", "movne r0, #1"), 2),
        (("add.w r0, r0, r1", "it ne", "movne r0, #1"), 3),
        # Under the same condition both run or none, under opposite ones only one of them ...
        (("itt eq", "ldreq r0, [r1]", "ldreq r2, [r3]"), 4),
        (("ite eq", "ldreq r0, [r1]", "ldrne r2, [r3]"), 5),
        (("itt eq", "addeq r1, #4", "ldreq r0, [r1]"), 5),
        (("ite eq", "addeq r1, #4", "ldrne r0, [r1]"), 4),
        # ... unless the first changes the flags: addseq.w r1, r1, #4.
        (("ite eq", "11f10401", "ldrne r0, [r1]"), 5),
    ],
)
@pytest.mark.parametrize("core", ARMV7)
def test_neighbours(core: str, texts: tuple[str, ...], total: int) -> None:
    """3.3.2 of the manuals of M3 and M4; on the M0+ nothing depends on neighbours."""
    assert sum(cycles(core, *texts)) == total


def test_indexed_accesses_behind_a_load() -> None:
    """Measured: on the M3 they do not overlap with it, on the M4 only the same base hinders."""
    loads = ("ldr r0, [r1], #4", "ldr r2, [r3], #4")
    store = ("ldr r0, [r1]", "str r2, [r3], #4")
    assert sum(cycles("cortex-m3", *loads)) == 4
    assert sum(cycles("cortex-m4", *loads)) == 3
    assert sum(cycles("cortex-m3", *store)) == 4
    assert sum(cycles("cortex-m4", *store)) == 3


def test_the_m0plus_knows_no_neighbours() -> None:
    texts = [t for t in ENCODINGS if len(ENCODINGS[t]) == 4 and not t.startswith("it")]
    straight = [t for t in texts if timed("cortex-m0plus", t).taken == Causes()]
    assert len(straight) > 20
    apart = [cycles("cortex-m0plus", text)[0] for text in straight]
    assert cycles("cortex-m0plus", *straight) == apart


@pytest.mark.parametrize(
    ("texts", "total"),
    [
        # A result that the next instruction uses takes one cycle longer ...
        (("vadd.f32 s0, s1, s2", "vmul.f32 s3, s0, s2"), 3),
        (("vadd.f32 s0, s1, s2", "vmul.f32 s3, s4, s5"), 2),
        (("vadd.f32 s0, s1, s2", "nop", "vmul.f32 s3, s0, s2"), 3),
        (("vadd.f32 s0, s1, s2", "vmov r0, s0"), 4),
        (("vfma.f32 s0, s1, s2", "vfma.f32 s3, s0, s2"), 7),
        # ... but not as an addend, and not if it was only moved or loaded, or is a flag.
        (("vadd.f32 s0, s1, s2", "vfma.f32 s0, s1, s2"), 4),
        (("vfma.f32 s0, s1, s2", "vfma.f32 s0, s1, s2"), 6),
        (("vmov.f32 s0, s1", "vmul.f32 s3, s0, s2"), 2),
        (("vldr s0, [r0]", "vmul.f32 s3, s0, s2"), 3),
        (("vcmp.f32 s0, s1", "vmrs apsr_nzcv, fpscr"), 2),
        # Single loads overlap.
        (("vldr s0, [r0]", "vldr s1, [r1]"), 3),
        (("vldr d0, [r0]", "vldr s1, [r1]"), 5),
        # Integer instructions run beside a division; the unit and the end of the block wait.
        (("vdiv.f32 s0, s1, s2", "nop", "nop"), 14),
        (("vdiv.f32 s0, s1, s2", *["nop"] * 20), 21),
        (("vdiv.f32 s0, s1, s2", "nop", "vmul.f32 s3, s4, s5", "nop"), 16),
        (("vdiv.f32 s0, s1, s2", "vmul.f32 s3, s0, s2"), 16),
        (("vsqrt.f32 s0, s1", "vdiv.f32 s0, s1, s2"), 28),
    ],
)
@pytest.mark.parametrize("core", FLOAT)
def test_floating_point_neighbours(core: str, texts: tuple[str, ...], total: int) -> None:
    """The notes under the FPU's table."""
    assert sum(cycles(core, *texts)) == total


@pytest.mark.parametrize(
    ("texts", "m0plus", "armv7"),
    [
        ((BACKWARDS,), 2, 2),
        (("fff7fdff",), 3, 2),
        (("bx lr",), 2, 3),
        (("blx r3",), 2, 3),
        (("mov pc, r0",), 2, 3),
        (("add pc, r0",), 2, 3),
        # N counts the program counter.
        (("pop {r4, pc}",), 5, 6),
        (("ldr.w pc, [r0]",), None, 5),
        (("tbb [pc, r0]",), None, 6),
        (("tbh [pc, r0, lsl #1]",), None, 6),
        # Loading the program counter overlaps with nothing.
        (("ldr r2, [r3]", "ldr.w pc, [r0]"), None, 7),
    ],
)
def test_jumps(texts: tuple[str, ...], m0plus: int | None, armv7: int) -> None:
    """What always jumps, with its own cycles."""
    for core in ("cortex-m0plus", *ARMV7):
        wanted = m0plus if core == "cortex-m0plus" else armv7
        if wanted is not None:
            block = timed(core, *texts)
            assert block.passed is None
            for following in (block.end, block.address, 0x2000):
                jump = block.jump(following)
                assert (block.causes + jump).total == wanted, core
                assert jump == Causes(branch=jump.branch)


@pytest.mark.parametrize("core", ["cortex-m0plus", *ARMV7])
def test_conditional_branches(core: str) -> None:
    """2 taken, 1 not taken, on all of these cores."""
    block = timed(core, "nop", CONDITIONAL)
    assert block.causes == Causes(issue=2)
    assert block.jump(block.end) == Causes()
    assert block.jump(0x2000) == Causes(branch=1)


@pytest.mark.parametrize("core", ARMV7)
def test_alignment_of_targets(core: str) -> None:
    """A jump to 32 bits across a word border refills one cycle longer, but never over three."""
    divided = timed(core, "add.w r0, r0, r1", address=ADDRESS + 2)
    assert divided.entry == Causes(branch=1)
    assert timed(core, "add.w r0, r0, r1").entry == Causes()
    assert timed(core, "nop", address=ADDRESS + 2).entry == Causes()
    for text, longest in ((BACKWARDS, 2), ("bx lr", 3), ("pop {r4, pc}", 3), ("tbb [pc, r0]", 3)):
        assert timed(core, text).jump(divided.address, divided.entry).branch == longest
    passing = timed(core, CONDITIONAL)
    assert passing.jump(passing.end, divided.entry) == Causes()
    assert timed("cortex-m0plus", "fff7fdff", address=ADDRESS + 2).entry == Causes()


def test_causes_and_accesses() -> None:
    """Each cycle is booked on the instruction and the cause that it belongs to."""
    block = timed(
        "cortex-m4",
        "ldr r0, [r1]",
        "ldr r2, [r3]",
        "adds r1, #4",
        "ldr r0, [r1]",
        "sdiv r0, r1, r2",
        "it ne",
        "movne r0, #1",
        "pop {r4, pc}",
    )
    causes = [one.causes for one in block.instructions]
    assert causes == [
        Causes(issue=1),
        Causes(issue=1, load=1),
        Causes(issue=1),
        Causes(issue=1, load=2),
        Causes(issue=1, arithmetic=6),
        Causes(issue=1),
        Causes(issue=1),
        Causes(issue=1, load=2),
    ]
    assert block.causes == Causes(issue=8, load=5, arithmetic=6)
    accesses = [one.access for one in block.instructions]
    load = Access("load", 4)
    assert accesses == [load, load, None, load, None, None, None, Access("load", 8)]
    assert [one.conditional for one in block.instructions] == [False] * 6 + [True, False]
    assert [one.address for one in block.instructions][:3] == [ADDRESS, ADDRESS + 2, ADDRESS + 4]
    assert block.instructions[0].text == "ldr r0, [r1]"
    assert (block.address, block.end) == (ADDRESS, ADDRESS + 18)
