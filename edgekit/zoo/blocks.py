"""What the networks are made of: convolutions with batch normalisation and TensorFlow's padding."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def convolution(
    inputs: int,
    outputs: int,
    kernel: Sequence[int],
    *,
    stride: Sequence[int] = (1, 1),
    size: Sequence[int],
    groups: int = 1,
    activation: bool = True,
) -> nn.Sequential:
    """Conv2d, BatchNorm2d and ReLU with TensorFlow's ``same`` padding.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: (height, width).
        stride: (vertical, horizontal).
        size: (height, width) of the input; it decides where the padding goes.
        groups: `inputs` for a depthwise convolution.
        activation: whether a ReLU ends it.
    """
    padding, before = same_padding(size, kernel, stride)
    layers: list[nn.Module] = list(padding)
    layers.append(
        nn.Conv2d(
            inputs,
            outputs,
            (kernel[0], kernel[1]),
            stride=(stride[0], stride[1]),
            padding=before,
            groups=groups,
            bias=False,
        )
    )
    layers.append(nn.BatchNorm2d(outputs))
    if activation:
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def same_padding(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]
) -> tuple[tuple[nn.Module, ...], tuple[int, int]]:
    """TensorFlow's ``same`` padding as (layers before the convolution, its own padding).

    Where the padding is uneven the larger half is behind, which a torch convolution cannot say: a
    ``ZeroPad2d`` does.

    >>> same_padding((32, 32), (3, 3), (1, 1))
    ((), (1, 1))
    >>> same_padding((32, 32), (3, 3), (2, 2))
    ((ZeroPad2d((0, 1, 0, 1)),), (0, 0))
    """
    totals = [
        max((-(-extent // step) - 1) * step + width - extent, 0)
        for extent, width, step in zip(size, kernel, stride, strict=True)
    ]
    if all(total % 2 == 0 for total in totals):
        return (), (totals[0] // 2, totals[1] // 2)
    (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
    return (nn.ZeroPad2d((left, right, top, bottom)),), (0, 0)


def strided(size: Sequence[int], stride: Sequence[int]) -> tuple[int, int]:
    """(height, width) behind a convolution with ``same`` padding.

    >>> strided((49, 10), (2, 2))
    (25, 5)
    """
    return -(-size[0] // stride[0]), -(-size[1] // stride[1])
