"""What a recorded tensor is, in terms of the network's inputs and neurons.

While ``forward`` runs, every tensor that depends on the input is given a *label*:

- an :data:`Expression` where it is one step's value ``[N,...]``: layers applied to signals,
- :class:`Window` while it is the input as it came in, perhaps permuted, with or without time,
- :class:`Series` where it holds values of many steps along one more axis,
- :class:`Joined` where it is a concatenation of flat values,
- :class:`Opaque` where something was done to it that is not understood. That is an error only if a
  neuron or an output reads it.

Steps are numbered from 0 while recording. :func:`shifted` makes them relative: 0 is the step that
is computed, -1 the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from edgekit.spiking.arrays import Shape
from edgekit.spiking.imported.affine import Affine, Reshape
from edgekit.spiking.nodes import AvgPool, Conv, Flatten, Linear, MaxPool

Kind = Literal["input", "spikes", "membrane", "synaptic"]
INPUT = "input"
"""Source and kind of signals that come from outside."""

Operation = Linear | Conv | MaxPool | AvgPool | Flatten | Affine | Reshape


@dataclass(frozen=True, eq=False)
class Layer:
    """Something stateless; the recorder makes one object per layer, so identity is equality.

    Attributes:
        name: what the source network calls it.
        node: what it does.
        shape: of its value, without batch.
    """

    name: str
    node: Operation
    shape: Shape


@dataclass(frozen=True)
class Signal:
    """What comes from outside or out of a population.

    Attributes:
        source: :data:`INPUT` or the population's name.
        kind: which of its values.
        step: of which step; None for an input that is the same in every step.
    """

    source: str
    kind: Kind
    step: int | None


@dataclass(frozen=True)
class Zero:
    """Zeros, as states are at the start."""


@dataclass(frozen=True)
class Apply:
    """A layer on a value."""

    layer: Layer
    operand: Expression


@dataclass(frozen=True)
class Sum:
    """Several values, added; never nested, never of fewer than two."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True)
class Total:
    """The sum of a value over all steps; only in what is read after the last one."""

    operand: Expression


Expression = Signal | Zero | Apply | Sum | Total


@dataclass(frozen=True)
class Window:
    """The input as the caller passed it.

    Attributes:
        axes: for every axis of the tensor the axis of the input that it is; -1 for one that merges
            or splits some, None for one that was inserted.
        shape: of the tensor, before `layers`.
        layers: applied to every step: Linear layers along the last axis, and factors and shifts
            that are one number.
    """

    axes: tuple[int | None, ...]
    shape: Shape
    layers: tuple[Layer | Affine, ...] = ()


@dataclass(frozen=True)
class Series:
    """Values of several steps in one tensor, stacked along `axis`."""

    values: tuple[Expression, ...]
    axis: int


@dataclass(frozen=True)
class Joined:
    """Flat values ``[N,n]`` one behind the other, with their widths."""

    parts: tuple[tuple[Expression, int], ...]


@dataclass(frozen=True)
class Opaque:
    """Not understood.

    Attributes:
        reason: what was done, for messages.
    """

    reason: str


Label = Expression | Window | Series | Joined | Opaque


def add(terms: tuple[Expression, ...]) -> Expression:
    """A sum without zeros and without sums in it."""
    flat: list[Expression] = []
    for term in terms:
        if isinstance(term, Sum):
            flat.extend(term.terms)
        elif not isinstance(term, Zero):
            flat.append(term)
    if not flat:
        return Zero()
    return flat[0] if len(flat) == 1 else Sum(tuple(flat))


def signals(expression: Expression) -> Iterator[Signal]:
    """All that a value depends on, with repeats."""
    match expression:
        case Signal():
            yield expression
        case Apply(_, operand) | Total(operand):
            yield from signals(operand)
        case Sum(terms):
            for term in terms:
                yield from signals(term)


def layers(expression: Expression) -> Iterator[Layer]:
    """All layers of a value, innermost first, with repeats."""
    match expression:
        case Apply(layer, operand):
            yield from layers(operand)
            yield layer
        case Total(operand):
            yield from layers(operand)
        case Sum(terms):
            for term in terms:
                yield from layers(term)


def mapped(expression: Expression, change: Callable[[Signal], Expression]) -> Expression:
    """The same with other signals; a layer that gives zero for zero stays zero."""
    match expression:
        case Signal():
            return change(expression)
        case Apply(layer, operand):
            inner = mapped(operand, change)
            if isinstance(inner, Zero) and keeps_zero(layer.node):
                return inner
            return Apply(layer, inner)
        case Sum(terms):
            return add(tuple(mapped(term, change) for term in terms))
        case Total(operand):
            return Total(mapped(operand, change))
    return expression


def shifted(expression: Expression, step: int) -> Expression:
    """Steps relative to `step`."""
    return mapped(expression, lambda s: s if s.step is None else replace(s, step=s.step - step))


def at_start(expression: Expression) -> Expression:
    """What a relative value is in the first step: everything of the step before is zero."""
    return mapped(expression, lambda s: Zero() if s.step is not None and s.step < 0 else s)


def keeps_zero(node: Operation) -> bool:
    """Whether zeros in are zeros out."""
    match node:
        case Linear() | Conv():
            return node.bias is None
        case Affine():
            return node.shift is None
    return True
