"""Cores: floating point stays in hardware where there is some, and the table is consistent."""

from __future__ import annotations

from pathlib import Path

import capstone
import pytest
from elftools.elf.elffile import ELFFile

from edgekit.targets.board import Board
from edgekit.targets.cores import CORES
from edgekit.targets.cycles.pipelines.choice import timing_of
from edgekit.targets.target import Target, target
from edgekit.targets.toolchain import find_toolchain
from tests.support.images import TOOLCHAINS

FLOAT_KERNEL = """
float probe(const float *a, const float *b, int n)
{
    float sum = 0.0f;
    for (int i = 0; i < n; i++) {
        sum += (a[i] - b[i]) * b[i] / (a[i] + 3.0f);
        sum = sum > 100.0f ? 100.0f : sum;
    }
    return sum + (float)n;
}
"""

HARDWARE = [name for name, core in CORES.items() if core.fpu().is_hardware]
SOFTWARE = [name for name, core in CORES.items() if not core.fpu().is_hardware]


def compiled(toolchain: str, where: Target, folder: Path) -> tuple[set[str], set[str]]:
    """Functions that the float kernel calls, and the mnemonics it consists of."""
    (folder / "probe.c").write_text(FLOAT_KERNEL)
    (name,) = find_toolchain(toolchain).compile_objects(["probe.c"], target=where, folder=folder)
    with (folder / name).open("rb") as stream:
        elf = ELFFile(stream)
        symbols = elf.get_section_by_name(".symtab").iter_symbols()
        undefined = {s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and s.name}
        code = elf.get_section_by_name(".text.probe").data()
    mode = capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS | capstone.CS_MODE_V8
    disassembler = capstone.Cs(capstone.CS_ARCH_ARM, mode)
    disassembler.skipdata = True
    return undefined, {i.mnemonic for i in disassembler.disasm(code, 0)}


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("core", HARDWARE)
def test_float_stays_in_hardware(core: str, toolchain: str, tmp_path: Path) -> None:
    """No call to software floating point, and none is fused, where there is an FPU."""
    calls, mnemonics = compiled(toolchain, target(core), tmp_path)
    assert not {name for name in calls if name.startswith("__aeabi")} - {
        "__aeabi_unwind_cpp_pr0",
        "__aeabi_unwind_cpp_pr1",
    }
    assert {"vadd.f32", "vmul.f32", "vdiv.f32"} <= mnemonics
    assert not {m for m in mnemonics if m.startswith(("vfma", "vfms", "vfnm"))}


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("core", SOFTWARE)
def test_float_is_in_software_without_an_fpu(core: str, toolchain: str, tmp_path: Path) -> None:
    """The check above can fail: without an FPU there are calls and no float instructions."""
    calls, mnemonics = compiled(toolchain, target(core), tmp_path)
    assert {"__aeabi_fadd", "__aeabi_fmul", "__aeabi_fdiv"} <= calls
    assert not {m for m in mnemonics if m.startswith("v")}


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("core", sorted(CORES))
def test_every_unit_of_every_core_compiles(core: str, toolchain: str, tmp_path: Path) -> None:
    """The flags of all floating-point units are accepted, and mean what they say."""
    for unit in CORES[core].fpus:
        generic = target(core)
        where = Target(generic.name, generic.family, "", generic.core, unit.name, generic.memories)
        calls, _ = compiled(toolchain, where, tmp_path)
        assert ("__aeabi_fmul" in calls) == (not unit.is_hardware), unit.name


@pytest.mark.parametrize("name", sorted(CORES))
def test_table_is_consistent(name: str) -> None:
    """Generic memory maps and QEMU's are possible boards; every core can be timed."""
    core = CORES[name]
    maps = [core.memories] + ([core.qemu.memories] if core.qemu else [])
    for memories in maps:
        Board("x", "x", "x", name, 1_000_000, memories)
    assert timing_of(core).block(0, bytes.fromhex("00bf")).causes.total == 1


def test_features() -> None:
    """Kernels that need an extension find it exactly where it is."""
    with_dsp = {n for n, c in CORES.items() if "dsp" in c.all_features()}
    assert with_dsp == {"cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"}
    assert {n for n, c in CORES.items() if "mve" in c.all_features()} == {"cortex-m55"}
    assert set(SOFTWARE) == {"cortex-m0plus", "cortex-m3"}
