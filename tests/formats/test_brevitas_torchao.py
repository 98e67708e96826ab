"""Numerics beside Brevitas, torchao and torch's own types, which share no code with ours.

Where both divide by the scale, equality is to the bit. Where one multiplies by a reciprocal, a
quotient may land on the other side of a tie: levels differ by one step, and only so near to a tie.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.formats import ELEMENTS, FACTORS, Format
from edgekit.formats.groups import spread

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

brevitas_needed = pytest.mark.needs("brevitas")
torchao_needed = pytest.mark.needs("torchao")

ROWS, COLUMNS = 24, 160

NEAR = 1e-6
"""Relative distance to a tie at which a reciprocal may decide otherwise."""


def weights(seed: int = 0) -> np.ndarray:
    """Rows of different size; no row is zero."""
    rng = np.random.default_rng(seed)
    size = np.exp2(rng.uniform(-4, 2, (ROWS, 1)))
    return (rng.standard_normal((ROWS, COLUMNS)) * size).astype(np.float32)


def brevitas_weights(quantizer: Any, w: np.ndarray, **options: Any) -> tuple[Any, ...]:
    """Values and scales of a Brevitas layer with these weights."""
    import brevitas.nn

    layer = brevitas.nn.QuantLinear(
        w.shape[1],
        w.shape[0],
        bias=False,
        weight_quant=quantizer,
        **{f"weight_{name}": value for name, value in options.items()},
    )
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
        quantized = layer.quant_weight()
        return quantized, quantized.value.numpy(), quantized.scale.numpy()


@brevitas_needed
@pytest.mark.parametrize("bits", range(3, 9))
def test_narrow_integers_per_channel_are_brevitas(bits: int) -> None:
    from brevitas.quant.scaled_int import Int8WeightPerChannelFloat

    w = weights()
    quantized, value, scale = brevitas_weights(Int8WeightPerChannelFloat, w, bit_width=bits)
    fmt = Format.parse(f"int{bits}")
    coded = fmt.quantize(w)
    np.testing.assert_array_equal(coded.scale, scale[:, 0])
    np.testing.assert_array_equal(coded.integers, quantized.int().numpy())
    np.testing.assert_array_equal(fmt.dequantize(coded), value)


@brevitas_needed
def test_integers_per_tensor_are_brevitas() -> None:
    from brevitas.quant.scaled_int import Int8WeightPerTensorFloat

    w = weights(1)
    quantized, _, scale = brevitas_weights(Int8WeightPerTensorFloat, w, bit_width=4)
    coded = Format.parse("int4-t").quantize(w)
    np.testing.assert_array_equal(coded.scale, scale.reshape(1))
    np.testing.assert_array_equal(coded.integers, quantized.int().numpy())


@brevitas_needed
@pytest.mark.parametrize("name", ["ternary", "ternary-mean", "ternary-p5"])
def test_ternary_weights_are_brevitas_at_our_scale(name: str) -> None:
    from brevitas.quant.ternary import SignedTernaryWeightPerTensorConst

    w = weights(2)
    fmt = Format.parse(name)
    coded = fmt.quantize(w)
    quantized, value, _ = brevitas_weights(
        SignedTernaryWeightPerTensorConst, w, scaling_const=float(coded.scale[0])
    )
    np.testing.assert_array_equal(coded.integers, quantized.int().numpy())
    np.testing.assert_array_equal(fmt.dequantize(coded), value)


@brevitas_needed
def test_binary_weights_are_brevitas_at_our_scale() -> None:
    from brevitas.quant.binary import SignedBinaryWeightPerTensorConst

    w = weights(3)
    w[0, :4] = 0, -0.0, 1e-30, -1e-30
    fmt = Format.parse("binary-t")
    coded = fmt.quantize(w)
    assert coded.integers[0, :4].tolist() == [1, 1, 1, -1]
    _, value, _ = brevitas_weights(
        SignedBinaryWeightPerTensorConst, w, scaling_const=float(coded.scale[0])
    )
    np.testing.assert_array_equal(fmt.dequantize(coded), value)


@brevitas_needed
@pytest.mark.parametrize(
    ("name", "exponent", "mantissa"),
    [("fp4-e2m1", 2, 1), ("fp6-e2m3", 2, 3), ("fp8-e4m3", 4, 3), ("fp8-e5m2", 5, 2)],
)
def test_minifloats_per_channel_are_brevitas(name: str, exponent: int, mantissa: int) -> None:
    from brevitas.quant import float_quant_ocp as ocp

    quantizer = ocp.Fp8e4m3OCPWeightPerChannelFloat
    if name == "fp8-e5m2":
        quantizer = ocp.Fp8e5m2OCPWeightPerChannelFloat
    w = weights(4)
    _, value, scale = brevitas_weights(
        quantizer,
        w,
        bit_width=1 + exponent + mantissa,
        exponent_bit_width=exponent,
        mantissa_bit_width=mantissa,
    )
    fmt = Format.parse(name)
    unit = np.float32(fmt.element.unit)
    np.testing.assert_array_equal(fmt.quantize(w).scale, scale[:, 0] * unit)
    np.testing.assert_array_equal(fmt.dequantize(fmt.quantize(w)), value)


@brevitas_needed
@pytest.mark.parametrize(
    ("name", "exponent", "mantissa"),
    [("fp4-e1m2", 1, 2), ("fp8-e3m4", 3, 4)],
)
def test_minifloats_that_ocp_lacks_are_brevitas(name: str, exponent: int, mantissa: int) -> None:
    from brevitas.quant.float import Fp8e4m3WeightPerChannelFloat

    w = weights(5)
    _, value, scale = brevitas_weights(
        Fp8e4m3WeightPerChannelFloat,
        w,
        bit_width=1 + exponent + mantissa,
        exponent_bit_width=exponent,
        mantissa_bit_width=mantissa,
    )
    fmt = Format.parse(name)
    np.testing.assert_array_equal(fmt.quantize(w).scale, scale[:, 0] * np.float32(fmt.element.unit))
    np.testing.assert_array_equal(fmt.dequantize(fmt.quantize(w)), value)


@brevitas_needed
@pytest.mark.parametrize(
    ("name", "exponent", "mantissa"),
    [("mxfp4", 2, 1), ("fp6-e2m3-g32-shift", 2, 3), ("fp8-e4m3-g32-shift", 4, 3)],
)
def test_mx_floats_are_brevitas(name: str, exponent: int, mantissa: int) -> None:
    from brevitas.quant.mx_quant_ocp import MXFloat8e4m3Weight

    w = weights(6)
    _, value, _ = brevitas_weights(
        MXFloat8e4m3Weight,
        w,
        bit_width=1 + exponent + mantissa,
        exponent_bit_width=exponent,
        mantissa_bit_width=mantissa,
    )
    fmt = Format.parse(name)
    np.testing.assert_array_equal(fmt.dequantize(fmt.quantize(w)), value)


def assert_near_ties(quotient: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Integers differ only beside a threshold, and there to the neighbouring level."""
    element = ELEMENTS["fp4-e2m1"]
    differ = ours != theirs
    distance = np.abs(element.thresholds - quotient[differ][:, None])
    nearest = distance.argmin(axis=1)
    near = distance.min(axis=1) <= NEAR * np.abs(quotient[differ])
    levels = np.array(element.levels)
    neighbours = {(int(a), int(b)) for a, b in itertools.pairwise(levels)}
    assert near.all()
    for index, a, b in zip(nearest, ours[differ], theirs[differ], strict=True):
        pair = (int(levels[index]), int(levels[index + 1]))
        assert pair in neighbours
        assert {int(a), int(b)} == set(pair)


