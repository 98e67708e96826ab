"""Targets: what a network is built for. Frozen values: the host, generic cores and boards.

>>> target("nucleo-l4r5zi").cortex.name
'cortex-m4'
>>> target("cortex-m55").devices
('qemu',)
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from edgekit.errors import UsageError
from edgekit.targets.arm_cpu.computer import (
    COMPUTER_FOLDER,
    Computer,
    computer_of,
    load_computer,
)
from edgekit.targets.arm_cpu.cpus import CPUS, Cpu
from edgekit.targets.board import BOARD_FOLDER, Board, Cache, board_of, load_board
from edgekit.targets.checks import read_table
from edgekit.targets.cores import CORES, Core, Fpu, Memory
from edgekit.targets.jetson.modules import MODULES, Module

HOST = "host"
MICROCONTROLLER = "microcontroller"
ARM_CPU = "arm-cpu"
JETSON = "jetson"

ALIASES = MappingProxyType({"jetson": next(iter(MODULES))})
"""Short names that users write."""


@dataclass(frozen=True)
class Target:
    """What a network is built for.

    Attributes:
        name: as users write it.
        family: ``host``, ``microcontroller``, ``arm-cpu`` or ``jetson``.
        description: one line for people.
        core: of a microcontroller, else None.
        fpu: name of a microcontroller's floating-point unit, else None.
        memories: a microcontroller's address ranges, else empty.
        clock_hz: clock of the core, None where there is no particular board.
        board: of a microcontroller, None for generic cores.
        cpu: of an application processor, None for the other families and for the host.
        computer: the board around the CPU, None for generic ones.
        module: of a Jetson, else None.
    """

    name: str
    family: str
    description: str
    core: Core | None = None
    fpu: str | None = None
    memories: tuple[Memory, ...] = ()
    clock_hz: int | None = None
    board: Board | None = None
    cpu: Cpu | None = None
    computer: Computer | None = None
    module: Module | None = None

    def __post_init__(self) -> None:
        assert (self.core is not None) == (self.family == MICROCONTROLLER)
        assert (self.cpu is not None) == (self.family == ARM_CPU)
        assert (self.module is not None) == (self.family == JETSON)
        assert self.core is None or (self.memories and self.core.fpu(self.fpu))

    @property
    def cortex(self) -> Core:
        """The core of a microcontroller target."""
        assert self.core is not None, f"{self.name} has no core"
        return self.core

    @property
    def fpu_unit(self) -> Fpu:
        """The floating-point unit of a microcontroller target."""
        return self.cortex.fpu(self.fpu)

    @property
    def caches(self) -> tuple[Cache, ...]:
        """The caches between a board's core and its memories; none without a board."""
        return () if self.board is None else self.board.caches

    @property
    def features(self) -> frozenset[str]:
        """Instruction-set features that kernels may demand."""
        if self.cpu is not None:
            return self.cpu.features
        return frozenset() if self.core is None else self.core.all_features(self.fpu)

    @property
    def has_cycle_model(self) -> bool:
        """Whether there is a model of its core's or its processor's cycles."""
        if self.cpu is not None:
            return self.cpu.processor is not None
        return self.core is not None and self.core.cycles is not None

    @property
    def program_bytes(self) -> int:
        """Room for code and constants: flash; tightly coupled memory where there is none."""
        flash = sum(m.bytes for m in self.memories if m.kind == "flash")
        return flash or sum(m.bytes for m in self.memories if m.is_program)

    @property
    def data_bytes(self) -> int:
        """Room for variables."""
        return sum(m.bytes for m in self.memories if m.is_data)

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices that can run artifacts for this target here, the best first."""
        if self.family == HOST:
            return ("local",)
        if self.cpu is not None:
            return self.cpu.devices
        if self.core is None:
            return ()
        emulator = () if self.core.unicorn_model is None else ("emulator",)
        qemu = () if self.core.qemu is None else ("qemu",)
        return emulator + qemu

    @property
    def status(self) -> str:
        """The best there is here: ``works``, ``emulated`` or ``needs-hardware``."""
        if "local" in self.devices:
            return "works"
        return "emulated" if self.devices else "needs-hardware"


@cache
def builtin_targets() -> Mapping[str, Target]:
    """Every target that edgekit brings, by name: the host, generic cores and CPUs, boards."""
    host = Target(HOST, HOST, "this machine, compiled by the system's C compiler")
    cores = [
        Target(
            core.name,
            MICROCONTROLLER,
            "any microcontroller with this core; memory map of an emulated board",
            core,
            core.fpu().name,
            core.memories,
        )
        for core in CORES.values()
    ]
    boards = [of_board(load_board(path)) for path in sorted(BOARD_FOLDER.glob("*.toml"))]
    cpus = [Target(cpu.name, ARM_CPU, cpu.description, cpu=cpu) for cpu in CPUS.values()]
    computers = [
        of_computer(load_computer(path)) for path in sorted(COMPUTER_FOLDER.glob("*.toml"))
    ]
    jetsons = [
        Target(module.name, JETSON, module.description, module=module)
        for module in MODULES.values()
    ]
    every = (host, *cores, *boards, *cpus, *computers, *jetsons)
    return MappingProxyType({entry.name: entry for entry in every})


def of_board(board: Board) -> Target:
    """The target that a board is."""
    return Target(
        board.name,
        MICROCONTROLLER,
        f"{board.vendor} {board.mcu}, {board.core} at {board.clock_hz / 1e6:g} MHz",
        CORES[board.core],
        board.fpu,
        board.memories,
        board.clock_hz,
        board,
    )


def of_computer(computer: Computer) -> Target:
    """The target that a single-board computer is."""
    return Target(
        computer.name,
        ARM_CPU,
        computer.description,
        clock_hz=computer.clock_hz,
        cpu=CPUS[computer.cpu],
        computer=computer,
    )


def of_file(path: Path) -> Target:
    """The target that a TOML file describes: a computer where it names a ``cpu``, else a board.

    Raises:
        InvalidBoardError: the file cannot be read or describes no possible board.
    """
    table = read_table(path)
    if "cpu" in table:
        return of_computer(computer_of(table, str(path)))
    return of_board(board_of(table, str(path)))


def target(name: str) -> Target:
    """The target called `name`, or the board described by the TOML file at the path `name`.

    Raises:
        UsageError: no such target; names the nearest one and lists all.
        InvalidBoardError: the file cannot be read or describes no possible board.
    """
    if name.endswith(".toml"):
        return of_file(Path(name))
    targets = builtin_targets()
    name = ALIASES.get(name, name)
    if name in targets:
        return targets[name]
    near = difflib.get_close_matches(name.lower(), targets, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    raise UsageError(
        f"unknown target {name!r}{hint} Known: {', '.join(targets)}; "
        "or the path of a board's .toml file"
    )
