"""NIR's neurons as nodes of a spiking graph, and back.

A neuron of the graph has the gain 1: ``u' = beta u + x``. Where NIR's gain is another positive
number, the membrane of a neuron that fires is counted in units of it, ``u = v / gain``: its
threshold is divided, its input is not multiplied. An integrator, whose membrane leaves, gets a
Scale in front. A leak to another voltage than 0 is a constant input, the bias of a Linear node in
front that hands each value on.

``CubaLIF`` with reset ``zero`` becomes two nodes, a synapse that integrates and a membrane that
fires: snnTorch's Synaptic, which the graph's is, knows no reset within the step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.spiking.arrays import Array, Float32, Shape
from edgekit.spiking.nir.semantics import METADATA_RESET, NirReset, Semantics, step
from edgekit.spiking.nir.tree import Metadata, NirNode
from edgekit.spiking.nodes import Leaky, Linear, Neuron, Node, Reset, Scale, Synaptic, spread_over
from edgekit.spiking.weight import Weight

Parts = tuple[tuple[str, Node], ...]
"""Nodes in a row that one NIR node becomes: what their names end in, and they. The last one's ends
in nothing."""

_FORGETS: Float32 = np.zeros(1, np.float32)
"""The decay of a state that keeps nothing."""

MEMBRANES = ("I", "IF", "LI", "LIF")
CURRENT_BASED = ("CubaLI", "CubaLIF")
FIRING = ("IF", "LIF", "CubaLIF")
STATEFUL = (*MEMBRANES, *CURRENT_BASED)
"""Types whose output of the step before may go round a cycle."""


def neuron_parts(node: NirNode, semantics: Semantics) -> Parts:
    """A neuron as nodes of the graph.

    Args:
        node: of a type in :data:`STATEFUL`.
        semantics: how equations become steps.

    Raises:
        InvalidModelError: parameters of different shapes, of no legal value, or decays outside
            [0, 1] at this step.
        UnsupportedError: ``v_reset`` other than 0, or a leak where no constant input can stand.
    """
    values = _same_shapes(node)
    fires = node.type in FIRING
    reset = semantics.reset_of(node) if fires else "zero"
    if "v_reset" in values and values["v_reset"].any():
        raise UnsupportedError(
            "v_reset is not 0, which cannot be run; count v_threshold, v_leak and v_reset "
            "from v_reset instead (subtract it from all three)"
        )
    if node.type in CURRENT_BASED:
        return _current_based(values, semantics, reset, fires=fires)
    beta, gain, share = step(values.get("tau"), values["r"], semantics, "the membrane")
    leak = share * values.get("v_leak", np.zeros_like(share)).astype(np.float64)
    return _membrane(beta, gain, leak, values.get("v_threshold"), reset)


def threshold_parts(node: NirNode) -> Parts:
    """NIR's Threshold, ``1[x > threshold]``: a neuron that forgets at once and has no reset."""
    return (("", Leaky(_FORGETS, _short(_real(node, "threshold")), "none")),)


def to_nir(node: Neuron, shape: Shape, dt: float) -> NirNode:
    """A neuron of the graph as NIR's, in float64 so that its decays come back to the bit.

    Args:
        node: with gain 1.
        shape: of its population.
        dt: seconds of a step.

    Raises:
        UnsupportedError: no reset, or no decay of the current or of some membranes only: NIR has
            no equation for these.
    """
    beta = _spread(node.beta, shape)
    fires = {"v_threshold": _spread(node.threshold, shape), "v_reset": np.zeros(shape)}
    reset = {"zero": "zero", "subtract": "subtract"}.get(node.reset)
    if isinstance(node, Leaky):
        if node.spiking and reset is None:
            if beta.any():
                raise UnsupportedError("it has no reset; NIR's neurons that fire have one")
            return NirNode("Threshold", {"threshold": fires["v_threshold"]})
        forgets = not (beta == 1).all()
        fields = _equation(beta, dt) if forgets else {"r": np.full(shape, 1 / dt)}
        kind = ("LIF" if forgets else "IF") if node.spiking else ("LI" if forgets else "I")
    else:
        if node.spiking and reset is None:
            raise UnsupportedError("it has no reset; NIR's neurons that fire have one")
        reset = "zero-next" if reset == "zero" else reset
        current = _equation(_spread(node.alpha, shape), dt)
        membrane = _equation(beta, dt)
        fields = {
            "tau_syn": current["tau"],
            "w_in": current["r"],
            "tau_mem": membrane["tau"],
            "r": membrane["r"],
            "v_leak": membrane["v_leak"],
        }
        kind = "CubaLIF" if node.spiking else "CubaLI"
    if not node.spiking:
        return NirNode(kind, fields)
    metadata: Metadata = {METADATA_RESET: reset or ""}
    return NirNode(kind, {**fields, **fires}, MappingProxyType(metadata))


