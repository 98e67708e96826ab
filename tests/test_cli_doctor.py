"""``edgekit doctor`` on what cycles are modelled with: tried, not looked up."""

from __future__ import annotations

from typing import Any

import pytest

from edgekit.cli import doctor
from edgekit.errors import EdgekitError, ToolchainMissingError, UnsupportedError


def rows() -> dict[str, dict[str, Any]]:
    """Of the parts that cycles need."""
    return {row["part"]: row for row in doctor._cycles()}


@pytest.mark.needs("cc", "qemu-system-arm", "llvm-mca")
def test_all_there() -> None:
    found = rows()
    assert found.keys() == {doctor.RECORDER, doctor.PLUGIN, "llvm-mca"}
    for row in found.values():
        assert (row["status"], row["mend"]) == ("works", None)
        assert any(letter.isdigit() for letter in row["version"])


@pytest.mark.parametrize(
    ("part", "function", "error", "mend"),
    [
        (doctor.RECORDER, "load_recorder", ToolchainMissingError("none"), "apt install gcc libc6"),
        (doctor.RECORDER, "load_recorder", EdgekitError("cc failed"), "apt install gcc libc6"),
        (doctor.RECORDER, "load_recorder", OSError("noexec"), "export TMPDIR="),
        (doctor.PLUGIN, "tracing_plugin", UnsupportedError("built without"), "qemu-system-arm"),
        ("llvm-mca", "find_mca", ToolchainMissingError("too old"), "apt install llvm-19"),
    ],
)
@pytest.mark.needs("cc", "qemu-system-arm", "llvm-mca")
def test_what_fails_is_missing(
    part: str, function: str, error: Exception, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what mends it; the others work."""

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(doctor, function, refuse)
    found = rows()
    broken = found.pop(part)
    assert (broken["status"], broken["version"]) == ("missing", None)
    assert mend in broken["mend"]
    assert {row["status"] for row in found.values()} == {"works"}
