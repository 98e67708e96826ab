"""Helium and low-overhead loops as code: each encoding is known, nothing else is taken for one."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.targets.c.kernel import KERNEL_FOLDER
from edgekit.targets.cycles.thumb.decoder import ThumbDecoder, lengths
from edgekit.targets.cycles.thumb.mve import decode
from edgekit.targets.cycles.thumb.mve_table import ROWS
from edgekit.targets.image import TEMPLATE_FOLDER
from tests.support.helium import FROM_LLVM, assemble, examples, words
from tests.support.images import fresh_folder

GCC = "arm-none-eabi-gcc"
ADDRESS = 0x1000_0000

ORDINARY = (
    *("adds r0, #1", "add.w r0, r1, r2, lsl #3", "orrs.w r4, r5, r6", "orrs.w r4, r5, r6, asr #7"),
    *("smlad r5, r0, r2, r5", "umlal r0, r1, r2, r3", "ubfx r0, r1, #3, #4", "sdiv r0, r1, r2"),
    *("ldrd r0, r1, [r2, #8]!", "ldm.w r0!, {r1-r8}", "strex r3, r2, [r1]", "tbh [pc, r0, lsl #1]"),
    *("movw r0, #0xf00f", "movt r0, #0xc001", "b.w .+4096", "bl .+400", "bne.w .-400"),
    *("dsb sy", "mrs r0, primask", "vldr s1, [r1, #4]", "vldr d3, [r1]", "vstr d3, [r1, #-8]"),
    *("vpush {d8-d15}", "vldmia r0!, {s0-s3}", "vadd.f32 s0, s1, s2", "vadd.f64 d0, d1, d2"),
    *("vfma.f32 s0, s1, s2", "vfma.f64 d3, d4, d5", "vmul.f16 s0, s1, s2", "vdiv.f32 s0, s1, s2"),
    *("vmov.f32 s0, s1", "vmov s0, r0", "vmov r0, r1, d0", "vmov d0, r0, r1", "vmov.f32 s1, #1.0"),
    *(
        "vcvt.s32.f32 s0, s1",
        "vcvt.f32.s32 s0, s0, #3",
        "vcvtb.f32.f16 s0, s1",
        "vrintz.f32 s0, s1",
    ),
    *("vmaxnm.f32 s0, s1, s2", "vselge.f32 s0, s1, s2", "vcmp.f32 s0, s1", "vmrs APSR_nzcv, fpscr"),
)
"""What earlier cores have too, of all shapes that resemble the new ones."""

KERNELS = ("add_s8", "conv_2d_s8", "depthwise_conv_2d_s8", "fully_connected_s8", "max_pool_2d_s8")

LOOP_NAMES = ("le", "letp", "dls", "dlstp", "wls", "wlstp", "vctp", "vpst", "vpstt", "vpste")
SELECTS = (
    "csel",
    "cset",
    "csinc",
    "csinv",
    "csneg",
    "cinc",
    "cinv",
    "cneg",
    "lsll",
    "lsrl",
    "asrl",
)
ALIASES = {
    "vmov": "vorr",
    "vmlav": "vmladav",
    "vmlava": "vmladava",
    "cset": "csinc",
    "cinc": "csinc",
    "csetm": "csinv",
    "cinv": "csinv",
    "cneg": "csneg",
}
"""Names that LLVM prefers, by ours."""

LOOPS = """
#include <stdint.h>
int32_t dot(const int8_t *restrict a, const int8_t *restrict b, int n)
{
    int32_t sum = 0;
    for (int i = 0; i < n; i++) { sum += a[i] * b[i]; }
    return sum;
}
void clamp(const int32_t *restrict x, int8_t *restrict y, int n)
{
    for (int i = 0; i < n; i++) {
        const int32_t v = (x[i] >> 5) + 3;
        y[i] = (int8_t)(v < -128 ? -128 : v > 127 ? 127 : v);
    }
}
void mix(const int16_t *restrict a, const uint8_t *restrict b, int16_t *restrict y, int n)
{
    for (int i = 0; i < n; i++) { y[i] = (int16_t)(a[i] > 5 ? a[i] * b[i] : -b[i]); }
}
void scale(const float *restrict x, float *restrict y, float by, int n)
{
    for (int i = 0; i < n; i++) { y[i] = x[i] * by + y[i]; }
}
int64_t shift(int64_t x, int by, int a, int b) { return a < b ? x << by : x >> 3; }
void fill(uint32_t *y, uint32_t v, int n) { for (int i = 0; i < n; i++) { y[i] = v + 2 * i; } }
void split(const uint8_t *restrict x, uint8_t *restrict y, int n)
{
    for (int i = 0; i < n; i++) { y[i] = (uint8_t)(x[2 * i] ^ x[2 * i + 1]); }
}
"""


@pytest.mark.needs(GCC)
def test_decodes_every_example() -> None:
    """Mnemonic and registers as they were written, for every family of encodings."""
    lines = list(examples())
    wrong = []
    for line, word in zip(lines, words(lines), strict=True):
        found = decode(ADDRESS, word)
        if found is None or _spoken(found.text) != _spoken(line):
            wrong.append(f"{line}: {word:08x} {found}")
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.parametrize("line", FROM_LLVM)
def test_decodes_what_the_assembler_gets_wrong(line: str) -> None:
    found = decode(ADDRESS, FROM_LLVM[line])
    assert found is not None
    assert _spoken(found.text) == _spoken(line)


@pytest.mark.needs(GCC)
def test_examples_show_every_row() -> None:
    """No row of the table is dead, or hidden behind another."""
    lines = ["vpst", "vaddt.i32 q0, q0, q0", "vptee.s8 lt, q1, q2", "vaddt.i32 q0, q0, q0"]
    lines += ["vadde.i32 q0, q0, q0"] * 2 + ["vpt.u16 cs, q1, r2", "vaddt.i32 q0, q0, q0"]
    lines += ["vpt.f32 ge, q1, q2", "vaddt.i32 q0, q0, q0", "vpt.f16 ge, q1, r9"]
    lines += ["vaddt.i32 q0, q0, q0"]
    found = [*words(list(examples())), *words(lines), *FROM_LLVM.values()]
    shown = {next(row for row in ROWS if word & row.mask == row.value) for word in found}
    assert [row for row in ROWS if row not in shown] == []


@pytest.mark.needs(GCC)
def test_leaves_everything_else_alone() -> None:
    """Integer and scalar floating-point code is the disassembler's."""
    code = assemble(ORDINARY)
    starts = list(lengths(code))
    assert len(starts) == len(ORDINARY)
    for (offset, size), line in zip(starts, ORDINARY, strict=True):
        first, second = code[offset : offset + 2], code[offset + 2 : offset + size]
        word = int.from_bytes(second + first, "little")
        assert size == 2 or decode(ADDRESS, word) is None, line


