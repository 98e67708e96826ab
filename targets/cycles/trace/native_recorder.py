"""The recorder in C, used like the one in Python."""

from __future__ import annotations

import ctypes
import logging
import weakref
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.targets.cycles.trace.compiled import Sources, load
from edgekit.targets.cycles.trace.memory import MemoryTiming
from edgekit.targets.cycles.trace.native_memory import NativeMemory
from edgekit.targets.cycles.trace.recorder import (
    LIMITS,
    Costs,
    Limits,
    Place,
    TracedBlock,
    stray_access,
    too_much,
)
from edgekit.targets.host import host_compiler

_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_uint64
_FUNCTIONS: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("ek_memories_create", _POINTER, (_POINTER, _NUMBER, _POINTER, _NUMBER)),
    ("ek_memories_empty", None, (_POINTER,)),
    ("ek_memories_destroy", None, (_POINTER,)),
    ("ek_trace_create", _POINTER, (_POINTER, _POINTER)),
    ("ek_trace_destroy", None, (_POINTER,)),
    ("ek_trace_describe", ctypes.c_int64, (_POINTER, _POINTER, _NUMBER)),
    ("ek_trace_block", ctypes.c_int64, (_POINTER, _NUMBER, _NUMBER)),
    ("ek_trace_access", ctypes.c_int64, (_POINTER, _NUMBER, _NUMBER, _NUMBER, ctypes.c_int64)),
    ("ek_trace_finish", ctypes.c_int64, (_POINTER, _NUMBER)),
    ("ek_trace_summary", None, (_POINTER, _POINTER)),
    ("ek_trace_blocks", _POINTER, (_POINTER,)),
    ("ek_trace_edges", _POINTER, (_POINTER,)),
    ("ek_trace_costs", _POINTER, (_POINTER,)),
)
"""Functions of the library by name, with what they give and take."""

SOURCES = Sources(
    "recorder",
    ("hooks.c", "memory.c", "record.c", "table.c", "trace.c"),
    headers=("memory.h", "state.h", "table.h", "trace.h"),
    symbols=("ek_on_block", "ek_on_access", *(name for name, *_ in _FUNCTIONS)),
)

_NO_INDEX = 0xFFFF_FFFF
_FAILED = -(1 << 63)
_NO_ROOM, _NO_ANSWER, _STRAY_ACCESS = 1, 2, 3

_log = logging.getLogger(__name__)


class _Step(ctypes.Structure):
    _fields_ = (
        ("offset", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("ticks", ctypes.c_int64),
        ("skipped_ticks", ctypes.c_int64),
    )


class _StepCost(ctypes.Structure):
    _fields_ = (
        ("skipped", ctypes.c_uint64),
        ("fetch", ctypes.c_int64),
        ("load", ctypes.c_int64),
    )


class _Block(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("address", "bytes", "times", "first", "behind")
    )


class _Edge(ctypes.Structure):
    _fields_ = (
        ("from_", ctypes.c_uint64),
        ("to", ctypes.c_uint64),
        ("times", ctypes.c_uint64),
        ("ticks", ctypes.c_int64),
    )


_Ask = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, ctypes.c_uint64)
_Jump = ctypes.CFUNCTYPE(ctypes.c_int64, *(ctypes.c_uint64,) * 4)


class _Owner(ctypes.Structure):
    _fields_ = (
        ("goes_on", _Ask),
        ("describe", _Ask),
        ("jump", _Jump),
        ("instruction_limit", ctypes.c_uint64),
        ("most_blocks", ctypes.c_uint64),
        ("most_edges", ctypes.c_uint64),
        ("most_steps", ctypes.c_uint64),
        ("most_accesses", ctypes.c_uint64),
        ("read_register", ctypes.c_void_p),
        ("write_register", ctypes.c_void_p),
        ("stop", ctypes.c_void_p),
        ("pc_register", ctypes.c_int64),
        ("mark_register", ctypes.c_int64),
        ("mark_bit", ctypes.c_int64),
        ("write_access", ctypes.c_int64),
        ("it_register", ctypes.c_int64),
    )


@dataclass(frozen=True)
class CoreFunctions:
    """What the recorder's hooks call of the emulator.

    Attributes:
        read_register: address of ``uc_reg_read``.
        write_register: address of ``uc_reg_write``.
        stop: address of ``uc_emu_stop``.
        pc_register: number of the program counter.
        mark_register: number of the register whose bit `mark_bit` becomes bit 0 of a block's
            address, -1 for none.
        mark_bit: see `mark_register`.
        write_access: what the emulator calls an access that writes.
        it_register: number of the register that holds the state of IT blocks, -1 for none.
    """

    read_register: int
    write_register: int
    stop: int
    pc_register: int
    mark_register: int
    mark_bit: int
    write_access: int
    it_register: int


_NO_CORE = CoreFunctions(0, 0, 0, 0, -1, 0, 0, -1)


