"""The Cortex-M55: what its code takes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from edgekit.targets.cores import CORES
from edgekit.targets.cycles.costs import Causes
from edgekit.targets.cycles.pipelines.choice import timing_of
from edgekit.targets.cycles.thumb.mve import decode
from edgekit.targets.cycles.timed import Access, TimedBlock
from tests.support.helium import ask_llvm, assemble, examples, words

GCC = "arm-none-eabi-gcc"
ADDRESS = 0x1000_0000
REFILL = 2


def block(*lines: str, address: int = ADDRESS) -> TimedBlock:
    """These instructions as a block of the Cortex-M55."""
    return timing_of(CORES["cortex-m55"]).block(address, assemble(lines))


def cycles(*lines: str) -> list[float]:
    """Of each of these instructions where it stands."""
    return [one.causes.total for one in block(*lines).instructions]


def rounds(*lines: str) -> float:
    """Of one of many rounds of a loop of these instructions that costs nothing itself."""
    loop = block(*lines, f"le lr, .-{len(assemble(lines))}")
    return loop.causes.total + loop.jump(ADDRESS).total


@pytest.mark.needs(GCC, "llvm-mca")
def test_pipes_and_latencies_are_llvms() -> None:
    """Instruction by instruction; it adds what a gathered address waits for to the latency."""
    loops = r"(lctp|letp|le|wls|dls|clrm|vscclrm|lsll .*r10|cs|.*\.i64|v(mov|mvn)\.i32 q7, #0x40ff)"
    lines = [line for line in examples() if not re.match(loops, line)]
    told = ask_llvm(lines, "-instruction-info", "-resource-pressure")
    latencies = re.findall(r"^ \d+ +(\d+) +[\d.]+ ", told, re.M)
    pressure = told[told.index("pressure by instruction") :].splitlines()[2:]
    pipes = ("core", "memory", "integer", "multiply", "control")
    wrong = []
    for line, word, latency, row in zip(lines, words(lines), latencies, pressure, strict=False):
        found = decode(ADDRESS, word)
        assert found is not None
        busy = [p for p, cell in zip(pipes, row.split()[:5], strict=True) if cell != "-"]
        waits = 4 if found.vector_address else 0
        pipe = found.pipe if found.pipe != "either" else busy[0]
        if (int(latency), busy) != (found.latency + waits, [pipe]):
            wrong.append(f"{line}: LLVM {latency} {busy}, ours {found.latency} {found.pipe}")
    assert len(latencies) == len(lines)
    assert not wrong, "\n".join(wrong[:20])


SEQUENCES = (
    ("vldrb.8 q0,[r0],#16", "vldrb.8 q1,[r1],#16", "vmladava.s8 r2,q0,q1"),
    ("vldrw.32 q0,[r0],#16", "vadd.i32 q1,q0,q2", "vmul.i32 q3,q1,q4", "vstrw.32 q3,[r1],#16"),
    ("vldrw.32 q0,[r0],#16", "vmul.i32 q3,q0,q4", "vadd.i32 q1,q3,q2", "vstrw.32 q1,[r1],#16"),
    ("vmladava.s8 r2,q0,q1", "adds r2,r2,#1"),
    ("vmladava.s8 r2,q0,q1", "vmladava.s8 r2,q3,q1"),
    ("vmaxv.s8 r0,q1", "add r1,r0,r2"),
    ("vmovnb.i16 q0,q1", "vstrb.16 q0,[r0],#8"),
    ("vshl.s32 q0,q1,q2", "vqrdmulh.s32 q0,q0,q3", "vrshl.s32 q0,q0,q4", "vadd.i32 q0,q0,r0"),
    ("vldrb.s16 q0,[r0,q1]", "vadd.i16 q0,q0,q0"),
    ("vadd.i32 q1,q1,q2", "vldrw.u32 q0,[r0,q1]"),
    ("mul r0,r1,r2", "add r3,r0,r4"),
    ("ldr r0,[r1]", "ldr r2,[r3]", "add r0,r0,r2"),
    ("adds r0,r1,r2", "mov r3,r4"),
    ("eors r0,r1", "eors r2,r3"),
    ("uxtb r0,r1", "uxtb r2,r3"),
    ("add.w r0,r1,r2,lsl #2", "add.w r3,r0,r2"),
    ("vadd.f32 s0,s1,s2", "vadd.f32 s3,s0,s2"),
    ("vfma.f32 s0,s1,s2",),
    ("vldr s0,[r0]", "vadd.f32 s1,s0,s1"),
    ("vfma.f32 q0,q1,q2", "vldrw.32 q1,[r0],#16"),
    ("vmov.32 q0[1],r0", "vadd.i32 q1,q0,q1"),
    ("vmov r0,r1,q0[2],q0[0]", "add r0,r0,r2"),
    ("vddup.u8 q0,r0,#1", "vadd.i8 q1,q1,q0"),
    ("lsll r0,r1,#3", "add r0,r0,r2"),
    ("vadd.f64 d0,d1,d2", "vadd.f64 d3,d0,d2"),
    ("vdiv.f32 s0,s1,s2", "vadd.f32 s3,s0,s4"),
    ("vmov s0,r0", "vadd.f32 s1,s0,s1"),
    ("ubfx r0,r1,#3,#4", "add r0,r0,r2"),
)


@pytest.mark.parametrize("lines", SEQUENCES, ids="; ".join)
@pytest.mark.needs(GCC, "llvm-mca")
def test_sequences_take_what_llvm_says(lines: Sequence[str]) -> None:
    """In a loop, round by round."""
    total = re.search(r"Total Cycles: +(\d+)", ask_llvm(lines, "-summary-view", rounds=1000))
    assert total is not None
    assert rounds(*lines) == pytest.approx(int(total[1]) / 1000, abs=0.02)


@pytest.mark.needs(GCC)
def test_vectors_overlap_across_pipes_only() -> None:
    """By hand: two cycles a pipe, the next pipe one cycle behind."""
    assert cycles("vldrw.32 q0, [r0]", "vadd.i32 q1, q0, q0", "vmul.i32 q2, q1, q1") == [1, 1, 1]
    assert cycles("vldrw.32 q0, [r0]", "vldrw.32 q1, [r1]", "vldrw.32 q2, [r1]") == [1, 2, 2]
    assert cycles("vmul.i32 q2, q1, q1", "vadd.i32 q1, q2, q0") == [1, 2]
    # The memory pipe serves both; LLVM's model keeps them apart.
    assert cycles("vldrw.32 q0, [r0]", "ldr r1, [r2]") == [1, 2]
    waiting = block("vldrw.32 q0, [r0]", "vldrw.32 q1, [r1]", "vmul.i32 q2, q1, q1", "vmvn q0, q2")
    assert waiting.causes == Causes(issue=4, load=1, arithmetic=1)


@pytest.mark.needs(GCC)
def test_dot_product() -> None:
    """16 products in four cycles: two loads of two cycles each, all else beside them."""
    lines = ("vldrb.8 q0, [r0], #16", "vldrb.8 q1, [r1], #16", "vmladava.s8 r2, q0, q1")
    assert rounds(*lines) == 4
    # Four rows for one load of the other operand: 64 products in ten cycles.
    rows = [f"vldrb.8 q1, [r{1 + i}], #16\nvmladava.s8 r{6 + 2 * i}, q0, q1" for i in range(4)]
    assert rounds("vldrb.8 q0, [r0], #16", *"\n".join(rows).split("\n")) == 10


@pytest.mark.needs(GCC)
def test_loops_and_branches() -> None:
    """LE costs nothing but at the ends of a loop; every other jump refills."""
    loop = block("adds r0, #1", "le lr, .-2")
    assert loop.instructions[-1].causes == Causes()
    assert loop.jump(ADDRESS) == Causes()
    assert loop.jump(loop.end) == Causes(issue=2, branch=REFILL)
    conditional = block("cmp r0, #1", "bne .-2")
    assert conditional.jump(ADDRESS) == Causes(branch=REFILL)
    assert conditional.jump(conditional.end) == Causes()
    assert block("bx lr").jump(0x2000) == Causes(branch=REFILL)
    call = block("bl .+400")
    assert call.jump(ADDRESS + 400).total + call.causes.total == 1 + REFILL
    assert call.passed is None
    skipped = block("wls lr, r0, .+20")
    assert (skipped.jump(skipped.end), skipped.jump(0)) == (Causes(), Causes(branch=REFILL))
    assert block("le .-8").passed is None


@pytest.mark.needs(GCC)
def test_results_wait_from_round_to_round() -> None:
    """A value loaded at the end of a loop is waited for at its beginning, if nothing else is."""
    assert rounds("add r1, r0, r2", "ldr r0, [r3]") == 3
    loop = block("add r1, r0, r2", "ldr r0, [r3]", "b .-4")
    # The branch issues beside the load, and gives it time.
    assert loop.causes.total + loop.jump(ADDRESS).total == 2 + REFILL


@pytest.mark.needs(GCC)
def test_scalar_instructions() -> None:
    assert cycles("ldr r0, [r1]", "adds r2, #1", "add r0, r0, r2") == [0.5, 0.5, 2]
    assert cycles("adds r0, #1", "adds r1, #1") == [1, 1], "both set the flags"
    assert cycles("mov r0, r1", "mov r2, r3", "mov r4, r5") == [0.5, 0.5, 1]
    assert cycles("add.w r0, r0, #1", "add.w r1, r1, #1") == [1, 1], "32-bit ones do not pair"
    assert cycles("cmp r0, #1", "bne .") == [1, 1], "needs the flags"
    assert cycles("sdiv r0, r1, r2", "add r3, r0, r1") == [7, 1]
    assert cycles("ldm r0!, {r1-r5}", "add r6, r5, r1") == [3, 2]
    assert cycles("push {r4, lr}") == [1]
    assert cycles("vdiv.f32 s0, s1, s2", "vadd.f32 s3, s4, s5", "add r0, r1, r2") == [1, 16, 1]
    assert cycles("vmla.f32 s0, s1, s2", "vadd.f32 s3, s0, s0") == [1, 4]
    assert cycles("vmov r0, s0", "add r1, r0, r0") == [1, 1]
    assert cycles("vcmp.f32 s0, s1", "vmrs APSR_nzcv, fpscr") == [1, 1]
    assert cycles("csel r0, r1, r2, eq", "add r3, r0, r0") == [1, 1]
    assert cycles("vmov.f64 d0, d1", "vmul.f64 d2, d0, d0", "vadd.f64 d3, d2, d2") == [1, 1, 21]


@pytest.mark.needs(GCC)
def test_accesses() -> None:
    """Bytes that vector accesses move: whole vectors, widened lanes, gathered lanes."""
    wanted = {
        "vldrb.8 q0, [r0]": Access("load", 16),
        "vldrw.32 q0, [r0], #16": Access("load", 16),
        "vldrb.s16 q0, [r0]": Access("load", 8),
        "vldrb.u32 q0, [r0], #4": Access("load", 4),
        "vldrh.s32 q0, [r0]": Access("load", 8),
        "vstrb.16 q0, [r0]": Access("store", 8),
        "vstrh.16 q0, [r0]": Access("store", 16),
        "vldrb.u32 q0, [r0, q1]": Access("load", 4),
        "vldrh.u16 q0, [r0, q1]": Access("load", 16),
        "vldrd.u64 q0, [r0, q1]": Access("load", 16),
        "vstrh.32 q0, [r0, q1]": Access("store", 8),
        "vldrw.u32 q0, [q1, #4]": Access("load", 16),
        "vld20.8 {q0, q1}, [r0]": Access("load", 16),
        "vadd.i32 q0, q1, q2": None,
        "ldrd r0, r1, [r2]": Access("load", 8),
    }
    assert {line: block(line).instructions[0].access for line in wanted} == wanted


@pytest.mark.needs(GCC)
def test_conditions_reach_across_helium() -> None:
    """The instructions behind IT are conditional, 64-bit shifts among them."""
    lines = ("vadd.i32 q0, q1, q2", "itte ne", "addne r0, #1", "lsllne r0, r1, #3", "moveq r0, r2")
    found = block(*lines, "vadd.i32 q0, q1, q2").instructions
    assert [i.conditional for i in found] == [False, False, True, True, True, False]
    assert [i.text.split()[0] for i in found][2:5] == ["addne", "lsll", "moveq"]
