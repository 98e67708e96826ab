"""Tensors of the file: names, types, quantisation, constants."""

from __future__ import annotations

import math
from collections import Counter
from typing import NoReturn

import numpy as np

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.program.ir import Array, DType, Quantization, Tensor
from edgekit.program.tflite.flatbuffer import Table, Tables
from edgekit.program.tflite.node import ACTIVATION_DTYPES, LARGEST_TENSOR
from edgekit.program.tflite.schema import TENSOR_TYPES

DTYPES = tuple(str(dtype) for dtype in DType)
"""Element types that a Program has."""

SMALLEST_SCALE, LARGEST_SCALE = 2.0**-100, 2.0**100
"""Bounds on the scales of quantised tensors, so that products and ratios stay finite."""

ADVICE = {
    "uint8": "; the uint8 scheme is older than int8, convert the model to int8",
    "float16": "; convert the model with float32 or int8 weights",
}
"""What to do about element types that are often met."""


class TensorReader:
    """Opens tensors of the subgraph when they are first used; the others are never looked at.

    Args:
        tables: of the tensors.
        buffers: of the model.
        file: name of the file, for messages.
        allow_int16: see :func:`edgekit.program.tflite.read`.

    Attributes:
        opened: every tensor opened so far, by its name in the Program.
    """

    def __init__(self, tables: Tables, buffers: Tables, file: str, *, allow_int16: bool) -> None:
        self._tables = tables
        self._buffers = buffers
        self._file = file
        self._allow_int16 = allow_int16
        self._names: dict[int, str] = {}
        self._suffixes: Counter[str] = Counter()
        self.opened: dict[str, Tensor] = {}

    def __getitem__(self, index: int) -> Tensor:
        """The tensor at an index of the file.

        Raises:
            InvalidModelError: it contradicts itself or the file.
            UnsupportedError: its type, shape or quantisation is none that a Program has.
        """
        if index not in self._names:
            self._names[index] = self.declare(self._open(index)).name
        return self.opened[self._names[index]]

    def source_name(self, index: int) -> str:
        """The name in the file, for messages and boundaries."""
        if not 0 <= index < len(self._tables):
            raise InvalidModelError(
                f"{self._file}: tensor index {index} is outside 0…{len(self._tables) - 1}"
            )
        return str(self._tables[index]["name"] or f"tensor_{index}")

    def require_static(self, index: int) -> None:
        """Refuse an input with an open extent, but for a batch that the file itself sets to 1.

        Raises:
            UnsupportedError: names the axis.
        """
        shape = self[index].shape
        signature = self._tables[index]["shape_signature"]
        for axis, extent in enumerate(() if signature is None else signature):
            batch_of_one = axis == 0 and len(shape) > 0 and shape[0] == 1
            if extent < 0 and not batch_of_one:
                raise UnsupportedError(
                    f"{self._file}: input {self.source_name(index)!r} is dynamic along axis {axis} "
                    f"of {[int(d) for d in signature]}; convert the model with a fixed size there"
                )

    def declare(self, tensor: Tensor) -> Tensor:
        """Add a tensor, renamed where its name is taken; return it as it was added."""
        name = tensor.name
        while name in self.opened:
            # Counting on from the last suffix keeps thousands of equal names from taking forever.
            self._suffixes[tensor.name] += 1
            name = f"{tensor.name}:{self._suffixes[tensor.name]}"
        if name != tensor.name:
            tensor = Tensor(name, tensor.shape, tensor.dtype, tensor.quantization, tensor.data)
        self.opened[name] = tensor
        return tensor

    def _open(self, index: int) -> Tensor:
        name = self.source_name(index)
        opening = _Opening(self._tables[index], name, f"{self._file}: tensor {index} {name!r}")
        dtype = opening.dtype(allow_int16=self._allow_int16)
        shape = opening.shape(dtype)
        opening.require_plain()
        quantization = opening.quantization(dtype, shape)
        raw = opening.constant_bytes(self._buffers)
        if raw is None:
            return Tensor(name, shape, dtype, quantization)
        expected = math.prod(shape) * dtype.bytes
        if raw.size != expected:
            opening.invalid(
                f"its buffer holds {raw.size} bytes, {dtype}{list(shape)} needs {expected}"
            )
        data = raw.view(dtype.numpy).reshape(shape)
        if not dtype.is_integer and not np.isfinite(data).all():
            where = np.argwhere(~np.isfinite(data))[0]
            opening.invalid(f"holds {data[tuple(where)]} at {where.tolist()}, must be finite")
        return Tensor.constant(name, data, quantization)


