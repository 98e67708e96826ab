"""Spiking neurons, one time step: leaky integrators of first and of second order.

The equations and the order of the operations are snnTorch's, of its ``Leaky`` and ``Synaptic``
neurons; whether a neuron is reset is decided by the membrane before the step, whether it spikes by
the one behind it, both by ``>``::

    leaky      r = u > threshold                        synaptic   r = u > threshold
               u' = beta*u + x - r*threshold (subtract)            i' = alpha*i + x
               u' = beta*((1 - r)*u) + x     (zero)                v  = beta*u + i'
               u' = beta*u + x               (none)                u' = v - r*threshold  (subtract)
               s = u' > threshold                                  u' = v - r*v          (zero)
                                                                   u' = v                (none)
                                                                   s = u' > threshold

with ``x + bias`` for x where there is a bias. Without a threshold there is neither reset nor spike:
an integrator, whose membrane is the result; s is empty then.

float32: as written, every operation rounded once. Integers::

    decayed(f, v) = (f*v + 2**14) >> 15              f = round(2**15 * factor), 0 … 2**15
    u' = decayed(beta, u) + (x << fraction) + bias - (r ? threshold : 0)

and the others likewise, in two's complement within int32; the shift to the right floors. Units are
those of the membrane: a threshold, a bias and a current i are in steps of 2**-fraction steps of x.
With a `limit`, u' and i' are then clipped to -limit … limit. Whoever makes a Program sees to it
that no sum leaves int32.

Source: Eshraghian et al. 2023, "Training spiking neural networks using lessons from deep learning",
arXiv 2109.12894.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from edgekit.program.fixed_point import wrap_int32
from edgekit.program.ir import Array, DType, TensorType
from edgekit.program.operators.base import Operator, operator, require, require_dtype
from edgekit.program.operators.rules import given
from edgekit.program.operators.spiking_bits import bit_set, pack_spikes

Reset = Literal["subtract", "zero", "none"]
"""What a spike does to the membrane, in the step behind it."""

DECAY_BITS = 15
"""Fraction of an integer decay factor: 2**15 keeps everything."""

MAX_FRACTION = 14
"""Most bits that a membrane has below one step of its current."""


@dataclass(frozen=True, kw_only=True)
class _Neuron(Operator):
    """What both neurons share: fields, their checks, the order of inputs.

    Attributes:
        reset: what a spike does to the membrane.
        fraction: integers: bits of the membrane below one step of x, 0 … 14.
        limit: integers: largest magnitude of membrane and current, None for no clipping.
    """

    reset: Reset = "subtract"
    fraction: int = 0
    limit: int | None = None

    def constants_problem(self, constants: dict[str, Array]) -> str | None:
        """Parameters are constants, decay factors from 0 to 1."""
        for port in self.inputs:
            name = port.rstrip("?")
            values = constants.get(name)
            if name in ("alpha", "beta"):
                if values is None:
                    return f"{name} is computed, must be constant"
                most = 1 if values.dtype.kind == "f" else 2**DECAY_BITS
                outside = values[(values < 0) | (values > most)]
                if outside.size:
                    return f"{name} holds {outside[0]}, must lie in 0…{most}"
        return None

    def _checked(
        self,
        x: TensorType,
        states: dict[str, TensorType],
        parameters: dict[str, TensorType | None],
    ) -> tuple[TensorType, ...]:
        """Check everything; the type of s and one for every state."""
        require_dtype(x, "x", DType.INT32, DType.FLOAT32)
        require(
            len(x.shape) >= 2 and x.size >= 1,
            f"x has shape {list(x.shape)}, must be [N, ...] and not empty",
        )
        neurons = math.prod(x.shape[1:])
        for label, state in states.items():
            require(state == x, f"{label} is {state}, must be {x} like x")
        lengths = sorted({1, x.shape[-1], neurons})
        for label, parameter in parameters.items():
            if parameter is not None:
                require_dtype(parameter, label, x.dtype)
                require(
                    parameter.shape in [(length,) for length in lengths],
                    f"{label} has shape {list(parameter.shape)}, must have one element, one for "
                    f"every channel or one for every neuron: [n] with n among {lengths}",
                )
        given_lengths = {p.shape[0] for p in parameters.values() if p is not None} - {1}
        require(
            len(given_lengths) <= 1,
            f"parameters have {sorted(given_lengths)} elements, must have one or all as many",
        )
        known = get_args(Reset)
        require(self.reset in known, f"reset is {self.reset!r}, must be one of {known}")
        require(
            parameters["threshold"] is not None or self.reset == "none",
            f"reset is {self.reset!r} without a threshold, must be 'none'",
        )
        integer = x.dtype.is_integer
        most = MAX_FRACTION if integer else 0
        require(0 <= self.fraction <= most, f"fraction is {self.fraction}, must lie in 0…{most}")
        require(integer or self.limit is None, "limit is for integers, must be None for float32")
        require(
            self.limit is None or 0 < self.limit < 2**31,
            f"limit is {self.limit}, must lie in 1…{2**31 - 1}",
        )
        return bit_set(x.shape[0], neurons), *(x for _ in states)

    def _decayed(self, factor: Array, value: Array) -> Array:
        if value.dtype.kind == "f":
            return factor * value
        return (factor * value + (1 << (DECAY_BITS - 1))) >> DECAY_BITS

    def _kept(self, value: Array) -> Array:
        """A new state: wrapped, clipped."""
        if value.dtype.kind == "f":
            return value
        value = wrap_int32(value).astype(np.int64)
        return value if self.limit is None else np.clip(value, -self.limit, self.limit)

    def _input(self, x: Array, bias: Array | None) -> Array:
        if x.dtype.kind != "f":
            x = x << self.fraction
        return x if bias is None else x + bias


def _operands(x: Array, *others: Array | None) -> tuple[Array | None, ...]:
    """Integers as int64; parameters broadcast to x[N,...]."""
    found: list[Array | None] = []
    for value in (x, *others):
        if value is None:
            found.append(None)
            continue
        if value.ndim == 1 and value.size not in (1, x.shape[-1]):
            value = value.reshape(x.shape[1:])
        found.append(value if value.dtype == np.float32 else value.astype(np.int64))
    return tuple(found)


def _above(u: Array, threshold: Array | None) -> Array:
    """1 where a membrane is above its threshold, in the dtype of the membrane."""
    if threshold is None:
        return np.zeros_like(u)
    return (u > threshold).astype(u.dtype)


def _results(u: Array, threshold: Array | None, *states: Array) -> tuple[Array, ...]:
    """The bit set and the states in the dtype of the Program."""
    spikes = _above(u, threshold) != 0
    dtype = np.float32 if u.dtype == np.float32 else np.int32
    return pack_spikes(spikes.reshape(len(u), -1)), *(s.astype(dtype) for s in states)


@operator(
    "leaky",
    inputs="x u beta threshold? bias?",
    outputs="s u_next",
    in_place=((1, 1),),
)
@dataclass(frozen=True, kw_only=True)
class Leaky(_Neuron):
    """Leaky integrate-and-fire neurons; s and u_next from the current x and the membrane u.

    x, u and u_next are [N, ...] of one shape and dtype, int32 or float32; s is the bit set of the
    neurons of a sample. beta, threshold and bias have one element, one for every channel (the last
    axis of x) or one for every neuron, and x's dtype. See the module for the arithmetic.

    Attributes:
        reset: what a spike does to the membrane.
        fraction: integers: bits of the membrane below one step of x, 0 … 14.
        limit: integers: largest magnitude of u_next, None for no clipping.

    >>> neuron = Leaky(fraction=1)
    >>> x, u, half = np.int32([[3, 0]]), np.int32([[8, 30]]), np.int32([1 << 14])
    >>> [y.tolist() for y in neuron.reference(x, u, half, np.int32([9]), None)]
    [[[1]], [[10, 6]]]
    """

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """Types of s and u_next."""
        x, u, beta, threshold, bias = (*inputs, None, None)[:5]
        parameters = {"beta": given(beta), "threshold": threshold, "bias": bias}
        return self._checked(given(x), {"u": given(u)}, parameters)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The bit set s and the membrane u_next."""
        x, u, beta, threshold, bias = _operands(given(inputs[0]), *(*inputs[1:], None, None)[:4])
        x, u, beta = given(x), given(u), given(beta)
        current = self._input(x, bias)
        reset = _above(u, threshold)
        if self.reset == "zero":
            u = (1 - reset) * u
        u = self._decayed(beta, u) + current
        if self.reset == "subtract":
            u = u - reset * given(threshold)
        u = self._kept(u)
        return _results(u, threshold, u)


