"""Networks for windows of inertial sensors."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class HarCNN(nn.Module):
    """A convolutional network along time.

    Four convolutions, the second and third halving the time axis, then the mean over time: what
    matters is which motions occur, not when in the window. ReLU and the mean keep activations in
    ranges that int8 holds well; dropout acts in training only.
    """

    def __init__(self, *, channels: int = 6, classes: int = 7, dropout: float = 0.3) -> None:
        """Make a network with random weights.

        Args:
            channels: sensor axes.
            classes: scores that come out.
            dropout: share of the features that training leaves out.
        """
        super().__init__()
        self.features = nn.Sequential(
            _along_time(channels, 32, kernel=5),
            _along_time(32, 48, kernel=5, stride=2),
            _along_time(48, 64, kernel=5, stride=2),
            _along_time(64, 96, kernel=3),
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(96, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores float32[N, classes] of windows float32[N, channels, time]."""
        pooled = torch.mean(self.features(x), dim=2)
        return cast(Tensor, self.classifier(self.dropout(pooled)))


def har_cnn() -> HarCNN:
    """The network for [1, 6, 40] windows of 7 activities (WISDM smartwatch)."""
    return HarCNN()


def _along_time(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
    )
