"""What a prepared network simulates in eval mode is what its converted form answers, by recipe.

Capturing takes most of the time, so one network has a branch for every recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit.quantize.converted import ConvertedModule

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]

RECIPES = {
    "w4a8": 2,
    "w158a8": 2,
    "shift2a8": 2,
    "shift3a8": 2,
    "shift4a8": 2,
    "w1a8": 2,
    "fp4-e2m1-g32a8": 2,
    "mxfp4a8": 2,
    "nvfp4a8": 2,
    "w8a8-token": 6,
}
"""Families of recipes, and how many steps of the result outputs may differ.

The convolution and the linear layer round on their own, each by at most one step; a step of the
first is worth less than one of the result. Per token the layer normalises what it reads, which
makes a step of it larger, and the result is real: its step is a 255th of the results' range.
"""

SIGNS = {"12-0": (12, 0.99), "256-1": (256, 0.85)}
"""Width of three linear layers, and the share of samples whose outputs are within 2 steps."""


def branches(parts: dict[str, tuple[nn.Module, int | None]]) -> nn.Module:
    """A network that gives the results of several on its input, or on its first columns."""
    from torch import nn

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(part for part, _ in parts.values())

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            widths = [width for _, width in parts.values()]
            return tuple(
                part(x if width is None else x[:, :width])
                for part, width in zip(self.parts, widths, strict=True)
            )

    return Branches()


def convolutional(seed: int) -> nn.Sequential:
    """[N, 2, 6, 6] to [N, 4]: a convolution with normalisation, a linear layer with a bias."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    norm, head = nn.BatchNorm2d(8), nn.Linear(32, 4)
    with torch.no_grad():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.weight.uniform_(-1.5, 1.5)
        norm.bias.uniform_(-0.5, 0.5)
        norm.running_mean.uniform_(-0.3, 0.3)
        norm.running_var.uniform_(0.3, 2)
        head.bias.normal_(0, 0.5)
    layers = (nn.Conv2d(2, 8, 3, padding=1), norm, nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), head)
    return nn.Sequential(*layers)


def perceptron(width: int, seed: int) -> nn.Sequential:
    """Three linear layers whose biases are no multiples of anything."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    layers = [nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 5)]
    with torch.no_grad():
        for layer in layers:
            layer.bias.normal_(0, 0.5)
    return nn.Sequential(*layers)


def both(net: nn.Module, recipe: Any, x: Tensor) -> tuple[nn.Module, ConvertedModule]:
    """The network prepared, in eval mode behind a few batches of statistics, and converted."""
    import torch

    from edgekit.quantize import Recipe, convert, prepare

    prepared = prepare(net, Recipe.parse(recipe, keep_ends=False), x)
    with torch.no_grad():
        for part in x.chunk(4):
            prepared(part)
    prepared.eval()
    return prepared, convert(prepared)


def steps_apart(prepared: Any, converted: nn.Module, x: Tensor) -> list[np.ndarray]:
    """For every result, the largest difference of every sample, in steps of the result."""
    import torch

    with torch.no_grad():
        wanted, found = prepared(x), converted(x)
    results = prepared.graph.output_node().args[0]
    apart = []
    for want, got, node in zip(wanted, found, results, strict=True):
        step = float(want.max() - want.min()) / 255
        if node.op == "call_module":
            step = float(getattr(prepared.get_submodule(str(node.target)), "scale", step))
        apart.append(((want - got).abs().amax(1) / step).numpy())
    return apart


def test_a_converted_network_answers_what_was_simulated() -> None:
    """On samples that calibration has not seen too."""
    import torch

    x = torch.randn(256, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    names = [*RECIPES, "w1a1"]
    net = branches({name: (convolutional(seed), None) for seed, name in enumerate(names)})
    rules = {f"parts.{index}.*": name for index, name in enumerate(names)}
    prepared, converted = both(net, rules, x[:128])
    *apart, signs = steps_apart(prepared, converted, x)
    for (recipe, bound), found in zip(RECIPES.items(), apart, strict=True):
        assert found.max() <= bound * 1.001, recipe
        assert np.mean(found) <= 1, recipe
    # Where a sign differs, see below, an output is further apart.
    assert np.mean(signs <= 2.001) >= 0.9
    assert np.median(signs) <= 1.001
    assert all(len(result.unique()) > 16 for result in converted(x))


def test_signs_with_biases() -> None:
    """w1a1: outputs are at most 2 steps apart, except where a sign is.

    Biases are stored in 64ths of what a sign times a weight is worth. A sum that lies within half
    of that of the border between two signs may take the other one, which costs as many steps as
    two weights of the next layer are worth. Among hundreds of such sums a few samples meet one;
    with biases that are multiples already none does, and outputs are equal.
    """
    import torch
    from torch import nn

    x = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    net = branches(
        {
            name: (perceptron(width, int(name.split("-")[1])), width)
            for name, (width, _) in SIGNS.items()
        }
    )
    prepared, converted = both(net, "w1a1", x)
    operations = converted.program.operations
    products = [op for op in operations if op.operator.name == "fully_connected"]
    assert len(products) == 3 * len(SIGNS)
    assert {op.operator.name for op in operations} >= {"binarize"}
    for found, (_, share) in zip(steps_apart(prepared, converted, x), SIGNS.values(), strict=True):
        assert np.mean(found <= 2.001) >= share
        assert np.median(found) <= 1.001

    layers = [module for module in prepared.modules() if isinstance(module, nn.Linear)]
    biases = {}
    for operation in products:
        stored = converted.program.tensors[operation.inputs[2] or ""]
        assert stored.data is not None
        assert stored.quantization is not None
        real = stored.data * np.array(stored.quantization.scale)
        (layer,) = (
            layer
            for layer in layers
            if layer.bias.shape == real.shape
            and np.abs(layer.bias.detach().numpy() - real).max() < 0.05
        )
        biases[layer] = torch.from_numpy(real.astype(np.float32))
    assert len(biases) == len(layers)
    with torch.no_grad():
        for layer, bias in biases.items():
            layer.bias.copy_(bias)
    for found in steps_apart(prepared, converted, x):
        assert found.max() <= 1.001
