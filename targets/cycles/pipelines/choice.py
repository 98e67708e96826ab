"""Which pipeline a core has."""

from __future__ import annotations

from edgekit.errors import UnsupportedError
from edgekit.targets.cores import CORES, Core
from edgekit.targets.cycles.pipelines.dual_issue import DualIssue
from edgekit.targets.cycles.pipelines.helium_issue import HeliumIssue
from edgekit.targets.cycles.pipelines.helium_table import HeliumTable
from edgekit.targets.cycles.pipelines.single_issue import SingleIssue
from edgekit.targets.cycles.pipelines.tables import DualIssueTable, SingleIssueTable
from edgekit.targets.cycles.timed import Timing


def timing_of(core: Core) -> Timing:
    """The pipeline of `core`.

    Raises:
        UnsupportedError: there is no cycle table for it.
    """
    if isinstance(core.cycles, SingleIssueTable):
        return SingleIssue(core.cycles)
    if isinstance(core.cycles, DualIssueTable):
        return DualIssue(core.cycles)
    if isinstance(core.cycles, HeliumTable):
        return HeliumIssue(core.cycles)
    known = ", ".join(name for name, other in CORES.items() if other.cycles is not None)
    raise UnsupportedError(f"{core.name} has no cycle table; there is one for {known}")
