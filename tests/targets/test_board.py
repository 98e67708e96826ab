"""Boards and targets: facts, refusals, names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import InvalidBoardError, UsageError
from edgekit.targets.board import BOARD_FOLDER, Board, board_problems, load_board
from edgekit.targets.cores import CORES, Memory
from edgekit.targets.target import MICROCONTROLLER, builtin_targets, target

KIB, MIB, MHZ = 1 << 10, 1 << 20, 1_000_000

# name: core, clock, flash, data memory; from the vendors' data sheets.
FACTS = {
    "nucleo-l4r5zi": ("cortex-m4", 120 * MHZ, 2 * MIB, 640 * KIB),
    "nucleo-g0b1re": ("cortex-m0plus", 64 * MHZ, 512 * KIB, 144 * KIB),
    "nucleo-u575zi-q": ("cortex-m33", 160 * MHZ, 2 * MIB, (768 + 16) * KIB),
    "nucleo-h7a3zi-q": ("cortex-m7", 280 * MHZ, 2 * MIB, (128 + 1024 + 128 + 32) * KIB),
    "disco-f746ng": ("cortex-m7", 216 * MHZ, 1 * MIB, (64 + 256) * KIB),
    "nrf52840-dk": ("cortex-m4", 64 * MHZ, 1 * MIB, 256 * KIB),
    "rp2040": ("cortex-m0plus", 125 * MHZ, 2 * MIB - 256, 264 * KIB),
    "rp2350": ("cortex-m33", 150 * MHZ, 4 * MIB, 520 * KIB),
    "arduino-nano-33-ble": ("cortex-m4", 64 * MHZ, 1 * MIB - 64 * KIB, 256 * KIB),
    "mps3-an547": ("cortex-m55", 32 * MHZ, 0, (512 + 4096) * KIB),
}

GOOD = """
name = "my-board"
vendor = "Somebody"
mcu = "STM32F407VG"
core = "cortex-m4"
clock_hz = 168_000_000
[[memory]]
name = "flash"
kind = "flash"
origin = 0x0800_0000
bytes = 1_048_576
[[memory]]
name = "sram"
kind = "ram"
origin = 0x2000_0000
bytes = 131_072
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "board.toml"
    path.write_text(text)
    return path


def test_facts() -> None:
    """Every shipped board is what its data sheet says; none is missing."""
    boards = {name: t.board for name, t in builtin_targets().items() if t.board is not None}
    found = {
        name: (
            board.core,
            board.clock_hz,
            sum(m.bytes for m in board.memories if m.kind == "flash"),
            sum(m.bytes for m in board.memories if m.is_data),
        )
        for name, board in boards.items()
    }
    assert found == FACTS
    assert {path.stem for path in BOARD_FOLDER.glob("*.toml")} == set(boards)


def test_power_is_stated_only_where_it_is_known() -> None:
    """The three figures from measurements, and null elsewhere."""
    power = {n: t.board.power for n, t in builtin_targets().items() if t.board and t.board.power}
    assert {n: p.picojoules_per_cycle for n, p in power.items()} == {
        "nucleo-l4r5zi": 350,
        "nucleo-u575zi-q": 144,
        "nucleo-h7a3zi-q": 436,
    }
    assert all(p.source and p.conditions for p in power.values())
    for name, p in power.items():
        if p.milliwatts is not None:
            board = target(name).board
            assert board is not None
            # Power is energy per cycle times clock; the published figures are rounded.
            assert p.milliwatts == pytest.approx(
                p.picojoules_per_cycle * 1e-9 * board.clock_hz, rel=0.01
            )


def test_emulated_board_has_qemus_map() -> None:
    """QEMU boots images of the one board that it emulates as they are."""
    machine = CORES["cortex-m55"].qemu
    assert machine is not None
    facts = [(m.name, m.origin, m.bytes) for m in machine.memories]
    assert [(m.name, m.origin, m.bytes) for m in target("mps3-an547").memories] == facts


def test_users_board(tmp_path: Path) -> None:
    """A path is a target too; what is left out has defaults."""
    found = target(str(write(tmp_path, GOOD)))
    assert found.name == "my-board"
    assert found.fpu == "fpv4-sp-d16"
    assert found.board is not None
    assert found.board.power is None
    assert found.devices == ("emulator", "qemu")
    assert found.features == {"dsp", "fp32"}


