"""From a prepared network to packed weights on a core: what torch answers, the device answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import edgekit
from edgekit.deploy.data import dequantize
from edgekit.model import load, save
from edgekit.program.lowering import lower
from tests.support.coded_network import coded_model

if TYPE_CHECKING:
    from edgekit.quantize import ConvertedModule

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch")]


def trained(recipe: str) -> ConvertedModule:
    """A small network of every kind of layer after three steps of training."""
    import torch
    from torch import nn

    from edgekit.quantize import convert, prepare

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 12),
        nn.ReLU(),
        nn.Linear(12, 5),
    )
    x, labels = torch.randn(32, 1, 10, 10), torch.arange(32) % 5
    prepared = prepare(network, recipe, x[:1]).train()
    optimiser = torch.optim.SGD(prepared.parameters(), 0.01)
    for _ in range(3):
        optimiser.zero_grad()
        nn.functional.cross_entropy(prepared(x), labels).backward()
        optimiser.step()
    return convert(prepared.eval())


@pytest.mark.parametrize(
    ("recipe", "formats"),
    [
        ("w158a8", {"ternary"}),
        ("w8a8-token", set()),
    ],
)
@pytest.mark.needs("cortex-m compiler")
def test_torch_and_device_agree(recipe: str, formats: set[str], tmp_path: Path) -> None:
    """The logits of the converted module are the artifact's, to the bit."""
    import torch

    module = trained(recipe)
    artifact = edgekit.export(
        module, target="cortex-m4", compare_int8=False, output=tmp_path / "out"
    )
    assert {layer.format for layer in artifact.manifest.coded} == formats
    x = np.random.default_rng(1).standard_normal((12, 1, 10, 10)).astype(np.float32)
    samples, _ = artifact.samples({module.program.inputs[0].name: x})
    with artifact.open() as session:
        results = [next(iter(r.values())) for r in session.run_many(samples)]
    codes = np.concatenate(results)
    logits = dequantize(codes, artifact.program.output_tensors[0]).astype(np.float32)
    assert module.codes(torch.from_numpy(x)).numpy().tobytes() == codes.tobytes()
    assert module(torch.from_numpy(x)).numpy().tobytes() == logits.tobytes()
    assert len(np.unique(logits)) > 10


@pytest.mark.needs("cc")
def test_a_factory_may_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``package.module:factory`` that returns a converted module is deployed like the module."""
    save(coded_model("int4"), tmp_path / "net.q.onnx")
    (tmp_path / "made_converted.py").write_text(
        "from edgekit.quantize import ConvertedModule\n\n\n"
        "def make() -> ConvertedModule:\n"
        f"    return ConvertedModule.load({str(tmp_path / 'net.q.onnx')!r})\n"
    )
    monkeypatch.chdir(tmp_path)
    made = edgekit.export("made_converted:make", target="host", output=tmp_path / "out")
    assert made.program.operations == lower(load(tmp_path / "net.q.onnx")).operations
    assert [layer.format for layer in made.manifest.coded] == ["int4", "int4"]
