"""What machines share that start anew for every run: inputs in, outputs out, nothing in between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from edgekit.errors import EmulationError, UnsupportedError
from edgekit.targets.library import Library


class FreshMachine(ABC):
    """The part of :class:`edgekit.targets.machine.BatchMachine` that follows from batches.

    Args:
        library: what is run.
    """

    device: ClassVar[str]
    """Name of the device, for messages."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._written = {port.offset: bytes(port.bytes) for port in library.inputs}
        self._results: dict[int, bytes] = {}

    @abstractmethod
    def run_batch(self, records: Sequence[Sequence[bytes]]) -> tuple[tuple[bytes, ...], ...]:
        """Start once and run over records of inputs; the outputs of each."""

    def run(self) -> None:
        """Start and run once."""
        (outputs,) = self.run_batch([[self._written[p.offset] for p in self._library.inputs]])
        ports = self._library.outputs
        self._results = {p.offset: data for p, data in zip(ports, outputs, strict=True)}

    def step(self) -> None:
        """Refuse: nothing survives between starts."""
        raise UnsupportedError(
            f"{self.device} starts anew for every run and carries no state; use the emulator"
        )

    def reset(self) -> None:  # noqa: B027  there is nothing to do
        """Every start is from the initial state."""

    def layer(self, index: int) -> None:
        """Refuse: the network runs as a whole."""
        raise UnsupportedError(f"{self.device} runs whole networks, not layers; use the emulator")

    def read(self, offset: int, size: int) -> bytes:
        """An output of the last run."""
        data = self._results[offset]
        assert len(data) == size
        return data

    def write(self, offset: int, data: bytes) -> None:
        """An input of the next run."""
        assert len(self._written[offset]) == len(data)
        self._written[offset] = data


def split_records(data: bytes, sizes: Sequence[int], records: int) -> tuple[tuple[bytes, ...], ...]:
    """Cut what a batch wrote into records of outputs.

    Raises:
        EmulationError: it wrote more or less.

    >>> split_records(b"abcdef", [1, 2], 2)
    ((b'a', b'bc'), (b'd', b'ef'))
    """
    if len(data) != records * sum(sizes):
        raise EmulationError(
            f"the outputs have {len(data)} bytes, not {records} records of {sum(sizes)}"
        )
    cut: list[tuple[bytes, ...]] = []
    position = 0
    for _ in range(records):
        record = []
        for size in sizes:
            record.append(data[position : position + size])
            position += size
        cut.append(tuple(record))
    return tuple(cut)
