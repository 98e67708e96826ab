"""Reference networks with the recipes that train them.

``edgekit.zoo.har_cnn()`` and its like make a network with random weights, in the form that
``edgekit export edgekit.zoo:har_cnn`` names; torch is imported when one is made.

>>> from edgekit.zoo import NETWORKS
>>> NETWORKS["har-cnn"].input_shape
(1, 6, 40)
"""

from typing import TYPE_CHECKING, Any

from edgekit.zoo.table import NETWORKS, Network, build, network

if TYPE_CHECKING:
    from edgekit.zoo.activity import har_cnn
    from edgekit.zoo.audio import autoencoder, ds_cnn
    from edgekit.zoo.images import digits_cnn, mnist_cnn, mobilenet_v1_025, resnet8
    from edgekit.zoo.recipe import Recipe, read_recipe
    from edgekit.zoo.result import TrainResult
    from edgekit.zoo.runs import load_run, read_run
    from edgekit.zoo.spiking import har_l2mu, har_l2mu_synaptic, har_lmu, har_scnn
    from edgekit.zoo.training import train

__all__ = [
    "NETWORKS",
    "Network",
    "Recipe",
    "TrainResult",
    "autoencoder",
    "build",
    "digits_cnn",
    "ds_cnn",
    "har_cnn",
    "har_l2mu",
    "har_l2mu_synaptic",
    "har_lmu",
    "har_scnn",
    "load_run",
    "mnist_cnn",
    "mobilenet_v1_025",
    "network",
    "read_recipe",
    "read_run",
    "resnet8",
    "train",
]

_LAZY = {
    **{n.factory.partition(":")[2]: n.module for n in NETWORKS.values()},
    "Recipe": "edgekit.zoo.recipe",
    "read_recipe": "edgekit.zoo.recipe",
    "load_run": "edgekit.zoo.runs",
    "read_run": "edgekit.zoo.runs",
    "TrainResult": "edgekit.zoo.result",
    "train": "edgekit.zoo.training",
}
"""Where the names live that need torch, or that few need."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