class _Opening:
    """One tensor's table while it is being checked."""

    def __init__(self, table: Table, name: str, where: str) -> None:
        self._table = table
        self._name = name
        self._where = where

    def invalid(self, problem: str) -> NoReturn:
        raise InvalidModelError(f"{self._where}: {problem}")

    def unsupported(self, problem: str) -> NoReturn:
        raise UnsupportedError(f"{self._where}: {problem}")

    def dtype(self, *, allow_int16: bool) -> DType:
        code = self._table["type"]
        if not 0 <= code < len(TENSOR_TYPES):
            self.invalid(f"element type {code} must be 0…{len(TENSOR_TYPES) - 1}")
        kind = TENSOR_TYPES[code]
        if kind not in DTYPES:
            supported = ", ".join(d for d in DTYPES if d != "int16")
            self.unsupported(f"{kind} is not supported, {supported} are{ADVICE.get(kind, '')}")
        if kind == "int16" and not allow_int16:
            self.unsupported(
                "16x8 quantisation (int16 activations) is not supported yet; convert the model "
                "to int8"
            )
        return DType(kind)

    def shape(self, dtype: DType) -> tuple[int, ...]:
        extents = self._table["shape"]
        shape = () if extents is None else tuple(int(d) for d in extents)
        for axis, extent in enumerate(shape):
            if extent < 0:
                self.unsupported(
                    f"axis {axis} of {list(shape)} is dynamic; convert the model with a fixed "
                    "size there"
                )
        if math.prod(shape) * dtype.bytes > LARGEST_TENSOR:
            self.unsupported(f"{dtype}{list(shape)} has more than {LARGEST_TENSOR} bytes")
        return shape

    def require_plain(self) -> None:
        """Refuse sparse tensors, variables, and constants outside the buffers."""
        if self._table["is_variable"]:
            self.unsupported("is a variable; models with state are not supported")
        if self._table.has("sparsity"):
            self.unsupported("is sparse; convert the model with dense weights")
        if self._table["external_buffer"] != 0:
            self.unsupported("lies in another file; convert the model into a single file")

    def quantization(self, dtype: DType, shape: tuple[int, ...]) -> Quantization | None:
        table = self._table["quantization"]
        if table is None or not dtype.is_integer:
            return None
        if table["details_type"] != 0:
            self.unsupported("its quantisation is not affine (scale and zero point)")
        scales = table["scale"]
        if scales is None or scales.size == 0:
            return None
        zero_points = table["zero_point"]
        if zero_points is None or zero_points.size == 0:
            zero_points = np.zeros(1, np.int64)
        if zero_points.size not in (1, scales.size):
            self.invalid(
                f"has {scales.size} scales and {zero_points.size} zero points, must be as many"
            )
        self._require_range(dtype, scales, zero_points)
        axis = None
        if scales.size > 1:
            axis = int(table["quantized_dimension"])
            if not 0 <= axis < len(shape) or shape[axis] != scales.size:
                self.invalid(
                    f"has {scales.size} scales along axis {axis}, which does not fit {list(shape)}"
                )
        points = np.broadcast_to(zero_points, scales.shape)
        return Quantization(tuple(float(s) for s in scales), tuple(int(z) for z in points), axis)

    def _require_range(self, dtype: DType, scales: Array, zero_points: Array) -> None:
        if dtype not in ACTIVATION_DTYPES:
            low, high = 0.0, float("inf")
        else:
            low, high = SMALLEST_SCALE, LARGEST_SCALE
        inside = np.isfinite(scales) & (low <= scales) & (scales <= high)
        if not inside.all():
            worst = int(np.argmin(inside))
            self.invalid(f"scale {worst} is {scales[worst]}, must be a number in {low:g}…{high:g}")
        smallest, largest = dtype.limits
        if zero_points.min() < smallest or zero_points.max() > largest:
            self.invalid(f"a zero point does not fit {dtype}")

    def constant_bytes(self, buffers: Tables) -> Array | None:
        """The bytes of a constant; None for a tensor that is computed or fed."""
        index = self._table["buffer"]
        if index == 0:
            return None
        if index >= len(buffers):
            self.invalid(f"buffer {index} is outside 0…{len(buffers) - 1}")
        buffer = buffers[index]
        if buffer["offset"] > 1 or buffer["size"] > 1:
            self.unsupported("its buffer lies behind the flatbuffer, as in models above 2 GiB")
        data: Array | None = buffer["data"]
        return None if data is None or data.size == 0 else data