def _membrane(
    beta: Array,
    gain: Array,
    leak: Array,
    threshold: Array | None,
    reset: NirReset,
) -> Parts:
    """``v' = beta v + gain x + leak`` with what has to stand in front of it.

    Args:
        beta: decay of the membrane per step, as all arrays of the population's shape.
        gain: of the input.
        leak: what is added in every step.
        threshold: None for an integrator.
        reset: what firing does.
    """
    front: Parts = ()
    unit = gain if threshold is not None and (gain > 0).all() else np.ones_like(gain)
    gain, leak = gain / unit, leak / unit
    if leak.any():
        front = (("_drive", _drive(gain, leak)),)
    elif (gain != 1).any():
        front = (("_gain", Scale(_uniform(gain))),)
    if threshold is None:
        return (*front, ("", Leaky(_short(beta), spiking=False)))
    limit = _short(threshold / unit)
    if reset == "zero-next":
        # snnTorch's RLeaky zeroes the new membrane, as Synaptic does: one whose current is x.
        return (*front, ("", Synaptic(_FORGETS, _short(beta), limit, "zero")))
    return (*front, ("", Leaky(_short(beta), limit, _graph_reset(reset))))


def _current_based(
    values: Mapping[str, Array], semantics: Semantics, reset: NirReset, *, fires: bool
) -> Parts:
    """A synapse in front of a membrane, in one node where the graph has it."""
    alpha, weight, _ = step(values["tau_syn"], values["w_in"], semantics, "the synaptic current")
    beta, gain, share = step(values["tau_mem"], values["r"], semantics, "the membrane")
    leak = share * values["v_leak"].astype(np.float64)
    threshold = values["v_threshold"] if fires else None
    if leak.any() and reset == "zero-next" and fires:
        raise UnsupportedError("v_leak other than 0 with the reset 'zero-next'")
    if leak.any() or (fires and reset == "zero"):
        synapse = _membrane(alpha, np.ones_like(weight), np.zeros_like(weight), None, reset)
        return (
            *((f"_synapse{suffix}", part) for suffix, part in synapse),
            *_membrane(beta, weight * gain, leak, threshold, reset),
        )
    # Both equations are linear: the product of the gains may stand anywhere in front.
    parts = _membrane(beta, weight * gain, leak, threshold, "subtract")
    last = parts[-1][1]
    assert isinstance(last, Leaky)
    neuron = Synaptic(_short(alpha), last.beta, last.threshold, _graph_reset(reset), spiking=fires)
    return (*parts[:-1], ("", neuron))


def _drive(gain: Array, leak: Array) -> Linear:
    """``gain x + leak`` of each value of a flat population.

    Raises:
        UnsupportedError: of a spatial population, or of one whose size the file leaves open.
    """
    if gain.ndim != 1:
        raise UnsupportedError(
            f"v_leak other than 0 is supported for flat populations; the parameters have "
            f"the shape {list(gain.shape)}"
        )
    weight = Weight(gain.astype(np.float32).reshape(-1, 1))
    return Linear(weight, leak.astype(np.float32), groups=gain.size)


def _equation(beta: Array, dt: float) -> dict[str, Array]:
    """Time constant, resistance and leak whose Euler step has a decay and the gain 1.

    Raises:
        UnsupportedError: a decay of 1.
    """
    if (beta == 1).any():
        raise UnsupportedError(
            "it has a decay of 1, which needs an infinite time constant; NIR has neurons "
            "without leak (IF, I), but none that mix or that have a synaptic current"
        )
    tau = dt / (1 - beta)
    return {"tau": tau, "r": tau / dt, "v_leak": np.zeros_like(tau)}


def _same_shapes(node: NirNode) -> Mapping[str, Array]:
    """The parameters, of one shape; ``w_in`` may be one number, or missing: 1.

    Raises:
        InvalidModelError: different shapes, or infinite voltages.
    """
    values = {key: _real(node, key) for key in node.fields}
    shape = values["r"].shape
    if node.type in CURRENT_BASED:
        weight = values.get("w_in", np.ones(1))
        values["w_in"] = np.broadcast_to(weight.reshape(()), shape) if weight.size == 1 else weight
    for key, array in values.items():
        if array.shape != shape:
            raise InvalidModelError(
                f"{key} has the shape {list(array.shape)}, r {list(shape)}; parameters of "
                "one population must have one shape"
            )
        if key.startswith("v_") and not np.isfinite(array).all():
            raise InvalidModelError(f"{key} is not finite")
    if not values["r"].size:
        raise InvalidModelError("it has no neurons")
    return values


def _real(node: NirNode, key: str) -> Array:
    value = node.fields[key]
    assert isinstance(value, np.ndarray)
    return value


def _uniform(values: Array) -> Float32:
    """float32, of one element where all are the same."""
    short = values.astype(np.float32)
    same = short.size and (short == short.flat[0]).all()
    return short.reshape(-1)[:1] if same else short


def _short(values: Array) -> Float32:
    """As :func:`_uniform`, or of one element per channel where all of a channel are the same."""
    short = _uniform(values)
    channels = short[(slice(None), *[slice(1)] * (short.ndim - 1))]
    return channels.reshape(-1) if (short == channels).all() else short


def _spread(values: Float32, shape: Shape) -> Array:
    """float64 of a population's whole shape."""
    return np.array(np.broadcast_to(spread_over(values, shape), shape), np.float64)


_GRAPH_RESET: Mapping[NirReset, Reset] = {
    "zero": "zero",
    "zero-next": "zero",
    "subtract": "subtract",
}
_graph_reset: Callable[[NirReset], Reset] = _GRAPH_RESET.__getitem__
