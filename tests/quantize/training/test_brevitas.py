"""Networks with Brevitas layers: what is read, and that it is what Brevitas computes."""

from __future__ import annotations

import copy
import importlib
import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgekit
from edgekit.errors import EdgekitError, UnsupportedError, UsageError
from edgekit.quantize import convert
from edgekit.quantize.training.brevitas import from_brevitas, is_brevitas
from edgekit.quantize.training.brevitas.activations import read_activation
from edgekit.quantize.training.brevitas.weights import read_weights
from tests.support.chain import check_host

pytestmark = [
    pytest.mark.torch,
    pytest.mark.needs("torch", "brevitas"),
    pytest.mark.filterwarnings("ignore"),
]

Settings = dict[str, Any]


class _Late:
    """A module that is imported when something of it is asked for: tests are collected without."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


qnn, quant = _Late("brevitas.nn"), _Late("brevitas.quant")
ocp, mx = _Late("brevitas.quant.float_quant_ocp"), _Late("brevitas.quant.mx_quant_ocp")


def integer(bits: int, **more: Any) -> Settings:
    """Integer weights with a scale per channel."""
    return {"weight_quant": quant.Int8WeightPerChannelFloat, "weight_bit_width": bits, **more}


def minifloat(kind: Any, exponent: int, mantissa: int) -> Settings:
    """Weights of other widths by a quantiser that has no width of its own."""
    return {
        "weight_quant": kind,
        "weight_bit_width": 1 + exponent + mantissa,
        "weight_exponent_bit_width": exponent,
        "weight_mantissa_bit_width": mantissa,
    }


def mxfp4() -> Settings:
    """OCP's MXFP4."""
    return minifloat(mx.MXFloat8e4m3Weight, 2, 1)


def one(name: str, source: Any = quant) -> Callable[[], Settings]:
    """A quantiser as it is."""
    return lambda: {"weight_quant": getattr(source, name)}


def per_channel(exponent: int, mantissa: int) -> Callable[[], Settings]:
    """Minifloats with a scale per channel."""
    return lambda: minifloat(ocp.FpOCPWeightPerChannelFloat, exponent, mantissa)


WEIGHTS: dict[str, tuple[str, Callable[[], Settings]]] = {
    **{f"int{bits}": (f"int{bits}", partial(integer, bits)) for bits in range(3, 9)},
    "int4 wide": ("int4", partial(integer, 4, weight_narrow_range=False)),
    "int2 wide": ("int2", partial(integer, 2, weight_narrow_range=False)),
    "int2 narrow": ("ternary-c", partial(integer, 2)),
    "int8 tensor": ("int8-t", one("Int8WeightPerTensorFloat")),
    "fixed point": ("int8-t", one("Int8WeightPerTensorFixedPoint")),
    "decoupled": ("int8", one("Int8WeightNormL2PerChannelFixedPoint")),
    "ternary": ("ternary", one("SignedTernaryWeightPerTensorConst")),
    "binary": ("binary-t", one("SignedBinaryWeightPerTensorConst")),
    **{
        f"fp{1 + e + m} e{e}m{m}": (f"fp{1 + e + m}-e{e}m{m}", per_channel(e, m))
        for e, m in ((2, 1), (1, 2), (3, 0), (2, 3), (3, 4))
    },
    "fp8 e4m3": ("fp8-e4m3", one("Fp8e4m3OCPWeightPerChannelFloat", ocp)),
    "fp8 e5m2": ("fp8-e5m2-t", one("Fp8e5m2OCPWeightPerTensorFloat", ocp)),
    "mxfp4": ("mxfp4", mxfp4),
    "mxfp8": ("fp8-e4m3-g32-shift", one("MXFloat8e4m3Weight", mx)),
    "mxint8": ("int8-g32-shift", one("MXInt8Weight", mx)),
}
"""Quantisers of weights: the format that they are read as, settings of the layer."""

