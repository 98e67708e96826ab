"""Small networks whose parts meet in every way that quantisation has to handle."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class Convolutions(nn.Module):
    """[N, 3, 12] to [N, 4]: concatenation, pools, functional layers, dropout, an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv1d(3, 8, 3, padding=1)
        self.b = nn.Conv1d(3, 8, 5, padding=2)
        self.c = nn.Conv1d(16, 8, 3, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores."""
        y = torch.cat([functional.relu(self.a(x)), torch.sigmoid(self.b(x))], 1)
        y = functional.max_pool1d(y, 2)
        y = functional.dropout(functional.relu6(self.norm(self.c(y))), 0.1, self.training)
        if mask is not None:
            y = y * mask
        return cast(Tensor, self.head(functional.adaptive_avg_pool1d(y, 1).flatten(1)))


class Recurrent(nn.Module):
    """[N, 10, 6] to [N, 4] by an LSTM or a GRU."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.rnn: Any = kind(6, 16, batch_first=True)  # type: ignore[call-arg]
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the last step."""
        sequence, _ = self.rnn(x)
        return cast(Tensor, self.head(sequence[:, -1]))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, x + self.down(torch.relu(self.up(x))))


class Tokens(nn.Module):
    """[N, 5, 8] to [N, 4]: the feed-forward half of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.blocks = nn.Sequential(_Block(16), _Block(16))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the mean over tokens."""
        return cast(Tensor, self.head(self.norm(self.blocks(self.embed(x))).mean(dim=1)))


class Upsampling(nn.Module):
    """[N, 1, 8, 8] to [N, 4] through a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.out = nn.Conv2d(4, 1, 3, padding=1)
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        y = torch.relu(self.norm(self.up(torch.relu(self.down(x)))))
        return cast(Tensor, self.head(self.out(y).flatten(1)))


def small_cnn() -> nn.Sequential:
    """[N, 2, 6, 6] to [N, 4]: two convolutions with normalisation, a linear layer."""
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, 4),
    )


def disturb(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give normalisations weights of both signs and statistics of their own."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                part.weight.uniform_(-1, 1, generator=generator)
                part.bias.uniform_(-0.5, 0.5, generator=generator)
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.uniform_(-0.2, 0.2, generator=generator)
                part.running_var.uniform_(0.5, 2, generator=generator)
    return module
