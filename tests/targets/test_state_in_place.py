"""Generated C whose layers write state where the next step reads it: the same bits as copies."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgekit.targets.c.bindings  # noqa: F401  fills the kernel table
from edgekit.deploy.session import Session
from edgekit.program import plan
from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, Operation, State
from edgekit.program.operators.base import OPERATORS
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.c.kernel import KERNELS, Bound, select
from edgekit.targets.host import HostMachine, LoadedMachine, compile_shared
from edgekit.targets.image import build_image
from edgekit.targets.machine import Machine
from edgekit.targets.target import target
from tests.cases.case import Case
from tests.support.chain import STRICT, assert_identical, combine, emulate, run_machine
from tests.support.random_state import random_state_network, random_steps

MODULES = ("recurrent", "spiking")
"""Grids of the operators that keep a state."""

KEEPING = {"gru", "leaky", "lstm", "spike_count", "synaptic"}
"""These; what else may overwrite an input does so in ``test_in_place``."""

SEVERAL = 0
"""Seed of a network with several states in place."""

Samples = Sequence[Mapping[str, Array]]


@contextmanager
def copying() -> Iterator[None]:
    """Every state is copied behind its step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "updates_in_place", lambda program, root: {})
        yield


def steps(machine: Machine, emission: Emission, samples: Samples) -> list[dict[str, Array]]:
    """Outputs of consecutive steps."""
    return [run_machine(machine, emission, sample, step=True) for sample in samples]


def assert_same(want: Sequence[Mapping[str, Array]], got: Sequence[Mapping[str, Array]]) -> None:
    """Every output of every step."""
    for number, (one, other) in enumerate(zip(want, got, strict=True)):
        assert_identical(one, other, f"step {number}")


def copies(emission: Emission) -> int:
    """States that the generated code copies behind a step."""
    code = emission.library.files[f"{emission.library.name}.c"]
    carry = re.search(r"_carry\(const .*?\n\}\n", str(code), re.DOTALL)
    assert carry is not None
    return carry[0].count("memcpy(")


