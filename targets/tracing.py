"""What every emulated core here has in common: refused accesses in words, recording by blocks.

Where the costs of code are known, blocks end at branches, wherever the emulator cuts the code. Else
they are what the emulator takes for blocks.

Instructions are counted by executed basic blocks, so that those an IT block skips count too, as the
core issues them; a hook per instruction would miss them.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import unicorn
from unicorn.unicorn_py3.unicorn import uclib

from edgekit.errors import EdgekitError, ToolchainMissingError
from edgekit.targets.cycles.trace.memory import MemorySimulation, MemoryTiming
from edgekit.targets.cycles.trace.native_memory import NativeMemory
from edgekit.targets.cycles.trace.native_recorder import (
    CoreFunctions,
    NativeRecorder,
    native_library,
)
from edgekit.targets.cycles.trace.recorder import Costs, Recorder, TracedBlock

READ, WRITE, JUMP = "read", "write", "jump"
NOWHERE = "where there is no memory"
READ_ONLY = "which is program memory"

ACCESS = {
    unicorn.UC_MEM_READ_UNMAPPED: (READ, NOWHERE),
    unicorn.UC_MEM_WRITE_UNMAPPED: (WRITE, NOWHERE),
    unicorn.UC_MEM_WRITE_PROT: (WRITE, READ_ONLY),
    unicorn.UC_MEM_FETCH_UNMAPPED: (JUMP, ""),
    unicorn.UC_MEM_FETCH_PROT: (JUMP, ""),
}
"""What unicorn calls an access, in words, and why it was refused."""

TIMEOUT_S = 600.0
INSTRUCTION_LIMIT = 20_000_000_000

_VERSION = (unicorn.UC_VERSION_MAJOR, unicorn.UC_VERSION_MINOR, unicorn.UC_VERSION_PATCH)
_ACCESSES = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE

OLDEST_UNICORN = (2, 1, 4)
"""The first whose program counter a hook of an access can read; before, it was the block's."""

_IT_STATE = 3 << 25 | 0x3F << 10
"""Bits of the status register that say which conditions an IT block still imposes."""

STACK_PAINT = 0xA5
"""What untouched stack holds while its use is measured."""


@dataclass(frozen=True)
class Refused:
    """An access that stopped the core."""

    verb: str
    reason: str
    address: int
    pc: int


class Mark(NamedTuple):
    """What bit 0 of a block's address tells on cores with two instruction sets.

    Attributes:
        register: unicorn's number of a register.
        bit: of that register, while the block begins.
    """

    register: int
    bit: int


KeptMemory = NativeMemory | MemorySimulation
"""The memories of a core, from one counted call to the next."""


def kept_memory(timing: MemoryTiming) -> KeptMemory:
    """Empty memories, in C where this machine has a compiler."""
    library = native_library()
    return MemorySimulation(timing) if library is None else NativeMemory(library, timing)


class BlockTrace:
    """Records the blocks that a core executes, as a context around a call.

    With costs, also what they read and wrote, and with a memory, what they waited for. The hooks
    are C where this machine has a compiler (with costs some thirty times slower than without
    recording), else Python (two thousand times); the figures are the same. What the trace holds is
    released when it is read out, or the call fails.

    Args:
        uc: the core.
        instruction_limit: stops the core some time after so many instructions.
        pc_register: unicorn's number of the program counter.
        costs: what code takes without waiting; None to only count blocks.
        memory: what code waits for, as the calls before left it; None for nothing.
        mark: for cores with two instruction sets.
        it_register: unicorn's number of the register that holds the state of IT blocks; None for
            cores without. Accesses can only be recorded where it is right, see ``native/hooks.c``.
        native: whether to use C where there is a compiler; it is what `memory` is made of, if that
            is given.

    Raises:
        ToolchainMissingError: costs are wanted of a unicorn that is too old to tell them.
    """

    def __init__(
        self,
        uc: Any,
        instruction_limit: int,
        *,
        pc_register: int,
        costs: Costs | None = None,
        memory: KeptMemory | None = None,
        mark: Mark | None = None,
        it_register: int | None = None,
        native: bool = True,
    ) -> None:
        if costs is not None and _VERSION < OLDEST_UNICORN:
            raise ToolchainMissingError(
                f"cycles need unicorn {_words(OLDEST_UNICORN)} or newer, not {_words(_VERSION)}; "
                "pip install --upgrade unicorn"
            )
        self._uc = uc
        self._hooks: _PythonHooks | _NativeHooks
        library = native_library() if native and memory is None else None
        if isinstance(memory, NativeMemory):
            library = memory.library
        if library is None or isinstance(memory, MemorySimulation):
            assert not isinstance(memory, NativeMemory)
            recorder = Recorder(instruction_limit, costs=costs, memory=memory)
            accesses = costs is not None
            self._hooks = _PythonHooks(uc, recorder, pc_register, mark, it_register, accesses)
        else:
            register, bit = mark or (-1, 0)
            core = CoreFunctions(
                _address(uclib.uc_reg_read),
                _address(uclib.uc_reg_write),
                _address(uclib.uc_emu_stop),
                *(pc_register, register, bit, unicorn.UC_MEM_WRITE),
                -1 if it_register is None else it_register,
            )
            traced = NativeRecorder(
                library, instruction_limit, costs=costs, memory=memory, core=core
            )
            self._hooks = _NativeHooks(uc, traced, costs is not None)

    def __enter__(self) -> Self:
        self._hooks.add()
        # Code translated before the hooks came does not call them, code translated with them does.
        self._uc.ctl_flush_tb()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.remove()
        self._uc.ctl_flush_tb()
        try:
            # What went wrong in a hook is why the call did not return.
            self._hooks.require_sound()
        except BaseException:
            self._hooks.close()
            raise
        if error is not None:
            self._hooks.close()

    def blocks(self, end: int) -> tuple[TracedBlock, ...]:
        """Every executed block; the last was followed by `end`. To be asked once."""
        try:
            return self._hooks.recorder.finish(end)
        finally:
            self._hooks.close()


