"""What the lowering knows about an ONNX value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edgekit.formats import FactorName
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
class Blocks:
    """What each of some coded weights is worth: ``float32(integer · factor) · scale`` of its block.

    Attributes:
        element: name of the weights' number format.
        index: int32, the number of the block of every weight.
        scale: float32 by block.
        factor: int32 by block; None where the scales alone say everything.
        kind: how factors are stored.
    """

    element: str
    index: NDArray[np.int32]
    scale: NDArray[np.float32]
    factor: NDArray[np.int32] | None = None
    kind: FactorName = "none"

    def real(self, integers: Array) -> NDArray[np.float32]:
        """The reals of weights in the shape of `index`."""
        values = integers.astype(np.float32)
        if self.factor is not None:
            values = values * self.factor.astype(np.float32)[self.index]
        return values * self.scale[self.index]


@dataclass(frozen=True, eq=False)
class Weights:
    """A constant operand: float, quantised, or coded.

    Attributes:
        data: float32; int8 with `quantization`; the integers of an element with `blocks`.
        quantization: symmetric, per tensor or along one axis.
        blocks: of coded weights.
        problem: why quantised weights came as float32, empty where they did not.
    """

    data: Array
    quantization: Quantization | None = None
    blocks: Blocks | None = None
    problem: str = field(default="", kw_only=True)

    def moved(self, data: Array, axis: int | None = None) -> Weights:
        """Rearranged data; a per-channel scale now runs along `axis`."""
        quantization = self.quantization
        if quantization is not None and quantization.axis is not None:
            quantization = replace(quantization, axis=axis)
        return Weights(data, quantization, problem=self.problem)

    def rearranged(self, move: Callable[[Array], Array]) -> Weights:
        """Coded or float weights in another order, in which their blocks follow them."""
        blocks = self.blocks
        if blocks is not None:
            blocks = replace(blocks, index=move(blocks.index))
        return replace(self, data=move(self.data), blocks=blocks)


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
