"""Dataclasses as JSON and back; what comes back is hostile until every field was checked.

The form is derived from the fields: nested dataclasses are objects, tuples are lists, and every
object has exactly the fields of its class. Limits of a number stand in its annotation, so that the
reader and the JSON Schema cannot disagree.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

MAX_BYTES = 256 << 20
"""A larger file is no report of ours."""

SHOWN = 80
"""Characters of a wrong value that a message repeats."""


class ReportError(ValueError):
    """JSON that is not what it should be; says where, and what would be right."""


@dataclass(frozen=True)
class Limits:
    """Smallest and largest value of a number, for `Annotated`."""

    low: float
    high: float


MAX_COUNT = (1 << 53) - 1
"""Largest integer that every JSON reader keeps exact."""

Count = Annotated[int, Limits(0, MAX_COUNT)]
Integer = Annotated[int, Limits(-MAX_COUNT, MAX_COUNT)]
Quantity = Annotated[float, Limits(0.0, 1e300)]
Real = Annotated[float, Limits(-1e300, 1e300)]
Fraction = Annotated[float, Limits(0.0, 1.0)]

T = TypeVar("T")


def encode(value: Any) -> Any:
    r"""A dataclass as plain data.

    Texts lose lone surrogates, which are what Python makes of an argument or a file name that is
    not UTF-8, and which no UTF-8 file can hold: an escape that can be read stands for each.

    >>> encode(Limits(0, 1))
    {'low': 0, 'high': 1}
    >>> encode("net\udcff.onnx") == r"net\udcff.onnx"
    True
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [encode(v) for v in value]
    return writable(value) if isinstance(value, str) else value


def writable(text: str) -> str:
    """A text that every UTF-8 file can hold; the same one unless it has lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def decode(kind: type[T], value: Any, where: str) -> T:
    """The inverse of :func:`encode` for a dataclass.

    Args:
        kind: what `value` should be.
        value: parsed JSON from anywhere.
        where: what it is, for messages.

    Raises:
        ReportError: a field is missing, unknown, of the wrong type or outside its limits.
    """
    decoded: T = _decode(kind, value, where)
    return decoded


def parse(text: str | bytes, where: str) -> Any:
    """JSON from anywhere.

    Raises:
        ReportError: not JSON.
    """
    if len(text) > MAX_BYTES:
        raise ReportError(f"{where} has {len(text):,} bytes, more than {MAX_BYTES:,}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{where} is not JSON: {error}") from error


def _decode(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _number(arguments[0], arguments[1], value, where)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (a for a in arguments if a is not type(None))
        return None if value is None else _decode(inner, value, where)
    if origin is typing.Literal:
        known = isinstance(value, str) and value in arguments
        return _expect(known, value, where, f"one of {', '.join(arguments)}")
    if origin is tuple:
        _expect(isinstance(value, list), value, where, "a list")
        if arguments[-1] is Ellipsis:
            return tuple(_decode(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        _expect(len(value) == len(arguments), value, where, f"{len(arguments)} values")
        pairs = enumerate(zip(arguments, value, strict=True))
        return tuple(_decode(a, v, f"{where}[{i}]") for i, (a, v) in pairs)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    fits = isinstance(value, kind) and not (kind is str and writable(value) != value)
    return _expect(fits, value, where, _WORDS[kind])


_WORDS = {str: "a text without lone surrogates", bool: "true or false"}


def _number(kind: type, limits: Limits, value: Any, where: str) -> Any:
    """An int stays one; a float may be written without a point, and is always finite and exact."""
    allowed: tuple[type, ...] = (int,) if kind is int else (int, float)
    fits = isinstance(value, allowed) and not isinstance(value, bool)
    inside = fits and limits.low <= value <= limits.high and kind(value) == value
    words = "a whole number" if kind is int else "a number"
    _expect(inside, value, where, f"{words} in {limits.low:g}…{limits.high:g}")
    return kind(value)


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), value, where, "an object")
    hints = typing.get_type_hints(kind, include_extras=True)
    names = [f.name for f in dataclasses.fields(kind)]
    missing = [n for n in names if n not in value]
    unknown = sorted(shortened(k) for k in value if k not in names)
    if missing or unknown:
        problems = [f"missing {', '.join(missing)}"] if missing else []
        problems += [f"unknown {', '.join(unknown[:5])}"] if unknown else []
        raise ReportError(f"{where}: fields {'; '.join(problems)}")
    decoded = {n: _decode(hints[n], value[n], f"{where}.{n}") for n in names}
    try:
        return kind(**decoded)
    except ReportError:
        raise
    except ValueError as error:
        raise ReportError(f"{where}: {error}") from error


def _expect(condition: bool, value: Any, where: str, wanted: str) -> Any:
    if not condition:
        raise ReportError(f"{where} is {shortened(value)}, must be {wanted}")
    return value


def shortened(value: Any) -> str:
    """A value as a message shows it: escaped, and no longer than a line."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_COUNT:
        return "a huge number"
    text = repr(value) if not isinstance(value, dict | list) else type(value).__name__
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
