"""Examples of what Armv8.1-M adds to Thumb, and an assembler and a foreign model for them."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile

FAMILIES = """
lctp
letp lr, .-8
le lr, .-40
le .-400
wls lr, r3, .+8
wlstp.{8,16,32,64} lr, r12, .+40
dls lr, r9
dlstp.{8,16,32,64} lr, r1
vctp.{8,16,32,64} r10
{csel,csinc,csinv,csneg} r1, r6, r9, ge
{uqshl,urshr,srshr,sqshl} r9, #5
{uqrshl,sqrshr} r8, r11
{lsll,lsrl,asrl,uqshll,urshrl,srshrl,sqshll} r4, r7, #3
{lsll,asrl} r4, r7, r10
{uqrshll,sqrshrl} r4, r7, #{48,64}, r9
clrm {r0-r12, lr}
vscclrm {s4-s31, vpr}
vpnot
vpsel q3, q5, q6
vcmp.{f16,f32} {ge,eq,lt}, q1, {q6,r9}
vcmp.{i8,i16,i32} {eq,ne}, q4, {q7,r1}
vcmp.{s8,s16,s32} {lt,gt,le,ge}, q4, {q7,r1}
vcmp.{u8,u16,u32} {cs,hi}, q4, {q7,r1}
{vadd,vsub,vmul}.{i8,i16,i32,f16,f32} q1, q6, {q3,r8}
{vhadd,vhsub,vqadd,vqsub}.{s8,u8,s16,u16,s32,u32} q2, q7, {q4,r12}
{vrhadd,vmax,vmin,vabd,vmulh,vrmulh,vmullb,vmullt}.{s8,u8,s16,u16,s32,u32} q2, q7, q4
{vabd,vmaxnm,vminnm,vfma,vfms}.{f16,f32} q2, q7, q4
{vand,vbic,vorr,vorn,veor} q5, q0, q6
{vshl,vqshl,vrshl,vqrshl}.{s8,u8,s16,u16,s32,u32} q5, q1, q6
{vshl,vqshl,vrshl,vqrshl}.{s8,u8,s16,u16,s32,u32} q5, r11
{vqdmulh,vqrdmulh}.{s8,s16,s32} q5, q1, {q6,r3}
{vfma,vfmas}.{f16,f32} q5, q1, r3
vcmla.{f16,f32} q5, q1, q6, #{0,90,180,270}
vcmul.{f16,f32} q5, q1, q6, #{0,90,180,270}
vcadd.{i8,i16,i32,f16,f32} q5, q1, q6, #{90,270}
vhcadd.{s8,s16,s32} q5, q1, q6, #{90,270}
{vabs,vneg}.{s8,s16,s32,f16,f32} q0, q7
{vqabs,vqneg,vcls}.{s8,s16,s32} q0, q7
vclz.{i8,i16,i32} q0, q7
vmvn q0, q7
vrev64.{8,16,32} q3, q4
vrev32.{8,16} q3, q4
vrev16.8 q3, q4
{vrinta,vrintn,vrintm,vrintp,vrintx,vrintz}.{f16,f32} q0, q7
{vcvta,vcvtn,vcvtm,vcvtp,vcvt}.{s16,u16}.f16 q0, q7
{vcvta,vcvtn,vcvtm,vcvtp,vcvt}.{s32,u32}.f32 q0, q7
vcvt.f16.{s16,u16} q0, q7
vcvt.f32.{s32,u32} q0, q7
vcvt.{s32,u32}.f32 q0, q7, #5
vcvt.f16.{s16,u16} q0, q7, #5
vmov.f32 q3, #-0.5
vmov.{i8,i16,i32} q7, #64
vmov.i32 q7, #0x4000
vmov.i16 q7, #0x4000
vmov.i32 q7, #0x40ff
vmov.i64 q7, #0xff00ff0000ffff00
vmvn.{i16,i32} q7, #64
vmvn.i32 q7, #0x40ff
{vorr,vbic}.{i16,i32} q2, #{4,0x400}
{vshr,vrshr}.{s8,u8,s16,u16,s32,u32} q1, q2, #7
{vsli,vsri}.{8,16,32} q1, q2, #7
vshl.{i8,i16,i32} q1, q2, #7
vqshl.{s8,u8,s16,u16,s32,u32} q1, q2, #7
vqshlu.{s8,s16,s32} q1, q2, #7
{vqdmullb,vqdmullt}.{s16,s32} q0, q3, {q5,r7}
vddup.{u8,u16,u32} q3, r6, #{1,2,4,8}
vidup.{u8,u16,u32} q3, r6, #{1,2,4,8}
{viwdup,vdwdup}.{u8,u16,u32} q3, r6, r9, #{1,4}
vbrsr.{8,16,32} q3, q4, r9
{vmla,vmlas}.{s8,u8,s16,u16,s32,u32} q3, q4, r9
{vqdmlah,vqrdmlah,vqdmlash,vqrdmlash}.{s8,s16,s32} q3, q4, r9
{vqdmladh,vqdmladhx,vqrdmladh,vqrdmladhx}.{s8,s16,s32} q3, q4, q6
{vqdmlsdh,vqdmlsdhx,vqrdmlsdh,vqrdmlsdhx}.{s8,s16,s32} q3, q4, q6
{vshllb,vshllt}.{s8,u8} q3, q4, #{1,8}
{vshllb,vshllt}.{s16,u16} q3, q4, #{1,16}
{vmovlb,vmovlt}.{s8,u8,s16,u16} q3, q4
{vmovnb,vmovnt}.{i16,i32} q3, q4
{vqmovnb,vqmovnt}.{s16,u16,s32,u32} q3, q4
{vqmovunb,vqmovunt}.{s16,s32} q3, q4
{vshrnb,vshrnt,vrshrnb,vrshrnt}.{i16,i32} q3, q4, #3
{vqrshrnb,vqrshrnt}.{s16,u16,s32,u32} q3, q4, #3
{vqrshrunb,vqrshrunt}.{s16,s32} q3, q4, #3
{vmaxnma,vminnma}.{f16,f32} q1, q6
{vmaxa,vmina}.{s8,s16,s32} q1, q6
vshlc q1, r6, #17
{vadc,vadci,vsbc,vsbci}.i32 q1, q2, q3
{vmullb,vmullt}.{p8,p16} q1, q2, q3
{vmaxnmv,vminnmv,vmaxnmav,vminnmav}.{f16,f32} r9, q6
{vmaxv,vminv}.{s8,u8,s16,u16,s32,u32} r9, q6
{vmaxav,vminav}.{s8,s16,s32} r9, q6
vabav.{s8,u8,s16,u16,s32,u32} r9, q2, q6
{vaddv,vaddva}.{s8,u8,s16,u16,s32,u32} r10, q6
{vaddlv,vaddlva}.{s32,u32} r10, r7, q6
{vmladav,vmladava}.{s8,u8,s16,u16,s32,u32} r10, q2, q6
{vmladavx,vmladavax,vmlsdav,vmlsdava,vmlsdavx,vmlsdavax}.{s8,s16,s32} r10, q2, q6
{vmlaldav,vmlaldava}.{s16,u16,s32,u32} r10, r7, q2, q6
{vmlaldavx,vmlaldavax,vmlsldav,vmlsldava,vmlsldavx,vmlsldavax}.{s16,s32} r10, r7, q2, q6
{vrmlaldavh,vrmlaldavha}.{s32,u32} r10, r7, q2, q6
{vrmlaldavhx,vrmlaldavhax,vrmlsldavh,vrmlsldavha,vrmlsldavhx,vrmlsldavhax}.s32 r10, r7, q2, q6
vdup.{8,16,32} q3, r9
vmov.{8,16,32} q3[1], r9
vmov.{s8,u8,s16,u16,32} r9, q3[1]
vmov q3[2], q3[0], r4, r9
vmov r4, r9, q3[3], q3[1]
vldrb.8 q5, [r8, #-3]{,!}
vldrh.16 q5, [r8], #6
vldrw.32 q5, [r8]
vldrw.32 q5, [r8, #508]
vldrb.{s16,u16,s32,u32} q5, [r7, #5]{,!}
vldrh.{s32,u32} q5, [r7], #6
vstrb.8 q5, [r8, #-3]{,!}
vstrh.16 q5, [r8], #6
vstrw.32 q5, [r8, #508]
vstrb.{16,32} q5, [r7, #5]{,!}
vstrh.32 q5, [r7], #6
vldrb.{u8,u16,s16,u32,s32} q5, [r9, q1]
vldrh.{u16,u32,s32} q5, [r9, q1]
vldrh.u16 q5, [r9, q1, uxtw #1]
vldrw.u32 q5, [r9, q1, uxtw #2]
vldrd.u64 q5, [r9, q1]
vstrb.{8,16,32} q5, [r9, q1]
vstrh.{16,32} q5, [r9, q1]
vstrw.32 q5, [r9, q1, uxtw #2]
vstrd.64 q5, [r9, q1]
vldrw.u32 q5, [q1, #20]{,!}
vldrd.u64 q5, [q1, #-40]{,!}
vstrw.32 q5, [q1, #20]{,!}
vstrd.64 q5, [q1, #-40]{,!}
{vld20,vld21,vst20,vst21}.{8,16,32} {q2, q3}, [r9]{,!}
{vld40,vld41,vld42,vld43,vst40,vst41,vst42,vst43}.{8,16,32} {q2, q3, q4, q5}, [r9]{,!}
"""
"""One instruction per line; what stands in braces with commas, but without blanks, is chosen."""

FROM_LLVM = {
    "vqshrnt.u32 q5, q7, #1": 0xFE9FBF4E,
    "vqshrunt.s32 q6, q2, #2": 0xEE9EDFC4,
    "vcvtt.f16.f32 q5, q7": 0xEE3FBE0F,
    "vcvtb.f32.f16 q2, q7": 0xFE3F4E0F,
}
"""Encodings that GNU as 2.40 gets wrong, from llvm-mc 19. Its VQSHRN is the one that rounds."""

_CHOICE = re.compile(r"\{([^{} ]*,[^{} ]*)\}")


def examples() -> Iterator[str]:
    """Every instruction that :data:`FAMILIES` stands for.

    >>> sum(1 for _ in examples()) > 900
    True
    """
    for line in FAMILIES.split("\n"):
        parts = _CHOICE.split(line)
        choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
        yield from ("".join(chosen) for chosen in itertools.product(*choices) if line)


@cache
def assemble(lines: tuple[str, ...]) -> bytes:
    """Code of instructions in a row, by GNU as."""
    with tempfile.TemporaryDirectory(prefix="edgekit-tests-") as name:
        folder = Path(name)
        source = ".syntax unified\n.thumb\n" + "\n".join(lines) + "\n"
        (folder / "code.s").write_text(source)
        flags = ("-march=armv8.1-m.main+mve.fp+fp.dp", "-mfloat-abi=hard", "-mthumb")
        command = ("arm-none-eabi-gcc", *flags, "-c", "code.s", "-o", "code.o")
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with (folder / "code.o").open("rb") as stream:
            section = ELFFile(stream).get_section_by_name(".text")
            return bytes(section.data())


def words(lines: Sequence[str]) -> list[int]:
    """32-bit instructions, the first halfword in the upper half."""
    code = assemble(tuple(lines))
    halves = [int.from_bytes(code[i : i + 2], "little") for i in range(0, len(code), 2)]
    assert len(halves) == 2 * len(lines)
    return [halves[i] << 16 | halves[i + 1] for i in range(0, len(halves), 2)]


def ask_llvm(lines: Sequence[str], *views: str, rounds: int = 1) -> str:
    """What llvm-mca says of instructions on its Cortex-M55, repeated so often."""
    tool = shutil.which("llvm-mca-19") or shutil.which("llvm-mca")
    assert tool is not None
    command = (
        *(tool, "-mtriple=thumbv8.1m.main-none-eabi", "-mcpu=cortex-m55", "-mattr=+mve.fp"),
        *(f"-iterations={rounds}", "-all-views=false", *views),
    )
    source = ".syntax unified\n.thumb\n" + "\n".join(lines) + "\n"
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
