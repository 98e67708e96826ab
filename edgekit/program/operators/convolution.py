"""Convolutions over NHWC tensors: grouped, depthwise and transposed.

Their integer meaning is the TFLite 8-bit specification's, with int16 activations as in its 16x8
scheme; see :mod:`edgekit.program.operators.accumulator` for what happens behind the sum. Every sum
runs over (kernel row, kernel column, input channel), in this order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgekit.program.fixed_point import (
    Activation,
    Requant,
    activation_clamp,
)
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.accumulator import (
    CONVOLUTION_ROUNDING,
    accumulate,
    coded_roundings,
    finish,
    operand,
    require_symmetric,
    require_weighted_sum,
    weight_factors,
)
from edgekit.program.operators.base import (
    Operator,
    operator,
    require,
    require_rank,
)
from edgekit.program.operators.coding import Coding
from edgekit.program.operators.elementwise import Sum
from edgekit.program.operators.rules import Clamp, clamped, given, require_clamp

Pair = tuple[int, int]
"""Height, width."""
Padding = tuple[int, int, int, int]
"""Top, left, bottom, right."""


@dataclass(frozen=True)
class Tap:
    """A kernel position.

    Attributes:
        row, column: of the kernel.
        strided: index of the N, H, W axes of what the window strides over.
        dense: index of as many N, H, W positions of what it strides for.
    """

    row: int
    column: int
    strided: tuple[slice, slice, slice]
    dense: tuple[slice, slice, slice]


def _span(offset: int, stride: int, strided: int, dense: int) -> tuple[slice, slice]:
    """Positions ``i·stride + offset`` within `strided`, and the `i` within `dense` they belong to.

    >>> _span(-1, 2, 5, 3)
    (slice(1, 4, 2), slice(1, 3, None))
    """
    first = max(0, -(offset // stride))
    last = min(dense, (strided - 1 - offset) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    begin = first * stride + offset
    return slice(begin, begin + (last - 1 - first) * stride + 1, stride), slice(first, last)


@dataclass(frozen=True, kw_only=True)
class Convolution(Operator):
    """Fields that all three convolutions share.

    Attributes:
        stride: steps of the window; for a transposed convolution, of the output.
        dilation: distance between taps of the kernel.
        padding: zeros around the input (their real value is 0); for a transposed convolution, rows
            and columns cut off the output.
        x_zero_point, y_zero_point: integers that mean 0; 0 for float32 and int16.
        requant: factor from accumulator to output, per tensor or per output channel; None for
            float32.
        clamp: smallest and largest output; integers, or floats (either may be infinite), or None.
        coding: of the weights, see :mod:`~edgekit.program.operators.coding`; None for plain ones,
            and for a transposed convolution.
    """

    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    x_zero_point: int = 0
    requant: Requant | None = None
    y_zero_point: int = 0
    clamp: Clamp | None = None
    coding: Coding | None = None

    weight_rank: ClassVar[int] = 4

    def _require_geometry(self, x: TensorType, w: TensorType) -> None:
        require_rank(x, "x", 4)
        require_rank(w, "w", self.weight_rank)
        require(min(x.shape) >= 1, f"x has shape {list(x.shape)}, must not be empty")
        require(min(w.shape) >= 1, f"w has shape {list(w.shape)}, must not be empty")
        for label, values in (("stride", self.stride), ("dilation", self.dilation)):
            require(min(values) >= 1, f"{label} is {values}, must be positive")
        require(min(self.padding) >= 0, f"padding is {self.padding}, must not be negative")

    def _require_sum(
        self,
        x: TensorType,
        w: TensorType,
        bias: TensorType | None,
        outputs: int,
        terms: int,
        factors: TensorType | None = None,
    ) -> None:
        require_weighted_sum(
            x,
            w,
            bias,
            outputs=outputs,
            terms=terms,
            zero_points=(self.x_zero_point, self.y_zero_point),
            requant=self.requant,
            clamp=self.clamp,
            roundings=CONVOLUTION_ROUNDING,
            coding=self.coding,
            factors=factors,
        )

    def weight_rows(self, w: Array) -> Array:
        """Weights [O,K], in the order of the sum."""
        return w.reshape(w.shape[0], -1)

    def _weights(self, w: Array, factors: Array | None) -> Array:
        """What inputs are multiplied with: w, times the factors of its groups."""
        if self.coding is None:
            return operand(w)
        return self.coding.scaled(self.weight_rows(w), factors).reshape(w.shape)

    def _slide(self, x: TensorType, kernel: Pair) -> Pair:
        """How often a window of `kernel` taps fits, down and across."""
        extents = []
        for axis, label in enumerate(("height", "width")):
            padded = x.shape[1 + axis] + self.padding[axis] + self.padding[2 + axis]
            reach = self.dilation[axis] * (kernel[axis] - 1) + 1
            require(
                padded >= reach,
                f"the kernel reaches over {reach} values of the padded {label} {padded}, "
                "must fit in",
            )
            extents.append((padded - reach) // self.stride[axis] + 1)
        return extents[0], extents[1]

    def _finish(self, acc: Array, bias: Array | None, x: Array) -> Array:
        return finish(
            acc,
            bias,
            DType(x.dtype.name),
            self.requant,
            self.y_zero_point,
            self.clamp,
            self.coding,
        )

    def _taps(self, kernel: Pair, strided: Pair, dense: Pair) -> Iterator[Tap]:
        """Every kernel position, in order, with the positions that it joins."""
        for ky in range(kernel[0]):
            rows = _span(
                ky * self.dilation[0] - self.padding[0], self.stride[0], strided[0], dense[0]
            )
            for kx in range(kernel[1]):
                columns = _span(
                    kx * self.dilation[1] - self.padding[1], self.stride[1], strided[1], dense[1]
                )
                every = slice(None)
                yield Tap(ky, kx, (every, rows[0], columns[0]), (every, rows[1], columns[1]))


def _require_groups(channels: int, w: TensorType, groups: int) -> None:
    require(
        groups >= 1 and w.shape[0] % groups == 0,
        f"groups is {groups}, must divide the {w.shape[0]} output channels",
    )
    require(
        w.shape[3] * groups == channels,
        f"w has shape {list(w.shape)}, its last extent times {groups} groups must be the "
        f"{channels} channels of x",
    )


def _quantized_fields(
    *,
    x: Quantization,
    w: Quantization,
    y: Quantization,
    dtype: DType,
    activation: Activation,
    coding: Coding | None = None,
) -> dict[str, Any]:
    require_symmetric(w)
    rounding = coded_roundings(coding, CONVOLUTION_ROUNDING)[dtype]
    return {
        "coding": coding,
        "x_zero_point": x.scalar_zero_point,
        "requant": Requant.from_real(weight_factors(x, w, y), rounding),
        "y_zero_point": y.scalar_zero_point,
        "clamp": activation_clamp(activation, y.scalar_scale, y.scalar_zero_point, dtype.limits),
    }


@operator("conv_2d", inputs="x w bias? residual? factors?", in_place=(3,))
@dataclass(frozen=True, kw_only=True)
class Conv2D(Convolution):
    """Convolution; y[N,OH,OW,O] from x[N,H,W,I], w[O,KH,KW,I/groups], bias[O].

    With a residual r of y's shape and dtype, the result is what operator ``add`` makes of (y, r).

    Attributes:
        groups: output channel o reads the input channels of group ``o // (O/groups)``.
        residual: integer fields of the fused addition; None for float32.
        residual_clamp: smallest and largest sum with the residual, float32 only.

    >>> x, w = TensorType((1, 5, 4, 6), DType.FLOAT32), TensorType((8, 3, 3, 3), DType.FLOAT32)
    >>> Conv2D(stride=(2, 1), padding=(1, 0, 1, 0), groups=2).infer(x, w)[0].shape
    (1, 3, 2, 8)
    """

    groups: int = 1
    residual: Sum | None = None
    residual_clamp: tuple[float, float] | None = None

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y[N,OH,OW,O]."""
        x, w = given(inputs[0]), given(inputs[1])
        bias, residual, factors = (*inputs[2:], None, None, None)[:3]
        self._require_geometry(x, w)
        outputs, kernel = w.shape[0], (w.shape[1], w.shape[2])
        _require_groups(x.shape[3], w, self.groups)
        self._require_sum(x, w, bias, outputs, kernel[0] * kernel[1] * w.shape[3], factors)
        y = TensorType((x.shape[0], *self._slide(x, kernel), outputs), x.dtype)
        if residual is not None:
            require(residual == y, f"residual is {residual}, must be {y}")
        if self.residual is not None:
            require(residual is not None, "residual has fields, must have an input too")
            require(y.dtype.is_integer, f"residual has integer fields, must be None for {y.dtype}")
            self.residual.check(y.dtype)
        elif residual is not None:
            require(not y.dtype.is_integer, f"residual needs its fields for {y.dtype}")
        if self.residual_clamp is not None:
            require(residual is not None, "residual_clamp needs a residual")
            require(not y.dtype.is_integer, f"residual_clamp must be None for {y.dtype}")
            require_clamp(self.residual_clamp, y.dtype)
        return (y,)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """Exact value; see :mod:`~edgekit.program.operators.accumulator`."""
        x, w = given(inputs[0]), given(inputs[1])
        bias, residual, factors = (*inputs[2:], None, None, None)[:3]
        outputs, *kernel, depth = w.shape
        weights = self._weights(w, factors).reshape(self.groups, -1, *kernel, depth)
        values = operand(x, self.x_zero_point).reshape(*x.shape[:3], self.groups, depth)
        height, width = self._slide(TensorType(x.shape, DType.FLOAT32), (kernel[0], kernel[1]))
        acc = np.zeros((x.shape[0], height, width, *weights.shape[:2]), values.dtype)
        for tap in self._taps((kernel[0], kernel[1]), x.shape[1:3], (height, width)):
            accumulate(acc[tap.dense], values[tap.strided], weights[:, :, tap.row, tap.column])
        y = self._finish(acc.reshape(*acc.shape[:3], outputs), bias, x)
        if residual is None:
            return (y,)
        if self.residual is None:
            return (clamped(y + residual, self.residual_clamp),)
        return (self.residual.apply(y, residual).astype(y.dtype),)

    def macs(self, *inputs: TensorType | None) -> int:
        """Products, those with padding included."""
        w = given(inputs[1])
        return self.infer(*inputs)[0].size * (w.size // w.shape[0])

    @classmethod
    def quantized(
        cls,
        *,
        x: Quantization,
        w: Quantization,
        y: Quantization,
        dtype: DType = DType.INT8,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        groups: int = 1,
        activation: Activation = "none",
        coding: Coding | None = None,
        residual: Sum | None = None,
    ) -> Conv2D:
        """The integer operator, as LiteRT prepares CONV_2D.

        Args:
            x: per-tensor quantisation of the input.
            w: quantisation of the weights, symmetric, per tensor or along axis 0.
            y: per-tensor quantisation of the sum, before any residual.
            dtype: of x and y, int8 or int16.
            stride: the field.
            dilation: the field.
            padding: the field.
            groups: the field.
            residual: the field.
            activation: fused, before the residual is added.
            coding: the field; the scales of `w` are then those of its integers times factors.

        Raises:
            OperatorError: the weights have a zero point.
        """
        return cls(
            stride=stride,
            dilation=dilation,
            padding=padding,
            groups=groups,
            residual=residual,
            **_quantized_fields(x=x, w=w, y=y, dtype=dtype, activation=activation, coding=coding),
        )


@operator("depthwise_conv_2d", inputs="x w bias? factors?")
@dataclass(frozen=True, kw_only=True)
class DepthwiseConv2D(Convolution):
    """Convolution of every channel by itself; y[N,OH,OW,O] from x[N,H,W,I], w[KH,KW,O], bias[O].

    O is a multiple m of I; output channel ``i·m + j`` reads input channel i.

    >>> x, w = TensorType((1, 5, 5, 4), DType.FLOAT32), TensorType((3, 3, 8), DType.FLOAT32)
    >>> DepthwiseConv2D(stride=(2, 2), padding=(1, 1, 1, 1)).infer(x, w)[0].shape
    (1, 3, 3, 8)
    """

    weight_rank: ClassVar[int] = 3

    def weight_rows(self, w: Array) -> Array:
        """Weights [O,K], in the order of the sum."""
        return w.reshape(-1, w.shape[-1]).T

    def _weights(self, w: Array, factors: Array | None) -> Array:
        if self.coding is None:
            return operand(w)
        return self.coding.scaled(self.weight_rows(w), factors).T.reshape(w.shape)

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y[N,OH,OW,O]."""
        x, w, (bias, factors) = given(inputs[0]), given(inputs[1]), (*inputs[2:], None, None)[:2]
        self._require_geometry(x, w)
        *kernel, outputs = w.shape
        require(
            x.shape[3] >= 1 and outputs >= 1 and outputs % x.shape[3] == 0,
            f"w has {outputs} channels, must be a multiple of the {x.shape[3]} of x",
        )
        self._require_sum(x, w, bias, outputs, kernel[0] * kernel[1], factors)
        height, width = self._slide(x, (kernel[0], kernel[1]))
        return (TensorType((x.shape[0], height, width, outputs), x.dtype),)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """Exact value; see :mod:`~edgekit.program.operators.accumulator`."""
        x, w, (bias, factors) = given(inputs[0]), given(inputs[1]), (*inputs[2:], None, None)[:2]
        *kernel, outputs = w.shape
        values = operand(x, self.x_zero_point)
        weights = self._weights(w, factors).reshape(*kernel, x.shape[3], -1)
        height, width = self._slide(TensorType(x.shape, DType.FLOAT32), (kernel[0], kernel[1]))
        acc = np.zeros((x.shape[0], height, width, *weights.shape[2:]), values.dtype)
        for tap in self._taps((kernel[0], kernel[1]), x.shape[1:3], (height, width)):
            acc[tap.dense] += values[tap.strided][..., np.newaxis] * weights[tap.row, tap.column]
        return (self._finish(acc.reshape(*acc.shape[:3], outputs), bias, x),)

    def macs(self, *inputs: TensorType | None) -> int:
        """Products, those with padding included."""
        w = given(inputs[1])
        return self.infer(*inputs)[0].size * w.shape[0] * w.shape[1]

    @classmethod
    def quantized(
        cls,
        *,
        x: Quantization,
        w: Quantization,
        y: Quantization,
        dtype: DType = DType.INT8,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        activation: Activation = "none",
        coding: Coding | None = None,
    ) -> DepthwiseConv2D:
        """The integer operator, as LiteRT prepares DEPTHWISE_CONV_2D.

        Args:
            x: per-tensor quantisation of the input.
            w: quantisation of the weights, symmetric, per tensor or along the channels.
            y: per-tensor quantisation of the output.
            dtype: of x and y, int8 or int16.
            stride: the field.
            dilation: the field.
            padding: the field.
            activation: fused.
            coding: the field; the scales of `w` are then those of its integers times factors.

        Raises:
            OperatorError: the weights have a zero point.
        """
        return cls(
            stride=stride,
            dilation=dilation,
            padding=padding,
            **_quantized_fields(x=x, w=w, y=y, dtype=dtype, activation=activation, coding=coding),
        )


@operator("transpose_conv_2d", inputs="x w bias?")
@dataclass(frozen=True, kw_only=True)
class TransposeConv2D(Convolution):
    """Transposed convolution; y[N,OH,OW,O] from x[N,H,W,I], w[O,KH,KW,I/groups], bias[O].

    Input (i, j) adds its product with tap (ky, kx) to the output at
    ``(i·stride + ky·dilation − top, j·stride + kx·dilation − left)``.

    Attributes:
        groups: output channel o reads the input channels of group ``o // (O/groups)``.
        output_padding: rows and columns that only the output's far border gains; what no tap
            reaches is the bias alone.

    >>> x, w = TensorType((1, 3, 3, 4), DType.FLOAT32), TensorType((8, 3, 3, 4), DType.FLOAT32)
    >>> TransposeConv2D(stride=(2, 2), padding=(1, 1, 1, 1)).infer(x, w)[0].shape
    (1, 5, 5, 8)
    """

    groups: int = 1
    output_padding: Pair = (0, 0)

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """y[N,OH,OW,O]."""
        x, w, bias = given(inputs[0]), given(inputs[1]), (*inputs[2:], None)[0]
        require(
            self.coding is None,
            "transposed convolutions take no coded weights; keep these in int8",
        )
        self._require_geometry(x, w)
        require(
            min(self.output_padding) >= 0,
            f"output_padding is {self.output_padding}, must not be negative",
        )
        outputs, kernel = w.shape[0], (w.shape[1], w.shape[2])
        _require_groups(x.shape[3], w, self.groups)
        self._require_sum(x, w, bias, outputs, kernel[0] * kernel[1] * w.shape[3])
        return (TensorType((x.shape[0], *self._spread(x.shape, kernel), outputs), x.dtype),)

    def _spread(self, x: tuple[int, ...], kernel: Pair) -> Pair:
        """Height and width that the taps reach, less the padding."""
        height, width = (
            (x[1 + axis] - 1) * self.stride[axis]
            + self.dilation[axis] * (kernel[axis] - 1)
            + 1
            - self.padding[axis]
            - self.padding[2 + axis]
            + self.output_padding[axis]
            for axis in (0, 1)
        )
        require(
            height >= 1 and width >= 1,
            f"padding {self.padding} leaves an output of {height} by {width}, must leave some",
        )
        return height, width

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """Exact value; see :mod:`~edgekit.program.operators.accumulator`."""
        x, w, bias = given(inputs[0]), given(inputs[1]), (*inputs[2:], None)[0]
        outputs, *kernel, depth = w.shape
        weights = operand(w).reshape(self.groups, -1, *kernel, depth)
        values = operand(x, self.x_zero_point).reshape(*x.shape[:3], self.groups, depth)
        height, width = self._spread(x.shape, (kernel[0], kernel[1]))
        acc = np.zeros((x.shape[0], height, width, *weights.shape[:2]), values.dtype)
        for tap in self._taps((kernel[0], kernel[1]), (height, width), x.shape[1:3]):
            accumulate(acc[tap.strided], values[tap.dense], weights[:, :, tap.row, tap.column])
        return (self._finish(acc.reshape(*acc.shape[:3], outputs), bias, x),)

    def macs(self, *inputs: TensorType | None) -> int:
        """Products, those that the padding cuts off included."""
        x, w = given(inputs[0]), given(inputs[1])
        return x.size // x.shape[3] * w.size

    @classmethod
    def quantized(
        cls,
        *,
        x: Quantization,
        w: Quantization,
        y: Quantization,
        dtype: DType = DType.INT8,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        output_padding: Pair = (0, 0),
        groups: int = 1,
        activation: Activation = "none",
    ) -> TransposeConv2D:
        """The integer operator, as LiteRT prepares TRANSPOSE_CONV.

        Args:
            x: per-tensor quantisation of the input.
            w: quantisation of the weights, symmetric, per tensor or along axis 0.
            y: per-tensor quantisation of the output.
            dtype: of x and y, int8 or int16.
            stride: the field.
            dilation: the field.
            padding: the field.
            output_padding: the field.
            groups: the field.
            activation: fused.

        Raises:
            OperatorError: the weights have a zero point.
        """
        return cls(
            stride=stride,
            dilation=dilation,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
            **_quantized_fields(x=x, w=w, y=y, dtype=dtype, activation=activation),
        )
