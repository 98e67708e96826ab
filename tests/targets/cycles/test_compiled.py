"""C of ours on this machine: compiled once, and never a reason to fail."""

from __future__ import annotations

import ctypes
import logging
import platform
import stat
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import EdgekitError, ToolchainMissingError
from edgekit.targets import qemu
from edgekit.targets.compiler import ZIG
from edgekit.targets.cycles.trace import compiled, kept, qemu_plugin
from edgekit.targets.cycles.trace import native_recorder as native
from edgekit.targets.cycles.trace.compiled import Sources, compile_library
from edgekit.targets.cycles.trace.native_recorder import SOURCES, native_library
from edgekit.targets.host import HostCompiler, host_compiler
from tests.support.traces import FLASH, Script, flash, memory_of, record

CACHES = (native_library, qemu_plugin._compiled, qemu.tracing_plugin)
"""What a process keeps of compiled code; the last knows where the one before it lies."""

SLOW = "recorded in Python, which is slow: "


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where compiled code is kept: an empty place of its own, and nothing is loaded."""
    monkeypatch.delenv("EDGEKIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    forget()
    yield tmp_path / "cache" / "edgekit" / "native"
    forget()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is compiled."""
    found = []

    def counted(sources: Sources, *rest: Any) -> Path:
        found.append(sources.name)
        return compile_library(sources, *rest)

    monkeypatch.setattr(compiled, "compile_library", counted)
    return found


def forget() -> None:
    """What the next process does not know."""
    for one in CACHES:
        one.cache_clear()


def works() -> bool:
    """Whether there is a recorder in C, and it records."""
    script = Script().run(FLASH, (2,) * 8)
    memory = memory_of(flash(2, 8))
    return native_library() is not None and (
        record(script, memory, native=True) == record(script, memory)
    )


def kept_name() -> str:
    """Under which the recorder is kept."""
    return f"recorder-{compiled.digest(SOURCES, host_compiler())}"


@pytest.mark.needs("cc")
def test_compiled_once_and_kept(folder: Path, calls: list[str]) -> None:
    """The second process finds what the first compiled, and neither leaves anything else."""
    for _ in range(2):
        assert works()
        forget()
    assert calls == ["recorder"]
    assert list(folder.iterdir()) == [folder / kept_name()]
    assert list(folder.parents[2].iterdir()) == [folder.parents[1]]


@pytest.mark.needs("cc")
def test_plugins_are_kept_too(folder: Path, calls: list[str]) -> None:
    """One for each version of QEMU's interface."""
    for _ in range(2):
        assert qemu_plugin.compile_plugin(1).read_bytes()[:4] == b"\x7fELF"
        forget()
    assert qemu_plugin.compile_plugin(2).is_file()
    assert calls == ["qemu_plugin"] * 2
    assert len(list(folder.iterdir())) == 2


@pytest.mark.needs("cc")
@pytest.mark.parametrize("what", ["cut", "no code", "other code", "somebody else's"])
def test_what_is_no_recorder_is_replaced(folder: Path, calls: list[str], what: str) -> None:
    """Cut short, not to be loaded, without our functions, open to others: compiled again."""
    assert works()
    forget()
    path = folder / kept_name()
    if what == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif what == "no code":
        kept.write(path.name, b"\x7fELF, but no more")
    elif what == "other code":
        (folder / "made").mkdir()
        other = Sources("other", ("table.c",), headers=("table.h",))
        kept.write(path.name, compile_library(other, host_compiler(), folder / "made").read_bytes())
    else:
        path.chmod(0o666)
    assert works()
    forget()
    assert works()
    assert calls == ["recorder"] * 2


