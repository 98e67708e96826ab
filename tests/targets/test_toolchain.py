"""Toolchains: found or reported, reproducible, honest about failures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from edgekit.errors import EdgekitError, ToolchainMissingError, UsageError
from edgekit.targets import compiler as module
from edgekit.targets.compiler import clean_environment, installed_version, run_tool
from edgekit.targets.target import target
from edgekit.targets.toolchain import TOOLCHAINS as KNOWN
from edgekit.targets.toolchain import find_toolchain
from tests.support.images import GCC, TOOLCHAINS, ZIG

SOURCE = """
#include <stdint.h>
#include <string.h>
const char *where(void) { return __FILE__; }
int32_t load(const void *from) { int32_t v; memcpy(&v, from, sizeof v); return v; }
int64_t product(int64_t a, int64_t b) { return a * b; }
"""


def build(folder: Path, name: str, core: str = "cortex-m4") -> bytes:
    """Compile :data:`SOURCE` in `folder`."""
    (folder / "part").mkdir(parents=True)
    (folder / "part" / "probe.c").write_text(SOURCE)
    (folder / "runtime").mkdir()
    template = Path(module.__file__).parent / "microcontroller" / "image" / "string.h"
    (folder / "runtime" / "string.h").write_bytes(template.read_bytes())
    (output,) = find_toolchain(name).compile_objects(
        ["part/probe.c"], target=target(core), folder=folder
    )
    assert output == "part/probe.o"
    return (folder / output).read_bytes()


@pytest.mark.parametrize("name", TOOLCHAINS)
def test_version(name: str) -> None:
    """The version is one line and names the tool."""
    version = find_toolchain(name).version
    assert "\n" not in version
    assert ("arm-none-eabi-gcc" if name == GCC else "zig ") in version


@pytest.mark.parametrize("name", TOOLCHAINS)
def test_reproducible(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another folder, locale, time zone and include path give the same bytes."""
    first = build(tmp_path / "a", name)
    for variable, value in {
        "LC_ALL": "de_DE.UTF-8",
        "LANG": "tr_TR.UTF-8",
        "TZ": "Pacific/Auckland",
        "CPATH": str(tmp_path),
        "SOURCE_DATE_EPOCH": "86400",
    }.items():
        monkeypatch.setenv(variable, value)
    second = build(tmp_path / "quite" / "another place", name)
    assert first == second
    assert b"part/probe.c" in first
    assert str(tmp_path).encode() not in first


@pytest.mark.parametrize("name", TOOLCHAINS)
def test_small_copies_are_inlined(name: str, tmp_path: Path) -> None:
    """Reading a word by memcpy is a load, not a call, although there is no C library."""
    assert b"memcpy" not in build(tmp_path, name)


@pytest.mark.parametrize("name", TOOLCHAINS)
def test_compile_error_is_reported(name: str, tmp_path: Path) -> None:
    """The compiler's own words reach the user."""
    (tmp_path / "wrong.c").write_text("int f(void) { return nonsense; }\n")
    with pytest.raises(EdgekitError, match="nonsense"):
        find_toolchain(name).compile_objects(
            ["wrong.c"], target=target("cortex-m4"), folder=tmp_path
        )


def test_flags_hold_no_paths() -> None:
    """What is recorded as flags is the same on every machine."""
    for name, kind in KNOWN.items():
        flags = kind(name, "1").compile_flags(target("cortex-m33"))
        assert not [flag for flag in flags if "/" in flag]
        assert {"-std=c99", "-O2", "-ffp-contract=off"} <= set(flags)


@pytest.mark.parametrize("name", TOOLCHAINS)
def test_the_record_is_every_flag(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a compiler is given beside the recorded flags are folders and names."""
    commands = []

    def spy(command: Sequence[str], folder: Path) -> str:
        commands.append(list(command))
        return run_tool(command, folder)

    found = find_toolchain(name)
    monkeypatch.setattr(module, "run_tool", spy)
    want = build(tmp_path / "a", name)
    (command,) = commands
    flags = list(found.build(target("cortex-m4")).flags)
    head, tail = list(found.compiler), command[len(found.compiler) + len(flags) :]
    assert command == [*head, *flags, *tail]
    assert tail[:2] == ["-isystem", "runtime"]
    assert [flag.partition("=")[0] for flag in tail[2:4]] == ["-frandom-seed", "-ffile-prefix-map"]
    assert tail[4:] == ["-c", "part/probe.c", "-o", "part/probe.o"]
    # By the record alone the same bytes come out, but for the optional folder mapping.
    run_tool([*head, *flags, *tail[:2], *tail[4:]], tmp_path / "a")
    assert (tmp_path / "a" / "part" / "probe.o").read_bytes() == want


def test_unknown_name() -> None:
    """A name that is no toolchain is a usage error that lists the names."""
    with pytest.raises(UsageError, match=r"'armcc'; known: arm-none-eabi-gcc, ziglang"):
        find_toolchain("armcc")


def test_missing_tools_name_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing installed: the error says what to install."""
    monkeypatch.setattr(module, "installed_version", lambda name: None)
    with pytest.raises(ToolchainMissingError, match="gcc-arm-none-eabi"):
        find_toolchain(GCC)
    with pytest.raises(ToolchainMissingError, match=r"ziglang \(pip\)"):
        find_toolchain(ZIG)
    with pytest.raises(ToolchainMissingError, match=r"gcc-arm-none-eabi.*, or ziglang"):
        find_toolchain()


def test_absent_is_found_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the program on the path there is no version."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_version.__wrapped__(GCC) is None


def test_clean_environment_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zig gets a cache folder even where there is no home."""
    for variable in ("HOME", "XDG_CACHE_HOME", "ZIG_GLOBAL_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CPATH", "/somewhere")
    environment = clean_environment()
    assert environment["ZIG_LOCAL_CACHE_DIR"] == environment["ZIG_GLOBAL_CACHE_DIR"]
    assert "CPATH" not in environment
    assert environment["LC_ALL"] == "C"
