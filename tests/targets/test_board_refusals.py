"""Everything that a board's file can say, and the refusal of everything that no board can be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import InvalidBoardError
from edgekit.targets.board import Board, Cache, Power, board_problems, load_board
from edgekit.targets.cores import CORES, Memory
from edgekit.targets.target import target

GOOD = """
name = "my-board"
vendor = "Somebody"
mcu = "STM32F407VG"
core = "cortex-m4"
clock_hz = 168_000_000
timing_source = "RM0090 3.5"
timing_basis = "derived"
[[memory]]
name = "flash"
kind = "flash"
origin = 0x0800_0000
bytes = 1_048_576
wait_states = 5
line_bytes = 16
prefetch = true
[[memory]]
name = "ccm"
kind = "dtcm"
origin = 0x1000_0000
bytes = 65_536
[[memory]]
name = "sram"
kind = "ram"
origin = 0x2000_0000
bytes = 131_072
[[cache]]
name = "art_instructions"
serves = "instructions"
memories = ["flash"]
bytes = 1_024
line_bytes = 16
ways = 64
[[cache]]
name = "art_data"
serves = "data"
memories = ["flash"]
bytes = 128
line_bytes = 16
ways = 8
[power]
picojoules_per_cycle = 350
milliwatts = 58.8
spread_picojoules_per_cycle = [277, 650]
conditions = "1.8 V"
source = "a log"
"""

MANY_LINES = "bytes = 16_777_216\nline_bytes = 2\nways = 1"


def write(folder: Path, text: str) -> Path:
    path = folder / "board.toml"
    path.write_text(text)
    return path


def fields_of(error: pytest.ExceptionInfo[InvalidBoardError]) -> list[str]:
    return [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]]


def test_a_whole_board(tmp_path: Path) -> None:
    """Every key that a file may have, read; the same board made in Python is equal."""
    board = load_board(write(tmp_path, GOOD))
    assert board == Board(
        name="my-board",
        vendor="Somebody",
        mcu="STM32F407VG",
        core="cortex-m4",
        clock_hz=168_000_000,
        memories=(
            Memory("flash", "flash", 0x0800_0000, 1 << 20, 5, 16, prefetch=True),
            Memory("ccm", "dtcm", 0x1000_0000, 64 << 10),
            Memory("sram", "ram", 0x2000_0000, 128 << 10),
        ),
        caches=(
            Cache("art_instructions", "instructions", ("flash",), 1024, 16, 64),
            Cache("art_data", "data", ("flash",), 128, 16, 8),
        ),
        timing_source="RM0090 3.5",
        timing_basis="derived",
        power=Power(350, "1.8 V", "a log", 58.8, (277, 650)),
    )
    assert hash(board) == hash(load_board(write(tmp_path, GOOD)))
    assert [cache.sets for cache in board.caches] == [1, 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("wait_states = 5", "wait_states = -1"), r"memory\[0\].wait_states: must be .* from 0 to"),
        (("wait_states = 5", "wait_states = 256"), r"memory\[0\].wait_states: must be .* to 255"),
        (("wait_states = 5", "wait_states = true"), "wait_states: must be an integer .*, not True"),
        (("wait_states = 5", "wait_states = 5.0"), "wait_states: must be an integer .*, not 5.0"),
        (("wait_states = 5", "wait_states = nan"), "wait_states: must be an integer .*, not nan"),
        (("wait_states = 5", ""), r"memory\[0\].prefetch: says nothing without wait_states"),
        (("line_bytes = 16\nprefetch", "prefetch"), r"memory\[0\].line_bytes: missing; 5 wait"),
        (("line_bytes = 16\nprefetch", "line_bytes = 12\nprefetch"), "power of two from 2 to 256"),
        (("line_bytes = 16\nprefetch", "line_bytes = 0\nprefetch"), "line_bytes: must be a power"),
        (("line_bytes = 16\nprefetch", "line_bytes = 1\nprefetch"), "line_bytes: must be a power"),
        (("prefetch = true", "prefetch = 1"), "prefetch: must be true or false, not 1"),
        (("prefetch = true", 'prefetch = "yes"'), "prefetch: must be true or false, not 'yes'"),
        (("bytes = 65_536", "bytes = 65_536\nwait_states = 1\nline_bytes = 4"), "tightly coupled"),
        (('serves = "data"', 'serves = "everything"'), r"cache\[1\].serves: must be one of instr"),
        (('serves = "data"', "serves = [1]"), r"cache\[1\].serves: must be one of .*, not \[1\]"),
        (('serves = "data"', 'serves = "both"'), "instructions of flash are cached by art_instr"),
        (("bytes = 128\n", "bytes = -128\n"), r"cache\[1\].bytes: must be an integer from 2"),
        (("bytes = 128\n", "bytes = true\n"), r"cache\[1\].bytes: must be an integer .*, not True"),
        (("bytes = 128\n", "bytes = inf\n"), r"cache\[1\].bytes: must be an integer .*, not inf"),
        (("bytes = 128\n", "bytes = 129\n"), "129 are not 8 ways of 16-byte lines times a power"),
        (("bytes = 128\n", "bytes = 384\n"), "384 are not 8 ways of 16-byte lines times a power"),
        (("bytes = 128\n", "bytes = 64\n"), "64 are not 8 ways of 16-byte lines times a power"),
        (("ways = 8", "ways = 0"), r"cache\[1\].ways: must be an integer from 1"),
        (("ways = 8", "ways = true"), r"cache\[1\].ways: must be an integer .*, not True"),
        (("ways = 8", "way = 8"), r"cache\[1\].way: unknown; did you mean ways\?"),
        (("ways = 8", ""), r"cache\[1\].ways: missing"),
        (
            ("line_bytes = 16\nways = 8", "line_bytes = 24\nways = 8"),
            r"cache\[1\].line_b",
        ),
        (
            ("line_bytes = 16\nways = 8", "line_bytes = 8\nways = 8"),
            "8 are less than one access",
        ),
        (('name = "art_data"', 'name = "art_instructions"'), r"cache\[1\].name: .* is taken"),
        (('name = "art_data"', 'name = "ART D"'), r"cache\[1\].name: must be lower-case"),
        (('"flash"]\nbytes = 128', '"rom"]\nbytes = 128'), "no memory is called 'rom' .there are"),
        (('"flash"]\nbytes = 128', '"ccm"]\nbytes = 128'), "ccm is tightly coupled, no cache"),
        (('"flash"]\nbytes = 128', '"flash", "flash"]\nbytes = 128'), "'flash' is there twice"),
        (('["flash"]\nbytes = 128', "[]\nbytes = 128"), r"memories: must be names .*, not \[\]"),
        (('["flash"]\nbytes = 128', '"flash"\nbytes = 128'), "memories: must be names of memories"),
        (('["flash"]\nbytes = 128', "[1]\nbytes = 128"), r"memories: must be names .*, not \[1\]"),
        (('timing_source = "RM0090 3.5"', "timing_source = 3"), "timing_source: must be text"),
        (('timing_source = "RM0090 3.5"', "caches = []"), r"caches: unknown; did you mean cache\?"),
        (('timing_source = "RM0090 3.5"', ""), "timing_source: missing; a derived timing has a"),
        (('"derived"', '"guessed"'), "must be one of documented, derived, assumed, not 'guessed'"),
        (('"derived"', "[1]"), r"timing_basis: must be one of .*, not \[1\]"),
        (('"derived"', "true"), "timing_basis: must be one of .*, not True"),
        (
            ("bytes = 1_024\nline_bytes = 16\nways = 64", MANY_LINES),
            "are 8,388,608 lines of 2 bytes",
        ),
        (('core = "cortex-m4"', 'core = "cortex-m9"'), "cycle table: .*cortex-m4"),
        (("cycle = 350", "cycle = nan"), "power.picojoules_per_cycle: must be a positive number"),
        (("cycle = 350", "cycle = true"), "picojoules_per_cycle: must be a positive .*, not True"),
        (("milliwatts = 58.8", "milliwatts = inf"), "power.milliwatts: must be a positive number"),
        (("milliwatts = 58.8", "milliwatts = 5880"), "at 168,000,000 Hz are 58.8 mW, not 5880"),
        (
            ("[277, 650]", "[650, 277]"),
            r"spread_picojoules_per_cycle: must be \[low, high\] around",
        ),
        (
            ("[277, 650]", "[277, nan]"),
            r"spread_picojoules_per_cycle: must be \[low, high\] around",
        ),
        (("[277, 650]", "277"), r"spread_picojoules_per_cycle: must be \[low, high\] .*, not 277"),
        (('source = "a log"', ""), "power.source: missing"),
        (('source = "a log"', 'source = " "'), "power.source: must be text, not ' '"),
    ],
)
def test_refusals(change: tuple[str, str], words: str, tmp_path: Path) -> None:
    """One impossible value, one line that begins with the field and says what would be right."""
    assert GOOD.count(change[0]) == 1
    with pytest.raises(InvalidBoardError, match=words) as caught:
        load_board(write(tmp_path, GOOD.replace(*change)))
    assert str(caught.value).startswith(f"{tmp_path}/board.toml: not a possible board\n  ")


def test_every_problem_at_once(tmp_path: Path) -> None:
    """A file with a mistake in every part is refused with all of them, in the file's order."""
    text = (
        GOOD.replace("wait_states = 5", "wait_states = -5")
        .replace("prefetch = true", "prefetch = 0")
        .replace("bytes = 1_024", "bytes = 1_000")
        .replace('serves = "data"', 'serves = "dates"')
        .replace("milliwatts = 58.8", "milliwatts = -1")
        .replace('source = "a log"', "sauce = 1")
    )
    with pytest.raises(InvalidBoardError) as caught:
        load_board(write(tmp_path, text))
    assert fields_of(caught) == [
        *("memory[0].wait_states", "memory[0].prefetch"),
        *("cache[0].bytes", "cache[1].serves"),
        *("power.sauce", "power.source", "power.milliwatts"),
    ]


