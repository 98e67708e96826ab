"""Checks of what users write into a TOML file: every problem is a line that names the field."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from edgekit.errors import InvalidBoardError


def read_table(path: Path) -> dict[str, Any]:
    """Contents of a TOML file.

    Raises:
        InvalidBoardError: no such file, no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidBoardError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidBoardError(f"{path}: is not TOML: {error}") from error


def refuse(where: str, problems: list[str]) -> None:
    """Raise what is wrong with a board, if anything is.

    Raises:
        InvalidBoardError: `problems`, a line for each.
    """
    if problems:
        raise InvalidBoardError("\n  ".join([f"{where}: not a possible board", *problems]))


def key_problems(
    kind: type, values: Mapping[str, Any], where: str = "", shown: Mapping[str, str] | None = None
) -> list[str]:
    """Keys that are missing from, or unknown to, the dataclass `kind`.

    Args:
        kind: a dataclass; fields with defaults may be absent.
        values: what was read.
        where: begins the names of the keys in messages.
        shown: names that a file has for fields, where they differ.
    """
    known = {field.name: field.default is MISSING for field in fields(kind)}
    problems = []
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(f"{where}{key}: unknown{hint} (known: {', '.join(known)})")
    for key, required in known.items():
        if required and key not in values:
            problems.append(f"{where}{(shown or {}).get(key, key)}: missing")
    return problems


def text_problems(values: Mapping[str, Any], *keys: str, where: str = "") -> list[str]:
    """Keys, of those that are present, whose values are not text."""
    return [
        f"{where}{key}: must be text, not {values[key]!r}"
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
    return [f"name: must be lower-case letters, digits and single dashes, not {name!r}"]


def integer_problems(values: Mapping[str, Any], key: str, low: int, high: int) -> list[str]:
    """What is wrong with an integer that must lie in `low` to `high`."""
    if key not in values or is_integer(values[key], low, high):
        return []
    return [f"{key}: must be an integer from {low} to {high}, not {values[key]!r}"]


def is_text(value: Any) -> bool:
    """Whether there is anything to read."""
    return isinstance(value, str) and bool(value.strip())


def is_integer(value: Any, low: int, high: int) -> bool:
    """Whether it is an integer from `low` to `high`."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_positive(value: Any) -> bool:
    """Whether it is a positive number of a sane size."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e12
