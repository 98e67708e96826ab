"""Complete images on QEMU's boards: boot, run over a file of inputs, compare what comes out.

The image talks through semihosting: it reads ``input.bin`` and writes ``output.bin`` in a
temporary folder. QEMU's boards have their own memory maps, so an image for a particular board is
built for the QEMU board with the same core instead; see :func:`qemu_target`.

A plugin of ours in QEMU tells which blocks ran in which layer (:func:`trace_image`). Their cycles
are those of the core at zero wait states: the boards' own memories are QEMU's, not a product's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from edgekit.errors import EmulationError, ToolchainMissingError, UnsupportedError
from edgekit.targets.compiler import clean_environment
from edgekit.targets.cores import Memory, QemuMachine
from edgekit.targets.cycles.account import Accountant
from edgekit.targets.cycles.costs import Count
from edgekit.targets.cycles.pipelines.choice import timing_of
from edgekit.targets.cycles.trace.qemu_plugin import (
    compile_plugin,
    plugin_options,
    read_trace,
)
from edgekit.targets.elf import Elf
from edgekit.targets.fresh import split_records
from edgekit.targets.image import Status
from edgekit.targets.library import Library
from edgekit.targets.target import Target

QEMU = "qemu-system-arm"
PACKAGE = "qemu-system-arm (Debian, Ubuntu) or qemu (Homebrew)"
TIMEOUT_S = 600.0

_TRACE = "trace.bin"
_FIRST_API = 1
_LOADING_S = 60
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
    if _ranges(target.memories) == _ranges(machine.memories):
        return target
    return replace(
        target,
        name=f"{target.name}-on-{machine.machine}",
        description=f"QEMU's {machine.machine} in the place of {target.name}",
        memories=machine.memories,
        clock_hz=None,
        board=None,
    )


def _ranges(memories: Sequence[Memory]) -> list[tuple[str, str, int, int]]:
    """What an image depends on; a board's own file says more of the same memories."""
    return [(memory.name, memory.kind, memory.origin, memory.bytes) for memory in memories]


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
    options = ("-icount", "shift=0") if count else ()
    files = _boot(path, library, target, records, options=options, timeout_s=timeout_s)
    return QemuResult(
        files.outputs(library, len(records)),
        _instructions(files.ticks, machine.clock_hz) if count else None,
        machine.machine,
        qemu_version(),
    )


@dataclass(frozen=True)
class QemuTrace:
    """What an image did, and what it took.

    Attributes:
        outputs: the outputs' bytes, in the library's order.
        layers: per layer, in order.
        outside: what called the layers, and the rest of the image.
    """

    outputs: tuple[bytes, ...]
    layers: tuple[Count, ...]
    outside: Count


def trace_image(
    path: Path,
    library: Library,
    target: Target,
    record: Sequence[bytes],
    *,
    timeout_s: float = TIMEOUT_S,
) -> QemuTrace:
    """Boot an image, run it over one record of inputs, and say what every layer took.

    Instructions are those that the core issues, the ones that an IT block skips among them.

    Args:
        path: the ELF file.
        library: what is in it.
        target: what it was built for; see :func:`qemu_target`.
        record: the inputs' bytes, in the library's order.
        timeout_s: wall-clock limit.

    Raises:
        ToolchainMissingError: QEMU is not installed, or there is no compiler for its plugin.
        UnsupportedError: QEMU has no board for the core, or cannot load plugins; the image is built
            for another board; there is no cycle table for the core.
        EmulationError: the image faulted, ended with an error or ran into the time limit; its
            layers did not run one after the other.
    """
    timing = timing_of(target.cortex)
    elf = Elf.read(path)
    layers = [elf.symbols[layer.symbol] & ~1 for layer in library.layers]
    callers = _callers(elf, [library.symbol(name) for name in ("step", "run")])
    options = plugin_options(tracing_plugin(), _TRACE, layers=layers, callers=callers)
    files = _boot(path, library, target, [record], options=options, timeout_s=timeout_s)
    trace = read_trace(files.trace, len(layers))
    if trace.out_of_order or trace.entered != len(layers):
        raise EmulationError(
            f"{library.name}: {trace.entered} layers ran, {trace.out_of_order} of them out of "
            f"order; each of {len(layers)} should have run once, in order"
        )
    accountant = Accountant(timing, trace.code, elf.function_at)
    outside, *inside = map(accountant.count, trace.traced())
    (outputs,) = files.outputs(library, 1)
    return QemuTrace(outputs, tuple(inside), outside)