@torchao_needed
@pytest.mark.parametrize("name", ["mxfp4", "fp8-e4m3-g32-shift", "fp8-e5m2-g32-shift"])
def test_mx_floats_are_torchao(name: str) -> None:
    """Scales are powers of two, so every step is exact."""
    from torchao.prototype.mx_formats.mx_tensor import MXTensor

    w = weights(7)
    dtype = {
        "mxfp4": torch.float4_e2m1fn_x2,
        "fp8-e4m3-g32-shift": torch.float8_e4m3fn,
        "fp8-e5m2-g32-shift": torch.float8_e5m2,
    }[name]
    theirs = MXTensor.to_mx(torch.from_numpy(w), dtype, 32)
    fmt = Format.parse(name)
    coded = fmt.quantize(w)
    np.testing.assert_array_equal(fmt.dequantize(coded), theirs.dequantize(torch.float32).numpy())
    if name == "mxfp4":
        packed = theirs.qdata.view(torch.uint8).numpy()
        # Ours writes no -0: compare what the nibbles mean, low nibble first.
        np.testing.assert_array_equal(fmt.element.unpack(packed.copy(), COLUMNS), coded.integers)


@torchao_needed
def test_nvfp4_is_torchao() -> None:
    from torchao.prototype.mx_formats import nvfp4_tensor

    w = weights(8)
    tensor_scale = nvfp4_tensor.per_tensor_amax_to_scale(torch.tensor(np.abs(w).max()))
    scales, packed = nvfp4_tensor.nvfp4_quantize(torch.from_numpy(w), 16, tensor_scale)
    fmt = Format.parse("nvfp4")
    coded = fmt.quantize(w)
    assert coded.factors is not None
    # Their smallest block scale is 2**-6; in these weights none is smaller.
    assert coded.factors.min() > 8
    codes = scales.view(torch.uint8).numpy().reshape(ROWS, -1)
    np.testing.assert_array_equal(FACTORS["e4m3"].decode(codes), coded.factors)
    assert coded.scale[0] == np.float32(tensor_scale) / np.float32(1024)
    theirs = fmt.element.unpack(packed.numpy().reshape(ROWS, -1).copy(), COLUMNS)
    step = spread(coded.factors, group=16, columns=COLUMNS) * coded.scale[0]
    assert_near_ties(w / step, coded.integers, theirs)
    assert (coded.integers != theirs).mean() < 0.001