class _PythonHooks:
    """Hooks that call the recorder in Python."""

    def __init__(
        self,
        uc: Any,
        recorder: Recorder,
        pc_register: int,
        mark: Mark | None,
        it_register: int | None,
        accesses: bool,
    ) -> None:
        self.recorder = recorder
        self._uc = uc
        self._pc_register = pc_register
        self._mark = mark
        self._it_register = it_register
        self._accesses = accesses
        self._handles: list[int] = []
        self._failure: EdgekitError | None = None

    def add(self) -> None:
        self._handles.append(self._uc.hook_add(unicorn.UC_HOOK_BLOCK, self._on_block))
        if self._accesses:
            self._handles.append(self._uc.hook_add(_ACCESSES, self._on_access))

    def remove(self) -> None:
        for handle in self._handles:
            self._uc.hook_del(handle)

    def require_sound(self) -> None:
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Nothing is held outside Python."""

    def _on_block(self, uc: Any, address: int, size: int, _: Any) -> None:
        if self._mark is not None:
            address |= int(uc.reg_read(self._mark.register)) >> self._mark.bit & 1
        try:
            goes_on = self._failure is None and self.recorder.block(address, size)
        except EdgekitError as error:
            self._failure, goes_on = error, False
        if not goes_on:
            uc.emu_stop()

    def _on_access(self, uc: Any, kind: int, address: int, size: int, value: int, _: Any) -> None:
        pc = int(uc.reg_read(self._pc_register))
        self._end_it_block(uc)
        try:
            self.recorder.access(pc, address, size, kind == unicorn.UC_MEM_WRITE)
        except EdgekitError as error:
            self._failure = error
            uc.emu_stop()

    def _end_it_block(self, uc: Any) -> None:
        """See ``end_it_block`` in ``native/hooks.c``."""
        if self._it_register is not None:
            status = int(uc.reg_read(self._it_register))
            if status & _IT_STATE:
                uc.reg_write(self._it_register, status & ~_IT_STATE)


class _NativeHooks:
    """Hooks in C, added through unicorn's own interface: its Python one only takes Python."""

    def __init__(self, uc: Any, recorder: NativeRecorder, accesses: bool) -> None:
        self.recorder = recorder
        self._core = uc._uch
        self._kinds = [(unicorn.UC_HOOK_BLOCK, recorder.on_block)]
        if accesses:
            self._kinds.append((_ACCESSES, recorder.on_access))
        self._handles: list[ctypes.c_size_t] = []

    def add(self) -> None:
        for kind, function in self._kinds:
            handle = ctypes.c_size_t()
            everywhere = ctypes.c_uint64(1), ctypes.c_uint64(0)
            code = uclib.uc_hook_add(
                *(self._core, ctypes.byref(handle), kind, ctypes.c_void_p(function)),
                *(self.recorder.handle, *everywhere),
            )
            assert code == unicorn.UC_ERR_OK, f"unicorn takes no hook: {code}"
            self._handles.append(handle)

    def remove(self) -> None:
        for handle in self._handles:
            uclib.uc_hook_del(self._core, handle)

    def require_sound(self) -> None:
        self.recorder.require_sound()

    def close(self) -> None:
        self.recorder.close()


def _words(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
