"""The host as a device: failures are the user's words, its surroundings do not leak in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.errors import DeviceMissingError, EdgekitError, OutputError
from edgekit.targets import compiler, host
from edgekit.targets.host import FLAGS, HostMachine, LoadedMachine, write_files
from edgekit.targets.library import Library
from tests.support.tiny_library import tiny_inputs, tiny_library, tiny_reference

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
    monkeypatch.setattr(compiler, "TIMEOUT_S", 0.2)
    with pytest.raises(EdgekitError, match="still running"):
        HostMachine(tiny_library())


def test_build() -> None:
    """Compiler, version and every flag."""
    machine = HostMachine(tiny_library(), flags=("-Wall",))
    assert machine.build.toolchain in ("cc", "gcc", "clang")
    assert any(letter.isdigit() for letter in machine.build.version)
    assert machine.build.flags == (*FLAGS, "-Wall")
    machine.close()


@pytest.mark.needs("ziglang")
def test_ziglang_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pip package compiles for this machine too, with the same results."""
    monkeypatch.setattr(host.shutil, "which", lambda name: None)
    machine = HostMachine(tiny_library(), flags=("-Wall", "-Wextra", "-Werror"))
    assert machine.build is not None
    assert machine.build.toolchain == "ziglang"
    inputs = tiny_inputs(4)
    for port, data in zip(tiny_library().inputs, inputs, strict=True):
        machine.write(port.offset, data)
    machine.run()
    outputs = [machine.read(port.offset, port.bytes) for port in tiny_library().outputs]
    assert outputs == tiny_reference(inputs)
    machine.close()


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    """A file that is no shared object of this machine's is a missing device."""
    (tmp_path / "lib.so").write_bytes(b"not ELF")
    with pytest.raises(DeviceMissingError, match=r"cannot load .*lib\.so"):
        LoadedMachine(tiny_library(), tmp_path / "lib.so")


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