@pytest.mark.needs("cc")
@given(st.integers(0, 2**32 - 1))
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_with_and_without(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Steps, steps behind a reset, runs, and two instances of one code whose steps alternate."""
    program, samples = random_state_network(seed), random_steps(seed, 5)
    emission = emit(program, version="test")
    with copying():
        reference = emit(program, version="test")
    assert copies(reference) == len(program.state)
    assert copies(emission) == len(program.state) - len(emission.plan.in_state)
    assert emission.library.state_bytes == reference.library.state_bytes
    interpreter = Interpreter(program)
    want = [interpreter.step(sample) for sample in samples]

    machine = HostMachine(reference.library, flags=STRICT)
    assert_same(want, steps(machine, reference, samples))
    machine.close()

    path = compile_shared(emission.library, tmp_path_factory.mktemp("made"), STRICT)
    one, other = (LoadedMachine(emission.library, path) for _ in range(2))
    found: list[dict[str, Array]] = []
    for number, sample in enumerate(samples):
        found += steps(one, emission, [sample])
        steps(other, emission, [samples[-1 - number]])
    assert_same(want, found)
    other.reset()
    assert_same(want, steps(other, emission, samples))
    again = interpreter.run(samples[-1])
    assert_identical(again, run_machine(one, emission, samples[-1]))


def stateful(case: Case) -> Case | None:
    """The case with a state for every pair of input and output that may share bytes.

    None where there is none, as inputs are constant or absent.
    """
    program = case.program
    (op,) = program.operations
    fed = {b.tensor for b in program.inputs}
    states = tuple(
        State(name, output, 1)
        for index, output in enumerate(op.outputs)
        for position, name in enumerate(op.inputs)
        if position in op.operator.overwritten(index)
        and name in fed
        and program.tensors[name].type == program.tensors[output].type
    )
    reads, writes = {s.read for s in states}, {s.write for s in states}
    kept = program.replace(
        inputs=tuple(b for b in program.inputs if b.tensor not in reads),
        outputs=tuple(b for b in program.outputs if b.tensor not in writes),
        state=states,
    )
    keeps = states and op.operator.name in KEEPING
    return replace(case, program=kept, samples=4) if keeps else None


@cache
def stateful_cases(module: str) -> list[Case]:
    """All that a grid has."""
    grid = importlib.import_module(f"tests.cases.{module}").cases()
    return [made for case in grid if (made := stateful(case)) is not None]


def test_every_kernel_is_covered() -> None:
    """All that the operators of these grids declare, for every kernel."""
    operators = {op.operator.name for m in MODULES for c in stateful_cases(m) for op in ops(c)}
    possible = {
        (k.name, output, position)
        for k in KERNELS
        if k.operator in operators
        for output in range(len(OPERATORS[k.operator].outputs))
        for position in OPERATORS[k.operator].overwritten(output)
    }
    covered = {
        (
            select(Bound.of(case.program, op)).name,
            op.outputs.index(s.write),
            op.inputs.index(s.read),
        )
        for module in MODULES
        for case in stateful_cases(module)
        for op in ops(case)
        for s in case.program.state
    }
    assert operators == KEEPING
    assert covered == possible


def ops(case: Case) -> tuple[Operation, ...]:
    """Operations of a case."""
    return case.program.operations


@pytest.mark.needs("cc")
@pytest.mark.parametrize("module", MODULES)
def test_kernels_in_place(module: str) -> None:
    """Every case over several steps: outputs and states, which lie behind the arena."""
    program, samples = combine(stateful_cases(module))
    emission = emit(program, version="test")
    assert copies(emission) == 0
    machine, interpreter = HostMachine(emission.library, flags=STRICT), Interpreter(program)
    arena = emission.library.arena_bytes
    for sample in samples:
        values: dict[str, Array] = {}
        want = interpreter.step(sample, values.__setitem__)
        assert_identical(want, run_machine(machine, emission, sample, step=True))
        kept = {
            name: machine.read(offset, program.tensors[name].bytes)
            for layer in emission.layers
            for name, offset in zip(layer.outputs, layer.offsets, strict=True)
            if offset >= arena
        }
        assert kept.keys() == {state.write for state in program.state}
        for name, data in kept.items():
            assert data == np.ascontiguousarray(values[name]).tobytes(), name
    machine.close()


@pytest.mark.needs("cortex-m compiler")
def test_emulated(tmp_path: Path) -> None:
    """Steps on an emulated core, and every layer's result where the library says that it lies."""
    program, samples = random_state_network(SEVERAL), random_steps(SEVERAL, 3)
    emission = emit(program, version="test")
    image = build_image(emission.library, target("cortex-m4"), folder=tmp_path)
    machine, interpreter = emulate(image), Interpreter(program)
    assert_same([interpreter.step(s) for s in samples], steps(machine, emission, samples))
    values: dict[str, Array] = {}
    interpreter.run(samples[0], values.__setitem__)
    layers = emission.layers
    with Session(emission.program, emission.library, layers, machine, "emulator") as session:
        for name, found in session.trace(samples[0]).items():
            assert found.tobytes() == np.ascontiguousarray(values[name]).tobytes(), name


@pytest.mark.needs("cc")
def test_trace_reads_state() -> None:
    """A trace has what every layer writes, wherever it lies; a timed layer runs once in effect."""
    program, (sample,) = random_state_network(SEVERAL), random_steps(SEVERAL, 1)
    emission = emit(program, version="test")
    assert len(emission.plan.in_state) > 1
    values: dict[str, Array] = {}
    Interpreter(program).run(sample, values.__setitem__)
    library, layers = emission.library, emission.layers
    machine = HostMachine(library)
    with Session(emission.program, library, layers, machine, "local") as session:
        traced = session.trace(sample)
        assert traced.keys() >= emission.plan.in_state.keys()
        for name, found in traced.items():
            assert found.tobytes() == np.ascontiguousarray(values[name]).tobytes(), name
        state = machine.read(library.arena_bytes, library.state_bytes)
        machine.write(library.arena_bytes, bytes(library.state_bytes))
        assert len(session.profile(sample, repeats=3).layers) == len(layers)
        assert machine.read(library.arena_bytes, library.state_bytes) == state
