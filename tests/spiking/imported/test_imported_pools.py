"""Networks of snnTorch that pool between convolution and neuron, deployed in integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import snntorch
import torch
from torch import Tensor, nn
from torch.nn import functional

import edgekit

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch"), pytest.mark.needs("cc")]

STEPS = 6


class Pooling(nn.Module):
    """The order of layers of snnTorch's tutorials: convolution, pool, neurons; twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(1, 6, 5), snntorch.Leaky(beta=0.8, threshold=0.3)
        self.conv2, self.lif2 = nn.Conv2d(6, 8, 3), snntorch.Leaky(beta=0.7, threshold=0.2)
        self.fc1, self.lif3 = nn.Linear(8 * 2 * 2, 4), snntorch.Leaky(beta=0.9, threshold=0.3)

    def forward(self, x: Tensor) -> Tensor:
        """The spikes of every step."""
        mem1, mem2, mem3 = (lif.init_leaky() for lif in (self.lif1, self.lif2, self.lif3))
        steps = []
        for t in range(x.shape[0]):
            spk1, mem1 = self.lif1(functional.max_pool2d(self.conv1(x[t]), 2), mem1)
            spk2, mem2 = self.lif2(functional.avg_pool2d(self.conv2(spk1), 2), mem2)
            spk3, mem3 = self.lif3(self.fc1(spk2.flatten(1)), mem3)
            steps.append(spk3)
        return torch.stack(steps)


def windows(count: int) -> np.ndarray:
    """float32[count, STEPS, 1, 16, 16]: blurred noise that hardly moves."""
    rng = np.random.default_rng(1)
    still = rng.normal(0.3, 1, (count, 1, 1, 16, 16))
    return (still + rng.normal(0, 0.4, (count, STEPS, 1, 16, 16))).astype(np.float32)


def test_pools_behind_convolutions_are_exact(tmp_path: Path) -> None:
    """Host C is the interpreter over every window; its spikes are snnTorch's but for few."""
    torch.manual_seed(0)
    module, calibration = Pooling(), windows(4)
    artifact = edgekit.export(
        module,
        torch.from_numpy(calibration[0][:, None]),
        target="host",
        precision="int8",
        calibration=calibration,
        output=tmp_path / "pooling",
    )
    kinds = [op.operator for op in artifact.program.operations]
    pools = [op.kind for op in kinds if op.name == "current_pool_2d"]
    assert pools == ["max", "sum"]
    report = artifact.verify(calibration)
    assert report.identical and report.samples == 4
    with torch.no_grad():
        want = torch.stack([module(torch.from_numpy(w[:, None])) for w in calibration]).numpy()
    codes, _ = artifact.samples(calibration)
    with artifact.open("local") as session:
        got = np.stack([session.run_sequence(window) for window in codes])
    assert (got.reshape(want.shape) != want).mean() <= 0.1
    assert 0.02 < want.mean() < 0.9
