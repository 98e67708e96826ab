"""Small torch modules for the tests of capture; needs torch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Pair(NamedTuple):
    """A named result."""

    scores: Tensor
    features: Tensor


def mlp() -> nn.Module:
    """Two layers."""
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


class Residual(nn.Module):
    """Convolutions, batch normalisation, a skip connection, a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = torch.relu(self.body(x) + x)
        return self.head(x.mean((2, 3)))


class ManyEnds(nn.Module):
    """Arguments by position and by name, results in nested collections, one of them an input."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.Linear(5, 3)

    def forward(
        self,
        input: Tensor,  # noqa: A002 - a usual name, which torch renames in its graphs.
        *,
        extra: Tensor,
        bias: float = 0.5,
    ) -> dict[str, object]:
        a, b = self.left(input), self.right(extra)
        return {"sum": a + b + bias, "pair": Pair(a, b), "list": [a * b, a], "same": extra}


class Recurrent(nn.Module):
    """An LSTM whose axis 0 is time."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


class Branching(nn.Module):
    """Control flow that depends on data."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return x + 1


class Eigenvalues(nn.Module):
    """An operator without an ONNX form, two modules deep."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Identity(), Symmetric())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(x @ x.T)


class Counting(nn.Module):
    """A buffer that forward changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x * self.count


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no such luck")
