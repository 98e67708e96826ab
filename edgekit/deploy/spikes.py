"""What fires in a deployed network over real windows: counted, not measured, to the last spike.

The interpreter computes the bits that every device does, so that its spikes are theirs. A synaptic
operation is a weight that meets a spike: what event-driven hardware adds up, and what the dense
schedule multiplies by one instead of by nought.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from edgekit.bench.spiking import Membrane, Population, Synapses
from edgekit.deploy.data import Samples
from edgekit.deploy.manifest import MembraneRecord, SpikingRecord
from edgekit.program.interpret import Interpreter, steps_of
from edgekit.program.ir import Array, Operation, Program
from edgekit.program.operators.spiking_bits import pack_spikes, unpack_spikes
from edgekit.program.operators.spiking_neurons import Leaky, Synaptic
from edgekit.program.operators.spiking_weighted import (
    CurrentConv2D,
    CurrentDense,
    SpikeConv2D,
    SpikeDense,
)
from edgekit.targets.c.bindings.spiking_weights import FieldFormat

FLOAT_BITS = 32

Driven = SpikeDense | SpikeConv2D
"""Operators whose inputs are spikes."""


@dataclass(frozen=True)
class Spikes:
    """What fired.

    Attributes:
        windows: how many were counted.
        populations: in execution order.
        synapses: in execution order.
        analog_ops: multiply-accumulates of a step with samples, which are not spikes.
    """

    windows: int
    populations: tuple[Population, ...]
    synapses: tuple[Synapses, ...]
    analog_ops: int


def driven(program: Program) -> Iterator[tuple[Operation, Driven]]:
    """Operations whose inputs are spikes, in execution order."""
    for operation in program.operations:
        if isinstance(operation.operator, Driven):
            yield operation, operation.operator


def bit_sets(operation: Operation, operator: Driven) -> list[tuple[str, int]]:
    """The bit sets that an operation reads, each with its neurons."""
    if isinstance(operator, SpikeConv2D):
        return [(_port(operation, "s"), operator.neurons)]
    first = operator.inputs.index("s*")
    names = [name for name in operation.inputs[first:] if name is not None]
    return list(zip(names, operator.neurons, strict=True))


def neurons(program: Program) -> Iterator[tuple[Operation, Leaky | Synaptic]]:
    """Operations that update populations, in execution order."""
    for operation in program.operations:
        if isinstance(operation.operator, Leaky | Synaptic):
            yield operation, operation.operator


def element_of(program: Program, operation: Operation) -> str:
    """What an operation's weights are.

    ``float32``, ``int8``, or the element of its coding.
    """
    coding = getattr(operation.operator, "coding", None)
    if coding is not None:
        return str(coding.element)
    return program.tensors[_port(operation, "w")].dtype.value


def count_spikes(program: Program, record: SpikingRecord, windows: Samples) -> Spikes:
    """Run windows and count.

    Args:
        program: of the deployed step.
        record: what the artifact says of it.
        windows: in the dtypes of the program's inputs.
    """
    ones = {
        operation.name: _all_synapses(operator, program.tensors[_port(operation, "w")].shape)
        for operation, operator in driven(program)
    }
    fired = {operation.name: 0 for operation, _ in neurons(program)}
    active = dict.fromkeys(ones, 0)
    met = dict.fromkeys(ones, 0)
    for values in _steps(program, windows):
        for operation, _ in neurons(program):
            fired[operation.name] += _popcount(values[operation.outputs[0]])
        for operation, operator in driven(program):
            sets = [values[name] for name, _ in bit_sets(operation, operator)]
            active[operation.name] += sum(map(_popcount, sets))
            met[operation.name] += ones[operation.name].met(sets)
    steps = len(windows) * (windows.steps or 1)
    return Spikes(
        len(windows),
        tuple(_populations(program, record, fired, steps)),
        tuple(
            _synapses(program, operation, operator, active, met, ones[operation.name].total, steps)
            for operation, operator in driven(program)
        ),
        sum(
            operation.operator.macs(*program.types(operation.inputs))
            for operation in program.operations
            if isinstance(operation.operator, CurrentDense | CurrentConv2D)
        ),
    )


@dataclass(frozen=True, eq=False)
class _Ones:
    """An operator with weights that are all one: its results count the weights that spikes meet.

    Attributes:
        operator: without coding, so that ones are what they are.
        weights: int8, all ones.
        fan: outputs that every input of a dense operator reaches; None of a convolution, where it
            depends on the place.
        total: weights that are met where every input fires.
    """

    operator: Driven
    weights: Array
    fan: int | None
    total: int

    def met(self, sets: Sequence[Array]) -> int:
        """Weights that the spikes of bit sets meet."""
        if self.fan is not None:
            return self.fan * sum(map(_popcount, sets))
        return _met(self.operator, self.weights, sets)


def _met(operator: Driven, weights: Array, sets: Sequence[Array]) -> int:
    """The sum of all results."""
    if isinstance(operator, SpikeConv2D):
        return int(operator.reference(*sets, weights)[0].sum())
    return int(operator.reference(weights, None, *sets)[0].sum())


def _sizes(operator: Driven) -> tuple[int, ...]:
    """Neurons of every bit set that an operator reads."""
    return (operator.neurons,) if isinstance(operator, SpikeConv2D) else operator.neurons


def _all_synapses(operator: Driven, shape: tuple[int, ...]) -> _Ones:
    plain = replace(operator, coding=None)
    weights = np.ones(shape, np.int8)
    sizes = _sizes(operator)
    total = _met(plain, weights, [pack_spikes(np.ones((1, size), np.bool_)) for size in sizes])
    fan = total // sum(sizes) if isinstance(operator, SpikeDense) else None
    return _Ones(plain, weights, fan, total)


def _steps(program: Program, windows: Samples) -> Iterator[Mapping[str, Array]]:
    """Every tensor of every step, the state that it reads included."""
    interpreter = Interpreter(program)
    for window in windows:
        interpreter.reset()
        state = {
            kept.read: np.full(
                program.tensors[kept.read].shape,
                kept.initial,
                program.tensors[kept.read].dtype.numpy,
            )
            for kept in program.state
        }
        for step in steps_of(program, window):
            values: dict[str, Array] = dict(state)
            interpreter.step(step, values.__setitem__)
            yield values
            state = {kept.read: values[kept.write] for kept in program.state}


def _populations(
    program: Program, record: SpikingRecord, fired: Mapping[str, int], steps: int
) -> Iterator[Population]:
    read = {name for op in program.operations for name in op.present_inputs}
    read |= {kept.write for kept in program.state} | {b.tensor for b in program.outputs}
    formats = {kept.operation: kept for kept in record.membranes}
    for operation, operator in neurons(program):
        count = math.prod(program.tensors[_port(operation, "x")].shape[1:])
        spiking = operation.outputs[0] in read
        yield Population(
            name=operation.name,
            neuron=cast(Literal["leaky", "synaptic"], operator.name),
            neurons=count,
            reset=operator.reset,
            spike_rate=fired[operation.name] / (steps * count) if spiking else None,
            membrane=_membrane(formats.get(operation.name)),
        )


def _membrane(record: MembraneRecord | None) -> Membrane:
    if record is None:
        return Membrane("float32")
    return Membrane(
        "int32", record.fraction, record.bound, record.limit, record.unit_low, record.unit_high
    )


def _synapses(
    program: Program,
    operation: Operation,
    operator: Driven,
    active: Mapping[str, int],
    met: Mapping[str, int],
    total: int,
    steps: int,
) -> Synapses:
    element = element_of(program, operation)
    inputs = sum(_sizes(operator))
    octets = (FLOAT_BITS if element == "float32" else FieldFormat.of(element).field.bits) / 8
    return Synapses(
        operation=operation.name,
        inputs=inputs,
        outputs=program.tensors[operation.outputs[0]].type.size,
        weights=program.tensors[_port(operation, "w")].type.size,
        element=element,
        schedule=operator.schedule,
        activity=active[operation.name] / (steps * inputs),
        synaptic_ops=met[operation.name] / steps,
        dense_ops=total,
        bytes_touched=octets * met[operation.name] / steps,
        bytes_dense=math.ceil(octets * total),
    )


def _port(operation: Operation, port: str) -> str:
    """The tensor at an input of an operation."""
    operator: Any = operation.operator
    names = [name.rstrip("?*") for name in operator.inputs]
    name = operation.inputs[names.index(port)]
    assert name is not None
    return name


def _popcount(bits: Array) -> int:
    """Spikes of a bit set, whose unused bits are 0."""
    return int(unpack_spikes(bits, 32 * bits.shape[1]).sum())
