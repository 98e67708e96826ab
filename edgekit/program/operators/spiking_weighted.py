"""Weighted sums into spiking neurons: of spikes, and of the samples of a sensor.

What comes out is the *current* of the neurons behind: an exact integer in int32, in steps of one
weight's scale (times the input's), or float32. There is no bias, no requantisation and no clamp
here; the neuron has them. `acc`, where it is there, is the current so far: networks whose neurons
have several inputs chain such operations.

Integers add up in two's complement, so that order does not matter; whoever makes a Program sees to
it that no current leaves int32. Float sums begin with ``acc + 0``, or 0, and go on one by one in
ascending order of the input: of spikes the weights of those that are there, of samples the
products. (+0 at the start: no sum is -0 then, so that adding ``0 * weight`` changes nothing.)

Coded weights hold the levels of an :class:`~edgekit.formats.Element` that int8 can hold, without
factors per group: the scale of a neuron is one number, in its threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgekit.program.ir import Array, DType, TensorType
from edgekit.program.operators.base import (
    Operator,
    operator,
    require,
    require_dtype,
    require_rank,
)
from edgekit.program.operators.coding import Coding
from edgekit.program.operators.convolution import Padding, Pair
from edgekit.program.operators.rules import given
from edgekit.program.operators.spiking_bits import require_bit_set, unpack_spikes
from edgekit.program.operators.spiking_sums import (
    Window,
    added,
    begun,
    current_dtype,
    finished,
    operand,
    require_acc,
    require_groups,
    require_sample,
    require_terms,
    require_weights,
)

Schedule = Literal["event", "dense"]
"""``event``: only the weights of active inputs are read; ``dense``: all are multiplied with 0 or 1.
The result is the same to the bit."""


@dataclass(frozen=True, kw_only=True)
class _Dense(Operator):
    """What both dense sums share."""

    groups: int = 1
    coding: Coding | None = None

    def weight_rows(self, w: Array) -> Array:
        """Weights [O,K/groups], in the order of the sum."""
        return w

    def constants_problem(self, constants: dict[str, Array]) -> str | None:
        """Weights are constants: kernels want them rearranged."""
        return None if "w" in constants else "w is computed, must be constant"

    def _outputs(self, w: TensorType, inputs: int) -> int:
        """Outputs, where w[O, inputs / groups] fits."""
        require_rank(w, "w", 2)
        require_groups(w.shape[0], self.groups)
        require(
            w.shape[1] * self.groups == inputs,
            f"w has shape {list(w.shape)}, its last extent times {self.groups} groups must be the "
            f"{inputs} inputs",
        )
        require_terms(w.shape[1])
        return w.shape[0]

    def _sums(self, x: Array, w: Array, acc: Array | None) -> Array:
        """x[N,K] as operands."""
        shape = (len(x), w.shape[0])
        sums = begun(acc, shape, w.dtype).reshape(len(x), self.groups, -1)
        grouped = w.reshape(self.groups, -1, w.shape[1])
        return finished(added(sums, x.reshape(len(x), self.groups, -1), grouped), shape)


@operator("spike_dense", inputs="w acc? s*", in_place=(1,))
@dataclass(frozen=True, kw_only=True)
class SpikeDense(_Dense):
    """Sum of the weights of active inputs; y[N,O] from w[O,K/groups] and bit sets s.

    ::

        y[n, o] = acc[n, o] + Σ_k w[o, k] over the k that spike, of the group o // (O / groups)

    Several populations may be summed at once. The K inputs are theirs: of every group first those
    of the first population, then those of the next. w int8 gives y and acc int32, w float32 gives
    float32; see the module.

    Attributes:
        neurons: of each population, K in all.
        groups: outputs, and the neurons of each population, fall into as many groups that do not
            touch each other.
        coding: of the weights; None for plain int8 and for float32.
        schedule: which kernel; the result is the same.

    >>> import numpy as np
    >>> dense, w = SpikeDense(neurons=(2, 1)), np.int8([[1, 10, 100], [5, 0, -9]])
    >>> dense.reference(w, None, np.int32([[0b01]]), np.int32([[0b1]]))[0].tolist()
    [[101, -4]]
    """

    neurons: tuple[int, ...]
    schedule: Schedule = "event"

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y[N,O]."""
        w, acc, *sets = inputs
        w = given(w)
        require(
            len(sets) == len(self.neurons) >= 1,
            f"neurons is {list(self.neurons)}, must have one entry for each of the {len(sets)} s",
        )
        batches = [require_bit_set(given(s), n) for s, n in zip(sets, self.neurons, strict=True)]
        require(len(set(batches)) == 1, f"s have batches of {batches}, must have the same one")
        require(
            self.groups >= 1 and not any(n % self.groups for n in self.neurons),
            f"groups is {self.groups}, must divide neurons {list(self.neurons)}",
        )
        require_dtype(w, "w", DType.INT8, DType.FLOAT32)
        require_weights(w, self.coding, integers=w.dtype is DType.INT8)
        y = TensorType((batches[0], self._outputs(w, sum(self.neurons))), current_dtype(w))
        require_acc(acc, y)
        return (y,)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """Exact value."""
        w, acc, *sets = inputs
        pairs = zip(sets, self.neurons, strict=True)
        parts = [
            unpack_spikes(given(s), n).reshape(-1, self.groups, n // self.groups) for s, n in pairs
        ]
        spikes = np.concatenate(parts, axis=2)
        return (self._sums(spikes.reshape(len(spikes), -1), given(w), acc),)

    def macs(self, *inputs: TensorType | None) -> int:
        """Products of a dense layer; active inputs times outputs are done."""
        return self.infer(*inputs)[0].shape[0] * given(inputs[0]).size


@operator("current_dense", inputs="x w acc?", in_place=(2,))
@dataclass(frozen=True, kw_only=True)
class CurrentDense(_Dense):
    """Weighted sum of samples; y[N,O] from x[N,K], w[O,K/groups].

    ::

        y[n, o] = acc[n, o] + Σ_k (x[n, k] - x_zero_point)·w[o, k]

    x int8 or int16 with w int8 gives y and acc int32; all of them may be float32 instead.

    Attributes:
        x_zero_point: integer that means 0; 0 for int16 and float32.
        groups: outputs and inputs fall into as many groups that do not touch each other.
        coding: of the weights; None for plain int8 and for float32.

    >>> import numpy as np
    >>> CurrentDense().reference(np.int16([[300, -2]]), np.int8([[1, 10]]))[0].tolist()
    [[280]]
    """

    x_zero_point: int = 0

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y[N,O]."""
        x, w, acc = given(inputs[0]), given(inputs[1]), (*inputs[2:], None)[0]
        require_rank(x, "x", 2)
        require(x.size >= 1, "x must not be empty")
        require_sample(x, w, self.x_zero_point, self.coding)
        y = TensorType((x.shape[0], self._outputs(w, x.shape[1])), current_dtype(w))
        require_acc(acc, y)
        return (y,)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """Exact value."""
        x, w, acc = given(inputs[0]), given(inputs[1]), (*inputs[2:], None)[0]
        return (self._sums(operand(x, self.x_zero_point), w, acc),)

    def macs(self, *inputs: TensorType | None) -> int:
        """Products."""
        return given(inputs[0]).shape[0] * given(inputs[1]).size


@dataclass(frozen=True, kw_only=True)
class _Conv2D(Operator):
    """What both convolutions share; the window slides as in ``conv_2d``, over zeros at the border.

    Attributes:
        stride: steps of the window, down and across.
        padding: zeros around the input: top, left, bottom, right.
        dilation: distance between taps of the kernel.
        groups: output channel o reads the input channels of group ``o // (O / groups)``.
        coding: of the weights; None for plain int8 and for float32.
    """

    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    coding: Coding | None = None

    def weight_rows(self, w: Array) -> Array:
        """Weights [O,K], in the order of the sum."""
        return w.reshape(w.shape[0], -1)

    def constants_problem(self, constants: dict[str, Array]) -> str | None:
        """Weights are constants: kernels want them rearranged."""
        return None if "w" in constants else "w is computed, must be constant"

    @property
    def window(self) -> Window:
        """The geometry alone."""
        return Window(stride=self.stride, padding=self.padding, dilation=self.dilation)

    def _result(self, x: TensorType, w: TensorType, acc: TensorType | None) -> TensorType:
        """Type of y for an input x[N,H,W,I], after every check of the geometry."""
        self.window.check(x, w)
        require_groups(w.shape[0], self.groups)
        require(
            w.shape[3] * self.groups == x.shape[3],
            f"w has shape {list(w.shape)}, its last extent times {self.groups} groups must be the "
            f"{x.shape[3]} channels of the input",
        )
        require_terms(w.size // w.shape[0])
        height, width = self.window.extents(x, (w.shape[1], w.shape[2]))
        y = TensorType((x.shape[0], height, width, w.shape[0]), current_dtype(w))
        require_acc(acc, y)
        return y

    def _sums(self, x: Array, w: Array, acc: Array | None) -> Array:
        """x[N,H,W,I] as operands; taps in order, of each the channels in order."""
        outputs, rows, columns, depth = w.shape
        kind = TensorType(x.shape, DType.FLOAT32)
        height, width = self.window.extents(kind, (rows, columns))
        shape = (len(x), height, width, outputs)
        sums = begun(acc, shape, w.dtype).reshape(*shape[:3], self.groups, -1)
        grouped = w.reshape(self.groups, -1, rows, columns, depth)
        values = x.reshape(*x.shape[:3], self.groups, depth)
        for tap in self.window.taps((rows, columns), x.shape[1:3], (height, width)):
            part, operands = sums[tap.dense], values[tap.strided]
            if not part.size:
                continue
            flat = added(
                part.reshape(-1, *part.shape[3:]),
                operands.reshape(-1, self.groups, depth),
                grouped[:, :, tap.row, tap.column],
            )
            sums[tap.dense] = flat.reshape(part.shape)
        return finished(sums, shape)


@operator("spike_conv_2d", inputs="s w acc?", in_place=(2,))
@dataclass(frozen=True, kw_only=True)
class SpikeConv2D(_Conv2D):
    """Sum of the weights of active inputs under a window; y[N,OH,OW,O] from s, w[O,KH,KW,I/groups].

    s is the bit set of ``input_shape``, numbered row by row, each place's channels together. w int8
    gives y and acc int32, w float32 gives float32; see the module.

    Attributes:
        input_shape: H, W, I.
        stride, padding, dilation, groups, coding: as in :class:`CurrentConv2D`.
        schedule: which kernel; the result is the same.

    >>> import numpy as np
    >>> conv = SpikeConv2D(input_shape=(1, 3, 1), padding=(0, 1, 0, 1))
    >>> w = np.int8([[[[1], [10], [100]]]])
    >>> conv.reference(np.int32([[0b011]]), w)[0].ravel().tolist()
    [110, 11, 1]
    """

    input_shape: tuple[int, int, int]
    schedule: Schedule = "event"

    @property
    def neurons(self) -> int:
        """Of the input."""
        height, width, channels = self.input_shape
        return height * width * channels

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y[N,OH,OW,O]."""
        s, w, acc = given(inputs[0]), given(inputs[1]), (*inputs[2:], None)[0]
        require(
            min(self.input_shape) >= 1,
            f"input_shape is {list(self.input_shape)}, must be positive",
        )
        batch = require_bit_set(s, self.neurons)
        require_dtype(w, "w", DType.INT8, DType.FLOAT32)
        require_weights(w, self.coding, integers=w.dtype is DType.INT8)
        return (self._result(TensorType((batch, *self.input_shape), DType.INT8), w, acc),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """Exact value."""
        s, w, acc = given(inputs[0]), given(inputs[1]), (*inputs[2:], None)[0]
        spikes = unpack_spikes(s, self.neurons).reshape(len(s), *self.input_shape)
        return (self._sums(spikes, w, acc),)

    def macs(self, *inputs: TensorType | None) -> int:
        """Products of a dense layer, those with padding included."""
        w = given(inputs[1])
        return self.infer(*inputs)[0].size * (w.size // w.shape[0])


@operator("current_conv_2d", inputs="x w acc?", in_place=(2,))
@dataclass(frozen=True, kw_only=True)
class CurrentConv2D(_Conv2D):
    """Convolution of samples; y[N,OH,OW,O] from x[N,H,W,I], w[O,KH,KW,I/groups].

    dtypes as in :class:`CurrentDense`.

    Attributes:
        x_zero_point: integer that means 0; 0 for int16 and float32.
        stride: steps of the window, down and across.
        padding: zeros around the input (their real value is 0): top, left, bottom, right.
        dilation: distance between taps of the kernel.
        groups: output channel o reads the input channels of group ``o // (O / groups)``.
        coding: of the weights; None for plain int8 and for float32.
    """

    x_zero_point: int = 0

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y[N,OH,OW,O]."""
        x, w, acc = given(inputs[0]), given(inputs[1]), (*inputs[2:], None)[0]
        require_sample(x, w, self.x_zero_point, self.coding)
        return (self._result(x, w, acc),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """Exact value."""
        x, w, acc = given(inputs[0]), given(inputs[1]), (*inputs[2:], None)[0]
        return (self._sums(operand(x, self.x_zero_point), w, acc),)

    def macs(self, *inputs: TensorType | None) -> int:
        """Products, those with padding included."""
        w = given(inputs[1])
        return self.infer(*inputs)[0].size * (w.size // w.shape[0])
