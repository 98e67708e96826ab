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
from edgekit.targets.board import BOARD_FOLDER, Board, load_board
from edgekit.targets.cores import CORES, Core, Fpu, Memory

HOST = "host"


@dataclass(frozen=True)
class Target:
    """What a network is built for.

    Attributes:
        name: as users write it.
        family: ``host`` or ``microcontroller``.
        description: one line for people.
        core: None for the host.
        fpu: name of the floating-point unit, None for the host.
        memories: address ranges, empty for the host.
        clock_hz: clock of the core, None where there is no particular board.
        board: None for the host and for generic cores.
    """

    name: str
    family: str
    description: str
    core: Core | None = None
    fpu: str | None = None
    memories: tuple[Memory, ...] = ()
    clock_hz: int | None = None
    board: Board | None = None

    def __post_init__(self) -> None:
        assert (self.core is None) == (self.family == HOST)
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
    def features(self) -> frozenset[str]:
        """Instruction-set features that kernels may demand."""
        return frozenset() if self.core is None else self.core.all_features(self.fpu)

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
        """Names of the devices that can run artifacts for this target here."""
        if self.core is None:
            return ("local",)
        emulator = () if self.core.unicorn_model is None else ("emulator",)
        qemu = () if self.core.qemu is None else ("qemu",)
        return emulator + qemu

    @property
    def status(self) -> str:
        """The best there is here: ``works``, ``emulated`` or ``needs-hardware``."""
        if self.core is None:
            return "works"
        return "emulated" if self.devices else "needs-hardware"


@cache
def builtin_targets() -> Mapping[str, Target]:
    """Every target that edgekit brings, by name: the host, the generic cores, the boards."""
    host = Target(HOST, HOST, "this machine, compiled by the system's C compiler")
    cores = [
        Target(
            core.name,
            "microcontroller",
            "any microcontroller with this core; memory map of an emulated board",
            core,
            core.fpu().name,
            core.memories,
        )
        for core in CORES.values()
    ]
    boards = [of_board(load_board(path)) for path in sorted(BOARD_FOLDER.glob("*.toml"))]
    return MappingProxyType({entry.name: entry for entry in (host, *cores, *boards)})


def of_board(board: Board) -> Target:
    """The target that a board is."""
    return Target(
        board.name,
        "microcontroller",
        f"{board.vendor} {board.mcu}, {board.core} at {board.clock_hz / 1e6:g} MHz",
        CORES[board.core],
        board.fpu,
        board.memories,
        board.clock_hz,
        board,
    )


def target(name: str) -> Target:
    """The target called `name`, or the board described by the TOML file at the path `name`.

    Raises:
        UsageError: no such target; names the nearest one and lists all.
        InvalidBoardError: the file cannot be read or describes no possible board.
    """
    if name.endswith(".toml"):
        return of_board(load_board(Path(name)))
    targets = builtin_targets()
    if name in targets:
        return targets[name]
    near = difflib.get_close_matches(name.lower(), targets, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    raise UsageError(
        f"unknown target {name!r}{hint} Known: {', '.join(targets)}; "
        "or the path of a board's .toml file"
    )
