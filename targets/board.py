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

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edgekit.errors import InvalidBoardError
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
        _refuse(str(self.name), board_problems(asdict(self)))
        if not self.fpu:
            object.__setattr__(self, "fpu", CORES[self.core].fpu().name)


def load_board(path: Path) -> Board:
    """Read a board from a TOML file.

    Raises:
        InvalidBoardError: no such file, no TOML, unknown or missing keys, impossible values; every
            problem has a line.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidBoardError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidBoardError(f"{path}: is not TOML: {error}") from error
    if "memory" in data:
        data["memories"] = data.pop("memory")
    _refuse(str(path), board_problems(data))
    memories = tuple(Memory(**row) for row in data.pop("memories"))
    power = data.pop("power", None)
    if power is not None and "spread_picojoules_per_cycle" in power:
        power["spread_picojoules_per_cycle"] = tuple(power["spread_picojoules_per_cycle"])
    return Board(**data, memories=memories, power=None if power is None else Power(**power))


def _refuse(where: str, problems: list[str]) -> None:
    if problems:
        raise InvalidBoardError("\n  ".join([f"{where}: not a possible board", *problems]))


def board_problems(board: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a board's values, each line beginning with the field."""
    problems = _key_problems(Board, board, "")
    core = CORES.get(board["core"]) if isinstance(board.get("core"), str) else None
    for key in ("vendor", "mcu"):
        if key in board and not _is_text(board[key]):
            problems.append(f"{key}: must be text, not {board[key]!r}")
    if "name" in board and not (
        _is_text(board["name"]) and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", board["name"])
    ):
        problems.append(
            f"name: must be lower-case letters, digits and single dashes, not {board['name']!r}"
        )
    if "core" in board and core is None:
        problems.append(f"core: must be one of {', '.join(CORES)}, not {board['core']!r}")
    if core is not None and board.get("fpu"):
        units = [unit.name for unit in core.fpus]
        if board["fpu"] not in units:
            problems.append(f"fpu: {core.name} has one of {', '.join(units)}, not {board['fpu']!r}")
    if "clock_hz" in board and not _is_integer(board["clock_hz"], 1, FASTEST_CLOCK_HZ):
        problems.append(
            f"clock_hz: must be an integer from 1 to {FASTEST_CLOCK_HZ}, not {board['clock_hz']!r}"
        )
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
        problems += _key_problems(Memory, memory, where)
        name, kind = memory.get("name"), memory.get("kind")
        if "name" in memory and not (_is_text(name) and re.fullmatch(r"[a-z][a-z0-9_]*", name)):
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
            if key in memory and not (_is_integer(value, low, high) and value % 4 == 0):
                problems.append(
                    f"{where}{key}: must be a multiple of 4 from {low} to {high}, not {value!r}"
                )
        for key, high in (("wait_states", 64), ("line_bytes", 256)):
            value = memory.get(key)
            if value is not None and not _is_integer(value, 0, high):
                problems.append(f"{where}{key}: must be an integer from 0 to {high}, not {value!r}")
        origin, size = memory.get("origin"), memory.get("bytes")
        if _is_integer(origin, 0, ADDRESS_SPACE) and _is_integer(size, 1, ADDRESS_SPACE):
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
    problems = _key_problems(Power, power, "power.")
    for key in ("conditions", "source"):
        if key in power and not _is_text(power[key]):
            problems.append(f"power.{key}: must be text, not {power[key]!r}")
    for key in ("picojoules_per_cycle", "milliwatts"):
        value = power.get(key)
        if value is not None and not _is_positive(value):
            problems.append(f"power.{key}: must be a positive number, not {value!r}")
    spread = power.get("spread_picojoules_per_cycle")
    if spread is not None and not (
        isinstance(spread, (list, tuple))
        and len(spread) == 2
        and all(map(_is_positive, spread))
        and _is_positive(power.get("picojoules_per_cycle"))
        and spread[0] <= power["picojoules_per_cycle"] <= spread[1]
    ):
        problems.append(
            "power.spread_picojoules_per_cycle: must be [low, high] around "
            f"picojoules_per_cycle, not {spread!r}"
        )
    return problems


def _key_problems(kind: type, values: Mapping[str, Any], where: str) -> list[str]:
    """Keys that are missing from, or unknown to, the dataclass `kind`."""
    known = {field.name: field.default is MISSING for field in fields(kind)}
    shown = {"memories": "memory"}
    problems = []
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"{where}{key}: unknown{hint} (known: {', '.join(known)})")
    for key, required in known.items():
        if required and key not in values:
            problems.append(f"{where}{shown.get(key, key)}: missing")
    return problems


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_integer(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e12