def test_every_problem_is_listed(tmp_path: Path) -> None:
    """Ten mistakes in one file, ten lines."""
    text = """
name = "My Board"
mcu = ""
core = "cortex-m5"
clock_hz = 0
colour = "blue"
[[memory]]
name = "flash"
kind = "rom"
origin = 2
bytes = -4
[[memory]]
name = "flash"
kind = "ram"
origin = 0xFFFF_FFF0
bytes = 64
wait_states = "few"
"""
    with pytest.raises(InvalidBoardError) as caught:
        load_board(write(tmp_path, text))
    fields = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert sorted(fields) == sorted(
        [
            *("colour", "vendor", "name", "mcu", "core", "clock_hz"),
            *("memory[0].kind", "memory[0].origin", "memory[0].bytes"),
            *("memory[1].name", "memory[1].wait_states", "memory[1].bytes", "memory"),
        ]
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("clock_hz = 168_000_000", "clok_hz = 1"), "did you mean clock_hz"),
        (("clock_hz = 168_000_000", "clock_hz = true"), "clock_hz: must be an integer"),
        (("clock_hz = 168_000_000", "clock_hz = 168e6"), "clock_hz: must be an integer"),
        (("0x2000_0000", "0x080F_0000"), "flash and sram overlap at 0x080f0000"),
        (('"cortex-m4"', '"cortex-m4"\nfpu = "fpv5-d16"'), "has one of fpv4-sp-d16, none"),
        (('kind = "ram"', 'kind = "flash"'), "nothing holds variables"),
        (('kind = "flash"', 'kind = "ram"'), "nothing holds the program"),
        (('kind = "ram"', "kind = [1]"), r"kind: must be one of flash, ram, itcm, dtcm, not \[1\]"),
        (("[[memory]]", "[memory]"), "is not TOML"),
        (('vendor = "Somebody"', "vendor = 3"), "vendor: must be text, not 3"),
        (("bytes = 131_072", "bytes = 131_071"), "must be a multiple of 4"),
        (
            ('name = "my-board"', 'name = "my-board"\npower = 3'),
            "power: must be a table, not 3",
        ),
    ],
)
def test_refusals(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    """One impossible value, one line that says what would be right."""
    with pytest.raises(InvalidBoardError, match=words):
        load_board(write(tmp_path, GOOD.replace(*change)))


def test_impossible_power(tmp_path: Path) -> None:
    """A spread must be around the figure, and figures must be positive."""
    text = """
[power]
picojoules_per_cycle = 100
milliwatts = -1
spread_picojoules_per_cycle = [200, 300]
conditions = "1.8 V"
"""
    with pytest.raises(InvalidBoardError) as caught:
        load_board(write(tmp_path, GOOD + text))
    assert "power.milliwatts" in str(caught.value)
    assert "power.spread_picojoules_per_cycle" in str(caught.value)
    assert "power.source: missing" in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    """No file, a folder and binary data are refused by name."""
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.toml", "binary.toml"):
        with pytest.raises(InvalidBoardError, match=name):
            target(str(tmp_path / name))


def test_constructor_refuses_too() -> None:
    """A board made in Python is checked like one from a file."""
    memories = (Memory("flash", "flash", 0, 1024), Memory("ram", "ram", 0x2000_0000, 1024))
    board = Board("b", "v", "m", "cortex-m3", 32_000, memories)
    assert board.fpu == "none"
    with pytest.raises(InvalidBoardError, match="clock_hz"):
        dataclasses.replace(board, clock_hz=-1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        board.clock_hz = 5  # type: ignore[misc]


VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    *(st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.none())),
)
MEMORIES = st.lists(
    st.dictionaries(
        st.sampled_from([f.name for f in dataclasses.fields(Memory)] + ["x"]), VALUES, max_size=7
    ),
    max_size=3,
)


@given(
    st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Board)] + ["x"]), VALUES),
    MEMORIES,
)
def test_garbage_is_refused_not_crashed_on(values: dict[str, Any], memories: Any) -> None:
    """Whatever a file holds, the only error is the typed one."""
    problems = board_problems({**values, "memories": memories})
    assert problems
    assert all(isinstance(p, str) for p in problems)


def test_unknown_target() -> None:
    """The nearest name and the whole list."""
    with pytest.raises(UsageError, match=r"did you mean nucleo-l4r5zi\?.*cortex-m0plus, .*rp2350"):
        target("Nucleo-L4R5")
    with pytest.raises(UsageError, match=r"unknown target 'qqq'\. Known: host, "):
        target("qqq")


def test_status_and_devices() -> None:
    """What runs where, for every target."""
    status = {name: (t.status, t.devices) for name, t in builtin_targets().items()}
    assert status["host"] == ("works", ("local",))
    assert status["cortex-m4"] == ("emulated", ("emulator", "qemu"))
    assert status["mps3-an547"] == ("emulated", ("qemu",))
    family = [t for t in builtin_targets().values() if t.family == MICROCONTROLLER]
    assert len(family) == len(CORES) + len(FACTS)


def test_targets_are_values() -> None:
    """Looking a target up twice gives equal, hashable, unchangeable values."""
    assert target("rp2040") == target("rp2040")
    assert len({target("rp2040"), target("rp2040"), target("rp2350")}) == 2
    with pytest.raises(TypeError):
        builtin_targets()["rp2040"] = target("host")  # type: ignore[index]
