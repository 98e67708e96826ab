"""A small spiking network with windows, exported as the tests of artifacts need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.deploy.artifact import Artifact
from edgekit.program.ir import Array
from edgekit.spiking.graph import Edge, SpikingGraph
from edgekit.spiking.nodes import Count, Input, Output
from tests.support.spiking_graphs import Maker

CHANNELS, HIDDEN, CLASSES, STEPS, WINDOWS = 3, 20, 4, 6, 12


def graph() -> SpikingGraph:
    """Sensor samples into one population, a recurrent one behind it, and counted classes."""
    make = Maker(5, "leaky", "subtract")
    nodes = {
        "x": Input((CHANNELS,)),
        "w_s": make.linear(HIDDEN, CHANNELS, 1.2, bias=0.2),
        "s": make.neuron(HIDDEN),
        "w_h": make.linear(HIDDEN, HIDDEN, 1.4),
        "r_h": make.linear(HIDDEN, HIDDEN, 0.8),
        "h": make.neuron(HIDDEN),
        "w_o": make.linear(CLASSES, HIDDEN, 1.5, bias=0.1),
        "o": make.neuron(CLASSES),
        "count": Count(),
        "scores": Output(),
    }
    edges = (
        *(Edge("x", "w_s"), Edge("w_s", "s"), Edge("s", "w_h"), Edge("w_h", "h")),
        *(Edge("h", "r_h", 1), Edge("r_h", "h"), Edge("h", "w_o"), Edge("w_o", "o")),
        *(Edge("o", "count"), Edge("count", "scores")),
    )
    return SpikingGraph("tiny", nodes, edges, dt_seconds=0.05)


def windows() -> Array:
    """float32[WINDOWS, STEPS, CHANNELS]: random walks, as slow as a hand's."""
    steps = np.random.default_rng(3).normal(0, 0.6, (WINDOWS, STEPS, CHANNELS))
    return np.cumsum(steps, axis=1).astype(np.float32)


def labels() -> Array:
    """int64[WINDOWS]."""
    return np.arange(WINDOWS) % CLASSES


def exported(folder: Path, precision: str, target: str = "host", **options: Any) -> Artifact:
    """The network, its windows as calibration."""
    return edgekit.export(
        graph(),
        target=target,
        precision=precision,
        calibration=windows(),
        output=folder / f"{target}-{precision}",
        **options,
    )
