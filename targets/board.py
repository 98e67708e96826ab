"""Boards: frozen values, checked at construction.

A board is one TOML file (``targets/microcontroller/boards/<name>.toml``, or the user's own)::

    name = "my-board"
    vendor = "Somebody"
    mcu = "STM32F407VG"
    core = "cortex-m4"
    fpu = "fpv4-sp-d16"          # optional, the core's default
    clock_hz = 168_000_000

    [[memory]]                   # fastest data memory first
    name = "flash"
    kind = "flash"               # flash | ram | itcm | dtcm
    origin = 0x0800_0000
    bytes = 1_048_576
    wait_states = 5              # optional
    line_bytes = 16              # optional

    [power]                      # optional, like every key but the first and the last two
    picojoules_per_cycle = 350
    milliwatts = 42
    spread_picojoules_per_cycle = [277, 650]
    conditions = "1.8 V"
    source = "where the figure is from"

>>> load_board(BOARD_FOLDER / "nucleo-l4r5zi.toml").clock_hz
120000000
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.targets.checks import (
    integer_problems,
    is_integer,
    is_positive,
    is_text,
    key_problems,
    name_problems,
    read_table,
    refuse,
    text_problems,
)
from edgekit.targets.cores import CORES, DATA_KINDS, MEMORY_KINDS, PROGRAM_KINDS, Memory

BOARD_FOLDER = Path(__file__).parent / "microcontroller" / "boards"

ADDRESS_SPACE = 1 << 32
FASTEST_CLOCK_HZ = 2_000_000_000


@dataclass(frozen=True)
class Power:
    """What is known about a board's power while it computes.

    Attributes:
        picojoules_per_cycle: energy of one clock cycle.
        conditions: voltage, clock, supply.
        source: where the figure is from.
        milliwatts: power at the board's clock, None where only the energy is known.
        spread_picojoules_per_cycle: lowest and highest published figure, None for a single one.
    """

    picojoules_per_cycle: float
    conditions: str
    source: str
    milliwatts: float | None = None
    spread_picojoules_per_cycle: tuple[float, float] | None = None


@dataclass(frozen=True)
class Board:
    """A microcontroller board.

    Attributes:
        name: lower-case letters, digits and dashes.
        vendor: who makes it.
        mcu: part number.
        core: key of :data:`edgekit.targets.cores.CORES`.
        clock_hz: clock of the core.
        memories: address ranges, fastest data memory first.
        fpu: one of the core's units; empty for the core's default.
        power: what is known, None where there is no trustworthy figure.

    Raises:
        InvalidBoardError: values that no board can have; every problem has a line.
    """

    name: str
    vendor: str
    mcu: str
    core: str
    clock_hz: int
    memories: tuple[Memory, ...]
    fpu: str = ""
    power: Power | None = None

    def __post_init__(self) -> None:
        refuse(str(self.name), board_problems(asdict(self)))
        if not self.fpu:
            object.__setattr__(self, "fpu", CORES[self.core].fpu().name)


def load_board(path: Path) -> Board:
    """Read a board from a TOML file.

    Raises:
        InvalidBoardError: no such file, no TOML, unknown or missing keys, impossible values; every
            problem has a line.
    """
    return board_of(read_table(path), str(path))


def board_of(table: Mapping[str, Any], where: str) -> Board:
    """The board that a TOML file describes.

    Args:
        table: the file's contents.
        where: the file, for messages.

    Raises:
        InvalidBoardError: unknown or missing keys, impossible values; every problem has a line.
    """
    data = dict(table)
    if "memory" in data:
        data["memories"] = data.pop("memory")
    refuse(where, board_problems(data))
    memories = tuple(Memory(**row) for row in data.pop("memories"))
    power = data.pop("power", None)
    if power is not None and "spread_picojoules_per_cycle" in power:
        power = {
            **power,
            "spread_picojoules_per_cycle": tuple(power["spread_picojoules_per_cycle"]),
        }
    return Board(**data, memories=memories, power=None if power is None else Power(**power))


def board_problems(board: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a board's values, each line beginning with the field."""
    problems = key_problems(Board, board, shown={"memories": "memory"})
    core = CORES.get(board["core"]) if isinstance(board.get("core"), str) else None
    problems += text_problems(board, "vendor", "mcu") + name_problems(board)
    if "core" in board and core is None:
        problems.append(f"core: must be one of {', '.join(CORES)}, not {board['core']!r}")
    if core is not None and board.get("fpu"):
        units = [unit.name for unit in core.fpus]
        if board["fpu"] not in units:
            problems.append(f"fpu: {core.name} has one of {', '.join(units)}, not {board['fpu']!r}")
    problems += integer_problems(board, "clock_hz", 1, FASTEST_CLOCK_HZ)
    if "memories" in board:
        problems += _memory_problems(board["memories"])
    if board.get("power") is not None:
        problems += _power_problems(board["power"])
    return problems