LAYERS: dict[str, Callable[[Settings], nn.Module]] = {
    "linear": lambda s: qnn.QuantLinear(72, 6, bias=True, **s),
    "conv1d": lambda s: qnn.QuantConv1d(64, 6, 3, stride=2, bias=False, **s),
    "conv2d": lambda s: qnn.QuantConv2d(32, 6, (3, 2), padding=1, bias=True, **s),
    "grouped": lambda s: qnn.QuantConv2d(64, 6, 3, groups=2, bias=False, **s),
    "depthwise": lambda s: qnn.QuantConv2d(8, 8, 3, groups=8, bias=True, **s),
}
INPUTS = {
    "linear": (4, 72),
    "conv1d": (4, 64, 9),
    "conv2d": (4, 32, 5, 5),
    "grouped": (4, 64, 5, 5),
    "depthwise": (4, 8, 6, 6),
}


def seeded(name: str) -> np.random.Generator:
    """Numbers for a case."""
    return np.random.default_rng(sum(map(ord, name)))


def spread(layer: Any, name: str) -> Any:
    """A layer whose channels and groups differ in magnitude by orders, with zeros."""
    rng = seeded(name)
    weight = rng.standard_normal(tuple(layer.weight.shape)).astype(np.float32)
    weight *= 2.0 ** rng.integers(-4, 3, (weight.shape[0], *(1,) * (weight.ndim - 1)))
    weight[:, : weight.shape[1] // 2] *= 2.0**-3
    weight.reshape(-1)[::7] = 0
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
        # Statistics of the weight that a quantiser learns start from the weight as it is now.
        layer.weight_quant.init_tensor_quant()
    return layer.eval()


def by_row(array: np.ndarray) -> np.ndarray:
    """[O, I, *K] as rows of (*K, I)."""
    return np.moveaxis(array, 1, -1).reshape(array.shape[0], -1)


def oracle(quantized: Any) -> np.ndarray:
    """What Brevitas says the integers are; of minifloats the numbers."""
    if hasattr(quantized, "mantissa_bit_width"):
        return quantized.minifloat().detach().numpy()
    return quantized.int().numpy()


@pytest.mark.parametrize("shape", LAYERS)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_integers_and_weights_are_those_of_brevitas(kind: str, shape: str) -> None:
    """To the bit: the integers, and the reals that the format decodes them to."""
    text, settings = WEIGHTS[kind]
    layer = spread(LAYERS[shape](settings()), kind + shape)
    with torch.no_grad():
        quantized = layer.quant_weight()
    coded, fmt = read_weights(kind, layer, quantized)
    if not fmt.group or fmt.group == 32:
        assert str(fmt) == text
    numbers = coded.integers * fmt.element.unit
    np.testing.assert_array_equal(numbers, by_row(oracle(quantized)))
    assert len(np.unique(coded.integers)) > 1
    np.testing.assert_array_equal(
        fmt.dequantize(coded), by_row(quantized.value.detach().numpy()), strict=True
    )
    np.testing.assert_array_equal(fmt.unpack(fmt.pack(coded)).integers, coded.integers)


@pytest.mark.parametrize("shape", LAYERS)
@pytest.mark.parametrize("kind", ["int4", "ternary", "binary", "fp4 e2m1", "fp8 e5m2", "mxfp4"])
def test_a_layer_computes_what_brevitas_computes(kind: str, shape: str) -> None:
    """Up to the order of a float32 sum: K rounding errors of the sum of magnitudes."""
    layer = spread(LAYERS[shape](WEIGHTS[kind][1]()), kind)
    network = nn.Sequential(qnn.QuantIdentity(return_quant_tensor=True), layer)
    x = torch.from_numpy(seeded(shape).standard_normal(INPUTS[shape]).astype(np.float32))
    network(x)
    network.eval()
    want = plain_value(network(x))
    got = from_brevitas(network, x, allow_fallback=True)(x)
    with torch.no_grad():
        magnitudes = copy.deepcopy(layer)
        magnitudes.weight_quant.disable_quant = True
        magnitudes.weight.abs_()
        reach = plain_value(magnitudes(x.abs() * 2)).abs().max()
    columns = math.prod(layer.weight.shape[1:])
    assert float((want - got).abs().max()) <= columns * 2.0**-23 * float(reach)
    assert float(want.abs().max()) > 0


def plain_value(result: Any) -> Tensor:
    """A result without its scale."""
    value: Tensor = getattr(result, "value", result)
    return value.detach()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    **{f"relu{b}": lambda b=b: qnn.QuantReLU(bit_width=b) for b in range(2, 9)},
    **{f"identity{b}": lambda b=b: qnn.QuantIdentity(bit_width=b) for b in range(2, 9)},
    "narrow": lambda: qnn.QuantIdentity(narrow_range=True),
    "shifted": lambda: qnn.QuantIdentity(act_quant=quant.ShiftedUint8ActPerTensorFloat),
    "fixed point": lambda: qnn.QuantIdentity(act_quant=quant.Int8ActPerTensorFixedPoint),
    "binary": lambda: qnn.QuantIdentity(act_quant=quant.SignedBinaryActPerTensorConst),
    "ternary": lambda: qnn.QuantIdentity(act_quant=quant.SignedTernaryActPerTensorConst),
    "hard tanh": lambda: qnn.QuantHardTanh(min_val=-1.0, max_val=1.0),
    "sigmoid": lambda: qnn.QuantSigmoid(),
    "tanh": lambda: qnn.QuantTanh(),
    "hard swish": lambda: qnn.QuantHardSwish(),
    "relu alone": lambda: qnn.QuantReLU(act_quant=None),
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_are_those_of_brevitas(kind: str) -> None:
    """To the bit, saturation included, and ties where there is no zero point."""
    layer: Any = ACTIVATIONS[kind]()
    layer(torch.from_numpy(seeded(kind).standard_normal((64, 8)).astype(np.float32)))
    layer.eval()
    steps = read_activation(kind, layer.act_quant)
    scale = 1.0 if kind == "relu alone" else float(layer.act_quant.scale())
    # Brevitas adds the zero point before it rounds: ties go by the code's parity, not the step's.
    off_ties = 1 / 64 if kind == "shifted" else 0
    x = (torch.arange(-600, 601) + off_ties) * 0.5 * scale
    np.testing.assert_array_equal(
        nn.Sequential(*steps)(x).detach().numpy(), plain_value(layer(x)).numpy()
    )


class Net(nn.Module):
    """Normalisation, a depthwise layer, a residual sum, pooling and a classifier."""

    def __init__(self, settings: Settings, *, quant_tensors: bool, width: int = 8) -> None:
        super().__init__()
        given: Settings = {"return_quant_tensor": quant_tensors}
        self.image = qnn.QuantIdentity(**given)
        self.stem = qnn.QuantConv2d(3, width, 3, padding=1, bias=False, **settings)
        self.norm = nn.BatchNorm2d(width)
        self.first = qnn.QuantReLU(**given)
        self.depth = qnn.QuantConv2d(width, width, 3, groups=width, bias=True, **settings)
        self.second = qnn.QuantReLU(**given)
        self.point = qnn.QuantConv2d(width, width, 1, bias=True, **settings)
        self.both = qnn.QuantIdentity(**given)
        self.sum = qnn.QuantIdentity(**given)
        self.pool = nn.MaxPool2d(2)
        self.scores = qnn.QuantLinear(width * 9, 5, bias=True, **settings)
        self.out = qnn.QuantIdentity(**given)

    def forward(self, image: Tensor) -> Tensor:
        """float32[N, 3, 8, 8] to [N, 5]."""
        x = self.first(self.norm(self.stem(self.image(image))))
        x = self.second(self.depth(x))
        x = self.sum(self.both(self.point(x)) + self.both(x))
        return self.out(self.scores(self.pool(x).flatten(1)))


def images(count: int, seed: int = 0) -> Tensor:
    """Seeded images."""
    drawn = np.random.default_rng(seed).standard_normal((count, 3, 8, 8))
    return torch.from_numpy(drawn.astype(np.float32))


def calibrated(network: Any, *, mixed: bool = True) -> Any:
    """A network that saw data, whose normalisation has negative weights too."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1.5, generator=generator)
                part.bias.uniform_(-0.5, 0.5, generator=generator)
                if mixed:
                    part.weight[::3] *= -1
    for seed in range(4):
        network(images(16, seed))
    return network.eval()


def make(settings: Settings, *, quant_tensors: bool = True, **more: Any) -> Any:
    """A calibrated network with random weights."""
    torch.manual_seed(5)
    return calibrated(Net(settings, quant_tensors=quant_tensors), **more)


STEPS, SHARE = 4, 0.5
"""How far a score of a whole network may be from Brevitas' in its steps, and how many may differ.
Biases of a normalisation are rounded to the integers' own steps, so that one code in a hundred of
a layer is one step off; a code of one layer moves several of the next."""


@pytest.mark.needs("cc")
@pytest.mark.parametrize("kind", ["int4", "ternary"])
def test_a_network_is_deployed(kind: str) -> None:
    """The module equals Brevitas, the Program nearly, and host C the Program."""
    network = make(WEIGHTS[kind][1]())
    x = images(100, 9)
    want, step = plain_value(network(x)), float(network.out.act_quant.scale())
    plain = from_brevitas(network, x[:1])
    torch.testing.assert_close(plain(x), want, rtol=0, atol=1.01 * step)
    assert float((plain(x) != want).float().mean()) < 0.01
    converted = convert(network, example_inputs=x[:1])
    operators = [operation.operator for operation in converted.program.operations]
    coded = [operator.coding for operator in operators if getattr(operator, "coding", None)]
    assert [c.element for c in coded] == [kind] * 4
    off = (converted(x) - want).abs() / step
    assert float(off.max()) < STEPS + 0.5
    assert float((off > 0.5).float().mean()) <= SHARE
    rng = np.random.default_rng(1)
    name = converted.program.inputs[0].name
    samples = [{name: rng.integers(-128, 128, (1, 3, 8, 8)).astype(np.int8)} for _ in range(8)]
    check_host(converted.program, samples)


@pytest.mark.parametrize("quant_tensors", [False, True])
def test_quant_tensors_change_nothing(quant_tensors: bool) -> None:
    """Whether layers pass their scales on or not, the same module comes out."""
    network = make(integer(4), quant_tensors=quant_tensors)
    x = images(20, 7)
    assert torch.equal(from_brevitas(network, x)(x), from_brevitas(make(integer(4)), x)(x))


def test_the_network_is_left_as_it_was() -> None:
    """Parameters, buffers, modes and results."""
    network = make(integer(4)).train()
    network.pool.eval()
    before = copy.deepcopy(network.state_dict())
    modes = [part.training for part in network.modules()]
    from_brevitas(network, images(2))
    assert [part.training for part in network.modules()] == modes
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(part._forward_hooks for part in network.modules())


def test_plain_networks_have_no_brevitas_layers() -> None:
    """The question and its answer."""
    assert not is_brevitas(nn.Linear(2, 2))
    assert not is_brevitas("net.onnx")
    assert is_brevitas(nn.Sequential(qnn.QuantIdentity()))
    with pytest.raises(UsageError, match="has no Brevitas layers"):
        from_brevitas(nn.Sequential(nn.ReLU()), torch.zeros(1, 2))


@pytest.mark.parametrize("kind", ["int4", "ternary", "binary"])
def test_normalisation_keeps_the_integers(kind: str) -> None:
    """Scales take the factor; a negative one turns the signs of a row."""
    network = make(WEIGHTS[kind][1]())
    plain: Any = from_brevitas(network, images(1))
    with torch.no_grad():
        want = by_row(network.stem.quant_weight().int().numpy())
    negative = (network.norm.weight < 0).numpy()
    assert negative.any()
    assert not negative.all()
    rows = by_row(plain.stem.weight().numpy())
    scale = plain.stem.weight.scale.numpy()
    np.testing.assert_array_equal(
        np.rint(rows / scale[:, None]) * np.where(negative, -1, 1)[:, None], want
    )


def test_normalisation_that_negates_what_has_no_opposite() -> None:
    """-8 of four bits: refused with what would do."""
    with pytest.raises(UnsupportedError, match=r"stem.*narrow_range=True"):
        from_brevitas(make(integer(4, weight_narrow_range=False)), images(1))
    from_brevitas(make(integer(4, weight_narrow_range=False), mixed=False), images(1))


@pytest.mark.parametrize("bias", [None, quant.Int8Bias, quant.Int16Bias, quant.Int32Bias])
def test_biases(bias: Any) -> None:
    """As the layer adds them, quantised or not."""
    layer = qnn.QuantLinear(8, 3, bias=True, bias_quant=bias, **integer(4))
    network: Any = nn.Sequential(qnn.QuantIdentity(return_quant_tensor=True), layer)
    x = images(1).reshape(-1, 8)
    network(x)
    network.eval()
    with torch.no_grad():
        seen = network[0](x)
        weight = layer.quant_weight()
        given = layer.bias_quant(layer.bias, seen, weight)
    plain: Any = from_brevitas(network, x, allow_fallback=True)
    assert torch.equal(plain[1].bias, plain_value(given))


def test_shared_layers_and_quantisers() -> None:
    """One layer called twice, one quantiser in two places: shared as they were."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = qnn.QuantIdentity(return_quant_tensor=True)
            self.same = qnn.QuantLinear(6, 6, bias=False, **integer(8))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale(self.same(self.scale(self.same(self.scale(x)))))

    network: Any = Twice()
    x = images(1).reshape(-1, 6)
    network(x)
    network.eval()
    plain: Any = from_brevitas(network, x)
    torch.testing.assert_close(
        plain(x), plain_value(network(x)), rtol=0, atol=1.01 * float(plain.scale.scale)
    )
    assert len([part for part in plain.modules() if type(part).__name__ == "CodedLinear"]) == 1


def test_sums_and_concatenations() -> None:
    """QuantEltwiseAdd, and torch's own concatenation, whose operands share a quantiser."""

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = qnn.QuantIdentity(return_quant_tensor=True)
            self.left = qnn.QuantConv2d(3, 4, 1, bias=False, **integer(8))
            self.right = qnn.QuantConv2d(3, 4, 1, bias=False, **integer(8))
            self.add = qnn.QuantEltwiseAdd(return_quant_tensor=True)
            self.shared = qnn.QuantIdentity(return_quant_tensor=True)
            self.cat = qnn.QuantIdentity(return_quant_tensor=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.image(x)
            left, right = self.shared(self.left(x)), self.right(x)
            return self.cat(torch.cat([self.shared(self.add(left, right)), left], 1))

    network: Any = Joined()
    x = images(8)
    network(x)
    network.eval()
    step = float(network.cat.act_quant.scale())
    plain = from_brevitas(network, x)
    torch.testing.assert_close(plain(x), plain_value(network(x)), rtol=0, atol=1.01 * step)
    converted = convert(network, example_inputs=x[:1])
    off = (converted(x) - plain_value(network(x))).abs() / step
    assert float(off.max()) < 2.5


def test_a_single_layer() -> None:
    """The network may be one layer with quantisers of its own; an Int32Bias stays as it is."""
    layer: Any = qnn.QuantLinear(
        6,
        3,
        bias=True,
        bias_quant=quant.Int32Bias,
        input_quant=quant.Int8ActPerTensorFloat,
        output_quant=quant.Int8ActPerTensorFloat,
        **integer(4),
    )
    x = images(1).reshape(-1, 6)
    layer(x)
    layer.eval()
    step = float(layer.output_quant.scale())
    converted = convert(layer, example_inputs=x[:1])
    assert float((converted(x) - plain_value(layer(x))).abs().max()) < 1.5 * step
    with torch.no_grad():
        given = layer.bias_quant(layer.bias, layer.input_quant(x), layer.quant_weight())
    constants = [t.data for t in converted.program.tensors.values() if t.is_constant]
    assert any(c is not None and np.array_equal(c, given.int().numpy()) for c in constants)


def behind(layer: nn.Module) -> nn.Module:
    """A layer between quantisers, calibrated."""
    network = nn.Sequential(qnn.QuantIdentity(return_quant_tensor=True), layer, qnn.QuantIdentity())
    network(torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0)))
    return network.eval()


