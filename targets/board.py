"""Boards and targets: frozen values, checked at construction.

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

    [power]                      # optional
    picojoules_per_cycle = 350
    milliwatts = 42              # optional
    spread_picojoules_per_cycle = [277, 650]   # optional
    conditions = "1.8 V"
    source = "where the figure is from"

>>> target("nucleo-l4r5zi").core.name
'cortex-m4'
>>> target("cortex-m55").devices
('qemu',)
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from edgekit.errors import InvalidBoardError, UsageError
from edgekit.targets.cores import CORES, MEMORY_KINDS, NO_FPU, Core, Fpu, Memory

BOARD_FOLDER = Path(__file__).parent / "microcontroller" / "boards"

ADDRESS_SPACE = 1 << 32
FASTEST_CLOCK_HZ = 2_000_000_000
HOST = "host"


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
        InvalidBoardError: values that no board can have, all of them, one line each.
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
        _refuse(self.name, _board_problems(self))
        if not self.fpu:
            object.__setattr__(self, "fpu", CORES[self.core].fpu().name)


def load_board(path: Path) -> Board:
    """Read a board from a TOML file.

    Raises:
        InvalidBoardError: no such file, no TOML, unknown or missing keys, impossible values; every
            problem is listed.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidBoardError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidBoardError(f"{path}: is not TOML: {error}") from error
    problems: list[str] = []
    memories = _rows(data.pop("memory", []), "memory", problems)
    power = data.pop("power", None)
    if power is not None and not isinstance(power, dict):
        problems.append("power: must be a table")
        power = None
    if power is not None:
        spread = power.get("spread_picojoules_per_cycle")
        if isinstance(spread, list):
            power["spread_picojoules_per_cycle"] = tuple(spread)
    problems += _key_problems(Board, data, "", nested={"memories", "power"})
    for index, row in enumerate(memories):
        problems += _key_problems(Memory, row, f"memory[{index}].")
    if power is not None:
        problems += _key_problems(Power, power, "power.")
    if problems:
        # Complete what is missing with values that are refused nowhere, to check the rest too.
        _refuse(str(path), problems)
    return Board(
        **data,
        memories=tuple(Memory(**row) for row in memories),
        power=None if power is None else Power(**power),
    )


def _rows(value: Any, key: str, problems: list[str]) -> list[dict[str, Any]]:
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return value
    problems.append(f"{key}: must be an array of tables, [[{key}]]")
    return []
