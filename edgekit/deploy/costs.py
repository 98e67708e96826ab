"""What machines count, as reports say it: functions by what they are, and energy."""

from __future__ import annotations

import re

from edgekit.bench.costs import FunctionCost, FunctionKind, KnownError, LayerCost
from edgekit.bench.energy import Energy
from edgekit.targets.board import Power
from edgekit.targets.c.emit import LayerInfo
from edgekit.targets.cycles.costs import Count, FunctionCount
from edgekit.targets.library import Library

_STATIC = re.compile(r"^(?:static|EK_[A-Z_]+)\b[^;{}=#]*?\b(\w+)[ ]*\(", re.MULTILINE)
"""Where a source defines a function that only it sees."""

GROSS = "power of the whole supply while computing, idle included"
"""What published power of a board is, and so what an energy from it is."""


class Functions:
    """Tells the functions of a library's layers apart by their names.

    Args:
        library: whose sources say which functions are its own.
    """

    def __init__(self, library: Library) -> None:
        self._helpers = frozenset(
            name
            for file, content in library.files.items()
            if file.endswith((".c", ".h"))
            for name in _STATIC.findall(_text(content))
        )
        self._prefix = library.prefix

    def layer_cost(self, layer: LayerInfo, count: Count) -> LayerCost:
        """A layer with everything that was counted of it."""
        return LayerCost(
            operation=layer.operation,
            operator=layer.operator,
            macs=layer.macs,
            kernel=layer.kernel,
            instructions=count.instructions,
            cycles=real(count.cycles),
            causes=count.causes * 1.0 if count.causes and count.cycles is not None else None,
            functions=tuple(self.cost(layer, cost) for cost in count.functions.values()),
        )

    def cost(self, layer: LayerInfo, cost: FunctionCount) -> FunctionCost:
        """What a layer spent in a function, or in a part of one."""
        kind = self.kind(cost.name)
        return FunctionCost(
            function=cost.name,
            kind=kind,
            kernel=layer.kernel if kind in ("kernel", "helper") else None,
            instructions=cost.instructions,
            cycles=real(cost.cycles),
            causes=cost.causes * 1.0 if cost.causes and cost.cycles is not None else None,
        )

    def kind(self, name: str) -> FunctionKind:
        """What the function called `name` in an executable is to a layer.

        Compilers that cut a function into pieces or fix its arguments append to its name, behind a
        point.
        """
        own = name.partition(".")[0]
        if own.startswith(f"{self._prefix}layer_") or own == f"{self._prefix}carry":
            return "layer"
        if own.startswith(f"{self._prefix}ek_"):
            return "kernel"
        return "helper" if own in self._helpers else "runtime"


def real(cycles: float | None) -> float | None:
    """Cycles as one kind of number; whole ones are counted as integers."""
    return None if cycles is None else float(cycles)


def _text(content: str | bytes) -> str:
    return content if isinstance(content, str) else content.decode("utf-8", "replace")


def estimated_energy(cycles: float, power: Power, error: KnownError | None) -> Energy:
    """Energy of modelled cycles on a board of published power.

    Its spread joins the lowest published power to as few cycles as the model's known error lets
    there be, and the highest to as many. Without a known error it is that of the power only, and
    the source says so. Without a published spread of the power there is none: how far a single
    figure may be off is not known, and an interval of the cycles alone would look like an answer.

    Args:
        cycles: of one inference, modelled.
        power: of the board while it computes.
        error: of modelled cycles on this very board; None where it is not known.

    Returns:
        Gross energy: published power includes what the board takes when idle.

    >>> power = Power(350, "1.8 V", "a log", spread_picojoules_per_cycle=(300, 600))
    >>> energy = estimated_energy(1e6, power, KnownError(-0.2, 0.25, 4, ("b",)))
    >>> energy.gross_uj, energy.low_uj, energy.high_uj
    (350.0, 240.0, 750.0)
    """
    figure = power.picojoules_per_cycle
    spread = power.spread_picojoules_per_cycle
    low, high = spread or (figure, figure)
    # The true number is modelled / (1 + error); no error at all is always possible.
    fewest = cycles / (1 + max(0.0, error.high if error else 0.0))
    most = cycles / (1 + min(0.0, error.low if error else 0.0))
    parts = [f"modelled cycles x {figure:g} pJ", GROSS, power.source, power.conditions]
    if spread is None:
        parts.append("a single published figure, whose spread is not known")
    elif error is None:
        parts.append("the error of the cycles is not known on this board and not in the spread")
    return Energy(
        "estimated",
        gross_uj=cycles * figure / 1e6,
        low_uj=fewest * low / 1e6 if spread else None,
        high_uj=most * high / 1e6 if spread else None,
        source="; ".join(parts),
    )
