"""The Program: the small, typed, NHWC form that the interpreter runs and the C back end emits.

A :class:`Program` is a value. It holds tensors (constant or computed), operations in execution
order, named inputs and outputs, and state. Everything integer about an operation (zero points,
multipliers, shifts, clamps) is in the operation's fields, so that its meaning does not depend on
the scales that tensors carry; those describe the boundary and the reports.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edgekit.program.operators.base import Operator

Array = NDArray[Any]


class DType(StrEnum):
    """Element type of a tensor.

    >>> DType.INT8.bytes, DType.INT8.c_type, DType.FLOAT32.suffix
    (1, 'int8_t', 'f32')
    """

    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT32 = "float32"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype, little-endian."""
        return np.dtype(self.value).newbyteorder("<")

    @property
    def bytes(self) -> int:
        """Size of one element in bytes."""
        return self.numpy.itemsize

    @property
    def c_type(self) -> str:
        """Spelling in generated C."""
        return "float" if self is DType.FLOAT32 else f"{self.value}_t"

    @property
    def suffix(self) -> str:
        """Suffix of kernel names: ``s8``, ``s16``, ``s32``, ``s64``, ``f32``."""
        return "f32" if self is DType.FLOAT32 else f"s{8 * self.bytes}"

    @property
    def is_integer(self) -> bool:
        """Whether values are integers."""
        return self is not DType.FLOAT32

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest value of an integer type.

        >>> DType.INT8.limits
        (-128, 127)
        """
        info = np.iinfo(self.value)
        return int(info.min), int(info.max)


@dataclass(frozen=True)
class Quantization:
    """Affine meaning of integers: ``real = scale * (q - zero_point)``.

    Attributes:
        scale: float32 values, one, or one per index of `axis`.
        zero_point: as many integers as scales.
        axis: the axis that the scales run along; None for one scale per tensor.

    >>> Quantization.per_tensor(0.5, -3)
    Quantization(scale=(0.5,), zero_point=(-3,), axis=None)
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    def __post_init__(self) -> None:
        assert len(self.scale) == len(self.zero_point) >= 1
        assert self.axis is not None or len(self.scale) == 1

    @classmethod
    def per_tensor(cls, scale: float, zero_point: int = 0) -> Quantization:
        """One scale, rounded to float32, and one zero point."""
        return cls((float(np.float32(scale)),), (int(zero_point),))

    @property
    def scalar_scale(self) -> float:
        """The scale of a per-tensor quantisation."""
        assert self.axis is None
        return self.scale[0]

    @property
    def scalar_zero_point(self) -> int:
        """The zero point of a per-tensor quantisation."""
        assert self.axis is None
        return self.zero_point[0]


@dataclass(frozen=True)
class TensorType:
    """Shape and element type: what shape rules work on."""

    shape: tuple[int, ...]
    dtype: DType

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Number of bytes.

        >>> TensorType((1, 25, 5, 64), DType.INT8).bytes
        8000
        """
        return self.size * self.dtype.bytes


@dataclass(frozen=True, eq=False)
class Tensor:
    """A named value: constant when `data` is there, else computed or fed.

    Attributes:
        name: unique in the Program; any text (it comes from users' models).
        shape: static; activations keep the model's batch of 1 as first axis.
        dtype: element type.
        quantization: what the integers mean, where known. Metadata: operators do not read it.
        data: the constant, C-contiguous, of `shape` and `dtype`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    quantization: Quantization | None = None
    data: Array | None = None

    @property
    def type(self) -> TensorType:
        """Shape and dtype."""
        return TensorType(self.shape, self.dtype)

    @property
    def is_constant(self) -> bool:
        """Whether the value is known now."""
        return self.data is not None

    @property
    def bytes(self) -> int:
        """Number of bytes."""
        return self.type.bytes

    @classmethod
    def constant(cls, name: str, data: Array, quantization: Quantization | None = None) -> Tensor:
        """A constant; the array is copied, made contiguous and read-only."""
        dtype = DType(np.dtype(data.dtype).name)
        array = np.array(data, dtype=dtype.numpy, order="C", copy=True)
        array.setflags(write=False)
        return cls(name, tuple(int(d) for d in array.shape), dtype, quantization, array)


@dataclass(frozen=True)
class Operation:
    """One use of an operator.

    Attributes:
        name: unique label, usually the source model's node name.
        operator: the operator with its fields.
        inputs: tensor names in the operator's order; None where an optional input is absent.
        outputs: tensor names.
    """

    name: str
    operator: Operator
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]

    @property
    def present_inputs(self) -> tuple[str, ...]:
        """The inputs that are there."""
        return tuple(name for name in self.inputs if name is not None)


@dataclass(frozen=True)
class State:
    """A buffer that survives between steps.

    Attributes:
        read: tensor that holds the state during a step.
        write: tensor whose value becomes the state after the step.
        initial: value of every element after `reset`.
    """

    read: str
    write: str
    initial: float = 0


@dataclass(frozen=True)
class Boundary:
    """How an input or output looked in the source model.

    Attributes:
        tensor: name in the Program.
        name: name in the source model, the one users see.
        source_shape: shape in the source model.
        permutation: axes that take the source's array to the Program's,
            ``program = source.transpose(permutation)``; None where they are the same.
    """

    tensor: str
    name: str
    source_shape: tuple[int, ...]
    permutation: tuple[int, ...] | None = None

    @property
    def layout(self) -> str:
        """Source layout in words: ``NCHW``, ``NCW``, ``NHWC`` (rank 4 as it is) or ``as is``."""
        if self.permutation is not None:
            return {3: "NCW", 4: "NCHW"}.get(len(self.permutation), "permuted")
        return "NHWC" if len(self.source_shape) == 4 else "as is"


@dataclass(frozen=True)
class Program:
    """A network in execution order.

    Attributes:
        name: identifier-like name of the network.
        tensors: every tensor by name.
        operations: in execution order.
        inputs: what `run` is fed, in the source model's order.
        outputs: what `run` returns, in the source model's order.
        state: buffers that survive between steps.
        source: free text: where the Program came from (file name and hash).
    """

    name: str
    tensors: Mapping[str, Tensor]
    operations: tuple[Operation, ...]
    inputs: tuple[Boundary, ...]
    outputs: tuple[Boundary, ...]
    state: tuple[State, ...] = ()
    source: str = field(default="", compare=False)

    @property
    def input_tensors(self) -> tuple[Tensor, ...]:
        """The fed tensors."""
        return tuple(self.tensors[b.tensor] for b in self.inputs)

    @property
    def output_tensors(self) -> tuple[Tensor, ...]:
        """The returned tensors."""
        return tuple(self.tensors[b.tensor] for b in self.outputs)

    def types(self, names: tuple[str | None, ...]) -> tuple[TensorType | None, ...]:
        """Types of tensors by name; None stays None."""
        return tuple(None if n is None else self.tensors[n].type for n in names)

    def consumers(self, tensor: str) -> Iterator[Operation]:
        """Operations that read a tensor."""
        return (op for op in self.operations if tensor in op.inputs)

    def producer(self, tensor: str) -> Operation | None:
        """The operation that writes a tensor, if one does."""
        return next((op for op in self.operations if tensor in op.outputs), None)

    def replace(self, **changes: Any) -> Program:
        """A copy with some attributes changed."""
        return replace(self, **changes)
