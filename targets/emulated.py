"""A library in the emulator as a :class:`~edgekit.targets.machine.Machine` that also counts."""

from __future__ import annotations

from edgekit.errors import VerificationError
from edgekit.targets.elf import Elf
from edgekit.targets.emulator import Count, Emulator
from edgekit.targets.library import Library
from edgekit.targets.target import Target


class EmulatedMachine:
    """A library inside a linked image on an emulated core.

    Args:
        library: what the image holds.
        where: what it was linked for.
        elf: the image.

    Raises:
        UnsupportedError: there is no emulator for the core.
        VerificationError: the image refuses to initialise the library.
    """

    def __init__(self, library: Library, where: Target, elf: Elf) -> None:
        self._library = library
        self._emulator = Emulator(elf, where)
        self._context = self._emulator.symbol("ek_context")
        self._arena = self._emulator.symbol("ek_arena")
        state = self._emulator.symbol("ek_state") if library.state_bytes else 0
        weights = elf.symbols.get("ek_weights_blob", 0)
        arguments = (self._context, self._arena, state, weights)
        code = self._emulator.call(library.symbol("init"), *arguments)
        if code != 0:
            raise VerificationError(f"{library.name}: init answered {code} in the emulator")
        self._emulator.paint_stack()

    def reset(self) -> None:
        """Set the state to its initial values."""
        self._emulator.call(self._library.symbol("reset"), self._context)

    def run(self) -> None:
        """Run once from the initial state."""
        self._emulator.call(self._library.symbol("run"), self._context)

    def step(self) -> None:
        """Run once and carry the state."""
        self._emulator.call(self._library.symbol("step"), self._context)

    def layer(self, index: int) -> None:
        """Run one layer."""
        self._emulator.call(self._library.layers[index].symbol, self._context)

    def count_layer(self, index: int) -> Count:
        """Run one layer and count its issued instructions."""
        return self._emulator.count(self._library.layers[index].symbol, self._context)[1]

    def stack_high_water(self) -> int:
        """Most bytes of stack used since the machine was opened."""
        return self._emulator.stack_high_water()

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from the arena."""
        assert 0 <= offset and offset + size <= self._library.arena_bytes
        return self._emulator.read(self._arena + offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Bytes into the arena."""
        assert 0 <= offset and offset + len(data) <= self._library.arena_bytes
        self._emulator.write(self._arena + offset, data)

    def close(self) -> None:
        """Release the emulated memories."""
        self._emulator.close()
