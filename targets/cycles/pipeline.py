"""Pipelines of the Cortex-M cores: cycles of basic blocks at zero wait states."""

from __future__ import annotations

from edgekit.errors import UnsupportedError
from edgekit.targets.cores import CORES, Core
from edgekit.targets.cycles.dual_issue import DualIssue
from edgekit.targets.cycles.helium import HeliumIssue
from edgekit.targets.cycles.single_issue import SingleIssue
from edgekit.targets.cycles.tables import DualIssueTable, HeliumTable, SingleIssueTable
from edgekit.targets.cycles.timed import Access, Timed, TimedBlock, Timing

__all__ = ["Access", "Timed", "TimedBlock", "Timing", "timing_of"]


def timing_of(core: Core) -> Timing:
    """The pipeline of `core`.

    Raises:
        UnsupportedError: There is no cycle table for it.
    """
    if isinstance(core.cycles, SingleIssueTable):
        return SingleIssue(core.cycles)
    if isinstance(core.cycles, DualIssueTable):
        return DualIssue(core.cycles)
    if isinstance(core.cycles, HeliumTable):
        return HeliumIssue(core.cycles)
    known = ", ".join(name for name, other in CORES.items() if other.cycles is not None)
    raise UnsupportedError(f"{core.name} has no cycle table; there is one for {known}")
