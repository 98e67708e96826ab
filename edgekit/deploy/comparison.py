"""Coded layers: the bytes that they take, and the instructions, beside int8 on the same core.

A smaller format need not be faster: its weights are unpacked before they are multiplied. So the
network is built a second time with int8 weights, and both are counted in emulation, layer by layer,
on the same input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.deploy.benchmark import seeded_inputs
from edgekit.deploy.manifest import CodedLayer
from edgekit.deploy.session import Session
from edgekit.errors import EdgekitError
from edgekit.formats.factors import NAMED_FACTORS
from edgekit.formats.format import SPECIAL
from edgekit.program.fixed_point import MULTIPLIER_BITS, Requant
from edgekit.program.ir import Array, DType, Operation, Program, Tensor
from edgekit.program.operators.coding import Coding
from edgekit.program.operators.convolution import Convolution
from edgekit.program.verify import verify
from edgekit.targets.c.emit import Emission, emit
from edgekit.targets.library import Library
from edgekit.targets.machine import Machine
from edgekit.version import edgekit_version

Opener = Callable[[Library, Path], Machine]
"""Builds a library in a folder and opens it on the target's emulator."""


def coding_of(operation: Operation) -> Coding | None:
    """How an operation's weights are coded; None for plain ones, and where there are none."""
    coding: Coding | None = getattr(operation.operator, "coding", None)
    return coding


def format_name(coding: Coding) -> str:
    """A coding as formats are named.

    >>> format_name(Coding("int4", 32, "uint8")), format_name(Coding("fp4-e2m1", 16, "e4m3"))
    ('int4-g32', 'nvfp4')
    """
    for name, known in SPECIAL.items():
        if (known.element.name, known.group, known.factors) == (
            coding.element,
            coding.group,
            coding.factors,
        ):
            return name
    group = f"-g{coding.group}" if coding.group else ""
    factors = f"-{coding.factors}" if coding.factors in NAMED_FACTORS else ""
    return f"{coding.element}{group}{factors}"


def coded_layers(program: Program) -> tuple[CodedLayer, ...]:
    """Every coded operation of a Program, with what its weights take."""
    layers = []
    for operation in program.operations:
        coding = coding_of(operation)
        if coding is None:
            continue
        rows, columns = _rows(program, operation)
        packed = rows * (coding.format.row_bytes(columns) + coding.groups(columns))
        layers.append(
            CodedLayer(
                operation=operation.name,
                format=format_name(coding),
                weights=rows * columns,
                packed_bytes=packed,
                packed_bits=8 * packed / (rows * columns),
                macs=operation.operator.macs(*program.types(operation.inputs)),
            )
        )
    return tuple(layers)


def counted(
    emission: Emission,
    own: Machine,
    opened: Opener,
    folder: Path,
    *,
    device: str,
    features: frozenset[str],
    seed: int,
) -> tuple[tuple[CodedLayer, ...], tuple[str, ...]]:
    """The coded layers with the instructions of each, beside an int8 layer of the same shape.

    Args:
        emission: the generated code.
        own: that code on a device; it is closed. Nothing is counted where it sees no layers.
        opened: builds and opens the network with int8 weights.
        folder: for that build.
        device: name for messages.
        features: instruction-set features of the target, for the choice of kernels.
        seed: of the input, see :func:`~edgekit.deploy.benchmark.seeded_inputs`.

    Returns:
        The layers, and why there are no figures, where there are none.
    """
    layers = coded_layers(emission.program)
    try:
        coded = _instructions(emission, own, device, seed)
    except EdgekitError as error:
        return layers, (f"no instructions of coded layers: {error}",)
    try:
        plain = emit(int8_twin(emission.program), features=features, version=edgekit_version())
        int8 = _instructions(plain, opened(plain.library, folder), device, seed)
        notes: tuple[str, ...] = ()
    except EdgekitError as error:
        int8, notes = {}, (f"no figures of int8 beside coded layers: {error}",)
    return (
        tuple(
            replace(
                layer,
                instructions=coded[layer.operation],
                int8_instructions=int8.get(layer.operation),
            )
            for layer in layers
        ),
        notes,
    )


def _instructions(emission: Emission, machine: Machine, device: str, seed: int) -> dict[str, int]:
    """Issued instructions by operation; the machine is closed.

    Raises:
        UnsupportedError: the device sees no single layers.
        ToolchainMissingError: what it would count with is not installed.
    """
    with Session(emission.program, emission.library, emission.layers, machine, device) as session:
        counts = session.count_layers(seeded_inputs(emission.program, seed))
    operations = (layer.operation for layer in emission.layers)
    return {name: count.instructions for name, count in zip(operations, counts, strict=True)}


def int8_twin(program: Program) -> Program:
    """The same layers with int8 weights: no coding, no factors, integers clipped to int8.

    What it computes means nothing; what it costs is what int8 costs.

    Raises:
        InvalidModelError: int8 weights cannot be had of it: sums that are too long.
    """
    tensors = dict(program.tensors)
    operations = tuple(_plain(operation, tensors) for operation in program.operations)
    used = {name for op in operations for name in (*op.present_inputs, *op.outputs)}
    used |= {b.tensor for b in (*program.inputs, *program.outputs)}
    used |= {name for s in program.state for name in (s.read, s.write)}
    twin = program.replace(
        tensors={name: t for name, t in tensors.items() if name in used}, operations=operations
    )
    return verify(twin, stage="comparison")


def _plain(operation: Operation, tensors: dict[str, Tensor]) -> Operation:
    """An operation without coding; its new constants are added to `tensors`."""
    coding = coding_of(operation)
    if coding is None:
        return operation
    operator: Any = operation.operator
    changes: dict[str, Any] = {"coding": None}
    if isinstance(operator, Convolution):
        assert operator.requant is not None
        bits = MULTIPLIER_BITS[operator.requant.rounding]
        pairs = zip(operator.requant.multiplier, operator.requant.shift, strict=True)
        factors = [float(np.ldexp(float(m), s - bits)) for m, s in pairs]
        changes["requant"] = Requant.from_real(factors, "double")
    names = [name.rstrip("?") for name in operator.inputs]
    inputs = dict(zip(names, operation.inputs, strict=False)) | {"factors": None}
    for port, dtype in (("w", DType.INT8), ("bias", DType.INT32)):
        name = inputs.get(port)
        if name is not None and tensors[name].dtype.is_integer:
            inputs[port] = f"{name}.{dtype}"
            tensors[f"{name}.{dtype}"] = _narrowed(f"{name}.{dtype}", tensors[name], dtype)
    given = [inputs[name] for name in names if name in inputs]
    while given[-1] is None:
        given.pop()
    return replace(operation, operator=replace(operator, **changes), inputs=tuple(given))


def _narrowed(name: str, tensor: Tensor, dtype: DType) -> Tensor:
    data = tensor.data
    assert data is not None, "coded weights are constants"
    narrow: Array = np.clip(data, *dtype.limits).astype(dtype.numpy)
    return Tensor.constant(name, narrow)


def _rows(program: Program, operation: Operation) -> tuple[int, int]:
    """Rows and columns of an operation's weights."""
    operator: Any = operation.operator
    inputs: Mapping[str, str | None] = dict(zip(operator.inputs, operation.inputs, strict=False))
    data = program.tensors[inputs["w"] or ""].data
    rows, columns = operator.weight_rows(data).shape
    return rows, columns
