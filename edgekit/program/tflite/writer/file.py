"""The file under construction, and one operation of it as its writer sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from edgekit.program.fixed_point import (
    FLOAT64_ACCUMULATOR_LIMIT,
    FLOAT_ACTIVATIONS,
    MULTIPLIER_BITS,
    Activation,
    Requant,
    activation_clamp,
)
from edgekit.program.ir import Array, DType, Operation, Program, Quantization, Tensor
from edgekit.program.names import free_name
from edgekit.program.operators.rules import Clamp
from edgekit.program.problems import UnwritableError
from edgekit.program.tflite.reader import NO_TENSOR
from edgekit.program.tflite.schema import (
    ACTIVATIONS,
    BUILTINS,
    IDENTIFIER,
    MODEL,
    OPTIONS,
    TENSOR_TYPES,
    VERSION,
)
from edgekit.program.tflite.writer.build import Union, Values, build
from edgekit.program.tflite.writer.versions import MOST_RANKS, VERSIONS

HIGHEST_OLD_CODE = 127
"""Operator codes above it do not fit the schema's first field for them."""

Inputs = Sequence[int | Tensor | None]
"""Inputs of a builtin operator: tensors of the Program, or indices; None for an absent one."""

LARGEST_RESULT = 2**30
"""Results below it leave room in int32 for a zero point."""


class TFLiteFile:
    """A ``.tflite`` file under construction.

    Args:
        program: what is written.
        names: how its fed and computed tensors are called in the file.
    """

    def __init__(self, program: Program, names: Mapping[str, str]) -> None:
        self.program = program
        self._names = names
        self._taken = set(names.values())
        self._indices: dict[tuple[str, str], int] = {}
        self._tensors: list[Values] = []
        # Buffer 0 is empty: it stands for tensors that are computed.
        self._buffers: list[Values] = [{}]
        self._codes: dict[tuple[int, int], int] = {}
        self._operators: list[Values] = []

    def index(self, tensor: Tensor, form: str = "") -> int:
        """Index of a tensor, added when it is first asked for.

        Args:
            tensor: of the Program, maybe changed in shape, data or quantisation.
            form: tells several changed forms of one tensor apart.
        """
        key = (tensor.name, form)
        if key not in self._indices:
            name = self._names.get(tensor.name) or self._free(tensor.name)
            self._indices[key] = self._add(name, tensor)
        return self._indices[key]

    def constant(self, name: str, array: Array, quantization: Quantization | None = None) -> int:
        """Index of a new constant that the Program has as a field."""
        return self._add(self._free(name), Tensor.constant(name, array, quantization))

    def _free(self, wanted: str) -> str:
        """A name that no tensor of the file has."""
        name = free_name(wanted, self._taken)
        self._taken.add(name)
        return name

    def _add(self, name: str, tensor: Tensor) -> int:
        buffer = 0
        if tensor.data is not None:
            data = np.ascontiguousarray(tensor.data, tensor.dtype.numpy)
            self._buffers.append({"data": data.reshape(-1).view(np.uint8)})
            buffer = len(self._buffers) - 1
        self._tensors.append(
            {
                "shape": tensor.shape,
                "type": TENSOR_TYPES.index(tensor.dtype),
                "buffer": buffer,
                "name": name,
                "quantization": _quantization(tensor.quantization),
            }
        )
        return len(self._tensors) - 1

    def operator(
        self,
        builtin: str,
        version: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: tuple[str, Values] | None,
    ) -> None:
        """Add an operator.

        Args:
            builtin: its name in the schema.
            version: see :mod:`edgekit.program.tflite.writer.versions`.
            inputs: tensor indices.
            outputs: tensor indices.
            options: name in :data:`edgekit.program.tflite.schema.OPTIONS`, and values.
        """
        code = self._codes.setdefault((BUILTINS.index(builtin), version), len(self._codes))
        kind, values = (0, None) if options is None else _options(*options)
        self._operators.append(
            {
                "opcode_index": code,
                "inputs": inputs,
                "outputs": outputs,
                "builtin_options_type": kind,
                "builtin_options": values,
            }
        )

    def to_bytes(self, inputs: Sequence[int], outputs: Sequence[int], description: str) -> bytes:
        """The finished file."""
        graph = {
            "tensors": self._tensors,
            "inputs": inputs,
            "outputs": outputs,
            "operators": self._operators,
            "name": self.program.name,
        }
        codes = [
            {
                "deprecated_builtin_code": min(builtin, HIGHEST_OLD_CODE),
                "version": version,
                "builtin_code": builtin,
            }
            for builtin, version in self._codes
        ]
        model = {
            "version": VERSION,
            "operator_codes": codes,
            "subgraphs": [graph],
            "description": description,
            "buffers": self._buffers,
        }
        return build(MODEL, model, IDENTIFIER)


def _quantization(quantization: Quantization | None) -> Values | None:
    if quantization is None:
        return None
    return {
        "scale": quantization.scale,
        "zero_point": quantization.zero_point,
        "quantized_dimension": quantization.axis or 0,
    }


def _options(name: str, values: Values) -> tuple[int, Union]:
    number, fields = OPTIONS[name]
    return number, Union(fields, values)


