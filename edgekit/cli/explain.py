"""``edgekit bench --explain``: where the cycles of one layer go, instruction by instruction."""

from __future__ import annotations

from typing import Any

from edgekit.bench.costs import CAUSES, Causes, FunctionCost
from edgekit.cli.render import Format, facts_as, plain, rows_as
from edgekit.deploy.explain import Explanation, HotRegion, Line

LONGEST = 120
"""Instructions of one region that are listed for people; the other formats have all."""

WIDEST = 4
"""Bytes of the longest instruction: behind a longer step in addresses something is not shown."""

BLANK = " "
"""A cell of the line that stands for what is not shown."""

NOTHING = "·"
"""A cause without cycles."""

KINDS = {
    "layer": "the layer's own function",
    "kernel": "the kernel",
    "helper": "helper of the kernel",
    "runtime": "runtime",
}
"""What a function is to a layer, in words."""


def explained(found: Explanation, style: Format) -> str:
    """One layer taken apart, as text."""
    if style is Format.JSON:
        return facts_as(found.to_json(), style)
    if style is not Format.TABLE:
        return rows_as(data_rows(found), style)
    parts = [facts_as(_facts(found), style)]
    for number, region in enumerate(found.regions, 1):
        parts.append(f"{number}. {plain(headline(found, region))}\n\n{_listing(found, region)}")
    parts.append(f"All of it\n\n{rows_as(known_columns(total_rows(found)), style)}")
    return "\n".join(parts)


def _facts(found: Explanation) -> dict[str, Any]:
    layer, model = found.layer, found.cycle_model
    facts: dict[str, Any] = {
        "layer": f"{found.index}  {layer.operation} ({layer.operator})",
        "kernel": layer.kernel,
        "device": found.device,
        "instructions": layer.instructions,
        "cycles": None,
        "of the network": f"{found.share:.1%} of its {_unit(found)}",
    }
    if layer.cycles is not None:
        words = "modelled" if model is None else f"modelled {model.tag}"
        facts["cycles"] = f"{layer.cycles:,.0f} ({words})"
    if layer.cycles is not None and layer.macs:
        facts["cycles_per_mac"] = f"{layer.cycles / layer.macs:.3g}"
    if model is not None:
        facts["cycle_model"] = model.sentence
    if found.notes:
        facts["note"] = "; ".join(found.notes)
    return facts


def _unit(found: Explanation) -> str:
    return "instructions" if found.layer.cycles is None else "cycles"


def headline(found: Explanation, region: HotRegion) -> str:
    """What a region is, where it is, and how much of the layer."""
    cost = region.cost
    words = [f"{found.share_of(cost):.1%} of the layer", f"entered {region.entries:,} times"]
    if region.depth:
        words.append(f"{region.iterations:,} iterations")
        if cost.cycles is not None:
            words.append(f"{cost.cycles / region.iterations:.4g} cycles each")
    first, last = region.lines[0].address, region.lines[-1].address
    return f"{title(region)}, {first:#x}…{last:#x}: {', '.join(words)}"


def title(region: HotRegion) -> str:
    """A region in a few words."""
    cost = region.cost
    depth = f"loop, {region.depth} deep" if region.depth > 1 else "loop"
    what = depth if region.depth else "outside of loops"
    kind = KINDS[cost.kind] + (f" {cost.kernel}" if cost.kernel else "")
    return f"{what}, in {cost.function} ({kind})"


def _listing(found: Explanation, region: HotRegion) -> str:
    """The instructions, each with what one execution takes."""
    spent = sorted(region.lines, key=_spent, reverse=True)[:LONGEST]
    shown = sorted(spent, key=lambda line: line.address)
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(shown):
        if number and line.address - shown[number - 1].address > WIDEST:
            rows.append(dict.fromkeys(rows[0], BLANK) | {"instruction": "…"})
        rows.append(_listed(found, line))
    left = len(region.lines) - len(shown)
    note = f"{left:,} instructions that cost less are left out\n" if left else ""
    return rows_as(known_columns(rows), Format.TABLE) + note


def known_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the columns that no row has a figure in.

    >>> known_columns([{"a": 1, "b": None}, {"a": BLANK, "b": BLANK}])
    [{'a': 1}, {'a': ' '}]
    """
    empty = {key for key in rows[0] if all(row[key] in (None, BLANK) for row in rows)}
    return [{key: row[key] for key in row if key not in empty} for row in rows]


def _spent(line: Line) -> float:
    return line.executions if line.cycles is None else line.cycles


def _listed(found: Explanation, line: Line) -> dict[str, Any]:
    """One execution, but for the share, which is of all of them."""
    causes = line.causes
    cost = found.layer.instructions if found.layer.cycles is None else found.layer.cycles
    known = found.layer.cycles is None or line.cycles is not None
    return {
        "address": f"{line.address:#x}",
        "instruction": line.text,
        "executions": line.executions,
        "cycles": None if line.cycles is None else _each(line.cycles, line),
        **{
            cause: None if causes is None else _each(getattr(causes, cause), line) or NOTHING
            for cause in CAUSES
        },
        "layer": f"{_spent(line) / cost:.1%}" if known and cost else None,
    }


def _each(cycles: float, line: Line) -> float:
    """Of one execution."""
    return round(cycles / line.executions, 2)


def total_rows(found: Explanation) -> list[dict[str, Any]]:
    """What is listed, what is left of each function, and the layer, which is their sum."""
    listed = {region.cost.function for region in found.regions}
    rows = [
        _total(found, f"{number}. {'loop' if region.depth else 'no loop'}", region.cost)
        for number, region in enumerate(found.regions, 1)
    ]
    for cost in found.rest:
        rows.append(_total(found, "rest" if cost.function in listed else "all", cost))
    layer = found.layer
    whole = {"instructions": layer.instructions, **_cycles(layer.cycles, layer.causes)}
    rows.append({"part": "layer", "function": BLANK, "kind": BLANK, **whole, "layer": "100.0%"})
    return rows


def _total(found: Explanation, part: str, cost: FunctionCost) -> dict[str, Any]:
    return {
        "part": part,
        "function": cost.function,
        "kind": cost.kind,
        "instructions": cost.instructions,
        **_cycles(cost.cycles, cost.causes),
        "layer": f"{found.share_of(cost):.1%}",
    }


def data_rows(found: Explanation) -> list[dict[str, Any]]:
    """Every listed instruction with all its executions, then what is left of each function."""
    rows = []
    for number, region in enumerate(found.regions, 1):
        place = {"region": number, **_place(region.cost), "loop_depth": region.depth}
        for line in region.lines:
            rows.append(
                {
                    **place,
                    "address": f"{line.address:#x}",
                    "instruction": line.text,
                    "executions": line.executions,
                    **_cycles(line.cycles, line.causes),
                }
            )
    for cost in found.rest:
        rows.append(
            {
                "region": None,
                **_place(cost),
                "loop_depth": None,
                "address": None,
                "instruction": None,
                "executions": cost.instructions,
                **_cycles(cost.cycles, cost.causes),
            }
        )
    return rows


def _place(cost: FunctionCost) -> dict[str, Any]:
    return {"function": cost.function, "kind": cost.kind, "kernel": cost.kernel}


def _cycles(cycles: float | None, causes: Causes | None) -> dict[str, Any]:
    return {
        "cycles": cycles,
        **{cause: None if causes is None else getattr(causes, cause) for cause in CAUSES},
    }
