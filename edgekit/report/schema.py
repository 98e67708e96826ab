"""The JSON Schema of reports, derived from the dataclasses that read them.

``report.schema.json`` is this, committed: for whoever reads reports without edgekit.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any

from edgekit.bench.fields import Limits
from edgekit.bench.report import SCHEMA, Report

FILE = Path(__file__).with_name("report.schema.json")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
CREATED = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"


def report_schema() -> dict[str, Any]:
    """The schema; objects have exactly the fields of their dataclasses."""
    definitions: dict[str, Any] = {}
    root = _reference(Report, definitions)
    fields = definitions["Report"]["properties"]
    fields["schema"] = {"description": fields["schema"]["description"], "const": SCHEMA}
    fields["created"]["pattern"] = CREATED
    return {
        "$schema": DIALECT,
        "title": "edgekit report",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _reference(kind: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A dataclass as a definition of its own."""
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}
        hints = typing.get_type_hints(kind, include_extras=True)
        words = attributes(kind)
        properties = {}
        for field in dataclasses.fields(kind):
            entry = _schema(hints[field.name], definitions)
            described = {"description": words[field.name]} if field.name in words else {}
            properties[field.name] = {**described, **entry}
        definitions[name] = {
            "description": (kind.__doc__ or "").partition("\n")[0],
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{name}"}


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        limits = next(a for a in arguments if isinstance(a, Limits))
        number = "integer" if arguments[0] is int else "number"
        return {"type": number, "minimum": limits.low, "maximum": limits.high}
    if origin in (typing.Union, types.UnionType):
        (inner,) = (a for a in arguments if a is not type(None))
        return {"anyOf": [_schema(inner, definitions), {"type": "null"}]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        assert arguments[1] is Ellipsis, "reports hold lists of one kind"
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return _reference(kind, definitions)
    return {"type": {str: "string", bool: "boolean"}[kind]}


def attributes(kind: type[Any]) -> dict[str, str]:
    """What a dataclass' docstring says of its attributes.

    >>> from edgekit.bench.report import FileSize, Agreement
    >>> attributes(Agreement)["mismatches"]
    'elements that differ in any bit.'
    >>> attributes(FileSize)
    {}
    """
    text = inspect.cleandoc(kind.__doc__ or "")
    _, found, section = text.partition("Attributes:\n")
    words: dict[str, str] = {}
    name = None
    for line in section.splitlines() if found else []:
        if line and not line.startswith(" "):
            break
        entry = re.match(r" {4}(\w+): (.*)", line)
        if entry:
            name = entry[1]
            words[name] = entry[2]
        elif name is not None and line.strip():
            words[name] += " " + line.strip()
    return words
