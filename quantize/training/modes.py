"""Modes of a network that hold for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from edgekit.quantize.training.activations import Observing, quantizers_of


@contextmanager
def in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or eval mode inside, every part's own mode restored behind."""
    modes = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def observing(network: nn.Module, when: Observing) -> Iterator[None]:
    """Statistics of activations change as said inside, and as before behind."""
    before = [(part, part.observing) for part in quantizers_of(network)]
    for part, _ in before:
        part.observing = when
    try:
        yield
    finally:
        for part, was in before:
            part.observing = was


def freeze_observers(network: nn.Module, frozen: bool = True) -> None:
    """Keep the statistics of activations as they are, in training too, or let them go on.

    Towards the end of a training it keeps the steps of activations from moving under the weights.

    Args:
        network: that holds quantisers of activations.
        frozen: whether they stop.
    """
    for part in quantizers_of(network):
        part.observing = "never" if frozen else "training"
