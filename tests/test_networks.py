"""Random networks through the whole chain: planner, fusion, serialisation, host C, emulated C."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.program import serialize
from edgekit.program.fuse import fuse_residual
from edgekit.program.interpret import Interpreter
from edgekit.program.plan import MemoryPlan, plan_memory
from edgekit.targets.c.emit import emit
from edgekit.targets.host import HostMachine
from edgekit.targets.image import build_image
from edgekit.targets.target import target
from tests.cases.case import Case
from tests.support.chain import STRICT, assert_identical, emulate, run_machine
from tests.support.random_network import random_network

SEEDS = st.integers(0, 2**32 - 1)


def assert_disjoint(plan: MemoryPlan) -> None:
    """Live buffers and scratch never share a byte, and everything lies inside the arena."""
    buffers = [*plan.buffers, *plan.scratch.values()]
    for one, two in itertools.combinations(buffers, 2):
        if one.start < two.end and two.start < one.end:
            assert one.offset + one.bytes <= two.offset or two.offset + two.bytes <= one.offset
    assert all(0 <= b.offset and b.offset + b.bytes <= plan.arena_bytes for b in buffers)
    assert plan.arena_bytes >= plan.peak_bytes


@given(SEEDS, st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_plans_never_overlap(seed: int, layers: int) -> None:
    """For random graphs, fused or not."""
    program = random_network(seed, layers)
    assert_disjoint(plan_memory(program)[1])
    assert_disjoint(plan_memory(fuse_residual(program)[0], {program.operations[-1].name: 100})[1])


@given(SEEDS, st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_fusion_order_and_disk_change_no_bit(seed: int, layers: int) -> None:
    """The fused, reordered, saved and loaded network gives the same outputs."""
    program = random_network(seed, layers)
    inputs = Case("net", program, seed).inputs()[0]
    changed = plan_memory(fuse_residual(program)[0])[0]
    changed = serialize.load(*serialize.dump(changed))
    assert_identical(Interpreter(program).run(inputs), Interpreter(changed).run(inputs))


@given(SEEDS, st.integers(1, 6))
@settings(max_examples=15, deadline=None)
@pytest.mark.needs("cc")
def test_host_equals_interpreter(seed: int, layers: int) -> None:
    """Compiled with every warning an error."""
    program, _ = fuse_residual(random_network(seed, layers))
    emission = emit(program, version="test")
    machine = HostMachine(emission.library, flags=STRICT)
    for sample in Case("net", program, seed).inputs():
        want = Interpreter(program).run(sample)
        assert_identical(want, run_machine(machine, emission, sample), f"seed {seed}")
    machine.close()


@pytest.mark.parametrize(
    "core", ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33"]
)
@pytest.mark.needs("cortex-m compiler")
def test_emulated_equals_interpreter(core: str, tmp_path: Path) -> None:
    """Six networks on every core."""
    for seed in range(6):
        program, _ = fuse_residual(random_network(1000 + seed, 4, f"net{seed}"))
        emission = emit(program, version="test")
        image = build_image(emission.library, target(core), folder=tmp_path / str(seed))
        machine = emulate(image)
        for sample in Case("net", program, seed).inputs():
            want = Interpreter(program).run(sample)
            assert_identical(want, run_machine(machine, emission, sample), f"{core} seed {seed}")
        machine.close()
