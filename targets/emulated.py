"""A library on an emulated core, call by call: the emulator as a machine."""

from __future__ import annotations

from edgekit.targets.elf import Elf
from edgekit.targets.emulator import INSTRUCTION_LIMIT, TIMEOUT_S, Count, Emulator
from edgekit.targets.library import Library
from edgekit.targets.machine import Build
from edgekit.targets.target import Target


class EmulatedMachine:
    """A library, initialised, in its image.

    Implements :class:`edgekit.targets.machine.CountingMachine`.

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
        self._library = library
        self._build = build
        self.emulator = Emulator(
            target, elf, timeout_s=timeout_s, instruction_limit=instruction_limit
        )
        self._arena = self.emulator.symbol("ek_arena")
        self._context = self.emulator.symbol("ek_context")
        state = self.emulator.symbol("ek_state") if self._library.state_bytes else 0
        weights = elf.symbols.get("ek_weights_blob", 0)
        code = self.emulator.call(
            self._library.symbol("init"), self._context, self._arena, state, weights
        )
        assert code == 0, f"init answered {code}"

    @property
    def build(self) -> Build | None:
        """As recorded where the image was linked."""
        return self._build

    def reset(self) -> None:
        """Set the state to its initial values."""
        self.emulator.call(self._library.symbol("reset"), self._context)

    def run(self) -> None:
        """Run once from the initial state."""
        self.emulator.call(self._library.symbol("run"), self._context)

    def step(self) -> None:
        """Run once and carry the state."""
        self.emulator.call(self._library.symbol("step"), self._context)

    def layer(self, index: int) -> None:
        """Run one layer on what the arena holds."""
        self.emulator.call(self._library.layers[index].symbol, self._context)

    def count_run(self) -> Count:
        """Like :meth:`run`, with the instructions it issued."""
        return self._count(self._library.symbol("run"))

    def count_layer(self, index: int) -> Count:
        """Like :meth:`layer`, with the instructions it issued."""
        return self._count(self._library.layers[index].symbol)

    def stack_bytes(self) -> int:
        """Like :meth:`run`; returns the bytes of stack that it used at its deepest."""
        return self.emulator.stack_bytes(self._library.symbol("run"), self._context)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from the arena."""
        assert 0 <= offset <= self._library.arena_bytes - size
        return self.emulator.read(self._arena + offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Bytes into the arena."""
        assert 0 <= offset <= self._library.arena_bytes - len(data)
        self.emulator.write(self._arena + offset, data)

    def close(self) -> None:
        """Release the emulated memories."""
        self.emulator.close()

    def _count(self, function: str) -> Count:
        _, count = self.emulator.count(function, self._context)
        return count
