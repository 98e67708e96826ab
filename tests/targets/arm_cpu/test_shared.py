"""Shared objects: self-contained, nothing but the interface outside, the same bytes anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from edgekit.errors import EdgekitError, ToolchainMissingError, UsageError
from edgekit.targets import compiler
from edgekit.targets.arm_cpu.cpus import CPUS
from edgekit.targets.arm_cpu.loader import SharedImage
from edgekit.targets.arm_cpu.shared import build_shared, exports
from edgekit.targets.arm_cpu.toolchain import find_cross
from edgekit.targets.library import Library
from tests.support.shared import (
    EMULATED,
    builds,
    shared_of,
    tiny_shared,
    whole_tiny_library,
)

BUILDS = builds("aarch64", "armv7", "cortex-a76", "x86-64")


def dynamic_symbols(path: Path) -> tuple[set[str], set[str]]:
    """Names that a shared object defines for others, and those it wants of others."""
    with path.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".dynsym")
        symbols = [s for s in table.iter_symbols() if s.name]
        defined = {s.name for s in symbols if s["st_shndx"] != "SHN_UNDEF"}
        return defined, {s.name for s in symbols} - defined


@pytest.mark.parametrize(("cpu", "toolchain"), BUILDS)
def test_only_the_interface_is_outside(cpu: str, toolchain: str) -> None:
    """The functions of the header are exported, nothing is undefined, no other file is needed."""
    shared = tiny_shared(cpu, toolchain)
    library = whole_tiny_library()
    assert shared.path.name == "libtiny.so"
    defined, wanted = dynamic_symbols(shared.path)
    assert defined == set(exports(library))
    assert {"tiny_init", "tiny_run", "tiny_weights_intact", "tiny_layer_2"} <= defined
    assert wanted == set()
    with shared.path.open("rb") as stream:
        elf = ELFFile(stream)
        (dynamic,) = (s for s in elf.iter_sections() if isinstance(s, DynamicSection))
        tags = {tag.entry.d_tag for tag in dynamic.iter_tags()}
        (stack,) = (s for s in elf.iter_segments() if s["p_type"] == "PT_GNU_STACK")
        names = {s["p_type"] for s in elf.iter_segments()}
        assert not any(s["p_flags"] & 3 == 3 for s in elf.iter_segments("PT_LOAD"))
    assert not tags & {"DT_NEEDED", "DT_TEXTREL", "DT_RPATH", "DT_INIT", "DT_INIT_ARRAY"}
    assert stack["p_flags"] & 1 == 0, "the stack must not be executable"
    assert "PT_GNU_RELRO" in names


@pytest.mark.parametrize(("cpu", "toolchain"), builds("cortex-a76", "armv7"))
def test_same_bytes_from_another_folder(
    cpu: str, toolchain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder, locale, time zone and include path leave no trace."""
    first = tiny_shared(cpu, toolchain)
    monkeypatch.setenv("LANG", "tr_TR.UTF-8")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("CPATH", str(tmp_path))
    found = find_cross(CPUS[cpu], toolchain)
    folder = tmp_path / "quite" / "another place"
    second = build_shared(whole_tiny_library(), CPUS[cpu], folder=folder, toolchain=found)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert str(tmp_path).encode() not in second.path.read_bytes()
    assert (first.build, first.sizes) == (second.build, second.sizes)


@pytest.mark.parametrize(("cpu", "toolchain"), BUILDS)
def test_sizes(cpu: str, toolchain: str) -> None:
    """The library's constants are its weights; it has code and no variables."""
    sizes = tiny_shared(cpu, toolchain).sizes
    assert sizes.weights == whole_tiny_library().weights_bytes
    assert sizes.data == 0
    assert 200 < sizes.code < 20_000
    assert 0 < sizes.linkage < 2000


