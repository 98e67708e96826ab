"""Where eager execution on a CPU has a shorter way to the same numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def plain_numbers(x: Tensor) -> bool:
    """Whether values may be read in Python: on a CPU, unless a compiler looks on.

    Kernels are faster with Python's numbers as scalars, and arithmetic of a few numbers costs less
    than one operator.
    """
    return x.is_cpu and not torch.compiler.is_compiling()
