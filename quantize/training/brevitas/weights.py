"""Weights of Brevitas layers as coded weights."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgekit.errors import UnsupportedError
from edgekit.formats import ELEMENTS, Coded, Element, Format
from edgekit.formats.group_scales import GROUP_SCALES
from edgekit.formats.groups import reduce_groups, spread
from edgekit.quantize.training.layout import row_layout

Array = NDArray[Any]
Float32 = NDArray[np.float32]

_LOGGER = logging.getLogger(__name__)

_TOLERANCE = 2.0**-21
"""How far a weight may lie from its level, relatively: Brevitas rounds it once or twice in float32.
Levels of every format lie 2**-8 apart or more."""

_BITS = 8
"""The widest weights that are deployed."""


def read_weights(where: str, layer: nn.Module, quantized: Any) -> tuple[Coded, Format]:
    """The weights of a layer.

    Brevitas reports reals with their scale; the level next to the quotient is the integer. Two-bit
    weights without -2 are ternary, one-bit weights binary. Groups must have scales that are powers
    of two, as in OCP MX; a group more than ``2**15`` below the largest of its row becomes 0, which
    is logged.

    Args:
        where: name of the layer.
        layer: QuantLinear, QuantConv1d or QuantConv2d.
        quantized: what its ``quant_weight`` gives.

    Returns:
        Rows, one per output channel, and their format.

    Raises:
        UnsupportedError: weights that are not quantised, or that no format has.
    """
    if isinstance(quantized, torch.Tensor):
        raise UnsupportedError(
            f"{where}: its weights are not quantised; give it a weight_quant, "
            "Int8WeightPerChannelFloat for one"
        )
    layout = row_layout(layer, quantized.value)
    value = _numpy(layout.rows(quantized.value))
    step = _numpy(layout.rows(_scale(where, quantized, layout.shape)))
    if not (np.isfinite(value).all() and np.isfinite(step).all() and (step > 0).all()):
        raise UnsupportedError(f"{where}: its weights must be finite, their scales positive too")
    element, unit = _element(where, quantized, np.rint(value / step).min())
    integers = element.nearest_integers(value.astype(np.float64) / step / unit)
    step = step * np.float32(unit)
    _check_levels(where, element, integers * step.astype(np.float64), value)
    if hasattr(quantized, "group_size"):
        group = min(int(quantized.group_size), layout.shape[1])
        return _grouped(where, integers, step, element=element, group=group)
    if (step != step[:, :1]).any():
        raise UnsupportedError(
            f"{where}: an output channel has several scales; use one per tensor or per output "
            "channel (scaling_per_output_type), or OCP MX groups"
        )
    usual = Format.parse(element.name)
    if quantized.scale.numel() == 1:
        return Coded(integers, step[0, :1].copy()), replace(usual, granularity="tensor")
    return Coded(integers, step[:, 0].copy()), replace(usual, granularity="channel")


def _numpy(tensor: torch.Tensor) -> Float32:
    array: Float32 = tensor.detach().float().cpu().numpy()
    return array


def _scale(where: str, quantized: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """The scale of every weight."""
    if bool((quantized.zero_point != 0).any()):
        raise UnsupportedError(
            f"{where}: its weights have zero points other than 0; use a symmetric weight_quant "
            "(Int8WeightPerChannelFloat instead of ShiftedUint8WeightPerChannelFloat)"
        )
    scale: torch.Tensor = quantized.scale
    try:
        return scale.expand(shape)
    except RuntimeError as error:
        raise UnsupportedError(
            f"{where}: the scale of its weights has shape {list(scale.shape)}, which does not fit "
            f"weights {list(shape)}"
        ) from error


def _element(where: str, quantized: Any, least: float) -> tuple[Element, float]:
    """The number format, and what its integer 1 stands for in units of Brevitas' scale.

    Args:
        where: name of the layer.
        quantized: the weights.
        least: the smallest weight in steps.
    """
    if not quantized.signed:
        raise UnsupportedError(f"{where}: its weights are unsigned; use signed ones")
    if hasattr(quantized, "mantissa_bit_width"):
        exponent = _whole(where, "exponent_bit_width", quantized.exponent_bit_width)
        mantissa = _whole(where, "mantissa_bit_width", quantized.mantissa_bit_width)
        bias = _whole(where, "exponent_bias", quantized.exponent_bias)
        name = f"fp{1 + exponent + mantissa}-e{exponent}m{mantissa}"
        if name not in ELEMENTS:
            known = ", ".join(name for name in ELEMENTS if name.startswith("fp"))
            raise UnsupportedError(f"{where}: its weights are {name}; there are {known}")
        # With Brevitas' bias, subnormal numbers count in units of 2**(1 - bias - mantissa).
        return ELEMENTS[name], 2.0 ** (1 - bias - mantissa)
    bits = _whole(where, "bit_width", quantized.bit_width)
    if not 1 <= bits <= _BITS:
        raise UnsupportedError(f"{where}: its weights have {bits} bits, must have 1 to {_BITS}")
    name = {1: "binary", 2: "ternary" if least > -2 else "int2"}.get(bits, f"int{bits}")
    return ELEMENTS[name], 1.0


def _whole(where: str, name: str, number: torch.Tensor) -> int:
    """A width that Brevitas may have learned, as an integer."""
    value = float(number.detach().reshape(-1)[0])
    if number.numel() != 1 or value != round(value):
        raise UnsupportedError(
            f"{where}: the {name} of its weights is {number.detach().reshape(-1).tolist()}, must "
            "be one whole number: fix what was learned (bit_width_impl_type CONST) and train on"
        )
    return round(value)


def _check_levels(where: str, element: Element, level: Array, value: Float32) -> None:
    """Refuse weights that are no level, such as numbers that OCP's formats leave to NaN."""
    wrong = np.abs(level - value) > _TOLERANCE * np.abs(value)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise UnsupportedError(
            f"{where}: the weight {value[row, column]} is no level of {element.name}, the nearest "
            f"is {level[row, column]}; for fp8 use the OCP quantisers "
            "(brevitas.quant.experimental.float_quant_ocp), whose largest number is OCP's, and no "
            "delayed quantisation"
        )


def _grouped(
    where: str, integers: Array, step: Float32, *, element: Element, group: int
) -> tuple[Coded, Format]:
    """Weights whose groups of inputs have scales of their own."""
    columns = step.shape[1]
    steps = step[:, ::group]
    if (spread(steps, group=group, columns=columns) != step).any():
        raise UnsupportedError(
            f"{where}: its groups are no runs of {group} inputs; group along the inputs "
            "(group_dim 1), by a size that divides their number"
        )
    # A group of zeros has a scale that means nothing; 0 says so.
    used = (integers != 0).astype(np.float32)
    present = reduce_groups(used, group, lambda part: part.max(axis=-1)) > 0
    if (np.frexp(steps[present])[0] != 0.5).any():
        raise UnsupportedError(
            f"{where}: scales of its groups are no powers of two; use OCP MX "
            "(brevitas.quant.experimental.mx_quant_ocp), or one scale per output channel"
        )
    scale, factors = GROUP_SCALES["shift"].encode(np.where(present, steps, np.float32(0)))
    vanished = int((present & (factors == 0)).sum())
    if vanished:
        _LOGGER.warning(
            "%s: %d of %d groups are more than 2**15 smaller than the largest of their row and "
            "become 0",
            where,
            vanished,
            factors.size,
        )
    return Coded(integers, scale, factors), Format(element, "group", group=group, factors="shift")
