"""Activation quantisers of Brevitas as modules that capture recognises."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import UnsupportedError, UsageError
from edgekit.model.capture.symbolic import quantize_dequantize
from edgekit.quantize.training.activations import ConstantBinaryQuantizer

_BITS = 8
_LEAST = -128
"""The int8 code that stands for Brevitas' unsigned code 0."""

_BINARY = ("BinaryQuant", "ClampedBinaryQuant")
_INTEGER = ("RescalingIntQuant", "DecoupledRescalingIntQuant", "PrescaledRestrictIntQuant")
"""What computes codes, by its class."""

_FUNCTIONS: tuple[type[nn.Module], ...] = (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.Hardswish)
"""What may stand in front of a quantiser; Brevitas derives classes of its own from some."""

_KINDS = {
    "DynamicActQuantProxyFromInjector": "scales every input anew",
    "DynamicActFloatQuantProxyFromInjector": "scales every input anew",
    "ActFloatQuantProxyFromInjector": "gives minifloats",
    "GroupwiseActFloatQuantProxyFromInjector": "gives groups of minifloats",
    "GroupwiseActQuantProxyFromInjector": "scales groups of every input anew",
}
"""What a quantiser does that no integer network does, by the class of its proxy."""


class CodeQuantizer(nn.Module):
    """int8 codes within a range, with a constant scale.

    Args:
        scale: float32 without axes.
        zero_point: code of 0.
        low: smallest code.
        high: largest code.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: Tensor, *, zero_point: int, low: int, high: int) -> None:
        super().__init__()
        self.register_buffer("scale", scale.detach().float().reshape(()).clone().cpu())
        self.register_buffer("zero_point", torch.tensor(zero_point, dtype=torch.int8))
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """Quantise a value."""
        return quantize_dequantize(x, self.scale, self.zero_point, low=self.low, high=self.high)

    def extra_repr(self) -> str:
        """See :class:`torch.nn.Module`."""
        return f"codes {self.low}…{self.high}"


QUANTIZERS = (CodeQuantizer, ConstantBinaryQuantizer)
"""What :func:`read_activation` ends in where there is a quantiser."""


def read_activation(where: str, proxy: Any) -> list[nn.Module]:
    """What an activation quantiser does, step by step: a function or none, a quantiser or none.

    Unsigned codes of b bits become the int8 codes -128 to ``2**b - 129``.

    Args:
        where: name of the layer that has it.
        proxy: ``act_quant``, ``input_quant`` or ``output_quant`` of the layer, in eval mode.

    Raises:
        UnsupportedError: a function or a quantiser that no integer network has.
        UsageError: a quantiser that never saw data.
    """
    fused = proxy.fused_activation_quant_proxy
    if fused is None:
        return []
    steps = _function(where, fused.activation_impl)
    return [*steps, _quantizer(where, proxy)] if proxy.is_quant_enabled else steps


def _function(where: str, function: nn.Module) -> list[nn.Module]:
    if type(function).__name__ == "Identity":
        return []
    if isinstance(function, nn.Hardtanh):
        return [nn.Hardtanh(function.min_val, function.max_val)]
    for known in _FUNCTIONS:
        if isinstance(function, known):
            return [known()]
    raise UnsupportedError(
        f"{where}: {type(function).__name__} in front of its quantiser; there are "
        f"{', '.join(kind.__name__ for kind in _FUNCTIONS)} and Hardtanh"
    )


def _quantizer(where: str, proxy: Any) -> nn.Module:
    kind = type(proxy).__name__
    if kind != "ActQuantProxyFromInjector":
        raise UnsupportedError(
            f"{where}: its activation quantiser {_KINDS.get(kind, f'is a {kind}')}; use a static "
            "integer one, such as Int8ActPerTensorFloat"
        )
    _check_calibrated(where, proxy)
    scale, zero_point = proxy.scale(), proxy.zero_point()
    if scale.numel() != 1 or zero_point.numel() != 1:
        raise UnsupportedError(
            f"{where}: its activations have {scale.numel()} scales, must have one per tensor"
        )
    inside = type(proxy.fused_activation_quant_proxy.tensor_quant).__name__
    if inside in _BINARY:
        return ConstantBinaryQuantizer(scale.float().reshape(()))
    if inside not in _INTEGER or proxy.rounding_mode != "ROUND":
        raise UnsupportedError(
            f"{where}: its activation quantiser is a {inside} with rounding "
            f"{proxy.rounding_mode}; use one that rounds to the nearest integer"
        )
    bits, zero = float(proxy.bit_width()), float(zero_point)
    if bits != round(bits) or not 1 <= bits <= _BITS or zero != round(zero):
        raise UnsupportedError(
            f"{where}: its activations have {bits:g} bits and the zero point {zero:g}; must be "
            f"whole numbers, at most {_BITS} bits"
        )
    levels, narrow = 2 ** round(bits), bool(proxy.is_narrow_range)
    low, high = (narrow - levels // 2, levels // 2 - 1)
    if not proxy.is_signed:
        low, high, zero = _LEAST, _LEAST + levels - 1 - narrow, zero + _LEAST
    return CodeQuantizer(scale, zero_point=round(zero), low=low, high=high)


def _check_calibrated(where: str, proxy: Any) -> None:
    """Refuse a scale that is still what it was made with."""
    for part in proxy.modules():
        if getattr(part, "counter", None) == 0 and hasattr(part, "collect_stats_steps"):
            raise UsageError(
                f"{where}: its activation quantiser never saw data; run training data through the "
                "network in training mode, or load a checkpoint"
            )
