"""A library as a complete image on QEMU's board, behind the interface of a machine.

Every run boots the image; a batch boots it once. Layers and single steps cannot be called from
outside.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgekit.errors import UnsupportedError
from edgekit.targets.image import build_image
from edgekit.targets.library import Library
from edgekit.targets.qemu import QemuResult, qemu_target, run_image
from edgekit.targets.target import Target
from edgekit.targets.toolchain import Toolchain


class BootedMachine:
    """A library in an image of its own, linked for QEMU's board with the same core.

    Args:
        library: what to build.
        where: what the artifact was built for.
        toolchain: None for the first that is installed.

    Raises:
        UnsupportedError: QEMU has no board with the core.
        ToolchainMissingError: QEMU or the compiler is not installed.
        DoesNotFitError: QEMU's board has less memory than the image needs.
    """

    def __init__(self, library: Library, where: Target, toolchain: Toolchain | None = None) -> None:
        self._library = library
        self._folder = tempfile.TemporaryDirectory(prefix="edgekit-")
        folder = Path(self._folder.name)
        board = qemu_target(where)
        self._image = build_image(library, board, folder=folder, toolchain=toolchain)
        self._image.require_fit()
        self._written = {port.offset: bytes(port.bytes) for port in library.inputs}
        self._results: dict[int, bytes] = {}

    def run_batch(self, records: Sequence[Sequence[bytes]]) -> tuple[tuple[bytes, ...], ...]:
        """Boot once and run over records of inputs; the outputs of each."""
        return run_image(self._image, records).outputs

    def count_run(self) -> QemuResult:
        """Boot, run what was written once, and count its instructions."""
        return run_image(self._image, [self._record()], count=True)

    def run(self) -> None:
        """Boot and run once."""
        (outputs,) = self.run_batch([self._record()])
        ports = self._library.outputs
        self._results = {p.offset: data for p, data in zip(ports, outputs, strict=True)}

    def step(self) -> None:
        """Refuse: nothing survives between boots."""
        raise UnsupportedError("qemu boots for every run and carries no state; use the emulator")

    def reset(self) -> None:
        """Every boot starts from the initial state."""

    def layer(self, index: int) -> None:
        """Refuse: the image runs as a whole."""
        raise UnsupportedError("qemu runs whole images, not layers; use the emulator")

    def read(self, offset: int, size: int) -> bytes:
        """An output of the last run."""
        data = self._results[offset]
        assert len(data) == size
        return data

    def write(self, offset: int, data: bytes) -> None:
        """An input of the next run."""
        assert len(self._written[offset]) == len(data)
        self._written[offset] = data

    def close(self) -> None:
        """Delete the build."""
        self._folder.cleanup()

    def _record(self) -> list[bytes]:
        return [self._written[port.offset] for port in self._library.inputs]
