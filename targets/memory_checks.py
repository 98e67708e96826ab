"""Checks of a board's memories and caches: every problem is a line that names the field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeGuard

from edgekit.targets.checks import is_integer, is_text, key_problems, shown
from edgekit.targets.cores import DATA_KINDS, MEMORY_KINDS, PROGRAM_KINDS, Memory

ADDRESS_SPACE = 1 << 32

MOST_WAIT_STATES = 255
LINE_BYTES = (2, 256)
"""Narrowest and widest line; the smallest instruction has two bytes."""
CACHE_BYTES = 1 << 24
CACHE_LINES = 1 << 16
"""Each line is simulated; the second-level caches of large cores have no more."""

SERVES = ("instructions", "data", "both")
TIGHTLY_COUPLED = ("itcm", "dtcm")


def memory_problems(memories: Any) -> list[str]:
    """Everything that is wrong with a board's memories."""
    if not _is_array_of_tables(memories):
        return ["memory: must be an array of tables, [[memory]]"]
    problems: list[str] = []
    names: set[str] = set()
    for index, memory in enumerate(memories):
        where = f"memory[{index}]."
        problems += key_problems(Memory, memory, where)
        problems += _name_problems(memory, names, where)
        if "kind" in memory and memory["kind"] not in MEMORY_KINDS:
            problems.append(
                f"{where}kind: must be one of {', '.join(MEMORY_KINDS)}, "
                f"not {shown(memory['kind'])}"
            )
        problems += _range_problems(memory, where)
        problems += _access_problems(memory, where)
    problems += _overlap_problems(memories)
    kinds = [memory.get("kind") for memory in memories]
    for needed, contents in ((PROGRAM_KINDS, "the program"), (DATA_KINDS, "variables")):
        if not any(kind in kinds for kind in needed):
            problems.append(f"memory: nothing holds {contents}; add a {' or '.join(needed)}")
    return problems


def cache_problems(kind: type, caches: Any, memories: Any) -> list[str]:
    """Everything that is wrong with a board's caches.

    Args:
        kind: the dataclass of a cache.
        caches: what was read.
        memories: what was read of the board's memories.
    """
    if not _is_array_of_tables(caches):
        return ["cache: must be an array of tables, [[cache]]"]
    known = {
        memory["name"]: memory
        for memory in (memories if _is_array_of_tables(memories) else ())
        if is_text(memory.get("name"))
    }
    problems: list[str] = []
    names: set[str] = set()
    served: dict[tuple[str, str], str] = {}
    for index, cache in enumerate(caches):
        where = f"cache[{index}]."
        problems += key_problems(kind, cache, where)
        problems += _name_problems(cache, names, where)
        if "serves" in cache and cache["serves"] not in SERVES:
            problems.append(
                f"{where}serves: must be one of {', '.join(SERVES)}, not {shown(cache['serves'])}"
            )
        problems += _size_problems(cache, where)
        problems += _cached_problems(cache, known, where)
        for memory, use in _uses(cache):
            if (memory, use) in served:
                problems.append(
                    f"{where}memories: the {use} of {memory} are cached by "
                    f"{served[memory, use]} already"
                )
            served[memory, use] = str(cache.get("name"))
    return problems


def _is_array_of_tables(value: Any) -> TypeGuard[Sequence[dict[str, Any]]]:
    return isinstance(value, (list, tuple)) and all(isinstance(row, dict) for row in value)


def _name_problems(part: Mapping[str, Any], taken: set[str], where: str) -> list[str]:
    """What is wrong with an identifier; adds it to those that are `taken`."""
    if "name" not in part:
        return []
    name = part["name"]
    if not (is_text(name) and re.fullmatch(r"[a-z][a-z0-9_]*", name)):
        return [
            f"{where}name: must be lower-case letters, digits and underscores, not {shown(name)}"
        ]
    if name in taken:
        return [f"{where}name: {shown(name)} is taken by another one"]
    taken.add(name)
    return []


def _range_problems(memory: Mapping[str, Any], where: str) -> list[str]:
    """What is wrong with where a memory lies."""
    problems = []
    for key, low, high in (("origin", 0, ADDRESS_SPACE - 4), ("bytes", 4, ADDRESS_SPACE)):
        value = memory.get(key)
        if key in memory and not (is_integer(value, low, high) and value % 4 == 0):
            problems.append(
                f"{where}{key}: must be a multiple of 4 from {low} to {high}, not {shown(value)}"
            )
    _, end = _range(memory)
    if end > ADDRESS_SPACE:
        problems.append(f"{where}bytes: the memory ends behind the 32-bit address space")
    return problems


