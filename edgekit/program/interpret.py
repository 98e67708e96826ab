"""Run a Program with the operators' exact NumPy references.

The interpreter is the meaning of a Program: every kernel, on every device, must produce the same
bits. It works at the boundary of the source model (its names, shapes and layout).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.errors import InvalidDataError
from edgekit.program.ir import Array, Boundary, Program, Tensor

Observer = Callable[[str, Array], None]


def to_program(boundary: Boundary, tensor: Tensor, value: Array) -> Array:
    """Bring a source-layout array to the Program's layout.

    Raises:
        InvalidDataError: wrong dtype, shape, or a value that is NaN.
    """
    value = np.asarray(value)
    if value.dtype.newbyteorder("=") != np.dtype(tensor.dtype.value):
        raise InvalidDataError(
            f"input {boundary.name!r} is {value.dtype}, must be {tensor.dtype.value}"
        )
    if value.shape != boundary.source_shape:
        raise InvalidDataError(
            f"input {boundary.name!r} has shape {list(value.shape)}, "
            f"must be {list(boundary.source_shape)}"
        )
    if not tensor.dtype.is_integer and np.isnan(value).any():
        raise InvalidDataError(f"input {boundary.name!r} holds NaN")
    if boundary.permutation is not None:
        value = value.transpose(boundary.permutation)
    return np.ascontiguousarray(value.reshape(tensor.shape), dtype=tensor.dtype.numpy)


def from_program(boundary: Boundary, value: Array) -> Array:
    """Bring a Program-layout array back to the source layout; the inverse of `to_program`.

    The result is always a copy: the caller may write to it.
    """
    if boundary.permutation is None:
        return value.reshape(boundary.source_shape).copy()
    shape = [boundary.source_shape[axis] for axis in boundary.permutation]
    inverse = np.argsort(boundary.permutation)
    return value.reshape(shape).transpose(inverse).copy()


def check_names(program: Program, inputs: Mapping[str, Array]) -> None:
    """Refuse missing and unknown input names.

    Raises:
        InvalidDataError: names what is missing, what is unknown and what the inputs are called.
    """
    names = [b.name for b in program.inputs]
    missing = [n for n in names if n not in inputs]
    unknown = [n for n in inputs if n not in names]
    if missing or unknown:
        problems = [f"missing {missing}"] * bool(missing) + [f"unknown {unknown}"] * bool(unknown)
        raise InvalidDataError(f"inputs: {', '.join(problems)}; the model's inputs are {names}")


def steps_of(program: Program, inputs: Mapping[str, Array]) -> list[dict[str, Array]]:
    """The inputs of every step of a sequence, whose arrays have a leading time axis.

    Raises:
        InvalidDataError: names are missing or unknown, or numbers of steps differ or are 0.
    """
    check_names(program, inputs)
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    counts = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    steps = max(counts.values(), default=0)
    if steps == 0 or set(counts.values()) != {steps}:
        raise InvalidDataError(
            f"a sequence needs as many steps, at least 1, for every input; there are {counts}"
        )
    return [{name: array[t] for name, array in arrays.items()} for t in range(steps)]


class Interpreter:
    """A Program with its state.

    Args:
        program: a verified Program.

    Example::

        session = Interpreter(program)
        session.step({"x": sample})       # carries state
        session.reset()
        session.run({"x": window})        # resets, then runs once
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._constants = {
            name: tensor.data for name, tensor in program.tensors.items() if tensor.data is not None
        }
        self._state: dict[str, Array] = {}
        self.reset()

    def reset(self) -> None:
        """Set every state buffer to its initial value."""
        for state in self.program.state:
            tensor = self.program.tensors[state.read]
            self._state[state.read] = np.full(tensor.shape, state.initial, tensor.dtype.numpy)

    def run(self, inputs: Mapping[str, Array], observe: Observer | None = None) -> dict[str, Array]:
        """Reset the state and run once; see :meth:`step`."""
        self.reset()
        return self.step(inputs, observe)

    def run_sequence(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Reset the state and step through a sequence.

        Args:
            inputs: array by input name, with a leading time axis; else as for :meth:`step`.

        Returns:
            Array by output name, with a leading time axis.
        """
        self.reset()
        results = [self.step(step) for step in steps_of(self.program, inputs)]
        return {name: np.stack([r[name] for r in results]) for name in results[0]}

    def step(
        self, inputs: Mapping[str, Array], observe: Observer | None = None
    ) -> dict[str, Array]:
        """Run once and carry the state.

        Args:
            inputs: array by input name, in the source model's layout and the Program's dtype.
            observe: called with the name and value of every input and computed tensor, in order;
                must not write to the values.

        Returns:
            Array by output name, in the source model's layout; the caller may write to them.

        Raises:
            InvalidDataError: names, dtypes or shapes do not fit, or an input holds NaN.
        """
        program = self.program
        check_names(program, inputs)
        values: dict[str, Array] = dict(self._constants)
        for boundary in program.inputs:
            tensor = program.tensors[boundary.tensor]
            values[boundary.tensor] = to_program(boundary, tensor, inputs[boundary.name])
        values.update(self._state)
        if observe is not None:
            for boundary in program.inputs:
                observe(boundary.tensor, values[boundary.tensor])
        for op in program.operations:
            arguments = [None if n is None else values[n] for n in op.inputs]
            # Overflow to infinity is a value like any other, here as in C.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                results = op.operator.reference(*arguments)
            for name, value in zip(op.outputs, results, strict=True):
                values[name] = value
                if observe is not None:
                    observe(name, value)
        # A copy, since a reshape is a view of what the caller gave.
        self._state = {state.read: values[state.write].copy() for state in program.state}
        return {b.name: from_program(b, values[b.tensor]) for b in program.outputs}


def run(program: Program, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a Program once from its initial state; see :meth:`Interpreter.step`."""
    return Interpreter(program).run(inputs)
