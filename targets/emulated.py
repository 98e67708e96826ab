"""A library on an emulated core, call by call: emulators as machines."""

from __future__ import annotations

from typing import Protocol

from edgekit.bench.costs import CycleModel
from edgekit.targets.cycles.costs import Count
from edgekit.targets.elf import Elf
from edgekit.targets.emulator import Emulator
from edgekit.targets.library import Library
from edgekit.targets.machine import Build
from edgekit.targets.target import Target
from edgekit.targets.tracing import INSTRUCTION_LIMIT, TIMEOUT_S


class Caller(Protocol):
    """An emulated core that calls functions, as :class:`edgekit.targets.emulator.Emulator`."""

    def call(self, function: str | int, *arguments: int) -> int:
        """Call a function; returns its result."""

    def count(self, function: str | int, *arguments: int) -> tuple[int, Count]:
        """Like :meth:`call`, with what it cost."""

    def stack_bytes(self, function: str | int, *arguments: int) -> int:
        """Call a function; returns the bytes of stack that it used at its deepest."""

    def read(self, address: int, size: int) -> bytes:
        """Bytes from memory."""

    def write(self, address: int, data: bytes) -> None:
        """Bytes into memory."""

    def close(self) -> None:
        """Release the emulated memories."""


class CalledMachine:
    """A library, initialised, whose functions an emulator calls.

    Implements :class:`edgekit.targets.machine.CountingMachine`.

    Args:
        library: what is called.
        caller: the core that has it in its memory.
        arena: address of the arena.
        context: address of the instance.
        state: address of the state, 0 where there is none.
        weights: address of the weights, 0 for the built-in ones.
        build: how the code was compiled.
    """

    def __init__(
        self,
        library: Library,
        caller: Caller,
        *,
        arena: int,
        context: int,
        state: int,
        weights: int,
        build: Build | None,
    ) -> None:
        self._library = library
        self._caller = caller
        self._arena = arena
        self._state = state
        self._context = context
        self._build = build
        code = caller.call(library.symbol("init"), context, arena, state, weights)
        assert code == 0, f"init answered {code}"

    @property
    def build(self) -> Build | None:
        """As recorded where the code was linked."""
        return self._build

    def reset(self) -> None:
        """Set the state to its initial values."""
        self._caller.call(self._library.symbol("reset"), self._context)

    def run(self) -> None:
        """Run once from the initial state."""
        self._caller.call(self._library.symbol("run"), self._context)

    def step(self) -> None:
        """Run once and carry the state."""
        self._caller.call(self._library.symbol("step"), self._context)

    def layer(self, index: int) -> None:
        """Run one layer on what the arena holds."""
        self._caller.call(self._library.layers[index].symbol, self._context)

    def count_run(self) -> Count:
        """Like :meth:`run`, with what it cost."""
        return self._count(self._library.symbol("run"))

    def count_layer(self, index: int) -> Count:
        """Like :meth:`layer`, with what it cost."""
        return self._count(self._library.layers[index].symbol)

    def count_carry(self) -> Count:
        """Keep the state for the next step, which the layers leave undone, with what it cost."""
        return self._count(self._library.symbol("carry"))

    def stack_bytes(self) -> int:
        """Like :meth:`run`; returns the bytes of stack that it used at its deepest."""
        return self._caller.stack_bytes(self._library.symbol("run"), self._context)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from the arena or the state."""
        return self._caller.read(self._address(offset, size), size)

    def write(self, offset: int, data: bytes) -> None:
        """Bytes into the arena or the state."""
        self._caller.write(self._address(offset, len(data)), data)

    def close(self) -> None:
        """Release the emulated memories."""
        self._caller.close()

    def _address(self, offset: int, size: int) -> int:
        return self._library.address(offset, size, arena=self._arena, state=self._state)

    def _count(self, function: str) -> Count:
        _, count = self._caller.count(function, self._context)
        return count


class EmulatedMachine(CalledMachine):
    """A library, initialised, in its image for a microcontroller.

    Args:
        library: what is in the image.
        target: what the image was linked for; its core must have an emulator model.
        elf: the linked image.
        build: how it was compiled, as recorded where it was linked.
        timeout_s: wall-clock limit of one call.
        instruction_limit: limit of one counted call.

    Raises:
        UnsupportedError: there is no emulator for the core.
        DoesNotFitError: the image lies outside the target's memories.
    """

    def __init__(
        self,
        library: Library,
        target: Target,
        elf: Elf,
        *,
        build: Build | None = None,
        timeout_s: float = TIMEOUT_S,
        instruction_limit: int = INSTRUCTION_LIMIT,
    ) -> None:
        self._elf = elf
        self.emulator = Emulator(
            target, elf, timeout_s=timeout_s, instruction_limit=instruction_limit
        )
        super().__init__(
            library,
            self.emulator,
            arena=self.emulator.symbol("ek_arena"),
            context=self.emulator.symbol("ek_context"),
            state=self.emulator.symbol("ek_state") if library.state_bytes else 0,
            weights=elf.symbols.get("ek_weights_blob", 0),
            build=build,
        )

    def reset(self) -> None:
        """Set the state to its initial values, and empty the caches, as a run begins."""
        super().reset()
        self.emulator.empty_caches()

    def count_run(self) -> Count:
        """Like :meth:`run`, with what it cost; it begins with empty caches."""
        self.emulator.empty_caches()
        return super().count_run()

    def count_carry(self) -> Count:
        """Like :meth:`CalledMachine.count_carry`; nothing where layers write all state themselves.

        Compilers leave out calls of a function without effect, and linkers then the function.
        """
        if self._library.symbol("carry") not in self._elf.symbols:
            return Count()
        return super().count_carry()

    @property
    def cycle_model(self) -> CycleModel:
        """See :attr:`edgekit.targets.emulator.Emulator.cycle_model`."""
        return self.emulator.cycle_model
