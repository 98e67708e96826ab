"""The table's first part: layers within one step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.errors import InvalidDataError
from edgekit.spiking.imported import layers
from edgekit.spiking.imported.expressions import (
    Expression,
    Joined,
    Label,
    Series,
    Window,
    Zero,
    add,
)
from edgekit.spiking.imported.functions import batch_error, expression, handles
from edgekit.spiking.imported.layers import UnknownError
from edgekit.spiking.nodes import AvgPool, MaxPool

if TYPE_CHECKING:
    from edgekit.spiking.imported.recorder import Recorder


@handles(functional.linear)
def linear(
    recorder: Recorder, out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Label | None:
    """On one step, on a concatenation, or on all steps at once along the last axis."""
    label = recorder.label(x)
    made = recorder.layers
    if label is None and (recorder.label(weight) is not None or x.any()):
        return None
    if x.ndim == 1:
        raise batch_error("a Linear layer", x)
    if isinstance(label, Window) and x.ndim > 2:
        first = (0,) * (x.ndim - 2)
        step = layers.linear(made, Zero(), x[first], out[first], weight, bias)
        return replace(label, layers=(*label.layers, step.layer))
    if isinstance(label, Series) and x.ndim == 3 and label.axis < 2:
        one = out.select(label.axis, 0)
        given = x.select(label.axis, 0)
        return Series(
            tuple(layers.linear(made, v, given, one, weight, bias) for v in label.values),
            label.axis,
        )
    if x.ndim != 2:
        raise InvalidDataError(
            f"a Linear layer reads a value of the shape {list(x.shape)}, must be [N,n] in a "
            "step; where the sample has a time axis that forward does not step along, name it "
            "with time_axis"
        )
    if isinstance(label, Joined):
        return _on_parts(recorder, label, x, out, weight, bias)
    return layers.linear(made, expression(recorder, x), x, out, weight, bias)


def _on_parts(
    recorder: Recorder,
    joined: Joined,
    given: Tensor,
    out: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Expression:
    """``W [a; b] = W_a a + W_b b``; the bias goes with the first."""
    terms: list[Expression] = []
    start = 0
    for part, width in joined.parts:
        columns = slice(start, start + width)
        terms.append(
            layers.linear(
                *(recorder.layers, part, given, out, weight, None if terms else bias),
                columns=columns,
            )
        )
        start += width
    return add(tuple(terms))


@handles(torch.conv1d, torch.conv2d)
def convolution(
    recorder: Recorder,
    out: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Label | None:
    """Of one step."""
    if recorder.label(x) is None and (recorder.label(weight) is not None or x.any()):
        return None
    if x.ndim != weight.ndim:
        raise batch_error("a convolution", x)
    return layers.convolution(
        *(recorder.layers, expression(recorder, x), x, out, weight, bias),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


# Zeros at the start go through these as well: with a bias they are zeros no longer.
linear.of_constants = True  # type: ignore[attr-defined]
convolution.of_constants = True  # type: ignore[attr-defined]


@handles(functional.max_pool1d, functional.max_pool2d, torch.max_pool1d, torch.max_pool2d)
def max_pool(
    recorder: Recorder,
    out: Any,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Label:
    """Without dilation and without indices; ``ceil_mode`` where it changes nothing."""
    if not isinstance(out, Tensor) or set(layers.pair(dilation, 1)) != {1}:
        raise UnknownError("max_pool with dilation or indices")
    return _pool(recorder, out, x, MaxPool, kernel_size, stride, padding)


@handles(functional.avg_pool2d, functional.avg_pool1d, torch.avg_pool1d)
def avg_pool(
    recorder: Recorder,
    out: Tensor,
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Label:
    """That divides by all places of the window."""
    padded = any(layers.pair(padding, 1))
    if divisor_override is not None or (padded and not count_include_pad):
        raise UnknownError("avg_pool with divisor_override, or padding that is not counted")
    return _pool(recorder, out, x, AvgPool, kernel_size, stride, padding)


@handles(functional.adaptive_avg_pool2d, functional.adaptive_avg_pool1d, torch.adaptive_avg_pool1d)
def adaptive_avg_pool(recorder: Recorder, out: Tensor, x: Tensor, output_size: Any) -> Label:
    """Whose windows are all of one size."""
    pairs = list(zip(x.shape[2:], out.shape[2:], strict=True))
    if x.ndim != out.ndim or any(have % want for have, want in pairs):
        raise UnknownError(f"adaptive_avg_pool from {list(x.shape)} to {list(out.shape)}")
    kernel = tuple(have // want for have, want in pairs)
    return _pool(recorder, out, x, AvgPool, kernel, None, 0)


def _pool(
    recorder: Recorder,
    out: Tensor,
    given: Tensor,
    kind: type[MaxPool] | type[AvgPool],
    kernel: Any,
    stride: Any,
    padding: Any,
) -> Label:
    operand = expression(recorder, given)
    return layers.pool(
        *(recorder.layers, operand, given, out),
        kind=kind,
        kernel=kernel,
        stride=stride,
        padding=padding,
    )


@handles(functional.batch_norm)
def batch_norm(
    recorder: Recorder,
    out: Tensor,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Label:
    """With running statistics."""
    if training:
        raise UnknownError("batch_norm with the statistics of the batch")
    parts = (running_mean, running_var, weight, bias)
    return layers.batch_norm(recorder.layers, expression(recorder, x), x, parts, eps)


@handles(
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
)
def dropout(
    recorder: Recorder,
    out: Tensor,
    x: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> Label | None:
    """Nothing, in evaluation."""
    if training and p > 0:
        raise UnknownError("dropout that is on in evaluation")
    return recorder.label(x)


@handles(
    *(Tensor.detach, Tensor.detach_, Tensor.clone, torch.clone, Tensor.contiguous, Tensor.to),
    *(Tensor.float, Tensor.cpu, Tensor.type_as, Tensor.requires_grad_, torch.detach),
    Tensor.data.__get__,  # type: ignore[attr-defined]
)
def identity(recorder: Recorder, out: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> Label | None:
    """The same values, where the type is."""
    if out.dtype != x.dtype:
        raise UnknownError(f"a conversion from {x.dtype} to {out.dtype}")
    return recorder.label(x)


@handles(
    *(torch.zeros_like, torch.ones_like, torch.empty_like, torch.full_like, torch.rand_like),
    *(torch.randn_like, Tensor.new_zeros, Tensor.new_ones, Tensor.new_empty, Tensor.new_full),
    *(Tensor.size, Tensor.dim, Tensor.numel, Tensor.is_contiguous, Tensor.__len__),
)
def unrelated(recorder: Recorder, out: object, *args: Any, **kwargs: Any) -> None:
    """Results that depend on the shape of a tensor alone."""
