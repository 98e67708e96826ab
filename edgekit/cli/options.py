"""Options that several verbs have, from text to values."""

from __future__ import annotations

from edgekit.errors import UsageError


def read_shapes(given: list[str]) -> dict[str, tuple[int, ...]]:
    """``NAME=1,3,32,32`` as a mapping.

    Raises:
        UsageError: a text that reads otherwise.

    >>> read_shapes(["x=1,3"])
    {'x': (1, 3)}
    """
    shapes = {}
    for text in given:
        name, separator, extents = text.rpartition("=")
        try:
            shapes[name] = tuple(int(e) for e in extents.split(","))
        except ValueError:
            separator = ""
        if not separator or not name:
            raise UsageError(f"--shape {text!r} must read NAME=1,3,32,32")
    return shapes


def read_arguments(given: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` as a mapping.

    Raises:
        UsageError: a text that reads otherwise.

    >>> read_arguments(["depth=8"])
    {'depth': '8'}
    """
    arguments = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name.isidentifier():
            raise UsageError(f"--factory-arg {text!r} must read NAME=VALUE")
        arguments[name] = value
    return arguments


def read_states(given: list[str]) -> dict[str, str]:
    """``INPUT=OUTPUT`` as a mapping.

    Raises:
        UsageError: a text that reads otherwise.

    >>> read_states(["h=h_next"])
    {'h': 'h_next'}
    """
    pairs = [text.partition("=")[::2] for text in given]
    if not all(name and following for name, following in pairs):
        raise UsageError(f"--state {given} must read INPUT=OUTPUT")
    return dict(pairs)
