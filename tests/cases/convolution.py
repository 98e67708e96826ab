"""Grid of the convolutions."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from edgekit.program.fixed_point import Activation, float_activation_clamp
from edgekit.program.ir import Array, DType, Quantization, TensorType
from edgekit.program.operators.accumulator import BIAS_DTYPE
from edgekit.program.operators.base import Operator
from edgekit.program.operators.convolution import (
    Conv2D,
    Convolution,
    DepthwiseConv2D,
    TransposeConv2D,
)
from edgekit.program.operators.elementwise import Sum
from tests.cases.case import Case, one_operator, random_array

KINDS = {"conv": Conv2D, "depthwise": DepthwiseConv2D, "transpose": TransposeConv2D}
DTYPES = (DType.INT8, DType.INT16, DType.FLOAT32)
SPREAD = {DType.INT8: (74.0, 40.0), DType.INT16: (19000.0, 9000.0)}
"""Typical size of a random input, and of an output that mostly stays within range."""


@dataclass(frozen=True, kw_only=True)
class WeightedLayer:
    """An operator with seeded weights, from which a Program and a .tflite file can be made.

    Attributes:
        name: what is special about it.
        kind: part of the id.
        dtype: of the activations.
        x: shape of the input.
        outputs: output channels.
        activation: fused.
        x_scale: scale of the input.
        x_zero_point: for int8; 0 otherwise.
        y_scale: scale of the output; None for a chosen one.
        y_zero_point: for int8; 0 otherwise.
        w_scale: one for all channels, one per channel, or None for chosen ones per channel.
        w: weights, repeated; None for seeded ones.
        bias: ``random``, ``none``, or the values, repeated.
        constant_x: what every input is, instead of being fed.
    """

    name: str
    kind: str = ""
    dtype: DType = DType.INT8
    x: tuple[int, ...] = ()
    outputs: int = 5
    activation: Activation = "none"
    x_scale: float = 0.02
    x_zero_point: int = 3
    y_scale: float | None = None
    y_zero_point: int = -4
    w_scale: tuple[float, ...] | None = None
    w: tuple[int, ...] | None = None
    bias: str | tuple[int, ...] = "random"
    constant_x: int | None = None

    @property
    def id(self) -> str:
        """Unique in the grid."""
        return f"{self.kind}-{self.dtype}-{self.name}"

    @property
    def seed(self) -> int:
        """Of weights and inputs."""
        return zlib.crc32(self.id.encode())

    @property
    def w_shape(self) -> tuple[int, ...]:
        """Shape of the operator's weights."""
        raise NotImplementedError

    @property
    def w_axis(self) -> int:
        """Axis of the output channels in the weights."""
        return 0

    @property
    def terms(self) -> int:
        """Products in one sum."""
        return math.prod(self.w_shape) // self.w_shape[self.w_axis]

    def operator(self) -> Operator:
        """The operator."""
        raise NotImplementedError

    def quantizations(self) -> tuple[Quantization, Quantization, Quantization]:
        """Of x, w and y."""
        scales = self.w_scale
        if scales is None:
            rng = np.random.default_rng(self.seed)
            scales = tuple(np.exp(rng.uniform(np.log(0.001), np.log(0.01), self.outputs)))
        axis = None if len(scales) == 1 else self.w_axis
        w = Quantization(tuple(float(np.float32(s)) for s in scales), (0,) * len(scales), axis)
        y_scale = self.y_scale
        if y_scale is None:
            given, wanted = SPREAD[self.dtype]
            y_scale = self.x_scale * max(w.scale) * given * 74 * math.sqrt(self.terms) / wanted
        points = (self.x_zero_point, self.y_zero_point) if self.dtype is DType.INT8 else (0, 0)
        return (
            Quantization.per_tensor(self.x_scale, points[0]),
            w,
            Quantization.per_tensor(y_scale, points[1]),
        )

    def weights(self) -> tuple[Array, Array | None]:
        """Weights and bias."""
        rng = np.random.default_rng(self.seed + 1)
        w_dtype = DType.INT8 if self.dtype.is_integer else DType.FLOAT32
        w = random_array(rng, TensorType(self.w_shape, w_dtype))
        if self.w is not None:
            w = np.resize(np.array(self.w, w.dtype), self.w_shape)
        dtype = BIAS_DTYPE[self.dtype].numpy
        if self.bias == "none":
            return w, None
        if self.bias != "random":
            return w, np.resize(np.array(self.bias, dtype), self.outputs)
        if self.dtype is DType.FLOAT32:
            return w, rng.standard_normal(self.outputs).astype(dtype)
        size = SPREAD[self.dtype][0] * 74
        return w, rng.uniform(-size, size, self.outputs).astype(dtype)

    def case(self) -> Case:
        """One cell of the grid."""
        w, bias = self.weights()
        x = TensorType(self.x, self.dtype)
        fixed = self.constant_x
        program = one_operator(
            self.operator(),
            x if fixed is None else ("const", np.full(x.shape, fixed, x.dtype.numpy)),
            ("const", w),
            None if bias is None else ("const", bias),
            name=self.kind,
        )
        return Case(self.id, program, self.seed)


