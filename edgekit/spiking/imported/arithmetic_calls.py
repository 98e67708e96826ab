"""The table's second part: sums, and factors and shifts that are constant."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from edgekit.spiking.imported.affine import Affine
from edgekit.spiking.imported.expressions import Expression, Label, Window, add
from edgekit.spiking.imported.functions import expression, handles
from edgekit.spiking.imported.layers import UnknownError, affine, constant

if TYPE_CHECKING:
    from edgekit.spiking.imported.recorder import Recorder


@handles(torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__)
def plus(recorder: Recorder, out: Tensor, x: Any, other: Any, *, alpha: float = 1) -> Label:
    """Sums of signals, and shifts by constants."""
    return _combine(recorder, out, x, other, 1.0, float(alpha))


@handles(torch.sub, Tensor.sub, Tensor.sub_, Tensor.__sub__, Tensor.__isub__, torch.subtract)
def minus(recorder: Recorder, out: Tensor, x: Any, other: Any, *, alpha: float = 1) -> Label:
    """Differences."""
    return _combine(recorder, out, x, other, 1.0, -float(alpha))


@handles(torch.rsub, Tensor.__rsub__)
def reversed_minus(
    recorder: Recorder, out: Tensor, x: Any, other: Any, *, alpha: float = 1
) -> Label:
    """``other - input``."""
    return _combine(recorder, out, x, other, -float(alpha), 1.0)


def _combine(
    recorder: Recorder, out: Tensor, left: Any, right: Any, by_left: float, by_right: float
) -> Label:
    """``by_left * left + by_right * right``."""
    shape = tuple(out.shape[1:])
    terms: list[Expression] = []
    for value, factor in ((left, by_left), (right, by_right)):
        if isinstance(value, Tensor) and recorder.label(value) is not None:
            if value.shape != out.shape:
                raise UnknownError(f"a sum of {list(value.shape)} spread over {list(out.shape)}")
            if isinstance(recorder.label(value), Window):
                return _on_window(recorder, out, left, right, by_left, by_right)
            term = expression(recorder, value)
            terms.append(term if factor == 1 else _scaled(recorder, term, shape, factor))
    if len(terms) == 2:
        return add(tuple(terms))
    known = isinstance(left, Tensor) and recorder.label(left) is not None
    shift = constant(right if known else left, out, "a sum") * (by_right if known else by_left)
    if not shift.any():
        return terms[0]
    return affine(recorder.layers, terms[0], shape, factor=1.0, shift=shift, what="shift")


@handles(torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__)
def times(recorder: Recorder, out: Tensor, x: Any, other: Any) -> Label:
    """Products with constants."""
    known = isinstance(x, Tensor) and recorder.label(x) is not None
    signal, by = (x, other) if known else (other, x)
    return _times(recorder, out, signal, by, inverse=False)


@handles(torch.div, Tensor.div, Tensor.div_, Tensor.__truediv__, Tensor.true_divide)
def divided(recorder: Recorder, out: Tensor, x: Any, other: Any, **kwargs: Any) -> Label:
    """Quotients by constants."""
    known = isinstance(x, Tensor) and recorder.label(x) is not None
    if not known or any(kwargs.values()):
        raise UnknownError("a division by a signal, or one that rounds")
    return _times(recorder, out, x, other, inverse=True)


@handles(torch.neg, Tensor.neg, Tensor.__neg__)
def negated(recorder: Recorder, out: Tensor, x: Tensor) -> Label:
    """``-x``."""
    return _times(recorder, out, x, -1.0, inverse=False)


def _times(recorder: Recorder, out: Tensor, signal: Tensor, by: Any, *, inverse: bool) -> Label:
    if isinstance(by, Tensor) and recorder.label(by) is not None:
        raise UnknownError("a product of two signals")
    if signal.shape != out.shape:
        raise UnknownError(f"a product of {list(signal.shape)} spread over {list(out.shape)}")
    factor = constant(by, out, "a product")
    if inverse and not factor.all():
        raise UnknownError("a division by 0")
    factor = 1.0 / factor if inverse else factor
    if isinstance(recorder.label(signal), Window):
        return _window_affine(recorder, out, signal, factor, None)
    return _scaled(recorder, expression(recorder, signal), tuple(out.shape[1:]), factor)


def _scaled(
    recorder: Recorder, term: Expression, shape: tuple[int, ...], factor: Any
) -> Expression:
    return affine(recorder.layers, term, shape, factor=factor)


def _on_window(
    recorder: Recorder, out: Tensor, left: Any, right: Any, by_left: float, by_right: float
) -> Label:
    """A constant added to the input, perhaps to all of its steps at once."""
    known = isinstance(left, Tensor) and recorder.label(left) is not None
    if known and isinstance(right, Tensor) and recorder.label(right) is not None:
        raise UnknownError("a sum of the input and a signal")
    signal, by = (left, by_left) if known else (right, by_right)
    shift = constant(right if known else left, out, "a sum") * (by_right if known else by_left)
    return _window_affine(recorder, out, signal, by, shift)


def _window_affine(
    recorder: Recorder, out: Tensor, signal: Tensor, factor: Any, shift: Any
) -> Label:
    """On the input; where it may have a time axis, only what is the same along all other axes."""
    window = recorder.label(signal)
    assert isinstance(window, Window)
    if out.ndim == 2:
        operand = expression(recorder, signal)
        return affine(recorder.layers, operand, tuple(out.shape[1:]), factor=factor, shift=shift)
    factors = np.asarray(factor, np.float64).reshape(-1)
    shifts = None if shift is None else np.asarray(shift, np.float64).reshape(-1)
    if factors.size != 1 or (shifts is not None and shifts.size != 1):
        raise UnknownError("a constant per place, applied to several steps at once")
    return replace(window, layers=(*window.layers, Affine(factors, shifts)))
