"""How far the cycle model was off where a latency was published, by core.

The figures are those of the published cases in ``results/cycles.json``; a core that is not here was
never compared with a published latency. An error is of a core behind the memories of certain
boards: :func:`edgekit.targets.cycles.described.cycle_model` says where it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgekit.bench.costs import KnownError

KNOWN_ERRORS: Mapping[str, KnownError] = MappingProxyType(
    {
        "cortex-m4": KnownError(-0.13, -0.0161, 16, ("nucleo-l4r5zi",)),
        "cortex-m33": KnownError(-0.0604, 0.0349, 4, ("nrf5340-dk",)),
    }
)
"""Errors relative to published latencies, modelled / published - 1, by the core's name."""