@pytest.mark.parametrize(("cpu", "toolchain"), builds("aarch64"))
def test_variables_and_addresses(cpu: str, toolchain: str) -> None:
    """A pointer in a constant is a relative relocation, a variable is counted as data."""
    source = """
static int probe_variable[3] = {1, 2, 3};
static int *const probe_table[2] = {probe_variable, probe_variable + 2};
int probe(int i);
int probe(int i) { return ++*probe_table[i & 1]; }
"""
    library = whole_tiny_library()
    layers = (*library.layers, replace(library.layers[0], symbol="probe"))
    library = replace(library, files={**library.files, "probe.c": source}, layers=layers)
    shared = shared_of(library, cpu, toolchain)
    assert shared.sizes.data >= 12
    assert len(SharedImage.read(shared.path).relocations) >= 2


def wrong(source: str) -> Library:
    library = whole_tiny_library()
    text = str(library.files["tiny.c"])
    return replace(library, files={**library.files, "tiny.c": text + source})


@pytest.mark.parametrize(("cpu", "toolchain"), builds("aarch64"))
def test_what_does_not_build_is_reported(cpu: str, toolchain: str) -> None:
    """The compiler's words for nonsense, the linker's for a function that is nowhere."""
    with pytest.raises(EdgekitError, match="nonsense"):
        shared_of(wrong("int f(void) { return nonsense; }\n"), cpu, toolchain)
    call = wrong("int absent(void);\nint tiny_more(void) { return absent(); }\n")
    layer = replace(call.layers[0], symbol="tiny_more")
    with pytest.raises(EdgekitError, match="absent"):
        shared_of(replace(call, layers=(layer,)), cpu, toolchain)


def test_flags() -> None:
    """What is recorded holds no paths, keeps floats exact and chooses the processor."""
    for cpu in CPUS.values():
        for name in (cpu.platform.gcc, "ziglang"):
            kind = type(find_cross(cpu, name)) if compiler.installed_version(name) else None
            if kind is None:
                continue
            flags = kind(name, "1").compile_flags(cpu)
            assert not [flag for flag in flags if "/" in flag]
            assert {"-std=c99", "-O3", "-ffp-contract=off", "-fPIC"} <= set(flags)
            assert "-ffast-math" not in flags


@pytest.mark.parametrize(("cpu", "toolchain"), builds(*EMULATED, "x86-64"))
def test_machine_flags_are_known(cpu: str, toolchain: str, tmp_path: Path) -> None:
    """Every processor's flags mean something to every compiler; the file is for its machine."""
    (tmp_path / "f.c").write_text("int f(int a);\nint f(int a) { return a * 3; }\n")
    found = find_cross(CPUS[cpu], toolchain)
    (name,) = found.compile_objects(["f.c"], target=CPUS[cpu], folder=tmp_path, flags=["-Werror"])
    with (tmp_path / name).open("rb") as stream:
        machine = ELFFile(stream)["e_machine"]
    known = {"aarch64": "EM_AARCH64", "armv7": "EM_ARM", "x86-64": "EM_X86_64"}
    assert machine == known[CPUS[cpu].architecture]


def test_missing_compilers_name_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown names list the known; nothing installed says what to install."""
    aarch64 = CPUS["aarch64"]
    with pytest.raises(UsageError, match=r"'tcc'; known: aarch64-linux-gnu-gcc, .*ziglang"):
        find_cross(aarch64, "tcc")
    monkeypatch.setattr(compiler, "installed_version", lambda name: None)
    with pytest.raises(ToolchainMissingError, match=r"no compiler for aarch64 .*gcc-aarch64.*zig"):
        find_cross(aarch64)
    with pytest.raises(ToolchainMissingError, match="gcc-arm-linux-gnueabihf"):
        find_cross(CPUS["armv7"], "arm-linux-gnueabihf-gcc")


def test_ziglang_alone_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any GCC the pip package is taken."""
    monkeypatch.setattr(
        compiler, "installed_version", lambda name: "zig 1" if name == "ziglang" else None
    )
    for cpu in CPUS.values():
        assert find_cross(cpu).name == "ziglang"
