"""Random networks with state: neurons, counts and recurrent layers that read it anywhere."""

from __future__ import annotations

import numpy as np

from edgekit.program.ir import Boundary, DType, Operation, Program, State, Tensor
from edgekit.program.operators.activation import Clip, Sigmoid
from edgekit.program.operators.base import Operator
from edgekit.program.operators.elementwise import Add
from edgekit.program.operators.movement import Reshape
from edgekit.program.operators.recurrent import Lstm
from edgekit.program.operators.spiking_bits import bit_set
from edgekit.program.operators.spiking_neurons import Leaky, Synaptic
from edgekit.program.operators.spiking_values import SpikeCount, SpikeValues
from edgekit.program.operators.spiking_weighted import SpikeDense
from edgekit.program.plan import aliases
from edgekit.program.verify import verify

WIDTH = 35
"""Neurons, and elements of every other value: two words of a bit set."""


class StateBuilder:
    """Grows a Program from a seed; every choice is drawn from it."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: dict[str, Tensor] = {}
        self.operations: list[Operation] = []
        self.values: list[str] = []
        self.sets: list[str] = []

    def source(self, name: str, *, spikes: bool = False) -> str:
        """A fed tensor or a state."""
        kind = bit_set(1, WIDTH)
        shape, dtype = (kind.shape, kind.dtype) if spikes else ((1, WIDTH), DType.FLOAT32)
        self.tensors[name] = Tensor(name, shape, dtype)
        (self.sets if spikes else self.values).append(name)
        return name

    def constant(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        """Uniform values."""
        name = f"k{len(self.tensors)}"
        values = self.rng.uniform(low, high, shape).astype(np.float32)
        self.tensors[name] = Tensor.constant(name, values)
        return name

    def apply(self, operator: Operator, *inputs: str | None) -> list[str]:
        """Append an operation; returns its outputs."""
        kinds = operator.infer(*(None if n is None else self.tensors[n].type for n in inputs))
        names = []
        for kind in kinds:
            names.append(f"t{len(self.tensors)}")
            self.tensors[names[-1]] = Tensor(names[-1], kind.shape, kind.dtype)
        label = f"{operator.name}_{len(self.operations)}"
        self.operations.append(Operation(label, operator, inputs, tuple(names)))
        return names

    def value(self) -> str:
        """Any value so far."""
        return str(self.rng.choice(self.values))

    def spikes(self) -> str:
        """Any bit set so far; new ones where there is none."""
        if not self.sets:
            self.leaky()
        return str(self.rng.choice(self.sets))

    def leaky(self) -> None:
        """First-order neurons on any membrane."""
        beta, threshold = self.constant(1, low=0.0), self.constant(WIDTH, low=0.1)
        s, u = self.apply(Leaky(), self.value(), self.value(), beta, threshold)
        self.sets.append(s)
        self.values.append(u)

    def synaptic(self) -> None:
        """Second-order neurons on any membrane and current, which may be the same."""
        factors = [self.constant(1, low=0.0) for _ in range(2)]
        threshold = self.constant(WIDTH, low=0.1)
        inputs = (*(self.value() for _ in range(3)), *factors, threshold)
        s, u, i = self.apply(Synaptic(reset="zero"), *inputs)
        self.sets.append(s)
        self.values += [u, i]

    def dense(self) -> None:
        """Weights of spikes, sometimes on top of a value."""
        acc = self.value() if self.rng.random() < 0.5 else None
        w = self.constant(WIDTH, WIDTH)
        self.values += self.apply(SpikeDense(neurons=(WIDTH,)), w, acc, self.spikes())

    def numbers(self) -> None:
        """Spikes as numbers, or added to a value."""
        operator: Operator = SpikeValues(shape=(WIDTH,), dtype=DType.FLOAT32)
        inputs = [self.spikes()]
        if self.rng.random() < 0.6:
            operator = SpikeCount(neurons=WIDTH)
            inputs.append(self.value())
        self.values += self.apply(operator, *inputs)

    def lstm(self) -> None:
        """One step of a recurrent layer on any state."""
        (x,) = self.apply(Reshape(shape=(1, 1, WIDTH)), self.value())
        w, r = self.constant(4 * WIDTH, WIDTH), self.constant(4 * WIDTH, WIDTH)
        _, h, c = self.apply(Lstm(), x, w, r, None, self.value(), self.value())
        self.values += [h, c]

    def plain(self) -> None:
        """What works element by element, or only changes the name."""
        choice = int(self.rng.integers(4))
        if choice == 0:
            made = self.apply(Add(clamp=(-4.0, 4.0)), self.value(), self.value())
        else:
            operators: list[Operator] = [Reshape(shape=(1, WIDTH)), Clip((-2.0, 2.0)), Sigmoid()]
            made = self.apply(operators[choice - 1], self.value())
        self.values += made

    def following(self, state: str, candidates: list[str]) -> str:
        """What a state becomes: often what is computed from it, else anything that fits."""
        near = [n for op in self.operations if state in op.inputs for n in op.outputs]
        near = [name for name in near if name in candidates]
        return str(self.rng.choice(near if near and self.rng.random() < 0.6 else candidates))


def random_state_network(seed: int, *, name: str = "stateful") -> Program:
    """A verified network with one to five states, fed one value a step.

    Any operation may read any state, before or behind what it becomes; a state may become what is
    fed, what is an output as well, or what another one becomes too.
    """
    b = StateBuilder(seed)
    b.source("x")
    states = [
        b.source(f"state{i}", spikes=bool(b.rng.random() < 0.3))
        for i in range(int(b.rng.integers(1, 6)))
    ]
    grow = (b.leaky, b.synaptic, b.dense, b.numbers, b.lstm, b.plain)
    b.leaky()
    for _ in range(int(b.rng.integers(3, 12))):
        grow[int(b.rng.integers(len(grow)))]()
    draft = Program(name, b.tensors, tuple(b.operations), (Boundary("x", "x", (1, WIDTH)),), ())
    root = aliases(draft)
    own = [n for n in (*b.values, *b.sets) if root[n] not in states]
    carried = []
    for state in states:
        fitting = [n for n in own if b.tensors[n].type == b.tensors[state].type]
        carried.append(State(state, b.following(state, fitting), float(b.rng.integers(2))))
    computed = [n for n in own if n != "x"]
    given = b.rng.choice(computed, min(int(b.rng.integers(1, 4)), len(computed)), replace=False)
    outputs = tuple(Boundary(str(n), str(n), b.tensors[str(n)].shape) for n in given)
    return verify(draft.replace(outputs=outputs, state=tuple(carried)))


def random_steps(seed: int, count: int) -> list[dict[str, np.ndarray]]:
    """Inputs of consecutive steps."""
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(0, 1.5, (1, WIDTH)).astype(np.float32)} for _ in range(count)]