def _memory_problems(memories: Any) -> list[str]:
    if not isinstance(memories, (list, tuple)) or not all(isinstance(m, dict) for m in memories):
        return ["memory: must be an array of tables, [[memory]]"]
    problems: list[str] = []
    ranges: list[tuple[int, int, str]] = []
    names: set[str] = set()
    for index, memory in enumerate(memories):
        where = f"memory[{index}]."
        problems += key_problems(Memory, memory, where)
        name, kind = memory.get("name"), memory.get("kind")
        if "name" in memory and not (is_text(name) and re.fullmatch(r"[a-z][a-z0-9_]*", name)):
            problems.append(
                f"{where}name: must be lower-case letters, digits and underscores, not {name!r}"
            )
        elif name in names:
            problems.append(f"{where}name: {name!r} is taken by another memory")
        names.add(str(name))
        if "kind" in memory and kind not in MEMORY_KINDS:
            problems.append(f"{where}kind: must be one of {', '.join(MEMORY_KINDS)}, not {kind!r}")
        for key, low, high in (("origin", 0, ADDRESS_SPACE - 4), ("bytes", 4, ADDRESS_SPACE)):
            value = memory.get(key)
            if key in memory and not (is_integer(value, low, high) and value % 4 == 0):
                problems.append(
                    f"{where}{key}: must be a multiple of 4 from {low} to {high}, not {value!r}"
                )
        for key, high in (("wait_states", 64), ("line_bytes", 256)):
            value = memory.get(key)
            if value is not None and not is_integer(value, 0, high):
                problems.append(f"{where}{key}: must be an integer from 0 to {high}, not {value!r}")
        origin, size = memory.get("origin"), memory.get("bytes")
        if is_integer(origin, 0, ADDRESS_SPACE) and is_integer(size, 1, ADDRESS_SPACE):
            if origin + size > ADDRESS_SPACE:
                problems.append(f"{where}bytes: {name} ends behind the 32-bit address space")
            ranges.append((origin, origin + size, str(name)))
    for (_, end, first), (begin, _, second) in zip(
        sorted(ranges), sorted(ranges)[1:], strict=False
    ):
        if begin < end:
            problems.append(f"memory: {first} and {second} overlap at {begin:#010x}")
    kinds = [memory.get("kind") for memory in memories]
    for needed, contents in ((PROGRAM_KINDS, "the program"), (DATA_KINDS, "variables")):
        if not any(kind in kinds for kind in needed):
            problems.append(f"memory: nothing holds {contents}; add a {' or '.join(needed)}")
    return problems


def _power_problems(power: Any) -> list[str]:
    if not isinstance(power, dict):
        return [f"power: must be a table, not {power!r}"]
    problems = key_problems(Power, power, "power.")
    problems += text_problems(power, "conditions", "source", where="power.")
    for key in ("picojoules_per_cycle", "milliwatts"):
        value = power.get(key)
        if value is not None and not is_positive(value):
            problems.append(f"power.{key}: must be a positive number, not {value!r}")
    spread = power.get("spread_picojoules_per_cycle")
    if spread is not None and not (
        isinstance(spread, (list, tuple))
        and len(spread) == 2
        and all(map(is_positive, spread))
        and is_positive(power.get("picojoules_per_cycle"))
        and spread[0] <= power["picojoules_per_cycle"] <= spread[1]
    ):
        problems.append(
            "power.spread_picojoules_per_cycle: must be [low, high] around "
            f"picojoules_per_cycle, not {spread!r}"
        )
    return problems
