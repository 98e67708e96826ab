"""Dataclasses as checked tables: limits with the fields, every problem found, values made.

>>> from dataclasses import make_dataclass
>>> Point = make_dataclass("Point", [("x", float, number(0, 1, 0.5))])
>>> field_problems(Point, {"x": 2, "y": 1}, "")
['y: unknown (known: x)', 'x: must be a number from 0 to 1, not 2']
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any, TypeVar, cast, get_type_hints

T = TypeVar("T")


def number(low: float, high: float, default: float | None = None) -> Any:
    """A field with limits, both allowed."""
    limits = {"low": low, "high": high}
    return field(metadata=limits) if default is None else field(default=default, metadata=limits)


def choice(*allowed: str, default: str) -> Any:
    """A field that is one of a few texts."""
    return field(default=default, metadata={"choices": allowed})


def field_problems(kind: type[Any], data: Mapping[str, Any], where: str) -> list[str]:
    """Keys and values that do not fit a dataclass, each line beginning with the key.

    Args:
        kind: a dataclass of numbers, texts, truth values and dataclasses of them.
        data: what is to become one.
        where: what the keys are under, as in ``"optimizer."``.
    """
    known, hints = {f.name: f for f in fields(kind)}, get_type_hints(kind)
    problems = []
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"{where}{key}: unknown{hint} (known: {', '.join(known)})")
    for name, declared in known.items():
        if name not in data:
            if declared.default is MISSING:
                problems.append(f"{where}{name}: missing")
            continue
        value, wanted = data[name], hints[name]
        if is_dataclass(wanted):
            if isinstance(value, Mapping):
                problems += field_problems(cast(type[Any], wanted), value, f"{where}{name}.")
            else:
                problems.append(f"{where}{name}: must be a table, not {value!r}")
        else:
            wrong = _wrong(value, wanted, declared.metadata)
            problems += [f"{where}{name}: must be {wrong}, not {value!r}"] if wrong else []
    return problems


def _wrong(value: Any, wanted: Any, limits: Mapping[str, Any]) -> str:
    """What a value should have been; empty where it is."""
    if wanted is bool:
        return "" if isinstance(value, bool) else "true or false"
    if wanted is str:
        choices = limits.get("choices")
        if choices:
            return "" if value in choices else f"one of {', '.join(choices)}"
        return "" if isinstance(value, str) else "text"
    kinds = int if wanted is int else (int, float)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if is_number and limits["low"] <= value <= limits["high"]:
        return ""
    what = "an integer" if wanted is int else "a number"
    return f"{what} from {limits['low']} to {limits['high']}"


def made(kind: type[T], data: Mapping[str, Any]) -> T:
    """The dataclass of checked data; whole numbers become floats where those are declared."""
    hints = get_type_hints(kind)
    values = {
        name: made(hints[name], value)
        if is_dataclass(hints[name])
        else float(value)
        if hints[name] is float
        else value
        for name, value in data.items()
    }
    return kind(**values)
