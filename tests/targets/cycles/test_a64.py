"""What is read off AArch64 instructions: kinds, registers, and text that an assembler takes."""

from __future__ import annotations

import pytest

from edgekit.targets.arm_cpu.cpus import AARCH64
from edgekit.targets.arm_cpu.disassembly import disassemble
from edgekit.targets.cycles.aarch64.instructions import Instruction, described
from edgekit.targets.cycles.aarch64.kinds import Kind

# text: kind, reads, writes; from the instructions' definitions (Arm ARM, C6 and C7).
INSTRUCTIONS = {
    "nop": (Kind.NOTHING, "", ""),
    "add x0, x1, x2": (Kind.INTEGER, "x1 x2", "x0"),
    "add w0, w1, w2, lsl #3": (Kind.SHIFTED_LITTLE, "x1 x2", "x0"),
    "add x0, x1, w2, sxtw #2": (Kind.SHIFTED, "x1 x2", "x0"),
    "orr x0, x1, x2, asr #40": (Kind.SHIFTED_LITTLE, "x1 x2", "x0"),
    "adds x0, x1, #1": (Kind.INTEGER, "x1", "x0 nzcv"),
    "cmp w1, wzr": (Kind.INTEGER, "x1", "nzcv"),
    "ccmp w1, #0, #4, ne": (Kind.INTEGER, "x1 nzcv", "nzcv"),
    "csel w0, w1, w2, eq": (Kind.INTEGER, "x1 x2 nzcv", "x0"),
    "cset w0, ne": (Kind.INTEGER, "nzcv", "x0"),
    "mov x0, #1": (Kind.INTEGER, "", "x0"),
    "movk x0, #1, lsl #16": (Kind.INTEGER, "x0", "x0"),
    "bfi x0, x1, #3, #4": (Kind.SHIFTED, "x0 x1", "x0"),
    "mul w0, w1, w2": (Kind.MULTIPLY, "x1 x2", "x0"),
    "mul x0, x1, x2": (Kind.MULTIPLY_64, "x1 x2", "x0"),
    "madd w0, w1, w2, w3": (Kind.MULTIPLY, "x1 x2 x3", "x0"),
    "smull x0, w1, w2": (Kind.MULTIPLY, "x1 x2", "x0"),
    "smulh x0, x1, x2": (Kind.MULTIPLY_HIGH, "x1 x2", "x0"),
    "sdiv x0, x1, x2": (Kind.DIVIDE_64, "x1 x2", "x0"),
    "ldr w0, [x1, x2, lsl #2]": (Kind.LOAD, "x1 x2", "x0"),
    "ldrsb w0, [x1], #1": (Kind.LOAD, "x1", "x0"),
    "ldp x0, x2, [sp, #0x10]": (Kind.LOAD_PAIR, "sp", "x0 x2"),
    "str w0, [x1, #8]!": (Kind.STORE, "x0 x1", ""),
    "stp x29, x30, [sp, #-0x20]!": (Kind.STORE_PAIR, "x29 x30 sp", ""),
    "b.ne #0": (Kind.BRANCH, "nzcv", ""),
    "cbz x3, #0": (Kind.BRANCH, "x3", ""),
    "tbnz w3, #7, #0": (Kind.BRANCH, "x3", ""),
    "ret": (Kind.BRANCH, "", ""),
    "ldr q0, [x1]": (Kind.VECTOR_LOAD, "x1", "v0"),
    "ldp q0, q1, [x2], #0x20": (Kind.VECTOR_LOAD, "x2", "v0 v1"),
    "ld1 {v0.16b, v1.16b}, [x0]": (Kind.VECTOR_LOAD, "x0", "v0 v1"),
    "ld1 {v0.s}[1], [x0]": (Kind.VECTOR_LOAD_LANE, "x0 v0", "v0"),
    "ld1r {v0.4s}, [x0]": (Kind.VECTOR_LOAD_LANE, "x0", "v0"),
    "str q0, [x1]": (Kind.VECTOR_STORE, "v0 x1", ""),
    "add v0.4s, v1.4s, v2.4s": (Kind.VECTOR, "v1 v2", "v0"),
    "movi v0.4s, #0": (Kind.VECTOR, "", "v0"),
    "orr v0.4s, #3": (Kind.VECTOR, "v0", "v0"),
    "bsl v0.16b, v1.16b, v2.16b": (Kind.VECTOR, "v0 v1 v2", "v0"),
    "mov v0.d[1], v1.d[0]": (Kind.VECTOR, "v0 v1", "v0"),
    "mov v0.s[1], w1": (Kind.TO_LANE, "v0 x1", "v0"),
    "dup v0.4s, w1": (Kind.TO_VECTOR, "x1", "v0"),
    "fmov w0, s1": (Kind.FROM_VECTOR, "v1", "x0"),
    "smov w0, v1.b[3]": (Kind.FROM_VECTOR, "v1", "x0"),
    "sshll2 v0.8h, v1.16b, #0": (Kind.VECTOR_SHIFT, "v1", "v0"),
    "sqrshrn2 v0.8h, v1.4s, #3": (Kind.VECTOR_COMPLEX, "v0 v1", "v0"),
    "sadalp v0.4s, v1.8h": (Kind.VECTOR_COMPLEX, "v0 v1", "v0"),
    "mla v0.4s, v1.4s, v2.s[1]": (Kind.VECTOR_MULTIPLY, "v0 v1 v2", "v0"),
    "smlal2 v0.4s, v1.8h, v2.8h": (Kind.VECTOR_MULTIPLY, "v0 v1 v2", "v0"),
    "sqrdmulh v0.4s, v1.4s, v2.4s": (Kind.VECTOR_MULTIPLY, "v1 v2", "v0"),
    "sdot v0.4s, v1.16b, v2.4b[1]": (Kind.DOT, "v0 v1 v2", "v0"),
    "addv s0, v1.4s": (Kind.REDUCE, "v1", "v0"),
    "tbl v0.16b, {v1.16b, v2.16b}, v3.16b": (Kind.PERMUTE, "v1 v2 v3", "v0"),
    "fadd s0, s1, s2": (Kind.FLOAT, "v1 v2", "v0"),
    "fmadd s0, s1, s2, s3": (Kind.FLOAT_MULTIPLY_ADD, "v1 v2 v3", "v0"),
    "fdiv v0.4s, v1.4s, v2.4s": (Kind.FLOAT_DIVIDE, "v1 v2", "v0"),
    "fcmp s0, s1": (Kind.VECTOR, "v0 v1", "nzcv"),
    "scvtf s0, w1": (Kind.FLOAT_CONVERT, "x1", "v0"),
}


