"""Bit sets as numbers, their counts over time, and pools over spatial populations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgekit.program.ir import Array, DType, TensorType
from edgekit.program.operators.base import Operator, operator, require
from edgekit.program.operators.convolution import Padding, Pair
from edgekit.program.operators.pooling import MaxPool2D
from edgekit.program.operators.rules import given
from edgekit.program.operators.spiking_bits import (
    bit_set,
    pack_spikes,
    require_bit_set,
    unpack_spikes,
)

VALUE_DTYPES = (DType.INT8, DType.FLOAT32)
"""What spikes can become."""

COUNT_DTYPES = (DType.INT32, DType.FLOAT32)
"""What can count them."""


def _require_choice(dtype: DType, allowed: tuple[DType, ...]) -> None:
    require(dtype in allowed, f"dtype is {dtype}, must be {' or '.join(allowed)}")


@operator("spike_values", inputs="s")
@dataclass(frozen=True, kw_only=True)
class SpikeValues(Operator):
    """The spikes as numbers 0 and 1; y[N, *shape] from the bit set s.

    Attributes:
        shape: of one sample; its product is the number of neurons.
        dtype: of y, int8 or float32.

    >>> SpikeValues(shape=(2, 2), dtype=DType.INT8).reference(np.int32([[0b1001]]))[0].tolist()
    [[[1, 0], [0, 1]]]
    """

    shape: tuple[int, ...]
    dtype: DType = DType.FLOAT32

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y[N, *shape]."""
        _require_choice(self.dtype, VALUE_DTYPES)
        require(
            all(extent >= 1 for extent in self.shape),
            f"shape is {list(self.shape)}, must be positive",
        )
        batch = require_bit_set(given(inputs[0]), math.prod(self.shape))
        return (TensorType((batch, *self.shape), self.dtype),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The numbers."""
        s = given(inputs[0])
        spikes = unpack_spikes(s, math.prod(self.shape))
        return (spikes.reshape(len(s), *self.shape).astype(self.dtype.numpy),)


@operator("spike_count", inputs="s count", in_place=(1,))
@dataclass(frozen=True, kw_only=True)
class SpikeCount(Operator):
    """``y = count + 1`` where a neuron spikes, else count; y and count are [N, neurons].

    int32 stays at its largest number; float32 is rounded once.

    Attributes:
        neurons: of the bit set s.

    >>> SpikeCount(neurons=2).reference(np.int32([[0b10]]), np.int32([[4, 7]]))[0].tolist()
    [[4, 8]]
    """

    neurons: int

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y, as count."""
        s, count = given(inputs[0]), given(inputs[1])
        batch = require_bit_set(s, self.neurons)
        _require_choice(count.dtype, COUNT_DTYPES)
        wanted = (batch, self.neurons)
        require(
            count.shape == wanted, f"count has shape {list(count.shape)}, must be {list(wanted)}"
        )
        return (count,)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The counts."""
        s, count = given(inputs[0]), given(inputs[1])
        spikes = unpack_spikes(s, self.neurons)
        if count.dtype.kind == "f":
            return (count + spikes.astype(np.float32),)
        most = DType.INT32.limits[1]
        return (count + (spikes & (count < most)).astype(np.int32),)


@dataclass(frozen=True, kw_only=True)
class _SpikePool(Operator):
    """The windows that both pools share."""

    input_shape: tuple[int, int, int]
    kernel: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)

    @property
    def neurons(self) -> int:
        """Of the input."""
        return math.prod(self.input_shape)

    @property
    def windows(self) -> MaxPool2D:
        """The same pool over int8."""
        return MaxPool2D(self.kernel, self.stride, self.padding, DType.INT8.limits)

    def _pooled(self, s: TensorType) -> TensorType:
        """[N,OH,OW,C]."""
        require(
            min(self.input_shape) >= 1,
            f"input_shape is {list(self.input_shape)}, must be positive",
        )
        batch = require_bit_set(s, self.neurons)
        return self.windows.infer(TensorType((batch, *self.input_shape), DType.INT8))[0]

    def _under(self, s: Array) -> list[Array]:
        """0 or 1 [N,OH,OW,C] for every element of the window."""
        spikes = unpack_spikes(s, self.neurons).reshape(len(s), *self.input_shape)
        return self.windows._windows(spikes.astype(np.int8), 0)


@operator("spike_max_pool_2d", inputs="s", outputs="s_pooled")
@dataclass(frozen=True, kw_only=True)
class SpikeMaxPool2D(_SpikePool):
    """Whether any neuron under a window spikes; a bit set of [OH,OW,C] from one of [H,W,C].

    Attributes:
        input_shape: H, W, C.
        kernel: height and width of the window.
        stride: step down and right.
        padding: top, left, bottom, right; smaller than the window.

    >>> pool = SpikeMaxPool2D(input_shape=(1, 4, 1), kernel=(1, 2), stride=(1, 2))
    >>> pool.reference(np.int32([[0b1100]]))[0].tolist()
    [[2]]
    """

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """The bit set of [OH,OW,C]."""
        y = self._pooled(given(inputs[0]))
        return (bit_set(y.shape[0], math.prod(y.shape[1:])),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The bit set."""
        s = given(inputs[0])
        found = np.logical_or.reduce(self._under(s))
        return (pack_spikes(found.reshape(len(s), -1)),)


@operator("spike_sum_pool_2d", inputs="s")
@dataclass(frozen=True, kw_only=True)
class SpikeSumPool2D(_SpikePool):
    """How many neurons under a window spike; y[N,OH,OW,C] from the bit set of [H,W,C].

    Attributes:
        input_shape: H, W, C.
        kernel: height and width of the window; of 127 elements at most for int8.
        stride: step down and right.
        padding: top, left, bottom, right; smaller than the window.
        dtype: of y, int8 or float32.

    >>> pool = SpikeSumPool2D(
    ...     input_shape=(1, 4, 1), kernel=(1, 2), stride=(1, 2), dtype=DType.INT8
    ... )
    >>> pool.reference(np.int32([[0b1101]]))[0].ravel().tolist()
    [1, 2]
    """

    dtype: DType = DType.FLOAT32

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y[N,OH,OW,C]."""
        _require_choice(self.dtype, VALUE_DTYPES)
        y = self._pooled(given(inputs[0]))
        most, window = DType.INT8.limits[1], math.prod(self.kernel)
        require(
            not self.dtype.is_integer or window <= most,
            f"kernel {list(self.kernel)} has {window} elements, must have {most} at most for int8",
        )
        return (TensorType(y.shape, self.dtype),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The counts."""
        counts = np.add.reduce(self._under(given(inputs[0])), dtype=np.int32)
        return (counts.astype(self.dtype.numpy),)
