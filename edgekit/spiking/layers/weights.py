"""Weights of trained layers as weights of a spiking graph, quantised ones with their codes."""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgekit.formats import Coded, Format
from edgekit.spiking.weight import Weight


class _Quantizer(Protocol):
    """What a parametrisation that quantises offers; :mod:`edgekit.quantize.training` has them."""

    format: Format

    def coded(self, latent: Tensor) -> Coded: ...


@torch.no_grad()
def graph_weight(module: nn.Module) -> Weight:
    """The ``weight`` of a module, in torch's order of axes, with codes where it is quantised.

    Raises:
        InvalidModelError: NaN or infinity.
    """
    weight = cast(Tensor, module.weight)
    if not parametrize.is_parametrized(module, "weight"):
        return Weight(weight.detach().cpu().numpy())
    chain = cast(nn.ModuleDict, module.parametrizations)["weight"]
    quantizer = cast(_Quantizer, chain[0])  # type: ignore[index]
    coded = quantizer.coded(cast(Tensor, chain.original))
    return coded_weight(coded, quantizer.format.element.name, tuple(weight.shape))


def coded_weight(coded: Coded, element: str, shape: tuple[int, ...]) -> Weight:
    """A weight of rows with input channels last, as quantisers write them, in torch's order.

    Args:
        coded: rows ``[O, K]`` with one scale, or one a row, and no factors.
        element: of the codes.
        shape: of the weight in torch.
    """
    outputs, inputs, *kernel = shape
    rows = coded.integers.reshape(outputs, *kernel, inputs)
    codes = np.ascontiguousarray(np.moveaxis(rows, -1, 1))
    scale = np.broadcast_to(np.asarray(coded.scale, np.float32).reshape(-1), (outputs,))
    return Weight.of_codes(codes, np.ascontiguousarray(scale), element)


def columns(weight: Weight, part: slice) -> Weight:
    """Some columns of a dense weight; rows keep their scale."""
    values = weight.values[:, part]
    if weight.codes is None or weight.scale is None:
        return Weight(values)
    assert weight.element is not None
    return Weight.of_codes(weight.codes[:, part], weight.scale, weight.element)
