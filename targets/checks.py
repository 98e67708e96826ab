"""Checks of what users write into a TOML file: every problem is a line that names the field."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeGuard

from edgekit.errors import InvalidBoardError

MOST_BYTES = 64 << 10
"""Of a file that describes a board; none comes near."""

MOST_CHARACTERS = 60
"""Of a value that a message shows."""


def read_table(path: Path) -> dict[str, Any]:
    """Contents of a TOML file.

    Raises:
        InvalidBoardError: no such file, a huge one, no TOML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise InvalidBoardError(f"{path}: cannot be read: {reason}") from error
    if len(content) > MOST_BYTES:
        raise InvalidBoardError(f"{path}: has more than {MOST_BYTES:,} bytes: no board's file")
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise InvalidBoardError(f"{path}: is nested too deeply") from error
    except ValueError as error:  # not UTF-8, no TOML, an integer of thousands of digits
        raise InvalidBoardError(f"{path}: is not TOML: {error}") from error


def refuse(where: str, problems: list[str]) -> None:
    """Raise what is wrong with a board, if anything is.

    Raises:
        InvalidBoardError: `problems`, a line for each.
    """
    if problems:
        raise InvalidBoardError("\n  ".join([f"{where}: not a possible board", *problems]))


def key_problems(
    kind: type,
    values: Mapping[str, Any],
    where: str = "",
    shown_as: Mapping[str, str] | None = None,
) -> list[str]:
    """Keys that are missing from, or unknown to, the dataclass `kind`.

    Args:
        kind: a dataclass; fields with defaults may be absent.
        values: what was read.
        where: begins the names of the keys in messages.
        shown_as: names that `values` has for fields, where they differ.
    """
    names = shown_as or {}
    known = {names.get(f.name, f.name): f.default is MISSING for f in fields(kind)}
    problems = []
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key[:MOST_CHARACTERS], known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            name = key if re.fullmatch(r"[\w-]{1,60}", key) else shown(key)
            problems.append(f"{where}{name}: unknown{hint} (known: {', '.join(known)})")
    for key, required in known.items():
        if required and key not in values:
            problems.append(f"{where}{key}: missing")
    return problems


def shown(value: Any) -> str:
    """A value as messages show it: on one line, not too long, whatever it is.

    >>> shown(True), shown("rather " * 10)
    ('True', "'rather rather rather rather rather rather rather rather rat...")
    """
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        return f"a huge {type(value).__name__}"
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def text_problems(values: Mapping[str, Any], *keys: str, where: str = "") -> list[str]:
    """Keys, of those that are present, whose values are not text."""
    return [
        f"{where}{key}: must be text, not {shown(values[key])}"
        for key in keys
        if key in values and not is_text(values[key])
    ]


def name_problems(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with the name of a board."""
    name = values.get("name")
    if "name" not in values or (
        is_text(name) and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(name))
    ):
        return []
    return [f"name: must be lower-case letters, digits and single dashes, not {shown(name)}"]


def integer_problems(values: Mapping[str, Any], key: str, low: int, high: int) -> list[str]:
    """What is wrong with an integer that must lie in `low` to `high`."""
    if key not in values or is_integer(values[key], low, high):
        return []
    return [f"{key}: must be an integer from {low} to {high}, not {shown(values[key])}"]


def is_text(value: Any) -> TypeGuard[str]:
    """Whether there is anything to read."""
    return isinstance(value, str) and bool(value.strip())


def is_integer(value: Any, low: int, high: int) -> TypeGuard[int]:
    """Whether it is an integer from `low` to `high`."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_positive(value: Any) -> TypeGuard[float]:
    """Whether it is a positive number of a sane size."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e12
