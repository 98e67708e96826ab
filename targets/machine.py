"""What every device offers: one instance of a library whose memory can be seen.

Three machines run a library call by call (the host, an emulated core, later a probe); QEMU runs a
whole image over a batch instead and is no machine.
"""

from __future__ import annotations

from typing import Protocol


class Machine(Protocol):
    """A library, initialised, on something that runs it. Offsets count from the arena's start."""

    def reset(self) -> None:
        """Set the state to its initial values."""

    def run(self) -> None:
        """Run once from the initial state."""

    def step(self) -> None:
        """Run once and carry the state."""

    def layer(self, index: int) -> None:
        """Run one layer on what the arena holds."""

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from the arena."""

    def write(self, offset: int, data: bytes) -> None:
        """Bytes into the arena."""

    def close(self) -> None:
        """Release what the machine holds."""
