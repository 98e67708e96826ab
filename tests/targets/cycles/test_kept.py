"""Kept code: given back as it was, and nobody else's, whoever tries whatever."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.targets.cycles.trace import kept

NAME = "recorder-0123"
OURS, HOSTILE = b"our code" * 9000, b"hostile code"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where kept code is to lie; not there yet."""
    monkeypatch.delenv("EDGEKIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgekit" / "native"


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything belongs to somebody else."""
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)


def test_given_back_whole(folder: Path) -> None:
    """Also in place of other code; readable by this user alone, whatever the process' mask is."""
    assert kept.read(NAME) is None
    before = os.umask(0)
    try:
        kept.write(NAME, HOSTILE)
        kept.write(NAME, OURS)
    finally:
        os.umask(before)
    assert kept.read(NAME) == OURS
    assert list(folder.iterdir()) == [folder / NAME]
    assert (folder / NAME).stat().st_mode & 0o777 == 0o600
    for made in (folder, folder.parent, folder.parent.parent):
        assert made.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", [b"", b"\x7fELF", None, "bit"])
def test_damaged_code_is_none(folder: Path, damage: bytes | str | None) -> None:
    kept.write(NAME, OURS)
    whole = (folder / NAME).read_bytes()
    cut = whole[:-1] if damage is None else whole[:-1] + b"X" if damage == "bit" else damage
    assert isinstance(cut, bytes)
    (folder / NAME).write_bytes(cut)
    assert kept.read(NAME) is None


@pytest.mark.parametrize("mode", [0o775, 0o702, 0o1777])
def test_folders_that_others_may_write_to(folder: Path, mode: int) -> None:
    """Are neither read nor written."""
    kept.write(NAME, OURS)
    folder.chmod(mode)
    with pytest.raises(PermissionError, match=r"others than this user may write to .*native"):
        kept.read(NAME)
    with pytest.raises(PermissionError, match="others than this user"):
        kept.write("other", OURS)
    assert list(folder.iterdir()) == [folder / NAME]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_files_that_others_may_write_to(folder: Path, mode: int) -> None:
    """Are not read, but replaced."""
    kept.write(NAME, OURS)
    (folder / NAME).chmod(mode)
    with pytest.raises(PermissionError, match="others than this user may write to recorder"):
        kept.read(NAME)
    kept.write(NAME, OURS)
    assert kept.read(NAME) == OURS


def test_somebody_elses(folder: Path, request: pytest.FixtureRequest) -> None:
    """What another user left is not read, and nothing is left in another user's home."""
    kept.write(NAME, OURS)
    request.getfixturevalue("nobody")
    with pytest.raises(PermissionError, match="others than this user"):
        kept.read(NAME)
    with pytest.raises(PermissionError, match="others than this user"):
        kept.write(NAME, HOSTILE)


@pytest.mark.usefixtures("nobody")
def test_nothing_is_made_in_somebody_elses_home(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="is somebody else's"):
        kept.write(NAME, OURS)
    assert list(tmp_path.iterdir()) == []


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    """Neither to a file, which is replaced and its target left alone, nor to a folder."""
    kept.write("elsewhere", OURS)
    whole = (folder / "elsewhere").read_bytes()
    (folder / NAME).symlink_to("elsewhere")
    with pytest.raises(OSError, match=NAME):
        kept.read(NAME)
    kept.write(NAME, HOSTILE)
    assert not (folder / NAME).is_symlink()
    assert (folder / "elsewhere").read_bytes() == whole
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    for use in (lambda: kept.read("elsewhere"), lambda: kept.write("elsewhere", OURS)):
        with pytest.raises(OSError, match="native"):
            use()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file(folder: Path, make: Callable[[Path], None]) -> None:
    """Is refused, and not waited for."""
    kept.write("other", OURS)
    make(folder / NAME)
    with pytest.raises(PermissionError, match="not what was put there"):
        kept.read(NAME)


def test_what_is_checked_is_what_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another folder, or file, that takes the place after the check is of no use."""
    kept.write(NAME, HOSTILE)
    folder.rename(folder.with_name("hostile"))
    kept.write(NAME, OURS)
    real, swaps = os.fstat, []

    def swapping(handle: int) -> os.stat_result:
        found = real(handle)
        if not swaps:
            folder.rename(folder.with_name("ours"))
            folder.with_name("hostile").rename(folder)
        elif len(swaps) == 1:
            (folder.with_name("ours") / NAME).rename(folder.with_name("ours") / "gone")
        swaps.append(handle)
        return found

    monkeypatch.setattr(os, "fstat", swapping)
    assert kept.read(NAME) == OURS
    assert len(swaps) >= 2
    monkeypatch.undo()


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "EDGEKIT_CACHE", "HOME"])
def test_places_that_depend_on_the_working_folder(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote the working folder would choose the code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv(variable, "here")
    if variable == "XDG_CACHE_HOME":
        (tmp_path / "home").mkdir()
        kept.write(NAME, OURS)
        assert (tmp_path / "home" / ".cache" / "edgekit" / "native" / NAME).is_file()
    else:
        with pytest.raises(FileNotFoundError, match="EDGEKIT_CACHE"):
            kept.write(NAME, OURS)
        assert kept.read(NAME) is None
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("step", ["replace", "full"])
def test_a_failed_write_leaves_all_as_it_was(
    folder: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.write(NAME, OURS)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "replace":
        monkeypatch.setattr(os, "replace", refuse)
    else:
        monkeypatch.setattr(kept.hashlib, "sha256", refuse)
    with pytest.raises(OSError, match="No space"):
        kept.write(NAME, HOSTILE)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent.parent))
    assert kept.read(NAME) == OURS
    assert list(folder.iterdir()) == [folder / NAME]


def test_many_at_once(folder: Path) -> None:
    """Whoever reads while others write finds one of what they write, whole."""
    codes = [bytes([i]) * 100_000 for i in range(4)]
    kept.write(NAME, codes[0])
    writers = [
        threading.Thread(target=lambda code=code: [kept.write(NAME, code) for _ in range(40)])
        for code in codes
    ]
    for writer in writers:
        writer.start()
    seen = []
    while any(writer.is_alive() for writer in writers):
        seen.append(kept.read(NAME))
    for writer in writers:
        writer.join()
    assert seen
    assert all(code in codes for code in seen)
    assert list(folder.iterdir()) == [folder / NAME]


@pytest.mark.parametrize("forbidden", ["nowhere", "temporary", "both"])
def test_where_code_runs(
    folder: Path, forbidden: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a temporary folder; among kept code where temporary files are not run."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    closed = {"nowhere": [], "temporary": [temporary], "both": [temporary, folder]}[forbidden]
    monkeypatch.setattr(kept, "_is_without_execution", lambda where: where in closed)
    with kept.run_folder() as name:
        assert Path(name).parent == (folder if forbidden == "temporary" else temporary)
        assert Path(name).stat().st_mode & 0o777 == 0o700
    assert list(temporary.iterdir()) == []


def test_code_does_not_run_where_others_reach(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder above that others may write to: they could put theirs in its place."""
    monkeypatch.setattr(kept, "_is_without_execution", lambda where: where != folder)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o770)
    with kept.run_folder() as name:
        assert Path(name).parent == Path(tempfile.gettempdir())
    (tmp_path / "cache").chmod(0o1770)
    with kept.run_folder() as name:
        assert Path(name).parent == folder


def test_file_systems_without_execution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the system says of each."""
    found = os.statvfs(tmp_path)
    flags = list(found)
    for noexec in (True, False):
        flags[8] = found.f_flag | os.ST_NOEXEC if noexec else found.f_flag & ~os.ST_NOEXEC
        monkeypatch.setattr(os, "statvfs", lambda _, told=tuple(flags): os.statvfs_result(told))
        assert kept._is_without_execution(tmp_path) == noexec
