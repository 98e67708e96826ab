"""How far the cycle model was off where a latency was published, by core.

The figures are those of the published cases in ``results/cycles.json``; a core that is not here was
never compared with a published latency.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgekit.bench.costs import KnownError

__all__ = ["KNOWN_ERRORS", "KnownError"]

KNOWN_ERRORS: Mapping[str, KnownError] = MappingProxyType(
    {
        "cortex-m4": KnownError(low=-0.13, high=-0.0161, cases=16),
        "cortex-m33": KnownError(low=-0.0604, high=0.0349, cases=4),
    }
)
"""Errors relative to published latencies, modelled / published - 1, by the core's name."""
