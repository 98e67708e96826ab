"""Calls of torch's functions as layers; the same call in two steps is the same layer."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from edgekit.errors import EdgekitError, UnsupportedError
from edgekit.spiking.arrays import Array, Shape
from edgekit.spiking.imported.affine import Affine, Reshape, compact, without_batch
from edgekit.spiking.imported.expressions import Apply, Expression, Layer, Operation
from edgekit.spiking.nodes import AvgPool, Conv, Flatten, Linear, MaxPool
from edgekit.spiking.weight import Weight


class UnknownError(Exception):
    """A call that is not understood; the message says what it does."""


class Layers:
    """Makes layers and recognises them again.

    Layers are told apart by the content of their parameters, not by the tensors that hold it:
    parametrised weights (weight norm, pruning) are computed anew in every step.

    Args:
        owners: path of the module that holds a parameter, by the parameter's ``id``.
    """

    def __init__(self, owners: Mapping[int, str]) -> None:
        self._owners = owners
        self._made: dict[tuple[object, ...], Layer] = {}
        self._digests: MutableMapping[Tensor, tuple[int, bytes]] = WeakTensorKeyDictionary()

    def apply(
        self,
        what: str,
        operand: Expression,
        shape: Shape,
        *,
        parameters: Sequence[Tensor | None] = (),
        settings: tuple[object, ...] = (),
        make: Callable[[], Operation],
        result: Sequence[int],
    ) -> Apply:
        """A layer on a value.

        Args:
            what: kind of layer; its name where no module holds its parameters.
            operand: what it reads.
            shape: of the operand, without batch.
            parameters: arrays that tell it apart from others of its kind.
            settings: numbers that do.
            make: makes its node.
            result: shape that torch gave its value, with batch.

        Raises:
            UnknownError: the node would give another shape.
        """
        contents = tuple(None if p is None else self._digest(p) for p in parameters)
        key = (what, shape, contents, settings)
        layer = self._made.get(key)
        if layer is None:
            name = next((n for p in parameters if (n := self._owners.get(id(p)))), what)
            try:
                node = make()
                given = node.output_shape(shape)
            except EdgekitError as error:
                raise type(error)(f"{name}: {error}") from None
            layer = self._made[key] = Layer(named(name, what), node, given)
        if layer.shape != tuple(result[1:]):
            raise UnknownError(
                f"{what} from {list(shape)} to {list(result[1:])} (supported: {list(layer.shape)})"
            )
        return Apply(layer, operand)

    def _digest(self, tensor: Tensor) -> bytes:
        """Of a parameter's content, remembered as long as it does not change."""
        known = self._digests.get(tensor)
        if known is None or known[0] != tensor._version:
            text = f"{tensor.dtype}{list(tensor.shape)}".encode()
            digest = hashlib.sha256(text + numpy(tensor).tobytes()).digest()
            known = self._digests[tensor] = (tensor._version, digest)
        return known[1]


def named(path: str, what: str) -> str:
    """A name from a module's path; paths of nn.Sequential are numbers and get the kind in front."""
    return f"{what}_{path}" if re.match(r"\d", path) else path or what


def numpy(tensor: Tensor) -> Array:
    """A tensor's values."""
    return np.asarray(tensor.detach().cpu().contiguous().numpy())


def pair(value: Any, axes: int) -> Shape:
    """An argument of torch that is one number for all axes, or one per axis."""
    values = tuple(int(v) for v in value) if isinstance(value, Sequence) else (int(value),) * axes
    return values * axes if len(values) == 1 else values


def linear(
    layers: Layers,
    operand: Expression,
    given: Tensor,
    out: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    columns: slice | None = None,
) -> Apply:
    """A Linear on ``[N,K]``, or on the columns of it that one part of a concatenation has."""
    columns = columns or slice(0, int(weight.shape[1]))
    return layers.apply(
        "linear",
        operand,
        (columns.stop - columns.start,),
        parameters=(weight, bias),
        settings=(columns.start,),
        make=lambda: Linear(Weight(numpy(weight)[:, columns]), _bias(bias)),
        result=(given.shape[0], *out.shape[1:]),
    )


