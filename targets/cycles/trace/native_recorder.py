"""The recorder in C, used like the one in Python."""

from __future__ import annotations

import ctypes
import logging
import weakref
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgekit.errors import EdgekitError, EmulationError
from edgekit.targets.cycles.trace.compiled import Sources, load
from edgekit.targets.cycles.trace.memory import (
    DATA,
    INSTRUCTIONS,
    TICKS_PER_CYCLE,
    MemoryTiming,
    line_bytes,
)
from edgekit.targets.cycles.trace.recorder import Costs, Place, TracedBlock, stray_access
from edgekit.targets.host import host_compiler

SOURCES = Sources(
    "recorder",
    ("hooks.c", "memory.c", "table.c", "trace.c"),
    headers=("memory.h", "table.h", "trace.h"),
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


class _CacheShape(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("line_bytes", "sets", "ways"))


class _MemoryShape(ctypes.Structure):
    _fields_ = (
        ("origin", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("line_bytes", ctypes.c_uint64),
        ("wait_ticks", ctypes.c_int64),
        ("prefetches", ctypes.c_int64),
        ("caches", ctypes.c_int64 * 2),
    )


_Describe = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, ctypes.c_uint64)
_Jump = ctypes.CFUNCTYPE(ctypes.c_int64, *(ctypes.c_uint64,) * 4)


class _Owner(ctypes.Structure):
    _fields_ = (
        ("describe", _Describe),
        ("jump", _Jump),
        ("instruction_limit", ctypes.c_uint64),
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

    What `costs` raises is raised again by :meth:`finish`, and by :meth:`require_sound`.

    Args:
        library: from :func:`native_library`.
        instruction_limit: the core is told to stop some time after so many.
        costs: what code takes; None to only count blocks.
        memory: what it waits for; None for nothing.
        core: what hooks need of the emulator; they are :attr:`on_block` and :attr:`on_access`.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        instruction_limit: int,
        *,
        costs: Costs | None = None,
        memory: MemoryTiming | None = None,
        core: CoreFunctions = _NO_CORE,
    ) -> None:
        self._library = library
        self._costs = costs
        self._failure: BaseException | None = None
        memories, caches = _shapes(memory or MemoryTiming())
        # Kept for as long as the trace may call them.
        self._owner = _Owner(
            _Describe() if costs is None else _Describe(self._describe),
            _Jump() if costs is None else _Jump(self._jump),
            instruction_limit,
            *(core.read_register, core.write_register, core.stop, core.pc_register),
            *(core.mark_register, core.mark_bit, core.write_access, core.it_register),
        )
        handle = library.ek_trace_create(
            ctypes.byref(self._owner), memories, len(memories), caches, len(caches)
        )
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
        """A block begins. Returns whether the core is to go on."""
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

    def _summary(self) -> tuple[int, int, int]:
        """Counts of blocks, edges and instructions; raises what went wrong."""
        summary = (ctypes.c_uint64 * 5)()
        self._library.ek_trace_summary(self.handle, summary)
        status, pc, *counts = summary
        if self._failure is not None:
            raise self._failure
        if status == _STRAY_ACCESS:
            raise stray_access(pc)
        if status == _NO_ROOM:
            raise EmulationError("the call executes more than a trace can hold")
        assert status == 0, f"status {status} of a trace"
        blocks, edges, steps = counts
        return blocks, edges, steps

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

    def close(self) -> None:
        """Release the memory; nothing may call the hooks any more."""
        self._release()


def _shapes(timing: MemoryTiming) -> tuple[ctypes.Array[_MemoryShape], ctypes.Array[_CacheShape]]:
    """Memories and caches as C takes them."""
    sides = (INSTRUCTIONS, DATA)
    memories = []
    for memory in timing.memories:
        indices = (timing.cache_of(memory, side) for side in sides)
        memories.append(
            _MemoryShape(
                memory.origin,
                memory.end,
                line_bytes(memory),
                TICKS_PER_CYCLE * (memory.wait_states or 0),
                memory.prefetch,
                (ctypes.c_int64 * len(sides))(*(-1 if i is None else i for i in indices)),
            )
        )
    caches = [_CacheShape(c.line_bytes, c.sets, c.ways) for c in timing.caches]
    return (_MemoryShape * len(memories))(*memories), (_CacheShape * len(caches))(*caches)


def _items(address: int | None, kind: type[ctypes.Structure], count: int) -> tuple[Any, ...]:
    """The items of an array that belongs to C."""
    return tuple((kind * count).from_address(address)) if address else ()


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def native_library() -> ctypes.CDLL | None:
    """The compiled recorder, None where this machine has no compiler or cannot load its output."""
    try:
        library = load(SOURCES, host_compiler())
    except (EdgekitError, OSError) as error:
        _log.info("blocks are recorded in Python, which is slow: %s", error)
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_uint64
    for name, result, arguments in (
        ("ek_trace_create", pointer, (pointer, pointer, number, pointer, number)),
        ("ek_trace_destroy", None, (pointer,)),
        ("ek_trace_describe", ctypes.c_int64, (pointer, pointer, number)),
        ("ek_trace_block", ctypes.c_int64, (pointer, number, number)),
        ("ek_trace_access", ctypes.c_int64, (pointer, number, number, number, ctypes.c_int64)),
        ("ek_trace_finish", ctypes.c_int64, (pointer, number)),
        ("ek_trace_summary", None, (pointer, pointer)),
        ("ek_trace_blocks", pointer, (pointer,)),
        ("ek_trace_edges", pointer, (pointer,)),
        ("ek_trace_costs", pointer, (pointer,)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
