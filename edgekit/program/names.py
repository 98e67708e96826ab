"""Names that must be unique in what is written."""

from __future__ import annotations

from collections.abc import Container


def free_name(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or one like it that is not `taken`.

    >>> free_name("x", {"x", "x:2"})
    'x:3'
    """
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}:{count}"
    return name
