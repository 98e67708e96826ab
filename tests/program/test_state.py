"""State in place: never where someone needs the old value, and as good as a copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Array, Boundary, DType, Operation, Program, State, Tensor
from edgekit.program.operators.activation import Clip
from edgekit.program.operators.base import Operator
from edgekit.program.operators.elementwise import Add
from edgekit.program.operators.movement import Concat, Reshape
from edgekit.program.operators.spiking_neurons import Leaky, Synaptic
from edgekit.program.plan import MemoryPlan, aliases, plan_memory
from edgekit.program.state import updates_in_place
from edgekit.program.verify import verify
from tests.support.random_state import random_state_network, random_steps

SEEDS = st.integers(0, 2**32 - 1)


class Memory:
    """An arena and a state in which a planned Program runs as bytes.

    An operation whose output lies over something that it reads must have declared so.
    """

    def __init__(self, program: Program, plan: MemoryPlan) -> None:
        self.program, self.plan = program, plan
        self.root = aliases(program)
        self.state_at: dict[str, int] = {}
        top = plan.arena_bytes
        for state in program.state:
            self.state_at[state.read] = top
            top += program.tensors[state.read].bytes
        self.bytes = np.random.default_rng(0).integers(0, 256, top).astype(np.uint8)
        for state in program.state:
            kind = program.tensors[state.read]
            self.put(state.read, np.full(kind.shape, state.initial, kind.dtype.numpy))

    def place(self, name: str) -> range:
        """Bytes of a tensor."""
        root = self.root[name]
        kept = self.plan.in_state.get(root, root)
        start = self.state_at[kept] if kept in self.state_at else self.plan.offset(root)
        return range(start, start + self.program.tensors[name].bytes)

    def get(self, name: str) -> Array:
        """Value of a tensor."""
        tensor = self.program.tensors[name]
        constant = self.program.tensors[self.root[name]].data
        if constant is not None:
            return constant.reshape(tensor.shape)
        at = self.place(name)
        raw = self.bytes[at.start : at.stop].tobytes()
        return np.frombuffer(raw, tensor.dtype.numpy).reshape(tensor.shape)

    def put(self, name: str, values: Array) -> None:
        """Write a tensor."""
        at = self.place(name)
        data = np.ascontiguousarray(values, self.program.tensors[name].dtype.numpy).tobytes()
        self.bytes[at.start : at.stop] = np.frombuffer(data, np.uint8)

    def step(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One step, with the copies that are left."""
        program = self.program
        for boundary in program.inputs:
            self.put(boundary.tensor, inputs[boundary.name])
        for op in program.operations:
            if op.operator.alias:
                continue
            self.require_apart(op)
            fed = [None if n is None else self.get(n) for n in op.inputs]
            for name, values in zip(op.outputs, op.operator.reference(*fed), strict=True):
                self.put(name, values)
        for state in program.state:
            self.put(state.read, self.get(state.write))
        return {b.name: self.get(b.tensor) for b in program.outputs}

    def require_apart(self, op: Operation) -> None:
        """Outputs overlap nothing but what they may overwrite."""
        for index, output in enumerate(op.outputs):
            at = self.place(output)
            for position, name in enumerate(op.inputs):
                if name is None or self.program.tensors[self.root[name]].is_constant:
                    continue
                read = self.place(name)
                if at.start < read.stop and read.start < at.stop:
                    assert at == read, (op.name, output, name)
                    assert position in op.operator.overwritten(index), (op.name, output, name)
            for other in op.outputs[:index]:
                beside = self.place(other)
                assert at.stop <= beside.start or beside.stop <= at.start, (op.name, output)


@given(SEEDS)
@settings(max_examples=120, deadline=None)
def test_memory_holds_what_the_interpreter_computes(seed: int) -> None:
    """Step by step, in the order and at the places of the plan."""
    program = random_state_network(seed)
    ordered, plan = plan_memory(program, {op.name: 16 for op in program.operations})
    memory, interpreter = Memory(ordered, plan), Interpreter(program)
    for sample in random_steps(seed, 4):
        want, got = interpreter.step(sample), memory.step(sample)
        for name, values in want.items():
            assert values.tobytes() == got[name].tobytes(), name


def test_networks_have_both_kinds() -> None:
    """Or the test above would show nothing."""
    placed = [len(plan_memory(random_state_network(seed))[1].in_state) for seed in range(40)]
    states = [len(random_state_network(seed).state) for seed in range(40)]
    assert 20 < sum(placed) < sum(states) - 20