@pytest.mark.needs(GCC, "llvm-mca")
def test_agrees_with_llvm_on_compiled_code() -> None:
    """Every 32-bit instruction that GCC makes of kernels and loops is known, or not ours."""
    seen = set()
    for at, word, name, operands in _disassembled():
        found = decode(at, word)
        ours = "q" in operands or name in LOOP_NAMES or name.startswith(SELECTS)
        assert (found is not None) == ours, (name, operands, found)
        if found is not None:
            seen.add(found.name)
            assert _registers(found.text) == _registers(operands), (name, operands, found.text)
            # Predicated ones end in "t" or "e", conditional ones in a condition.
            names = {name, name[:-1], name[:-2]}
            assert found.name in names | {ALIASES.get(n) for n in names}, (name, found)
    wanted = {"le", "dls", "lsll", "asrl", "vldrw", "vstrw", "vdup", "vadd", "vmul"}
    assert wanted <= seen, wanted - seen


@pytest.mark.needs(GCC)
def test_knows_branches_at_the_end() -> None:
    decoder = ThumbDecoder()
    for line, jumps in {
        **dict.fromkeys(("b .", "cbz r0, .+8", "bx lr", "pop {r4, pc}", "tbb [pc, r0]"), True),
        **dict.fromkeys(("le lr, .-8", "letp lr, .-8", "wls lr, r0, .+8", "ldr.w pc, [r0]"), True),
        **dict.fromkeys(
            ("dls lr, r0", "nop", "pop {r4}", "vadd.i32 q0, q0, q0", "mov r0, r1"), False
        ),
    }.items():
        assert decoder.ends_in_branch(ADDRESS, assemble(("movs r0, #1", line))) == jumps, line


def _disassembled() -> Iterator[tuple[int, int, str, str]]:
    """Address, bits, mnemonic without types, and operands of every 32-bit instruction.

    Of our kernels, and of loops that GCC can vectorise.
    """
    folder = fresh_folder()
    (folder / "loops.c").write_text(LOOPS)
    (folder / "ek_config.h").write_text("#define EK_PREFIX t_\n")
    kernels = [str(KERNEL_FOLDER / f"{name}.c") for name in KERNELS]
    flags = ("-mcpu=cortex-m55", "-mfloat-abi=hard", "-mthumb", "-O3", "-ffast-math")
    paths = ("-I.", f"-I{KERNEL_FOLDER}", f"-I{TEMPLATE_FOLDER}")
    objects = [f"{Path(source).stem}.o" for source in ("loops.c", *kernels)]
    tool = shutil.which("llvm-objdump-19") or "llvm-objdump"
    for command in (
        ("arm-none-eabi-gcc", *flags, *paths, "-c", "loops.c", *kernels),
        (tool, "-d", "--triple=thumbv8.1m.main", "--mattr=+mve.fp,+fp64", *objects),
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    line = r"^ *([0-9a-f]+): ([0-9a-f]{4}) ([0-9a-f]{4})\s+([a-z0-9]+)\S*\s*([^@<\n]*)"
    for at, first, second, name, operands in re.findall(line, done.stdout, re.M):
        yield int(at, 16), int(first + second, 16), name, operands


def _spoken(text: str) -> tuple[str, set[str]]:
    """Mnemonic and registers of an instruction."""
    name = re.split(r"[ .]", text, maxsplit=1)[0]
    return name, _registers(text.partition(" ")[2]) if name not in ("clrm", "vscclrm") else set()


def _registers(operands: str) -> set[str]:
    names = {"sl": "r10", "fp": "r11", "ip": "r12"}
    found = re.findall(r"\b(?:q\d|r\d+|lr|sl|fp|ip)\b", operands)
    return {names.get(name, name) for name in found} - {"lr"}
