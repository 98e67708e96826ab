"""Single-board computers: frozen values, checked at construction.

A computer is one TOML file (``targets/arm_cpu/boards/<name>.toml``, or the user's own)::

    name = "my-computer"
    vendor = "Somebody"
    description = "what it is, in a line"
    cpu = "cortex-a72"
    clock_hz = 1_800_000_000     # highest clock of the cores
    cores = 4

>>> load_computer(COMPUTER_FOLDER / "raspberry-pi-5.toml").cores
4
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.targets.arm_cpu.cpus import CPUS
from edgekit.targets.checks import (
    integer_problems,
    key_problems,
    name_problems,
    read_table,
    refuse,
    text_problems,
)

COMPUTER_FOLDER = Path(__file__).parent / "boards"

FASTEST_CLOCK_HZ = 10_000_000_000
MOST_CORES = 1024


@dataclass(frozen=True)
class Computer:
    """A single-board computer.

    Attributes:
        name: lower-case letters, digits and dashes.
        vendor: who makes it.
        description: one line for people.
        cpu: key of :data:`edgekit.targets.arm_cpu.cpus.CPUS`.
        clock_hz: highest clock of the cores.
        cores: how many.

    Raises:
        InvalidBoardError: values that no computer can have; every problem has a line.
    """

    name: str
    vendor: str
    description: str
    cpu: str
    clock_hz: int
    cores: int

    def __post_init__(self) -> None:
        refuse(str(self.name), computer_problems(asdict(self)))


def load_computer(path: Path) -> Computer:
    """Read a computer from a TOML file.

    Raises:
        InvalidBoardError: no such file, no TOML, unknown or missing keys, impossible values; every
            problem has a line.
    """
    return computer_of(read_table(path), str(path))


def computer_of(table: Mapping[str, Any], where: str) -> Computer:
    """The computer that a TOML file describes.

    Args:
        table: the file's contents.
        where: the file, for messages.

    Raises:
        InvalidBoardError: unknown or missing keys, impossible values; every problem has a line.
    """
    refuse(where, computer_problems(table))
    return Computer(**table)


def computer_problems(computer: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a computer's values, each line beginning with the field."""
    problems = key_problems(Computer, computer)
    problems += name_problems(computer) + text_problems(computer, "vendor", "description")
    cpu = computer.get("cpu")
    if "cpu" in computer and not (isinstance(cpu, str) and cpu in CPUS):
        problems.append(f"cpu: must be one of {', '.join(CPUS)}, not {cpu!r}")
    problems += integer_problems(computer, "clock_hz", 1, FASTEST_CLOCK_HZ)
    problems += integer_problems(computer, "cores", 1, MOST_CORES)
    return problems
