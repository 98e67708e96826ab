"""The reference networks. Nothing here imports torch: names and shapes are known without it."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgekit.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

PACKAGE = "edgekit.zoo"


@dataclass(frozen=True)
class Network:
    """A reference network.

    Attributes:
        name: what users call it.
        factory: ``package.module:function`` that makes it with random weights; it takes no
            arguments.
        module: where the function is written.
        input_shape: of one sample as a batch of one.
        outputs: values that come out for a sample.
        description: one line.
        trainable: whether there is a recipe.
        spiking: whether its neurons spike.
    """

    name: str
    factory: str
    module: str
    input_shape: tuple[int, ...]
    outputs: int
    description: str
    trainable: bool = True
    spiking: bool = False


def _network(
    name: str,
    module: str,
    shape: tuple[int, ...],
    outputs: int,
    description: str,
    *,
    trainable: bool = True,
    spiking: bool = False,
) -> Network:
    function = name.replace("-", "_")
    return Network(
        name=name,
        factory=f"{PACKAGE}:{function}",
        module=f"{PACKAGE}.{module}",
        input_shape=shape,
        outputs=outputs,
        description=description,
        trainable=trainable,
        spiking=spiking,
    )


NETWORKS = {
    network.name: network
    for network in (
        _network("har-cnn", "activity", (1, 6, 40), 7, "activities from a wrist's motion"),
        _network("digits-cnn", "images", (1, 1, 8, 8), 10, "handwritten digits, 8x8"),
        _network("mnist-cnn", "images", (1, 1, 28, 28), 10, "handwritten digits, 28x28"),
        _network("ds-cnn", "audio", (1, 1, 49, 10), 12, "MLPerf Tiny keyword spotting"),
        _network(
            "har-l2mu",
            "spiking",
            (1, 6, 40),
            7,
            "spiking L2MU, leaky neurons (WISDM smartwatch)",
            spiking=True,
        ),
        _network(
            "har-l2mu-synaptic",
            "spiking",
            (1, 6, 40),
            7,
            "spiking L2MU, synaptic neurons (WISDM smartwatch)",
            spiking=True,
        ),
        _network("har-lmu", "spiking", (1, 6, 40), 7, "Legendre memory unit (WISDM smartwatch)"),
        _network(
            "har-scnn", "spiking", (1, 6, 40), 7, "spiking CNN (WISDM smartwatch)", spiking=True
        ),
        _network("resnet8", "images", (1, 3, 32, 32), 10, "MLPerf Tiny image classification"),
        _network(
            "mobilenet-v1-025",
            "images",
            (1, 3, 96, 96),
            2,
            "MLPerf Tiny visual wake words",
            trainable=False,
        ),
        _network(
            "autoencoder", "audio", (1, 640), 640, "MLPerf Tiny anomaly detection", trainable=False
        ),
    )
}
"""Every network by its name."""


def network(name: str) -> Network:
    """The network of that name.

    Raises:
        UsageError: there is none; the message lists what there is.
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"no network {name!r}; {hint}known: {', '.join(NETWORKS)}")
    return NETWORKS[name]


def build(name: str) -> nn.Module:
    """Make a network with random weights, drawn by torch's generator as it stands.

    Raises:
        UsageError: there is no such network.
    """
    known = network(name)
    function = known.factory.partition(":")[2]
    made: nn.Module = getattr(importlib.import_module(known.module), function)()
    return made
