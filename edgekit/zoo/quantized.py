"""Networks of the zoo with quantised weights in training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.formats import Format
from edgekit.quantize import prepare
from edgekit.quantize.recipe import LayerRecipe
from edgekit.quantize.training.quantizers import quantize_parameter
from edgekit.spiking.layers.l2mu import L2MUCell
from edgekit.spiking.layers.lmu import LMU


@runtime_checkable
class SpikingNetwork(Protocol):
    """What the trainer asks of spiking networks.

    Attributes:
        rates: mean spikes per neuron and step of every population in the last call.
    """

    rates: dict[str, Tensor]

    def fold(self) -> nn.Module:
        """Take normalisation into weights, in place."""

    def weighted(self) -> Iterator[tuple[str, nn.Module]]:
        """Modules whose ``weight`` a deployment stores, by name."""


@runtime_checkable
class Stepping(Protocol):
    """A network that a device runs step by step, over a window."""

    def windows(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Windows as the network takes them, as a device takes them: [N, steps, ...]."""

    def samples(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inverse of :meth:`windows`."""


def quantized(model: nn.Module, precision: str, example: Tensor) -> nn.Module:
    """A network that trains with quantised weights, from a float one.

    Spiking networks: normalisation is folded, every weight is quantised with one scale per neuron,
    the constant matrices of a Legendre memory are rounded to int8. Their activations are spikes.
    Others: :func:`edgekit.quantize.prepare` with int8 activations; a network that runs step by step
    is prepared as the step that a device runs.

    Args:
        model: with trained weights; it is changed.
        precision: of :data:`edgekit.zoo.precisions.TRAINED_PRECISIONS`.
        example: samples [N, …] as the network takes them.

    Raises:
        UsageError: a precision that is unknown.
        UnsupportedError: the network cannot be prepared.
    """
    if isinstance(model, SpikingNetwork):
        return _spiking(model, weight_format(precision))
    if isinstance(model, LMU):
        with torch.no_grad():
            model.eval()
            state = model.zeros(len(example))
            for sample in example.unbind(2)[:-1]:
                _, *state = model.step(sample, *state)
        inputs = (example[:, :, -1], *state)
        # Nothing trains the memory, so no training makes up for what rounding does to it.
        recipe = {"cell.memory": "w8a8", "*": f"{precision}a8"}
        model.step = prepare(model.step, recipe, inputs, keep_ends=False, inplace=True)
        return model
    return prepare(model, f"{precision}a8", (example,), inplace=True)


def weight_format(precision: str) -> Format:
    """The weight format of a precision, with one scale per row: that of a neuron.

    Raises:
        UsageError: an unknown precision.
    """
    weights = LayerRecipe.parse(f"{precision}a8").weights
    assert weights is not None
    return replace(weights, granularity="channel")


def _spiking(model: SpikingNetwork, fmt: Format) -> nn.Module:
    model.fold()
    for name, module in model.weighted():
        quantize_parameter(module, "weight", fmt, where=f"{name}.weight")
    whole = cast(nn.Module, model)
    for module in whole.modules():
        if isinstance(module, L2MUCell):
            module.quantize_memory("int8")
    return whole
