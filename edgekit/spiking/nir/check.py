"""Whether what was read from a NIR file does what the framework that wrote it does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.errors import InvalidDataError, UsageError
from edgekit.spiking.arrays import Array
from edgekit.spiking.drift import Drift, Trace, compare_traces
from edgekit.spiking.nir.read import Imported
from edgekit.spiking.nodes import Leaky, Neuron, Synaptic, spread_over
from edgekit.spiking.simulate import Simulator


def check_drift(imported: Imported, windows: Array, reference: Mapping[str, Trace]) -> Drift:
    """Compare an import with traces that the source framework recorded.

    NIR leaves the reset open, and exporters lose what they cannot say (snnTorch's drops the reset
    mechanism, the padding of pools and additions between layers): only a run tells.

    Args:
        imported: of :func:`~edgekit.spiking.nir.read.import_nir`, one Input.
        windows: float[N,T,...], fed to both.
        reference: traces of any of the file's neurons by their names in the file, dotted where
            graphs are within, in the order in which a step computes them. Membranes in the units
            of the graph (volts over the gain), before they are reset; NaN where not known.

    Returns:
        What differs; :meth:`~edgekit.spiking.drift.Drift.raise_if` insists on nothing but rounding.

    Raises:
        UsageError: a reference of a name that is no neuron of the file.
        InvalidDataError: windows that do not fit the Input.
        VerificationError: traces of other windows, steps or neurons.
    """
    names = {name: _neuron(imported, name) for name in reference}
    seen: dict[str, list[Array]] = {}

    def observe(name: str, value: Array) -> None:
        if name.removesuffix(".membrane") in names.values():
            seen.setdefault(name, []).append(value)

    windows = np.asarray(windows)
    if windows.ndim < 3 or len(windows) == 0:
        raise InvalidDataError(
            f"windows have the shape {list(windows.shape)}, must be [windows, steps, ...] with at "
            "least one window"
        )
    simulator = Simulator(imported.graph, batch=len(windows), observe=observe)
    simulator.run(np.moveaxis(windows, 1, 0))
    ours, thresholds = {}, {}
    for name, own in names.items():
        node = imported.graph.nodes[own]
        assert isinstance(node, Neuron)
        membrane = np.stack(seen[f"{own}.membrane"], axis=1)
        spikes = np.stack(seen[own], axis=1) > 0 if node.spiking else None
        ours[name] = Trace(membrane, spikes)
        thresholds[name] = spread_over(node.threshold, membrane.shape[2:])
    return compare_traces(reference, ours, thresholds)


def _neuron(imported: Imported, name: str) -> str:
    """The graph's name of a neuron of the file.

    Raises:
        UsageError: there is none.
    """
    dotted = {".".join(path): names[-1] for path, names in imported.parts.items()}
    neurons = {
        file: own
        for file, own in dotted.items()
        if isinstance(imported.graph.nodes[own], Leaky | Synaptic)
    }
    if name not in neurons:
        raise UsageError(f"the file has no neuron {name!r}; it has {', '.join(neurons)}")
    return neurons[name]
