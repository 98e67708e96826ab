"""Freezing and converting trained networks: what training saw is what the device computes."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.errors import InvalidModelError, UnsupportedError, UsageError
from edgekit.program.ir import DType
from edgekit.quantize.training import PreparedModule, convert, freeze, prepare
from edgekit.quantize.training.activations import StaticQuantizer
from edgekit.quantize.training.coded_layers import (
    CodedConv2d,
    CodedLayer,
    CodedLinear,
    CodedWeight,
    Int8Weight,
)
from edgekit.quantize.training.fold import Affine, fit_bias, fold
from edgekit.quantize.training.freeze import coded_weight
from edgekit.zoo.table import NETWORKS, build
from tests.support.trainable_networks import (
    Convolutions,
    Recurrent,
    Tokens,
    Upsampling,
    disturb,
    small_cnn,
)

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

IMAGES = (32, 2, 6, 6)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(model: nn.Module, recipe: Any, x: Tensor, **settings: Any) -> nn.Module:
    """Prepared, trained for a few steps, in eval mode."""
    prepared = prepare(disturb(model), recipe, x, **settings)
    optimizer = torch.optim.Adam(prepared.parameters(), lr=2e-3)
    labels = torch.randint(0, 4, (len(x),), generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        optimizer.zero_grad()
        functional.cross_entropy(prepared(x), labels).backward()
        optimizer.step()
    return prepared.eval()


class Separable(nn.Module):
    """[N, 1, 8, 8] to [N, 4]: what the zoo's ds-cnn is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = self._block(nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False))
        self.deep = self._block(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False))
        self.point = self._block(nn.Conv2d(8, 12, 1, bias=False))
        self.head = nn.Linear(12, 4)

    @staticmethod
    def _block(conv: nn.Conv2d) -> nn.Sequential:
        return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.point(self.deep(self.stem(x)))
        return self.head(functional.adaptive_avg_pool2d(y, 1).flatten(1))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """[N, 3, 8, 8] to [N, 4]: what the zoo's resnet8 is made of, with a step on its shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.outer, self.third = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.short = nn.Conv2d(8, 8, 1, stride=2)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(self.stem(x)))
        z = self.third(self.outer(torch.relu(self.second(self.inner(y)))))
        y = torch.relu(z + self.short(y))
        return self.head(functional.adaptive_avg_pool2d(y, 1).flatten(1))  # type: ignore[no-any-return]


def zoo(name: str) -> Any:
    return lambda: build(name)


CASES = {
    "mnist-cnn w158a8": (zoo("mnist-cnn"), "w158a8", 3),
    "har-cnn w4a8-g32": (zoo("har-cnn"), "w4a8-g32", 3),
    "separable shift3a8": (Separable, "shift3a8", 6),
    "residual mxfp4a8": (Residual, "mxfp4a8", 6),
    "lstm w8a8": (lambda: Recurrent(nn.LSTM), "w8a8", 4),
    "tokens w158a8-token": (Tokens, "w158a8-token", 4),
    "convolutions w2a8": (Convolutions, "w2a8", 4),
    "upsampling w8a8": (Upsampling, "w8a8", 3),
}
"""Network, recipe, and the bound for outputs in steps: rounding differs by one step at each of a
few layers, where the float network lands within its own rounding of the middle of two codes."""

SHAPES = {
    "separable": (1, 8, 8),
    "residual": (3, 8, 8),
    "lstm": (10, 6),
    "tokens": (5, 8),
    "convolutions": (3, 12),
    "upsampling": (1, 8, 8),
}


def _output_step(prepared: nn.Module) -> float:
    """The scale of a prepared network's result."""
    assert isinstance(prepared, PreparedModule)
    (result,) = prepared.graph.output_node().all_input_nodes
    quantizer = prepared.get_submodule(str(result.target))
    assert isinstance(quantizer, StaticQuantizer)
    return float(quantizer.scale)


