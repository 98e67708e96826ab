"""The host as a device: failures are the user's words, its surroundings do not leak in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.errors import EdgekitError, OutputError
from edgekit.targets import toolchain
from edgekit.targets.host import FLAGS, HostMachine, write_files
from edgekit.targets.library import Library
from tests.support.tiny_library import tiny_library

pytestmark = pytest.mark.needs("cc")


def with_file(name: str, content: str) -> Library:
    """The hand-written library and one more file."""
    library = tiny_library()
    return replace(library, files={**library.files, name: content})


def test_what_does_not_compile_is_reported() -> None:
    """A kernel of the user's: the compiler's own words, as an error of edgekit's."""
    with pytest.raises(EdgekitError, match="nonsense"):
        HostMachine(with_file("kernel.c", "int f(void) { return nonsense; }\n"))


def test_surroundings_do_not_leak_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An include path in the environment changes nothing."""
    (tmp_path / "leaked.h").write_text("")
    monkeypatch.setenv("CPATH", str(tmp_path))
    with pytest.raises(EdgekitError, match=r"leaked\.h"):
        HostMachine(with_file("kernel.c", "#include <leaked.h>\n"))


def test_a_compiler_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped."""
    fake = tmp_path / "cc"
    fake.write_text("#!/bin/sh\nexec /bin/sleep 30\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain, "TIMEOUT_S", 0.2)
    with pytest.raises(EdgekitError, match="still running"):
        HostMachine(tiny_library())


def test_build() -> None:
    """Compiler, version and every flag."""
    machine = HostMachine(tiny_library(), flags=("-Wall",))
    assert machine.build.toolchain in ("cc", "gcc", "clang")
    assert any(letter.isdigit() for letter in machine.build.version)
    assert machine.build.flags == (*FLAGS, "-Wall")
    machine.close()


@pytest.mark.parametrize("name", ["../out.h", "link/out.h", "a/../../out.h", "."])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    """Neither by a name nor through a link; the other files are not written either."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    library = tiny_library()
    # Past the library's own check of names, which is for our mistakes.
    object.__setattr__(library, "files", {"first.h": "", name: ""})
    with pytest.raises(OutputError, match="lies outside"):
        write_files(library, inside)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert [path.name for path in inside.iterdir()] == ["link"]
