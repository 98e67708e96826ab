"""Grid of the matrix products."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace

from edgekit.program.fixed_point import float_activation_clamp
from edgekit.program.ir import DType, Quantization, TensorType
from edgekit.program.operators.linear import BatchMatMul, FullyConnected
from tests.cases.case import Case, one_operator
from tests.cases.convolution import DTYPES, SPREAD, WeightedLayer


@dataclass(frozen=True, kw_only=True)
class Dense(WeightedLayer):
    """A fully connected layer."""

    kind: str = "dense"
    x: tuple[int, ...] = (3, 33)
    outputs: int = 7
    w_scale: tuple[float, ...] | None = (0.004,)

    @property
    def w_shape(self) -> tuple[int, ...]:
        """Shape of the operator's weights."""
        return (self.outputs, self.x[-1])

    def operator(self) -> FullyConnected:
        """The operator."""
        if self.dtype is DType.FLOAT32:
            return FullyConnected(clamp=float_activation_clamp(self.activation))
        x, w, y = self.quantizations()
        return FullyConnected.quantized(x=x, w=w, y=y, dtype=self.dtype, activation=self.activation)


# One product per output, so that the accumulators are known: x·w, w one of these, plus the bias.
SINGLE_PRODUCT = Dense(
    name="",
    x=(256, 1),
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

QUANTIZED = [
    Dense(name="zero-points-low-high", x_zero_point=-128, y_zero_point=127),
    Dense(name="zero-points-high-low", x_zero_point=127, y_zero_point=-128),
    Dense(name="zero-points-relu6", x_zero_point=127, y_zero_point=-128, activation="relu6"),
    Dense(name="per-output", w_scale=None, outputs=13),
    Dense(name="saturating", y_scale=0.001),
    TIES,
    replace(
        TIES,
        name="ties-between-thirds",
        y_scale=0.75,
        w_scale=(0.125, 0.625, 0.875, 1.375, 1.625, 0.0625) * 2,
    ),
    replace(
        SINGLE_PRODUCT,
        name="shifts-down",
        x=(3, 1),
        outputs=8,
        w=(1, -1),
        w_scale=(2.0**-33, 2.0**-32, 2.0**-31, 2.0**-30, 1.3 * 2.0**-30, 1e-12, 1e-26, 0.9),
        bias=(2**31 - 200, -(2**31) + 200),
    ),
    replace(
        SINGLE_PRODUCT,
        name="shifts-up",
        x=(20, 1),
        outputs=6,
        w=(1, -1),
        w_scale=(1.0, 2.0, 3.7, 100.0, 127.5, 8000.0),
    ),
]
"""Special for integers. Where 3 divides the ratio of the scales, float64 products come within half
a step of a tie and round to it."""

ANY_DTYPE = [
    Dense(name="plain"),
    Dense(name="one-element", x=(1, 1), outputs=1),
    Dense(name="one-output", x=(2, 17), outputs=1),
    Dense(name="eight-outputs", x=(1, 40), outputs=8),
    Dense(name="deep", x=(1, 1100), outputs=5),
    Dense(name="relu", activation="relu"),
    Dense(name="relu6", activation="relu6"),
    Dense(name="relu-n1-to-1", activation="relu_n1_to_1"),
    Dense(name="no-bias", bias="none"),
]
"""Special for every dtype."""

BEYOND_LITERT = [
    Dense(name="leading-axes", x=(2, 3, 1, 5)),
    replace(
        SINGLE_PRODUCT,
        name="wrapping-bias",
        x=(9, 1),
        outputs=4,
        w=(127, -127),
        w_scale=(2.0**-25,),
        bias=(2**31 - 1, -(2**31)),
    ),
    replace(
        SINGLE_PRODUCT, name="huge-factor", x=(9, 1), outputs=3, w=(1,), w_scale=(1e9, 1e12, 1e30)
    ),
]
"""Ranks that the builder flattens, and what the reference kernels leave undefined."""

HUGE_BIAS = replace(
    SINGLE_PRODUCT,
    name="huge-bias",
    dtype=DType.INT16,
    x=(9, 1),
    outputs=6,
    w=(1,),
    w_scale=(1e-15,),
    bias=(2**62, -(2**62), 2**53 + 1, -(2**53) - 1, 2**50 + 1, -(2**50) - 3),
)
"""Accumulators about where they saturate."""

LONG_SUM = Dense(
    name="long-sum",
    dtype=DType.INT16,
    x=(1, 1100),
    outputs=5,
    w=(-128,),
    constant_x=-32768,
    y_scale=100.0,
)
"""Leaves int32."""


def layers(*, litert: bool) -> list[Dense]:
    """Fully connected layers: the grid, or what of it LiteRT defines."""
    every = ANY_DTYPE if litert else ANY_DTYPE + BEYOND_LITERT[:1]
    integer = QUANTIZED if litert else QUANTIZED + BEYOND_LITERT[1:]
    found = [replace(layer, dtype=dtype) for layer in every for dtype in DTYPES]
    found += [replace(layer, dtype=dtype) for layer in integer for dtype in DTYPES[:2]]
    return found if litert else [*found, HUGE_BIAS, LONG_SUM]


@dataclass(frozen=True, kw_only=True)
class Product:
    """A product of two fed matrices.

    Attributes:
        name: what is special about it.
        dtype: of both.
        a, b: shapes; b as it is stored.
        transpose_b: as in the operator.
        a_scale, b_scale, y_scale, zero_points: quantisations; a y_scale of None is chosen.
    """

    name: str
    dtype: DType = DType.INT8
    a: tuple[int, ...] = (2, 5, 7)
    b: tuple[int, ...] = (2, 7, 6)
    transpose_b: bool = False
    a_scale: float = 0.02
    b_scale: float = 0.03
    y_scale: float | None = None
    zero_points: tuple[int, int, int] = (3, -5, 4)

    @property
    def id(self) -> str:
        """Unique in the grid."""
        return f"product-{self.dtype}-{self.name}"

    def quantizations(self) -> tuple[Quantization, Quantization, Quantization]:
        """Of a, b and y."""
        given, wanted = SPREAD[self.dtype]
        y_scale = self.y_scale
        if y_scale is None:
            y_scale = self.a_scale * self.b_scale * given**2 * math.sqrt(self.a[-1]) / wanted
        points = self.zero_points if self.dtype is DType.INT8 else (0, 0, 0)
        a, b, y = map(Quantization.per_tensor, (self.a_scale, self.b_scale, y_scale), points)
        return a, b, y

    def operator(self) -> BatchMatMul:
        """The operator."""
        if self.dtype is DType.FLOAT32:
            return BatchMatMul(transpose_b=self.transpose_b)
        a, b, y = self.quantizations()
        return BatchMatMul.quantized(a=a, b=b, y=y, dtype=self.dtype, transpose_b=self.transpose_b)

    def case(self) -> Case:
        """One cell of the grid."""
        a, b = TensorType(self.a, self.dtype), TensorType(self.b, self.dtype)
        program = one_operator(self.operator(), a, b, name="product")
        return Case(self.id, program, zlib.crc32(self.id.encode()))


PRODUCTS_OF_ANY_DTYPE = [
    Product(name="plain"),
    Product(name="transposed", b=(2, 6, 7), transpose_b=True),
    Product(name="matrices", a=(3, 9), b=(9, 5)),
    Product(name="one-element", a=(1, 1), b=(1, 1)),
    Product(name="outer", a=(9, 1), b=(1, 9)),
    Product(name="inner", a=(1, 1, 300), b=(1, 300, 1)),
    Product(name="broadcast-a", a=(4, 7), b=(3, 7, 5)),
    Product(name="broadcast-b", a=(2, 3, 4, 7), b=(3, 7, 5)),
    Product(name="broadcast-both", a=(2, 1, 4, 7), b=(3, 5, 7), transpose_b=True),
]
QUANTIZED_PRODUCTS = [
    Product(name="zero-points-low", zero_points=(-128, -128, 127)),
    Product(name="zero-points-high", zero_points=(127, 127, -128)),
    Product(name="zero-points-apart", zero_points=(-128, 127, 0), b=(2, 8, 7), transpose_b=True),
    Product(name="saturating", y_scale=0.001),
    Product(
        name="ties",
        a=(40, 1),
        b=(1, 40),
        a_scale=0.5,
        b_scale=0.25,
        y_scale=64.0,
        zero_points=(0, 0, 0),
    ),
    Product(name="shift-down", a=(3, 9), b=(9, 5), a_scale=1e-10, b_scale=1e-3, y_scale=1.0),
    Product(name="shift-up", a=(3, 1), b=(1, 5), a_scale=20.0, b_scale=20.0, y_scale=1.0),
]
BEYOND_TFLITE_PRODUCTS = [
    Product(name="five-axes", a=(2, 1, 3, 2, 4), b=(1, 2, 1, 4, 3)),
]


def products(*, tflite: bool) -> list[Product]:
    """Products of two matrices: the grid, or what of it TFLite can express."""
    every = PRODUCTS_OF_ANY_DTYPE if tflite else PRODUCTS_OF_ANY_DTYPE + BEYOND_TFLITE_PRODUCTS
    found = [replace(product, dtype=dtype) for product in every for dtype in DTYPES]
    return found + [
        replace(product, dtype=dtype) for product in QUANTIZED_PRODUCTS for dtype in DTYPES[:2]
    ]


def cases() -> list[Case]:
    """The grid."""
    grid = [*layers(litert=False), *products(tflite=False)]
    return [cell.case() for cell in grid]
