"""The memory planner against an independent brute force."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgekit.program import plan
from edgekit.program.fuse import fuse_residual
from edgekit.program.ir import Boundary, DType, Operation, Program, Tensor
from edgekit.program.operators.movement import Concat
from edgekit.program.plan import pack, peak_bytes, plan_memory
from edgekit.program.tflite import read


def brute_force_bound(program: Program) -> int:
    """Smallest possible peak over every topological order, written without the planner.

    Tensors are bytes in a set; an operation may drop an operand it can overwrite.
    """
    share = {t: t for t in program.tensors}
    for op in program.operations:
        if op.operator.alias:
            share[op.outputs[0]] = share[op.inputs[0]]
    size = {t.name: t.bytes for t in program.tensors.values() if not t.is_constant}
    keep = {share[b.tensor] for b in program.outputs}
    operations = list(program.operations)

    def needed(name: str, rest: frozenset[int]) -> bool:
        return name in keep or any(
            share[n] == name for i in rest for n in operations[i].present_inputs
        )

    best: dict[frozenset[int], float] = {}

    def visit(rest: frozenset[int], live: frozenset[str]) -> float:
        """Peak of the best completion; `live` follows from `rest`, so it is no key."""
        if not rest:
            return sum(size[n] for n in live)
        if rest in best:
            return best[rest]
        result = float("inf")
        written = {n for i in rest for n in operations[i].outputs}
        for i in rest:
            op = operations[i]
            if any(n in written for n in op.present_inputs):
                continue
            after = rest - {i}
            fresh = {n for n in op.outputs if share[n] == n}
            peak = sum(size[n] for n in live | fresh)
            if fresh and not op.operator.alias:
                out = program.tensors[op.outputs[0]]
                for position in op.operator.in_place:
                    if position >= len(op.inputs) or op.inputs[position] is None:
                        continue
                    name = op.inputs[position]
                    base = share[name]
                    others = [n for k, n in enumerate(op.inputs) if n and k != position]
                    again = any(
                        share[n] == base and op.inputs.index(n) not in op.operator.in_place
                        for n in others
                    )
                    fits = program.tensors[name].type == out.type and base in live
                    if fits and not needed(base, after) and not again:
                        peak -= out.bytes
                        break
            remaining = frozenset(n for n in live | fresh if needed(n, after))
            result = min(result, max(peak, visit(after, remaining)))
        best[rest] = result
        return result

    fed = frozenset(share[b.tensor] for b in program.inputs)
    return int(visit(frozenset(range(len(operations))), fed))


@pytest.mark.parametrize(
    ("model", "unfused", "fused"),
    [
        ("kws_dscnn_int8", 16_000, 16_000),
        ("ic_resnet8_int8", 49_152, 32_768),
        ("vww_96_int8", 55_296, 55_296),
        ("ad01_int8", 768, 768),
    ],
)
def test_reference_models_meet_the_lower_bound(
    data_folder: Path, model: str, unfused: int, fused: int
) -> None:
    """The arena is as small as any order allows, with and without fused residual additions."""
    program = read(data_folder / "models" / "mlperf_tiny" / f"{model}.tflite")
    assert brute_force_bound(program) == unfused
    assert plan_memory(program)[1].arena_bytes == unfused
    smaller, _ = fuse_residual(program)
    assert brute_force_bound(smaller) == fused
    assert plan_memory(smaller)[1].arena_bytes == fused


@dataclass(frozen=True)
class Interval:
    """A buffer for the packing tests."""

    size: int
    start: int
    length: int


intervals = st.lists(
    st.builds(Interval, st.integers(1, 9), st.integers(0, 8), st.integers(1, 5)),
    min_size=1,
    max_size=12,
)


@given(intervals)
@settings(deadline=None)
def test_live_buffers_never_overlap(buffers: list[Interval]) -> None:
    """Half-open lifetimes that meet have disjoint bytes, and no packing beats the bound."""
    sizes = [b.size for b in buffers]
    spans = [(b.start, b.start + b.length) for b in buffers]
    offsets = pack(sizes, spans)
    for (i, a), (j, b) in itertools.combinations(enumerate(spans), 2):
        if a[0] < b[1] and b[0] < a[1]:
            assert offsets[i] + sizes[i] <= offsets[j] or offsets[j] + sizes[j] <= offsets[i]
    assert max(o + s for o, s in zip(offsets, sizes, strict=True)) >= peak_bytes(sizes, spans)


@given(intervals.filter(lambda b: len(b) <= 6))
@example([Interval(2, 1, 3), Interval(2, 3, 1), Interval(3, 3, 1), Interval(4, 0, 3)])
@settings(max_examples=60, deadline=None)
def test_packing_is_optimal_for_few_buffers(buffers: list[Interval]) -> None:
    """For up to six buffers the height equals an exhaustive search over first-fit orders."""
    sizes = [b.size for b in buffers]
    spans = [(b.start, b.start + b.length) for b in buffers]
    offsets = pack(sizes, spans)
    height = max(o + s for o, s in zip(offsets, sizes, strict=True))
    assert height == min(_first_fit(order, sizes, spans) for order in _orders(len(sizes)))


def _orders(count: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(count)))


def _first_fit(order: tuple[int, ...], sizes: list[int], spans: list[tuple[int, int]]) -> int:
    placed: dict[int, int] = {}
    for i in order:
        offset = 0
        for j in sorted(placed, key=lambda k: placed[k]):
            meets = spans[i][0] < spans[j][1] and spans[j][0] < spans[i][1]
            if meets and placed[j] < offset + sizes[i]:
                offset = max(offset, placed[j] + sizes[j])
        placed[i] = offset
    return max(placed[i] + sizes[i] for i in placed)


class Counted(list[Any]):
    """A list that counts how often an element is looked at, and stops what looks too often."""

    looks = 0
    limit = 2 * plan.MAX_PACKING_STEPS
    """A step looks at one size, or at two."""

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        self.looks += 1
        assert self.looks <= self.limit
        return super().__getitem__(index)


@pytest.mark.parametrize(("count", "longest"), [(100, 12), (700, 2), (700, 12), (1000, 12)])
def test_packing_takes_bounded_work(count: int, longest: int) -> None:
    """Where the bound stays out of reach, looks at sizes are counted, not seconds."""
    draw = random.Random(longest)
    sizes = Counted(draw.randint(1, 400) for _ in range(count))
    spans = [(i, i + draw.randint(1, longest)) for i in range(count)]
    offsets = pack(sizes, spans)
    assert max(o + s for o, s in zip(offsets, sizes, strict=True)) > peak_bytes(sizes, spans)
    # More than any greedy packing looks: the search was tried, but where its square is too many.
    searched = sizes.looks > 10 * count
    assert searched == (count**2 < plan.MAX_PACKING_STEPS)


def joined(branches: int) -> Program:
    """As many operations on one input, and one that reads them all."""
    draw = random.Random(branches)
    tensors = {"x": Tensor("x", (64,), DType.INT8)}
    names = [f"branch{i}" for i in range(branches)]
    for name in names:
        tensors[name] = Tensor(name, (draw.randint(1, 400),), DType.INT8)
    total = sum(tensors[name].bytes for name in names)
    tensors["y"] = Tensor("y", (total,), DType.INT8)
    apart = [Operation(name, Concat(axis=0), ("x",), (name,)) for name in names]
    return Program(
        "joined",
        tensors,
        (*apart, Operation("y", Concat(axis=0), tuple(names), ("y",))),
        (Boundary("x", "x", (64,)),),
        (Boundary("y", "y", (total,)),),
    )


def test_ordering_takes_bounded_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand operations in any order: candidates are counted, and the source's order stays."""
    asked = 0
    overwritable = plan._Graph.overwritable

    def counted(graph: plan._Graph, op: Operation, done: int) -> str | None:
        nonlocal asked
        asked += 1
        assert asked <= plan.MAX_CANDIDATES + 1000
        return overwritable(graph, op, done)

    monkeypatch.setattr(plan._Graph, "overwritable", counted)
    program = joined(999)
    ordered, memory = plan_memory(program)
    assert ordered.operations == program.operations
    assert asked == plan.MAX_CANDIDATES + 1000
    assert memory.arena_bytes >= memory.peak_bytes
