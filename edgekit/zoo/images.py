"""Networks for images."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from edgekit.zoo.blocks import convolution, strided


def digits_cnn() -> nn.Sequential:
    """The network for scikit-learn's 8x8 digits: [1, 1, 8, 8] to 10 scores."""
    return _small_cnn(size=8, widths=(16, 32))


def mnist_cnn() -> nn.Sequential:
    """The network for MNIST: [1, 1, 28, 28] to 10 scores."""
    return _small_cnn(size=28, widths=(8, 16, 32))


def _small_cnn(*, size: int, widths: tuple[int, ...]) -> nn.Sequential:
    """3x3 convolutions, all but the first halving the image, and a linear layer."""
    layers: list[nn.Module] = []
    inputs, extent = 1, (size, size)
    for number, outputs in enumerate(widths):
        stride = (1, 1) if number == 0 else (2, 2)
        layers.append(convolution(inputs, outputs, (3, 3), stride=stride, size=extent))
        inputs, extent = outputs, strided(extent, stride)
    features = inputs * extent[0] * extent[1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 10))


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which is a bare 1x1 convolution where shapes differ."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, size: tuple[int, int]) -> None:
        super().__init__()
        steps = (stride, stride)
        self.body = nn.Sequential(
            convolution(inputs, outputs, (3, 3), stride=steps, size=size),
            convolution(outputs, outputs, (3, 3), size=strided(size, steps), activation=False),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """float32[N, inputs, H, W] to float32[N, outputs, H / stride, W / stride]."""
        return cast(Tensor, self.activation(self.body(x) + self.shortcut(x)))


def resnet8() -> nn.Sequential:
    """MLPerf Tiny's image classification network: [1, 3, 32, 32] to 10 scores.

    Source: Banbury et al. 2021, "MLPerf Tiny Benchmark", arXiv 2106.07597; the reference has no
    ReLU limit and convolves the shortcut without batch normalisation. Its softmax is left out:
    scores rank alike.
    """
    return nn.Sequential(
        convolution(3, 16, (3, 3), size=(32, 32)),
        Residual(16, 16, stride=1, size=(32, 32)),
        Residual(16, 32, stride=2, size=(32, 32)),
        Residual(32, 64, stride=2, size=(16, 16)),
        nn.AvgPool2d(8),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


_MOBILENET_V1 = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)
"""(channels at width 1, stride) of MobileNetV1's 13 separable blocks."""


def mobilenet_v1_025() -> nn.Sequential:
    """MLPerf Tiny's visual wake words network, MobileNetV1 at width 0.25: [1, 3, 96, 96] to 2.

    Source: Howard et al. 2017, arXiv 1704.04861; Banbury et al. 2021, arXiv 2106.07597.
    """
    size = (96, 96)
    layers: list[nn.Module] = [convolution(3, 8, (3, 3), stride=(2, 2), size=size)]
    size, inputs = strided(size, (2, 2)), 8
    for full, stride in _MOBILENET_V1:
        outputs, steps = full // 4, (stride, stride)
        layers.append(convolution(inputs, inputs, (3, 3), stride=steps, size=size, groups=inputs))
        size = strided(size, steps)
        layers.append(convolution(inputs, outputs, (1, 1), size=size))
        inputs = outputs
    return nn.Sequential(*layers, nn.AvgPool2d(size), nn.Flatten(), nn.Linear(inputs, 2))