@pytest.mark.needs("cc")
@pytest.mark.parametrize("what", ["file", "open", "foreign", "homeless", "read-only"])
def test_without_a_place_to_keep_it(
    folder: Path,
    what: str,
    calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Compiled by every process then, in a temporary folder that is gone afterwards; said once."""
    top = folder.parents[1]
    if what == "file":
        top.write_text("in the way")
    elif what == "open":
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    elif what == "foreign":
        user = kept.os.geteuid()
        monkeypatch.setattr(kept.os, "geteuid", lambda: user + 1)
    elif what == "read-only":

        def refuse(*_: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(kept, "_make_folder", refuse)
    else:

        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(Path, "home", homeless)
    for _ in range(2):
        with caplog.at_level(logging.INFO):
            assert works()
        assert works()
        assert caplog.text.count("compiled recorder is not kept: ") == 1
        caplog.clear()
        forget()
    assert len(calls) == 2
    assert {path.name for path in top.parent.iterdir()} <= {top.name}
    assert not folder.is_dir() or not list(folder.iterdir())


def test_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No library, and one warning that says why it is slow."""

    def missing() -> None:
        raise ToolchainMissingError("no C compiler on this host")

    monkeypatch.setattr(native, "host_compiler", missing)
    for _ in range(2):
        assert native_library() is None
    assert caplog.text.count(f"{SLOW}no C compiler on this host") == 1
    assert [entry.levelname for entry in caplog.records] == ["WARNING"]


@pytest.mark.needs("cc")
def test_where_nothing_loads(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A machine on which no written file may be run."""

    def refuse(path: str) -> None:
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert native_library() is None
    assert SLOW in caplog.text
    assert "failed to map segment" in caplog.text


def test_broken_compilers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Their words are passed on, and nothing is left."""
    broken = HostCompiler("cc", "none", ("false",))
    monkeypatch.setattr(native, "host_compiler", lambda: broken)
    monkeypatch.setattr(qemu_plugin, "host_compiler", lambda: broken)
    assert native_library() is None
    assert f"{SLOW}false failed (1)" in caplog.text
    with pytest.raises(EdgekitError, match="which cc does not compile; install gcc"):
        qemu_plugin.compile_plugin(1)
    assert list(folder.parents[2].iterdir()) == []


def test_without_a_place_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    some = HostCompiler("cc", "none", ("false",))
    monkeypatch.setattr(native, "host_compiler", lambda: some)
    monkeypatch.setattr(qemu_plugin, "host_compiler", lambda: some)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert native_library() is None
    assert f"{SLOW}[Errno 2]" in caplog.text
    with pytest.raises(ToolchainMissingError, match="there is no place for it"):
        qemu_plugin.compile_plugin(1)


def test_machines_that_share_a_home_keep_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another processor, system or C library, another compiler, flags or sources: another name."""
    compiler = HostCompiler("cc", "12", ("cc",))

    def name(sources: Sources = SOURCES, **changes: Any) -> str:
        return compiled.digest(sources, replace(compiler, **changes))

    found = [
        name(),
        name(version="13"),
        name(command=("cc", "-m32")),
        name(flags=("-m32",)),
        name(replace(SOURCES, flags=("-DX=1",))),
        name(replace(SOURCES, files=SOURCES.files[1:])),
        name(replace(SOURCES, files=SOURCES.files[::-1])),
    ]
    for owner, function, answer in (
        (platform, "machine", "sparc"),
        (platform, "system", "Plan 9"),
        (platform, "libc_ver", ("glibc", "3.0")),
        (sysconfig, "get_config_var", "cpython-311-i386-linux-gnu"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, function, lambda *_, told=answer: told)
            found.append(name())
    assert len(set(found)) == len(found)
    assert name() == found[0]


WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wpedantic")
PLUGIN = replace(qemu_plugin.SOURCES, flags=("-DEK_PLUGIN_API=1",))


@pytest.mark.parametrize("sources", [SOURCES, PLUGIN], ids=lambda sources: sources.name)
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("gcc",), marks=pytest.mark.needs("cc")),
        pytest.param(("clang",), marks=pytest.mark.needs("clang")),
        pytest.param((*ZIG, "cc"), marks=pytest.mark.needs("ziglang")),
    ],
    ids=lambda command: command[-1] if len(command) == 1 else "zig",
)
def test_compiles_without_warnings(
    command: tuple[str, ...], sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every compiler that may be the host's."""
    # In a new cache folder zig would compile its runtime first.
    monkeypatch.delenv("XDG_CACHE_HOME")
    paths = [str(compiled.FOLDER / name) for name in sources.files]
    output = tmp_path / "code.so"
    flags = (*compiled.FLAGS, *sources.flags, *WARNINGS)
    subprocess.run([*command, *flags, "-o", str(output), *paths], check=True)
    assert stat.S_ISREG(output.stat().st_mode)