@torchao_needed
@pytest.mark.parametrize("group", [32, 160])
def test_int4_at_a_given_scale_is_torchao(group: int) -> None:
    """Symmetric int4 of groups; theirs has one float scale a group, ours an integer multiple."""
    from torchao.quantization.quant_primitives import quantize_affine

    w = weights(9)
    fmt = Format.parse(f"int4-g{group}")
    coded = fmt.quantize(w)
    assert coded.factors is not None
    step = coded.factors.astype(np.float32) * coded.scale[:, None]
    theirs = quantize_affine(
        torch.from_numpy(w),
        (1, group),
        torch.from_numpy(step),
        torch.zeros(step.shape, dtype=torch.int32),
        torch.int8,
        quant_min=-7,
        quant_max=7,
    ).numpy()
    quotient = w / np.repeat(step, group, axis=1)
    differ = coded.integers != theirs
    beside = np.abs(np.abs(quotient - np.floor(quotient)) - 0.5) <= NEAR * np.abs(quotient)
    assert beside[differ].all()
    assert np.abs(coded.integers.astype(int) - theirs)[differ].max(initial=0) <= 1
    assert differ.mean() < 0.001


@pytest.mark.parametrize("name", ["fp8-e4m3", "fp8-e5m2"])
def test_rounding_is_that_of_torchs_types(name: str) -> None:
    dtype = {"fp8-e4m3": torch.float8_e4m3fn, "fp8-e5m2": torch.float8_e5m2}[name]
    element = ELEMENTS[name]
    largest = element.maximum * element.unit
    rng = np.random.default_rng(10)
    x = (rng.standard_normal(50_000) * np.exp2(rng.uniform(-20, 8, 50_000))).astype(np.float32)
    x = np.clip(x, -largest, largest)
    theirs = torch.from_numpy(x).to(dtype).to(torch.float32).numpy()
    np.testing.assert_array_equal(element.nearest(x) * element.unit, theirs)


@pytest.mark.parametrize("name", ELEMENTS)
def test_the_same_steps_in_torch_have_the_same_bits(name: str) -> None:
    """What the docstrings promise: division, thresholds, and one rounding to decode."""
    fmt = Format(ELEMENTS[name])
    w = weights(11)
    coded = fmt.quantize(w)
    tensor = torch.from_numpy(w)
    low, high = fmt.element.minimum, fmt.element.maximum
    top = tensor.amax(dim=1) / high
    scale = torch.maximum(top, (-tensor).amax(dim=1) / -low)
    np.testing.assert_array_equal(scale.numpy(), coded.scale)
    thresholds = torch.from_numpy(fmt.element.thresholds.copy())
    levels = torch.tensor(fmt.element.levels)
    index = torch.bucketize(tensor / scale[:, None], thresholds, right=True)
    integers = levels[index].clamp(min=low)
    np.testing.assert_array_equal(integers.numpy(), coded.integers)
    real = integers.to(torch.float32) * scale[:, None]
    np.testing.assert_array_equal(real.numpy(), fmt.dequantize(coded))


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_median_is_torchs(count: int) -> None:
    w = np.random.default_rng(count).standard_normal((1, count)).astype(np.float32)
    scale = Format.parse("ternary").quantize(w).scale
    assert scale[0] == torch.from_numpy(w).abs().median().numpy()