@dataclass(frozen=True)
class _Files:
    """What an image, and the plugin, wrote."""

    output: bytes
    ticks: bytes
    trace: bytes

    def outputs(self, library: Library, records: int) -> tuple[tuple[bytes, ...], ...]:
        return split_records(self.output, [port.bytes for port in library.outputs], records)


def _boot(
    path: Path,
    library: Library,
    target: Target,
    records: Sequence[Sequence[bytes]],
    *,
    options: Sequence[str],
    timeout_s: float,
) -> _Files:
    """Boot an image in a folder of its own and keep what it wrote; see :func:`run_image`."""
    machine = _machine(target)
    if _ranges(target.memories) != _ranges(machine.memories):
        raise UnsupportedError(
            f"{path}: built for the memories of {target.name}; "
            f"QEMU boots images for {machine.machine}"
        )
    qemu_version()
    sizes = [port.bytes for port in library.inputs]
    assert all([len(data) for data in record] == sizes for record in records)
    command = [
        *(QEMU, "-machine", machine.machine, "-kernel", str(path.resolve())),
        *(("-cpu", machine.cpu) if machine.cpu else ()),
        *("-semihosting-config", "enable=on,target=native"),
        *("-display", "none", "-monitor", "none", "-serial", "none", "-nic", "none"),
        *options,
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
        trace = folder / _TRACE
        return _Files(
            (folder / "output.bin").read_bytes(),
            (folder / "ticks.bin").read_bytes(),
            trace.read_bytes() if trace.exists() else b"",
        )


@cache
def qemu_version() -> str:
    """First line of QEMU's version.

    Raises:
        ToolchainMissingError: QEMU is not installed.
        EmulationError: it does not say, or does not end.
    """
    if shutil.which(QEMU) is None:
        raise ToolchainMissingError(f"{QEMU} not found; install {PACKAGE}")
    if not (words := _asked("--version").stdout.splitlines()):
        raise EmulationError(f"{QEMU} does not say its version")
    return words[0]


def _asked(*options: str) -> subprocess.CompletedProcess[str]:
    """What a QEMU says that boots nothing, in a folder of its own, and is told to quit.

    Raises:
        EmulationError: it does not end.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        try:
            return subprocess.run(
                (QEMU, *options),
                cwd=folder,
                input="quit\n",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_LOADING_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EmulationError(f"{QEMU}: still running after {_LOADING_S} s") from error


@cache
def tracing_plugin() -> Path:
    """Our plugin, compiled for the version of the plugin interface that this QEMU has.

    Raises:
        ToolchainMissingError: QEMU is not installed, or there is no compiler.
        UnsupportedError: QEMU cannot load plugins, or not this one; its words.
        EmulationError: it does not end.
    """
    qemu_version()
    refusal = _refusal(api := _FIRST_API)
    newer = re.search(r"minimum version of (\d+)", refusal or "")
    if newer:
        refusal = _refusal(api := int(newer.group(1)))
    if refusal is not None:
        raise UnsupportedError(
            f"{qemu_version()} does not load plugins, with which instructions are counted layer "
            f"by layer; install {PACKAGE} with them: {refusal}"
        )
    return compile_plugin(api)


def _refusal(api: int) -> str | None:
    """What QEMU says against our plugin for a version of the interface, None if it loads it."""
    options = plugin_options(compile_plugin(api), _TRACE, layers=(), callers=())
    done = _asked("-machine", "none", "-display", "none", "-monitor", "stdio", *options)
    return None if done.returncode == 0 else done.stderr.strip()


def _callers(elf: Elf, names: Sequence[str]) -> list[tuple[int, int]]:
    """Begin and end of the functions called `names`, and of the parts that compilers split off."""
    return [
        (function.address, function.address + function.bytes)
        for function in elf.functions
        if function.name.partition(".")[0] in names
    ]


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
