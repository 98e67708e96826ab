"""A library as a complete image on QEMU's board, behind the interface of a machine.

Every run boots the image; a batch boots it once. Layers and single steps cannot be called from
outside, but what every layer of a run took can be told.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgekit.bench.costs import CycleModel
from edgekit.targets.cycles.costs import Count
from edgekit.targets.cycles.described import in_order_model
from edgekit.targets.cycles.trace.memory import FREE
from edgekit.targets.fresh import FreshMachine
from edgekit.targets.image import STACK_BYTES, LinkedImage, build_image
from edgekit.targets.library import Library
from edgekit.targets.machine import Build
from edgekit.targets.qemu import qemu_target, run_image, trace_image
from edgekit.targets.target import Target
from edgekit.targets.toolchain import find_toolchain


class BootedMachine(FreshMachine):
    """A library in an image that QEMU's board with the same core boots.

    Where the target has the memories of that board, the given image is booted itself. Elsewhere
    the library is compiled and linked again, by the same toolchain and with as much stack.
    Implements :class:`edgekit.targets.machine.LayeredBatchMachine`.

    Args:
        library: what to run.
        where: what it was built for.
        linked: the image that it was built into; None builds one by the first toolchain that is
            installed.

    Raises:
        UnsupportedError: QEMU has no board with the core.
        ToolchainMissingError: the image's compiler is not installed, and would be needed.
        DoesNotFitError: QEMU's board has less memory than the image needs.
    """

    device = "qemu"

    def __init__(self, library: Library, where: Target, linked: LinkedImage | None = None) -> None:
        super().__init__(library)
        self._target = qemu_target(where)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if linked is not None and self._target is where:
            self._path, self._build = linked.path, linked.build
        else:
            toolchain = find_toolchain(None if linked is None else linked.build.toolchain)
            self._folder = tempfile.TemporaryDirectory(prefix="edgekit-")
            image = build_image(
                library,
                self._target,
                folder=Path(self._folder.name),
                toolchain=toolchain,
                stack_bytes=STACK_BYTES if linked is None else linked.stack_bytes,
            )
            image.require_fit()
            self._path, self._build = image.path, image.build

    @property
    def build(self) -> Build:
        """How the image that is booted was compiled."""
        return self._build

    def run_batch(self, records: Sequence[Sequence[bytes]]) -> tuple[tuple[bytes, ...], ...]:
        """Boot once and run over records of inputs; the outputs of each."""
        return run_image(self._path, self._library, self._target, records).outputs

    def count_batch(self, records: Sequence[Sequence[bytes]]) -> tuple[int | None, ...]:
        """Boot once and run over records of inputs; the instructions of each."""
        result = run_image(self._path, self._library, self._target, records, count=True)
        assert result.instructions is not None
        return result.instructions

    @property
    def cycle_model(self) -> CycleModel | None:
        """What the cycles of :meth:`count_layers` are modelled with."""
        if self._target.cortex.cycles is None:
            return None
        return in_order_model(self._target, FREE)

    def count_layers(self, record: Sequence[bytes]) -> tuple[Count, ...]:
        """Boot, run over one record, and say what each layer took; see :func:`trace_image`.

        Raises:
            ToolchainMissingError: there is no compiler for the plugin that counts.
            UnsupportedError: QEMU cannot load plugins; there is no cycle table for the core.
        """
        return trace_image(self._path, self._library, self._target, record).layers

    def close(self) -> None:
        """Delete what was built here."""
        if self._folder is not None:
            self._folder.cleanup()
