"""What a NIR file leaves open, made explicit: the step, the discretisation, the reset.

NIR states neurons as differential equations; a microcontroller runs steps. With x the input of a
step (held over it), v the membrane and i the synaptic current::

    LIF, LI         tau dv/dt = (v_leak - v) + r x
    IF, I               dv/dt = r x
    CubaLIF, CubaLI tau_syn di/dt = -i + w_in x,   tau_mem dv/dt = (v_leak - v) + r i
    all that fire   z = 1[v > v_threshold], v := v_reset where z

Either method gives ``v' = beta v + gain x + leak``; of the two equations of a Cuba neuron the first
is stepped first, and the second reads the current of the same step, as snnTorch does:

==============  ==============  ================  ====================
method          beta            gain              leak
==============  ==============  ================  ====================
``euler``       1 - dt/tau      r dt/tau          v_leak dt/tau
``exponential`` exp(-dt/tau)    r (1 - beta)      v_leak (1 - beta)
IF and I        1               r dt              (there is none)
==============  ==============  ================  ====================

Forward Euler is what snnTorch's ``export_to_nir`` and ``import_from_nir`` invert (always with
dt = 1e-4 s); the exponential method is the exact solution of each equation for an input that is
constant within a step. Every state starts at 0.

The reset. NIR knows ``v_reset`` alone; only ``v_reset = 0`` can be run here. When the membrane
returns, and whether it returns or gives the threshold away, differs between frameworks:

=============  ====================================================================================
``zero``       NIR's own words: v is 0 before the next step begins. snnTorch's ``import_from_nir``
               does this (reset_mechanism "zero", reset_delay False); its ``Leaky`` with
               reset_mechanism "zero" fires the same.
``zero-next``  v' of the next step is 0, whatever its input: ``Synaptic``, ``RLeaky`` and
               ``RSynaptic`` of snnTorch with reset_mechanism "zero".
``subtract``   v' of the next step is the threshold less, undecayed: snnTorch's default.
=============  ====================================================================================

``export_to_nir`` writes ``v_reset = 0`` for all of its mechanisms and says nowhere which it was, so
the default for a file of snnTorch has to be told: ``convention="snntorch"`` reads the neurons that
it makes by default. Files written here carry the answers as metadata.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeVar, get_args

import numpy as np

from edgekit.errors import InvalidModelError, UsageError
from edgekit.spiking.arrays import Array
from edgekit.spiking.nir.tree import Metadata, NirNode, NirTree

Method = Literal["euler", "exponential"]
METHODS: tuple[Method, ...] = get_args(Method)

NirReset = Literal["zero", "zero-next", "subtract"]
RESETS: tuple[NirReset, ...] = get_args(NirReset)

Convention = Literal["nir", "snntorch"]
CONVENTIONS: Mapping[Convention, NirReset] = MappingProxyType(
    {"nir": "zero", "snntorch": "subtract"}
)
"""The reset that ``v_reset = 0`` stands for where neither argument nor file says it."""

DT_SECONDS = 1e-4
"""The step of snnTorch's exporter and importer, which other frameworks share."""

Name = TypeVar("Name", bound=str)

METADATA_DT, METADATA_METHOD, METADATA_RESET = (
    "edgekit_dt_seconds",
    "edgekit_method",
    "edgekit_reset",
)
"""Keys of the metadata that state a file's semantics: two of the outermost graph, one of a neuron
that fires."""

ROUNDING = 2.0**-20
"""How far a decay may leave [0, 1] and a gain 1 by the rounding of a writer that computed time
constants in float32; beyond, it is what the file says."""


@dataclass(frozen=True)
class Semantics:
    """How the equations of a file became steps.

    Attributes:
        dt_seconds: duration of a step.
        method: of discretisation.
        reset: of neurons whose metadata names none.
    """

    dt_seconds: float = DT_SECONDS
    method: Method = "euler"
    reset: NirReset = "zero"

    def __str__(self) -> str:
        return (
            f"steps of {self.dt_seconds:g} s, {self.method} discretisation, reset {self.reset!r}, "
            "states start at 0"
        )

    def reset_of(self, node: NirNode) -> NirReset:
        """What firing does to a neuron.

        Args:
            node: of a type that fires.

        Raises:
            InvalidModelError: metadata that names no reset.
        """
        stated = node.metadata.get(METADATA_RESET, self.reset)
        for reset in RESETS:
            if isinstance(stated, str) and stated == reset:
                return reset
        raise InvalidModelError(f"metadata {METADATA_RESET} must be one of {', '.join(RESETS)}")


