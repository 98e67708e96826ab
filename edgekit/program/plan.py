"""Offline memory planning: execution order, then one offset in one arena for every buffer.

A *buffer* is a set of tensors that share bytes: a tensor, its reshapes, and the outputs that an
operator may write over it. Lifetimes are half-open intervals of steps; two buffers overlap in
memory only if their lifetimes do not meet.

The order minimises the peak of live bytes: a shortest path over sets of executed operations whose
length is the peak (optimal where the search ends within :data:`MAX_STATES` and
:data:`MAX_CANDIDATES`, else the source's order). Offsets come from three greedy packings and an
exact search of at most :data:`MAX_PACKING_STEPS`; the plan carries the lower bound, so that a gap
is visible. Limits count work, never time: a Program has the same plan on every machine.

State lies outside the arena. What :mod:`~edgekit.program.state` finds to be written there has no
buffer, and stays so: in every order, operations that read such a state come before the new value.
"""

from __future__ import annotations

import heapq
import struct
from bisect import insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from edgekit.program.ir import Operation, Program
from edgekit.program.state import readers_of_state, updates_in_place

MAX_STATES = 4_000
"""Sets of executed operations that the order search may visit."""

MAX_CANDIDATES = 40_000
"""Sets that the order search may queue; a graph with few sets to visit queues far fewer."""

MAX_PACKING_STEPS = 500_000
"""Times that the exact packing may look at a buffer, once for every pair first: with more than 707
buffers the greedy packings stay."""

ALIGNMENT = 16
"""Bytes; every offset is a multiple, so that a kernel may load words and vectors."""


@dataclass(frozen=True)
class Buffer:
    """Bytes in the arena over a lifetime.

    Attributes:
        tensors: the tensors that share it, in order of definition; empty for scratch.
        bytes: size without padding.
        start: first step in which it holds something.
        end: first step in which it no longer does.
        offset: in bytes from the arena's start, a multiple of the alignment.
    """

    tensors: tuple[str, ...]
    bytes: int
    start: int
    end: int
    offset: int


@dataclass(frozen=True)
class MemoryPlan:
    """Where everything lies while a Program runs.

    Attributes:
        buffers: the placed buffers of tensors, by start.
        scratch: placed scratch by operation name.
        arena_bytes: size of the arena.
        peak_bytes: largest sum of live bytes in any step: no plan for this order can be smaller.
        alignment: of every offset.
        in_state: tensors without a buffer, as an operation writes them over a state: the state's
            `read` by tensor.
    """

    buffers: tuple[Buffer, ...]
    scratch: Mapping[str, Buffer]
    arena_bytes: int
    peak_bytes: int
    alignment: int = ALIGNMENT
    in_state: Mapping[str, str] = field(default_factory=dict)

    def offset(self, tensor: str) -> int:
        """Offset of a computed or fed tensor.

        Raises:
            KeyError: the tensor is constant, in the state, or not of the Program.
        """
        for buffer in self.buffers:
            if tensor in buffer.tensors:
                return buffer.offset
        raise KeyError(tensor)


def plan_memory(
    program: Program, scratch: Mapping[str, int] | None = None
) -> tuple[Program, MemoryPlan]:
    """Choose the order and place every buffer.

    Args:
        program: a verified Program.
        scratch: bytes of temporary memory by operation name.

    Returns:
        The Program with its operations in the chosen order, and the plan for that order.
    """
    scratch = scratch or {}
    ordered = program.replace(operations=_best_order(program, scratch))
    return ordered, allocate(ordered, scratch)


def aliases(program: Program) -> dict[str, str]:
    """The tensor whose bytes a tensor is, by name; itself where it has bytes of its own.

    Only operators that change nothing but the shape alias; writing in place is decided per order.
    """
    root = {name: name for name in program.tensors}
    for op in program.operations:
        if op.operator.alias and op.inputs[0] in root:
            root[op.outputs[0]] = root[op.inputs[0]]
    return root