@operator(
    "synaptic",
    inputs="x u i alpha beta threshold? bias?",
    outputs="s u_next i_next",
    in_place=((1, 1), (2, 2)),
)
@dataclass(frozen=True, kw_only=True)
class Synaptic(_Neuron):
    """Leaky neurons behind a leaky synaptic current; s, u_next, i_next from x, u and i.

    Shapes, dtypes and parameters as in :class:`Leaky`; alpha is to i what beta is to u. See the
    module for the arithmetic.

    Attributes:
        reset: what a spike does to the membrane.
        fraction: integers: bits of membrane and current below one step of x, 0 … 14.
        limit: integers: largest magnitude of u_next and i_next, None for no clipping.

    >>> neuron = Synaptic(reset="zero")
    >>> x, u, i = np.float32([[1, 1]]), np.float32([[0, 4]]), np.float32([[2, 2]])
    >>> half, one = np.float32([0.5]), np.float32([1])
    >>> [y.tolist() for y in neuron.reference(x, u, i, half, half, one, None)]
    [[[1]], [[2.0, 0.0]], [[2.0, 2.0]]]
    """

    def infer(self, *inputs: TensorType | None) -> tuple[TensorType, ...]:
        """Types of s, u_next and i_next."""
        x, u, i, alpha, beta, threshold, bias = (*inputs, None, None)[:7]
        parameters = {
            "alpha": given(alpha),
            "beta": given(beta),
            "threshold": threshold,
            "bias": bias,
        }
        return self._checked(given(x), {"u": given(u), "i": given(i)}, parameters)

    def reference(self, *inputs: Array | None) -> tuple[Array, ...]:
        """The bit set s, the membrane u_next and the current i_next."""
        x, u, i, alpha, beta, threshold, bias = _operands(
            given(inputs[0]), *(*inputs[1:], None, None)[:6]
        )
        x, u, i, alpha, beta = given(x), given(u), given(i), given(alpha), given(beta)
        reset = _above(u, threshold)
        i = self._kept(self._decayed(alpha, i) + self._input(x, bias))
        u = self._decayed(beta, u) + i
        if self.reset == "subtract":
            u = u - reset * given(threshold)
        elif self.reset == "zero":
            u = u - reset * u
        u = self._kept(u)
        return _results(u, threshold, u, i)