class Draft:
    """A Program of float32 [1,4] by hand; `h` and `g` are states, where they are written."""

    def __init__(self) -> None:
        names = ("x", "h", "g")
        self.tensors = {name: Tensor(name, (1, 4), DType.FLOAT32) for name in names}
        one = np.ones(1, np.float32)
        self.tensors["one"] = Tensor.constant("one", one)
        self.operations: list[Operation] = []

    def add(self, operator: Operator, inputs: str, outputs: str) -> None:
        """An operation on names separated by blanks."""
        names = tuple(inputs.split())
        kinds = operator.infer(*(self.tensors[n].type for n in names))
        for name, kind in zip(outputs.split(), kinds, strict=True):
            self.tensors[name] = Tensor(name, kind.shape, kind.dtype)
        self.operations.append(Operation(f"to {outputs}", operator, names, tuple(outputs.split())))

    def program(self, output: str, **writes: str) -> Program:
        """Verified, with what the states become."""
        unused = {"h", "g"} - writes.keys()
        return verify(
            Program(
                "made",
                {name: tensor for name, tensor in self.tensors.items() if name not in unused},
                tuple(self.operations),
                (Boundary("x", "x", (1, 4)),),
                (Boundary(output, "y", self.tensors[output].shape),),
                tuple(State(read, write) for read, write in writes.items()),
            )
        )


def neurons(order: Callable[[Draft], None]) -> Program:
    """Leaky neurons on h, whose spikes are the output, and what `order` adds."""
    draft = Draft()
    order(draft)
    return draft.program("s", h="next")


LEAKY = (Leaky(), "x h one one", "s next")
READER = (Clip((0.0, 1.0)), "h", "late")


def in_state(program: Program) -> dict[str, str]:
    """Of the order that the Program has."""
    return updates_in_place(program, aliases(program))


def test_a_reader_in_front_or_behind() -> None:
    """The old value must not be needed any more; the new one may be read."""

    def behind(draft: Draft) -> None:
        draft.add(*LEAKY)
        draft.add(*READER)

    def in_front(draft: Draft) -> None:
        draft.add(*READER)
        draft.add(*LEAKY)
        draft.add(Clip((0.0, 1.0)), "next", "new")

    assert in_state(neurons(behind)) == {}
    assert in_state(neurons(in_front)) == {"next": "h"}


def test_under_another_shape() -> None:
    """A reshaped state is the state, a reshaped update the update."""
    draft = Draft()
    draft.add(Reshape(shape=(4,)), "h", "flat")
    draft.add(*LEAKY)
    draft.add(Clip((0.0, 1.0)), "flat", "late")
    draft.add(Reshape(shape=(1, 4)), "next", "again")
    assert in_state(draft.program("s", h="again")) == {}
    draft.operations[1:3] = draft.operations[2:0:-1]
    assert in_state(draft.program("s", h="again")) == {"next": "h"}


@pytest.mark.parametrize(("h", "g"), [("u", "i"), ("i", "u")])
def test_only_declared_pairs(h: str, g: str) -> None:
    """A membrane may overwrite the membrane, not the current; of two states both or none."""
    draft = Draft()
    draft.add(Synaptic(), "x h g one one one", "s u i")
    expected = {"u": "h", "i": "g"} if h == "u" else {}
    assert in_state(draft.program("s", h=h, g=g)) == expected


def test_both_operands_at_once() -> None:
    """What may overwrite either may overwrite one that is both; a membrane is not a current."""
    draft = Draft()
    draft.add(Add(), "h h", "next")
    draft.add(Synaptic(), "next g g one one one", "s u i")
    assert in_state(draft.program("s", h="next", g="u")) == {"next": "h"}


def test_what_does_not_read_the_state() -> None:
    """Spikes are written over those of the last step, which were read before."""
    draft = Draft()
    draft.add(Add(), "x h", "sum")
    draft.add(Clip((0.0, 1.0)), "sum", "next")
    draft.add(Clip((0.0, 2.0)), "next", "y")
    assert in_state(draft.program("y", h="next")) == {"next": "h"}
    # As an output it has to lie in the arena.
    assert in_state(draft.program("next", h="next")) == {}


def test_shared_and_fed_updates() -> None:
    """Of two states that become one tensor only one is it; what is fed is copied."""
    draft = Draft()
    draft.add(Add(), "h g", "next")
    draft.add(Clip((0.0, 1.0)), "next", "y")
    assert in_state(draft.program("y", h="next", g="next")) == {"next": "h"}
    assert in_state(draft.program("y", h="x", g="next")) == {"next": "g"}


def test_the_order_keeps_readers_in_front() -> None:
    """Even where the arena could be smaller with the reader behind."""
    draft = Draft()
    draft.add(Concat(axis=1), " ".join(["h"] * 9), "wide")
    draft.add(Clip((0.0, 1.0)), "x", "next")
    draft.add(Concat(axis=1), " ".join(["next"] * 9), "temporary")
    draft.add(Concat(axis=1), "wide temporary", "y")
    program = draft.program("y", h="next")
    ordered, plan = plan_memory(program)
    assert plan.in_state == {"next": "h"}
    names = [op.name for op in ordered.operations]
    assert names.index("to wide") < names.index("to next")
    assert "next" not in [name for buffer in plan.buffers for name in buffer.tensors]
    with pytest.raises(KeyError):
        plan.offset("next")