class _Graph:
    """Uses of every root tensor; shared by order and lifetimes.

    A set of operations is an integer with one bit for each, the first operation's the lowest.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.root = aliases(program)
        self.index = {op.name: i for i, op in enumerate(program.operations)}
        self.readers: dict[str, int] = {}
        self.in_state = updates_in_place(program, self.root)
        state = {s.read for s in program.state} | self.in_state.keys()
        self.planned = {
            name
            for name, tensor in program.tensors.items()
            if self.root[name] == name and not tensor.is_constant and name not in state
        }
        for i, op in enumerate(program.operations):
            for name in op.present_inputs:
                root = self.root[name]
                self.readers[root] = self.readers.get(root, 0) | 1 << i
        self.size = {name: program.tensors[name].bytes for name in self.planned}
        kept = [b.tensor for b in program.outputs] + [s.write for s in program.state]
        self.kept = {self.root[name] for name in kept}

    def waits(self, root: str, done: int) -> bool:
        """Whether what is in `root` is still needed once `done` have run."""
        return root in self.kept or bool(self.readers.get(root, 0) & ~done)

    def overwritable(self, op: Operation, done: int) -> str | None:
        """The root that `op`'s first output may be written over once `done` have run."""
        if op.outputs[0] not in self.planned:
            return None
        out = self.program.tensors[op.outputs[0]]
        finished = done | 1 << self.index[op.name]
        allowed = op.operator.overwritten(0)
        for position in allowed:
            name = op.inputs[position] if position < len(op.inputs) else None
            if name is None:
                continue
            root = self.root[name]
            if (
                root in self.planned
                and self.program.tensors[name].type == out.type
                and not self.waits(root, finished)
                and not self._read_otherwise(op, allowed, root)
            ):
                return root
        return None

    def _read_otherwise(self, op: Operation, allowed: tuple[int, ...], root: str) -> bool:
        """Whether `op` reads the same bytes through an input that it may not overwrite."""
        return any(
            name is not None and self.root[name] == root and i not in allowed
            for i, name in enumerate(op.inputs)
        )


def _best_order(program: Program, scratch: Mapping[str, int]) -> tuple[Operation, ...]:
    """The topological order with the smallest peak; ties go to the source's order."""
    graph = _Graph(program)
    operations = program.operations
    producer = {name: i for i, op in enumerate(operations) for name in op.outputs}
    needs = [_as_set(producer[n] for n in op.present_inputs if n in producer) for op in operations]
    readers = readers_of_state(program, graph.root)
    for write, read in graph.in_state.items():
        needs[producer[write]] |= _as_set(
            graph.index[op.name] for op in readers[read] if write not in op.outputs
        )
    followers: list[list[int]] = [[] for _ in operations]
    for i, needed in enumerate(needs):
        for j in _members(needed):
            followers[j].append(i)
    reads = [{graph.root[n] for n in op.present_inputs} & graph.planned for op in operations]
    writes = [[n for n in op.outputs if n in graph.planned] for op in operations]
    fed = {graph.root[b.tensor] for b in program.inputs} & graph.planned
    everything = (1 << len(operations)) - 1

    def added(done: int, i: int) -> int:
        """Bytes on top of what is live when operation `i` runs after `done`."""
        over = graph.overwritable(operations[i], done)
        own = sum(graph.size[n] for n in writes[i]) + scratch.get(operations[i].name, 0)
        return own - (graph.size[over] if over else 0)

    def kept(done: int, i: int) -> int:
        """Bytes by which what is live has grown once `i` has run as the last of `done`."""
        gone = sum(graph.size[r] for r in reads[i] if not graph.waits(r, done))
        return sum(graph.size[n] for n in writes[i] if graph.waits(n, done)) - gone

    # An entry: the peak, the order so far, its set, the operations ready after it, the bytes live.
    # The order has four bytes for each operation: as text it sorts like the list and much faster.
    queue: list[tuple[int, bytes, int, int, int]] = [
        (
            sum(graph.size[r] for r in fed),
            b"",
            0,
            _as_set(i for i, needed in enumerate(needs) if not needed),
            sum(graph.size[r] for r in fed if graph.waits(r, 0)),
        )
    ]
    seen: set[int] = set()
    candidates = 0
    while queue and len(seen) < MAX_STATES:
        peak, path, done, ready, live = heapq.heappop(queue)
        if done == everything:
            return tuple(operations[i] for (i,) in struct.iter_unpack(">I", path))
        if done in seen:
            continue
        seen.add(done)
        for i in _members(ready):
            after = done | 1 << i
            if after in seen:
                continue
            if candidates == MAX_CANDIDATES:
                return operations
            candidates += 1
            freed = _as_set(j for j in followers[i] if not needs[j] & ~after)
            entry = (
                max(peak, live + added(done, i)),
                path + struct.pack(">I", i),
                after,
                ready & ~(1 << i) | freed,
                live + kept(after, i),
            )
            heapq.heappush(queue, entry)
    return operations


