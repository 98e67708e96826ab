"""What the steps of a traced network are to a quantiser: the table that decides where scales lie.

It says of torch's layers and functions what :mod:`edgekit.quantize.points` says of ONNX operators.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional


class Kind(Enum):
    """What a step does with scales.

    Attributes:
        PRODUCT: multiplies by weights; has a scale of its own behind normalisation and clamp.
        SUM: combines activations element by element, or normalises; a clamp behind it is its own.
        RESULT: has an integer form and a scale of its own.
        FIXED: the specification prescribes its scale.
        SAME: moves or picks elements; keeps the scale of what it reads.
        MEAN: averages windows with the scale of what it reads, and rounds to its steps again.
        JOIN: shares one scale with everything that it reads.
        NORM: normalises per channel; folds into a product.
        CLAMP: clamps; folds into what is before it, else as RESULT.
        DROPOUT: nothing when the network runs.
        RECURRENT: a layer with state; its sequence and last state share a scale.
        OTHER: has no integer form.
    """

    PRODUCT = auto()
    SUM = auto()
    RESULT = auto()
    FIXED = auto()
    SAME = auto()
    MEAN = auto()
    JOIN = auto()
    NORM = auto()
    CLAMP = auto()
    DROPOUT = auto()
    RECURRENT = auto()
    OTHER = auto()


_NAMED = vars(functional)

DISPATCHED: dict[Callable[..., Any], Callable[..., Any]] = {
    _NAMED[name]: _NAMED[f"_{name}"]
    for name in ("max_pool1d", "max_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d")
}
"""Functions that dispatch on a flag, and what they dispatch to without it: that has a name."""

MODULES: dict[Kind, tuple[type[nn.Module], ...]] = {
    Kind.PRODUCT: (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d),
    Kind.SUM: (nn.LayerNorm,),
    Kind.RESULT: (
        *(nn.LeakyReLU, nn.Hardswish),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    ),
    Kind.FIXED: (nn.Softmax, nn.Sigmoid, nn.Tanh),
    Kind.SAME: (
        *(nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.ChannelShuffle),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
        *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d, nn.Upsample),
    ),
    Kind.MEAN: (nn.AvgPool1d, nn.AvgPool2d),
    Kind.NORM: (nn.BatchNorm1d, nn.BatchNorm2d),
    Kind.CLAMP: (nn.ReLU, nn.ReLU6, nn.Hardtanh),
    Kind.DROPOUT: (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout),
    Kind.RECURRENT: (nn.LSTM, nn.GRU),
}
"""Layers by kind; classes derived from them count too."""

FUNCTIONS: dict[Kind, tuple[Callable[..., Any], ...]] = {
    Kind.SUM: (
        *(operator.add, operator.iadd, torch.add, operator.sub, operator.isub, torch.sub),
        *(operator.mul, operator.imul, torch.mul, functional.layer_norm),
    ),
    Kind.RESULT: (
        *(torch.mean, torch.matmul, torch.bmm, operator.matmul),
        *(functional.leaky_relu, functional.hardswish),
        *(functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d),
    ),
    Kind.FIXED: (
        *(torch.softmax, functional.softmax, torch.sigmoid, functional.sigmoid),
        *(torch.tanh, functional.tanh),
    ),
    Kind.SAME: (
        *(operator.getitem, torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze),
        *(torch.transpose, torch.permute, torch.movedim, torch.swapaxes, torch.narrow),
        *(torch.chunk, torch.split, torch.unbind, torch.select),
        *(*DISPATCHED.values(), torch.max_pool1d, torch.max_pool2d),
        *(functional.pad, functional.interpolate),
    ),
    Kind.MEAN: (functional.avg_pool1d, functional.avg_pool2d),
    Kind.JOIN: (torch.cat, torch.concat, torch.concatenate),
    Kind.CLAMP: (
        *(torch.relu, torch.relu_, functional.relu, functional.relu_, functional.relu6),
        *(functional.hardtanh, torch.clamp, torch.clip, torch.clamp_min, torch.clamp_max),
    ),
    Kind.DROPOUT: (functional.dropout, torch.dropout),
}
"""Functions by kind."""

METHODS: dict[Kind, tuple[str, ...]] = {
    Kind.SUM: ("add", "add_", "sub", "sub_", "mul", "mul_"),
    Kind.RESULT: ("mean", "matmul", "bmm"),
    Kind.FIXED: ("softmax", "sigmoid", "tanh"),
    Kind.SAME: (
        *("flatten", "unflatten", "reshape", "view", "view_as", "reshape_as", "contiguous"),
        *("squeeze", "unsqueeze", "transpose", "permute", "movedim", "swapaxes", "t"),
        *("chunk", "split", "unbind", "select", "narrow", "clone", "detach"),
    ),
    Kind.CLAMP: ("relu", "relu_", "clamp", "clamp_", "clip", "clamp_min", "clamp_max"),
}
"""Methods of tensors by kind."""

_FIXED_SCALES: dict[str, tuple[float, int]] = {
    "softmax": (1 / 256, -128),
    "sigmoid": (1 / 256, -128),
    "tanh": (1 / 128, 0),
}

_BY_FUNCTION = {function: kind for kind, functions in FUNCTIONS.items() for function in functions}

_BY_METHOD = {method: kind for kind, methods in METHODS.items() for method in methods}


def kind_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> Kind:
    """The kind of a step.

    Args:
        node: of a traced network.
        modules: its modules by name.
    """
    if node.op == "call_function":
        kind = _BY_FUNCTION.get(node.target, Kind.OTHER)  # type: ignore[arg-type]
    elif node.op == "call_method":
        kind = _BY_METHOD.get(str(node.target), Kind.OTHER)
    elif node.op == "call_module":
        module = modules[str(node.target)]
        kinds = (kind for kind, types in MODULES.items() if isinstance(module, types))
        kind = next(kinds, Kind.OTHER)
    else:
        kind = Kind.OTHER
    return kind if kind is not Kind.SAME or _keeps_values(node, modules) else Kind.OTHER


def _keeps_values(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a resizing step only repeats elements."""
    if node.op == "call_module":
        return getattr(modules[str(node.target)], "mode", "nearest") in ("nearest", "constant")
    if node.target is functional.interpolate:
        return node.kwargs.get("mode", "nearest") == "nearest"
    if node.target is functional.pad:
        mode = node.kwargs.get("mode", node.args[2] if len(node.args) > 2 else "constant")
        return mode == "constant"
    return True


