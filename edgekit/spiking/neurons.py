"""The neurons of a spiking graph: decays, thresholds, resets, and the equations of one step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgekit.errors import InvalidModelError
from edgekit.model.domain import RESETS
from edgekit.spiking.arrays import Float32, Shape, parameter

Reset = Literal["subtract", "zero", "none"]
"""What a spike does to the membrane; names are those of :data:`edgekit.model.domain.RESETS`."""


def _one() -> Float32:
    """The threshold of snnTorch's neurons where none is given."""
    return np.ones(1, np.float32)


@dataclass(frozen=True, eq=False)
class Leaky:
    """Leaky integrate-and-fire neurons, snnTorch's ``Leaky`` (``reset_delay=True``).

    With u the membrane of the step before (0 at the start), x the input, every operation one
    float32 operation in this order::

        r = 1[u > threshold]
        subtract   u' = (beta*u + x) - r*threshold
        zero       u' = beta*((1 - r)*u) + x
        none       u' = beta*u + x
        s = 1[u' > threshold]

    The reset is decided by the old membrane, the spike by the new one, both strictly.

    Attributes:
        beta: decay of the membrane per step in [0, 1]: float32 of one element, one per neuron
            ``[n]``, one per channel ``[C]``, or of the population's shape.
        threshold: likewise, finite.
        reset: how a spike changes the next membrane.
        spiking: False: an integrator (LI, I), whose output is u' with no threshold and no reset;
            `threshold` and `reset` then mean nothing.
    """

    beta: Float32
    threshold: Float32 = field(default_factory=_one)
    reset: Reset = "subtract"
    spiking: bool = True

    def __post_init__(self) -> None:
        _check_neuron(self, ("beta",))

    def output_shape(self, shape: Shape) -> Shape:
        """The same."""
        return _population(self, ("beta", "threshold"), shape)


@dataclass(frozen=True, eq=False)
class Synaptic:
    """Neurons with a synaptic current, snnTorch's ``Synaptic`` (``reset_delay=True``).

    With i and u of the step before, every operation one float32 operation in this order::

        r = 1[u > threshold]
        i' = alpha*i + x
        v = beta*u + i'
        subtract   u' = v - r*threshold
        zero       u' = v - v*r
        none       u' = v
        s = 1[u' > threshold]

    Attributes:
        alpha: decay of the current per step in [0, 1]; shapes as :class:`Leaky`.
        beta: decay of the membrane per step in [0, 1].
        threshold: finite.
        reset: how a spike changes the next membrane; the current is never reset.
        spiking: as :class:`Leaky`.
    """

    alpha: Float32
    beta: Float32
    threshold: Float32 = field(default_factory=_one)
    reset: Reset = "subtract"
    spiking: bool = True

    def __post_init__(self) -> None:
        _check_neuron(self, ("alpha", "beta"))

    def output_shape(self, shape: Shape) -> Shape:
        """The same."""
        return _population(self, ("alpha", "beta", "threshold"), shape)


Neuron = Leaky | Synaptic


def spread_over(values: Float32, shape: Shape) -> Float32:
    """A neuron's parameter as NumPy and ONNX broadcast it against its population.

    Args:
        values: one element, ``[n]``, ``[C]`` or the population's shape.
        shape: of the population.

    Raises:
        InvalidModelError: any other shape.

    >>> spread_over(np.float32([1, 2]), (2, 5, 5)).shape
    (2, 1, 1)
    """
    if values.size == 1:
        return values.reshape(1)
    if values.shape == shape:
        return values
    if values.shape == shape[:1]:
        return values.reshape(-1, *[1] * (len(shape) - 1))
    raise InvalidModelError(
        f"has the shape {list(values.shape)}, must be one number, [{shape[0]}] or {list(shape)}"
    )


def _check_neuron(node: Neuron, decays: tuple[str, ...]) -> None:
    """Parameters of a neuron."""
    for name in (*decays, "threshold"):
        values = parameter(getattr(node, name), name)
        object.__setattr__(node, name, values)
        wrong = (values < 0) | (values > 1)
        if name in decays and wrong.any():
            place = [int(index) for index in np.argwhere(wrong)[0]]
            raise InvalidModelError(
                f"{name} at {place} is {values[tuple(place)]}, must be in [0, 1]"
            )
    if node.reset not in RESETS:
        raise InvalidModelError(f"reset is {node.reset!r}, must be one of {', '.join(RESETS)}")


def _population(node: Neuron, names: tuple[str, ...], shape: Shape) -> Shape:
    """The shape of a population, which its parameters must fit."""
    for name in names:
        try:
            spread_over(getattr(node, name), shape)
        except InvalidModelError as error:
            raise InvalidModelError(f"{name} {error}") from None
    return shape
