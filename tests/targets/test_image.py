"""Images: sizes as the linker says, placement, fit, reproducibility, clean sources."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from edgekit.errors import DoesNotFitError
from edgekit.targets.board import Board
from edgekit.targets.cores import CORES, Memory
from edgekit.targets.image import Image, build_image, place
from edgekit.targets.target import Target, of_board, target
from edgekit.targets.toolchain import find_toolchain
from tests.support.images import GCC, TOOLCHAINS, fresh_folder, tiny_image
from tests.support.tiny_library import tiny_library

BOTH_KINDS = ("cortex-m0plus", "cortex-m4", "nucleo-h7a3zi-q", "mps3-an547")

# Words of the size report for output sections, written down a second time on purpose.
PURPOSES = {
    "code": [".ek_code"],
    "rodata": [".ek_rodata"],
    "weights": [".ek_weights"],
    "runtime": [".runtime"],
    "harness": [".vectors", ".harness"],
    "data": [".data"],
    "bss": [".bss"],
    "arena": [".ek_arena"],
    "state": [".ek_state"],
    "stack": [".stack"],
}


def sections_of_map(text: str, toolchain: str) -> dict[str, int]:
    """Sizes of the output sections from a linker's map, GNU ld's or lld's."""
    if toolchain == GCC:
        text = text.partition("Linker script and memory map")[2]
        # Name at the line's begin, address and size behind it, on the next line after long names.
        pattern = r"^(\.[\w.]+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+)"
        return {name: int(size, 16) for name, size in re.findall(pattern, text, re.MULTILINE)}
    # Columns: address, load address, size, alignment, then the section in the "Out" column.
    pattern = r"^ *[0-9a-f]+ +[0-9a-f]+ +([0-9a-f]+) +\d+ (\.[\w.]+)$"
    return {name: int(size, 16) for size, name in re.findall(pattern, text, re.MULTILINE)}


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("name", BOTH_KINDS)
def test_sizes_equal_the_linkers_map(name: str, toolchain: str) -> None:
    """Every figure of the report is what the linker's own map says."""
    image = tiny_image(toolchain, name)
    sections = sections_of_map((image.folder / "image.map").read_text(), toolchain)
    expected = {
        purpose: sum(sections.get(section, 0) for section in names)
        for purpose, names in PURPOSES.items()
    }
    assert asdict(image.sizes) == expected
    sizes = image.sizes
    assert (sizes.arena, sizes.state, sizes.weights) == (272, 4, 80)
    assert sizes.stack == 4096
    assert sizes.code > 0


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
def test_runtime_is_told_apart(toolchain: str) -> None:
    """Software floating point is the compiler's runtime, not the model's code."""
    soft, hard = tiny_image(toolchain, "cortex-m3").sizes, tiny_image(toolchain, "cortex-m4").sizes
    assert soft.runtime > hard.runtime + 500
    assert soft.model_flash_bytes == soft.code + soft.rodata + soft.weights + soft.runtime


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
def test_every_function_can_be_called(toolchain: str) -> None:
    """Nothing of the interface is dropped although main uses only a part."""
    symbols = tiny_image(toolchain, "cortex-m4").elf.symbols
    functions = ("init", "run", "step", "reset", "layer_0", "layer_1", "layer_2")
    assert {f"tiny_{function}" for function in functions} <= set(symbols)


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
def test_reproducible(toolchain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another folder and locale give the same ELF file, map and linker script."""
    first = tiny_image(toolchain, "cortex-m0plus")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    second = build_image(
        tiny_library(),
        target("cortex-m0plus"),
        folder=tmp_path / "somewhere else",
        toolchain=find_toolchain(toolchain),
    )
    for name in ("image.elf", "link.ld", "harness/main.c"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name
    content = second.path.read_bytes()
    assert str(tmp_path).encode() not in content
    assert b".debug_" not in content
    assert b".comment" not in content


@pytest.mark.needs(GCC)
def test_fits() -> None:
    """A small library fits everywhere, within the memories that the board has."""
    for name in BOTH_KINDS:
        image = tiny_image(GCC, name)
        image.require_fit()
        assert image.fits
        for section in image.elf.sections:
            assert any(
                m.origin <= section.address and section.address + section.bytes <= m.end
                for m in image.target.memories
            ), section


def board(*memories: Memory, core: str = "cortex-m7") -> Target:
    """A target with these memories."""
    return of_board(Board("made-up", "x", "x", core, 1_000_000, memories))


FLASH = Memory("flash", "flash", 0x0800_0000, 1 << 20)
DTCM = Memory("dtcm", "dtcm", 0x2000_0000, 64 << 10)
SRAM = Memory("sram", "ram", 0x2400_0000, 512 << 10)


@pytest.mark.needs(GCC)
@pytest.mark.parametrize("toolchain", TOOLCHAINS)
def test_too_large(toolchain: str) -> None:
    """By how many bytes, where, and what is there: to the byte."""
    where = board(FLASH, replace(DTCM, bytes=8192))
    library = tiny_library(arena_bytes=10_000)
    image = build_image(library, where, folder=fresh_folder(), toolchain=find_toolchain(toolchain))
    assert not image.fits
    (usage,) = [u for u in image.usage if u.excess]
    # Stack, state (aligned to 16), arena, context.
    assert usage.bytes == 4096 + 16 + 10_000 + 8
    assert usage.excess == usage.bytes - 8192
    with pytest.raises(DoesNotFitError) as caught:
        image.require_fit()
    words = str(caught.value)
    assert "tiny does not fit made-up" in words
    assert f"dtcm: {usage.excess} bytes too many" in words
    assert ".ek_arena 10000" in words
    # It fits exactly where it is given exactly that much.
    exact = board(FLASH, replace(DTCM, bytes=usage.bytes))
    assert build_image(
        library, exact, folder=fresh_folder(), toolchain=find_toolchain(toolchain)
    ).fits


@pytest.mark.needs(GCC)
def test_arena_goes_where_it_fits() -> None:
    """The arena moves to the larger memory, the stack stays in the fast one."""
    library = tiny_library(arena_bytes=100_000)
    image = build_image(library, board(FLASH, DTCM, SRAM), folder=fresh_folder())
    assert (image.placement.data, image.placement.arena) == ("dtcm", "sram")
    assert image.fits
    assert image.elf.symbols["ek_arena"] == SRAM.origin
    assert image.elf.symbols["ek_stack_limit"] == DTCM.origin


def test_placement_rules() -> None:
    """First fit in the board's order; weights in RAM only where there is no flash."""
    sections = {".ek_code": (1000, 4), ".ek_weights": (300_000, 8), ".ek_arena": (5000, 16)}
    itcm = Memory("itcm", "itcm", 0, 64 << 10)
    placement, usage = place(board(itcm, DTCM, SRAM), sections)
    assert (placement.program, placement.weights, placement.arena) == ("itcm", "sram", "dtcm")
    assert {u.memory.name: u.bytes for u in usage} == {"itcm": 1000, "dtcm": 5000, "sram": 300_000}
    placement, _ = place(board(FLASH, itcm, DTCM, SRAM), sections)
    assert (placement.program, placement.weights) == ("flash", "flash")
    second = Memory("external", "flash", 0x9000_0000, 8 << 20)
    placement, usage = place(board(replace(FLASH, bytes=65536), second, DTCM), sections)
    assert (placement.program, placement.weights) == ("flash", "external")
    assert not any(u.excess for u in usage)


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("core", sorted(CORES))
def test_harness_compiles_without_warnings(core: str, toolchain: str) -> None:
    """What we add to an image is as clean as generated code must be."""
    image = tiny_image(toolchain, core)
    sources = ["harness/main.c", "harness/startup.c", "harness/semihosting.c"]
    sources += [f"runtime/{name}" for name in image.toolchain.runtime_sources(image.target)]
    flags = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wsign-conversion")
    image.toolchain.compile_objects(
        sources,
        target=image.target,
        folder=image.folder,
        include=["model"],
        flags=(*flags, *image.toolchain.literal_loops),
    )


@pytest.mark.needs(GCC)
def test_generated_sources_read_well() -> None:
    """The template leaves no gaps and no markup behind."""
    image: Image = tiny_image(GCC, "cortex-m4")
    for name in ("link.ld", "harness/main.c"):
        text = (image.folder / name).read_text()
        assert text.startswith("/* SPDX-License-Identifier: Apache-2.0 OR MIT")
        assert "{%" not in text
        assert "{{" not in text
        assert "\n\n\n" not in text
        assert max(map(len, text.splitlines())) <= 110
