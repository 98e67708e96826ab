"""Boards: frozen values, checked at construction.

A board is one TOML file (``targets/microcontroller/boards/<name>.toml``, or the user's own)::

    name = "my-board"
    vendor = "Somebody"
    mcu = "STM32F407VG"
    core = "cortex-m4"
    fpu = "fpv4-sp-d16"          # optional, the core's default
    clock_hz = 168_000_000
    timing_source = "where wait states, lines and caches are from; the configuration assumed"
    timing_basis = "documented"  # documented | derived | assumed; optional, then assumed

    [[memory]]                   # fastest data memory first
    name = "flash"
    kind = "flash"               # flash | ram | itcm | dtcm
    origin = 0x0800_0000
    bytes = 1_048_576
    wait_states = 5              # optional: modelled as 0 where it is not known
    line_bytes = 16              # what one access reads; needed beside wait states
    prefetch = true              # optional: the next line is read while this one runs

    [[cache]]                    # optional
    name = "art_instructions"
    serves = "instructions"      # instructions | data | both
    memories = ["flash"]         # those that it caches
    bytes = 1024
    line_bytes = 16              # what one miss reads
    ways = 64                    # bytes / line_bytes: fully associative

    [power]                      # optional: no energy is estimated without
    picojoules_per_cycle = 350
    milliwatts = 58.8            # optional: the same at the board's clock
    spread_picojoules_per_cycle = [277, 650]    # optional: around the figure
    conditions = "1.8 V"
    source = "where the figures are from"

>>> board = load_board(BOARD_FOLDER / "nucleo-l4r5zi.toml")
>>> board.clock_hz, [cache.name for cache in board.caches]
(120000000, ['art_instructions', 'art_data'])
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgekit.targets.checks import (
    integer_problems,
    is_positive,
    is_text,
    key_problems,
    name_problems,
    read_table,
    refuse,
    shown,
    text_problems,
)
from edgekit.targets.cores import CORES, Memory
from edgekit.targets.memory_checks import cache_problems, memory_problems

BOARD_FOLDER = Path(__file__).parent / "microcontroller" / "boards"

SLOWEST_CLOCK_HZ = 32_000
"""Of a watch crystal; less is a clock in another unit."""
FASTEST_CLOCK_HZ = 2_000_000_000

SAME_POWER = 0.05
"""How far power may be from energy per cycle times clock, relatively: both are rounded."""

DOCUMENTED, DERIVED, ASSUMED = "documented", "derived", "assumed"

TIMING_BASES: Mapping[str, str] = MappingProxyType(
    {
        DOCUMENTED: "as documented, the configuration assumed",
        DERIVED: "derived from documents of the parts, not documented",
        ASSUMED: "assumed, at least in part",
    }
)
"""What a board's wait states, lines and caches can be, in words that stand before them."""

FILE_KEYS = {"memories": "memory", "caches": "cache"}
"""What a file calls a board's fields, where it differs: one table each."""


@dataclass(frozen=True)
class Power:
    """What is known about a board's power while it computes.

    Attributes:
        picojoules_per_cycle: energy of one clock cycle.
        conditions: voltage, clock, supply.
        source: where the figures are from.
        milliwatts: power at the board's clock, None where only the energy is known.
        spread_picojoules_per_cycle: lowest and highest published figure, None for a single one.
    """

    picojoules_per_cycle: float
    conditions: str
    source: str
    milliwatts: float | None = None
    spread_picojoules_per_cycle: tuple[float, float] | None = None


@dataclass(frozen=True)
class Cache:
    """A cache between a core and slow memories. A hit takes no wait states.

    An accelerator that stores what single reads return, such as the one of the STM32, is a cache
    whose line is one read.

    Attributes:
        name: identifier.
        serves: ``instructions``, ``data`` or ``both``.
        memories: names of the memories that it caches.
        bytes: of instructions and data, without tags.
        line_bytes: what one miss reads.
        ways: lines in which one address may lie; the least recently used of them is replaced.
    """

    name: str
    serves: str
    memories: tuple[str, ...]
    bytes: int
    line_bytes: int
    ways: int

    @property
    def sets(self) -> int:
        """Groups of lines; an address chooses one."""
        return self.bytes // (self.line_bytes * self.ways)


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
        caches: between the core and the memories.
        timing_source: where the memories' wait states and the caches are from, and which
            configuration of the part is assumed; empty where the board says nothing of them.
        timing_basis: key of :data:`TIMING_BASES`: what those figures are. A board that does not
            say so has assumed ones.
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
    caches: tuple[Cache, ...] = ()
    timing_source: str = ""
    timing_basis: str = ASSUMED
    power: Power | None = None

    def __post_init__(self) -> None:
        fields = {FILE_KEYS.get(key, key): value for key, value in asdict(self).items()}
        refuse(str(self.name), board_problems(fields))
        if not self.fpu:
            object.__setattr__(self, "fpu", CORES[self.core].fpu().name)

    @property
    def timing_words(self) -> str:
        """What the wait states, lines and caches are worth.

        >>> load_board(BOARD_FOLDER / "rp2040.toml").timing_words
        'derived from documents of the parts, not documented'
        """
        return TIMING_BASES[self.timing_basis]


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
    refuse(where, board_problems(table))
    data = dict(table)
    memories = tuple(Memory(**row) for row in data.pop("memory"))
    caches = tuple(Cache(**_frozen(row)) for row in data.pop("cache", ()))
    power = data.pop("power", None)
    return Board(
        **data,
        memories=memories,
        caches=caches,
        power=None if power is None else Power(**_frozen(power)),
    )