def choose(
    tree: NirTree,
    *,
    dt: float | None,
    convention: str,
    reset: str | None,
    method: str | None,
) -> Semantics:
    """The semantics of a file: what the caller says, else what the file says, else the convention.

    Args:
        tree: the outermost graph.
        dt: seconds of a step; None: of the metadata, else :data:`DT_SECONDS`.
        convention: a key of :data:`CONVENTIONS`.
        reset: one of :data:`RESETS` for the neurons that state none; None: the convention's.
        method: one of :data:`METHODS`; None: of the metadata, else ``"euler"``.

    Raises:
        UsageError: an argument that is none of these.
        InvalidModelError: metadata that is none of these.
    """
    for value, what, allowed in (
        (convention, "convention", tuple(CONVENTIONS)),
        (reset, "reset", (None, *RESETS)),
        (method, "method", (None, *METHODS)),
    ):
        if value not in allowed:
            names = ", ".join(str(name) for name in allowed if name)
            raise UsageError(f"{what} is {value!r}, must be one of {names}")
    if dt is not None and not (isinstance(dt, int | float) and 0 < dt < math.inf):
        raise UsageError(f"dt is {dt!r}, must be a positive number of seconds")
    stated_method = method or tree.metadata.get(METADATA_METHOD, "euler")
    stated_reset = reset or CONVENTIONS[_one_of(convention, tuple(CONVENTIONS))]
    return Semantics(
        dt_seconds=float(dt) if dt is not None else _stated_dt(tree.metadata),
        method=_one_of(stated_method, METHODS),
        reset=_one_of(stated_reset, RESETS),
    )


def step(
    tau: Array | None, r: Array, semantics: Semantics, name: str
) -> tuple[Array, Array, Array]:
    """One equation as a step: ``v' = beta v + gain x + share v_leak``.

    Args:
        tau: time constants in seconds; None: there is no leak.
        r: resistances, of the same shape.
        semantics: says how.
        name: what messages call the equation.

    Returns:
        beta, gain and share: float64 of the shape of `r`. A gain within :data:`ROUNDING` of 1 is 1:
        snnTorch writes ``r = tau/dt`` in float32. Where both `tau` and `r` are infinite, which it
        writes for ``beta = 1``, the gain is 1 too.

    Raises:
        InvalidModelError: time constants that are not positive, decays outside [0, 1] (Euler with
            a step longer than the time constant), gains that are not finite.
    """
    dt = semantics.dt_seconds
    r = r.astype(np.float64)
    if tau is None:
        beta, share, gain = np.ones_like(r), np.zeros_like(r), r * dt
    else:
        tau = tau.astype(np.float64)
        if not (tau > 0).all():
            place = [int(index) for index in np.argwhere(~(tau > 0))[0]]
            raise InvalidModelError(
                f"{name} has the time constant {tau[tuple(place)]:g} at {place}, must be positive"
            )
        share = dt / tau if semantics.method == "euler" else -np.expm1(-dt / tau)
        if (share > 1 + ROUNDING).any():
            worst = float(tau.min())
            raise InvalidModelError(
                f"{name}: a step of {dt:g} s is longer than the time constant {worst:g} s, so the "
                f"decay {1 - dt / worst:g} is outside [0, 1]; choose dt <= {worst:g} or the "
                "exponential method"
            )
        beta = np.clip(1 - share, 0, 1)
        gain = np.where(np.isinf(tau) & (r == math.inf), 1.0, r * share)
    if not np.isfinite(gain).all():
        raise InvalidModelError(f"{name} has resistances or weights that are not finite")
    return beta, np.where(np.abs(gain - 1) <= ROUNDING, 1.0, gain), share


def _stated_dt(metadata: Metadata) -> float:
    """The step that the metadata names, or the default.

    Raises:
        InvalidModelError: it names none that is positive.
    """
    stated = metadata.get(METADATA_DT)
    if stated is None:
        return DT_SECONDS
    if isinstance(stated, np.ndarray) and stated.size == 1 and 0 < float(stated.item()) < math.inf:
        return float(stated.item())
    raise InvalidModelError(f"metadata {METADATA_DT} must be a positive number of seconds")


def _one_of(value: object, allowed: tuple[Name, ...]) -> Name:
    """A value that is one of some names.

    Raises:
        InvalidModelError: it is none.
    """
    for name in allowed:
        if isinstance(value, str) and value == name:
            return name
    raise InvalidModelError(f"metadata names {str(value)[:40]!r}, must be {', '.join(allowed)}")