class NativeRecorder:
    """Records one call, as :class:`edgekit.targets.cycles.trace.recorder.Recorder` does.

    What `costs` raises is raised again by :meth:`finish`, and by :meth:`require_sound`. The record
    is C's until :meth:`close`.

    Args:
        library: from :func:`native_library`.
        instruction_limit: the core is told to stop some time after so many.
        costs: what code takes; None to only count blocks.
        memory: what it waits for, as the call before left it; None for nothing.
        core: what hooks need of the emulator; they are :attr:`on_block` and :attr:`on_access`.
        limits: what the trace may grow to.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        instruction_limit: int,
        *,
        costs: Costs | None = None,
        memory: NativeMemory | None = None,
        core: CoreFunctions = _NO_CORE,
        limits: Limits = LIMITS,
    ) -> None:
        self._library = library
        self._costs = costs
        self._failure: BaseException | None = None
        # Both are kept for as long as the trace may use them.
        self._memory = memory or NativeMemory(library, MemoryTiming())
        self._owner: _Owner | None = _Owner(
            _Ask() if costs is None else _Ask(self._goes_on),
            _Ask() if costs is None else _Ask(self._describe),
            _Jump() if costs is None else _Jump(self._jump),
            instruction_limit,
            *(limits.blocks, limits.edges, limits.steps, limits.accesses),
            *(core.read_register, core.write_register, core.stop, core.pc_register),
            *(core.mark_register, core.mark_bit, core.write_access, core.it_register),
        )
        handle = library.ek_trace_create(ctypes.byref(self._owner), self._memory.handle)
        if not handle:
            raise MemoryError("no room for a trace")
        self.handle = ctypes.c_void_p(handle)
        self._release = weakref.finalize(self, library.ek_trace_destroy, self.handle)

    @property
    def on_block(self) -> int:
        """Address of the function that unicorn is to call for every block."""
        return _address(self._library.ek_on_block)

    @property
    def on_access(self) -> int:
        """Address of the function that unicorn is to call for every access to memory."""
        return _address(self._library.ek_on_access)

    def block(self, address: int, size: int) -> bool:
        """Code of the emulator's begins: a block, or the rest of one. Returns whether to go on."""
        goes_on = bool(self._library.ek_trace_block(self.handle, address, size))
        self.require_sound()
        return goes_on

    def access(self, pc: int, address: int, size: int, writes: bool) -> None:
        """The block that runs makes an access, by the instruction at `pc`.

        Raises:
            EmulationError: the instruction is not in the block.
        """
        self._library.ek_trace_access(self.handle, pc, address, size, writes)
        self.require_sound()

    def require_sound(self) -> None:
        """Raise what went wrong so far, if anything did."""
        self._summary()

    def finish(self, end: int) -> tuple[TracedBlock, ...]:
        """The call has returned to `end`. Returns what ran, in the order of its first times."""
        library = self._library
        library.ek_trace_finish(self.handle, end)
        block_count, edge_count, step_count = self._summary()
        blocks = _items(library.ek_trace_blocks(self.handle), _Block, block_count)
        edges = _items(library.ek_trace_edges(self.handle), _Edge, edge_count)
        costs = _items(library.ek_trace_costs(self.handle), _StepCost, step_count)
        places: list[Place] = [(block.address, block.bytes) for block in blocks]
        following: list[dict[Place, int]] = [{} for _ in blocks]
        for edge in edges:
            to = (end, 0) if edge.to == _NO_INDEX else places[edge.to]
            following[edge.from_][to] = edge.times
        return tuple(
            TracedBlock(
                *(*places[index], block.times, following[index]),
                *(
                    tuple(getattr(costs[i], name) for i in range(block.first, block.behind))
                    for name in ("skipped", "fetch", "load")
                ),
            )
            for index, block in enumerate(blocks)
        )

    def close(self) -> None:
        """Release the record; nothing may call the hooks, or ask for it, any more."""
        self._release()
        # What it called were methods of this object: with them, only a garbage collection would
        # release it.
        self._owner = None

    def _summary(self) -> tuple[int, int, int]:
        """Counts of blocks, edges and instructions; raises what went wrong."""
        assert self._owner is not None, "the record is released"
        summary = (ctypes.c_uint64 * 5)()
        self._library.ek_trace_summary(self.handle, summary)
        status, pc, *counts = summary
        if self._failure is not None:
            raise self._failure
        if status == _STRAY_ACCESS:
            raise stray_access(pc)
        if status == _NO_ROOM:
            raise too_much()
        assert status == 0, f"status {status} of a trace"
        blocks, edges, steps = counts
        return blocks, edges, steps

    def _goes_on(self, address: int, size: int) -> int:
        assert self._costs is not None
        try:
            return int(self._costs.goes_on(address, size))
        except BaseException as error:  # C cannot pass it on
            self._failure = error
            return -1

    def _describe(self, address: int, size: int) -> int:
        assert self._costs is not None
        try:
            steps = self._costs.steps(address, size)
            array = (_Step * len(steps))(
                *(
                    _Step(
                        s.offset,
                        s.bytes,
                        s.ticks,
                        -1 if s.skipped_ticks is None else s.skipped_ticks,
                    )
                    for s in steps
                )
            )
            return int(self._library.ek_trace_describe(self.handle, array, len(steps)))
        except BaseException as error:  # C cannot pass it on
            self._failure = error
            return -1

    def _jump(self, address: int, size: int, to: int, to_size: int) -> int:
        assert self._costs is not None
        try:
            return self._costs.jump((address, size), (to, to_size))
        except BaseException as error:  # C cannot pass it on
            self._failure = error
            return _FAILED


def _items(address: int | None, kind: type[ctypes.Structure], count: int) -> tuple[Any, ...]:
    """The items of an array that belongs to C."""
    return tuple((kind * count).from_address(address)) if address else ()


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def native_library() -> ctypes.CDLL | None:
    """The compiled recorder; None, and a warning, where :func:`load_recorder` fails."""
    try:
        return load_recorder()
    except (EdgekitError, OSError) as error:
        _log.warning("blocks are recorded in Python, which is slow: %s", error)
        return None


def load_recorder() -> ctypes.CDLL:
    """The compiled recorder.

    Raises:
        ToolchainMissingError: this machine has no compiler.
        EdgekitError: it does not compile; the compiler's words.
        OSError: it does not load.
    """
    library = load(SOURCES, host_compiler())
    for name, result, arguments in _FUNCTIONS:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