def _as_set(operations: Iterable[int]) -> int:
    """Indices as bits."""
    result = 0
    for i in operations:
        result |= 1 << i
    return result


def _members(bits: int) -> Iterator[int]:
    """Indices of the bits that are set, in order.

    >>> list(_members(0b1101))
    [0, 2, 3]
    """
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def allocate(program: Program, scratch: Mapping[str, int] | None = None) -> MemoryPlan:
    """Place every buffer for the order that the Program has."""
    scratch = scratch or {}
    graph = _Graph(program)
    steps = max(len(program.operations), 1)
    members: dict[str, list[str]] = {}
    start: dict[str, int] = {}
    end: dict[str, int] = {}
    owner: dict[str, str] = {}

    def use(root: str, step: int) -> None:
        end[owner[root]] = max(end.get(owner[root], 0), step + 1)

    for boundary in program.inputs:
        root = graph.root[boundary.tensor]
        owner[root], start[root], members[root] = root, 0, [root]
        use(root, 0)
    for step, op in enumerate(program.operations):
        for name in op.present_inputs:
            if graph.root[name] in graph.planned:
                use(graph.root[name], step)
        over = graph.overwritable(op, (1 << step) - 1)
        for position, name in enumerate(op.outputs):
            if name not in graph.planned:
                continue
            if over is not None and position == 0:
                owner[name] = owner[over]
                members[owner[name]].append(name)
            else:
                owner[name], start[name], members[name] = name, step, [name]
            use(name, step)
    for root in graph.kept & graph.planned:
        use(root, steps - 1)
    for name in program.tensors:
        if graph.root[name] != name and graph.root[name] in graph.planned:
            members[owner[graph.root[name]]].append(name)

    keys = [*members, *(op.name for op in program.operations if scratch.get(op.name, 0))]
    sizes = [graph.size[k] for k in members]
    spans = [(start[k], end[k]) for k in members]
    for op in program.operations:
        if scratch.get(op.name, 0):
            step = graph.index[op.name]
            sizes.append(scratch[op.name])
            spans.append((step, step + 1))
    padded = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
    offsets = pack(padded, spans)
    placed = [
        Buffer(tuple(members.get(k, ())), size, *span, offset)
        for k, size, span, offset in zip(keys, sizes, spans, offsets, strict=True)
    ]
    # The last buffer's padding is not part of the arena.
    arena = max((b.offset + b.bytes for b in placed), default=0)
    count = len(members)
    return MemoryPlan(
        buffers=tuple(sorted(placed[:count], key=lambda b: (b.start, b.offset))),
        scratch=dict(zip(keys[count:], placed[count:], strict=True)),
        arena_bytes=arena,
        peak_bytes=peak_bytes(sizes, spans),
        in_state=graph.in_state,
    )


def peak_bytes(sizes: list[int], spans: list[tuple[int, int]]) -> int:
    """Largest sum of sizes alive in one step.

    >>> peak_bytes([4, 8, 2], [(0, 2), (1, 3), (2, 3)])
    12
    """
    steps = {start for start, _ in spans}
    return max(
        (
            sum(size for size, (a, b) in zip(sizes, spans, strict=True) if a <= step < b)
            for step in steps
        ),
        default=0,
    )