def test_unknown_core_names_the_cores_with_a_cycle_table(tmp_path: Path) -> None:
    """All cores, and beside them those whose cycles are modelled."""
    with pytest.raises(InvalidBoardError) as caught:
        load_board(write(tmp_path, GOOD.replace('core = "cortex-m4"', 'core = "cortex-m85"')))
    (line,) = str(caught.value).splitlines()[1:]
    every, timed = line.split("(with a cycle table: ")
    assert every.strip() == f"core: must be one of {', '.join(CORES)}, not 'cortex-m85'"
    assert set(timed.rstrip(")").split(", ")) <= set(CORES)
    assert {"cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m7"} <= set(
        timed.rstrip(")").split(", ")
    )


@pytest.mark.parametrize("clock", ["100", "31_999", "0.5"])
def test_a_clock_in_another_unit(clock: str, tmp_path: Path) -> None:
    """Refused with what would be right."""
    path = tmp_path / "board.toml"
    path.write_text(f"clock_hz = {clock}")
    with pytest.raises(InvalidBoardError, match="it is in Hz: 100 MHz is 100_000_000"):
        load_board(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 5000, "is nested too deeply|is not TOML"),
        ("a = " + "{b=" * 5000, "is nested too deeply|is not TOML"),
        ("clock_hz = " + "9" * 5000, "is not TOML"),
        (
            "clock_hz = 0x" + "F" * 5000,
            "clock_hz: must be an integer from .*, not a huge int",
        ),
        ("name = 1\nname = 2", "is not TOML"),
        ("memory = 2024-01-01", r"memory: must be an array of tables"),
        ("cache = 3", r"cache: must be an array of tables"),
        ("[[memory]]\n[memory.name]\nx = 1", r"memory\[0\].name: must be lower-case"),
        ('"a\\n\\u001b[2J" = 1', r"'a\\n\\x1b\[2J': unknown"),
        (f'mcu = ""\nname = "{"x" * 1000} "', r"name: must be .*, not 'x{50,59}\.\.\."),
        ("# " + "x" * 70_000, "has more than 65,536 bytes"),
    ],
)
def test_hostile_files(text: str, words: str, tmp_path: Path) -> None:
    """Whatever a file holds: the typed error, and no message that could move the cursor."""
    with pytest.raises(InvalidBoardError, match=words) as caught:
        load_board(write(tmp_path, text))
    assert all(c.isprintable() or c == "\n" for c in str(caught.value))


