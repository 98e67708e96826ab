"""Ranges of activations without training."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgekit.errors import InvalidDataError
from edgekit.quantize.training.activations import quantizers_of
from edgekit.quantize.training.modes import in_mode, observing
from edgekit.quantize.training.prepared import prepared_of

log = logging.getLogger("edgekit")

_FEW = 2
"""Fewer samples than this say nothing about a range."""


@torch.no_grad()
def calibrate(prepared: nn.Module, batches: Iterable[Any]) -> int:
    """Replace the ranges of activations by those of given batches; weights stay as they are.

    The network runs in eval mode, so batch normalisation keeps its statistics. Ranges are the
    averages of the batches' extremes.

    Args:
        prepared: from :func:`~edgekit.quantize.training.prepare.prepare`.
        batches: each a tensor, a tuple of the arguments by position or a mapping by name.

    Returns:
        The number of samples, counted along the first axis; one is possible and warned of.

    Raises:
        InvalidDataError: no batch, or NaN or infinity in one.
        UsageError: the module is not prepared.
    """
    network = prepared_of(prepared)
    samples = 0
    with in_mode(network, training=False), observing(network, "always"):
        for number, batch in enumerate(batches):
            args, kwargs = _arguments(batch)
            tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            for tensor in tensors:
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise InvalidDataError(f"calibration batch {number} holds NaN or infinity")
            if not samples:
                for quantizer in quantizers_of(network):
                    quantizer.start_over()
            samples += tensors[0].shape[0] if tensors and tensors[0].ndim else 1
            network(*args, **kwargs)
    if not samples:
        raise InvalidDataError("calibration has no samples; give a few hundred")
    if samples < _FEW:
        log.warning("calibrated with a single sample: ranges hold that sample alone")
    return samples


def _arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(batch, Mapping):
        return (), dict(batch)
    return (tuple(batch) if isinstance(batch, tuple | list) else (batch,)), {}
