"""Complete images on QEMU's boards: boot, run over a file of inputs, compare what comes out.

The image talks through semihosting: it reads ``input.bin`` and writes ``output.bin`` in a
temporary folder. QEMU's boards have their own memory maps, so an image for a particular board is
built for the QEMU board with the same core instead; see :func:`qemu_target`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from edgekit.errors import EmulationError, ToolchainMissingError, UnsupportedError
from edgekit.targets.compiler import clean_environment
from edgekit.targets.cores import QemuMachine
from edgekit.targets.fresh import split_records
from edgekit.targets.image import Status
from edgekit.targets.library import Library
from edgekit.targets.target import Target

QEMU = "qemu-system-arm"
PACKAGE = "qemu-system-arm (Debian, Ubuntu) or qemu (Homebrew)"
TIMEOUT_S = 600.0

_TICKS_OVERFLOWN = 0xFFFFFFFF
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class QemuResult:
    """What an image did.

    Attributes:
        outputs: for every record of inputs the outputs' bytes, in the library's order.
        instructions: issued instructions of every run, to within one tick of the board's timer
            (40 instructions at 25 MHz); None where they were not asked for, or did not fit the
            timer.
        machine: QEMU's name of the board.
        version: QEMU's version.
    """

    outputs: tuple[tuple[bytes, ...], ...]
    instructions: tuple[int | None, ...] | None
    machine: str
    version: str


def qemu_target(target: Target) -> Target:
    """The target whose images QEMU boots in the place of `target`: same core, the board's memories.

    Raises:
        UnsupportedError: QEMU has no board for the core.
    """
    machine = _machine(target)
    if target.memories == machine.memories:
        return target
    return replace(
        target,
        name=f"{target.name}-on-{machine.machine}",
        description=f"QEMU's {machine.machine} in the place of {target.name}",
        memories=machine.memories,
        clock_hz=None,
        board=None,
    )


def run_image(
    path: Path,
    library: Library,
    target: Target,
    records: Sequence[Sequence[bytes]],
    *,
    timeout_s: float = TIMEOUT_S,
    count: bool = False,
) -> QemuResult:
    """Boot an image and run it over records of inputs.

    Args:
        path: the ELF file.
        library: what is in it.
        target: what it was built for; see :func:`qemu_target`.
        records: for every run the inputs' bytes, in the library's order.
        timeout_s: wall-clock limit of the whole batch.
        count: count instructions too; slower.

    Raises:
        ToolchainMissingError: QEMU is not installed.
        UnsupportedError: QEMU has no board for the core, or the image is built for another board.
        EmulationError: the image faulted, ended with an error or ran into the time limit.
    """
    machine = _machine(target)
    if target.memories != machine.memories:
        raise UnsupportedError(
            f"{path}: built for the memories of {target.name}; "
            f"QEMU boots images for {machine.machine}"
        )
    version = qemu_version()
    sizes = [port.bytes for port in library.inputs]
    assert all([len(data) for data in record] == sizes for record in records)
    command = [
        *(QEMU, "-machine", machine.machine, "-kernel", str(path.resolve())),
        *(("-cpu", machine.cpu) if machine.cpu else ()),
        *("-semihosting-config", "enable=on,target=native"),
        *("-display", "none", "-monitor", "none", "-serial", "none", "-nic", "none"),
        *(("-icount", "shift=0") if count else ()),
    ]
    with tempfile.TemporaryDirectory(prefix="edgekit-") as temporary:
        folder = Path(temporary)
        (folder / "input.bin").write_bytes(b"".join(data for r in records for data in r))
        where = f"{library.name} on QEMU's {machine.machine}"
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EmulationError(f"{where}: still running after {timeout_s:g} s") from error
        if done.returncode != Status.DONE:
            raise EmulationError(f"{where}: {_reason(done.returncode, done.stderr)}")
        output = (folder / "output.bin").read_bytes()
        ticks = (folder / "ticks.bin").read_bytes()
    return QemuResult(
        split_records(output, [port.bytes for port in library.outputs], len(records)),
        _instructions(ticks, machine.clock_hz) if count else None,
        machine.machine,
        version,
    )


@cache
def qemu_version() -> str:
    """First line of QEMU's version.

    Raises:
        ToolchainMissingError: QEMU is not installed.
    """
    if shutil.which(QEMU) is None:
        raise ToolchainMissingError(f"{QEMU} not found; install {PACKAGE}")
    done = subprocess.run(
        (QEMU, "--version"), capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()[0]


def _machine(target: Target) -> QemuMachine:
    machine = target.cortex.qemu
    if machine is None:
        raise UnsupportedError(f"QEMU has no board with {target.cortex.name}")
    return machine


def _reason(code: int, words: str) -> str:
    """What an exit status says, with the image's or QEMU's own words."""
    known = {status.value: status.name.lower() for status in Status}
    stage = f"failed at {known[code]}" if code in known else f"QEMU ended with {code}"
    lines = (line for line in words.splitlines() if "fault:" in line or "fatal:" in line)
    line = next(lines, "")
    return f"{stage}: {line}" if line else stage


def _instructions(ticks: bytes, clock_hz: int) -> tuple[int | None, ...]:
    """Timer ticks as instructions: QEMU was told that each takes one nanosecond."""
    counts = memoryview(ticks).cast("I") if ticks else ()
    return tuple(
        None if count == _TICKS_OVERFLOWN else count * _NANOSECONDS // clock_hz for count in counts
    )