def _access_problems(memory: Mapping[str, Any], where: str) -> list[str]:
    """What is wrong with what an access of a memory takes."""
    problems = []
    waits, line = memory.get("wait_states"), memory.get("line_bytes")
    prefetch = memory.get("prefetch", False)
    waits_are_known = is_integer(waits, 0, MOST_WAIT_STATES)
    if waits is not None and not waits_are_known:
        problems.append(
            f"{where}wait_states: must be an integer from 0 to {MOST_WAIT_STATES}, "
            f"not {shown(waits)}"
        )
    if line is not None and not _is_power_of_two(line, *LINE_BYTES):
        problems.append(f"{where}line_bytes: {_power_of_two(*LINE_BYTES)}, not {shown(line)}")
    if line is None and waits_are_known and waits:
        problems.append(
            f"{where}line_bytes: missing; {waits} wait states say nothing without what an access "
            "reads"
        )
    if not isinstance(prefetch, bool):
        problems.append(f"{where}prefetch: must be true or false, not {shown(prefetch)}")
    elif prefetch and waits is None:
        problems.append(f"{where}prefetch: says nothing without wait_states")
    if memory.get("kind") in TIGHTLY_COUPLED and waits_are_known and waits:
        problems.append(
            f"{where}wait_states: tightly coupled memory has 0; call a slower one flash or ram"
        )
    return problems


def _size_problems(cache: Mapping[str, Any], where: str) -> list[str]:
    """What is wrong with a cache's size, line and ways."""
    problems = []
    size, line, ways = (cache.get(key) for key in ("bytes", "line_bytes", "ways"))
    for key, low, high in (("bytes", LINE_BYTES[0], CACHE_BYTES), ("ways", 1, CACHE_BYTES)):
        if key in cache and not is_integer(cache[key], low, high):
            problems.append(
                f"{where}{key}: must be an integer from {low} to {high}, not {shown(cache[key])}"
            )
    if "line_bytes" in cache and not _is_power_of_two(line, *LINE_BYTES):
        problems.append(f"{where}line_bytes: {_power_of_two(*LINE_BYTES)}, not {shown(line)}")
    if problems or size is None or line is None or ways is None:
        return problems
    if size // line > CACHE_LINES:
        problems.append(
            f"{where}bytes: {size:,} are {size // line:,} lines of {line} bytes, "
            f"more than {CACHE_LINES:,}"
        )
    sets, rest = divmod(size, line * ways)
    if rest or not _is_power_of_two(sets, 1, CACHE_BYTES):
        problems.append(
            f"{where}bytes: {size} are not {ways} ways of {line}-byte lines times a power of two"
        )
    return problems


def _cached_problems(
    cache: Mapping[str, Any], memories: Mapping[str, Mapping[str, Any]], where: str
) -> list[str]:
    """What is wrong with the memories that a cache names."""
    if "memories" not in cache:
        return []
    names = cache["memories"]
    if not (isinstance(names, (list, tuple)) and names and all(map(is_text, names))):
        return [f"{where}memories: must be names of memories, not {shown(names)}"]
    problems = []
    for position, name in enumerate(names):
        if name in names[:position]:
            problems.append(f"{where}memories: {shown(name)} is there twice")
            continue
        if name not in memories:
            problems.append(
                f"{where}memories: no memory is called {shown(name)} "
                f"(there are: {', '.join(map(shown, memories)) or 'none'})"
            )
            continue
        if memories[name].get("kind") in TIGHTLY_COUPLED:
            problems.append(f"{where}memories: {name} is tightly coupled, no cache serves it")
        width, line = memories[name].get("line_bytes"), cache.get("line_bytes")
        if (
            _is_power_of_two(width, *LINE_BYTES)
            and _is_power_of_two(line, *LINE_BYTES)
            and line < width
        ):
            problems.append(
                f"{where}line_bytes: {line} are less than one access of {name} reads, {width}"
            )
    return problems


def _uses(cache: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The memories that a cache serves, each with ``instructions`` or ``data``."""
    names, serves = cache.get("memories"), cache.get("serves")
    if not isinstance(names, (list, tuple)) or serves not in SERVES:
        return
    for name in dict.fromkeys(filter(is_text, names)):
        for use in ("instructions", "data") if serves == "both" else (serves,):
            yield name, use


def _overlap_problems(memories: Any) -> list[str]:
    """Neighbours that share addresses."""
    ranges = sorted((*_range(m), str(m.get("name"))) for m in memories if _range(m) != (0, 0))
    return [
        f"memory: {first} and {second} overlap at {begin:#010x}"
        for (_, end, first), (begin, _, second) in pairwise(ranges)
        if begin < end
    ]


def _range(memory: Mapping[str, Any]) -> tuple[int, int]:
    """First address and the one behind the last; (0, 0) where they are not known."""
    origin, size = memory.get("origin"), memory.get("bytes")
    if is_integer(origin, 0, ADDRESS_SPACE) and is_integer(size, 1, ADDRESS_SPACE):
        return origin, origin + size
    return 0, 0


def _is_power_of_two(value: Any, low: int, high: int) -> TypeGuard[int]:
    return is_integer(value, low, high) and value & (value - 1) == 0


def _power_of_two(low: int, high: int) -> str:
    return f"must be a power of two from {low} to {high}"
