"""Quantised weights in training mode against Brevitas' own."""

from __future__ import annotations

import pytest
import torch

from edgekit.formats import Format
from edgekit.quantize.training.quantizers import make_weight_quantizer

pytestmark = [pytest.mark.torch, pytest.mark.needs("torch"), pytest.mark.needs("brevitas")]


@pytest.mark.parametrize(("bits", "granularity"), [(8, ""), (4, ""), (3, ""), (8, "-t"), (4, "-t")])
def test_integers_by_absmax(bits: int, granularity: str) -> None:
    import brevitas.nn as qnn
    from brevitas.quant import Int8WeightPerChannelFloat, Int8WeightPerTensorFloat

    torch.manual_seed(0)
    layer = qnn.QuantConv2d(
        5,
        7,
        3,
        weight_quant=Int8WeightPerTensorFloat if granularity else Int8WeightPerChannelFloat,
        weight_bit_width=bits,
    )
    theirs = layer.quant_weight()
    quantizer = make_weight_quantizer(Format.parse(f"int{bits}{granularity}"), layer.weight)
    # Brevitas divides the largest magnitude by the largest integer as we do.
    assert torch.equal(quantizer(layer.weight), theirs.value)
    gradient = torch.randn_like(layer.weight)
    (wanted,) = torch.autograd.grad(theirs.value, layer.weight, gradient, retain_graph=True)
    (got,) = torch.autograd.grad(quantizer(layer.weight), layer.weight, gradient)
    # Brevitas lets the scale carry a gradient to the largest weight of a row; ours does not.
    largest = layer.weight.abs() == layer.weight.abs().amax(
        (0, 1, 2, 3) if granularity else (1, 2, 3), keepdim=True
    )
    assert torch.allclose(got[~largest], wanted[~largest], rtol=1e-5)