@pytest.mark.parametrize("case", CASES)
def test_converted_network_answers_like_the_trained_one(case: str) -> None:
    torch.manual_seed(0)
    make, recipe, steps = CASES[case]
    name = case.split()[0]
    x = normal(48, *(SHAPES[name] if name in SHAPES else NETWORKS[name].input_shape[1:]))
    prepared = trained(make(), recipe, x)
    converted = convert(prepared)
    with torch.no_grad():
        wanted, found = prepared(x), converted(x)
    assert isinstance(found, Tensor)
    step = _output_step(prepared)
    assert float((wanted - found).abs().max()) <= steps * step * 1.001
    # Scores of a barely trained network lie close together: a step apart they change places.
    top = wanted.gather(1, found.argmax(1, keepdim=True))[:, 0]
    assert bool((wanted.amax(1) - top <= steps * step * 1.001).all())
    assert float((wanted.argmax(1) == found.argmax(1)).float().mean()) >= 0.7
    if "token" not in recipe:
        tensors = converted.program.tensors.values()
        assert not [t.name for t in tensors if t.dtype is DType.FLOAT32 and not t.is_constant]


def test_signs_convert_without_float() -> None:
    torch.manual_seed(0)
    x = normal(*IMAGES)
    prepared = trained(small_cnn(), {"3": "w1a1", "*": "w8a8"}, x)
    converted = convert(prepared)
    assert "binarize" in {op.operator.name for op in converted.program.operations}
    with torch.no_grad():
        agree = prepared(x).argmax(1) == converted(x).argmax(1)
    assert float(agree.float().mean()) >= 0.8


def test_narrow_formats_without_integer_operators_are_named() -> None:
    prepared = prepare(Recurrent(nn.GRU), {"rnn": "w4a8", "*": "w8a8"}, normal(4, 10, 6))
    with pytest.raises(UnsupportedError, match=r'rnn \(GRU\): weights are int4.*"rnn": "w8a8"'):
        convert(prepared)
    prepared = prepare(Upsampling(), {"up": "w158a8", "*": "w8a8"}, normal(4, 1, 8, 8))
    with pytest.raises(UnsupportedError, match=r"up \(ConvTranspose2d\): weights are ternary"):
        convert(prepared)


def test_float_layers_need_leave() -> None:
    prepared = prepare(small_cnn(), {"3": "fp32", "*": "w8a8"}, normal(*IMAGES))
    assert any("3" in line for line in prepared.plan.in_float)
    with pytest.raises(UnsupportedError, match="allow_fallback"):
        convert(prepared)
    assert isinstance(convert(prepared, allow_fallback=True)(normal(*IMAGES)), Tensor)


def test_unprepared_and_broken_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="is not prepared"):
        convert(small_cnn())
    prepared = prepare(small_cnn(), "w4a8", normal(*IMAGES))
    with torch.no_grad():
        prepared.get_submodule("4").running_var[2] = float("nan")  # type: ignore[index,operator]
    with pytest.raises(InvalidModelError, match="running_var"):
        freeze(prepared)


RECIPES = ("w8a8", "w4a8", "w3a8-t", "w2a8", "w158a8", "w158-p5-a8", "shift2a8", "shift4a8", "w1a8")
RECIPES += (
    "fp4-e3m0-g8a8",
    "fp8-e4m3a8",
    "mxfp4a8",
    "nvfp4a8",
    "w4a8-g8",
    "w8a8-token",
    "w4a8-lsq",
)


@pytest.mark.parametrize("recipe", RECIPES)
def test_frozen_network_computes_the_same(recipe: str) -> None:
    torch.manual_seed(0)
    x = normal(*IMAGES)
    prepared = trained(small_cnn(), recipe, x, keep_ends=False)
    before = {n: v.clone() for n, v in prepared.state_dict().items()}
    frozen = freeze(prepared)
    with torch.no_grad():
        wanted, found = prepared(x), frozen(x)
    # Folding rounds anew: where a value lies between two codes it may fall to either side.
    assert float((wanted != found).float().mean()) < 0.1
    step = max(
        float(q.scale) for q in prepared.activation_quantizers.children() if hasattr(q, "scale")
    )  # type: ignore[union-attr]
    assert float((wanted - found).abs().max()) <= 2 * step
    for name, value in prepared.state_dict().items():
        assert torch.equal(value, before[name])
    kinds = {type(m) for m in frozen.modules()}
    assert CodedConv2d in kinds
    assert CodedLinear in kinds
    assert nn.BatchNorm2d not in kinds
    assert not [p for p in frozen.parameters() if p.requires_grad]
    assert torch.equal(pickle.loads(pickle.dumps(frozen))(x), found)


def _negative() -> nn.Module:
    """A network whose second layer uses the outermost code of int2."""
    model = small_cnn()
    with torch.no_grad():
        weight = model.get_submodule("3").weight
        assert isinstance(weight, Tensor)
        weight.copy_(torch.where(weight > 0.04, 0.04, weight))
    return model


