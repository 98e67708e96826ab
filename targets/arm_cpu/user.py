"""A shared object under QEMU's user mode: a small program that has it in its memory.

The program (``runtime/harness.c``) needs no C library and no loader: it is given the very file that
ships as it is after loading, at an address that this module chose. It is built once per processor
and serves every network.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from edgekit.errors import EmulationError, ToolchainMissingError, UnsupportedError
from edgekit.targets.arm_cpu.cpus import Cpu
from edgekit.targets.arm_cpu.loader import SharedImage
from edgekit.targets.arm_cpu.shared import (
    RUNTIME_FOLDER,
    SharedObject,
    support_objects,
    write_all,
)
from edgekit.targets.arm_cpu.toolchain import CrossToolchain, find_cross
from edgekit.targets.compiler import clean_environment
from edgekit.targets.fresh import FreshMachine, split_records
from edgekit.targets.image import Status
from edgekit.targets.library import Library
from edgekit.targets.machine import Build

PACKAGE = "qemu-user (Debian, Ubuntu)"
TIMEOUT_S = 600.0

_HARNESS = "harness"
_BASE = 0x1000_0000
_PLAN = struct.Struct("<9I")
_PORT = struct.Struct("<2I")


class UserMachine(FreshMachine):
    """A shared object in a program that QEMU's user mode runs; a batch starts it once.

    Implements :class:`edgekit.targets.machine.BatchMachine`. Nothing is counted.

    Args:
        library: what is in the file.
        cpu: what it was built for.
        shared: the file.
        timeout_s: wall-clock limit of one batch.

    Raises:
        UnsupportedError: QEMU is not used for the processor.
        ToolchainMissingError: QEMU is not installed, or no compiler for the program.
    """

    device = "qemu"

    def __init__(
        self, library: Library, cpu: Cpu, shared: SharedObject, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        super().__init__(library)
        command = cpu.platform.qemu
        if command is None or cpu.qemu_cpu is None:
            raise UnsupportedError(f"{cpu.name} does not run under QEMU here")
        if shutil.which(command) is None:
            raise ToolchainMissingError(f"{command} not found; install {PACKAGE}")
        self._build = shared.build
        self._timeout_s = timeout_s
        self._where = f"{library.name} under {command}"
        self._plan = _plan(library, SharedImage.read(shared.path))
        self._folder = tempfile.TemporaryDirectory(prefix="edgekit-")
        program = Path(self._folder.name) / _HARNESS
        program.write_bytes(_harness(find_cross(cpu), cpu))
        program.chmod(0o700)
        self._command = (command, "-cpu", cpu.qemu_cpu, str(program))

    @property
    def build(self) -> Build | None:
        """How the shared object was compiled."""
        return self._build

    def run_batch(self, records: Sequence[Sequence[bytes]]) -> tuple[tuple[bytes, ...], ...]:
        """Start the program and run over records of inputs; the outputs of each.

        Raises:
            EmulationError: it faulted, ended with an error or ran into the time limit.
        """
        sizes = [port.bytes for port in self._library.inputs]
        assert all([len(data) for data in record] == sizes for record in records)
        try:
            done = subprocess.run(
                self._command,
                input=self._plan + b"".join(data for record in records for data in record),
                env=clean_environment(),
                capture_output=True,
                timeout=self._timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EmulationError(
                f"{self._where}: still running after {self._timeout_s:g} s"
            ) from error
        if done.returncode != Status.DONE:
            raise EmulationError(f"{self._where}: {_reason(done.returncode, done.stderr)}")
        outputs = [port.bytes for port in self._library.outputs]
        return split_records(done.stdout, outputs, len(records))

    def count_batch(self, records: Sequence[Sequence[bytes]]) -> tuple[int | None, ...]:
        """None for each record: QEMU's user mode does not count."""
        return (None,) * len(records)

    def close(self) -> None:
        """Delete the program."""
        self._folder.cleanup()


def _plan(library: Library, image: SharedImage) -> bytes:
    """What the program reads before the records."""
    memory = bytearray(image.bytes)
    for segment in image.placed(_BASE):
        at = segment.address - _BASE
        memory[at : at + len(segment.data)] = segment.data
    blob = library.blob or b""
    functions = (image.elf.symbols[library.symbol(name)] for name in ("init", "run"))
    plan = _PLAN.pack(
        *(_BASE, len(memory), *(_BASE + address for address in functions)),
        *(library.arena_bytes, library.state_bytes, len(blob)),
        *(len(library.inputs), len(library.outputs)),
    )
    ports = b"".join(_PORT.pack(port.offset, port.bytes) for port in library.ports)
    return plan + ports + bytes(memory) + blob


@cache
def _harness(toolchain: CrossToolchain, cpu: Cpu) -> bytes:
    """The program for a processor."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as temporary:
        folder = Path(temporary)
        name = f"{_HARNESS}.c"
        support = support_objects(toolchain, cpu)
        write_all(folder, {name: (RUNTIME_FOLDER / name).read_bytes(), **support})
        objects = toolchain.compile_objects([name], target=cpu, folder=folder)
        toolchain.link_program([*objects, *support], cpu=cpu, folder=folder, output=_HARNESS)
        return (folder / _HARNESS).read_bytes()


def _reason(code: int, words: bytes) -> str:
    """What an exit status says, with QEMU's own words."""
    known = {status.value: status.name.lower() for status in Status}
    stage = f"failed at {known[code]}" if code in known else f"QEMU ended with {code}"
    line = next(iter(words.decode("utf-8", "replace").splitlines()), "")
    return f"{stage}: {line}" if line else stage