AnyLayer = TypeVar("AnyLayer", bound=WeightedLayer)


def near_ties(layer: AnyLayer, seed: int, limit: int) -> AnyLayer:
    """The layer with zero weights and biases that its factor brings close to k + 1/2.

    Args:
        layer: an integer layer with one w_scale.
        seed: draws the k.
        limit: largest bias.
    """
    x, w, y = layer.quantizations()
    factor = x.scalar_scale * w.scalar_scale / y.scalar_scale
    low, high = layer.dtype.limits
    middles = np.random.default_rng(seed).integers(low, high, 200) + 0.5
    exact = middles / factor
    biases = np.concatenate([np.floor(exact), np.ceil(exact), np.rint(exact) + 1])
    biases = np.clip(biases, -limit, limit).astype(np.int64)
    return replace(layer, w=(0,), bias=tuple(biases.tolist()), outputs=len(biases))


@dataclass(frozen=True, kw_only=True)
class Layer(WeightedLayer):
    """A convolution.

    Attributes:
        kind: ``conv``, ``depthwise`` or ``transpose``.
        kernel: taps, down and across.
        stride: field of the operator.
        dilation: field of the operator.
        padding: ``VALID``, ``SAME`` or the operator's four numbers.
        groups: field of the operator.
        output_padding: field of the operator.
    """

    kind: str = "conv"
    x: tuple[int, ...] = (1, 5, 6, 3)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str | tuple[int, int, int, int] = "SAME"
    groups: int = 1
    output_padding: tuple[int, int] = (0, 0)

    @property
    def w_shape(self) -> tuple[int, ...]:
        """Shape of the operator's weights."""
        if self.kind == "depthwise":
            return (*self.kernel, self.outputs)
        return (self.outputs, *self.kernel, self.x[3] // self.groups)

    @property
    def w_axis(self) -> int:
        """Axis of the output channels in the weights."""
        return 2 if self.kind == "depthwise" else 0

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """The operator's padding; SAME as TFLite computes it."""
        if not isinstance(self.padding, str):
            return self.padding
        sides = []
        for axis in (0, 1):
            reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
            size, stride = self.x[1 + axis], self.stride[axis]
            if self.kind == "transpose":
                size *= stride
            total = max(0, (math.ceil(size / stride) - 1) * stride + reach - size)
            total = total if self.padding == "SAME" else 0
            sides.append((total // 2, total - total // 2))
        return sides[0][0], sides[1][0], sides[0][1], sides[1][1]

    def operator(self) -> Convolution:
        """The operator."""
        fields: dict[str, Any] = {
            "stride": self.stride,
            "dilation": self.dilation,
            "padding": self.pads,
        }
        if self.kind != "depthwise":
            fields["groups"] = self.groups
        if self.kind == "transpose":
            fields["output_padding"] = self.output_padding
        kind = KINDS[self.kind]
        if self.dtype is DType.FLOAT32:
            return kind(clamp=float_activation_clamp(self.activation), **fields)
        x, w, y = self.quantizations()
        return kind.quantized(x=x, w=w, y=y, dtype=self.dtype, activation=self.activation, **fields)


ANY_KIND = [
    Layer(name="plain"),
    Layer(name="valid", padding="VALID"),
    Layer(name="strides", stride=(2, 3), kernel=(3, 2)),
    Layer(name="tall", x=(2, 9, 4, 2), kernel=(5, 1), stride=(3, 1), outputs=4),
    Layer(name="one-element", x=(1, 1, 1, 1), kernel=(1, 1), outputs=1),
    Layer(name="one-value", x=(1, 1, 1, 1), outputs=3),
    Layer(name="eight-channels", x=(1, 3, 3, 8), outputs=8, kernel=(2, 2)),
    Layer(name="odd-channels", x=(1, 3, 3, 7), outputs=7, kernel=(2, 3)),
    Layer(name="relu", activation="relu"),
    Layer(name="relu6", activation="relu6"),
    Layer(name="relu-n1-to-1", activation="relu_n1_to_1"),
]
"""Special for every kind and dtype."""

QUANTIZED = [
    Layer(name="zero-points-low-high", x_zero_point=-128, y_zero_point=127),
    Layer(name="zero-points-high-low", x_zero_point=127, y_zero_point=-128),
    Layer(name="zero-points-relu6", x_zero_point=127, y_zero_point=-128, activation="relu6"),
    Layer(name="per-tensor", w_scale=(0.004,)),
    Layer(name="saturating", y_scale=0.001),
]
"""Special for every kind of integer convolution."""

# One product per output, so that the accumulators are known: x·w, w one of these, plus the bias.
SINGLE_PRODUCT = Layer(
    name="",
    x=(1, 8, 32, 1),
    kernel=(1, 1),
    x_scale=1.0,
    x_zero_point=0,
    y_scale=1.0,
    y_zero_point=0,
    bias=(0,),
)
TIES = replace(
    SINGLE_PRODUCT,
    name="ties",
    outputs=12,
    w=(1, -1, 3, -3, 127, -127, 1, -1, 5, -5, 1, -1),
    w_scale=(0.5, 0.5, 0.25, 0.25, 2.0**-7, 2.0**-7, 2.0**-3, 2.0**-3, 1.5, 1.5, 0.75, 0.75),
)
"""Factors of 2**-k and small fractions: half of the accumulators lie between two outputs."""

SHIFTS = [
    replace(
        SINGLE_PRODUCT,
        name="shifts-down",
        outputs=8,
        w=(1, -1),
        w_scale=(2.0**-33, 2.0**-32, 2.0**-31, 2.0**-30, 1.3 * 2.0**-30, 1e-12, 1e-20, 0.9),
        bias=(2**31 - 200, -(2**31) + 200),
    ),
    replace(
        SINGLE_PRODUCT,
        name="shifts-up",
        outputs=6,
        w=(1, -1),
        w_scale=(1.0, 2.0, 3.7, 100.0, 127.5, 8000.0),
        bias=(0,),
    ),
]
"""From multipliers of zero to left shifts."""


def _kinds(layer: Layer) -> list[Layer]:
    """The layer as each kind, with as many outputs as a depthwise convolution can have."""
    channels = layer.x[3]
    multiple = channels * max(1, round(layer.outputs / channels))
    return [
        layer,
        replace(layer, kind="depthwise", outputs=multiple),
        replace(layer, kind="transpose"),
    ]


def _only() -> list[Layer]:
    """Special for one kind."""
    return [
        Layer(name="dilated", dilation=(2, 3), kernel=(3, 2), x=(1, 7, 7, 3)),
        Layer(name="dilated-valid", dilation=(3, 2), padding="VALID", x=(1, 9, 8, 2)),
        Layer(name="pointwise", kernel=(1, 1), x=(1, 4, 3, 9), outputs=9),
        Layer(name="groups", groups=2, x=(1, 4, 5, 6), outputs=10),
        Layer(name="groups-of-one", groups=5, x=(1, 4, 5, 5), outputs=10, kernel=(2, 2)),
        Layer(name="deep", kernel=(1, 1), x=(1, 1, 2, 1100), outputs=5),
        Layer(kind="depthwise", name="dilated", dilation=(2, 3), kernel=(3, 2), x=(1, 7, 7, 3),
              outputs=3),
        Layer(kind="depthwise", name="multiplied", x=(1, 4, 5, 1), outputs=8),
        Layer(kind="depthwise", name="multiplied-odd", x=(1, 4, 5, 3), outputs=9, stride=(2, 2)),
        Layer(kind="transpose", name="wide-stride", stride=(4, 5), kernel=(2, 3), padding="VALID"),
        Layer(kind="transpose", name="same-stride-2", stride=(2, 2), x=(1, 4, 3, 4), outputs=4),
    ]  # fmt: skip


def _beyond_tflite() -> list[Layer]:
    """What only other front ends make."""
    return [
        Layer(name="uneven-padding", padding=(0, 2, 3, 1)),
        Layer(name="padding-beyond-kernel", padding=(4, 3, 5, 4), kernel=(2, 2), x=(1, 2, 3, 3)),
        Layer(name="no-bias", bias="none"),
        Layer(name="no-bias-groups", bias="none", groups=3, dilation=(2, 1), x=(1, 7, 4, 6),
              outputs=6, padding=(2, 0, 1, 2)),
        Layer(kind="depthwise", name="no-bias", bias="none", outputs=3),
        Layer(kind="depthwise", name="padding-beyond-kernel", padding=(4, 3, 5, 4), kernel=(2, 2),
              x=(1, 2, 3, 5)),
        Layer(kind="transpose", name="no-bias", bias="none"),
        Layer(kind="transpose", name="groups", groups=2, x=(1, 4, 3, 6), outputs=10,
              stride=(2, 1)),
        Layer(kind="transpose", name="dilated", stride=(2, 3), dilation=(4, 2), kernel=(3, 2),
              padding=(1, 0, 2, 1), output_padding=(1, 2)),
        Layer(kind="transpose", name="dilated-coprime", stride=(3, 2), dilation=(2, 3),
              kernel=(3, 3), padding=(0, 2, 0, 0)),
        Layer(kind="transpose", name="untouched-outputs", stride=(3, 3), kernel=(1, 2),
              padding=(0, 0, 0, 0), output_padding=(4, 5)),
    ]  # fmt: skip


def _wrapping() -> list[Layer]:
    """Sums that leave int32 by the bias; the reference kernels leave their result undefined."""
    layer = replace(
        SINGLE_PRODUCT,
        name="wrapping-bias",
        outputs=4,
        w=(127, -127),
        w_scale=(2.0**-25,),
        bias=(2**31 - 1, -(2**31)),
    )
    return [
        *_kinds(layer),
        *_kinds(replace(layer, name="wrapping-zero-point", w_scale=(2.0**20,), y_zero_point=127)),
    ]


def _long_sums() -> list[Layer]:
    """Sums of int16 products that leave int32, with enough of one sign."""
    long = Layer(
        name="long-sum",
        dtype=DType.INT16,
        x=(1, 24, 24, 1),
        kernel=(24, 24),
        padding="VALID",
        outputs=5,
        w=(-128,),
        constant_x=-32768,
        y_scale=100.0,
    )
    return [
        long,
        replace(long, name="long-run", x=(1, 1, 1, 1100), kernel=(1, 1), w=(127,)),
        replace(long, kind="depthwise"),
        replace(long, kind="transpose", x=(1, 1, 1, 1100), kernel=(1, 1)),
    ]


def layers(*, tflite: bool) -> list[Layer]:
    """The grid, or what of it TFLite can express."""
    every = [k for layer in ANY_KIND for k in _kinds(layer)] + _only()
    integer = [k for layer in [*QUANTIZED, TIES, *SHIFTS] for k in _kinds(layer)]
    if not tflite:
        every += _beyond_tflite()
    found = [replace(layer, dtype=dtype) for layer in every for dtype in DTYPES]
    found += [replace(layer, dtype=dtype) for layer in integer for dtype in DTYPES[:2]]
    return found if tflite else found + _wrapping() + _long_sums()


def residual_case(dtype: DType, activation: Activation) -> Case:
    """A convolution that ends a residual block."""
    layer = Layer(name=f"residual-{activation}", dtype=dtype, activation="relu6")
    w, bias = layer.weights()
    operator = layer.operator()
    assert isinstance(operator, Conv2D)
    x = TensorType(layer.x, dtype)
    if dtype is DType.FLOAT32:
        fused = replace(operator, residual_clamp=float_activation_clamp(activation))
    else:
        _, _, a = layer.quantizations()
        zero_points = (5, -7) if dtype is DType.INT8 else (0, 0)
        quant = Sum.quantized(
            a=a,
            b=Quantization.per_tensor(a.scalar_scale * 0.7, zero_points[0]),
            y=Quantization.per_tensor(a.scalar_scale * 1.6, zero_points[1]),
            dtype=dtype,
            activation=activation,
        )
        fused = replace(operator, residual=quant)
    (y,) = operator.infer(x, TensorType(w.shape, DType(w.dtype.name)))
    program = one_operator(fused, x, ("const", w), ("const", bias), y, name="residual")
    return Case(f"conv-{dtype}-{layer.name}", program, 5)


def cases() -> list[Case]:
    """The grid."""
    residuals = [residual_case(d, a) for d in DTYPES for a in ("none", "relu")]
    return [layer.case() for layer in layers(tflite=False)] + residuals
