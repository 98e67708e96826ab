"""What a device's cycles were modelled with, in words that a report prints beside them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CycleModel:
    """How the cycles of a :class:`~edgekit.targets.cycles.costs.Count` came about.

    A machine that counts offers it as ``cycle_model``, None where it counts instructions only.

    Attributes:
        core: whose cycles they are: ``cortex-m4``, ``cortex-a72``.
        what: what is modelled, and with what: ``llvm-mca 19.1.7, model of Cortex-A72: ...``.
        memory: what fetching and loading is taken to cost: ``zero wait states``.
    """

    core: str
    what: str
    memory: str
