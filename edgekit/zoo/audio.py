"""Networks for features of sound."""

from __future__ import annotations

import itertools

from torch import nn

from edgekit.zoo.blocks import convolution, strided

KEYWORD_FEATURES = (49, 10)
"""Frames and mel-frequency cepstral coefficients of one second."""


def ds_cnn() -> nn.Sequential:
    """MLPerf Tiny's keyword spotting network: [1, 1, 49, 10] to 12 scores.

    One convolution and four depthwise separable blocks of 64 channels.

    Source: Zhang et al. 2017, "Hello Edge", arXiv 1711.07128; Banbury et al. 2021, arXiv
    2106.07597.
    """
    size = strided(KEYWORD_FEATURES, (2, 2))
    layers: list[nn.Module] = [
        convolution(1, 64, (10, 4), stride=(2, 2), size=KEYWORD_FEATURES),
        nn.Dropout(0.2),
    ]
    for _ in range(4):
        layers.append(convolution(64, 64, (3, 3), size=size, groups=64))
        layers.append(convolution(64, 64, (1, 1), size=size))
    return nn.Sequential(
        *layers, nn.Dropout(0.4), nn.AvgPool2d(size), nn.Flatten(), nn.Linear(64, 12)
    )


def autoencoder() -> nn.Sequential:
    """MLPerf Tiny's anomaly detection network: [1, 640] to its reconstruction.

    640 features are 5 frames of 128 log-mel energies.

    Source: Banbury et al. 2021, arXiv 2106.07597.
    """
    widths = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 640))
