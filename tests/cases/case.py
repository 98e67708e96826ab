"""A case of the exactness grid: a small Program and the seed of its inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.program.ir import Array, Boundary, Operation, Program, Tensor, TensorType
from edgekit.program.operators.base import Operator
from edgekit.program.verify import verify


@dataclass(frozen=True)
class Case:
    """One cell of the grid.

    Attributes:
        id: unique, readable.
        program: usually one operator.
        seed: seeds the inputs.
        samples: how many inputs to draw.
    """

    id: str
    program: Program
    seed: int = 0
    samples: int = 2

    def inputs(self) -> list[dict[str, Array]]:
        """Seeded inputs: integers over their whole range and its ends, floats about ±4."""
        rng = np.random.default_rng(self.seed)
        return [
            {
                b.name: random_array(rng, t.type).reshape(b.source_shape)
                for b, t in zip(self.program.inputs, self.program.input_tensors, strict=True)
            }
            for _ in range(self.samples)
        ]


def random_array(rng: np.random.Generator, kind: TensorType) -> Array:
    """Values that reach the ends of an integer range, and floats of several magnitudes."""
    if not kind.dtype.is_integer:
        scale = rng.choice([0.01, 1.0, 4.0], size=kind.shape)
        return (rng.standard_normal(kind.shape) * scale).astype(np.float32)
    low, high = kind.dtype.limits
    values = rng.integers(low, high, size=kind.shape, endpoint=True)
    ends = rng.random(kind.shape)
    values = np.where(ends < 0.06, low, np.where(ends > 0.94, high, values))
    return values.astype(kind.dtype.value)


Const = tuple[str, Array]
"""``("const", array)``: an input baked into the Program."""


def one_operator(
    operator: Operator, *inputs: TensorType | Const | None, name: str = "case"
) -> Program:
    """A verified Program of one operation: fed inputs by type, constants by value."""
    tensors: dict[str, Tensor] = {}
    names: list[str | None] = []
    fed: list[Boundary] = []
    for i, given in enumerate(inputs):
        if given is None:
            names.append(None)
            continue
        key = f"in{i}"
        names.append(key)
        if isinstance(given, TensorType):
            tensors[key] = Tensor(key, given.shape, given.dtype)
            fed.append(Boundary(key, key, given.shape))
        else:
            tensors[key] = Tensor.constant(key, given[1])
    types = tuple(None if n is None else tensors[n].type for n in names)
    outputs = []
    for i, kind in enumerate(operator.infer(*types)):
        key = f"out{i}"
        tensors[key] = Tensor(key, kind.shape, kind.dtype)
        outputs.append(Boundary(key, key, kind.shape))
    operation = Operation("op", operator, tuple(names), tuple(b.tensor for b in outputs))
    return verify(Program(name, tensors, (operation,), tuple(fed), tuple(outputs)))
