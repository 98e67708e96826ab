"""Thumb code to instructions: text, class, registers, access, jump."""

from __future__ import annotations

import pytest

from edgekit.errors import EmulationError
from edgekit.targets.cycles.thumb.decode import Disassembler
from edgekit.targets.cycles.thumb.instructions import Branch, Instruction, Kind
from edgekit.targets.cycles.timed import Access
from tests.support.thumb import ADDRESS, ENCODINGS, assembled


def decoded(text: str) -> Instruction:
    (instruction,) = Disassembler().instructions(ADDRESS, assembled(text))
    return instruction


@pytest.mark.parametrize("text", ENCODINGS)
def test_texts_are_those_of_the_encodings(text: str) -> None:
    """The table that the tests assemble with says what it means."""
    instruction = decoded(text)
    assert instruction.text == text
    assert (instruction.address, instruction.size) == (ADDRESS, len(ENCODINGS[text]) // 2)


KINDS = {
    Kind.ARITHMETIC: ("adds r0, r0, r1", "movs r0, #1", "cmp r0, #1", "lsls r0, r1, #2"),
    Kind.PACKED: ("uxtb r0, r1", "uxtab r0, r1, r2", "sxtb16 r3, r4", "sadd16 r3, r4, r5"),
    Kind.MULTIPLY: ("muls r0, r2, r0", "mul r0, r0, r1", "usad8 r5, r6, r7"),
    Kind.MULTIPLY_ADD: (
        *("mla r0, r1, r2, r0", "mls r0, r1, r2, r0"),
        *("smlad r5, r6, r7, r5", "usada8 r5, r6, r7, r5"),
    ),
    Kind.MULTIPLY_LONG: ("smull r0, r1, r2, r3",),
    Kind.MULTIPLY_LONG_ADD: ("umlal r0, r1, r2, r3",),
    Kind.DIVIDE: ("sdiv r0, r1, r2",),
    Kind.LOAD: ("ldr r0, [r1]", "ldrsb r0, [r1], #1", "ldrex r0, [r1]", "vldr s0, [r0]"),
    Kind.STORE: ("str r2, [r3]", "strb r0, [r1]", "vstr s0, [r0]"),
    Kind.LOAD_MULTIPLE: ("ldm r0!, {r1, r2, r3}", "pop {r4}", "ldrd r0, r1, [r2]"),
    Kind.STORE_MULTIPLE: ("push {r4, lr}", "strd r0, r1, [r2]", "vpush {d8, d9}"),
    Kind.BRANCH: ("bx lr", "blx r3"),
    Kind.TABLE_BRANCH: ("tbb [pc, r0]", "tbh [pc, r0, lsl #1]"),
    Kind.IT: ("it ne",),
    Kind.NOTHING: ("nop",),
    Kind.SPECIAL: ("mrs r0, primask",),
    Kind.INTERRUPTS: ("cpsid i",),
    Kind.BARRIER: ("dmb sy", "isb sy"),
    Kind.FLOAT: ("vadd.f32 s0, s1, s2", "vcmp.f32 s0, s1", "vcvt.f32.s32 s0, s0"),
    Kind.FLOAT_MOVE: ("vmov.f32 s0, s1", "b7ee000a", "vmrs apsr_nzcv, fpscr"),
    Kind.FLOAT_TRANSFER: ("vmov r0, s0", "vmov d0, r0, r1"),
    Kind.FLOAT_MULTIPLY_ADD: ("vfma.f32 s0, s1, s2", "vmla.f32 s3, s4, s5"),
    Kind.FLOAT_DIVIDE: ("vdiv.f32 s0, s1, s2", "vsqrt.f32 s0, s1"),
}


def test_every_class_has_its_instructions() -> None:
    assert {kind: {decoded(t).kind for t in texts} for kind, texts in KINDS.items()} == {
        kind: {kind} for kind in Kind
    }


@pytest.mark.parametrize(
    ("text", "reads", "writes"),
    [
        ("adds r0, r0, r1", "r0 r1", "r0 apsr"),
        ("adds r1, #4", "r1", "r1 apsr"),
        ("cmp r0, #1", "r0", "apsr"),
        ("muls r0, r2, r0", "r0 r2", "r0 apsr"),
        ("movt r0, #0x5678", "r0", "r0"),
        ("bfi r0, r1, #4, #8", "r0 r1", "r0"),
        # Capstone leaves the last operand out.
        ("uxtab r0, r1, r2", "r1 r2", "r0"),
        # Capstone leaves the accumulators out.
        ("umlal r0, r1, r2, r3", "r0 r1 r2 r3", "r0 r1"),
        ("smull r0, r1, r2, r3", "r2 r3", "r0 r1"),
        ("ldr r0, [r1], #4", "r1", "r0 r1"),
        ("str r0, [r1], #4", "r0 r1", "r1"),
        ("ldrd r0, r1, [r2]", "r2", "r0 r1"),
        ("ldm r0!, {r1, r2, r3}", "r0", "r0 r1 r2 r3"),
        ("stm r0!, {r1, r2, r3}", "r0 r1 r2 r3", "r0"),
        ("push {r4, lr}", "r4 lr sp", "sp"),
        ("pop {r4, pc}", "sp", "r4 pc sp"),
        # Capstone leaves the loaded registers out.
        ("vldmia r0!, {s0, s1, s2, s3}", "r0", "r0 s0 s1 s2 s3"),
        ("vpush {d8, d9}", "s16 s17 s18 s19 sp", "sp"),
        ("vfma.f32 s0, s1, s2", "s0 s1 s2", "s0"),
        ("vcmp.f32 s0, s1", "s0 s1", "fpscr"),
        ("vmrs apsr_nzcv, fpscr", "fpscr", "apsr"),
        ("vmov r0, r1, d0", "s0 s1", "r0 r1"),
        ("vmov d0, r0, r1", "r0 r1", "s0 s1"),
    ],
)
def test_registers(text: str, reads: str, writes: str) -> None:
    instruction = decoded(text)
    assert instruction.reads == set(reads.split())
    assert instruction.writes == set(writes.split())


@pytest.mark.parametrize(
    ("text", "access", "address", "offset", "written_back"),
    [
        ("ldr r0, [r1, r2]", Access("load", 4), "r1 r2", None, ""),
        ("ldrsb r0, [r1], #1", Access("load", 1), "r1", 0, "r1"),
        ("str r0, [r3, #0x14]", Access("store", 4), "r3", 20, ""),
        ("ldr r0, [pc, #8]", Access("load", 4), "pc", 8, ""),
        ("ldm r0!, {r1, r2, r3}", Access("load", 12), "r0", None, "r0"),
        ("pop {r4, pc}", Access("load", 8), "sp", None, "sp"),
        ("strd r0, r1, [r2]", Access("store", 8), "r2", 0, ""),
        ("vldr d0, [r0]", Access("load", 8), "r0", 0, ""),
        ("vpush {d8, d9}", Access("store", 16), "sp", None, "sp"),
        ("tbb [pc, r0]", Access("load", 1), "pc r0", None, ""),
        ("tbh [pc, r0, lsl #1]", Access("load", 2), "pc r0", None, ""),
        ("adds r0, r0, r1", None, "", None, ""),
    ],
)
def test_accesses(
    text: str, access: Access | None, address: str, offset: int | None, written_back: str
) -> None:
    instruction = decoded(text)
    assert instruction.access == access
    assert instruction.address_reads == set(address.split())
    assert instruction.offset == offset
    assert instruction.written_back == set(written_back.split())


@pytest.mark.parametrize(
    ("text", "early", "addends", "shifts"),
    [
        ("add.w r0, r1, r2, lsl #3", "r2", "", True),
        ("add.w r2, r2, #0x1fc0", "", "", True),
        ("add.w r2, r0, #1", "", "", False),
        ("movw r0, #0x1234", "", "", False),
        ("lsls r0, r1, #2", "", "", False),
        ("uxtab r0, r1, r2", "r2", "", False),
        ("bfi r0, r1, #4, #8", "r1", "", False),
        ("pkhtb r0, r1, r2, asr #0x10", "r1 r2", "", False),
        ("sadd16 r3, r4, r5", "", "", False),
        ("smlad r5, r6, r7, r5", "", "r5", False),
        ("usada8 r5, r6, r7, r5", "", "r5", False),
        ("umlal r0, r1, r2, r3", "", "r0 r1", False),
        ("vfma.f32 s0, s1, s2", "", "s0", False),
    ],
)
def test_what_the_stages_see(text: str, early: str, addends: str, shifts: bool) -> None:
    instruction = decoded(text)
    assert instruction.early_reads == set(early.split())
    assert instruction.accumulator_reads == set(addends.split())
    assert instruction.shifts == shifts


def test_a_factor_is_no_addend() -> None:
    """``mla r0, r0, r2, r0`` needs r0 for the product."""
    assert decoded("00fb0200").reads == {"r0", "r2"}
    assert decoded("00fb0200").accumulator_reads == set()


@pytest.mark.parametrize(
    ("code", "branch"),
    [
        ("fee7", Branch("immediate", False, False, ADDRESS)),
        ("fed1", Branch("immediate", False, True, ADDRESS)),
        ("00b1", Branch("immediate", False, True, ADDRESS + 4)),
        ("fff7feff", Branch("immediate", True, False, ADDRESS)),
        ("bx lr", Branch("register", False, False, None)),
        ("blx r3", Branch("register", True, False, None)),
        ("mov pc, r0", Branch("register", False, False, None)),
        ("add pc, r0", Branch("register", False, False, None)),
        ("ldr.w pc, [r0]", Branch("load", False, False, None)),
        ("pop {r4, pc}", Branch("load", False, False, None)),
        ("tbb [pc, r0]", Branch("table", False, False, None)),
        ("movs r0, #1", None),
    ],
)
def test_branches(code: str, branch: Branch | None) -> None:
    assert decoded(code).branch == branch


def test_conditions_come_from_it() -> None:
    """What IT covers is conditional and needs the flags, what stands behind it is not."""
    code = assembled("cmp r0, #1", "it ne", "movne r0, #1", "movs r0, #1")
    *_, covered, behind = Disassembler().instructions(ADDRESS, code)
    assert (covered.conditional, behind.conditional) == (True, False)
    assert covered.text == "movne r0, #1"
    assert "apsr" in covered.reads
    assert "apsr" not in behind.reads


def test_opposite_conditions_differ_in_a_bit() -> None:
    """As the architecture numbers them; what always runs has none."""
    code = assembled("cmp r0, #1", "ite eq", "ldreq r0, [r1]", "ldrne r2, [r3]", "nop", "fed1")
    decoded = Disassembler().instructions(ADDRESS, code)
    assert [one.condition for one in decoded] == [None, None, 0, 1, None, 1]


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("ffff", "code"),
        # Half an instruction.
        ("51f8", "code"),
        # A store of the program counter, and of a base that the store moves.
        ("80e80280", "code"),
        ("a4e84021", "code"),
        ("00de", "udf"),
        ("80ba", "hlt"),
        ("00ee1fcf", "mcr"),
        ("c0fa81f0", "crc32b"),
        ("90ec0bdb", "fldmiax"),
        # Neon.
        ("20f9d667", "vld1.64"),
        ("00ef1ac1", "vand"),
    ],
)
def test_what_has_no_known_cycles_is_refused(code: str, what: str) -> None:
    """With its address and bytes; a class by default would be a figure by chance."""
    words = f"the cycles of {what} at 0x00001002, bytes {code}, are not known"
    with pytest.raises(EmulationError, match=words) as caught:
        Disassembler().instructions(ADDRESS, bytes.fromhex("00bf" + code))
    assert caught.value.pc == ADDRESS + 2


def test_the_first_of_nothing_is_none() -> None:
    assert Disassembler().first(ADDRESS, bytes.fromhex("ffff")) is None
    assert Disassembler().first(ADDRESS, b"") is None
