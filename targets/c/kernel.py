"""The kernel table: which C function computes which operator, and how it is called.

One entry per kernel, made by :func:`kernel` around a *binding*: a function that turns one
operation into a :class:`Call`, the scalar parameters and pointer arguments of the C function. The
entry feeds dispatch, legality (``edgekit ops``), emission, tests and documentation.

A kernel ``<name>`` lives in ``<name>.c`` and ``<name>.h``. The header declares the parameter
struct ``ek_<name>_params`` and the function ::

    void EK_FN(<name>)(const ek_<name>_params *p, <pointers in the order of Call.arguments>);

A kernel without parameters has no struct and no first argument. Kernels never allocate, keep no
state and include only headers of this folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.program.ir import Array, DType, Operation, Program, Tensor
from edgekit.program.operators.base import Operator

KERNEL_FOLDER = Path(__file__).parent / "kernels"

Scalar = int | float
Parameter = Scalar | Sequence[Scalar]


@dataclass(frozen=True)
class Value:
    """Pointer argument: a tensor of the Program, constant or in the arena."""

    tensor: str


@dataclass(frozen=True, eq=False)
class Derived:
    """Pointer argument: a constant that the binding computed (multipliers, a lookup table).

    Attributes:
        label: short identifier, joined to the operation's in C (``multiplier``).
        data: uint8, int8, int16, int32, int64 or float32 array.
    """

    label: str
    data: Array


@dataclass(frozen=True)
class Scratch:
    """Pointer argument: temporary memory, ``void *``, planned in the arena for this call only."""

    bytes: int


@dataclass(frozen=True)
class Null:
    """Pointer argument: an absent optional input."""


@dataclass(frozen=True)
class PointerTable:
    """Pointer argument: an array of pointers, for operators with any number of inputs or outputs.

    Emitted as ``const void *const[]`` (inputs) or ``void *const[]`` (outputs) built on the stack.
    """

    values: tuple[Value, ...]
    writable: bool = False


Argument = Value | Derived | Scratch | Null | PointerTable


@dataclass(frozen=True)
class Call:
    """How an operation calls its kernel.

    Attributes:
        parameters: fields of ``ek_<name>_params`` in declaration order: Python ints, floats (as
            float32) or sequences of them; nested structs are mappings.
        arguments: pointers in the order of the C prototype.
    """

    parameters: Mapping[str, Parameter | Mapping[str, Parameter]]
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Bound:
    """One operation with its tensors: what a binding works on."""

    operation: Operation
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    @classmethod
    def of(cls, program: Program, operation: Operation) -> Bound:
        """Look the tensors of `operation` up in `program`."""
        return cls(
            operation,
            tuple(None if n is None else program.tensors[n] for n in operation.inputs),
            tuple(program.tensors[n] for n in operation.outputs),
        )

    def input(self, index: int) -> Tensor:
        """An input that must be there."""
        tensor = self.inputs[index]
        assert tensor is not None
        return tensor

    def value(self, index: int) -> Value | Null:
        """Pointer argument for input `index`, Null where it is absent."""
        tensor = self.inputs[index] if index < len(self.inputs) else None
        return Null() if tensor is None else Value(tensor.name)

    def result(self, index: int = 0) -> Value:
        """Pointer argument for output `index`."""
        return Value(self.outputs[index].name)


Binding = Callable[[Bound], Call]


@dataclass(frozen=True)
class Kernel:
    """An entry of the table.

    Attributes:
        name: ``<operator>_<dtype>`` or ``<operator>_<variant>_<dtype>``; also the file's name.
        operator: name of the operator.
        dtype: dtype of the operator's first input.
        binding: operation to call.
        accepts: further condition on the operation (None: every one).
        features: instruction-set features that the target must have; empty for portable C.
        folder: where ``<name>.c`` and ``<name>.h`` lie.
        needs: further files from the same folder (headers, shared helpers) to copy.
    """

    name: str
    operator: str
    dtype: DType
    binding: Binding
    accepts: Callable[[Bound], bool] | None = None
    features: frozenset[str] = frozenset()
    folder: Path = KERNEL_FOLDER
    needs: tuple[str, ...] = field(default=())


KERNELS: list[Kernel] = []
"""Every kernel; among those that fit, the one with most features wins, then the later one."""


def kernel(
    name: str,
    operator: type[Operator],
    dtype: DType,
    *,
    accepts: Callable[[Bound], bool] | None = None,
    features: frozenset[str] = frozenset(),
    folder: Path = KERNEL_FOLDER,
    needs: tuple[str, ...] = (),
) -> Callable[[Binding], Binding]:
    """Register a kernel for `operator` on `dtype`; decorates its binding. See :class:`Kernel`.

    One binding may serve several kernels; stack the decorators.
    """

    def register(binding: Binding) -> Binding:
        entry = (name, operator.name, dtype)
        if any((k.name, k.operator, k.dtype) == entry for k in KERNELS):
            raise ValueError(
                f"kernel {name!r} is registered already for {operator.name!r} on {dtype}"
            )
        KERNELS.append(
            Kernel(name, operator.name, dtype, binding, accepts, features, folder, needs)
        )
        return binding

    return register


def select(bound: Bound, features: frozenset[str] = frozenset()) -> Kernel:
    """The best kernel for an operation on a target with `features`.

    Raises:
        UnsupportedError: no kernel fits; names the operation and what is supported.
    """
    name = bound.operation.operator.name
    dtype = bound.input(0).dtype
    fitting = [
        (len(k.features), i, k)
        for i, k in enumerate(KERNELS)
        if k.operator == name
        and k.dtype == dtype
        and k.features <= features
        and (k.accepts is None or k.accepts(bound))
    ]
    if not fitting:
        known = sorted({str(k.dtype) for k in KERNELS if k.operator == name})
        raise UnsupportedError(
            f"{bound.operation.name}: no kernel for {name} on {dtype}; "
            f"{name} is supported on {', '.join(known) or 'nothing'}"
        )
    return max(fitting)[2]


def channel_constants(requant_values: Sequence[int], channels: int, dtype: str) -> Array:
    """Per-channel constants, a single value repeated for every channel."""
    values = np.asarray(requant_values, dtype)
    return np.broadcast_to(values, (channels,)).copy() if values.size == 1 else values
