"""The interpreter's arrays belong to the caller, its state to itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.program.interpret import Interpreter
from edgekit.program.ir import Boundary, DType, Operation, Program, State, Tensor, TensorType
from edgekit.program.operators.movement import Reshape
from edgekit.program.verify import verify
from tests.cases.case import one_operator
from tests.support.programs import recurrent_network


def test_outputs_may_be_written_to() -> None:
    """What the caller does to a result does not reach the next step."""
    program = recurrent_network()
    rng = np.random.default_rng(5)
    samples = [
        {
            b.name: rng.integers(-128, 128, b.source_shape).astype(t.dtype.numpy)
            for b, t in zip(program.inputs, program.input_tensors, strict=True)
        }
        for _ in range(4)
    ]
    clean, soiled = Interpreter(program), Interpreter(program)
    for sample in samples:
        want = {name: value.copy() for name, value in clean.step(sample).items()}
        got = soiled.step(sample)
        for name, value in got.items():
            np.testing.assert_array_equal(value, want[name])
            value.fill(77)


def test_a_reshaped_input_is_copied() -> None:
    """Also where the layout is permuted without moving anything."""
    for permutation in (None, (1, 0)):
        program = one_operator(Reshape((4,)), TensorType((1, 4), DType.FLOAT32))
        (output,) = program.outputs
        wanted = (4, 1) if permutation else (1, 4)
        boundary = replace(output, source_shape=wanted, permutation=permutation)
        program = verify(program.replace(outputs=(boundary,)))
        x = np.ones((1, 4), np.float32)
        (y,) = Interpreter(program).run({"in0": x}).values()
        y.fill(5)
        assert x.tolist() == [[1, 1, 1, 1]]


def test_state_outlives_the_input() -> None:
    """A state that is a reshape of the input keeps the values of its step."""
    kind = TensorType((2,), DType.FLOAT32)
    tensors = {n: Tensor(n, (2,), DType.FLOAT32) for n in ("x", "last", "next", "y")}
    operations = (
        Operation("keep", Reshape((2,)), ("x",), ("next",)),
        Operation("show", Reshape((2,)), ("last",), ("y",)),
    )
    program = Program(
        "delay",
        tensors,
        operations,
        (Boundary("x", "x", (2,)),),
        (Boundary("next", "next", (2,)),),
        (State("last", "next", 0.0),),
    )
    assert program.tensors["x"].type == kind
    session = Interpreter(verify(program))
    seen: list[list[float]] = []
    x = np.float32([1, 2])
    for _ in range(2):
        session.step({"x": x}, lambda n, v: seen.append(v.tolist()) if n == "y" else None)
        x.fill(9)
    assert seen == [[0, 0], [1, 2]]
