"""Thumb code without an assembler: instructions by their text."""

from __future__ import annotations

from edgekit.targets.cores import CORES
from edgekit.targets.cycles.pipelines.choice import timing_of
from edgekit.targets.cycles.timed import TimedBlock

ADDRESS = 0x1000

ENCODINGS = {
    "ldr r0, [r1]": "0868",
    "ldr r2, [r3]": "1a68",
    "ldr r2, [r0]": "0268",
    "ldr r4, [r5, #4]": "6c68",
    "ldr r5, [r4]": "2568",
    "ldr r0, [r1, r2]": "8858",
    "ldr r0, [r1], #4": "51f8040b",
    "ldr r2, [r1], #4": "51f8042b",
    "ldr r2, [r3], #4": "53f8042b",
    "ldrsb r0, [r1], #1": "11f9010b",
    "ldrsb r2, [r3], #1": "13f9012b",
    "ldrb r0, [r1]": "0878",
    "ldr r0, [pc, #8]": "0248",
    "ldr r0, [sp, #4]": "0198",
    "ldr.w pc, [r0]": "d0f800f0",
    "ldrd r0, r1, [r2]": "d2e90001",
    "ldrex r0, [r1]": "51e8000f",
    "str r2, [r3]": "1a60",
    "str r0, [r3, #0x14]": "5861",
    "str r1, [r3, r2]": "9950",
    "str r2, [r0, #4]": "4260",
    "str r0, [r1], #4": "41f8040b",
    "str r2, [r1], #4": "41f8042b",
    "str r2, [r3], #4": "43f8042b",
    "strd r0, r1, [r2]": "c2e90001",
    "strb r0, [r1]": "0870",
    "strex r3, r2, [r1]": "41e80023",
    "ldm r0!, {r1, r2, r3}": "0ec8",
    "stm r0!, {r1, r2, r3}": "0ec0",
    "push {r4, lr}": "10b5",
    "pop {r4}": "10bc",
    "pop {r4, pc}": "10bd",
    "sub sp, #8": "82b0",
    "adds r1, #4": "0431",
    "adds r4, #4": "0434",
    "adds r0, r0, r1": "4018",
    "adds r3, r3, r4": "1b19",
    "adds r5, r5, r6": "ad19",
    "add.w r0, r0, r1": "00eb0100",
    "add.w r2, r2, r0": "02eb0002",
    "add.w r2, r0, #1": "00f10102",
    "add.w r0, r1, r2, lsl #3": "01ebc200",
    "add.w r3, r4, r5, lsl #2": "04eb8503",
    "add.w r2, r2, #0x1fc0": "02f5fe52",
    "movs r0, #1": "0120",
    "movw r0, #0x1234": "41f23420",
    "movt r0, #0x5678": "c5f27860",
    "mov pc, r0": "8746",
    "add pc, r0": "8744",
    "mvns r0, r1": "c843",
    "cmp r0, #1": "0128",
    "it ne": "18bf",
    "itt eq": "04bf",
    "ite eq": "0cbf",
    "adds r0, #1": "0130",
    "lsls r0, r1, #2": "8800",
    "muls r0, r2, r0": "5043",
    "mul r0, r0, r1": "00fb01f0",
    "mla r0, r1, r2, r0": "01fb0200",
    "mls r0, r1, r2, r0": "01fb1200",
    "smlad r5, r0, r2, r5": "20fb0255",
    "smlad r5, r6, r7, r5": "26fb0755",
    "usad8 r5, r6, r7": "76fb07f5",
    "usada8 r5, r6, r7, r5": "76fb0755",
    "smull r0, r1, r2, r3": "82fb0301",
    "umlal r0, r1, r2, r3": "e2fb0301",
    "sdiv r0, r1, r2": "91fbf2f0",
    "uxtb r0, r1": "c8b2",
    "uxtab r0, r1, r2": "51fa82f0",
    "sxtb16 r3, r4": "2ffa84f3",
    "sadd16 r3, r4, r5": "94fa05f3",
    "ssat r0, #8, r1": "01f30700",
    "bfi r0, r1, #4, #8": "61f30b10",
    "pkhtb r0, r1, r2, asr #0x10": "c1ea2240",
    "nop": "00bf",
    "mrs r0, primask": "eff31080",
    "cpsid i": "72b6",
    "dmb sy": "bff35f8f",
    "isb sy": "bff36f8f",
    "bx lr": "7047",
    "blx r3": "9847",
    "tbb [pc, r0]": "dfe800f0",
    "tbh [pc, r0, lsl #1]": "dfe810f0",
    "vldr s0, [r0]": "90ed000a",
    "vldr s1, [r1]": "d1ed000a",
    "vldr d0, [r0]": "90ed000b",
    "vstr s0, [r0]": "80ed000a",
    "vldmia r0!, {s0, s1, s2, s3}": "b0ec040a",
    "vpush {d8, d9}": "2ded048b",
    "vmov r0, s0": "10ee100a",
    "vmov s0, r0": "00ee100a",
    "vmov r0, r1, d0": "51ec100b",
    "vmov d0, r0, r1": "41ec100b",
    "vmov.f32 s0, s1": "b0ee600a",
    "vadd.f32 s0, s1, s2": "30ee810a",
    "vmul.f32 s3, s0, s2": "60ee011a",
    "vmul.f32 s3, s4, s5": "62ee221a",
    "vfma.f32 s0, s1, s2": "a0ee810a",
    "vfma.f32 s3, s0, s2": "e0ee011a",
    "vfma.f32 s3, s4, s5": "e2ee221a",
    "vmla.f32 s3, s4, s5": "42ee221a",
    "vdiv.f32 s0, s1, s2": "80ee810a",
    "vsqrt.f32 s0, s1": "b1eee00a",
    "vcmp.f32 s0, s1": "b4ee600a",
    "vmrs apsr_nzcv, fpscr": "f1ee10fa",
    "vcvt.f32.s32 s0, s0": "b8eec00a",
    "ldr r2, [r1, #8]": "8a68",
    "mvns r0, r4": "e043",
    "mvns r2, r1": "ca43",
    "vldr s6, [r0]": "90ed003a",
    "mla r4, r1, r2, r0": "01fb0204",
    "uxtab r1, r0, r2": "50fa82f1",
    "vmul.f32 s4, s3, s4": "21ee822a",
    "vadd.f32 s3, s0, s3": "70ee211a",
    "lsls r2, r1, #2": "8a00",
}
"""Code in hexadecimal, as arm-none-eabi-as has it, by what a disassembler makes of it."""

CONDITIONAL = {
    "movne": "movs",
    "addne": "adds",
    "addeq": "adds",
    "ldreq": "ldr",
    "ldrne": "ldr",
}
"""What the same code is called behind IT, and elsewhere."""


def assembled(*texts: str) -> bytes:
    """Code of instructions in a row.

    A branch is given by its bytes, as its text depends on where it stands:

    >>> assembled("nop", "00d1").hex()
    '00bf00d1'
    """
    return b"".join(bytes.fromhex(_code(text)) for text in texts)


def _code(text: str) -> str:
    name, _, operands = text.partition(" ")
    key = f"{CONDITIONAL[name]} {operands}" if name in CONDITIONAL else text
    return ENCODINGS.get(key, key)


def timed(core: str, *texts: str, address: int = ADDRESS) -> TimedBlock:
    """The block of these instructions on a core."""
    return timing_of(CORES[core]).block(address, assembled(*texts))


def cycles(core: str, *texts: str) -> list[float]:
    """Of each of these instructions where it stands."""
    return [one.causes.total for one in timed(core, *texts).instructions]
