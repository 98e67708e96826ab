"""What the lowering knows about an ONNX value."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgekit.program.ir import Array, Quantization
from edgekit.program.lowering.arrangement import Arrangement


@dataclass(frozen=True)
class Value:
    """An ONNX value in the Program.

    Attributes:
        tensor: name of the Program's tensor.
        arrangement: how the ONNX value's elements lie in it.
        quantization: set where the tensor holds integers and the ONNX value is what they mean,
            that is, behind a DequantizeLinear that has not been carried out.
    """

    tensor: str
    arrangement: Arrangement
    quantization: Quantization | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the ONNX value."""
        return self.arrangement.shape

    def arranged(self, arrangement: Arrangement | None) -> Value:
        """The same elements seen otherwise."""
        assert arrangement is not None
        return replace(self, arrangement=arrangement)


@dataclass(frozen=True, eq=False)
class Weights:
    """A constant operand, float or quantised.

    Attributes:
        data: float32, or int8 with `quantization`.
        quantization: symmetric, per tensor or along one axis; None for float32.
    """

    data: Array
    quantization: Quantization | None = None

    def moved(self, data: Array, axis: int | None = None) -> Weights:
        """Rearranged data; a per-channel scale now runs along `axis`."""
        quantization = self.quantization
        if quantization is not None and quantization.axis is not None:
            quantization = replace(quantization, axis=axis)
        return Weights(data, quantization)


def to_int8(array: Array) -> NDArray[np.int8]:
    """uint8 moved down by 128, int8 as it is.

    >>> to_int8(np.array([0, 128, 255], np.uint8)).tolist()
    [-128, 0, 127]
    """
    if array.dtype == np.uint8:
        return (array.astype(np.int16) - 128).astype(np.int8)
    return array.astype(np.int8)


def is_byte(dtype: onnx_ir.DataType | None) -> bool:
    """Whether integers of an ONNX type fit the Program's int8."""
    return dtype in (onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8)
