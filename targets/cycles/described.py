"""What a device's cycles were modelled with, as a report says it beside them."""

from __future__ import annotations

from edgekit.bench.costs import CycleModel, KnownError
from edgekit.targets.cycles.costs import MODEL_VERSION
from edgekit.targets.cycles.known_error import KNOWN_ERRORS
from edgekit.targets.target import Target, builtin_targets


def in_order_model(where: Target, memory: str) -> CycleModel:
    """The model of a microcontroller's core; see :func:`cycle_model`.

    Args:
        where: whose core it is.
        memory: what fetching and loading is taken to cost.
    """
    core = where.cortex
    assert core.cycles is not None, f"{core.name} has no cycle table"
    what = f"in order, {core.cycles.basis}"
    return cycle_model(core.name, what=what, memory=memory, where=where)


def cycle_model(core: str, *, what: str, memory: str, where: Target | None = None) -> CycleModel:
    """How the cycles of a :class:`~edgekit.targets.cycles.costs.Count` came about.

    A machine that counts offers it as ``cycle_model``, None where it counts instructions only.
    A known error holds on the boards that it was seen on, as edgekit describes them: of the same
    core behind other memories, or of a user's own board of that name, it says too little.

    Args:
        core: whose cycles they are: ``cortex-m4``, ``cortex-a72``.
        what: what is modelled, and with what: ``llvm-mca 19.1.7, model of Cortex-A72: ...``.
        memory: what fetching and loading is taken to cost: ``zero wait states``.
        where: the target whose memories are modelled; None for no particular ones.

    >>> from edgekit.targets.target import target
    >>> board = cycle_model("cortex-m4", what="", memory="", where=target("nucleo-l4r5zi"))
    >>> generic = cycle_model("cortex-m4", what="", memory="", where=target("cortex-m4"))
    >>> board.error == generic.error, board.error_holds, generic.error_holds
    (True, True, False)
    """
    error = KNOWN_ERRORS.get(core)
    return CycleModel(
        version=MODEL_VERSION,
        core=core,
        what=what,
        memory=memory,
        error=error,
        error_holds=error is not None and where is not None and _holds(error, where),
    )


def _holds(error: KnownError, where: Target) -> bool:
    return where.name in error.boards and where == builtin_targets().get(where.name)