def convolution(
    layers: Layers,
    operand: Expression,
    given: Tensor,
    out: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Apply:
    """A convolution on ``[N,C,L]`` or ``[N,C,H,W]``."""
    axes = weight.ndim - 2
    step, spread = pair(stride, axes), pair(dilation, axes)
    if padding == "same":
        # torch puts the odd one behind.
        total = [d * (k - 1) for d, k in zip(spread, weight.shape[2:], strict=True)]
        pads = tuple(t // 2 for t in total) + tuple(t - t // 2 for t in total)
    else:
        pads = pair(0 if padding == "valid" else padding, axes)
    return layers.apply(
        f"conv{axes}d",
        operand,
        tuple(given.shape[1:]),
        parameters=(weight, bias),
        settings=(step, pads, spread, groups),
        make=lambda: Conv(Weight(numpy(weight)), _bias(bias), step, pads, spread, groups),
        result=out.shape,
    )


def pool(
    layers: Layers,
    operand: Expression,
    given: Tensor,
    out: Tensor,
    *,
    kind: type[MaxPool] | type[AvgPool],
    kernel: Any,
    stride: Any,
    padding: Any,
) -> Apply:
    """A pooling layer; that torch and the node cut the last windows alike is checked by shape."""
    axes = given.ndim - 2
    size = pair(kernel, axes)
    step = pair(stride, axes) if stride is not None and stride != [] else size
    pads = pair(padding, axes)
    return layers.apply(
        "max_pool" if kind is MaxPool else "avg_pool",
        operand,
        tuple(given.shape[1:]),
        settings=(size, step, pads),
        make=lambda: kind(size, step, pads),
        result=out.shape,
    )


def affine(
    layers: Layers,
    operand: Expression,
    shape: Shape,
    *,
    factor: Array | float,
    shift: Array | float | None = None,
    what: str = "scale",
    owner: Tensor | None = None,
) -> Apply:
    """A factor and a shift, broadcast as torch does against ``[N,*shape]``."""
    factors = without_batch(np.asarray(factor, np.float64), shape, what)
    shifts = None if shift is None else without_batch(np.asarray(shift, np.float64), shape, what)
    if shifts is not None and not shifts.any():
        shifts = None
    content = (factors.tobytes(), None if shifts is None else shifts.tobytes())
    return layers.apply(
        what,
        operand,
        shape,
        parameters=() if owner is None else (owner,),
        settings=(content, factors.shape, None if shifts is None else shifts.shape),
        make=lambda: Affine(factors, shifts),
        result=(0, *shape),
    )


def batch_norm(
    layers: Layers, operand: Expression, given: Tensor, parts: Sequence[Tensor | None], eps: float
) -> Apply:
    """BatchNorm in evaluation as a factor and a shift per channel, in float64."""
    mean, variance, weight, bias = (None if p is None else numpy(p).astype(float) for p in parts)
    if mean is None or variance is None:
        raise UnknownError("batch_norm with the statistics of the batch")
    factor = 1.0 / np.sqrt(variance + eps)
    factor = factor if weight is None else factor * weight
    shift = -mean * factor
    shift = shift if bias is None else shift + bias
    ends = (1,) * (given.ndim - 2)
    return affine(
        layers,
        operand,
        tuple(given.shape[1:]),
        factor=factor.reshape(-1, *ends),
        shift=shift.reshape(-1, *ends),
        what="batch_norm",
        owner=parts[0],
    )


def reshape(layers: Layers, operand: Expression, given: Shape, out: Sequence[int]) -> Expression:
    """Another shape of every sample; both shapes with the batch in front."""
    if tuple(out) == given:
        return operand
    if not out or out[0] != given[0]:
        raise UnknownError(f"a view from {list(given)} to {list(out)} that mixes samples")
    shape = tuple(int(extent) for extent in out[1:])
    flat = len(shape) == 1
    return layers.apply(
        "flatten" if flat else "reshape",
        operand,
        given[1:],
        settings=(shape,),
        make=lambda: Flatten() if flat else Reshape(shape),
        result=out,
    )


def constant(tensor: Tensor | float, out: Tensor, what: str) -> Array:
    """A number or a tensor that no input reaches, as it is added or multiplied."""
    if not isinstance(tensor, Tensor):
        return np.asarray(tensor, np.float64)
    values = numpy(tensor).astype(np.float64)
    if values.ndim == out.ndim and values.shape[0] not in (1,):
        if not (values == values[:1]).all():
            raise UnknownError(f"{what} with a constant that differs between samples")
        values = values[:1]
    return compact(values[0] if values.ndim == out.ndim else values, tuple(out.shape[1:]))


def check_float32(tensor: Tensor, what: str) -> None:
    """That a network runs in float32.

    Raises:
        UnsupportedError: it does not.
    """
    if tensor.is_floating_point() and tensor.dtype != torch.float32:
        raise UnsupportedError(
            f"{what} is {str(tensor.dtype).removeprefix('torch.')}; supported: float32 (call "
            ".float() on the module and the sample)"
        )


def _bias(bias: Tensor | None) -> Array | None:
    return None if bias is None else numpy(bias)