def test_weights_are_the_trained_codes() -> None:
    prepared = trained(_negative(), "w2a8", normal(*IMAGES), keep_ends=False)
    trained_layer = prepared.get_submodule("3")
    coded, fmt = coded_weight(trained_layer)
    layer = freeze(prepared).get_submodule("3")
    assert isinstance(layer, CodedLayer)
    assert isinstance(layer.weight, CodedWeight)
    packed = fmt.element.unpack(layer.weight.packed.numpy(), 72)
    # Weights of the normalisation stay positive, since −2 has no opposite.
    assert (packed == coded.integers).all()
    assert (packed == -2).any()
    wide = freeze(trained(small_cnn(), "w8a8", normal(*IMAGES))).get_submodule("3")
    assert isinstance(wide.weight, Int8Weight)


def test_negative_factors_turn_integers() -> None:
    coded, fmt = coded_weight(prepare(small_cnn(), "w4a8", normal(*IMAGES)).get_submodule("3"))
    scale = torch.linspace(-2, 2, 8).double().numpy()
    folded, bias = fold(coded, fmt, None, Affine(scale, scale * 3))
    real = fmt.dequantize(coded).astype("float64") * scale[:, None]
    assert abs(fmt.dequantize(folded) - real).max() < 1e-6
    assert torch.allclose(bias.double(), torch.from_numpy(scale * 3))
    prepared = prepare(_negative(), "w2a8", normal(*IMAGES), keep_ends=False)
    two, narrow = coded_weight(prepared.get_submodule("3"))
    assert (two.integers == -2).any()
    with pytest.raises(UnsupportedError, match="not symmetric"):
        fold(two, narrow, None, Affine(-abs(scale) - 1, scale))


def test_biases_that_no_step_holds_are_kept() -> None:
    prepared = prepare(small_cnn(), "w4a8", normal(*IMAGES))
    coded, fmt = coded_weight(prepared.get_submodule("3"))
    zero = Affine(torch.zeros(8).double().numpy(), torch.linspace(-1, 1, 8).double().numpy())
    folded, bias = fold(coded, fmt, None, zero)
    fitted = fit_bias(folded, fmt, bias, 0.02)
    steps = bias.numpy().astype("float64") / (fitted.scale.astype("float64") * 0.02)
    assert abs(steps).max() <= 2**23 * 1.001
    assert not fitted.integers[abs(bias.numpy()) > 0].any()
    assert fit_bias(coded, fmt, None, 0.02) is coded
    assert fit_bias(coded, fmt, torch.ones(8), 0.02) is coded


def test_a_layer_that_runs_twice_is_coded_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.BatchNorm1d(6), nn.BatchNorm1d(6)
            self.shared, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.first(self.shared(x)))
            y = torch.relu(self.second(self.shared(y)))
            return self.head(y)  # type: ignore[no-any-return]

    x = normal(32, 6)
    prepared = trained(Twice(), "w4a8", x, keep_ends=False)
    frozen = freeze(prepared)
    assert len([m for m in frozen.modules() if isinstance(m, CodedLinear)]) == 3
    with torch.no_grad():
        assert float((prepared(x) != frozen(x)).float().mean()) < 0.1


class Tied(nn.Module):
    """[N, 3] words to [N, 3, 5] scores: one matrix for both, and for a step between."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.scores = nn.Embedding(5, 6), nn.Linear(6, 5, bias=False)
        self.scores.weight = self.words.weight
        self.hidden = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.hidden(self.words(x)))
        return self.scores(y) + functional.linear(y, self.words.weight)  # type: ignore[no-any-return]


@pytest.mark.parametrize("recipe", ["w4a8", "shift3a8", "w158-mean-a8"])
def test_a_tied_weight_freezes_as_one(recipe: str) -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 5, (8, 3))
    prepared = prepare(Tied(), recipe, x, keep_ends=False)
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        prepared(x).square().mean().backward()
        optimizer.step()
    frozen = freeze(prepared.eval())
    with torch.no_grad():
        assert torch.equal(frozen(x), prepared(x))
    words = frozen.get_submodule("words").weight
    assert torch.equal(words, prepared.get_submodule("scores").weight)  # type: ignore[arg-type]
    assert torch.equal(words, frozen.get_submodule("scores").weight())  # type: ignore[arg-type,operator]