def test_hostile_paths(tmp_path: Path) -> None:
    """A folder and an impossible name are no files."""
    (tmp_path / "folder.toml").mkdir()
    for path in (tmp_path / "folder.toml", tmp_path / "a\0b.toml"):
        with pytest.raises(InvalidBoardError, match="cannot be read"):
            load_board(path)


def test_constructor_refuses_too() -> None:
    """A cache made in Python is checked against the memories like one from a file."""
    board = target("nucleo-l4r5zi").board
    assert board is not None
    (first, _) = board.caches
    for wrong in (
        dataclasses.replace(first, memories=("rom",)),
        dataclasses.replace(first, ways=3),
        dataclasses.replace(first, line_bytes=4),
    ):
        with pytest.raises(InvalidBoardError, match=r"cache\[0\]\."):
            dataclasses.replace(board, caches=(wrong,))


VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    st.sampled_from(["flash", "both", "data", 1, 2, 8, 16, 64]),
    st.lists(st.sampled_from(["flash", "x", 1, None, []]), max_size=2),
)


def tables(kind: type, smallest: int = 0) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Lists of dictionaries with some of the fields of a dataclass, and one that it lacks."""
    keys = [f.name for f in dataclasses.fields(kind)] + ["x"]
    return st.lists(
        st.dictionaries(st.sampled_from(keys), VALUES, max_size=8), min_size=smallest, max_size=3
    )


@given(tables(Memory), tables(Cache, 1), st.one_of(VALUES, tables(Power, 1).map(lambda t: t[0])))
def test_garbage_is_refused_not_crashed_on(memories: Any, caches: Any, power: Any) -> None:
    """Whatever the tables hold, each problem is one line of text."""
    problems = board_problems({"memory": memories, "cache": caches, "power": power})
    assert problems
    assert all(isinstance(p, str) and p.isprintable() for p in problems)
