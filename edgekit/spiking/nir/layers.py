"""NIR's layers without state as nodes of a spiking graph, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from edgekit.errors import InvalidModelError, UnsupportedError
from edgekit.spiking.arrays import Array, Shape, paddings, per_axis, shape_tuple
from edgekit.spiking.nir.tree import NirNode
from edgekit.spiking.nodes import (
    AvgPool,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Scale,
    SumPool,
)
from edgekit.spiking.weight import Weight


def layer(node: NirNode) -> Node:
    """A layer as a node of the graph.

    Args:
        node: of a type in :data:`LAYERS`.

    Raises:
        InvalidModelError: fields of no legal shape or value.
        UnsupportedError: matrices of more than two axes, a Flatten that keeps axes.
    """
    return LAYERS[node.type](node)


def to_nir(node: Node, reads: Shape, gives: Shape) -> NirNode:
    """A layer of the graph as NIR's.

    Args:
        node: not a neuron.
        reads: shape of its input.
        gives: shape of its output.

    Raises:
        UnsupportedError: NIR has no such layer.
    """
    match node:
        case Input() | Output():
            return NirNode(type(node).__name__, {"shape": np.array(gives)})
        case Flatten():
            return NirNode(
                "Flatten",
                {
                    "start_dim": np.array(0),
                    "end_dim": np.array(-1),
                    "input_type": np.array(reads),
                },
            )
        case Scale():
            return NirNode("Scale", {"scale": np.array(np.broadcast_to(node.factor, reads))})
        case Linear():
            fields = {"weight": _dense(node)}
            if node.bias is None:
                return NirNode("Linear", fields)
            return NirNode("Affine", {**fields, "bias": node.bias})
        case Conv():
            return _written_conv(node, reads)
        case AvgPool() | SumPool() if len(node.kernel) == 2:
            return NirNode(
                f"{type(node).__name__}2d",
                {
                    "kernel_size": np.array(node.kernel),
                    "stride": np.array(node.stride),
                    "padding": np.array(_symmetric(node.padding)),
                },
            )
    raise UnsupportedError(
        f"NIR has no {type(node).__name__} of {len(reads) - 1} axes; it has AvgPool2d and SumPool2d"
    )


def _affine(node: NirNode) -> Linear:
    weight = _real(node, "weight")
    if weight.ndim != 2:
        raise UnsupportedError(
            f"weights have the shape {list(weight.shape)}; supported: one matrix [O,K]"
        )
    weight = weight.astype(np.float32)
    bias = _real(node, "bias") if "bias" in node.fields else None
    rows, columns = weight.shape
    if rows == columns > 1 and np.count_nonzero(weight) == np.count_nonzero(weight.diagonal()):
        # How NIR states snnTorch's recurrence of each neuron to itself: n numbers, not n * n.
        return Linear(Weight(weight.diagonal().reshape(-1, 1)), bias, groups=rows)
    return Linear(Weight(weight), bias)


def _scale(node: NirNode) -> Scale:
    return Scale(_real(node, "scale"))


def _conv(node: NirNode) -> Conv:
    weight = _real(node, "weight")
    axes = 1 if node.type == "Conv1d" else 2
    if weight.ndim != axes + 2:
        raise InvalidModelError(
            f"weights have the shape {list(weight.shape)}, must have {axes + 2} axes"
        )
    kernel = weight.shape[2:]
    dilation = per_axis(_whole(node, "dilation", least=1), axes, "dilation")
    stride = per_axis(_whole(node, "stride", least=1), axes, "stride")
    return Conv(
        Weight(weight.astype(np.float32)),
        _real(node, "bias"),
        stride,
        _padding(node, kernel, stride, dilation),
        dilation,
        _whole(node, "groups", least=1)[0],
    )


def _padding(node: NirNode, kernel: Shape, stride: Shape, dilation: Shape) -> Shape:
    """Padding before every axis and then behind; ``same`` puts an odd one behind, as torch does.

    Raises:
        InvalidModelError: another word, or ``same`` with a stride.
    """
    given = node.fields["padding"]
    if isinstance(given, np.ndarray):
        axes = len(kernel)
        return paddings(per_axis(_whole(node, "padding", least=0), axes, "padding"), axes)
    if given == "valid":
        return (0,) * 2 * len(kernel)
    if given != "same":
        raise InvalidModelError(f"padding is {given!r}, must be whole numbers, 'same' or 'valid'")
    if stride != (1,) * len(kernel):
        raise InvalidModelError(f"padding 'same' needs stride 1, has {list(stride)}")
    return _same(kernel, dilation)


def _same(kernel: Shape, dilation: Shape) -> Shape:
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return (*(t // 2 for t in total), *(t - t // 2 for t in total))


def _pool(kind: type[AvgPool] | type[SumPool]) -> Callable[[NirNode], Node]:
    def made(node: NirNode) -> Node:
        kernel = per_axis(_whole(node, "kernel_size", least=1), 2, "kernel_size")
        return kind(
            kernel,
            per_axis(_whole(node, "stride", least=1), 2, "stride"),
            paddings(per_axis(_whole(node, "padding", least=0), 2, "padding"), 2),
        )

    return made


def _flatten(node: NirNode) -> Flatten:
    """Flatten of all axes; NIR's have no batch.

    Raises:
        UnsupportedError: of some only.
    """
    start, end = (_integers(node, key) for key in ("start_dim", "end_dim"))
    shape = _integers(node, "input_type") if "input_type" in node.fields else None
    first = start[0] + len(shape) if shape and start[0] < 0 else start[0]
    last = len(shape) - 1 if shape and end[0] == -1 else end[0]
    if len(start) != 1 or len(end) != 1 or first != 0 or last != (len(shape) - 1 if shape else -1):
        raise UnsupportedError(
            f"flattens the axes {start[0]} to {end[0]}"
            + (f" of {list(shape)}" if shape else "")
            + "; supported: all axes, 0 to -1 (NIR counts no batch)"
        )
    return Flatten()


def _input(node: NirNode) -> Input:
    return Input(_whole(node, "shape", least=1))


def _output(node: NirNode) -> Output:
    return Output()


LAYERS: Mapping[str, Callable[[NirNode], Node]] = MappingProxyType(
    {
        "Affine": _affine,
        "AvgPool2d": _pool(AvgPool),
        "Conv1d": _conv,
        "Conv2d": _conv,
        "Flatten": _flatten,
        "Input": _input,
        "Linear": _affine,
        "Output": _output,
        "Scale": _scale,
        "SumPool2d": _pool(SumPool),
    }
)
"""What reads each type without state."""


def _written_conv(node: Conv, reads: Shape) -> NirNode:
    axes = len(node.kernel)
    bias = np.zeros(node.weight.shape[0], np.float32) if node.bias is None else node.bias
    # One number per axis where it goes; an odd padding of torch's has a word.
    odd = node.padding == _same(node.kernel, node.dilation) and set(node.stride) == {1}
    even = node.padding[:axes] == node.padding[axes:]
    padding = "same" if odd and not even else np.array(_symmetric(node.padding))
    fields: dict[str, Array | str] = {
        "weight": node.weight.values,
        "bias": bias,
        "groups": np.array(node.groups),
        "stride": np.array(node.stride),
        "padding": padding,
        "dilation": np.array(node.dilation),
        "input_shape": np.array(reads[1:]),
    }
    if axes == 1:
        for key in ("stride", "padding", "dilation", "input_shape"):
            value = fields[key]
            fields[key] = value if isinstance(value, str) else value[:1].reshape(())
    return NirNode(f"Conv{axes}d", fields)


def _symmetric(padding: Shape) -> Shape:
    """One padding per axis.

    Raises:
        UnsupportedError: it differs before and behind.
    """
    axes = len(padding) // 2
    if padding[:axes] != padding[axes:]:
        raise UnsupportedError(
            f"padding {list(padding)} differs before and behind an axis, NIR has one number"
        )
    return padding[:axes]


def _dense(node: Linear) -> Array:
    """The matrix of all groups, [O, K]: zeros where a group does not read."""
    values, groups = node.weight.values, node.groups
    if groups == 1:
        return values
    rows, columns = values.shape
    dense = np.zeros((rows, columns * groups), np.float32)
    for group in range(groups):
        here = slice(group * rows // groups, (group + 1) * rows // groups)
        dense[here, group * columns : (group + 1) * columns] = values[here]
    return dense


def _real(node: NirNode, key: str) -> Array:
    """Finite numbers of a field.

    Raises:
        InvalidModelError: infinite ones, also beyond float32.
    """
    value = node.fields[key]
    assert isinstance(value, np.ndarray)
    with np.errstate(over="ignore"):
        if not np.isfinite(value.astype(np.float32)).all():
            raise InvalidModelError(f"{key} is not finite in float32")
    return value


def _whole(node: NirNode, key: str, *, least: int) -> Shape:
    """Whole numbers of a field, one or several.

    Raises:
        InvalidModelError: none, or one below `least`.
    """
    numbers = shape_tuple(_integers(node, key), key, least=least)
    if not numbers:
        raise InvalidModelError(f"{key} is empty")
    return numbers


def _integers(node: NirNode, key: str) -> Shape:
    value = node.fields[key]
    if not isinstance(value, np.ndarray) or value.ndim > 1 or value.size == 0:
        raise InvalidModelError(f"{key} must be one whole number, or one per axis")
    return tuple(int(number) for number in value.reshape(-1))