@pytest.mark.parametrize("text", INSTRUCTIONS)
def test_registers_and_kinds(text: str) -> None:
    """What an instruction reads and writes, and what it is."""
    found = described(text)
    kind, reads, writes = INSTRUCTIONS[text]
    assert (found.kind, found.reads, found.writes) == (
        kind,
        set(reads.split()),
        set(writes.split()),
    )
    assert found.text == text


def test_what_is_added_to() -> None:
    """Sums name the register that they continue; products do not."""
    for mnemonic, operands, register in (
        ("madd", "w0, w1, w2, w3", "x3"),
        ("smsubl", "x0, w1, w2, x3", "x3"),
        ("fmadd", "s0, s1, s2, s3", "v3"),
        ("madd", "w0, w1, w2, wzr", None),
        ("mul", "w0, w1, w2", None),
        ("mla", "v0.4s, v1.4s, v2.4s", "v0"),
        ("sdot", "v0.4s, v1.16b, v2.16b", "v0"),
    ):
        assert described(f"{mnemonic} {operands}").adds_to == register


def test_addresses() -> None:
    """Addresses that move on, sums of registers, and how many vectors are moved."""
    assert described("ldr w0, [x1], #4").new_address == "x1"
    assert described("stp x0, x1, [sp, #-0x10]!").new_address == "sp"
    assert described("st1 {v0.4s}, [x1], x2").new_address == "x1"
    assert described("ldr w0, [x1, #4]").new_address is None
    assert [described(f"ldr w0, [x1{o}]").has_offset for o in ("", ", #4", ", x2, lsl #2")] == [
        *(False, False, True)
    ]
    assert described("ldp q0, q1, [x2]").registers == 2
    wide = [described(f"mla v0.{a}, v1.{a}, v2.{a}").is_wide for a in ("4s", "8h", "2s")]
    assert wide == [True, True, False]
    assert not described("smull2 v0.8h, v1.16b, v2.16b").is_wide


def decoded(code: bytes) -> list[Instruction]:
    """From anywhere but the start, so that relative places would be seen."""
    return [described(text) for _, text in disassemble(code, 0x1000, architecture=AARCH64)]


def test_text_has_no_place() -> None:
    """The same branch, address or literal at any distance is the same text; calls are jumps."""
    for words, text in (
        ("e0ffff54", "b.eq #0"),
        ("00000034", "cbz w0, #0"),
        ("03003837", "tbnz w3, #7, #0"),
        ("03000094", "b #0"),
        ("60023fd6", "br x19"),
        ("00000090", "adrp x0, #0"),
        ("20000010", "adr x0, #0"),
        ("20000058", "ldr x0, #0"),
    ):
        (found,) = decoded(bytes.fromhex(words))
        assert found.text == text
    (call,) = decoded(bytes.fromhex("60023fd6"))
    assert call.writes == {"x30"}
    (back,) = decoded(bytes.fromhex("c0035fd6"))
    assert back.is_return
    assert not call.is_return


def test_unknown_words() -> None:
    """What no disassembler knows is data to the assembler, and counts as an instruction."""
    data, nothing = decoded(b"\xff" * 4 + bytes.fromhex("1f2003d5"))
    assert (data.text, data.kind, data.reads | data.writes) == (
        ".inst 0xffffffff",
        Kind.INTEGER,
        frozenset(),
    )
    assert nothing.text == "nop"