class Writing:
    """One operation while it is written.

    Args:
        file: where it goes.
        operation: of the Program.

    Attributes:
        operator: the operation's.
        inputs: its tensors, None where an optional one is absent.
        outputs: its tensors.
    """

    def __init__(self, file: TFLiteFile, operation: Operation) -> None:
        tensors = file.program.tensors
        self._file = file
        self._name = operation.name
        self.operator: Any = operation.operator
        self.inputs = tuple(None if n is None else tensors[n] for n in operation.inputs)
        self.outputs = tuple(tensors[n] for n in operation.outputs)

    def refuse(self, reason: str) -> NoReturn:
        """Say why TFLite cannot say the operation."""
        raise UnwritableError(reason)

    def input(self, index: int) -> Tensor:
        """An input that is not optional."""
        tensor = self.inputs[index]
        assert tensor is not None
        return tensor

    def optional(self, index: int) -> Tensor | None:
        """An input, None where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    @property
    def is_quantized(self) -> bool:
        """Whether the result is int8 or int16."""
        return self.outputs[0].dtype in (DType.INT8, DType.INT16)

    def quantization(self, tensor: Tensor) -> Quantization:
        """What the integers of a tensor mean, which must be known."""
        if tensor.quantization is None:
            self.refuse(f"{tensor.name!r} is {tensor.dtype} without scale and zero point")
        if tensor.dtype is DType.INT16 and any(tensor.quantization.zero_point):
            self.refuse(f"{tensor.name!r} is int16 with a zero point; TFLite's int16 has none")
        return tensor.quantization

    def per_tensor(self, tensor: Tensor) -> Quantization:
        """The quantisation of an activation, which must have one scale."""
        quantization = self.quantization(tensor)
        if quantization.axis is not None:
            self.refuse(f"{tensor.name!r} has several scales, must have one")
        return quantization

    def need_scales(self) -> None:
        """Refuse int8 and int16 tensors without scale and zero point."""
        for tensor in (*self.inputs, *self.outputs):
            if tensor is not None and tensor.dtype in (DType.INT8, DType.INT16):
                self.quantization(tensor)

    def need_int32(self, accumulator: float, requant: Requant | None) -> None:
        """Refuse results that may leave int32, which TFLite's kernels do not define.

        Args:
            accumulator: largest magnitude of what is requantised.
            requant: how it is; None for float32, which passes.
        """
        if requant is None:
            return
        bits = MULTIPLIER_BITS[requant.rounding]
        factor = max(
            math.ldexp(m, s - bits) for m, s in zip(requant.multiplier, requant.shift, strict=True)
        )
        if accumulator * factor >= LARGEST_RESULT or accumulator >= FLOAT64_ACCUMULATOR_LIMIT:
            self.refuse(
                f"accumulators up to {accumulator:.3g} times {factor:.3g} may leave int32, where "
                "TFLite's kernel is undefined"
            )

    def integers(self, values: Sequence[int], name: str, *, scalar: bool = False) -> int:
        """Index of an int32 constant made from a field."""
        array = np.array(values[0] if scalar else values, np.int32)
        return self._file.constant(f"{self._name}.{name}", array)

    def value_like(self, tensor: Tensor, value: float, name: str) -> int:
        """Index of a constant of one element, of dtype and quantisation of `tensor`."""
        array = np.array([value], tensor.dtype.numpy)
        return self._file.constant(f"{self._name}.{name}", array, tensor.quantization)

    def changed(self, tensor: Tensor, form: str, **changes: Any) -> int:
        """Index of a tensor in another form; see :meth:`TFLiteFile.index`."""
        return self._file.index(replace(tensor, **changes), form)

    def activation(self, clamp: Clamp | None) -> int:
        """Number of the fused activation that lets through what `clamp` does.

        Args:
            clamp: a field of the operator, for float32 or in units of the first output.
        """
        fitting = [name for name in FLOAT_ACTIVATIONS if clamp == self.clamp_of(name)]
        if not fitting:
            self.refuse(
                f"its clamp {None if clamp is None else list(clamp)} is no fused activation of "
                f"TFLite ({', '.join(FLOAT_ACTIVATIONS)})"
            )
        return ACTIVATIONS.index(fitting[0])

    def clamp_of(self, name: Activation) -> Clamp | None:
        """Bounds of the first output that an activation stands for."""
        y = self.outputs[0]
        if not y.dtype.is_integer:
            return None if name == "none" else FLOAT_ACTIVATIONS[name]
        q = self.per_tensor(y)
        return activation_clamp(name, q.scalar_scale, q.scalar_zero_point, y.dtype.limits)

    def emit(
        self,
        builtin: str,
        inputs: Inputs,
        options: tuple[str, Values] | None = None,
        *,
        data: int = 0,
        since: int = 1,
    ) -> None:
        """Write the operation as a builtin operator.

        Args:
            builtin: its name in the schema.
            inputs: see :data:`Inputs`; absent ones at the end are left out.
            options: name of the option table, and its values.
            data: which input of the operation decides on kernel and version by its dtype.
            since: version that what the operation needs came with, besides its dtype.
        """
        x = self.input(data)
        versions = VERSIONS[builtin]
        if x.dtype not in versions:
            self.refuse(
                f"TFLite's {builtin} has no kernel for {x.dtype}; it has for {', '.join(versions)}"
            )
        rank, most = len(x.shape), MOST_RANKS.get(builtin, len(x.shape))
        if rank > most:
            self.refuse(f"TFLite's {builtin} takes ranks up to {most}, {x.name!r} has {rank}")
        given = list(inputs)
        while given[-1] is None:
            given.pop()
        indices = [
            NO_TENSOR if i is None else self._file.index(i) if isinstance(i, Tensor) else i
            for i in given
        ]
        outputs = [self._file.index(tensor) for tensor in self.outputs]
        self._file.operator(builtin, max(versions[x.dtype], since), indices, outputs, options)
