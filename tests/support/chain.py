"""Run one Program through every link of the chain and demand the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.program.interpret import Interpreter, from_program, to_program
from edgekit.program.ir import Array, Boundary, Operation, Program, State, Tensor
from edgekit.program.verify import verify
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.emulated import EmulatedMachine
from edgekit.targets.host import HostMachine
from edgekit.targets.image import Image
from edgekit.targets.machine import Machine
from tests.cases.case import Case

STRICT = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wsign-conversion", "-Wdouble-promotion")


def combine(cases: Sequence[Case], name: str = "grid") -> tuple[Program, list[dict[str, Array]]]:
    """Many small Programs as one with all their inputs and outputs, and their samples.

    One library then holds them all, each kernel compiled once.
    """
    tensors: dict[str, Tensor] = {}
    operations: list[Operation] = []
    inputs: list[Boundary] = []
    outputs: list[Boundary] = []
    states: list[State] = []
    drawn = [case.inputs() for case in cases]
    count = min(len(d) for d in drawn)
    samples: list[dict[str, Array]] = [{} for _ in range(count)]
    for number, case in enumerate(cases):
        prefix = f"c{number}/"
        for tensor in case.program.tensors.values():
            key = prefix + tensor.name
            tensors[key] = Tensor(key, tensor.shape, tensor.dtype, tensor.quantization, tensor.data)
        for op in case.program.operations:
            operations.append(
                Operation(
                    prefix + op.name,
                    op.operator,
                    tuple(None if n is None else prefix + n for n in op.inputs),
                    tuple(prefix + n for n in op.outputs),
                )
            )
        for given, target in ((case.program.inputs, inputs), (case.program.outputs, outputs)):
            target += [
                Boundary(prefix + b.tensor, prefix + b.name, b.source_shape, b.permutation)
                for b in given
            ]
        states += [State(prefix + s.read, prefix + s.write, s.initial) for s in case.program.state]
        for i in range(count):
            samples[i].update({prefix + k: v for k, v in drawn[number][i].items()})
    program = Program(
        name, tensors, tuple(operations), tuple(inputs), tuple(outputs), tuple(states)
    )
    return verify(program, stage="combining cases"), samples


def run_machine(
    machine: Machine, emission: Emission, inputs: Mapping[str, Array], *, step: bool = False
) -> dict[str, Array]:
    """Feed, run and read one sample, in the source model's layout."""
    program = emission.program
    for boundary, port in zip(program.inputs, emission.library.inputs, strict=True):
        tensor = program.tensors[boundary.tensor]
        machine.write(port.offset, to_program(boundary, tensor, inputs[boundary.name]).tobytes())
    machine.step() if step else machine.run()
    results = {}
    for boundary, port in zip(program.outputs, emission.library.outputs, strict=True):
        tensor = program.tensors[boundary.tensor]
        raw = machine.read(port.offset, port.bytes)
        array = np.frombuffer(raw, tensor.dtype.numpy).reshape(tensor.shape)
        results[boundary.name] = from_program(boundary, array)
    return results


def assert_identical(
    want: Mapping[str, Array], got: Mapping[str, Array], label: str = "", seed: object = None
) -> None:
    """Every output equal to the bit; the message names output, index, got, want and seed."""
    assert want.keys() == got.keys()
    problems = []
    for name, expected in want.items():
        actual = got[name]
        assert actual.shape == expected.shape, f"{label} {name}: {actual.shape} {expected.shape}"
        same = _bits(actual) == _bits(expected)
        if not same.all():
            index = tuple(int(i) for i in np.argwhere(~same)[0])
            problems.append(
                f"{label} output {name!r} at {index}: got {actual[index]!r}, "
                f"want {expected[index]!r}; {np.sum(~same)} of {same.size} differ; seed {seed}"
            )
    assert not problems, "\n".join(problems)


def _bits(array: Array) -> Array:
    """Floats as integers, so that -0 and 0 differ and NaN equals itself."""
    array = np.ascontiguousarray(array)
    return array.view(np.int32) if array.dtype == np.float32 else array


def check(machine: Machine, emission: Emission, samples: Sequence[Mapping[str, Array]]) -> None:
    """The machine's outputs equal the interpreter's on every sample."""
    interpreter = Interpreter(emission.program)
    for number, sample in enumerate(samples):
        want = interpreter.run(sample)
        assert_identical(want, run_machine(machine, emission, sample), f"sample {number}")


def check_host(program: Program, samples: Sequence[Mapping[str, Array]]) -> None:
    """Interpreter and host C agree, with every warning an error."""
    emission = emit(program, version="test")
    machine = HostMachine(emission.library, flags=STRICT)
    try:
        check(machine, emission, samples)
    finally:
        machine.close()


def emulate(image: Image) -> EmulatedMachine:
    """The image on its emulated core."""
    image.require_fit()
    return EmulatedMachine(image.library, image.target, image.elf)