def conv(**settings: Any) -> nn.Module:
    """A layer that reads 8 channels."""
    return qnn.QuantConv2d(8, 4, 3, bias=False, **settings)


def derived() -> nn.Module:
    """A layer of the user's own."""

    class Derived(qnn.QuantConv2d):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return super().forward(x)

    return Derived(8, 4, 3)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no weight quantiser": (lambda: conv(weight_quant=None), "not quantised; give it a weight_qu"),
    "zero points": (
        lambda: conv(weight_quant=quant.ShiftedUint8WeightPerTensorFloat),
        "zero points other than 0; use a symmetric",
    ),
    "sixteen bits": (
        lambda: conv(weight_quant=quant.Int8WeightPerChannelFloat, weight_bit_width=16),
        "16 bits, must have 1 to 8",
    ),
    "an unknown minifloat": (
        lambda: conv(**minifloat(ocp.FpOCPWeightPerChannelFloat, 3, 2)),
        "fp6-e3m2; there are fp4-e2m1",
    ),
    "a minifloat beyond OCP's": (
        lambda: conv(weight_quant=quant.Fp8e4m3WeightPerChannelFloat),
        "no level of fp8-e4m3.*use the OCP quantisers",
    ),
    "transposed": (
        lambda: qnn.QuantConvTranspose2d(8, 4, 3),
        "cannot be read; there are QuantLinear",
    ),
    "derived": (derived, "has a forward of its own"),
    "circular padding": (
        lambda: conv(padding=1, padding_mode="circular"),
        "pads by 'circular', must be 'zeros'",
    ),
    "same padding with a stride": (
        lambda: conv(padding="same", stride=2),
        "padding 'same' with a stride",
    ),
    "dynamic activations": (
        lambda: qnn.QuantIdentity(act_quant=mx.MXInt8Act, group_dim=1, group_size=8),
        "scales groups of every input anew; use a static",
    ),
    "minifloat activations": (
        lambda: qnn.QuantIdentity(act_quant=ocp.Fp8e4m3OCPActPerTensorFloat),
        "gives minifloats; use a static",
    ),
    "wide activations": (lambda: qnn.QuantIdentity(bit_width=12), "12 bits"),
    "activations per channel": (
        lambda: qnn.QuantIdentity(
            scaling_per_output_channel=True,
            per_channel_broadcastable_shape=(1, 8, 1, 1),
            scaling_stats_permute_dims=(1, 0, 2, 3),
        ),
        "8 scales, must have one",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_deployed_is_refused(case: str) -> None:
    """With the layer's name, what of it, and what would be right."""
    make_layer, message = REFUSED[case]
    with pytest.raises(UnsupportedError, match=rf"^1 \(.*{message}"):
        from_brevitas(behind(make_layer()), torch.zeros(1, 8, 6, 6))


def test_a_width_that_is_no_whole_number() -> None:
    """As a quantiser of the user's own may learn one."""
    layer: Any = conv(**integer(4)).eval()
    quantized = layer.quant_weight().set(bit_width=torch.tensor(4.5))
    with pytest.raises(UnsupportedError, match=r"bit_width.*\[4\.5\], must be one whole number"):
        read_weights("conv", layer, quantized)


def test_values_without_a_scale_are_listed() -> None:
    """Every one, and what gives it one; a fallback leaves them in float."""

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = qnn.QuantConv2d(3, 4, 1, bias=False, **integer(4))
            self.relu = qnn.QuantReLU()
            self.second = qnn.QuantConv2d(4, 4, 1, bias=False, **integer(4))
            self.third = qnn.QuantConv2d(4, 4, 1, bias=False, **integer(4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.first(x))
            return self.third(self.second(x) + x)

    network = Bare()
    network(images(4))
    with pytest.raises(UnsupportedError) as caught:
        from_brevitas(network.eval(), images(1))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("Bare: values without a scale would stay in float32")
    mended = "QuantIdentity(return_quant_tensor=True) behind it"
    assert [line.strip().partition(":")[0] for line in lines[1:]] == [
        "input 'x'",
        "second (QuantConv2d)",
        "add",
        "add",
        "third (QuantConv2d)",
    ]
    assert all(mended in line for line in lines[1:])
    x = images(4)
    plain = from_brevitas(network, x, allow_fallback=True)
    torch.testing.assert_close(plain(x), plain_value(network(x)), rtol=1e-5, atol=1e-5)


def test_a_quantiser_that_never_saw_data() -> None:
    """Its scale means nothing."""
    network = nn.Sequential(qnn.QuantIdentity(), qnn.QuantConv2d(3, 2, 1), qnn.QuantIdentity())
    with pytest.raises(UsageError, match=r"0 \(QuantIdentity\): its activation.*never saw data"):
        from_brevitas(network.eval(), images(1))


def test_a_forward_that_takes_quant_tensors_apart() -> None:
    """Named, where it would otherwise fail with an attribute that tensors have not."""

    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = qnn.QuantIdentity(return_quant_tensor=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.image(x).value + 1

    network = Apart()
    network(images(4))
    with pytest.raises(UnsupportedError, match=r"reads \.value of a QuantTensor"):
        from_brevitas(network.eval(), images(1))
    with pytest.raises(UsageError, match="Brevitas layers: give example_inputs"):
        convert(network)


def test_groups_that_vanish_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A group 2**16 below the largest of its row becomes 0, which the log says."""
    layer: Any = qnn.QuantLinear(64, 2, bias=False, **mxfp4())
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.weight[0, 32:] = 2.0**-16
    layer.weight_quant.init_tensor_quant()
    with caplog.at_level(logging.WARNING), torch.no_grad():
        coded, _ = read_weights("fc", layer, layer.eval().quant_weight())
    assert coded.factors is not None
    assert coded.factors.tolist() == [[1, 0], [1, 1]]
    assert "fc: 1 of 4 groups" in caplog.text


@pytest.mark.needs("cc")
def test_export(tmp_path: Path) -> None:
    """``edgekit.export`` takes the network as it is; the artifact answers as the module."""
    network: Any = nn.Sequential(
        qnn.QuantIdentity(return_quant_tensor=True),
        nn.Flatten(),
        qnn.QuantLinear(192, 5, bias=True, **mxfp4()),
        qnn.QuantIdentity(),
    )
    network(images(8))
    network.eval()
    x = images(3, 2)
    artifact = edgekit.export(network, x[:1], target="host", output=tmp_path / "out")
    converted = convert(network, example_inputs=x[:1])
    first = network[0].act_quant
    codes = torch.clamp(torch.round(x / first.scale()), -128, 127).to(torch.int8)
    assert torch.equal(converted.codes(codes), converted.codes(x))
    with artifact.open() as session:
        got = np.concatenate([session.run(sample[None]) for sample in codes.numpy()])
    np.testing.assert_array_equal(got, converted.codes(x).numpy())
    bare = nn.Sequential(*list(network)[:-1])
    with pytest.raises(EdgekitError, match="no quantiser reads its result"):
        edgekit.export(bare, x[:1], target="host", output=tmp_path / "none")
    assert not (tmp_path / "none").exists()
