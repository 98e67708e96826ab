"""The generated library as a shared object, called through ctypes."""

from __future__ import annotations

import ctypes
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bench.boundary import from_program, to_program
from edgekit.bench.costs import LayerCost
from edgekit.bench.runners.base import Array, Inputs, Runner, RunnerError, prepared_arrays
from edgekit.bench.subject import LibraryFile, Subject

LAYER_RUNS = 20
"""Runs of each layer; the median counts."""

POINTERS = 16
"""Words that are surely enough for a context: it holds a few pointers."""


class CRunner(Runner):
    """Generated C on the machine that it was compiled for.

    Args:
        folder: of the artifact.
        subject: what the artifact says of itself.

    Raises:
        RunnerError: no library for this machine.
    """

    name = "c"
    kernels = "portable C99"
    is_exact = True
    carries_state = True

    def __init__(self, folder: Path, subject: Subject) -> None:
        super().__init__(subject.inputs, subject.outputs, precision=subject.identity.precision)
        library = subject.library
        if library is None:
            raise RunnerError(f"{subject.identity.name}: the artifact holds no generated C")
        self.version = subject.edgekit
        self.toolchain = subject.toolchain
        self.toolchain_version = subject.toolchain_version
        self.flags = subject.flags
        self.steps = subject.steps
        self._subject = subject
        self._code = _loaded(folder / library.file)
        self._arena, self._address = aligned(library.arena_bytes, library.arena_alignment)
        self._state, state = aligned(library.state_bytes, library.arena_alignment)
        self._weights, weights = _weights(folder, library)
        self._context = (ctypes.c_void_p * POINTERS)()
        init = self._function(library, "init")
        init.argtypes = [ctypes.c_void_p] * 4
        code = init(self._context, self._address, state, weights)
        if code != 0:
            raise RunnerError(f"{library.file}: init answered {code}; its weights do not fit")
        self._run = self._function(library, "run")
        self._step = self._function(library, "step")
        self._reset = self._function(library, "reset")
        self._layers = [self._symbol(layer.symbol) for layer in subject.layers]

    def _function(self, library: LibraryFile, name: str) -> Any:
        return self._symbol(library.prefix + name)

    def _symbol(self, name: str) -> Any:
        try:
            return self._code[name]
        except AttributeError as error:
            raise RunnerError(f"the library has no function {name}: {error}") from error

    def prepare(self, inputs: Inputs) -> list[tuple[int, bytes]]:
        """Address in the arena, and bytes."""
        dtypes = {port.name: port.dtype for port in self.inputs}
        arrays = prepared_arrays(self.inputs, inputs, dtypes)
        return [
            (self._address + (port.offset or 0), to_program(port, values).tobytes())
            for port, values in zip(self.inputs, arrays, strict=True)
        ]

    def invoke(self, prepared: list[tuple[int, bytes]]) -> list[bytes]:
        """Copy the inputs in, run, copy the outputs out."""
        return self._executed(self._run, prepared)

    def reset(self) -> None:
        """See :meth:`Runner.reset`."""
        self._reset(self._context)

    def advance(self, prepared: list[tuple[int, bytes]]) -> list[bytes]:
        """See :meth:`Runner.advance`."""
        return self._executed(self._step, prepared)

    def _executed(self, function: Any, prepared: list[tuple[int, bytes]]) -> list[bytes]:
        for address, data in prepared:
            ctypes.memmove(address, data, len(data))
        function(self._context)
        return [
            ctypes.string_at(self._address + (port.offset or 0), port.bytes)
            for port in self.outputs
        ]

    def results(self, raw: list[bytes]) -> dict[str, Array]:
        """See :meth:`Runner.results`."""
        return {
            port.name: from_program(
                port, np.frombuffer(data, np.dtype(port.dtype).newbyteorder("<"))
            )
            for port, data in zip(self.outputs, raw, strict=True)
        }

    def profile(self, prepared: list[tuple[int, bytes]]) -> tuple[LayerCost, ...]:
        """Median milliseconds; memory is restored between runs, a layer may write in place."""
        self._reset(self._context)
        for address, data in prepared:
            ctypes.memmove(address, data, len(data))
        memories = (self._arena, self._state)
        costs = []
        for function, fact in zip(self._layers, self._subject.layers, strict=True):
            before = [memory.raw for memory in memories]
            times = []
            for _ in range(LAYER_RUNS):
                for memory, data in zip(memories, before, strict=True):
                    memory.raw = data
                begin = time.perf_counter_ns()
                function(self._context)
                times.append(time.perf_counter_ns() - begin)
            milliseconds = statistics.median(times) / 1e6
            costs.append(
                LayerCost(fact.operation, fact.operator, fact.macs, latency_ms=milliseconds)
            )
        return tuple(costs)


def _loaded(path: Path) -> ctypes.CDLL:
    """The shared object.

    Raises:
        RunnerError: missing, or compiled for another machine.
    """
    built = _architecture(path)
    if built is not None and built != platform.machine():
        raise RunnerError(
            f"{path.name} was built for {built}; this machine is {platform.machine()}"
        )
    try:
        return ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        raise RunnerError(f"{path.name} cannot be loaded on this machine: {error}") from error


ELF_MACHINES = {40: "armv7l", 62: "x86_64", 183: "aarch64"}
"""``e_machine`` of the ELF header, in the words of ``uname -m``."""


def _architecture(path: Path) -> str | None:
    """What an ELF file was built for; None where it does not say so in known words."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        return None
    known = len(head) == 20 and head[:4] == b"\x7fELF" and head[5] == 1
    return ELF_MACHINES.get(int.from_bytes(head[18:20], "little")) if known else None


def _weights(folder: Path, library: LibraryFile) -> tuple[Any, int | None]:
    """The blob of weights and its address; nothing where they are built in.

    Raises:
        RunnerError: the blob cannot be read.
    """
    if library.weights_file is None:
        return None, None
    try:
        data = (folder / library.weights_file).read_bytes()
    except OSError as error:
        raise RunnerError(f"{library.weights_file}: {error.strerror}") from error
    buffer, address = aligned(len(data), library.arena_alignment)
    ctypes.memmove(address, data, len(data))
    return buffer, address


def aligned(size: int, alignment: int) -> tuple[ctypes.Array[ctypes.c_char], int]:
    """A zeroed buffer and an aligned address with `size` bytes behind it."""
    buffer = ctypes.create_string_buffer(size + alignment)
    address = ctypes.addressof(buffer)
    return buffer, address + (-address % alignment)
