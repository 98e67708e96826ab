"""Spiking networks: Legendre memory units, snnTorch and NIR in, a Model out.

>>> import numpy as np
>>> from edgekit.spiking import Edge, Input, Leaky, Output, Simulator, SpikingGraph
>>> graph = SpikingGraph(
...     "one",
...     {"x": Input((1,)), "lif": Leaky(np.float32(0.5)), "spikes": Output()},
...     (Edge("x", "lif"), Edge("lif", "spikes")),
... )
>>> window = {"x": np.float32([[0.8], [0.8], [0.0], [0.8]])}
>>> Simulator(graph).run(window)["spikes"][:, 0].tolist()
[0.0, 1.0, 0.0, 0.0]
"""

from typing import TYPE_CHECKING, Any

from edgekit.spiking.activity import Activity, measure
from edgekit.spiking.graph import Edge, SpikingGraph, identifier
from edgekit.spiking.nodes import (
    AvgPool,
    Conv,
    Count,
    Flatten,
    Input,
    Leaky,
    Linear,
    MaxPool,
    Node,
    Output,
    Scale,
    SumPool,
    Synaptic,
)
from edgekit.spiking.quantize import quantize_weights
from edgekit.spiking.simulate import Simulator
from edgekit.spiking.to_model import SpikingModel, to_model, to_window_model
from edgekit.spiking.weight import Weight

if TYPE_CHECKING:
    from edgekit.spiking.imported import from_snntorch
    from edgekit.spiking.nir import read_nir, write_nir

__all__ = [
    "Activity",
    "AvgPool",
    "Conv",
    "Count",
    "Edge",
    "Flatten",
    "Input",
    "Leaky",
    "Linear",
    "MaxPool",
    "Node",
    "Output",
    "Scale",
    "Simulator",
    "SpikingGraph",
    "SpikingModel",
    "SumPool",
    "Synaptic",
    "Weight",
    "from_snntorch",
    "identifier",
    "measure",
    "quantize_weights",
    "read_nir",
    "to_model",
    "to_window_model",
    "write_nir",
]

_LAZY = {
    "from_snntorch": "edgekit.spiking.imported",
    "read_nir": "edgekit.spiking.nir",
    "write_nir": "edgekit.spiking.nir",
}
"""Names that need torch or nir; loaded on first use."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
