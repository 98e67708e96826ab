"""What every device offers: one instance of a library whose memory can be seen.

The host and an emulated core run a library call by call, layer by layer. QEMU boots a whole image
for every run: it has batches, and refuses layers and steps. What only some machines can do is a
protocol of its own below; a session asks by ``isinstance``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edgekit.targets.cycles.costs import Count


@dataclass(frozen=True)
class Build:
    """The compiler behind the code that a machine runs.

    Attributes:
        toolchain: name of the compiler.
        version: first line of what it says about itself.
        flags: what every source of the model is compiled with; no paths.
    """

    toolchain: str
    version: str
    flags: tuple[str, ...]


class Machine(Protocol):
    """A library, initialised, on something that runs it.

    Offsets count from the arena's start; from the arena's size on they are the state's.
    """

    @property
    def build(self) -> Build | None:
        """How the code it runs was compiled; None where that is not recorded."""

    def reset(self) -> None:
        """Set the state to its initial values."""

    def run(self) -> None:
        """Run once from the initial state."""

    def step(self) -> None:
        """Run once and carry the state."""

    def layer(self, index: int) -> None:
        """Run one layer on what the arena holds."""

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from the arena or the state."""

    def write(self, offset: int, data: bytes) -> None:
        """Bytes into the arena or the state."""

    def close(self) -> None:
        """Release what the machine holds."""


@runtime_checkable
class CountingMachine(Machine, Protocol):
    """A machine that sees every instruction and the whole stack."""

    def count_layer(self, index: int) -> Count:
        """Like :meth:`Machine.layer`; returns what it took.

        What it leaves in caches the next layer finds there, until :meth:`Machine.reset`.
        """

    def count_carry(self) -> Count:
        """Keep the state for the next step, as :meth:`Machine.step` does behind the layers.

        What these write over the state itself needs nothing more. For libraries with state; returns
        what it took.
        """

    def stack_bytes(self) -> int:
        """Like :meth:`Machine.run`; returns the bytes of stack that it used at its deepest."""


@runtime_checkable
class BatchMachine(Machine, Protocol):
    """A machine that boots for every run: it takes many inputs at once, and has no layers.

    A record holds the bytes of every input, in the library's order.
    """

    def run_batch(self, records: Sequence[Sequence[bytes]]) -> tuple[tuple[bytes, ...], ...]:
        """Run over records, each from the initial state; the outputs' bytes of each."""

    def count_batch(self, records: Sequence[Sequence[bytes]]) -> tuple[int | None, ...]:
        """Issued instructions for each record; None where the device's counter overflowed."""


@runtime_checkable
class LayeredBatchMachine(BatchMachine, Protocol):
    """A machine that boots for every run and sees every instruction of it, layer by layer."""

    def count_layers(self, record: Sequence[bytes]) -> tuple[Count, ...]:
        """Run over one record from the initial state; what each layer took, in order."""
