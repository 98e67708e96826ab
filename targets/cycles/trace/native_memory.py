"""The memories in C, used like the ones in Python."""

from __future__ import annotations

import ctypes
import weakref

from edgekit.targets.cycles.trace.memory import (
    DATA,
    INSTRUCTIONS,
    TICKS_PER_CYCLE,
    MemoryTiming,
    line_bytes,
)

_SIDES = (INSTRUCTIONS, DATA)


class _CacheShape(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("line_bytes", "sets", "ways"))


class _MemoryShape(ctypes.Structure):
    _fields_ = (
        ("origin", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("line_bytes", ctypes.c_uint64),
        ("wait_ticks", ctypes.c_int64),
        ("prefetches", ctypes.c_int64),
        ("caches", ctypes.c_int64 * len(_SIDES)),
    )


class NativeMemory:
    """The memories of a core, kept from call to call.

    See :class:`edgekit.targets.cycles.trace.memory.MemorySimulation`.

    Args:
        library: from :func:`edgekit.targets.cycles.trace.native_recorder.native_library`.
        timing: their shape.
    """

    def __init__(self, library: ctypes.CDLL, timing: MemoryTiming) -> None:
        self.library = library
        memories, caches = _memories(timing), _caches(timing)
        handle = library.ek_memories_create(memories, len(memories), caches, len(caches))
        if not handle:
            raise MemoryError("no room for the caches of a board")
        self.handle = ctypes.c_void_p(handle)
        weakref.finalize(self, library.ek_memories_destroy, self.handle)

    def empty(self) -> None:
        """Forget everything."""
        self.library.ek_memories_empty(self.handle)


def _memories(timing: MemoryTiming) -> ctypes.Array[_MemoryShape]:
    found = []
    for memory in timing.memories:
        indices = (timing.cache_of(memory, side) for side in _SIDES)
        found.append(
            _MemoryShape(
                memory.origin,
                memory.end,
                line_bytes(memory),
                TICKS_PER_CYCLE * (memory.wait_states or 0),
                memory.prefetch,
                (ctypes.c_int64 * len(_SIDES))(*(-1 if i is None else i for i in indices)),
            )
        )
    return (_MemoryShape * len(found))(*found)


def _caches(timing: MemoryTiming) -> ctypes.Array[_CacheShape]:
    found = [_CacheShape(cache.line_bytes, cache.sets, cache.ways) for cache in timing.caches]
    return (_CacheShape * len(found))(*found)
