"""One operator of the file, as the readers of builtin operators see it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol, TypeVar, cast

import numpy as np

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.program.fixed_point import Activation
from edgekit.program.ir import Array, DType, Operation, Quantization, Tensor, TensorType
from edgekit.program.operators.base import Operator, OperatorError
from edgekit.program.tflite.flatbuffer import Fields, Scalar, Table
from edgekit.program.tflite.schema import ACTIVATIONS, PADDINGS

T = TypeVar("T", bound=Operator)

ACTIVATION_DTYPES = (DType.INT8, DType.INT16, DType.FLOAT32)
"""Dtypes that networks compute with; int32 and int64 are for biases and indices."""

SCALE_TOLERANCE = 1e-6
"""Relative difference up to which two scales count as one, as in the reference kernels."""

LARGEST_TENSOR = 2**31 - 1
"""Most bytes of a tensor: offsets into it must fit the 32 bits of a microcontroller."""


class Sink(Protocol):
    """The graph under construction."""

    def declare(self, tensor: Tensor) -> Tensor:
        """Add a tensor under a name that is still free; return it as it was added."""

    def append(self, operation: Operation) -> None:
        """Add an operation whose tensors are declared."""


@dataclass(frozen=True)
class Node:
    """One operator of the file with its tensors.

    Attributes:
        where: how messages call it, with the file: ``kws.tflite: operator 3 (CONV_2D)``.
        inputs: its tensors, None where an optional one is absent.
        outputs: its tensors.
        options: its option table; None where absent, or where its reader declares none.
        fields: declaration of the option table.
        sink: where its operations go.
        dequantize_weights: see :func:`edgekit.program.tflite.read`.
    """

    where: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Table | None
    fields: Fields
    sink: Sink
    dequantize_weights: bool

    def invalid(self, problem: str) -> NoReturn:
        """Refuse a node that contradicts the format."""
        raise InvalidModelError(f"{self.where}: {problem}")

    def unsupported(self, problem: str) -> NoReturn:
        """Refuse a node that the format allows."""
        raise UnsupportedError(f"{self.where}: {problem}")

    # Tensors

    def optional(self, index: int) -> Tensor | None:
        """An input, None where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def input(self, index: int, *, rank: int | None = None) -> Tensor:
        """An input that must be there, without empty dimensions, of `rank` where given."""
        tensor = self.optional(index)
        if tensor is None:
            self.invalid(f"input {index} is absent, must be there")
        self.require_shape(tensor, rank)
        return tensor

    def require_shape(self, tensor: Tensor, rank: int | None) -> None:
        """Refuse empty dimensions and, where given, another rank."""
        if rank is not None and len(tensor.shape) != rank:
            self.invalid(f"{tensor.name!r} has shape {list(tensor.shape)}, must have rank {rank}")
        if 0 in tensor.shape:
            self.invalid(f"{tensor.name!r} has shape {list(tensor.shape)}, must not be empty")

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.outputs[0]

    @property
    def is_quantized(self) -> bool:
        """Whether the result is integer; refuses dtypes that networks do not compute with."""
        dtype = self.output.dtype
        if dtype not in ACTIVATION_DTYPES:
            self.unsupported(
                f"output {self.output.name!r} is {dtype}; supported are "
                f"{', '.join(ACTIVATION_DTYPES)}"
            )
        return dtype.is_integer

    def integers(self, index: int) -> tuple[int, ...]:
        """The values of a constant int32 or int64 input, flattened."""
        tensor = self.optional(index)
        if tensor is None:
            self.invalid(f"input {index} is absent, must be there")
        if tensor.data is None:
            self.unsupported(f"input {index}, {tensor.name!r}, is computed, must be constant")
        if tensor.dtype not in (DType.INT32, DType.INT64):
            self.invalid(f"{tensor.name!r} is {tensor.dtype}, must be int32 or int64")
        return tuple(int(v) for v in tensor.data.ravel())

    def integer(self, index: int) -> int:
        """The value of a constant integer input of one element."""
        values = self.integers(index)
        if len(values) != 1:
            self.invalid(f"input {index} has {len(values)} elements, must have one")
        return values[0]

    def axis(self, axis: int, rank: int) -> int:
        """`axis` counted from the front."""
        if not -rank <= axis < rank:
            self.invalid(f"axis {axis} is outside {-rank}…{rank - 1}")
        return axis % rank

    # Options

    def option(self, name: str) -> Any:
        """A field of the options, its default where it or the whole table is absent."""
        if self.options is not None:
            return self.options[name]
        field = self.fields[name]
        return field.default if isinstance(field, Scalar) else None

    def activation(self) -> Activation:
        """The fused activation."""
        return cast("Activation", self._choice("fused_activation", ACTIVATIONS, ACTIVATIONS[:4]))

    def same_padding(self) -> bool:
        """Whether the padding is SAME, else VALID."""
        return self._choice("padding", PADDINGS, PADDINGS) == "same"

    def _choice(self, option: str, names: Sequence[str], supported: Sequence[str]) -> str:
        code = self.option(option)
        if not 0 <= code < len(names):
            self.invalid(f"{option} is {code}, must be 0…{len(names) - 1}")
        if names[code] not in supported:
            self.unsupported(f"{option} is {names[code]}; supported are {', '.join(supported)}")
        return names[int(code)]

    # Quantisation

    def per_tensor(self, tensor: Tensor) -> Quantization:
        """The quantisation of an activation, which must be there and have one scale."""
        quantization = self._quantization(tensor)
        if quantization.axis is not None:
            self.unsupported(
                f"{tensor.name!r} has {len(quantization.scale)} scales along axis "
                f"{quantization.axis}; activations must have one"
            )
        zero_point = quantization.scalar_zero_point
        if tensor.dtype is DType.INT16 and zero_point != 0:
            self.invalid(f"{tensor.name!r} has zero point {zero_point}, must be 0 for int16")
        return quantization

    def _quantization(self, tensor: Tensor) -> Quantization:
        if tensor.quantization is None:
            self.invalid(f"{tensor.name!r} is {tensor.dtype} without scale and zero point")
        return tensor.quantization

    def same_quantization(self, *tensors: Tensor) -> None:
        """Refuse quantised tensors that differ in scale or zero point; others pass."""
        first = tensors[0]
        if first.quantization is None or first.dtype not in (DType.INT8, DType.INT16):
            return
        expected = self.per_tensor(first)
        for tensor in tensors[1:]:
            got = self.per_tensor(tensor)
            near = math.isclose(
                got.scalar_scale, expected.scalar_scale, rel_tol=SCALE_TOLERANCE, abs_tol=0
            )
            if not near or got.zero_point != expected.zero_point:
                self.invalid(
                    f"{tensor.name!r} (scale {got.scalar_scale:g}, zero point "
                    f"{got.scalar_zero_point}) must be quantised as {first.name!r} (scale "
                    f"{expected.scalar_scale:g}, zero point {expected.scalar_zero_point})"
                )

    def weights(self, index: int, *, rank: int, axis: int) -> Tensor:
        """Constant weights that go with the output's dtype.

        Args:
            index: of the input.
            rank: that it must have.
            axis: along which its scales must run, where it has several.
        """
        w = self.input(index, rank=rank)
        if w.data is None:
            self.unsupported(f"weights {w.name!r} are computed, must be constant")
        if not self.is_quantized:
            if w.dtype is not DType.INT8:
                return w
            if not self.dequantize_weights:
                self.unsupported(
                    f"hybrid: float32 activations with int8 weights {w.name!r}; convert the model "
                    "to full int8 or to float32, or read it with dequantize_weights=True"
                )
        quantization = self._quantization(w)
        if quantization.axis not in (None, axis):
            self.unsupported(
                f"weights {w.name!r} have scales along axis {quantization.axis}, must be {axis}"
            )
        if any(quantization.zero_point):
            self.unsupported(f"weights {w.name!r} have zero points other than 0")
        return w if self.is_quantized else self._dequantized(w.name, w.data, quantization)

    def _dequantized(self, name: str, data: Array, quantization: Quantization) -> Tensor:
        shape = [1] * data.ndim
        if quantization.axis is not None:
            shape[quantization.axis] = -1
        scale = np.array(quantization.scale, "<f4").reshape(shape)
        return self.constant(f"{name}:float32", data.astype("<f4") * scale)

    # Emission

    def make(self, constructor: Callable[..., T], **fields: Any) -> T:
        """Build an operator; what its constructor refuses is refused with our place in the file."""
        try:
            with np.errstate(over="ignore"):
                return constructor(**fields)
        except OperatorError as error:
            self.invalid(str(error))
        except UnsupportedError as error:
            self.unsupported(str(error))
        except OverflowError:
            self.invalid("its scales are too far apart for fixed-point arithmetic")

    def constant(self, name: str, data: Array, quantization: Quantization | None = None) -> Tensor:
        """A new constant under a free name made from `name`."""
        return self.sink.declare(Tensor.constant(name, data, quantization))

    def intermediate(self, operator: Operator, *inputs: Tensor, like: Tensor) -> Tensor:
        """Emit `operator` into a new tensor quantised as `like`; return the tensor."""
        (kind,) = self._infer(operator, inputs)
        name = f"{self.output.name}:{operator.name}"
        made = self.sink.declare(
            replace(like, name=name, shape=kind.shape, dtype=kind.dtype, data=None)
        )
        self._append(operator, inputs, (made,))
        return made

    def emit(self, operator: Operator, *inputs: Tensor | None) -> None:
        """Emit `operator`, which writes the node's outputs."""
        inferred = self._infer(operator, inputs)
        declared = tuple(tensor.type for tensor in self.outputs)
        if inferred != declared:
            self.invalid(
                f"gives {_words(inferred)}, but {[t.name for t in self.outputs]} "
                f"is declared as {_words(declared)}"
            )
        self._append(operator, inputs, self.outputs)

    def _infer(self, operator: Operator, inputs: Sequence[Tensor | None]) -> tuple[TensorType, ...]:
        try:
            types = operator.infer(*(None if t is None else t.type for t in inputs))
        except OperatorError as error:
            self.invalid(str(error))
        for kind in types:
            if kind.bytes > LARGEST_TENSOR:
                self.unsupported(f"gives {_words(types)}, more than {LARGEST_TENSOR} bytes")
        return types

    def _append(
        self, operator: Operator, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]
    ) -> None:
        self.sink.append(
            Operation(
                outputs[0].name,
                operator,
                tuple(None if t is None else t.name for t in inputs),
                tuple(t.name for t in outputs),
            )
        )


def _words(types: Sequence[TensorType]) -> str:
    """Types as messages show them.

    >>> _words([TensorType((1, 2), DType.INT8)])
    'int8[1, 2]'
    """
    return ", ".join(f"{t.dtype}{list(t.shape)}" for t in types)
