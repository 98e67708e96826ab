"""Offline memory planning: execution order, then one offset in one arena for every buffer.

A *buffer* is a set of tensors that share bytes: a tensor, its reshapes, and the outputs that an
operator may write over it. Lifetimes are half-open intervals of steps; two buffers overlap in
memory only if their lifetimes do not meet.

The order minimises the peak of live bytes: a shortest path over sets of executed operations whose
length is the peak (optimal where the number of sets stays under :data:`MAX_STATES`, else the
source's order). Offsets come from three greedy packings and a bounded exact search; the plan
carries the lower bound, so that a gap is visible.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgekit.program.ir import Operation, Program

MAX_STATES = 4_000
"""Sets of executed operations that the order search may visit."""

MAX_PACKING_NODES = 20_000
"""Placements that the exact packing may try."""

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
    """

    buffers: tuple[Buffer, ...]
    scratch: Mapping[str, Buffer]
    arena_bytes: int
    peak_bytes: int
    alignment: int = ALIGNMENT

    def offset(self, tensor: str) -> int:
        """Offset of a computed or fed tensor.

        Raises:
            KeyError: the tensor is constant, state, or not of the Program.
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
    """Uses of every root tensor, as sets of operation indices; shared by order and lifetimes."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.root = aliases(program)
        self.index = {op.name: i for i, op in enumerate(program.operations)}
        self.readers: dict[str, set[int]] = {}
        self.writer: dict[str, int] = {}
        state = {s.read for s in program.state}
        self.planned = {
            name
            for name, tensor in program.tensors.items()
            if self.root[name] == name and not tensor.is_constant and name not in state
        }
        for i, op in enumerate(program.operations):
            for name in op.present_inputs:
                self.readers.setdefault(self.root[name], set()).add(i)
            for name in op.outputs:
                if self.root[name] == name:
                    self.writer[name] = i
        self.size = {name: program.tensors[name].bytes for name in self.planned}
        kept = [b.tensor for b in program.outputs] + [s.write for s in program.state]
        self.kept = {self.root[name] for name in kept}

    def overwritable(self, op: Operation, done: Iterable[int]) -> str | None:
        """The root that `op`'s first output may be written over once `done` have run."""
        if op.operator.alias:
            return None
        out = self.program.tensors[op.outputs[0]]
        finished = {*done, self.index[op.name]}
        for position in op.operator.in_place:
            name = op.inputs[position] if position < len(op.inputs) else None
            if name is None:
                continue
            root = self.root[name]
            if (
                root in self.planned
                and root not in self.kept
                and self.program.tensors[name].type == out.type
                and self.readers[root] <= finished
                and not self._read_otherwise(op, position, root)
            ):
                return root
        return None

    def _read_otherwise(self, op: Operation, position: int, root: str) -> bool:
        """Whether `op` reads the same bytes through an input that it may not overwrite."""
        return any(
            name is not None and self.root[name] == root and i not in op.operator.in_place
            for i, name in enumerate(op.inputs)
            if i != position
        )


def _best_order(program: Program, scratch: Mapping[str, int]) -> tuple[Operation, ...]:
    """The topological order with the smallest peak; ties go to the source's order."""
    graph = _Graph(program)
    operations = program.operations
    producer = {name: i for i, op in enumerate(operations) for name in op.outputs}
    needs = [
        frozenset(producer[name] for name in op.present_inputs if name in producer)
        for op in operations
    ]
    fed = {graph.root[b.tensor] for b in program.inputs} & graph.planned
    everything = frozenset(range(len(operations)))

    def live_after(done: frozenset[int]) -> int:
        total = 0
        for root in graph.planned:
            begun = root in fed or graph.writer.get(root, -1) in done
            waiting = root in graph.kept or not graph.readers.get(root, set()) <= done
            if begun and waiting:
                total += graph.size[root]
        return total

    def added(done: frozenset[int], i: int) -> int:
        """Bytes on top of what is live when operation `i` runs after `done`."""
        op = operations[i]
        own = sum(graph.size[n] for n in op.outputs if n in graph.planned)
        over = graph.overwritable(op, done)
        return own + scratch.get(op.name, 0) - (graph.size[over] if over else 0)

    queue: list[tuple[int, tuple[int, ...], frozenset[int]]] = [
        (sum(graph.size[r] for r in fed), (), frozenset())
    ]
    seen: set[frozenset[int]] = set()
    while queue and len(seen) < MAX_STATES:
        peak, path, done = heapq.heappop(queue)
        if done == everything:
            return tuple(operations[i] for i in path)
        if done in seen:
            continue
        seen.add(done)
        live = live_after(done)
        for i in sorted(everything - done):
            if needs[i] <= done:
                heapq.heappush(queue, (max(peak, live + added(done, i)), (*path, i), done | {i}))
    return operations


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
        over = graph.overwritable(op, range(step))
        for position, name in enumerate(op.outputs):
            if graph.root[name] != name:
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
    best: list[int] | None = None
    for order in orders:
        offsets = _first_fit(order, sizes, spans)
        if best is None or _top(offsets, sizes) < _top(best, sizes):
            best = offsets
    assert best is not None
    if _top(best, sizes) > bound:
        best = _search(best, bound, sizes, spans)
    return best


def _top(offsets: list[int], sizes: list[int]) -> int:
    return max((o + s for o, s in zip(offsets, sizes, strict=True)), default=0)


def _meet(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _lowest(
    i: int, placed: Mapping[int, int], sizes: list[int], spans: list[tuple[int, int]]
) -> int:
    """The lowest offset where buffer `i` overlaps none of the placed ones that it meets."""
    taken = sorted((placed[j], placed[j] + sizes[j]) for j in placed if _meet(spans[i], spans[j]))
    level = 0
    for low, high in taken:
        if low - level >= sizes[i]:
            return level
        level = max(level, high)
    return level


def _first_fit(order: Iterable[int], sizes: list[int], spans: list[tuple[int, int]]) -> list[int]:
    placed: dict[int, int] = {}
    for i in order:
        placed[i] = _lowest(i, placed, sizes, spans)
    return [placed[i] for i in range(len(sizes))]


def _search(
    best: list[int], bound: int, sizes: list[int], spans: list[tuple[int, int]]
) -> list[int]:
    """Depth-first over the orders of placing; stops at the bound or at its budget.

    Some order makes first fit optimal: that of the offsets in an optimal packing.
    """
    budget = MAX_PACKING_NODES
    top = _top(best, sizes)
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i], spans[i]))

    def visit(placed: dict[int, int]) -> bool:
        """Whether to stop."""
        nonlocal best, top, budget
        budget -= 1
        if len(placed) == len(order):
            best = [placed[i] for i in range(len(sizes))]
            top = _top(best, sizes)
            return top <= bound
        for i in order:
            if i in placed:
                continue
            if budget <= 0:
                return True
            offset = _lowest(i, placed, sizes, spans)
            if offset + sizes[i] < top:
                placed[i] = offset
                if visit(placed):
                    return True
                del placed[i]
        return False

    visit({})
    return best