def pack(sizes: list[int], spans: list[tuple[int, int]]) -> list[int]:
    """Offsets such that buffers alive together never overlap; as low as the searches find.

    >>> pack([4, 8, 4], [(0, 2), (1, 3), (2, 3)])
    [8, 0, 8]
    """
    bound = peak_bytes(sizes, spans)
    indices = range(len(sizes))
    orders = [
        sorted(indices, key=lambda i: (-sizes[i], spans[i])),
        sorted(indices, key=lambda i: (spans[i][0], -sizes[i])),
        sorted(indices, key=lambda i: (spans[i][0] - spans[i][1], -sizes[i], spans[i][0])),
    ]
    packings = [_first_fit(order, sizes, spans) for order in orders]
    best = min(packings, key=lambda offsets: _top(offsets, sizes))
    if _top(best, sizes) > bound:
        best = _search(best, bound, sizes, spans)
    return best


def _top(offsets: list[int], sizes: list[int]) -> int:
    return max((o + s for o, s in zip(offsets, sizes, strict=True)), default=0)


def _meet(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _lowest(size: int, taken: Iterable[tuple[int, int]]) -> int:
    """The lowest offset with room for `size` beside what is taken, given by ascending start.

    >>> _lowest(4, [(0, 8), (2, 10), (12, 16)])
    16
    """
    level = 0
    for low, high in taken:
        if low - level >= size:
            return level
        level = max(level, high)
    return level


def _first_fit(order: Iterable[int], sizes: list[int], spans: list[tuple[int, int]]) -> list[int]:
    """Every buffer at its lowest offset beside those before it."""
    offsets = [0] * len(sizes)
    placed: list[tuple[int, int, int]] = []
    for i in order:
        start, end = spans[i]
        taken = (
            (low, high) for low, high, j in placed if spans[j][0] < end and start < spans[j][1]
        )
        offsets[i] = _lowest(sizes[i], taken)
        insort(placed, (offsets[i], offsets[i] + sizes[i], i))
    return offsets


def _search(
    best: list[int], bound: int, sizes: list[int], spans: list[tuple[int, int]]
) -> list[int]:
    """Depth-first over the orders of placing; stops at the bound or at its budget.

    Some order makes first fit optimal: that of the offsets in an optimal packing. Two kinds of
    orders are left out, as nothing better than what was found lies there: where a buffer still to
    be placed has no room below the best top (what is placed later only takes room away), and where
    of two neighbours that do not meet the smaller comes first (exchanged, they lie the same and
    were tried before).
    """
    count = len(sizes)
    budget = MAX_PACKING_STEPS - count * count
    if budget <= 0:
        return best
    order = sorted(range(count), key=lambda i: (-sizes[i], spans[i]))
    rank = {i: k for k, i in enumerate(order)}
    meets = [[j for j in order if i != j and _meet(spans[i], spans[j])] for i in range(count)]
    top = _top(best, sizes)
    placed: dict[int, int] = {}
    # One level for every buffer placed and one for the next: the lowest offsets of those still to
    # be placed, and which were not tried. A list, as Programs are longer than Python's stack.
    start = dict.fromkeys(order, 0)
    levels = [(start, iter(start))]
    while levels and top > bound and budget > 0:
        lowest, untried = levels[-1]
        i = next(untried, None)
        if i is None or lowest[i] + sizes[i] >= top:
            levels.pop()
            if placed:
                placed.popitem()
            continue
        last = next(reversed(placed), i)
        if rank[i] < rank[last] and not _meet(spans[i], spans[last]):
            continue
        placed[i] = lowest[i]
        rest = {k: offset for k, offset in lowest.items() if k != i}
        budget -= len(lowest)
        for k in meets[i]:
            if k in rest:
                near = sorted((placed[j], placed[j] + sizes[j]) for j in meets[k] if j in placed)
                rest[k] = _lowest(sizes[k], near)
                budget -= len(meets[k])
        if not rest:
            best = [placed[k] for k in range(count)]
            top = _top(best, sizes)
        if rest and all(rest[k] + sizes[k] < top for k in meets[i] if k in rest):
            levels.append((rest, iter(rest)))
        else:
            placed.popitem()
    return best