def board_problems(board: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a board's values, each line beginning with the field.

    Args:
        board: values by the names that a file has for them.
    """
    problems = key_problems(Board, board, shown_as=FILE_KEYS)
    problems += text_problems(board, "vendor", "mcu") + name_problems(board)
    problems += _core_problems(board)
    problems += _clock_problems(board)
    memories = board.get("memory")
    if "memory" in board:
        problems += memory_problems(memories)
    if "cache" in board:
        problems += cache_problems(Cache, board["cache"], memories)
    problems += _timing_source_problems(board)
    if board.get("power") is not None:
        problems += _power_problems(board["power"], board.get("clock_hz"))
    return problems


def _frozen(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table with tuples in place of lists."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}


def _clock_problems(board: Mapping[str, Any]) -> list[str]:
    """What is wrong with the clock, with a hint where it seems to be in another unit."""
    problems = integer_problems(board, "clock_hz", SLOWEST_CLOCK_HZ, FASTEST_CLOCK_HZ)
    in_hertz = "; it is in Hz: 100 MHz is 100_000_000"
    slow = is_positive(board.get("clock_hz")) and board["clock_hz"] < SLOWEST_CLOCK_HZ
    return [problem + in_hertz * slow for problem in problems]


def _core_problems(board: Mapping[str, Any]) -> list[str]:
    """What is wrong with the core and its floating-point unit."""
    if "core" not in board:
        return []
    name, fpu = board["core"], board.get("fpu", "")
    core = CORES.get(name) if isinstance(name, str) else None
    if core is None:
        timed = ", ".join(c.name for c in CORES.values() if c.cycles is not None)
        return [
            f"core: must be one of {', '.join(CORES)}, not {shown(name)} "
            f"(with a cycle table: {timed})"
        ]
    units = [unit.name for unit in core.fpus]
    if fpu not in ("", *units):
        return [f"fpu: {core.name} has one of {', '.join(units)}, not {shown(fpu)}"]
    return []


def _timing_source_problems(board: Mapping[str, Any]) -> list[str]:
    """What is wrong with where the timing is from, and with what it is."""
    source, basis = board.get("timing_source", ""), board.get("timing_basis", ASSUMED)
    problems = [] if source == "" else text_problems(board, "timing_source")
    if not is_text(basis) or basis not in TIMING_BASES:
        problems.append(
            f"timing_basis: must be one of {', '.join(TIMING_BASES)}, not {shown(basis)}"
        )
    elif basis != ASSUMED and source == "":
        problems.append(f"timing_source: missing; a {basis} timing has a source")
    return problems


def _power_problems(power: Any, clock_hz: Any) -> list[str]:
    """What is wrong with the power of a board with the clock `clock_hz`."""
    if not isinstance(power, dict):
        return [f"power: must be a table, not {shown(power)}"]
    problems = key_problems(Power, power, "power.")
    problems += text_problems(power, "conditions", "source", where="power.")
    energy, watts = power.get("picojoules_per_cycle"), power.get("milliwatts")
    if "picojoules_per_cycle" in power and not is_positive(energy):
        problems.append(
            f"power.picojoules_per_cycle: must be a positive number, not {shown(energy)}"
        )
    if watts is not None and not is_positive(watts):
        problems.append(f"power.milliwatts: must be a positive number, not {shown(watts)}")
    elif watts is not None and is_positive(energy) and is_positive(clock_hz):
        expected = energy * clock_hz * 1e-9
        if abs(watts - expected) > SAME_POWER * expected:
            problems.append(
                f"power.milliwatts: {energy:g} pJ/cycle at {clock_hz:,} Hz are {expected:.4g} mW, "
                f"not {watts:g}"
            )
    spread = power.get("spread_picojoules_per_cycle")
    if spread is not None and not (
        isinstance(spread, (list, tuple))
        and len(spread) == 2
        and all(map(is_positive, spread))
        and is_positive(energy)
        and spread[0] <= energy <= spread[1]
    ):
        problems.append(
            "power.spread_picojoules_per_cycle: must be [low, high] around "
            f"picojoules_per_cycle, not {shown(spread)}"
        )
    return problems
