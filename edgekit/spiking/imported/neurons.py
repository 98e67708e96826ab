"""snnTorch's neurons as nodes of a graph.

What they compute per step, with r = 1[u > threshold] of the old membrane u (snnTorch 1.0):

=========  ==========================  ======================================================
neuron     reset by subtraction        reset to zero
=========  ==========================  ======================================================
Leaky      beta u + x - r threshold    beta ((1 - r) u) + x         the *old* membrane is zeroed
RLeaky     the same, x with recurrence (1 - r) (beta u + x)         the *new* membrane is zeroed
Lapicque   (1 - T/RC) u + x T/C - ...  (1 - r) ((1 - T/RC) u + x T/C)
Synaptic   beta u + i' - r threshold   (1 - r) (beta u + i')        i' = alpha i + x stays
RSynaptic  the same, x with recurrence the same
=========  ==========================  ======================================================

A graph's Leaky zeroes the old membrane, its Synaptic the new one: RLeaky and Lapicque with reset to
zero are therefore Synaptic neurons with alpha = 0, whose current is their input, to the bit.

``reset_delay=False`` resets in the step of the spike. With reset to zero that is what Leaky does
one step later anyhow, so spikes are the same (for RLeaky too, which then also becomes a Leaky), and
only the membrane that can be read between the steps differs. With subtraction there is no such
graph.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.model.domain import RESETS
from edgekit.spiking.arrays import Array, Shape
from edgekit.spiking.imported.affine import Affine, per_neuron, without_batch
from edgekit.spiking.nodes import Leaky, Neuron, Reset, Synaptic

STATES = {
    "Leaky": ("mem",),
    "Lapicque": ("mem",),
    "RLeaky": ("spk", "mem"),
    "Synaptic": ("syn", "mem"),
    "RSynaptic": ("spk", "syn", "mem"),
}
"""The supported neurons, and their states in the order of arguments and results."""

SUPPORTED = ", ".join(STATES)

_RULES = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}
"""What snnTorch calls the function that updates the state; it is chosen once, when it is made."""

_PARTS = ("RecurrentOneToOne",)
"""Modules of snnTorch that are only parts of a neuron."""

_PROBE = (-1e3, -1.0, -1e-3, -1e-30, 0.0, 1e-30, 1e-3, 1.0, 1e3)
"""Distances from the threshold at which a spike function is looked at."""


@dataclass(frozen=True)
class Cell:
    """A neuron module as it runs.

    Attributes:
        node: its update.
        gain: applied to its input, or None.
        graded: applied to its spikes, or None.
        immediate: the membrane between the steps is already reset, unlike the node's.
        recurrent: module that feeds its spikes of the step before back into its input, or None.
    """

    node: Neuron
    gain: Affine | None
    graded: Affine | None
    immediate: bool
    recurrent: nn.Module | None


def is_spiking(module: object) -> bool:
    """Whether a module holds neurons of snnTorch, supported or not.

    Cheap, and nothing is imported: without snnTorch in the process there are none.
    """
    return (
        "snntorch" in sys.modules
        and isinstance(module, nn.Module)
        and any(own_kind(part) is not None for part in module.modules())
    )


def own_kind(module: nn.Module) -> type | None:
    """The class of snnTorch that a module is of, or is derived from; None for any other module."""
    for kind in type(module).__mro__:
        if kind.__module__.partition(".")[0] == "snntorch":
            return None if kind.__name__ in _PARTS else kind
    return None


def check_kind(neuron: nn.Module, path: str) -> str:
    """The name of a supported neuron's class.

    Raises:
        UnsupportedError: another class, or one derived from it that computes something else.
    """
    kind = own_kind(neuron)
    assert kind is not None
    if kind.__name__ not in STATES:
        raise UnsupportedError(
            f"{path} is of class {type(neuron).__name__}; supported neurons: {SUPPORTED}"
        )
    for derived in type(neuron).__mro__[: type(neuron).__mro__.index(kind)]:
        changed = sorted(
            n for n in vars(derived) if callable(vars(derived)[n]) and hasattr(kind, n)
        )
        changed = [name for name in changed if name not in ("__init__", "extra_repr", "__repr__")]
        if changed:
            raise UnsupportedError(
                f"{path} is of class {derived.__name__}, which is {kind.__name__} with another "
                f"{', '.join(changed)}; supported neurons: {SUPPORTED} as snnTorch has them"
            )
    return kind.__name__


def read_cell(neuron: Any, path: str, shape: Shape, *, clamp: bool) -> Cell:
    """What a neuron module computes for a population.

    Args:
        neuron: a snnTorch neuron.
        path: its place in the network, for messages.
        shape: of its input, without batch.
        clamp: accept decays outside [0, 1] as snnTorch does, which clamps them as it runs.

    Raises:
        UnsupportedError: a neuron, a reset, or an option that a graph cannot express.
        InvalidModelError: numbers that make no sense.
    """
    kind = check_kind(neuron, path)
    reset = _reset(neuron, path)
    _check_options(neuron, path)
    immediate = not getattr(neuron, "reset_delay", True) and reset != "none"
    if immediate and (reset != "zero" or kind not in ("Leaky", "RLeaky")):
        raise UnsupportedError(
            f"{path}: {kind} with reset_delay=False and reset by {reset!r}; supported: "
            "reset_delay=True, and reset_delay=False for Leaky and RLeaky with reset 'zero'"
        )

    def parameter(name: str) -> Array:
        return _parameter(neuron, name, path, shape)

    def decay(name: str) -> Array:
        return _decay(parameter(name), f"{path}: {name}", clamp=clamp)

    threshold = per_neuron(parameter("threshold"))
    if immediate and (threshold < 0).any():
        raise UnsupportedError(f"{path}: reset_delay=False needs thresholds of at least 0")
    gain = None
    if kind == "Lapicque":
        beta, gain = _lapicque(neuron, path, parameter)
    else:
        beta = decay("beta")
    node: Neuron
    if kind in ("Synaptic", "RSynaptic"):
        node = Synaptic(per_neuron(decay("alpha")), per_neuron(beta), threshold, reset)
    elif reset == "zero" and kind != "Leaky" and not immediate:
        node = Synaptic(np.zeros(1, np.float32), per_neuron(beta), threshold, reset)
    else:
        node = Leaky(per_neuron(beta), threshold, reset)
    factor = parameter("graded_spikes_factor")
    if (factor == 0).any():
        raise UnsupportedError(f"{path}: graded_spikes_factor of 0 leaves nothing of the spikes")
    return Cell(
        node=node,
        gain=gain,
        graded=None if (factor == 1).all() else Affine(factor),
        immediate=immediate,
        recurrent=neuron.recurrent if kind in ("RLeaky", "RSynaptic") else None,
    )


def _reset(neuron: Any, path: str) -> Reset:
    """The reset that runs."""
    name = getattr(neuron.state_function, "__name__", "?")
    runs = _RULES.get(name)
    if runs not in RESETS:
        raise UnsupportedError(
            f"{path}: the state function {name} is none of snnTorch's resets; supported: "
            f"{', '.join(RESETS)}"
        )
    index = int(neuron.reset_mechanism_val)
    says = RESETS[index] if 0 <= index < len(RESETS) else str(index)
    if says != runs:
        raise InvalidModelError(
            f"{path}: was made with reset {runs!r} and runs it, but reset_mechanism now says "
            f"{says!r}, which snnTorch ignores; make the neuron with the reset that is meant"
        )
    return runs


def _check_options(neuron: Any, path: str) -> None:
    """Options that have no counterpart in a graph."""
    if neuron.inhibition:
        raise UnsupportedError(f"{path}: inhibition=True is not supported, only inhibition=False")
    if neuron.state_quant:
        raise UnsupportedError(
            f"{path}: state_quant is not supported, only state_quant=False; membranes become "
            "integers when the network is lowered"
        )
    probe = torch.tensor([*_PROBE, *_PROBE])
    with torch.no_grad():
        fired = neuron.spike_grad(probe)
    if not torch.equal(fired, (probe > 0).to(probe.dtype)):
        raise UnsupportedError(
            f"{path}: its spike function is not 1 above the threshold and 0 up to it "
            f"({fired[: len(_PROBE)].tolist()} at distances {list(_PROBE)}); supported: surrogates "
            "with that forward pass"
        )


def _parameter(neuron: Any, name: str, path: str, shape: Shape) -> Array:
    """A compact float64 array."""
    values = getattr(neuron, name).detach().cpu().numpy().astype(np.float64)
    if not np.isfinite(values).all():
        raise InvalidModelError(f"{path}: {name} has NaN or infinity")
    return without_batch(values, shape, f"{path}: {name}")


def _decay(values: Array, what: str, *, clamp: bool) -> Array:
    """Decays in [0, 1].

    Raises:
        InvalidModelError: outside, and `clamp` is off.
    """
    wrong = (values < 0) | (values > 1)
    if wrong.any() and not clamp:
        raise InvalidModelError(
            f"{what} is {values[wrong][0]:.9g}, must be in [0, 1]; snnTorch clamps it to "
            f"{np.clip(values[wrong][0], 0, 1):g} as it runs, and so does clamp=True here"
        )
    return np.clip(values, 0.0, 1.0)


def _lapicque(
    neuron: Any, path: str, parameter: Callable[[str], Array]
) -> tuple[Array, Affine | None]:
    """Decay ``1 - T/RC`` and gain ``T/C`` in float32, in the order in which snnTorch has them."""
    one = np.float32(1)
    r, c, step = (parameter(name).astype(np.float32) for name in ("R", "C", "time_step"))
    with np.errstate(all="ignore"):
        decay = (one - step / (r * c)).astype(np.float64)
        gain = (r * (one / (r * c)) * step).astype(np.float64)
    if not ((decay >= 0) & (decay <= 1)).all() or not np.isfinite(gain).all():
        raise InvalidModelError(
            f"{path}: R, C and time_step give the decay 1 - T/RC = {float(np.min(decay)):.6g}, "
            "must be in [0, 1]: Lapicque runs with that decay, not with its beta, and does not "
            "clamp it"
        )
    return decay, None if (gain == 1).all() else Affine(gain)