def fixed_scale(node: fx.Node, modules: Mapping[str, nn.Module]) -> tuple[float, int]:
    """Scale and zero point that the specification prescribes for a step of that kind.

    Source: "TensorFlow Lite 8-bit quantization specification".
    """
    if node.op == "call_module":
        name = type(modules[str(node.target)]).__mro__[0].__name__.lower()
        known = (k for k in MODULES[Kind.FIXED] if isinstance(modules[str(node.target)], k))
        name = next(known).__name__.lower()
    else:
        name = node.target if isinstance(node.target, str) else node.target.__name__
    return _FIXED_SCALES[name]


def only_user(node: fx.Node) -> fx.Node | None:
    """The one node that reads another, None where several do or none."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def tail_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> tuple[fx.Node, ...]:
    """What one operator of the integer network takes together, first and last included.

    A product takes the normalisation behind it; it, a sum and a layer normalisation take the clamps
    behind them. Dropout counts as nothing.
    """
    found, kind = [node], kind_of(node, modules)
    wanted = {Kind.CLAMP}
    if kind is Kind.PRODUCT:
        wanted.add(Kind.NORM)
    elif kind is not Kind.SUM:
        return (node,)
    passed: list[fx.Node] = []
    while (user := only_user((found + passed)[-1])) is not None:
        user_kind = kind_of(user, modules)
        if user_kind is Kind.DROPOUT:
            passed.append(user)
            continue
        if user_kind not in wanted or user.all_input_nodes != [(found + passed)[-1]]:
            break
        if user_kind is Kind.CLAMP:
            wanted.discard(Kind.NORM)
        else:
            wanted = {Kind.CLAMP}
        found += [*passed, user]
        passed = []
    return tuple(found)
