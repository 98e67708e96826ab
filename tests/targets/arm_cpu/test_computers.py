"""Processors and computers: facts, refusals, and targets made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import InvalidBoardError, UnsupportedError
from edgekit.program.ir import DType
from edgekit.targets.arm_cpu import cpus
from edgekit.targets.arm_cpu.computer import COMPUTER_FOLDER, Computer, computer_problems
from edgekit.targets.arm_cpu.cpus import CPUS
from edgekit.targets.legality import legality
from edgekit.targets.target import ARM_CPU, MICROCONTROLLER, builtin_targets, target

# name: processor, clock, cores; from the vendor's product briefs.
FACTS = {
    "raspberry-pi-4": ("cortex-a72", 1_500_000_000, 4),
    "raspberry-pi-5": ("cortex-a76", 2_400_000_000, 4),
}

GOOD = """
name = "my-computer"
vendor = "Somebody"
description = "four Cortex-A53"
cpu = "cortex-a53"
clock_hz = 1_200_000_000
cores = 4
"""


def write(folder: Path, text: str) -> str:
    path = folder / "computer.toml"
    path.write_text(text)
    return str(path)


def test_facts() -> None:
    """Every shipped computer is what its vendor says; none is missing."""
    found = {
        name: (t.computer.cpu, t.computer.clock_hz, t.computer.cores)
        for name, t in builtin_targets().items()
        if t.computer is not None
    }
    assert found == FACTS
    assert {path.stem for path in COMPUTER_FOLDER.glob("*.toml")} == set(FACTS)


def test_targets() -> None:
    """Processors and computers are targets of the family, with their features."""
    family = {name: t for name, t in builtin_targets().items() if t.family == ARM_CPU}
    assert set(family) == {*CPUS, *FACTS}
    assert all(family[name].clock_hz is None for name in CPUS)
    assert family["raspberry-pi-5"].features == {"dotprod"}
    assert family["raspberry-pi-5"].clock_hz == 2_400_000_000
    assert family["aarch64"].features == frozenset()
    for t in family.values():
        row = next(row for row in legality(t) if row.operator == "conv_2d")
        words = [row.word(dtype) for dtype in (DType.INT8, DType.INT16, DType.FLOAT32)]
        assert words == ["yes"] * 3


@pytest.mark.parametrize("architecture", ["x86-64", "aarch64", "armv7"])
def test_devices(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor is local where its architecture is this machine's; others are emulated."""
    monkeypatch.setattr(cpus, "this_architecture", lambda: architecture)
    monkeypatch.setattr(cpus, "these_features", frozenset)
    for cpu in CPUS.values():
        local = cpu.architecture == architecture and not cpu.features
        emulated = () if cpu.architecture == "x86-64" else ("emulator", "qemu")
        assert cpu.devices == (("local",) if local else ()) + emulated
    monkeypatch.setattr(cpus, "these_features", lambda: frozenset({"dotprod"}))
    assert CPUS["cortex-a76"].runs_here == (architecture == "aarch64")


def test_users_computer(tmp_path: Path) -> None:
    """A path is a target too; the key `cpu` tells a computer from a board."""
    found = target(write(tmp_path, GOOD))
    assert (found.name, found.family, found.clock_hz) == ("my-computer", ARM_CPU, 1_200_000_000)
    assert found.cpu is CPUS["cortex-a53"]
    assert target("rp2040").family == MICROCONTROLLER


def test_every_problem_is_listed(tmp_path: Path) -> None:
    """Six mistakes in one file, six lines."""
    text = """
name = "My Computer"
vendor = ""
cpu = "cortex-a99"
clock_hz = 1.5e9
cores = 0
colour = "green"
"""
    with pytest.raises(InvalidBoardError) as caught:
        target(write(tmp_path, text))
    fields = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert sorted(fields) == sorted(
        ["name", "vendor", "description", "cpu", "clock_hz", "cores", "colour"]
    )
    assert "must be one of aarch64, armv7" in str(caught.value)


def test_constructor_refuses_too() -> None:
    """A computer made in Python is checked like one from a file."""
    with pytest.raises(InvalidBoardError, match="cores: must be an integer from 1"):
        Computer("mine", "me", "mine", "aarch64", 1_000_000_000, -1)


VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    *(st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.none())),
)


@given(st.dictionaries(st.sampled_from(["name", "cpu", "cores", "clock_hz", "x"]), VALUES))
def test_garbage_is_refused_not_crashed_on(values: dict[str, Any]) -> None:
    """Whatever a file holds, every problem is a line: here at least a vendor is missing."""
    assert "vendor: missing" in computer_problems(values)


def test_no_kernels_are_claimed_for_tensorrt() -> None:
    """The table of our kernels says nothing about a Jetson, and is refused there."""
    with pytest.raises(UnsupportedError, match="TensorRT brings its own kernels"):
        legality(target("jetson"))
