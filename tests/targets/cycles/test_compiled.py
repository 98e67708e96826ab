"""C in this process: kept under a name that its contents give, and never a reason to fail."""

from __future__ import annotations

import logging
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ToolchainMissingError
from edgekit.targets.compiler import ZIG
from edgekit.targets.cycles.trace import compiled
from edgekit.targets.cycles.trace import native_recorder as native
from edgekit.targets.cycles.trace.compiled import compile_library
from edgekit.targets.cycles.trace.native_recorder import SOURCES, native_library
from edgekit.targets.host import host_compiler
from tests.support.traces import FLASH, Script, flash, memory_of, record


@pytest.fixture
def _fresh_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache folder of its own, and no library loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native_library.cache_clear()
    yield
    native_library.cache_clear()


@pytest.mark.needs("cc")
@pytest.mark.usefixtures("_fresh_library")
def test_compiled_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file is replaced; the second process finds what the first compiled."""
    calls = []

    def counted(*arguments: Any) -> Path:
        calls.append(arguments)
        return compile_library(*arguments)

    monkeypatch.setattr(compiled, "compile_library", counted)
    folder = tmp_path / "cache" / "edgekit" / "native"
    assert compiled.cache_folder() == folder
    path = folder / f"recorder-{compiled.digest(SOURCES, host_compiler())}.so"
    folder.mkdir(parents=True)
    path.write_bytes(b"\x7fELF, but no more")
    assert native_library() is not None
    assert path.stat().st_size > 10_000
    native_library.cache_clear()
    assert native_library() is not None
    assert len(calls) == 1
    assert list(folder.iterdir()) == [path]


@pytest.mark.needs("cc")
@pytest.mark.usefixtures("_fresh_library")
@pytest.mark.parametrize("what", ["file", "locked", "homeless"])
def test_without_a_writable_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Compiled into a temporary folder then, which is gone once the code is loaded."""
    folder = tmp_path / "cache"
    if what == "file":
        folder.write_text("in the way")
    elif what == "locked":

        def refuse(built: Path, path: Path) -> None:
            raise PermissionError(f"{path}: read-only")

        monkeypatch.setattr(compiled, "put", refuse)
    else:

        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(Path, "home", homeless)
    library = native_library()
    assert library is not None
    script = Script().run(FLASH, (2,) * 8)
    memory = memory_of(flash(2, 8))
    assert record(script, memory, native=True) == record(script, memory)


@pytest.mark.usefixtures("_fresh_library")
def test_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No library, and a line in the log that says why it is slow."""

    def missing() -> None:
        raise ToolchainMissingError("no C compiler on this host")

    monkeypatch.setattr(native, "host_compiler", missing)
    with caplog.at_level(logging.INFO):
        assert native_library() is None
    assert "recorded in Python, which is slow: no C compiler on this host" in caplog.text


WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wpedantic")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("gcc",), marks=pytest.mark.needs("cc")),
        pytest.param(("clang",), marks=pytest.mark.needs("clang")),
        pytest.param((*ZIG, "cc"), marks=pytest.mark.needs("ziglang")),
    ],
    ids=lambda command: command[-1] if len(command) == 1 else "zig",
)
def test_compiles_without_warnings(command: tuple[str, ...], tmp_path: Path) -> None:
    """By every compiler that may be the host's."""
    sources = [str(compiled.FOLDER / name) for name in SOURCES.files]
    output = tmp_path / "recorder.so"
    subprocess.run([*command, *compiled.FLAGS, *WARNINGS, "-o", str(output), *sources], check=True)
    assert stat.S_ISREG(output.stat().st_mode)
