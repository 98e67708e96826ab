"""Samples from whoever has no torch at hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edgekit.errors import InvalidDataError


def tensor_of(sample: object) -> Tensor:
    """A sample as a tensor: one as it is, an array copied in its dtype.

    Raises:
        InvalidDataError: neither.

    >>> tensor_of(np.float32([[1, 2]])).shape
    torch.Size([1, 2])
    """
    if isinstance(sample, Tensor):
        return sample
    if not isinstance(sample, np.ndarray) or sample.dtype.kind not in "fiub":
        raise InvalidDataError(
            f"a sample for a network is a {type(sample).__name__}, must be a tensor or an array"
        )
    return torch.from_numpy(np.ascontiguousarray(sample).reshape(sample.shape).copy())
